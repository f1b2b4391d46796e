//! A whole database at a glance: every group, where it stands, what is wrong, and what one would do next.
//!
//! What `highwater exporter` and `highwater dashboard` show, as a library. Nothing here writes: a [`Watch`] reads the
//! views `lag` and `health` and a few tables beside them, all in one snapshot, at a pace that costs the database little
//! however large it is, and keeps half an hour of it in memory.
//!
//! ```no_run
//! use highwater::PartialConfig;
//! use highwater::fleet::Fleet;
//!
//! # async fn look() -> highwater::Result<()> {
//! let mut fleet = Fleet::new(&PartialConfig::from_env()?.finish_operator()?);
//! let reading = fleet.read().await?;
//! for group in &reading.groups {
//!     println!("{} is {}: {}", group.group, group.class, group.diagnosis.headline);
//! }
//! # Ok(())
//! # }
//! ```

mod advice;
mod diagnosis;
mod events;
mod group;
mod history;
mod json;
mod letters;
mod page;
mod read;
mod rights;
mod standing;
mod survey;
#[cfg(test)]
mod tests;
mod waiting;
mod watch;
mod work;

use std::time::Duration;

use serde::Serialize;
use tokio_postgres::Client;

pub use self::advice::{Advice, quoted};
pub use self::diagnosis::Diagnosis;
pub use self::events::{Event, EventKind};
pub use self::group::{DeadLetters, Group, Partition, WaitingKind, Worker};
pub use self::history::{History, Point};
pub use self::letters::{LetterKind, LettersPage};
pub use self::page::{Claim, Deed, Letter, PartitionPage};
use self::rights::Rights;
pub use self::survey::Surveyed;
pub use self::watch::{View, Watch, WatchOptions};
use crate::config::{DatabaseConfig, OperatorConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::migrate::check_version;

/// A worker that has had something to apply for longer than this, and has committed nothing, is shown as wedged.
pub const COMMIT_MARK: Duration = Duration::from_secs(10);
/// How far back events and trajectories go.
pub const WINDOW: Duration = Duration::from_secs(30 * 60);

/// From this version on there are the views.
const VIEWS_SINCE: i32 = 2;
/// By which the database's administrators know it.
const APPLICATION_NAME: &str = "highwater dashboard";
/// How long one statement may take.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a whole reading may take, connecting included.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Everything that one snapshot of the database says. The worst group comes first.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Reading {
    /// When, by the database's clock, in milliseconds since 1970.
    pub at_ms: i64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// The database's name.
    pub database: String,
    /// All groups.
    pub groups: Vec<Group>,
    /// How old the oldest snapshot in the database is, which holds back vacuum; none if this role may not see that.
    #[serde(serialize_with = "json::seconds")]
    pub oldest_snapshot_seconds: Option<f64>,
    /// What this role may not read, and is therefore missing; empty: nothing.
    pub unreadable: Vec<&'static str>,
    /// There is more than a reading holds: the rest is missing.
    pub truncated: bool,
}

impl Reading {
    #[cfg(test)]
    pub(crate) fn of(at_ms: i64, groups: Vec<Group>) -> Self {
        let (took_ms, database, unreadable) = (1, "payments".to_owned(), Vec::new());
        Self { at_ms, took_ms, database, groups, oldest_snapshot_seconds: None, unreadable, truncated: false }
    }

    /// … of groups that are judged by what their partitions and workers say.
    #[cfg(test)]
    pub(crate) fn judged(at_ms: i64, mut groups: Vec<Group>) -> Self {
        groups.iter_mut().for_each(Group::complete);
        Self::of(at_ms, groups)
    }

    /// A group by its name.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.group == name)
    }
}

/// Reads a database.
#[derive(Debug)]
pub struct Fleet {
    config: OperatorConfig,
    /// What a worker's batch may take, where the worker does not say so itself.
    deadline: Duration,
    session: Option<Session>,
    waiting: waiting::Waiting,
    behind: work::Behind,
}

/// A connection, and what its role may read.
#[derive(Debug)]
struct Session {
    client: Client,
    rights: Rights,
}

impl Fleet {
    /// Connects to nothing yet.
    #[must_use]
    pub fn new(config: &OperatorConfig) -> Self {
        Self {
            config: config.clone(),
            deadline: Duration::from_secs(30),
            session: None,
            waiting: waiting::Waiting::default(),
            behind: work::Behind::default(),
        }
    }

    /// The processing deadline (`max_processing_time`) of workers that began before there was a place to say theirs. 30 s by
    /// default.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Reads everything, in one snapshot. Connects first where there is no connection.
    ///
    /// # Errors
    ///
    /// If Postgres cannot be reached, refuses the login or a right, does not answer in time, or has no tables of this
    /// release's.
    pub async fn read(&mut self) -> Result<Reading> {
        let read = within(self.read_now()).await;
        self.drop_session_after(&read);
        read
    }

    /// Everything about one partition; none if the group does not know it.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub async fn partition(
        &mut self,
        group: &str,
        topic: &str,
        partition: i32,
    ) -> Result<Option<PartitionPage>> {
        let page = within(self.page_now((group, topic, partition))).await;
        self.drop_session_after(&page);
        page
    }

    /// A group's dead letters, kind by kind. None of a group that has none.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub async fn letters(&mut self, group: &str) -> Result<LettersPage> {
        let page = within(self.letters_now(group)).await;
        self.drop_session_after(&page);
        page
    }

    async fn letters_now(&mut self, group: &str) -> Result<LettersPage> {
        let schema = self.config.database.schema.clone();
        let session = self.session().await?;
        letters::read(&mut session.client, &session.rights, &schema, group).await
    }

    async fn read_now(&mut self) -> Result<Reading> {
        let (schema, deadline) = (self.config.database.schema.clone(), self.deadline);
        self.session().await?;
        // Where they are: should this be dropped half-way, what was known before is there still.
        let Self { session: Some(session), waiting, behind, .. } = self else {
            return Err(Error::new(ErrorKind::Internal, "a connection is missing"));
        };
        read::read(&mut session.client, &session.rights, &schema, deadline, waiting, behind).await
    }

    async fn page_now(&mut self, key: (&str, &str, i32)) -> Result<Option<PartitionPage>> {
        let schema = self.config.database.schema.clone();
        let session = self.session().await?;
        page::read(&mut session.client, &session.rights, &schema, key).await
    }

    /// After an error it is not known what the session is at.
    fn drop_session_after<T>(&mut self, done: &Result<T>) {
        if done.is_err() {
            self.session = None;
        }
    }

    async fn session(&mut self) -> Result<&mut Session> {
        if self.session.as_ref().is_none_or(|session| session.client.is_closed()) {
            self.session = Some(open(&self.config.database).await?);
        }
        self.session.as_mut().ok_or_else(|| Error::new(ErrorKind::Internal, "a connection is missing"))
    }
}

/// Gives up in time.
async fn within<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let done = tokio::time::timeout(READ_TIMEOUT, work).await;
    done.unwrap_or_else(|_| {
        let limit = READ_TIMEOUT.as_secs();
        Err(Error::new(ErrorKind::Postgres, format!("the database did not answer within {limit} s")))
    })
}

async fn open(database: &DatabaseConfig) -> Result<Session> {
    let client = database.connect(APPLICATION_NAME).await?;
    // Compiling a plan of three joins takes longer than running it.
    let settings = format!(
        "SET statement_timeout = {0}; SET lock_timeout = {0}; SET idle_in_transaction_session_timeout = {0}; SET jit = off; \
         SET default_transaction_read_only = on",
        STATEMENT_TIMEOUT.as_millis(),
    );
    client.batch_execute(&settings).await.map_err(|source| Error::postgres("prepare a session", source))?;
    let found = check_version(&client, &database.schema).await?;
    if found.version < VIEWS_SINCE {
        let (schema, version) = (&database.schema, found.version);
        return Err(Error::new(
            ErrorKind::Schema,
            format!(
                "schema `{schema}` has version {version}, and the views `lag` and `health` come with {VIEWS_SINCE}: run \
                 `highwater migrate` as its owner; workers may run meanwhile"
            ),
        ));
    }
    let rights = Rights::read(&client, &database.schema).await?;
    Ok(Session { client, rights })
}

/// Milliseconds since 1970, of a column.
fn ms(column: &str) -> String {
    format!("(extract(epoch FROM {column}) * 1000)::int8")
}
