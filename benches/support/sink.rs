//! Highwater with the ready table sink.

use highwater::{Handler, Table, TableSink};

use super::payments::Payment;

const COLUMNS: [&str; 3] = ["merchant_id", "tx_id", "score"];

/// A row per payment, by plain COPY.
pub(crate) fn append() -> impl Handler {
    into(Table::append("scores", COLUMNS))
}

/// The last payment per key.
pub(crate) fn upsert() -> impl Handler {
    into(Table::upsert("scores", COLUMNS))
}

/// The first payment per key.
pub(crate) fn insert_ignore() -> impl Handler {
    into(Table::insert_ignore("scores", COLUMNS))
}

fn into(table: Table) -> impl Handler {
    let table = table.source_partition("source_partition").source_offset("source_offset");
    TableSink::new(table, |record, rows| {
        let payment: Payment<'_> = record.json()?;
        rows.push((payment.merchant_id, payment.tx_id, payment.score()))
    })
}
