//! Bad payments become dead letters, in the transaction that steps over them; once the program is mended, they are applied
//! after all.
//!
//! Configured by the environment alone:
//!
//! ```text
//! psql "$OWNER_URL" -f examples/payments_table/schema.sql
//! export HIGHWATER_BROKERS=localhost:9092 HIGHWATER_POSTGRES_URL=postgres://worker:secret@localhost/payments
//! HIGHWATER_GROUP=payments-v1 HIGHWATER_TOPICS=payments.tx_events HIGHWATER_START=earliest \
//! cargo run --release --example dead_letters
//! highwater dead-letters list --group payments-v1
//! ```
//!
//! It knows of no refunds: payments of less than a cent are rejected. Start it with `REFUNDS=1` instead, which is the program
//! as it is mended, and ask it for what is left:
//!
//! ```text
//! highwater dead-letters redrive --group payments-v1 --canary 1 --reason 'refunds, DEPLOY-812' --execute --wait
//! ```

use std::process::ExitCode;

use highwater::config::OnRejected;
use highwater::{Batch, Handler, HandlerError, Table, Tx, Worker};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct Payment<'a> {
    tx_id: &'a str,
    merchant_id: &'a str,
    amount_cents: i64,
}

struct Payments {
    takes_refunds: bool,
}

impl Handler for Payments {
    async fn handle(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        let (mut merchants, mut payments, mut cents) = (Vec::new(), Vec::new(), Vec::new());
        let (mut partitions, mut offsets) = (Vec::new(), Vec::new());
        for record in batch {
            let payment: Payment<'_> = match record.json() {
                Ok(payment) => payment,
                // No error for the batch: its good records are applied, and this one is stored, all in one transaction.
                Err(error) => {
                    tx.reject(&record, error.to_string())?;
                    continue;
                }
            };
            if payment.amount_cents < 1 && !self.takes_refunds {
                tx.reject(&record, "the payment is of less than a cent")?;
                continue;
            }
            merchants.push(payment.merchant_id);
            payments.push(payment.tx_id);
            cents.push(payment.amount_cents);
            partitions.push(record.partition());
            offsets.push(record.offset());
        }
        let insert = "INSERT INTO payments (merchant_id, tx_id, amount_cents, source_partition, source_offset) \
                      SELECT * FROM unnest($1::text[], $2::text[], $3::int8[], $4::int4[], $5::int8[])";
        tx.execute(insert, &[&merchants, &payments, &cents, &partitions, &offsets]).await?;
        Ok(())
    }

    /// Appended, and nothing else: so the order in which payments come is of no matter, and those that were rejected may be
    /// applied later.
    fn writes(&self) -> Vec<Table> {
        let payments = Table::append("payments", ["merchant_id", "tx_id", "amount_cents"]);
        vec![payments.source_partition("source_partition").source_offset("source_offset")]
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_env_filter(std::env::var("HIGHWATER_LOG").unwrap_or("info".into())).init();
    let payments = Payments { takes_refunds: std::env::var_os("REFUNDS").is_some() };
    let settings = highwater::PartialConfig::default().on_rejected(OnRejected::DeadLetter);
    let ended = match Worker::builder().settings(settings).build(payments) {
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
