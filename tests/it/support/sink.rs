//! The sink of the tests: one row per record, and running balances.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater::{Batch, Handler, HandlerError, Record, Table, TableSink, Tx};

/// The tables. Nothing in them hides a repeat: no unique key, and a balance only ever adds.
pub(crate) const TABLES: &str = "
    CREATE TABLE sink (source_topic text NOT NULL, source_partition int NOT NULL, source_offset bigint NOT NULL);
    CREATE TABLE balances (account text PRIMARY KEY, balance bigint NOT NULL, payments bigint NOT NULL);";

/// What a test has the handler do beside its work.
pub(crate) trait Fault: Send + Sync + 'static {
    /// Called before anything is written.
    fn before(&self, _: &Batch, _: &mut Tx) -> impl Future<Output = Result<(), HandlerError>> + Send {
        async { Ok(()) }
    }

    /// Called for each record before the batch is written.
    fn record(&self, _: &Record<'_>) -> Result<(), HandlerError> {
        Ok(())
    }

    /// Called after everything was written.
    fn after(&self, _: &Batch, _: &mut Tx) -> impl Future<Output = Result<(), HandlerError>> + Send {
        async { Ok(()) }
    }
}

impl Fault for () {}

impl<F: Fault> Fault for Arc<F> {
    fn before(&self, batch: &Batch, tx: &mut Tx) -> impl Future<Output = Result<(), HandlerError>> + Send {
        F::before(self, batch, tx)
    }

    fn record(&self, record: &Record<'_>) -> Result<(), HandlerError> {
        F::record(self, record)
    }

    fn after(&self, batch: &Batch, tx: &mut Tx) -> impl Future<Output = Result<(), HandlerError>> + Send {
        F::after(self, batch, tx)
    }
}

/// Holds every batch while it is closed, as a sink call that hangs.
#[derive(Debug)]
pub(crate) struct Gate(tokio::sync::watch::Sender<bool>);

impl Default for Gate {
    fn default() -> Self {
        Self(tokio::sync::watch::Sender::new(true))
    }
}

impl Gate {
    pub(crate) fn close(&self) {
        self.0.send_replace(false);
    }

    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }
}

impl Fault for Gate {
    async fn before(&self, _: &Batch, _: &mut Tx) -> Result<(), HandlerError> {
        let _ = self.0.subscribe().wait_for(|open| *open).await;
        Ok(())
    }
}

/// Writes `sink` and `balances`. Key: account; value: amount, in decimal. A null key is the account `""`, a null
/// value the amount 0.
#[derive(Debug, Default)]
pub(crate) struct Sink<F = ()> {
    pub(crate) fault: F,
    /// Leaves `balances` out, for tests in which workers must not share rows.
    pub(crate) rows_only: bool,
}

impl<F: Fault> Handler for Sink<F> {
    async fn handle(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        self.fault.before(batch, tx).await?;
        for record in batch.records() {
            self.fault.record(&record)?;
        }
        let (mut topics, mut partitions, mut offsets) = (Vec::new(), Vec::new(), Vec::new());
        for record in batch.records() {
            topics.push(record.topic());
            partitions.push(record.partition());
            offsets.push(record.offset());
        }
        let insert = "INSERT INTO sink SELECT * FROM unnest($1::text[], $2::int4[], $3::int8[])";
        tx.execute(insert, &[&topics, &partitions, &offsets]).await?;
        if !self.rows_only {
            add_to_balances(batch, tx).await?;
        }
        self.fault.after(batch, tx).await
    }

    fn writes(&self) -> Vec<Table> {
        let sink = Table::append("sink", ["source_topic"])
            .source_topic("source_topic")
            .source_partition("source_partition")
            .source_offset("source_offset");
        let balances = Table::upsert("balances", ["account", "balance", "payments"]);
        if self.rows_only { vec![sink] } else { vec![sink, balances] }
    }
}

/// Adds each record's amount to its account: whatever is applied twice, or not at all, shows.
async fn add_to_balances(batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
    let mut totals: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for record in batch.records() {
        let (account, amount) = read(record.key(), record.value());
        let total = totals.entry(account).or_default();
        total.0 += amount;
        total.1 += 1;
    }
    let (accounts, sums): (Vec<String>, Vec<(i64, i64)>) = totals.into_iter().unzip();
    let (amounts, payments): (Vec<i64>, Vec<i64>) = sums.into_iter().unzip();
    let add = "INSERT INTO balances AS b SELECT * FROM unnest($1::text[], $2::int8[], $3::int8[]) \
               ON CONFLICT (account) DO UPDATE SET balance = b.balance + excluded.balance, \
                 payments = b.payments + excluded.payments";
    tx.execute(add, &[&accounts, &amounts, &payments]).await?;
    Ok(())
}

/// The same tables as [`Sink`]'s, but the rows come by a [`TableSink`], encoded ahead.
#[derive(Debug)]
pub(crate) struct Copied(TableSink);

impl Default for Copied {
    fn default() -> Self {
        let table = Table::append("sink", ["source_topic"])
            .source_partition("source_partition")
            .source_offset("source_offset");
        Self(TableSink::new(table, |record, rows| rows.push((record.topic(),))))
    }
}

impl Handler for Copied {
    fn prepare(&self, batch: &Batch) {
        self.0.prepare(batch);
    }

    async fn handle(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        self.0.handle(batch, tx).await?;
        add_to_balances(batch, tx).await
    }

    fn writes(&self) -> Vec<Table> {
        self.0.writes()
    }
}

/// Account and amount of a record.
pub(crate) fn read(key: Option<&[u8]>, value: Option<&[u8]>) -> (String, i64) {
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    let amount = text(value);
    // A long value (padding after a blank) still begins with its amount.
    (text(key), amount.split(' ').next().and_then(|amount| amount.parse().ok()).unwrap_or(0))
}
