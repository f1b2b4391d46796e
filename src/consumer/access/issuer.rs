//! Where tokens come from.

mod server;

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use super::unread::Unread;
use crate::secret::Source;
use crate::token::{ErasedTokenSource, KafkaToken, TokenError};

pub(crate) use server::TokenServer;

/// How long a program's own source may take.
const OWN_LIMIT: Duration = Duration::from_secs(30);

/// One of the ways to a token.
#[derive(Debug, Clone)]
pub(crate) enum Issuer {
    /// It lies there, or is printed.
    Read(Source),
    /// A server that gives it for client credentials (RFC 6749, 4.4).
    Server(TokenServer),
    /// The program's own.
    Own(OwnTokens),
}

impl Issuer {
    /// Whether it is looked at whenever there is time, because that costs nothing.
    pub(super) fn is_file(&self) -> bool {
        matches!(self, Self::Read(Source::File(_)))
    }

    /// A token as it is now; may block.
    pub(super) fn token(&self) -> Result<KafkaToken, Unread> {
        match self {
            Self::Read(source) => {
                super::text(source, "kafka_token").map(KafkaToken::new).map_err(Unread::missing)
            }
            Self::Server(server) => server.token(),
            Self::Own(own) => own.token().map_err(|error| {
                let why = format!("the program's token source: {error}");
                if error.is_denied { Unread::denied(why) } else { Unread::away(why) }
            }),
        }
    }
}

/// The program's own source, and the runtime that it is asked on.
#[derive(Clone)]
pub(crate) struct OwnTokens {
    pub(crate) source: Arc<dyn ErasedTokenSource>,
    pub(crate) runtime: tokio::runtime::Handle,
}

impl OwnTokens {
    /// Asks from a thread that is none of the runtime's, or may block.
    fn token(&self) -> Result<KafkaToken, TokenError> {
        let (done, answer) = channel();
        let source = Arc::clone(&self.source);
        let asked = AbortOnDropHandle::new(self.runtime.spawn(async move {
            let _ = done.send(source.token().await);
        }));
        let answer = answer.recv_timeout(OWN_LIMIT);
        drop(asked);
        answer.unwrap_or_else(|error| {
            Err(TokenError::away(match error {
                RecvTimeoutError::Timeout => format!("has not answered in {OWN_LIMIT:?}"),
                RecvTimeoutError::Disconnected => "panicked".to_owned(),
            }))
        })
    }
}

impl fmt::Debug for OwnTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnTokens").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TokenSource;

    struct Panics;

    impl TokenSource for Panics {
        async fn token(&self) -> Result<KafkaToken, TokenError> {
            panic!("no token")
        }
    }

    struct Denies;

    impl TokenSource for Denies {
        async fn token(&self) -> Result<KafkaToken, TokenError> {
            tokio::task::yield_now().await;
            Err(TokenError::denied("not you"))
        }
    }

    fn asked(source: impl TokenSource) -> Unread {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let own = OwnTokens { source: Arc::new(source), runtime: runtime.handle().clone() };
        Issuer::Own(own).token().unwrap_err()
    }

    #[test]
    fn a_source_that_panics_is_away_and_one_that_refuses_is_not() {
        assert_eq!(asked(Panics), Unread::away("the program's token source: panicked"));
        assert_eq!(asked(Denies), Unread::denied("the program's token source: not you"));
    }
}
