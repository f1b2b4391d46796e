//! The ready-made table sink: every payment into one table, the latest of each merchant into another, by binary `COPY`.
//!
//! Configured by the environment alone:
//!
//! ```text
//! psql "$OWNER_URL" -f examples/payments_table/schema.sql
//! HIGHWATER_BROKERS=localhost:9092 HIGHWATER_POSTGRES_URL=postgres://worker:secret@localhost/payments \
//! HIGHWATER_GROUP=payments-table-v1 HIGHWATER_TOPICS=payments.tx_events HIGHWATER_START=earliest \
//! cargo run --release --example payments_table
//! ```

use std::io::IsTerminal as _;
use std::process::ExitCode;

use highwater::{Table, TableSink, Worker};
use serde::Deserialize;

/// A payment as it stands in the topic, borrowed from the record. Records have the merchant's id as their key, so that
/// the payments of a merchant are in one partition, and in order.
#[derive(Debug, Deserialize)]
struct Payment<'a> {
    tx_id: &'a str,
    merchant_id: &'a str,
    amount_cents: i64,
}

/// Which tables there are, and which rows follow from a record.
fn sink() -> TableSink {
    let tables = [
        // A fact: appended. The table's unique key is not there to hide repeats, for there are none; a payment that is
        // told twice halts its partition, which somebody should know of.
        Table::append("payments", ["merchant_id", "tx_id", "amount_cents"])
            .source_partition("source_partition")
            .source_offset("source_offset")
            .source_timestamp("paid_at"),
        // State: the last one per merchant stays.
        Table::upsert("latest_payments", ["merchant_id", "tx_id", "amount_cents"]),
    ];
    TableSink::new(tables, |record, rows| {
        let payment: Payment<'_> = record.json()?;
        let row = (payment.merchant_id, payment.tx_id, payment.amount_cents);
        rows.of("payments").push(row)?;
        rows.of("latest_payments").push(row)
    })
}

#[tokio::main]
async fn main() -> ExitCode {
    // Colours are for people: not in a file, a pipe or a pod's log.
    let colours =
        std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let filter = std::env::var("HIGHWATER_LOG").unwrap_or("info".into());
    tracing_subscriber::fmt().with_ansi(colours).with_env_filter(filter).init();
    let ended = match Worker::builder().build(sink()) {
        Ok(worker) => worker.run().await,
        Err(error) => Err(error),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", error.report());
            ExitCode::from(error.exit_code())
        }
    }
}
