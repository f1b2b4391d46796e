//! The transaction that a handler writes in.

mod binary;
mod copy;
mod guard;
pub(crate) mod hidden;
mod lexer;
pub(crate) mod order;
pub(crate) mod protected;
mod reject;
mod savepoint;
mod sorted;
mod statement;

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use deadpool_postgres::{ClientWrapper, Object, StatementCache};
use tokio_postgres::{CancelToken, SimpleQueryMessage};

use crate::HandlerError;
use crate::verdict::{Cause, Class};
pub use binary::BinaryCopy;
pub(crate) use binary::{HEADER, MAX_ROW_BYTES, TRAILER};
pub(crate) use copy::Ahead;
pub use savepoint::Savepoint;
pub use statement::{Prepared, Statement};

/// The end of one simple query: begins, and learns the transaction's id, the backend's pid and the protected settings in the
/// same round trip, without a prepared statement (works behind PgBouncer). `now()` is when the transaction began, so that a
/// connection that was already inside one, where `BEGIN` only warns, gives itself away.
///
/// Not `READ WRITE`: that would override `default_transaction_read_only`, by which an operator stops all writing
/// before a switch-over. A server that was demoted has no transaction id to give.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; \
    SELECT CASE WHEN pg_catalog.current_setting('transaction_read_only') OPERATOR(pg_catalog.=) 'off' \
        THEN pg_catalog.pg_current_xact_id()::pg_catalog.text ELSE '' END, pg_catalog.pg_backend_pid(), \
    pg_catalog.now() OPERATOR(pg_catalog.=) pg_catalog.statement_timestamp(), ";

/// A handler's view of the transaction in which the batch's rows and offsets are committed together.
///
/// It wraps what [`tokio_postgres`] offers for reading and writing, and nothing that ends the transaction: that is
/// the worker's part, after the handler returned. Statement text is read before it is sent, and transaction
/// control, session settings and the like are refused with a [fatal](HandlerError::fatal) error that says what to do
/// instead; `docs/errors.md` lists the refusals.
///
/// Methods that take `&self` may run concurrently (`tokio::try_join!`): the driver pipelines them on the one
/// connection, in the order in which they are first polled.
///
/// An SQL error makes the server refuse everything that follows, so pass it on with `?`, or undo it with a
/// [savepoint](Self::savepoint). A handler that swallows one fails with SQLSTATE 25P02 and halts: rows never get lost
/// silently.
///
/// There is no way to make one outside of a worker.
pub struct Tx {
    /// `None` only once the transaction was ended.
    connection: Option<Object>,
    xact_id: String,
    backend_pid: i32,
    /// The values of the protected settings at the beginning, as the server writes an array.
    protected: String,
    /// Live savepoints, innermost last.
    savepoints: Vec<savepoint::Live>,
    last_savepoint: u64,
    /// A COPY was begun at least once, and may have failed before it read anything.
    copied: bool,
    /// Requests and answers may be out of step: nothing may be sent any more. Holds what to answer instead.
    broken: Option<Class>,
    /// Something that is right only as a whole was begun and has not ended: nothing may be committed.
    unfinished: bool,
    on_commit: Vec<Box<dyn FnOnce() + Send + Sync>>,
    /// The stages that table sinks have filled in this transaction.
    staged: Vec<String>,
    /// How long table sinks have been at their `COPY`.
    written: Duration,
    /// What the handler has rejected.
    rejections: reject::Rejections,
}

impl Tx {
    /// Begins the transaction of a batch (`READ COMMITTED`, and only where writing is allowed), in one round trip.
    ///
    /// `session`: statements that make the session what it was when it was new. A setting that a function of the
    /// database, or SQL that it put together, has made for the whole session must not rule the next batch.
    ///
    /// # Errors
    /// The connection is gone then: an answer may still be under way on it.
    ///
    /// # Cancel safety
    /// Dropping the future drops the connection.
    pub(crate) async fn begin(connection: Object, session: &str) -> Result<Self, HandlerError> {
        let mut this = Self {
            connection: Some(connection),
            xact_id: String::new(),
            backend_pid: 0,
            protected: String::new(),
            savepoints: Vec::new(),
            last_savepoint: 0,
            copied: false,
            broken: None,
            unfinished: false,
            on_commit: Vec::new(),
            staged: Vec::new(),
            written: Duration::ZERO,
            rejections: reject::Rejections::default(),
        };
        let answer = this
            .raw()
            .simple_query(&format!("{session}{BEGIN}{}", protected::values()))
            .await
            .map_err(|error| HandlerError::from(error).discarding())?;
        let row = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) if row.len() == 4 => {
                Some((row.get(0)?, row.get(1)?.parse().ok()?, row.get(2)?, row.get(3)?))
            }
            _ => None,
        });
        let out_of_step = |reason: &str| HandlerError::lost_connection(Class::RetryThenHalt, reason);
        let Some((xact_id, backend_pid, began_now, protected)) = row else {
            return Err(out_of_step("cannot begin a transaction: the server's answer has no transaction id"));
        };
        if began_now != "t" {
            return Err(out_of_step("cannot begin a transaction: the connection was already inside one"));
        }
        if xact_id.is_empty() {
            return Err(HandlerError::read_only());
        }
        xact_id.clone_into(&mut this.xact_id);
        this.backend_pid = backend_pid;
        protected.clone_into(&mut this.protected);
        Ok(this)
    }

    /// This transaction's id, for `pg_current_xact_id() = $n::text::xid8` in the compare-and-set (PITFALLS 20).
    pub(crate) fn xact_id(&self) -> &str {
        &self.xact_id
    }

    /// The server process, for `pg_terminate_backend` when the batch must be abandoned.
    pub(crate) fn backend_pid(&self) -> i32 {
        self.backend_pid
    }

    /// Take it before the handler runs: it cancels what runs at that moment, so use it only to abandon the batch,
    /// never once COMMIT may have been sent, and drop the `Tx` after (PITFALLS 24).
    pub(crate) fn cancel_token(&self) -> CancelToken {
        self.raw().cancel_token()
    }

    /// The connection itself, unguarded: for the compare-and-set and COMMIT. Call [`usable`](Self::usable) first.
    pub(crate) fn raw(&self) -> &ClientWrapper {
        self.connection.as_ref().expect("the connection leaves only with the Tx")
    }

    /// Whether requests and answers are still in step. To be asked after the handler, before the compare-and-set.
    pub(crate) fn usable(&self) -> Result<(), HandlerError> {
        self.in_step()?;
        if self.unfinished {
            return Err(HandlerError::lost_connection(
                Class::RetryThenHalt,
                "a table sink was interrupted or failed before all rows were written; pass its error on, and do not \
                 drop its future",
            ));
        }
        Ok(())
    }

    /// Whether another request may be sent at all.
    fn in_step(&self) -> Result<(), HandlerError> {
        match self.broken {
            None => Ok(()),
            Some(class) => Err(HandlerError::lost_connection(
                class,
                "the connection is unusable since a COPY failed to start or a rollback was interrupted; \
                 pass that error on instead of going on",
            )),
        }
    }

    /// The connection, for the pool; only after the server confirmed COMMIT.
    pub(crate) fn into_connection(mut self) -> Object {
        for action in self.on_commit.drain(..) {
            action();
        }
        self.connection.take().expect("the connection leaves only with the Tx")
    }

    /// Rolls back. The connection comes back only if it is certainly in step and outside of a transaction.
    ///
    /// # Cancel safety
    /// Dropping the future drops the connection.
    pub(crate) async fn rollback(mut self) -> Option<Object> {
        self.usable().ok()?;
        self.raw().batch_execute("ROLLBACK").await.ok()?;
        if self.copied {
            self.check_in_step().await.ok()?;
        }
        self.connection.take()
    }

    fn client(&self) -> Result<&ClientWrapper, HandlerError> {
        match self.broken {
            None => Ok(self.raw()),
            Some(_) => self.usable().map(|()| self.raw()),
        }
    }

    /// From here on nothing may be committed until [`end_part`](Self::end_part): what is dropped between them leaves
    /// the transaction unusable.
    pub(crate) fn begin_part(&mut self) {
        self.unfinished = true;
    }

    pub(crate) fn end_part(&mut self) {
        self.unfinished = false;
    }

    /// A table sink was at its `COPY` for so long.
    pub(crate) fn wrote(&mut self, took: Duration) {
        self.written += took;
    }

    pub(crate) fn written(&self) -> Duration {
        self.written
    }

    /// Has `action` done once the server has confirmed COMMIT.
    pub(crate) fn on_commit(&mut self, action: impl FnOnce() + Send + Sync + 'static) {
        self.on_commit.push(Box::new(action));
    }

    /// Whether this stage was filled before in this transaction; from here on it was.
    pub(crate) fn has_staged(&mut self, stage: &str) -> bool {
        let staged = self.staged.iter().any(|known| known == stage);
        if !staged {
            self.staged.push(stage.to_owned());
        }
        staged
    }

    /// Names the session, as long as it lasts.
    pub(crate) fn session(&self) -> Weak<StatementCache> {
        Arc::downgrade(&self.raw().statement_cache)
    }

    /// Asks for a number that nobody can have asked for before.
    ///
    /// After a COPY that failed before it read anything, the server answers one `Sync` too many
    /// (rust-postgres PR 1337), and each later request gets the answer of the one before it.
    async fn check_in_step(&self) -> Result<(), HandlerError> {
        let number = fastrand::u64(..).to_string();
        let answer = self.raw().simple_query(&format!("SELECT '{number}'")).await?;
        let in_step = answer.iter().any(
            |message| matches!(message, SimpleQueryMessage::Row(row) if row.get(0) == Some(number.as_str())),
        );
        if in_step {
            Ok(())
        } else {
            Err(HandlerError::lost_connection(
                Class::RetryThenHalt,
                "the connection is out of step after a failed COPY",
            ))
        }
    }

    /// Notes the class with which everything is refused from now on.
    fn break_with(&mut self, error: &HandlerError) {
        let Cause { class, .. } = error.cause();
        self.broken = Some(class);
    }
}

/// An open transaction never goes back to the pool.
impl Drop for Tx {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            drop(Object::take(connection));
        }
    }
}

impl fmt::Debug for Tx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx")
            .field("xact_id", &self.xact_id)
            .field("backend_pid", &self.backend_pid)
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
