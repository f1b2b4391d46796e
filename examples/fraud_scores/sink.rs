//! Scores payments and writes the rows by binary `COPY`.

use highwater::tokio_postgres::types::Type;
use highwater::{Batch, HandlerError, Tx};
use serde::Deserialize;

/// A payment as it stands in the topic, borrowed from the record.
#[derive(Debug, Deserialize)]
pub(crate) struct Payment<'a> {
    tx_id: &'a str,
    merchant_id: &'a str,
    amount_cents: i64,
}

/// Writes one row per payment.
pub(crate) async fn write(batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
    // Decode first: a record that is no payment is rejected before anything was written.
    let mut rows = Vec::with_capacity(batch.len());
    for record in batch.records() {
        rows.push((record.json::<Payment>()?, record.partition(), record.offset()));
    }
    let columns = "merchant_id, tx_id, score, source_partition, source_offset";
    let types = [Type::TEXT, Type::TEXT, Type::FLOAT8, Type::INT4, Type::INT8];
    let copy = format!("COPY fraud_scores ({columns}) FROM STDIN (FORMAT binary)");
    let mut copy = tx.copy_in_binary(&copy, &types).await?;
    for (payment, partition, offset) in &rows {
        let score = score(payment);
        copy.write(&[&payment.merchant_id, &payment.tx_id, &score, partition, offset]).await?;
    }
    copy.finish().await?;
    Ok(())
}

/// A stand-in for the model: large amounts are suspicious.
fn score(payment: &Payment<'_>) -> f64 {
    let thousands = f64::from(i32::try_from(payment.amount_cents / 1_000).unwrap_or(i32::MAX));
    1.0 - 1.0 / (1.0 + thousands / 100.0)
}
