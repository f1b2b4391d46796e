//! Queries and other statements.

use std::sync::{Arc, Weak};

use deadpool_postgres::{ClientWrapper, StatementCache};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Column, Row};

use super::hidden::Hidden;
use super::{Tx, guard};
use crate::HandlerError;

/// So many texts stay prepared on one connection; one more, and all are prepared anew as they come.
const MAX_PREPARED: usize = 256;

/// What [`Tx::query`] and its relatives take: SQL text, or what [`Tx::prepare`] made of it.
///
/// Text is as fast as a prepared statement: it is prepared once per connection and kept (up to 256 texts), so pass
/// values as parameters and keep the number of different texts small.
pub trait Statement: sealed::Sealed + Sync {}

impl Statement for str {}
impl Statement for String {}
impl Statement for Prepared {}

mod sealed {
    pub trait Sealed {
        fn source(&self) -> Source<'_>;
    }

    #[derive(Debug)]
    pub enum Source<'a> {
        Text(&'a str),
        Prepared(&'a super::Prepared),
    }
}

use sealed::Source;

impl sealed::Sealed for str {
    fn source(&self) -> Source<'_> {
        Source::Text(self)
    }
}

impl sealed::Sealed for String {
    fn source(&self) -> Source<'_> {
        Source::Text(self)
    }
}

impl sealed::Sealed for Prepared {
    fn source(&self) -> Source<'_> {
        Source::Prepared(self)
    }
}

/// A statement prepared by [`Tx::prepare`]; good for this batch only.
#[derive(Debug, Clone)]
pub struct Prepared {
    statement: tokio_postgres::Statement,
    /// Names the connection: the name under which the server knows the statement may mean another one elsewhere.
    connection: Weak<StatementCache>,
}

impl Prepared {
    /// The types of the parameters.
    #[must_use]
    pub fn params(&self) -> &[Type] {
        self.statement.params()
    }

    /// The columns of the result; empty if it returns no rows.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        self.statement.columns()
    }
}

impl Tx {
    /// Runs a statement and returns its rows.
    ///
    /// # Errors
    /// [Fatal](HandlerError::fatal) if the text is refused before it is sent, or types do not match; else by the
    /// server's SQLSTATE.
    ///
    /// # Cancel safety
    /// A dropped future leaves open whether the statement ran; what it wrote is part of the transaction if it did.
    pub async fn query<S>(
        &self,
        statement: &S,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, HandlerError>
    where
        S: ?Sized + Statement,
    {
        let client = self.client()?;
        let statement = resolve(client, statement.source()).await?;
        Ok(client.query(&statement, &Hidden::new(params).params()).await?)
    }

    /// Runs a statement that returns exactly one row.
    ///
    /// # Errors
    /// As [`query`](Self::query); [fatal](HandlerError::fatal) if there is not exactly one row.
    ///
    /// # Cancel safety
    /// As [`query`](Self::query).
    pub async fn query_one<S>(
        &self,
        statement: &S,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, HandlerError>
    where
        S: ?Sized + Statement,
    {
        let client = self.client()?;
        let statement = resolve(client, statement.source()).await?;
        Ok(client.query_one(&statement, &Hidden::new(params).params()).await?)
    }

    /// Runs a statement that returns one row or none.
    ///
    /// # Errors
    /// As [`query`](Self::query); [fatal](HandlerError::fatal) if there are more rows.
    ///
    /// # Cancel safety
    /// As [`query`](Self::query).
    pub async fn query_opt<S>(
        &self,
        statement: &S,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Option<Row>, HandlerError>
    where
        S: ?Sized + Statement,
    {
        let client = self.client()?;
        let statement = resolve(client, statement.source()).await?;
        Ok(client.query_opt(&statement, &Hidden::new(params).params()).await?)
    }

    /// Runs a statement and returns the number of rows it touched.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    ///
    /// # Cancel safety
    /// As [`query`](Self::query).
    pub async fn execute<S>(&self, statement: &S, params: &[&(dyn ToSql + Sync)]) -> Result<u64, HandlerError>
    where
        S: ?Sized + Statement,
    {
        let client = self.client()?;
        let statement = resolve(client, statement.source()).await?;
        Ok(client.execute(&statement, &Hidden::new(params).params()).await?)
    }

    /// Runs several statements, separated by `;`, without parameters and results. Never put data into the text.
    ///
    /// # Errors
    /// As [`query`](Self::query). If one of the texts is refused, none is sent.
    ///
    /// # Cancel safety
    /// As [`query`](Self::query).
    pub async fn batch_execute(&self, text: &str) -> Result<(), HandlerError> {
        let client = self.client()?;
        check(text, guard::Via::Statement)?;
        Ok(client.batch_execute(text).await?)
    }

    /// Prepares a statement, or finds it prepared on this connection.
    ///
    /// Needed only to look at the types of parameters and columns: the other methods prepare text themselves.
    ///
    /// # Errors
    /// As [`query`](Self::query).
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn prepare(&self, text: &str) -> Result<Prepared, HandlerError> {
        let client = self.client()?;
        let statement = resolve(client, Source::Text(text)).await?;
        Ok(Prepared { statement, connection: Arc::downgrade(&client.statement_cache) })
    }
}

async fn resolve(
    client: &ClientWrapper,
    source: Source<'_>,
) -> Result<tokio_postgres::Statement, HandlerError> {
    match source {
        Source::Text(text) => {
            check(text, guard::Via::Statement)?;
            cached(client, text).await
        }
        Source::Prepared(prepared)
            if prepared.connection.as_ptr() == Arc::as_ptr(&client.statement_cache) =>
        {
            Ok(prepared.statement.clone())
        }
        Source::Prepared(_) => Err(HandlerError::fatal(
            "statement refused before it was sent: it was prepared on another connection; prepare it in each batch, \
             or pass the text, which is prepared once per connection",
        )),
    }
}

pub(super) async fn cached(
    client: &ClientWrapper,
    text: &str,
) -> Result<tokio_postgres::Statement, HandlerError> {
    if client.statement_cache.size() >= MAX_PREPARED {
        client.statement_cache.clear();
    }
    Ok(client.prepare_cached(text).await?)
}

pub(super) fn check(text: &str, via: guard::Via) -> Result<(), HandlerError> {
    guard::check(text, via).map_err(|refusal| HandlerError::fatal(refusal.to_string()))
}
