//! One attempt to change one table, in a transaction of its own.

use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::found::{self, Place, Wants};
use super::gap::Gap;
use super::lines;
use crate::db::waits::{self, Wait};
use crate::error::{Error, ErrorKind, Result};
use crate::verdict::Class;
use crate::verdict::postgres::classify;

/// How long it waits for a lock: nobody who comes after it waits longer for its sake. A transaction that its client has
/// forgotten is ended; what takes long is none of what is done here.
const LIMITS: &str = "SET LOCAL lock_timeout = '500ms'; SET LOCAL idle_in_transaction_session_timeout = '5s'; \
                      SET LOCAL statement_timeout = '30s'";
/// When it is asked who holds the lock: before the server gives up, and then nobody can be asked.
const ASK_AFTER: Duration = Duration::from_millis(200);
/// How long the answer may take.
const ANSWER: Duration = Duration::from_millis(200);

/// How an attempt ended.
#[derive(Debug)]
pub(super) enum Attempt {
    /// Committed; what was run.
    Done(Vec<String>),
    /// Somebody holds the lock, or was faster. Nothing was changed.
    GaveWay(String),
}

/// Why it has not come to the commit.
enum Stop {
    Server(tokio_postgres::Error),
    Misfit(Error),
}

impl From<tokio_postgres::Error> for Stop {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Server(error)
    }
}

/// Changes the table, if it still must be changed. `look` asks meanwhile who is in the way.
///
/// # Errors
/// [`Postgres`](ErrorKind::Postgres) if a session broke; else what an operator must do.
pub(super) async fn attempt(wants: &Wants<'_>, look: &Client, owner: &Client) -> Result<Attempt> {
    let begun = async {
        owner.batch_execute("BEGIN").await?;
        owner.batch_execute(LIMITS).await?;
        let row =
            owner.query_one("SELECT pg_catalog.pg_backend_pid(), current_user::pg_catalog.text", &[]).await?;
        Ok::<_, tokio_postgres::Error>((row.get::<_, i32>(0), row.get::<_, String>(1)))
    };
    let (pid, role) = begun.await.map_err(|error| broken(&wants.place, error))?;
    let mut statements = Vec::new();
    let stop = {
        let change = change(wants, &role, owner, &mut statements);
        tokio::pin!(change);
        let mut wait = None;
        let ended = loop {
            tokio::select! {
                biased;
                ended = &mut change => break ended,
                () = tokio::time::sleep(ASK_AFTER) => wait = who_blocks(pid, look).await.or(wait),
            }
        };
        match ended {
            Ok(()) => None,
            Err(stop) => Some((stop, wait)),
        }
    };
    let Some((stop, wait)) = stop else { return Ok(Attempt::Done(statements)) };
    let rolled_back = owner.batch_execute("ROLLBACK").await;
    let error = match stop {
        Stop::Server(error) => error,
        Stop::Misfit(error) => return Err(error),
    };
    rolled_back.map_err(|error| broken(&wants.place, error))?;
    judge(wants, &role, &statements, error, wait)
}

async fn change(
    wants: &Wants<'_>,
    role: &str,
    owner: &Client,
    statements: &mut Vec<String>,
) -> std::result::Result<(), Stop> {
    // Processes that start together take turns; the rest of them finds nothing to do.
    let turn =
        "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('highwater evolve ' || $1, 0))";
    owner.query(turn, &[&wants.place.sql()]).await?;
    let gap = Gap::between(wants, &found::read_within(wants, owner).await?);
    if !gap.misfits.is_empty() {
        return Err(Stop::Misfit(Error::configuration(format!(
            "the tables do not fit the pipeline's file:{}",
            lines(&gap.misfits)
        ))));
    }
    statements.extend(gap.ddl);
    if role != wants.writer {
        statements.extend(gap.grants);
    }
    // Everything is qualified; triggers of events find what they have always found.
    owner.batch_execute("SET LOCAL search_path TO DEFAULT").await?;
    for statement in statements.iter() {
        owner.batch_execute(statement).await?;
    }
    let gap = Gap::between(wants, &found::read_within(wants, owner).await?);
    if let Some(left) = gap.still() {
        return Err(Stop::Misfit(Error::configuration(format!(
            "table {} was changed, and is not what it should be, so that the change was rolled back: {left}",
            wants.place
        ))));
    }
    owner.batch_execute("COMMIT").await?;
    Ok(())
}

fn judge(
    wants: &Wants<'_>,
    role: &str,
    statements: &[String],
    error: tokio_postgres::Error,
    wait: Option<Wait>,
) -> Result<Attempt> {
    let place = &wants.place;
    match error.code() {
        Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            let lock = wait.map_or_else(
                || "a lock that somebody held until just now".to_owned(),
                |wait| wait.to_string(),
            );
            Ok(Attempt::GaveWay(format!("waited for {lock}")))
        }
        // A deadlock's victim, a turn that another client has taken by hand, a catalogue that changed.
        Some(
            &SqlState::T_R_DEADLOCK_DETECTED
            | &SqlState::T_R_SERIALIZATION_FAILURE
            | &SqlState::QUERY_CANCELED
            | &SqlState::DUPLICATE_TABLE
            | &SqlState::DUPLICATE_COLUMN
            | &SqlState::UNIQUE_VIOLATION
            | &SqlState::UNDEFINED_TABLE,
        ) => {
            let code = error.code().map(SqlState::code).unwrap_or_default();
            Ok(Attempt::GaveWay(format!("somebody else was at it ({code})")))
        }
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            let by_hand: Vec<String> = statements.iter().map(|statement| format!("{statement};")).collect();
            let creates = statements.iter().any(|statement| statement.starts_with("CREATE"));
            let (schema, role) = (crate::sink::quote(&place.schema), crate::sink::quote(role));
            let way = if creates {
                format!("GRANT CREATE, USAGE ON SCHEMA {schema} TO {role}")
            } else {
                format!("ALTER TABLE {} OWNER TO {role}", place.sql())
            };
            let text = format!(
                "role {role} may not change table {place}: {way}, or name a role that may in `evolve_url`, or have this run by \
                 the owner:{}",
                lines(&by_hand)
            );
            Err(Error::new(ErrorKind::Privilege, text).with_source(error))
        }
        _ if error.as_db_error().is_none() => Err(broken(place, error)),
        _ if matches!(classify(&error).class, Class::Environment | Class::Lost | Class::OwnTimeout) => {
            Err(broken(place, error))
        }
        _ => {
            let text = format!("the server refused to change table {place}:{}", lines(statements));
            Err(Error::configuration(text).with_source(error))
        }
    }
}

/// An error that trying again on a new session may cure.
fn broken(place: &Place, error: tokio_postgres::Error) -> Error {
    Error::new(ErrorKind::Postgres, format!("could not change table {place}")).with_source(error)
}

/// What the session waits for, and who has it; none if it does not wait, or nobody answers in time.
async fn who_blocks(pid: i32, look: &Client) -> Option<Wait> {
    let sql = format!("SELECT {} FROM {}", waits::COLUMNS, waits::from("$1"));
    let rows = tokio::time::timeout(ANSWER, look.query(&sql, &[&pid])).await.ok()?.ok()?;
    Wait::new(&rows, 0)
}
