//! Tokens for Kafka's SASL/OAUTHBEARER from wherever a program has them: a cloud's identity service, a vault, an agent.

use std::fmt;
use std::pin::Pin;
use std::time::SystemTime;

/// Gives out tokens for SASL/OAUTHBEARER (RFC 7628), for [`WorkerBuilder::kafka_tokens`](crate::WorkerBuilder::kafka_tokens).
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use highwater::{KafkaToken, TokenError, TokenSource};
///
/// struct CloudTokens;
///
/// impl TokenSource for CloudTokens {
///     async fn token(&self) -> Result<KafkaToken, TokenError> {
///         // The cloud's own library signs it, or asks for it.
///         let token = "eyJhbGciOiJub25lIn0.e30.".to_owned();
///         let expires_at = SystemTime::now() + Duration::from_secs(900);
///         Ok(KafkaToken::new(token).expires_at(expires_at).principal("fraud-worker"))
///     }
/// }
/// ```
pub trait TokenSource: Send + Sync + 'static {
    /// A token that is valid now.
    ///
    /// Asked for at the start, when four fifths of the present token's life are over, and when Kafka refuses it; never twice
    /// at the same time. It runs on the worker's runtime beside everything else and must not block its thread; after 30 s it
    /// is dropped, and counts as [away](TokenError::away), as does a panic.
    ///
    /// # Errors
    /// [`TokenError`] says whether to wait.
    fn token(&self) -> impl Future<Output = Result<KafkaToken, TokenError>> + Send;
}

/// A token. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
#[must_use]
pub struct KafkaToken {
    pub(crate) text: String,
    pub(crate) expires_at: Option<SystemTime>,
    pub(crate) principal: Option<String>,
    pub(crate) extensions: Vec<(String, String)>,
}

impl KafkaToken {
    /// A token as it is sent. Where it is a JSON Web Token (RFC 7519), its `exp` and `sub` say when it expires and whose it
    /// is, unless that is told here; if nobody says, it is taken to last an hour.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), expires_at: None, principal: None, extensions: Vec::new() }
    }

    /// When it expires.
    pub fn expires_at(mut self, at: SystemTime) -> Self {
        self.expires_at = Some(at);
        self
    }

    /// Whose it is, for logs.
    pub fn principal(mut self, name: impl Into<String>) -> Self {
        self.principal = Some(name.into());
        self
    }

    /// Adds an extension that the broker asks for (RFC 7628, 3.1): a name of letters, and a value.
    pub fn extension(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extensions.push((name.into(), value.into()));
        self
    }
}

impl fmt::Debug for KafkaToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaToken")
            .field("expires_at", &self.expires_at)
            .field("principal", &self.principal)
            .finish_non_exhaustive()
    }
}

/// Why there is no token. Its text is logged: it must not hold what is secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenError {
    pub(crate) text: String,
    pub(crate) is_denied: bool,
}

impl TokenError {
    /// Whoever gives out tokens does not answer: it is waited for, as a broker is. A token that is still good is used on.
    #[must_use]
    pub fn away(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_denied: false }
    }

    /// It refuses: at the start the process ends with exit code 5; later when Kafka, too, has refused the token for
    /// `access_denied_after`.
    #[must_use]
    pub fn denied(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_denied: true }
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for TokenError {}

/// What a [`TokenSource`] gives, behind a pointer.
pub(crate) type TokenFuture<'a> = Pin<Box<dyn Future<Output = Result<KafkaToken, TokenError>> + Send + 'a>>;

/// [`TokenSource`] without its own future type.
pub(crate) trait ErasedTokenSource: Send + Sync + 'static {
    fn token(&self) -> TokenFuture<'_>;
}

impl<S: TokenSource> ErasedTokenSource for S {
    fn token(&self) -> TokenFuture<'_> {
        Box::pin(TokenSource::token(self))
    }
}
