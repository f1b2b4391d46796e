//! What kind of error a failed call to Postgres is.

use std::error::Error as _;
use std::fmt;

use tokio_postgres::error::SqlState;

use super::tls;
use crate::error::{Error, ErrorKind};

impl Error {
    /// Makes an error of a failed Postgres call, with the kind taken from what the server (or the client's
    /// authentication) said: wrong credentials are [`Authentication`](ErrorKind::Authentication), a missing right
    /// is [`Privilege`](ErrorKind::Privilege), everything else [`Postgres`](ErrorKind::Postgres).
    ///
    /// `attempt` completes "could not …".
    #[must_use]
    pub fn postgres(attempt: impl fmt::Display, source: tokio_postgres::Error) -> Self {
        let hint = match tls::refusal(&source) {
            Some(_) => {
                ": the two sides did not agree on TLS; compare sslmode and sslrootcert with the server's set-up"
            }
            None => "",
        };
        Self::new(classify(&source), format!("could not {attempt}{hint}")).with_source(source)
    }
}

/// The kind of a Postgres error.
fn classify(error: &tokio_postgres::Error) -> ErrorKind {
    match error.code() {
        Some(&SqlState::INVALID_PASSWORD | &SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => {
            ErrorKind::Authentication
        }
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => ErrorKind::Privilege,
        Some(_) => ErrorKind::Postgres,
        None if is_client_side_authentication(error) || tls::refusal(error).is_some() => {
            ErrorKind::Authentication
        }
        None => ErrorKind::Postgres,
    }
}

/// Whether one side does not accept the other's credentials, certificates included.
pub(crate) fn is_refused(error: &tokio_postgres::Error) -> bool {
    classify(error) == ErrorKind::Authentication
}

/// Whether the *client* gave up authenticating: no password where the server asks for one, or a SCRAM exchange that
/// did not hold. tokio-postgres has no SQLSTATE and no accessor for these, only its words (pinned by a test); taken
/// for an outage they would be retried for ever.
fn is_client_side_authentication(error: &tokio_postgres::Error) -> bool {
    let words = error.to_string();
    let cause = error.source().map(ToString::to_string).unwrap_or_default();
    words.starts_with("authentication error") || cause.starts_with("password missing")
}
