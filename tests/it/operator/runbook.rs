//! The nights of docs/runbook.md, staged and typed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use highwater::config::OnRejected;
use highwater::testing::wait_until;
use highwater::{Batch, HandlerError, PartialConfig, Record, Tx};

use super::pages::type_part;
use crate::support::watch::halted;
use crate::support::{Fault, PATIENCE, Sink, TestResult, World};

impl World<'_> {
    /// As the page's program.
    fn detector(&self) -> PartialConfig {
        self.settings().program("fraud-detector")
    }

    async fn told(&self, heading: &str) -> TestResult {
        Ok(type_part(self, "runbook.md", Some(heading)).await?)
    }

    /// It is in the topic, behind everything else.
    async fn append(&self, partition: i32, value: &str) -> TestResult {
        self.producer.send(self.message(partition).key(format!("p{partition}-a1")).value(value))?;
        self.producer.flush().await?;
        Ok(())
    }

    async fn registered_sink(&self) -> TestResult {
        wait_until("the table is registered", PATIENCE, async || {
            Ok((self.number("SELECT count(*) FROM highwater.sink_table").await? > 0).then_some(()))
        })
        .await?;
        Ok(())
    }
}

/// Rejects what has no amount.
struct Strict;

impl Fault for Strict {
    fn record(&self, record: &Record<'_>) -> Result<(), HandlerError> {
        match record.value() {
            Some(b"none") => Err(HandlerError::reject(record, "the payment has no amount")),
            _ => Ok(()),
        }
    }
}

#[tokio::test]
async fn one_partition_lags() -> TestResult {
    let world = World::new("night-lag", 4).await?;
    world.produce(100).await?;
    let worker = world.worker_with(world.detector(), Sink { fault: Strict, rows_only: false });
    world.caught_up().await?;
    world.append(2, "none").await?;
    world.produce(20).await?;
    let why = halted(&worker, 2).await?;
    world.reported(2, &why).await?;
    for partition in [0, 1, 3] {
        world.reached(partition, 120).await?;
    }
    world.told("One partition lags").await?;
    world.verify_with_moves().await?;
    worker.stop().await?;
    Ok(())
}

/// Calls a function of the database that does not end.
struct Endless;

impl Fault for Endless {
    async fn before(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        if batch.records().any(|record| record.value() == Some(b"13")) {
            tx.execute("SELECT pg_sleep(3600) FROM switch WHERE is_on", &[]).await?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_sink_call_does_not_end() -> TestResult {
    let world = World::new("night-thrash", 2).await?;
    world
        .database
        .execute("CREATE TABLE switch AS SELECT true AS is_on; GRANT SELECT ON switch TO PUBLIC")
        .await?;
    world.append(0, "1").await?;
    world.append(1, "1").await?;
    let settings = world.detector().max_processing_time(Duration::from_millis(1_500));
    let worker = world.worker_with(settings, Sink { fault: Endless, rows_only: false });
    world.caught_up().await?;
    world.append(1, "13").await?;
    world.append(0, "1").await?;
    let why = halted(&worker, 1).await?;
    world.reported(1, &why).await?;
    world.reached(0, 2).await?;
    // It is mended; nothing is tried before it is told.
    world.database.execute("UPDATE switch SET is_on = false").await?;
    world.told("A sink call that does not end").await?;
    world.verify_with_moves().await?;
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_mistyped_group() -> TestResult {
    let world = World::new("night-typo", 1).await?;
    world.produce(10).await?;
    let worker = world.worker_with(world.detector(), Sink::<()>::default());
    world.verify().await?;
    world.told("A mistyped group").await?;
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn six_hours_again() -> TestResult {
    let world = World::new("night-replay", 2).await?;
    world
        .database
        .execute("CREATE INDEX sink_source ON sink (source_topic, source_partition, source_offset)")
        .await?;
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    for hours in [9, 3] {
        for number in 0..300 {
            for partition in 0..2 {
                let message = world.message(partition).key(format!("p{partition}-a{}", number % 20));
                world.producer.send(message.value("1").timestamp_ms(now - hours * 3_600_000 + number))?;
            }
        }
    }
    world.producer.flush().await?;
    let worker = world.worker_with(world.detector(), Sink { fault: (), rows_only: true });
    world.caught_up().await?;
    world.registered_sink().await?;
    world.told("Six hours again").await?;
    world.verify_rows_with_moves().await?;
    world.assert_exact(false).await?;
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn past_retention() -> TestResult {
    let world = World::new("night-retention", 2).await?;
    world.produce(100).await?;
    let worker = world.worker_with(world.detector(), Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    world.produce(100).await?;
    world.kafka.delete_records(&world.topic, 1, 150).await?;
    world.told("Past retention").await?;
    let worker = world.worker_with(world.detector(), Sink::<()>::default());
    world.caught_up().await?;
    worker.stop().await?;
    let lost = "SELECT count(*) FROM sink WHERE source_partition = 1";
    assert_eq!(world.number(lost).await?, 150, "what is left was applied");
    Ok(())
}

#[tokio::test]
async fn two_teams_on_one_group() -> TestResult {
    let world = World::new("night-teams", 2).await?;
    world.produce(10).await?;
    let worker = world.worker_with(world.detector(), Sink::<()>::default());
    world.verify().await?;
    world.told("Two teams on one group").await?;
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn records_that_nobody_can_apply() -> TestResult {
    let world = World::new("night-letters", 2).await?;
    world
        .database
        .execute("CREATE INDEX sink_source ON sink (source_topic, source_partition, source_offset)")
        .await?;
    world.produce(50).await?;
    let settings =
        world.detector().on_rejected(OnRejected::DeadLetter).dead_letter_max_in_a_row(Some(3_usize));
    let worker = world.worker_with(settings, Sink { fault: Strict, rows_only: true });
    world.caught_up().await?;
    world.registered_sink().await?;
    for value in ["none", "none", "none", "none", "5"] {
        world.append(1, value).await?;
    }
    let why = halted(&worker, 1).await?;
    world.reported(1, &why).await?;
    world.told("Records that nobody can apply").await?;
    worker.stop().await?;
    Ok(())
}
