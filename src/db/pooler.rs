//! Poolers that give every transaction another backend (PgBouncer's transaction mode).
//!
//! Behind one, what a worker says to its session does not stay true: `synchronous_commit`, the time-outs, prepared
//! statements, and the `application_name` by which a successor finds the backend of a frozen process. Nothing would
//! fail at once and everything sometimes, so it is refused before anything is read.

use tokio_postgres::SimpleQueryMessage;

use super::{Db, DbError, Lease};
use crate::error::Error;

/// In simple queries, for these work behind any pooler. A pass may be misled by what others do in the same moment.
const PASSES: usize = 3;

impl Db {
    /// Whether connections of ours share backends: then something between deals them out per transaction.
    ///
    /// Whichever order the pooler keeps: the latest backend to fall idle goes to `b`, the oldest to `c`, and a new
    /// one to `a`. Connections of their own always see their own.
    pub(crate) async fn shares_backends(&self) -> Result<bool, DbError> {
        let (a, b, c) = (self.control().await?, self.control().await?, self.control().await?);
        let mut shared = false;
        for _ in 0..PASSES {
            let first = backend(&a, "").await?;
            let others = [backend(&b, "BEGIN;").await?, backend(&c, "BEGIN;").await?];
            let again = backend(&a, "").await?;
            b.batch_execute("ROLLBACK").await?;
            c.batch_execute("ROLLBACK").await?;
            shared |= others.contains(&first) || others[0] == others[1] || again != first;
        }
        if shared {
            // Others will be given these backends: they shall not inherit our settings.
            for connection in [a, b, c] {
                connection.batch_execute("RESET ALL").await?;
            }
        }
        Ok(shared)
    }

    /// How others see our sessions, if it is not under the name that we gave them. What is only appended does no harm.
    pub(crate) async fn renamed(&self) -> Result<Option<String>, DbError> {
        let name = self.identity.application_name(&self.schema);
        let ours = "SELECT application_name FROM pg_catalog.pg_stat_activity WHERE pid = pg_catalog.pg_backend_pid()";
        let client = self.control().await?;
        let seen = value(&client, ours).await?.unwrap_or_default();
        Ok((!seen.starts_with(&name)).then_some(seen))
    }
}

/// The error for such a pooler.
pub(crate) fn refused() -> Error {
    Error::configuration(
        "postgres_url leads to a connection pooler in transaction mode, behind which neither the fence's session \
         settings nor prepared statements hold: use its session mode, or connect to the server itself",
    )
}

/// The error for one that renames our sessions.
pub(crate) fn renames(seen: &str) -> Error {
    Error::configuration(format!(
        "postgres_url leads to something that changes application_name (the server sees {seen:?}), so that a successor \
         could not find the backend of a frozen worker: have it passed on as it is, or connect to the server itself"
    ))
}

async fn backend(client: &Lease, before: &str) -> Result<Option<String>, DbError> {
    value(client, &format!("{before}SELECT pg_catalog.pg_backend_pid()")).await
}

async fn value(client: &Lease, sql: &str) -> Result<Option<String>, DbError> {
    let answer = client.simple_query(sql).await?;
    Ok(answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    }))
}
