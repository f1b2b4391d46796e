//! What a whole-list assignment of an eager group must not disturb.

use std::time::Duration;

use highwater::config::Assignor;
use highwater::testing::wait_until;

use crate::support::watch::{halted_now, status_until};
use crate::support::{PATIENCE, Sink, TestResult, World};

const BUDGET: usize = 1 << 20;
/// Twice the budget, per partition.
const RECORDS: usize = 500;
const VALUE: usize = 4 << 10;
/// A record in memory is a little more than its key and value.
const RECORD: usize = VALUE + 512;

async fn produce(world: &World<'_>) -> TestResult {
    let padding = "x".repeat(VALUE);
    let record = |partition: i32, n: usize| (format!("p{partition}"), format!("{} {padding}", n % 7));
    world.producer.fill(&world.topic, world.partitions, RECORDS, record).await?;
    Ok(())
}

/// A claim that succeeds late restarts the partitions that run: they go on under their old claims, miss nothing, and
/// one that the budget has paused stays paused, until it is resumed.
#[tokio::test]
async fn core_a_late_claim_leaves_running_and_paused_partitions_as_they_are() -> TestResult {
    let world = World::new("late", 3).await?;
    let settings = || {
        world
            .settings()
            .assignor(Assignor::Range)
            .buffer_budget(BUDGET)
            .lock_timeout(Duration::from_millis(200))
            .retry_backoff_max(Duration::from_secs(1))
    };
    // The rows exist afterwards.
    let first = world.worker_with(settings(), Sink::<()>::default());
    status_until(&first, "it is ready", |status| status.ready && status.partitions.len() == 3).await?;
    first.stop().await?;

    world
        .database
        .execute("UPDATE highwater.consumer_offset SET paused_reason = 'late' WHERE partition = 1")
        .await?;
    let worker = world.worker_with(settings(), Sink::<()>::default());
    status_until(&worker, "two of three run", |status| {
        status.partitions.iter().filter(|partition| partition.next_offset.is_some()).count() == 2
    })
    .await?;
    let before = world.owners().await?;
    let other = world.database.client().await?;
    other
        .batch_execute("BEGIN; SELECT 1 FROM highwater.consumer_offset WHERE partition = 0 FOR UPDATE")
        .await?;
    produce(&world).await?;
    let end = i64::try_from(RECORDS).expect("it fits");
    world.reached(2, end).await?;
    let stalled = worker.status().partitions[0].held_bytes;
    assert!(stalled > 0, "what the stalled partition has fetched waits");

    // The late claim: a whole list while partition 2 is at its end and partition 0 is paused.
    world
        .database
        .execute("UPDATE highwater.consumer_offset SET paused_reason = NULL WHERE partition = 1")
        .await?;
    world.reached(1, end).await?;
    let mut most = 0;
    produce(&world).await?;
    wait_until("the partitions that are free are at their ends", PATIENCE, async || {
        most = most.max(worker.status().partitions.iter().map(|status| status.held_bytes).sum());
        for partition in [1, 2] {
            if world.next_offset(partition).await?.unwrap_or_default() < 2 * end {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
    .await?;
    assert!(most <= BUDGET + 3 * RECORD, "{most} bytes were held of {BUDGET}");
    assert_eq!(world.next_offset(0).await?, Some(0));
    let after = world.owners().await?;
    for partition in [0, 2] {
        assert_eq!(before[&partition], after[&partition], "partition {partition} goes on under its claim");
    }
    assert_eq!(halted_now(&worker), [] as [i32; 0]);

    other.batch_execute("COMMIT").await?;
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}
