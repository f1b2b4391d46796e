//! Adds payments to running balances.

use std::collections::BTreeMap;

use highwater::{Batch, HandlerError, Tx};
use serde::Deserialize;

/// What of a payment matters here.
#[derive(Debug, Deserialize)]
struct Payment<'a> {
    account: &'a str,
    amount_cents: i64,
}

/// Adds the batch to the balances.
pub(crate) async fn write(batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
    // One row per account, sorted: two workers that update the same accounts lock them in the same order.
    let mut totals: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for record in batch.records() {
        let payment: Payment = record.json()?;
        let (cents, payments) = totals.entry(payment.account).or_default();
        *cents += payment.amount_cents;
        *payments += 1;
    }
    let (accounts, sums): (Vec<&str>, Vec<(i64, i64)>) = totals.into_iter().unzip();
    let (cents, payments): (Vec<i64>, Vec<i64>) = sums.into_iter().unzip();
    let add = "INSERT INTO account_balances AS a (account, balance_cents, payments) \
               SELECT * FROM unnest($1::text[], $2::int8[], $3::int8[]) \
               ON CONFLICT (account) DO UPDATE SET balance_cents = a.balance_cents + excluded.balance_cents, \
                 payments = a.payments + excluded.payments";
    tx.execute(add, &[&accounts, &cents, &payments]).await?;
    Ok(())
}

/// Keeps what the batch added, payment by payment, with where it comes from.
#[allow(dead_code)] // of the programs that include this file, one does so
pub(crate) async fn keep(batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
    let (mut accounts, mut cents, mut partitions, mut offsets) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for record in batch.records() {
        let payment: Payment = record.json()?;
        accounts.push(payment.account);
        cents.push(payment.amount_cents);
        partitions.push(record.partition());
        offsets.push(record.offset());
    }
    let insert =
        "INSERT INTO kept_payments SELECT * FROM unnest($1::text[], $2::int8[], $3::int4[], $4::int8[])";
    tx.execute(insert, &[&accounts, &cents, &partitions, &offsets]).await?;
    Ok(())
}
