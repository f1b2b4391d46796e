//! One error type for the whole kit: tests read it, they do not match on it.

use std::{error::Error as StdError, fmt, io};

use rdkafka::error::KafkaError;

/// What went wrong in the test kit: a text for the reader of a failed test, and the cause behind it.
///
/// `Debug` prints the whole chain, because that is what `unwrap` and a failed test show.
pub struct Error {
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// A result of the test kit.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with this text and no cause.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None }
    }

    /// An error that says what was attempted, with its cause.
    pub fn caused(attempted: impl Into<String>, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self { message: attempted.into(), source: Some(source.into()) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut source = self.source();
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn StdError + 'static))
    }
}

impl From<KafkaError> for Error {
    fn from(source: KafkaError) -> Self {
        Self::caused("the Kafka client of the test kit", source)
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(source: tokio_postgres::Error) -> Self {
        Self::caused("the Postgres client of the test kit", source)
    }
}

impl From<io::Error> for Error {
    fn from(source: io::Error) -> Self {
        Self::caused("input or output of the test kit", source)
    }
}

/// Says what was attempted when a result is an error.
pub(super) trait Attempted<T> {
    fn attempted(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> Attempted<T> for Result<T, E> {
    fn attempted(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::caused(what(), source))
    }
}

/// Runs what blocks (a call of librdkafka, a download) off the runtime.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::caused("a blocking call of the test kit", error)),
    }
}
