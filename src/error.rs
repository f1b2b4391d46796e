//! The one error type of the crate's public functions.
//!
//! Opaque on purpose: what a caller may act on is the [kind](ErrorKind), the [SQLSTATE](Error::sqlstate) and the
//! [exit code](Error::exit_code); the text is for people and may change between releases. What a *handler* returns
//! is another type, because there the caller is this crate.

use std::error::Error as StdError;
use std::fmt;

use tokio_postgres::error::{DbError, SqlState};

use crate::{HandlerError, telling};

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn StdError + Send + Sync + 'static>;

/// What went wrong, as far as a caller can act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting or an argument is missing, unknown or out of range. Nothing was attempted.
    Configuration,
    /// The database's Highwater schema is missing, or of a version that this program can't use.
    Schema,
    /// The group has no offset for a partition, and the start policy does not allow to choose one.
    StartPolicy,
    /// Kafka can't give what Postgres says comes next: the offset is out of range, the topic was recreated, or it is
    /// another cluster (EO-6).
    Guard,
    /// Kafka or Postgres refused the credentials, or we the server's certificate. Retrying does not help.
    Authentication,
    /// The credentials are right, but the role lacks a privilege.
    Privilege,
    /// Kafka could not be reached, or answered with an error.
    Kafka,
    /// Postgres could not be reached, or answered with an error.
    Postgres,
    /// The user's handler failed in a way that no retry cures.
    Handler,
    /// A subscribed topic or an assigned partition does not exist, or this client may not see it.
    UnknownTopic,
    /// Another process joined the group under the same instance id.
    InstanceFenced,
    /// A consumer that is not Highwater's is in the group: what Kafka gives to it does not reach this database.
    ForeignMember,
    /// The group is at work, and what was asked for wants it to rest.
    GroupActive,
    /// An operator has halted the partition.
    Operator,
    /// A check ran to its end and found a difference, or what was planned is not what is there any more. Not a failure
    /// of the check.
    Difference,
    /// A bug in Highwater, or an environment in which nothing works (no file descriptors, no threads).
    Internal,
}

impl ErrorKind {
    /// The exit code that a process ends with on an error of this kind.
    ///
    /// | code | kinds |
    /// |---|---|
    /// | 0 | no error |
    /// | 1 | `Difference` |
    /// | 2 | `Configuration`, `UnknownTopic` |
    /// | 3 | `Schema` |
    /// | 4 | `StartPolicy`, `Guard`, `InstanceFenced`, `ForeignMember`, `GroupActive`, `Operator` |
    /// | 5 | `Authentication`, `Privilege` |
    /// | 70 | everything else |
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Difference => 1,
            Self::Configuration | Self::UnknownTopic => 2,
            Self::Schema => 3,
            Self::StartPolicy
            | Self::Guard
            | Self::InstanceFenced
            | Self::ForeignMember
            | Self::GroupActive
            | Self::Operator => 4,
            Self::Authentication | Self::Privilege => 5,
            Self::Kafka | Self::Postgres | Self::Handler | Self::Internal => 70,
        }
    }
}

/// An error of this crate: a kind, a sentence, and what caused it.
///
/// `Display` prints the sentence and never the source; walk [`source`](StdError::source) for the whole story, or
/// print [`report`](Error::report).
pub struct Error {
    // Boxed: results are returned on the hot path, and the happy side should not pay for this one's size.
    inner: Box<Inner>,
}

struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<Source>,
}

impl Error {
    /// Makes an error. `message` is lower case, without a full stop, and says what was attempted and what to do.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { inner: Box::new(Inner { kind, message: message.into(), source: None }) }
    }

    /// Adds the cause. The message must not repeat it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.inner.source = Some(source.into());
        self
    }

    pub(crate) fn configuration(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Configuration, message)
    }

    /// The kind: what a caller may branch on.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// The exit code for a process that ends with this error: see [`ErrorKind::exit_code`].
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        self.kind().exit_code()
    }

    /// The SQLSTATE of the first Postgres error among the sources, if the server reported one.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&SqlState> {
        let mut next = self.source();
        while let Some(error) = next {
            if let Some(postgres) = error.downcast_ref::<tokio_postgres::Error>() {
                return postgres.code();
            }
            next = error.source();
        }
        None
    }

    /// Whether a setting or an argument is at fault.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        self.kind() == ErrorKind::Configuration
    }

    /// Whether the database needs `highwater migrate`, or a newer program.
    #[must_use]
    pub fn is_schema(&self) -> bool {
        self.kind() == ErrorKind::Schema
    }

    /// Whether credentials or rights are at fault, so that retrying does not help.
    #[must_use]
    pub fn is_access_denied(&self) -> bool {
        matches!(self.kind(), ErrorKind::Authentication | ErrorKind::Privilege)
    }

    /// The message and every source's, joined by `: `. For logs and for the end of `main`: of an error of PostgreSQL that
    /// may quote data, only SQLSTATE and names.
    #[must_use]
    pub fn report(&self) -> String {
        let mut text = self.to_string();
        let mut next = self.source();
        while let Some(error) = next {
            text.push_str(": ");
            if let Some(database) = error.downcast_ref::<DbError>() {
                text.push_str(&telling::database(database));
            } else {
                text.push_str(&error.to_string());
            }
            // What a handler's error has for a source is told by nobody.
            next = if error.is::<HandlerError>() { None } else { error.source() };
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.inner.kind)
            .field("message", &self.inner.message)
            .field("source", &self.source().map(telling::source))
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: &[(ErrorKind, u8)] = &[
        (ErrorKind::Difference, 1),
        (ErrorKind::Configuration, 2),
        (ErrorKind::UnknownTopic, 2),
        (ErrorKind::Schema, 3),
        (ErrorKind::StartPolicy, 4),
        (ErrorKind::Guard, 4),
        (ErrorKind::InstanceFenced, 4),
        (ErrorKind::ForeignMember, 4),
        (ErrorKind::GroupActive, 4),
        (ErrorKind::Operator, 4),
        (ErrorKind::Authentication, 5),
        (ErrorKind::Privilege, 5),
        (ErrorKind::Kafka, 70),
        (ErrorKind::Postgres, 70),
        (ErrorKind::Handler, 70),
        (ErrorKind::Internal, 70),
    ];

    #[test]
    fn every_kind_has_the_documented_exit_code() {
        for &(kind, code) in KINDS {
            assert_eq!(Error::new(kind, "x").exit_code(), code, "{kind:?}");
        }
    }

    #[test]
    fn display_leaves_the_source_to_source() {
        let error = Error::new(ErrorKind::Internal, "could not read the file")
            .with_source(std::io::Error::other("disk on fire"));
        assert_eq!(error.to_string(), "could not read the file");
        assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("disk on fire"));
        assert_eq!(error.report(), "could not read the file: disk on fire");
    }

    #[test]
    fn stays_one_pointer_wide_and_crosses_threads() {
        fn assert_send_sync<T: Send + Sync + 'static>() {}
        assert_send_sync::<Error>();
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }
}
