//! Tables that grow: what a sink wants of its table, what the catalogue has, and what may be made of the difference.
//!
//! The look is the worker's own, with its search path and its rights. What is made is made by whoever owns the tables
//! (`evolve_url`), in a transaction of its own for each table, never in a batch's: `ADD COLUMN` waits for ACCESS EXCLUSIVE,
//! and whoever comes after it waits behind it. So it waits half a second at most, gives way, and tries again for as long
//! as it takes, without a partition claimed or an offset moved meanwhile.

mod apply;
mod ddl;
mod found;
mod gap;
mod sql_type;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use self::apply::{Attempt, attempt};
use self::found::{Wants, resolve};
use self::gap::Gap;
pub(super) use self::sql_type::check as check_type;
use super::file::Evolve;
use crate::backoff::Backoff;
use crate::config::Config;
use crate::db::one_off::Server;
use crate::due::{Trouble, span};
use crate::error::{Error, ErrorKind, Result};
use crate::sink::Mode;
use crate::verdict::Class;
use crate::verdict::postgres::classify;

/// Between two attempts to get a table's lock: those who have waited behind the first are let through.
const GIVE_WAY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// How its sessions are called.
const APPLICATION: &str = "highwater-evolve";

/// A table as somebody wants it: the pipeline's file, or a schema of the records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// As SQL names it, with a schema or without.
    pub(crate) table: String,
    pub(crate) columns: Vec<WantedColumn>,
    /// The primary key of a table that is made; of an upsert, the columns by which rows are found. None: whatever there is.
    pub(crate) key: Option<Vec<String>>,
    pub(crate) mode: Mode,
    /// Whether rows are deleted.
    pub(crate) deletes: bool,
}

/// A column that is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WantedColumn {
    pub(crate) name: String,
    /// As SQL reads it. Without one it cannot be made.
    pub(crate) sql_type: Option<String>,
    /// Whether a column that is there must be of just this type; else it is only for one that is made.
    pub(crate) declared: bool,
    /// Only of a table that is made: a column that is added is always nullable.
    pub(crate) not_null: bool,
}

/// What one table is wanted to be, and what may be done about it.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) evolve: Evolve,
    pub(crate) wanted: Wanted,
}

/// What is missing, as SQL for whoever may run it; set once there is something.
pub(crate) type Printed = Arc<OnceLock<String>>;

/// Sees to tables: at a worker's start, before it joins its group; whoever has new columns begins anew.
#[derive(Debug)]
pub(crate) struct Evolution {
    worker: Server,
    owner: Server,
    /// Whether `evolve_url` is set.
    own_role: bool,
    backoff: Backoff,
    printed: Printed,
}

impl Evolution {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) if an address, or a file that it names, cannot be read.
    pub(crate) fn new(config: &Config, printed: Printed) -> Result<Self> {
        let worker = Server::of_worker(config, APPLICATION)?;
        let own = Server::of_evolution(config, APPLICATION)?;
        Ok(Self {
            own_role: own.is_some(),
            owner: own.unwrap_or_else(|| worker.clone()),
            worker,
            backoff: Backoff::new(config.retry_backoff_min, config.retry_backoff_max),
            printed,
        })
    }

    /// Makes the tables fit, or says all that keeps them from it. Waits for a server that is away, and for locks, as long
    /// as it takes: never call it inside of a batch's transaction.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) with all that does not fit; [`Privilege`](ErrorKind::Privilege) with
    /// what a role lacks.
    ///
    /// # Cancel safety
    /// What was committed stays; the rest is rolled back.
    pub(crate) async fn fit(&self, jobs: &[Job]) -> Result<()> {
        let (mut backoff, mut trouble) = (self.backoff.clone(), None::<Trouble>);
        loop {
            let away = match self.try_to_fit(jobs).await {
                // A server that is away, or a session that broke.
                Err(error) if error.kind() == ErrorKind::Postgres => error,
                other => return other,
            };
            let (wait, now) = (backoff.next(), Instant::now());
            if trouble.get_or_insert_with(|| Trouble::new(now)).is_due(now) {
                let error = away.report();
                tracing::warn!(error, retry_in = ?wait, "cannot look at the tables yet; trying again");
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn try_to_fit(&self, jobs: &[Job]) -> Result<()> {
        let look = self.worker.connect().await?;
        let (wants, gaps) = self.look(jobs, &look).await?;
        let open: Vec<&Wants<'_>> =
            wants.iter().zip(&gaps).filter(|(_, gap)| !gap.ddl.is_empty()).map(|(wants, _)| wants).collect();
        if open.is_empty() {
            tracing::debug!(tables = jobs.len(), "the tables are as they are wanted");
            return Ok(());
        }
        let owner = self.owner.connect().await?;
        for wants in open {
            self.make(wants, &look, &owner).await?;
        }
        // With the worker's eyes: a type that somebody else has made, a right that is missing.
        let (_, gaps) = self.look(jobs, &look).await?;
        let left: Vec<String> = gaps.iter().filter_map(Gap::still).collect();
        if left.is_empty() {
            return Ok(());
        }
        let hint = if self.own_role { ": does evolve_url lead to the database of postgres_url?" } else { "" };
        Err(Error::configuration(format!(
            "the tables were changed, but the worker does not see it{hint}{}",
            lines(&left)
        )))
    }

    /// All that is wrong is said at once.
    async fn look<'a>(&self, jobs: &'a [Job], look: &Client) -> Result<(Vec<Wants<'a>>, Vec<Gap>)> {
        let (mut all, mut gaps, mut wrong, mut missing) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for job in jobs.iter().filter(|job| job.evolve != Evolve::None) {
            let wants = match resolve(job, look).await? {
                Ok(wants) => wants,
                Err(misfits) => {
                    wrong.extend(misfits);
                    continue;
                }
            };
            let found = found::read(&wants, look).await?;
            let gap = Gap::between(&wants, &found);
            wrong.extend(gap.misfits.iter().cloned());
            if job.evolve == Evolve::Print {
                missing.extend(gap.ddl.iter().chain(&gap.grants).cloned());
            }
            all.push(wants);
            gaps.push(gap);
        }
        if !missing.is_empty() {
            let text: String = missing.iter().map(|statement| format!("{statement};\n")).collect();
            wrong.push(format!(
                "`evolve = \"print\"`: something is missing; have the tables' owner run this, and start again:{}",
                lines(&missing.iter().map(|statement| format!("{statement};")).collect::<Vec<_>>())
            ));
            let _ = self.printed.set(text);
        }
        if wrong.is_empty() {
            return Ok((all, gaps));
        }
        Err(Error::configuration(format!("the tables do not fit the pipeline's file:{}", lines(&wrong))))
    }

    /// What a table lacks, as SQL, and what does not fit, whatever is done about it; changes nothing.
    ///
    /// # Errors
    /// If the server does not answer.
    pub(crate) async fn missing(&self, job: &Job) -> Result<(Vec<String>, Vec<String>)> {
        let look = self.worker.connect().await?;
        let job = &Job { evolve: Evolve::Print, ..job.clone() };
        let wants = match resolve(job, &look).await? {
            Ok(wants) => wants,
            Err(misfits) => return Ok((Vec::new(), misfits)),
        };
        let gap = Gap::between(&wants, &found::read(&wants, &look).await?);
        let missing = gap.ddl.iter().chain(&gap.grants).map(|statement| format!("{statement};\n"));
        Ok((missing.collect(), gap.misfits))
    }

    /// Gives way and tries again until it is done.
    async fn make(&self, wants: &Wants<'_>, look: &Client, owner: &Client) -> Result<()> {
        let mut backoff = Backoff::new(GIVE_WAY.0, GIVE_WAY.1);
        let mut trouble = None::<Trouble>;
        loop {
            let why = match attempt(wants, look, owner).await? {
                Attempt::Done(statements) => {
                    if let Some(trouble) = &trouble {
                        let waited = span(trouble.lasted(Instant::now()));
                        tracing::info!(table = %wants.place, waited, "got the table's lock");
                    }
                    for statement in statements {
                        tracing::info!(table = %wants.place, statement, "changed the table");
                    }
                    return Ok(());
                }
                Attempt::GaveWay(why) => why,
            };
            let (wait, now) = (backoff.next(), Instant::now());
            if trouble.get_or_insert_with(|| Trouble::new(now)).is_due(now) {
                tracing::warn!(table = %wants.place, why, retry_in = ?wait,
                    "could not change the table yet, and gave way; nothing is claimed meanwhile; trying again");
            } else {
                tracing::debug!(table = %wants.place, why, retry_in = ?wait, "could not change the table yet");
            }
            tokio::time::sleep(wait).await;
        }
    }
}

/// An error of a look: what a new session may cure is tried again, and an answer that makes no sense is not.
fn failed(attempt: &str, error: tokio_postgres::Error) -> Error {
    let passes = matches!(
        classify(&error).class,
        Class::Environment | Class::Lost | Class::OwnTimeout | Class::Privilege | Class::Authentication
    );
    if passes || error.as_db_error().is_none() {
        return Error::postgres(attempt, error);
    }
    Error::new(ErrorKind::Internal, format!("could not {attempt}")).with_source(error)
}

/// One below the other.
fn lines(texts: &[String]) -> String {
    texts.iter().map(|text| format!("\n  {}", text.replace('\n', "\n  "))).collect()
}
