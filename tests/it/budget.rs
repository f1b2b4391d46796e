//! Memory stays bounded, and one partition that stands still does not stop the others.

use std::time::{Duration, Instant};

use highwater::testing::wait_until;

use crate::support::watch::halted_now;
use crate::support::{PATIENCE, Sink, TestResult, World};

const BUDGET: usize = 1 << 20;
/// Four times the budget, per partition.
const RECORDS: usize = 1_000;
const VALUE: usize = 4 << 10;
/// A record in memory is a little more than its key and value.
const RECORD: usize = VALUE + 512;

async fn produce(world: &World<'_>) -> TestResult {
    let padding = "x".repeat(VALUE);
    let record = |partition: i32, n: usize| (format!("p{partition}"), format!("{} {padding}", n % 7));
    world.producer.fill(&world.topic, world.partitions, RECORDS, record).await?;
    Ok(())
}

fn waits_for(table: &str) -> String {
    format!(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database() \
         AND application_name LIKE 'highwater/%' AND query LIKE '%{table}%'"
    )
}

#[tokio::test]
async fn core_a_stalled_partition_holds_a_bounded_share_and_the_others_move_on() -> TestResult {
    let world = World::new("budget", 4).await?;
    let settings = world
        .settings()
        .buffer_budget(BUDGET)
        .lock_timeout(Duration::from_millis(200))
        .retry_backoff_max(Duration::from_secs(1));
    let worker = world.worker_with(settings, Sink::<()>::default());
    world.reached(0, 0).await?;
    crate::support::watch::status_until(&worker, "it is ready", |status| {
        status.ready && status.partitions.len() == 4
    })
    .await?;

    let other = world.database.client().await?;
    other
        .batch_execute("BEGIN; SELECT 1 FROM highwater.consumer_offset WHERE partition = 0 FOR UPDATE")
        .await?;
    produce(&world).await?;
    let mut most = 0;
    wait_until("the other partitions are at their ends", PATIENCE, async || {
        most = most.max(worker.status().partitions.iter().map(|status| status.held_bytes).sum());
        for partition in 1..4 {
            let next = world.next_offset(partition).await?.unwrap_or_default();
            if next < i64::try_from(RECORDS).expect("it fits") {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
    .await?;
    assert!(most > 0, "something was held");
    assert!(most <= BUDGET + 4 * RECORD, "{most} bytes were held of {BUDGET}");
    let stalled = worker.status().partitions[0].held_bytes;
    assert!(stalled > 0, "what the stalled partition has fetched waits");
    assert_eq!(world.next_offset(0).await?, Some(0));
    assert_eq!(halted_now(&worker), [] as [i32; 0]);

    other.batch_execute("COMMIT").await?;
    world.verify().await?;
    let held: usize = worker.status().partitions.iter().map(|status| status.held_bytes).sum();
    assert!(held <= BUDGET + 4 * RECORD);
    worker.stop().await?;
    Ok(())
}

/// Other sessions change rows of `consumer_offset` without touching the fence (an operator, a draining mark): the
/// compare-and-set waits, sees a new version of the row, and must neither miss nor accuse the handler.
#[tokio::test]
async fn harmless_updates_of_the_offset_rows_disturb_nobody() -> TestResult {
    let world = World::new("harmless", 2).await?;
    let worker = world.worker_with(world.settings().lanes(1_usize), Sink::<()>::default());
    world.reached(1, 0).await?;
    let other = world.database.client().await?;
    for round in 0..9 {
        other.batch_execute("BEGIN; UPDATE highwater.consumer_offset SET paused_reason = NULL").await?;
        world.produce(10).await?;
        wait_until("the worker waits for the rows", PATIENCE, async || {
            Ok((world.number(&waits_for("consumer_offset")).await? > 0).then_some(()))
        })
        .await?;
        other.batch_execute(if round % 3 == 0 { "ROLLBACK" } else { "COMMIT" }).await?;
        world.reached(0, 10 * (round + 1)).await?;
        world.reached(1, 10 * (round + 1)).await?;
    }
    world.verify().await?;
    assert_eq!(halted_now(&worker), [] as [i32; 0]);
    let status = worker.status();
    assert_eq!((status.counters.fenced, status.counters.unknown_outcomes), (0, 0), "{status:?}");
    worker.stop().await?;
    Ok(())
}

/// `max_records_per_second` is over all lanes. Only the lower bound of the time is asserted: a loaded machine may take
/// any more.
#[tokio::test]
async fn a_limit_of_records_a_second_is_kept() -> TestResult {
    let world = World::new("pace", 4).await?;
    world.produce(250).await?;
    let began = Instant::now();
    let settings = world.settings().lanes(2_usize).max_records_per_second(200_usize);
    let worker = world.worker_with(settings, Sink::<()>::default());
    let status = crate::support::watch::status_until(&worker, "all is applied", |status| {
        status.counters.applied_records >= 1_000
    })
    .await?;
    assert!(began.elapsed() > Duration::from_millis(4_700), "1,000 records in {:?}", began.elapsed());
    assert!(
        status.counters.commits >= 50,
        "evenly, and not all at once: {} commits",
        status.counters.commits
    );
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}
