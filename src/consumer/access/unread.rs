//! Why a secret, or a token, is not there.

use crate::error::{Error, ErrorKind};

/// What is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// What was configured is not there, or is not what it should be.
    Missing,
    /// Who gives it out refuses.
    Denied,
    /// Who gives it out does not answer: this may pass.
    Away,
}

/// Cause, and words without what is secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unread {
    pub(crate) cause: Cause,
    pub(crate) why: String,
}

impl Unread {
    pub(super) fn missing(why: impl Into<String>) -> Self {
        Self { cause: Cause::Missing, why: why.into() }
    }

    pub(super) fn denied(why: impl Into<String>) -> Self {
        Self { cause: Cause::Denied, why: why.into() }
    }

    pub(super) fn away(why: impl Into<String>) -> Self {
        Self { cause: Cause::Away, why: why.into() }
    }

    /// With who has said so, and without a secret that these words may repeat.
    pub(super) fn about(self, who: &str, secret: &str) -> Self {
        Self { why: format!("{who} {}", self.why).replace(secret, "(hidden)"), ..self }
    }
}

impl From<Unread> for Error {
    fn from(unread: Unread) -> Self {
        let (kind, what) = match unread.cause {
            Cause::Missing => (ErrorKind::Configuration, "credentials for Kafka"),
            Cause::Denied => (ErrorKind::Authentication, "no token for Kafka"),
            Cause::Away => (ErrorKind::Kafka, "no token for Kafka"),
        };
        Self::new(kind, format!("{what}: {}", unread.why))
    }
}
