//! `COPY … FROM STDIN`.

use bytes::Bytes;
use tokio_postgres::types::ToSql;
use tokio_postgres::{CopyInSink, Row};

use super::statement::{cached, check};
use super::{Tx, guard};
use crate::HandlerError;
use crate::verdict::Class;

impl Tx {
    /// Begins a `COPY … FROM STDIN`, the fastest way to write many rows. The sink takes bytes in the statement's
    /// format and must be [finished](CopyInSink::finish) before the next statement is sent; for
    /// `(FORMAT binary)` there is [`copy_in_binary`](Self::copy_in_binary).
    ///
    /// # Errors
    /// As [`query`](Self::query). If the server refuses the COPY as such (no such table or column, no right to
    /// insert), the connection is lost with it, whatever savepoints there are: return the error. Errors in the data
    /// come from the sink, and can be undone with a savepoint.
    ///
    /// # Cancel safety
    /// A dropped future leaves the connection unusable: the batch is rolled back. A sink dropped unfinished aborts
    /// the COPY, and so the transaction or the savepoint around it.
    pub async fn copy_in(&mut self, sql: &str) -> Result<CopyInSink<Bytes>, HandlerError> {
        let client = self.client()?;
        check(sql, guard::Via::CopyIn)?;
        let statement = cached(client, sql).await?;
        // Until the server's answer is known to be "go on": see `check_in_step`. In force if the future is dropped.
        self.broken = Some(Class::RetryThenHalt);
        self.copied = true;
        match self.raw().copy_in(&statement).await {
            Ok(sink) => {
                self.broken = None;
                Ok(sink)
            }
            Err(error) => {
                let error = HandlerError::from(error).discarding();
                self.break_with(&error);
                Err(error)
            }
        }
    }
}

/// What [`Tx::copy_in_behind`] sends before its `COPY`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ahead<'a> {
    pub(crate) lock: &'a str,
    pub(crate) query: &'a str,
    pub(crate) parameters: &'a [&'a (dyn ToSql + Sync)],
}

impl Tx {
    /// As [`copy_in`](Self::copy_in), in one round trip with a statement that locks and a query whose answer comes
    /// before any row is sent. For texts of our own: they are not checked.
    pub(crate) async fn copy_in_behind(
        &mut self,
        ahead: Ahead<'_>,
        copy: &str,
    ) -> Result<(Vec<Row>, CopyInSink<Bytes>), HandlerError> {
        let client = self.client()?;
        // Whatever has to be prepared is prepared first: a request that follows the COPY's is not answered before the
        // COPY ends, and so must not be needed for it to begin.
        let lock = cached(client, ahead.lock).await?;
        let query = cached(client, ahead.query).await?;
        let copy = cached(client, copy).await?;
        self.broken = Some(Class::RetryThenHalt);
        self.copied = true;
        let client = self.raw();
        let (locked, rows, sink) = tokio::join!(
            client.execute(&lock, &[]),
            client.query(&query, ahead.parameters),
            client.copy_in(&copy),
        );
        // The first error is the cause of the others.
        let begun = locked.and_then(|_| Ok((rows?, sink?)));
        match begun {
            Ok(begun) => {
                self.broken = None;
                Ok(begun)
            }
            Err(error) => {
                let error = HandlerError::from(error).discarding();
                self.break_with(&error);
                Err(error)
            }
        }
    }
}
