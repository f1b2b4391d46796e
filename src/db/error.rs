//! Why a statement of the worker's own failed.

use deadpool_postgres::{HookError, PoolError};

use crate::telling;

/// Why a statement failed: the pool could not connect, or Postgres said no.
#[derive(Debug)]
pub(crate) enum DbError {
    Pool(PoolError),
    Postgres(tokio_postgres::Error),
    /// It waited for a lock for too long; the text says for which, and who holds it.
    Waited(tokio_postgres::Error, String),
    Other(String),
}

impl From<PoolError> for DbError {
    fn from(error: PoolError) -> Self {
        Self::Pool(error)
    }
}

impl From<tokio_postgres::Error> for DbError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

impl std::fmt::Display for DbError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Pool(error) => match postgres_error(error) {
                Some(error) => describe(f, error),
                None => write!(f, "no connection: {error}"),
            },
            Self::Postgres(error) => describe(f, error),
            Self::Waited(error, lock) => {
                describe(f, error)?;
                write!(f, "; it waited for {lock}")
            }
            Self::Other(text) => f.write_str(text),
        }
    }
}

fn describe(f: &mut std::fmt::Formatter<'_>, error: &tokio_postgres::Error) -> std::fmt::Result {
    match (error.as_db_error(), std::error::Error::source(error)) {
        (Some(db), _) => f.write_str(&telling::database(db)),
        (None, Some(source)) => write!(f, "{error}: {source}"),
        (None, None) => write!(f, "{error}"),
    }
}

/// The Postgres error inside a pool's, if there is one.
pub(crate) fn postgres_error(error: &PoolError) -> Option<&tokio_postgres::Error> {
    match error {
        PoolError::Backend(error) => Some(error),
        PoolError::PostCreateHook(HookError::Backend(error)) => Some(error),
        _ => None,
    }
}
