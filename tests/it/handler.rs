//! What handlers do wrong, and bad data: one partition halts, with a text that helps; nothing is lost or doubled; the
//! others go on.

mod blocking;
mod misdeeds;
mod narrowing;
mod slow;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use highwater::{Batch, HandlerError, Tx};

use crate::support::Fault;

/// Does something wrong whenever it is given the record at `offset` of `partition`, after everything was written.
pub(crate) struct Bad {
    partition: i32,
    offset: i64,
    misdeed: Misdeed,
}

/// What is wrong.
enum Misdeed {
    /// Runs a statement of its own and passes its error on.
    Sql(&'static str),
    /// As `Sql`, in one simple query.
    Batch(&'static str),
    /// Runs a statement, then never ends.
    Idle(&'static str),
    /// Runs a statement, does something else for half a second, and goes on.
    Pause(&'static str),
    /// Runs a statement that fails, and returns Ok.
    Swallow(&'static str),
    Panic,
    /// Never ends, without asking Postgres for anything.
    Hang,
    /// Rejects the record by name.
    Reject,
    /// Asks for a retry.
    Retry,
}

impl Fault for Bad {
    async fn after(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        let is_it = |partition: i32, offset: i64| (partition, offset) == (self.partition, self.offset);
        let Some(record) = batch.records().find(|record| is_it(record.partition(), record.offset())) else {
            return Ok(());
        };
        match self.misdeed {
            Misdeed::Sql(sql) => drop(tx.execute(sql, &[]).await?),
            Misdeed::Batch(sql) => tx.batch_execute(sql).await?,
            Misdeed::Idle(sql) => {
                tx.batch_execute(sql).await?;
                std::future::pending().await
            }
            Misdeed::Pause(sql) => {
                tx.batch_execute(sql).await?;
                tokio::time::sleep(Duration::from_millis(500)).await;
                tx.batch_execute("SELECT 1").await?;
            }
            Misdeed::Swallow(sql) => drop(tx.execute(sql, &[]).await.expect_err("it fails")),
            Misdeed::Panic => panic!("account 4711 has no branch"),
            Misdeed::Hang => std::future::pending().await,
            Misdeed::Reject => return Err(HandlerError::reject(&record, "the amount is negative")),
            Misdeed::Retry => return Err(HandlerError::retry("the score service answered 503")),
        }
        Ok(())
    }
}

/// Several at once.
impl Fault for Vec<Bad> {
    async fn after(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        for bad in self {
            bad.after(batch, tx).await?;
        }
        Ok(())
    }
}

/// Fails so many times, then never again.
struct Passing {
    left: AtomicU32,
    sql: &'static str,
}

impl Fault for Passing {
    async fn after(&self, _: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        let before = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if before.is_ok() {
            tx.batch_execute(self.sql).await?;
        }
        Ok(())
    }
}
