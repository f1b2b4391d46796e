//! `COPY … FROM STDIN`.

use bytes::Bytes;
use tokio_postgres::CopyInSink;

use super::statement::{cached, check};
use super::{Tx, guard};
use crate::HandlerError;
use crate::sqlstate::Class;

impl Tx {
    /// Begins a `COPY … FROM STDIN`, the fastest way to write many rows. The sink takes bytes in the statement's
    /// format and must be [finished](CopyInSink::finish) before the next statement is sent; for
    /// `(FORMAT binary)` wrap it in a [`BinaryCopyInWriter`](tokio_postgres::binary_copy::BinaryCopyInWriter).
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
