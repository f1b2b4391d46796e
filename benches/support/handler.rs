//! Highwater with a handler as a user would write it: serde_json and a binary COPY.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use highwater::tokio_postgres::types::Type;
use highwater::{Batch, Handler, HandlerError, Tx};

use super::copy;
use super::payments::Payment;

/// Writes a row per payment.
#[derive(Debug)]
pub(crate) struct Scores {
    statement: String,
    sorted: bool,
    spent: Arc<Spent>,
}

/// Wall time inside of handlers, in nanoseconds, over all lanes.
#[derive(Debug, Default)]
pub(crate) struct Spent(AtomicU64);

impl Spent {
    pub(crate) fn total(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }

    fn add(&self, elapsed: Duration) {
        self.0.fetch_add(u64::try_from(elapsed.as_nanos()).unwrap_or(0), Ordering::Relaxed);
    }
}

impl Scores {
    /// Into a table like `scores`.
    pub(crate) fn into(table: &str) -> Self {
        Self { statement: copy::statement(table), sorted: false, spent: Arc::default() }
    }

    /// Has its rows sorted by the table's key.
    pub(crate) fn sorted(self) -> Self {
        Self { sorted: true, ..self }
    }

    /// How long it has been at work.
    pub(crate) fn spent(&self) -> Arc<Spent> {
        Arc::clone(&self.spent)
    }
}

impl Handler for Scores {
    async fn handle(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        let began = Instant::now();
        let types = [Type::TEXT, Type::TEXT, Type::FLOAT8, Type::INT4, Type::INT8];
        let mut rows = tx.copy_in_binary(&self.statement, &types).await?;
        if self.sorted {
            rows = rows.sorted_by(&[0, 1])?;
        }
        for record in batch.records() {
            let payment: Payment<'_> = record.json()?;
            let (score, partition, offset) = (payment.score(), record.partition(), record.offset());
            rows.write(&[&payment.merchant_id, &payment.tx_id, &score, &partition, &offset]).await?;
        }
        rows.finish().await?;
        self.spent.add(began.elapsed());
        Ok(())
    }
}

/// Writes nothing: what is left are the offsets.
#[derive(Debug)]
pub(crate) struct Nothing;

impl Handler for Nothing {
    async fn handle(&self, _: &Batch, _: &mut Tx) -> Result<(), HandlerError> {
        Ok(())
    }
}
