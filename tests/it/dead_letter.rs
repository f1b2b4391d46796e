//! Records that are rejected and stored in the transaction that steps over them (EO-9): rows and dead letters together are
//! what was produced, each once.

mod blameless;
mod classes;
mod command;
mod cost;
mod found;
mod handler;
mod kept;
mod killed;
mod limits;
mod minute;
pub(crate) mod parking;
mod redrive;
mod seen;
mod table;
mod topic;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use highwater::config::OnRejected;
use highwater::testing::{Oracle, Result};
use highwater::{Batch, HandlerError, PartialConfig, Record, Tx};

use crate::support::{Fault, TestResult, World};

/// The account of bad records.
const BAD: &str = "bad";

/// Rejects bad records by name, and counts how often it is called.
#[derive(Default)]
pub(crate) struct Named {
    calls: AtomicUsize,
}

impl Fault for Named {
    async fn before(&self, _: &Batch, _: &mut Tx) -> Result<(), HandlerError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn record(&self, record: &Record<'_>) -> Result<(), HandlerError> {
        if record.key() == Some(BAD.as_bytes()) {
            return Err(HandlerError::reject(record, format!("offset {} is no good", record.offset())));
        }
        Ok(())
    }
}

/// Counts how often it is called, and leaves it to the database to find what is bad.
#[derive(Default)]
struct Unnamed {
    calls: AtomicUsize,
}

impl Fault for Unnamed {
    async fn before(&self, _: &Batch, _: &mut Tx) -> Result<(), HandlerError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

impl World<'_> {
    /// Settings of a worker that sets rejected records aside.
    fn setting_aside(&self) -> PartialConfig {
        self.settings().on_rejected(OnRejected::DeadLetter)
    }

    /// Sends so many records to a partition, of which those at these places are bad.
    fn send_with_bad(&self, partition: i32, count: usize, bad: impl Fn(usize) -> bool) -> Result<()> {
        for n in 0..count {
            let account = if bad(n) { BAD.to_owned() } else { format!("p{partition}-a{}", n % 20) };
            let message = self.message(partition).key(account).value(format!("{}", n % 97 + 1));
            self.producer.send(message)?;
        }
        Ok(())
    }

    /// Rows and open dead letters together are what was produced, each once; the balances are those of the rows. Gives the
    /// dead letters' places.
    async fn verify_with_letters(&self) -> TestResult<BTreeSet<(i32, i64)>> {
        self.caught_up().await?;
        self.assert_ledger_gapless().await?;
        self.assert_rows_and_letters("sink").await?;
        let letters = self.letters().await?;
        self.assert_balances_but(&[&self.topic], &letters).await?;
        Ok(letters)
    }

    async fn assert_rows_and_letters(&self, table: &str) -> Result<()> {
        let client = self.database.client().await?;
        let both = format!(
            "SELECT source_partition, source_offset FROM {table} UNION ALL \
             SELECT partition, record_offset FROM highwater.dead_letter WHERE topic = '{}' AND state = 'open'",
            self.topic
        );
        Oracle::new(self.producer.ledger(), &self.topic).compare(&client, &both).await?.assert_exact();
        Ok(())
    }

    /// Where the open dead letters are.
    async fn letters(&self) -> Result<BTreeSet<(i32, i64)>> {
        let sql =
            "SELECT partition, record_offset FROM highwater.dead_letter WHERE topic = $1 AND state = 'open'";
        let rows = self.database.query(sql, &[&self.topic]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    async fn assert_no_letters(&self) -> Result<()> {
        assert_eq!(
            self.number("SELECT count(*) FROM highwater.dead_letter").await?,
            0,
            "nobody was to blame"
        );
        Ok(())
    }
}

/// How often a handler was called.
fn calls<F>(fault: &Arc<F>, of: impl Fn(&F) -> &AtomicUsize) -> usize {
    of(fault).load(Ordering::Relaxed)
}
