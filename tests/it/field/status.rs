//! The status is the present truth (W3.7, W3.8).

use std::time::Duration;

use highwater::config::Assignor;
use highwater::testing::{Result, wait_until};
use highwater::{HandlerError, PartialConfig, Record};

use crate::support::watch::{halted, status_until};
use crate::support::{Fault, PATIENCE, Sink, TestResult, World};

/// A row of `partition_status`: state, detail, owner, epoch; and the epoch of the row that it is about.
type Reported = (String, Option<String>, String, i64, i64);

impl World<'_> {
    async fn row_of(&self, partition: i32) -> Result<Option<Reported>> {
        let sql = "SELECT s.state, s.detail, s.owner::text, s.epoch, o.epoch FROM highwater.partition_status s \
                   JOIN highwater.consumer_offset o USING (group_id, topic, partition) \
                   WHERE group_id = $1 AND topic = $2 AND partition = $3";
        let rows = self.database.query(sql, &[&self.group, &self.topic, &partition]).await?;
        Ok(rows.first().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4))))
    }

    /// Waits until the row is of the present claim, and fits.
    async fn row_until(
        &self,
        partition: i32,
        what: &str,
        fits: impl Fn(&Reported) -> bool,
    ) -> Result<Reported> {
        wait_until(&format!("partition {partition} is reported {what}"), PATIENCE, async || {
            Ok(self.row_of(partition).await?.filter(|row| row.3 == row.4 && fits(row)))
        })
        .await
    }
}

/// Fails at one partition, with a text that no database takes.
struct Unspeakable(i32);

impl Fault for Unspeakable {
    fn record(&self, record: &Record<'_>) -> std::result::Result<(), HandlerError> {
        if record.partition() == self.0 {
            return Err(HandlerError::fatal(format!("bad \0 bell \u{7} {}", "ü".repeat(5_000))));
        }
        Ok(())
    }
}

#[tokio::test]
async fn w3_7_no_text_stops_the_report() -> TestResult {
    let world = World::new("unspeakable", 2).await?;
    world.produce(10).await?;
    let worker = world.worker(Sink { fault: Unspeakable(0), rows_only: false });
    halted(&worker, 0).await?;
    let detail = world.reported_halt(0).await?;
    assert!(detail.contains("bad \u{FFFD} bell \u{FFFD} ü"), "{detail}");
    assert!(detail.chars().count() <= 2_001 && detail.ends_with('…'), "{}", detail.len());
    world.row_until(1, "as running", |(state, ..)| state == "running").await?;
    wait_until("the worker says that it is ready", PATIENCE, async || {
        let sql = "SELECT count(*) FROM highwater.worker_status WHERE ready AND state = 'running'";
        Ok((world.number(sql).await? == 1).then_some(()))
    })
    .await?;
    world.reached(1, 10).await?;
    world.assert_consistent().await?;
    worker.stop().await?;
    Ok(())
}

/// Fails at everything.
struct Broken;

impl Fault for Broken {
    fn record(&self, _: &Record<'_>) -> std::result::Result<(), HandlerError> {
        Err(HandlerError::fatal("broken"))
    }
}

#[tokio::test]
async fn w3_8_a_halt_is_over_when_the_partition_has_moved_to_another() -> TestResult {
    let world = World::new("moved", 2).await?;
    world.produce(10).await?;
    let a = world.worker(Sink::<()>::default());
    for partition in 0..2 {
        world.row_until(partition, "as running on A", |(state, ..)| state == "running").await?;
    }
    world.verify().await?;
    let b = world.worker(Sink { fault: Broken, rows_only: false });
    let status = status_until(&b, "B has a partition", |status| !status.partitions.is_empty()).await?;
    let moved = status.partitions[0].partition;
    world.produce(10).await?;
    halted(&b, moved).await?;
    let owner = b.status().owner.expect("it has begun").to_string();
    let halt = world.row_until(moved, "as halted", |(state, ..)| state == "halted").await?;
    assert_eq!(halt.2, owner);
    b.stop().await?;

    let owner = a.status().owner.expect("it has begun").to_string();
    let running = world
        .row_until(moved, "as running on A again", |(state, _, by, ..)| state == "running" && *by == owner);
    let (_, detail, _, epoch, _) = running.await?;
    assert!(detail.is_none() && epoch > halt.3, "{detail:?}");
    world.verify().await?;
    a.stop().await?;
    Ok(())
}

/// An eager group gives everything out anew whenever somebody comes or goes.
fn eager(world: &World<'_>) -> PartialConfig {
    world.settings().assignor(Some(Assignor::Range)).retry_backoff_max(Duration::from_millis(500))
}

#[tokio::test]
async fn w3_8_a_halt_under_a_new_claim_is_reported_anew() -> TestResult {
    let world = World::new("again", 1).await?;
    world.produce(10).await?;
    let broken = || Sink { fault: Broken, rows_only: false };
    let b = world.worker_with(eager(&world), broken());
    let owner = b.status().owner.map(|owner| owner.to_string());
    let why = halted(&b, 0).await?;
    let owner = owner.or(b.status().owner.map(|owner| owner.to_string())).expect("it has begun");
    let first = world.row_until(0, "as halted", |(state, ..)| state == "halted").await?;

    // Whoever of the two it is given to, it halts there, too; and then at B again.
    let c = world.worker_with(eager(&world), broken());
    wait_until("it was claimed anew", PATIENCE, async || {
        Ok(world.row_of(0).await?.filter(|row| row.4 > first.4))
    })
    .await?;
    c.stop().await?;
    let again = world
        .row_until(0, "as halted by B", |(state, _, by, epoch, _)| {
            state == "halted" && *by == owner && *epoch > first.3
        })
        .await?;
    assert_eq!(again.1.as_deref(), Some(&*why), "in the same words");
    world.assert_consistent().await?;
    b.stop().await?;
    Ok(())
}
