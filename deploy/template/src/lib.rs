//! What becomes of a record. In a library, so that `tests/` can reach it.

use highwater::{Batch, Handler, HandlerError, Table, Tx};
use serde::Deserialize;

/// A payment as it stands in the topic, borrowed from the record.
#[derive(Debug, Deserialize)]
struct Payment<'a> {
    tx_id: &'a str,
    amount_cents: i64,
}

/// Writes each payment as a row of `payments`: see `schema.sql`.
#[derive(Debug, Default)]
pub struct Payments;

impl Handler for Payments {
    async fn handle(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        let sql = "INSERT INTO payments (tx_id, amount_cents, source_partition, source_offset) VALUES ($1, $2, $3, $4)";
        for record in batch.records() {
            // A record that is not such JSON halts its partition, and names itself; the others go on.
            let payment: Payment<'_> = record.json()?;
            tx.execute(sql, &[&payment.tx_id, &payment.amount_cents, &record.partition(), &record.offset()])
                .await?;
        }
        // Rows and offsets are committed together after this, or neither is.
        Ok(())
    }

    /// Said once, so that `highwater offsets reset --undo-rows` knows what to delete, `highwater reconcile` what to count,
    /// and `highwater doctor` which rights to look at.
    fn writes(&self) -> Vec<Table> {
        let payments = Table::append("payments", ["tx_id", "amount_cents"]);
        vec![payments.source_partition("source_partition").source_offset("source_offset")]
    }
}
