//! Why a batch could not be applied, as a handler says it.

use std::error::Error as StdError;
use std::fmt;

use tokio_postgres::error::DbError;

use crate::record::{Record, RecordId};
use crate::telling::{self, Told};
use crate::verdict::{Cause, Class, Connection, postgres};

/// Why a handler could not apply a batch, and so what the worker does next.
///
/// There are three answers: [try again](Self::retry), [this record is bad](Self::reject), [stop](Self::fatal).
/// Errors of tokio-postgres convert with `?`: the answer follows from their SQLSTATE, by the table in
/// `docs/errors.md`. Whatever the error, everything the handler wrote is rolled back.
///
/// The text holds no data but what you put there yourself: messages of PostgreSQL, which may quote values, are only in the
/// [source](StdError::source), which is neither logged nor printed by `Debug`.
///
/// ```
/// use highwater::{HandlerError, HandlerErrorKind};
///
/// let error = HandlerError::retry("the score service answered 503");
/// assert_eq!(error.kind(), HandlerErrorKind::Retry);
/// ```
pub struct HandlerError(Box<Inner>);

struct Inner {
    class: Class,
    /// `None`: follows from the source.
    cause: Option<Cause>,
    /// The topics of the handler that failed, where there are several handlers.
    topics: Vec<std::sync::Arc<str>>,
    reason: String,
    record: Option<RecordId>,
    /// The record was named by the order in which rows were sent: alone it may be innocent.
    suspected: bool,
    /// Why the record must not become a dead letter: it would be one too many.
    beyond: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What the worker does about a [`HandlerError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HandlerErrorKind {
    /// Roll back and apply the same records again, with backoff.
    Retry,
    /// A record is bad: find it, then follow the reject policy.
    Reject,
    /// Halt the partitions of the batch until an operator acts.
    Fatal,
}

impl HandlerError {
    fn new(class: Class, reason: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            class,
            cause: None,
            topics: Vec::new(),
            reason: reason.into(),
            record: None,
            suspected: false,
            beyond: None,
            source: None,
        }))
    }

    /// Something outside is not ready: apply the batch again later. There is no limit to the number of times.
    #[must_use]
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::new(Class::Environment, reason)
    }

    /// This record is bad and will be at every attempt. What came before it in its partition is applied; the
    /// record itself halts its partition or becomes a dead letter, as the setting `on_rejected` says.
    ///
    /// The reason is stored with a dead letter, and shown where a partition halts: put no data into it. A handler that can go
    /// on without the record calls [`Tx::reject`](crate::Tx::reject) instead, which fails no batch.
    #[must_use]
    pub fn reject(record: &Record<'_>, reason: impl Into<String>) -> Self {
        Self::reject_at(record.id(), reason)
    }

    /// As [`reject`](Self::reject), where only the record's place is at hand.
    #[must_use]
    pub fn reject_at(record: RecordId, reason: impl Into<String>) -> Self {
        let mut error = Self::new(Class::Reject, reason);
        error.0.record = Some(record);
        error
    }

    /// Some record of the batch is bad, and the handler does not know which: the worker finds it by applying ever
    /// smaller batches, so the handler must fail the same way whenever that record is among those it is given.
    #[must_use]
    pub fn reject_unnamed(reason: impl Into<String>) -> Self {
        Self::new(Class::Reject, reason)
    }

    /// No record is to blame and trying again will not help: halt.
    #[must_use]
    pub fn fatal(reason: impl Into<String>) -> Self {
        Self::new(Class::Halt, reason)
    }

    /// Adds the error that led to this one. It does not change the [`kind`](Self::kind).
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// What the worker does about it.
    #[must_use]
    pub fn kind(&self) -> HandlerErrorKind {
        match self.0.class {
            Class::Environment | Class::Lost | Class::OwnTimeout | Class::RetryThenHalt => {
                HandlerErrorKind::Retry
            }
            Class::Reject => HandlerErrorKind::Reject,
            Class::Bug | Class::Privilege | Class::Halt | Class::Authentication => HandlerErrorKind::Fatal,
        }
    }

    /// The rejected record, if the error names one.
    #[must_use]
    pub fn record(&self) -> Option<&RecordId> {
        self.0.record.as_ref()
    }

    /// Why, without the record's name.
    pub(crate) fn reason(&self) -> &str {
        &self.0.reason
    }

    /// The same rejection, of a record that must not become a dead letter: a limit is reached.
    pub(crate) fn beyond(mut self, limit: String) -> Self {
        self.0.beyond = Some(limit);
        self
    }

    /// Which limit is reached, in words.
    pub(crate) fn limit(&self) -> Option<&str> {
        self.0.beyond.as_deref()
    }

    /// The SQLSTATE, if an error of the server is among the sources.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        self.db_error().map(|error| error.code().code())
    }

    /// The constraint that was violated, if an error of the server is among the sources and names one.
    #[must_use]
    pub fn constraint(&self) -> Option<&str> {
        self.db_error()?.constraint()
    }

    /// The server's own error, if there is one among the sources. Its message and detail may quote data.
    #[must_use]
    pub fn db_error(&self) -> Option<&DbError> {
        self.postgres_error()?.as_db_error()
    }

    fn postgres_error(&self) -> Option<&tokio_postgres::Error> {
        let mut source = self.source();
        while let Some(error) = source {
            if let Some(found) = error.downcast_ref() {
                return Some(found);
            }
            source = error.source();
        }
        None
    }

    /// The class as the handler wants it, with what the driver's error says of connection and outcome.
    pub(crate) fn cause(&self) -> Cause {
        let base = self.0.cause.unwrap_or_else(|| match self.postgres_error() {
            Some(error) => postgres::classify(error),
            None => Cause::by_handler(self.0.class),
        });
        Cause { class: self.0.class, ..base }
    }

    /// An error after which the connection is out of step and must go.
    pub(crate) fn lost_connection(class: Class, reason: impl Into<String>) -> Self {
        let mut error = Self::new(class, reason);
        error.0.cause = Some(Cause::lost(class));
        error
    }

    /// The same failure, but the server had ended the session for having taken too long.
    pub(crate) fn timed_out(self, sqlstate: &str) -> Self {
        let reason =
            format!("postgres ended the session with SQLSTATE {sqlstate}, for the batch had taken too long");
        Self::lost_connection(Class::OwnTimeout, reason).with_source(self)
    }

    /// The same failure, and for which lock it has waited.
    pub(crate) fn having_waited(mut self, lock: &str) -> Self {
        self.0.reason.push_str(&format!("; it waited for {lock}"));
        self
    }

    /// The server takes no writes: it was demoted, and so is every other connection to it (25006, in advance).
    pub(crate) fn read_only() -> Self {
        let reason = "Postgres takes no writes: it was demoted, or default_transaction_read_only is on";
        let mut error = Self::new(Class::Environment, reason);
        error.0.cause = Some(Cause { connection: Connection::DiscardAll, ..Cause::lost(Class::Environment) });
        error
    }

    /// The transaction was aborted by an error that the handler kept to itself (25P02 at the compare-and-set).
    pub(crate) fn swallowed(error: tokio_postgres::Error) -> Self {
        let reason = "the handler returned Ok, but one of its statements had failed and aborted the transaction: pass SQL \
                      errors on with `?`, or run what may fail inside a savepoint";
        Self::new(Class::Bug, reason).with_source(error)
    }

    /// A table is not what it was when its catalogue entry was read.
    pub(crate) fn table_changed(table: &str) -> Self {
        let reason = format!(
            "table {table} is not what it was, or its name means another; the catalogue is read again"
        );
        Self::new(Class::RetryThenHalt, reason)
    }

    /// A value that the record says is none of its type's: the code may say otherwise, and the session is as it was.
    pub(crate) fn refused_text(
        record: RecordId,
        reason: impl Into<String>,
        error: tokio_postgres::Error,
    ) -> Self {
        let mut this = Self::reject_at(record, reason).with_source(error);
        this.0.cause = Some(Cause::by_handler(Class::Reject));
        this
    }

    /// The server, or a look at the catalogue, says that tables or columns are not what they were thought to be.
    pub(crate) fn is_of_the_schema(&self) -> bool {
        match self.sqlstate() {
            // Somebody has looked closer.
            Some(_) if self.0.class == Class::Reject => false,
            Some(code) => code.starts_with("42") || matches!(code, "22P03" | "0A000"),
            None => self.0.class == Class::RetryThenHalt,
        }
    }

    /// The same error, but trying again may help.
    pub(crate) fn worth_another_try(mut self) -> Self {
        let cause = self.cause();
        self.0.cause = Some(cause);
        self.0.class = Class::RetryThenHalt;
        self
    }

    /// The same error, of the handler of these topics.
    pub(crate) fn of_topics(mut self, topics: impl IntoIterator<Item = std::sync::Arc<str>>) -> Self {
        self.0.topics = topics.into_iter().collect();
        self
    }

    /// Whether a partition of `topic` may be to blame: its handler is the one that failed.
    pub(crate) fn may_concern(&self, topic: &str) -> bool {
        self.0.topics.is_empty() || self.0.topics.iter().any(|one| **one == *topic)
    }

    /// The same error, and the record that it seems to be about: whose row the server was at. Without the rows that
    /// were with it, it may be innocent.
    pub(crate) fn suspecting(mut self, record: RecordId) -> Self {
        self.0.record = Some(record);
        self.0.suspected = true;
        self
    }

    /// Whether the record was named in the company of others.
    pub(crate) fn is_suspicion(&self) -> bool {
        self.0.suspected
    }

    /// The same error, but its connection must go.
    pub(crate) fn discarding(mut self) -> Self {
        let cause = self.cause();
        self.0.cause = Some(Cause { connection: cause.connection.max(Connection::Discard), ..cause });
        self
    }
}

/// The kind follows from the SQLSTATE, by the table in `docs/errors.md`; errors without one are connection trouble
/// (retry) or a mismatch of Rust and SQL types (fatal).
impl From<tokio_postgres::Error> for HandlerError {
    fn from(error: tokio_postgres::Error) -> Self {
        let cause = postgres::classify(&error);
        let reason = match error.as_db_error() {
            Some(db) => format!("postgres answered {}", telling::describe(db)),
            None => of_the_driver(&error),
        };
        let mut this = Self::new(cause.class, reason).with_source(error);
        this.0.cause = Some(cause);
        this
    }
}

/// What the driver itself says: names of types, places and operations, never values.
fn of_the_driver(error: &tokio_postgres::Error) -> String {
    use tokio_postgres::types::WrongType;
    match error.source() {
        Some(source) if source.is::<WrongType>() => format!("{error}: {source}"),
        // A value's own complaint may quote it.
        Some(source) if !source.is::<std::io::Error>() => error.to_string(),
        Some(source) => format!("the connection to postgres failed: {error}: {source}"),
        None => format!("the connection to postgres failed: {error}"),
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(record) = &self.0.record {
            write!(f, "record {record} rejected: ")?;
        }
        f.write_str(&self.0.reason)
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerError")
            .field("kind", &self.kind())
            .field("record", &self.0.record)
            .field("reason", &self.0.reason)
            .field("source", &self.source().map(hidden))
            .finish()
    }
}

/// The source is whatever the handler was told elsewhere: only of the database's errors is it known what they quote.
fn hidden(source: &(dyn StdError + 'static)) -> String {
    match telling::source(source) {
        Told::Database(error) => telling::database(error),
        Told::Handler(error) => error.to_string(),
        // The driver's own sentences are fixed; what led to them is not.
        Told::Other(error) => match error.downcast_ref::<tokio_postgres::Error>() {
            Some(error) => error.to_string(),
            None => "(hidden: it may quote data)".to_owned(),
        },
    }
}

impl StdError for HandlerError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|source| &**source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_tells_of_the_connection_but_the_handler_of_the_kind() {
        let timeout = tokio_postgres::Error::__private_api_timeout();
        let error = HandlerError::fatal("cannot go on").with_source(timeout);
        assert_eq!(error.kind(), HandlerErrorKind::Fatal);
        assert_eq!(error.to_string(), "cannot go on");
        assert_eq!(error.cause().class, Class::Halt);
        assert_eq!(error.cause().connection, Connection::DiscardAll);
        assert!(!error.cause().definite);
    }

    #[test]
    fn a_rejection_names_its_record() {
        let id = RecordId { topic: "t".into(), partition: 3, offset: 7 };
        let error = HandlerError::reject_at(id.clone(), "negative amount");
        assert_eq!(error.to_string(), "record t[3]@7 rejected: negative amount");
        assert_eq!(error.record(), Some(&id));
        assert!(error.cause().definite);
        assert_eq!(HandlerError::reject_unnamed("x").record(), None);
    }
}
