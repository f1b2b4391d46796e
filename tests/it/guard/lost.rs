//! Records that retention removed before they were applied, under each policy (EO-1, EO-6).

use std::time::Duration;

use highwater::config::OnOffsetLost;
use highwater::testing::wait_until;
use highwater::{PartialConfig, WorkerHandle};

use crate::support::watch::{halted, halted_now, status_until};
use crate::support::{PATIENCE, Sink, TestResult, World};

impl World<'_> {
    /// What was recorded as lost, by partition: from, to, actor and reason.
    async fn losses(&self) -> TestResult<Vec<(i32, i64, i64, String, String)>> {
        let sql = "SELECT partition, from_offset, to_offset, actor, reason FROM highwater.offset_event \
                   WHERE group_id = $1 AND topic = $2 AND kind = 'lost' ORDER BY partition, event_id";
        let rows = self.database.query(sql, &[&self.group, &self.topic]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4))).collect())
    }

    /// The rows of a partition are those of these ranges, once each.
    async fn assert_ranges(&self, partition: i32, ranges: &[std::ops::Range<i64>]) -> TestResult {
        let sql = "SELECT source_offset FROM sink WHERE source_partition = $1 ORDER BY 1";
        let rows = self.database.query(sql, &[&partition]).await?;
        let offsets: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(offsets, ranges.iter().cloned().flatten().collect::<Vec<_>>());
        Ok(())
    }

    /// 100 records per partition, of which 10 are applied, and the next 63 gone.
    async fn with_a_loss(hint: &str, partitions: i32) -> TestResult<World<'static>> {
        let world = World::new(hint, partitions).await?;
        world.produce(10).await?;
        let worker = world.worker(Sink::<()>::default());
        world.verify().await?;
        worker.stop().await?;
        world.produce(90).await?;
        for partition in 0..partitions {
            world.kafka.delete_records(&world.topic, partition, 73).await?;
        }
        Ok(world)
    }
}

#[tokio::test]
async fn core_earliest_steps_over_what_is_gone_and_records_it() -> TestResult {
    let world = World::with_a_loss("lost-earliest", 1).await?;
    let settings = world.settings().on_offset_lost(OnOffsetLost::Earliest);
    let worker = world.worker_with(settings, Sink::<()>::default());
    world.reached(0, 100).await?;
    let owner = worker.status().owner.expect("it runs");
    assert_eq!(
        world.losses().await?,
        [(
            0,
            10,
            73,
            format!("worker {owner}"),
            "on_offset_lost = earliest: Kafka holds offsets 73 to 100".into()
        )]
    );
    world.assert_ranges(0, &[0..10, 73..100]).await?;
    assert_eq!(halted_now(&worker), [] as [i32; 0]);
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn latest_goes_on_at_the_end_and_records_all_before_it() -> TestResult {
    let world = World::with_a_loss("lost-latest", 1).await?;
    let settings = world.settings().on_offset_lost(OnOffsetLost::Latest);
    let worker = world.worker_with(settings, Sink::<()>::default());
    world.reached(0, 100).await?;
    world.produce(5).await?;
    world.reached(0, 105).await?;
    let losses = world.losses().await?;
    assert_eq!(
        losses.iter().map(|(partition, from, to, ..)| (*partition, *from, *to)).collect::<Vec<_>>(),
        [(0, 10, 100)]
    );
    world.assert_ranges(0, &[0..10, 100..105]).await?;
    worker.stop().await?;
    Ok(())
}

/// Whoever claims a partition steps over it, under its claim: four partitions, three workers, four records.
#[tokio::test]
async fn workers_that_race_record_a_loss_once() -> TestResult {
    let world = World::with_a_loss("lost-race", 4).await?;
    let settings = world.settings().on_offset_lost(OnOffsetLost::Earliest);
    let workers: Vec<_> =
        (0..3).map(|_| world.worker_with(settings.clone(), Sink::<()>::default())).collect();
    for partition in 0..4 {
        world.reached(partition, 100).await?;
    }
    let losses = world.losses().await?;
    assert_eq!(
        losses.iter().map(|(partition, from, to, ..)| (*partition, *from, *to)).collect::<Vec<_>>(),
        (0..4).map(|partition| (partition, 10, 73)).collect::<Vec<_>>()
    );
    for partition in 0..4 {
        world.assert_ranges(partition, &[0..10, 73..100]).await?;
    }
    for worker in workers {
        worker.stop().await?;
    }
    Ok(())
}

/// A sink that takes nothing for a while, and a buffer that is soon full of these records.
const RECORDS: usize = 1_000;
const VALUE: usize = 4 << 10;
const BUDGET: usize = 1 << 20;

impl World<'_> {
    fn small(&self, on_lost: OnOffsetLost) -> PartialConfig {
        self.settings()
            .on_offset_lost(on_lost)
            .buffer_budget(BUDGET)
            .lock_timeout(Duration::from_millis(200))
            .retry_backoff_max(Duration::from_millis(500))
    }

    async fn produce_large(&self, count: usize) -> TestResult {
        let padding = "x".repeat(VALUE);
        let record = |partition: i32, n: usize| (format!("p{partition}"), format!("{} {padding}", n % 7));
        self.producer.fill(&self.topic, self.partitions, count, record).await?;
        Ok(())
    }

    /// A running partition whose sink stands still: what it has fetched fills the budget, what it has not is removed.
    async fn outrun(&self, on_lost: OnOffsetLost) -> TestResult<WorkerHandle> {
        let worker = self.worker_with(self.small(on_lost), Sink::<()>::default());
        status_until(&worker, "it is ready", |status| status.ready && status.partitions.len() == 1).await?;
        let other = self.database.client().await?;
        other.batch_execute("BEGIN; LOCK TABLE balances IN EXCLUSIVE MODE").await?;
        self.produce_large(RECORDS).await?;
        wait_until("the budget has paused it", PATIENCE, async || {
            let held: usize = worker.status().partitions.iter().map(|status| status.held_bytes).sum();
            Ok((held >= BUDGET / 2).then_some(()))
        })
        .await?;
        self.kafka.delete_records(&self.topic, 0, 900).await?;
        // Longer than the vigil's round: it sees that the first record is past what is applied.
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(halted_now(&worker), [] as [i32; 0], "what it holds may still be applied");
        other.batch_execute("COMMIT").await?;
        Ok(worker)
    }
}

/// What was fetched before retention removed it is applied; what was not halts, or is stepped over, from exactly there.
#[tokio::test]
async fn retention_that_passes_a_paused_partition_halts_it_behind_what_it_holds() -> TestResult {
    let world = World::new("outrun", 1).await?;
    let worker = world.outrun(OnOffsetLost::Halt).await?;
    let why = halted(&worker, 0).await?;
    let next = world.next_offset(0).await?.expect("a row");
    assert!(0 < next && next < 900, "{next}");
    assert!(why.contains(&format!("from offset {next}")) && why.contains("now at 900"), "{why}");
    world.assert_rows(0, next).await?;
    assert_eq!(world.losses().await?, []);
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn retention_that_passes_a_paused_partition_is_stepped_over_and_recorded() -> TestResult {
    let world = World::new("outrun-on", 1).await?;
    let worker = world.outrun(OnOffsetLost::Earliest).await?;
    world.reached(0, 1_000).await?;
    let losses = world.losses().await?;
    let [(0, from, 900, ..)] = losses[..] else { panic!("{losses:?}") };
    assert!(0 < from && from < 900, "{from}");
    world.assert_ranges(0, &[0..from, 900..1_000]).await?;
    assert_eq!(halted_now(&worker), [] as [i32; 0]);
    worker.stop().await?;
    Ok(())
}

/// All of it is in memory: nothing is lost, and nobody says so.
#[tokio::test]
async fn retention_that_passes_only_what_is_in_memory_loses_nothing() -> TestResult {
    let world = World::new("in-memory", 1).await?;
    let worker = world.worker_with(world.small(OnOffsetLost::Halt), Sink::<()>::default());
    status_until(&worker, "it is ready", |status| status.ready && status.partitions.len() == 1).await?;
    let other = world.database.client().await?;
    other.batch_execute("BEGIN; LOCK TABLE balances IN EXCLUSIVE MODE").await?;
    world.produce(100).await?;
    wait_until("all is fetched", PATIENCE, async || {
        Ok((worker.status().counters.fetched_records >= 100).then_some(()))
    })
    .await?;
    world.kafka.delete_records(&world.topic, 0, 73).await?;
    tokio::time::sleep(Duration::from_secs(4)).await;
    other.batch_execute("COMMIT").await?;
    world.reached(0, 100).await?;
    world.assert_rows(0, 100).await?;
    assert_eq!(halted_now(&worker), [] as [i32; 0]);
    assert_eq!(world.losses().await?, []);
    worker.stop().await?;
    Ok(())
}

/// No policy covers a log that ends before the offset, nor another topic: what is applied already is in excess there.
#[tokio::test]
async fn no_policy_steps_back() -> TestResult {
    let mut world = World::new("lost-back", 1).await?;
    world.produce(10).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    let settings = world.settings().on_offset_lost(OnOffsetLost::Earliest);
    world.database.execute("UPDATE highwater.consumer_offset SET next_offset = 25").await?;
    let worker = world.worker_with(settings.clone(), Sink::<()>::default());
    let why = halted(&worker, 0).await?;
    assert!(why.contains("truncated"), "{why}");
    worker.stop().await?;
    world.recreate_topic(90).await?;
    world.kafka.delete_records(&world.topic, 0, 73).await?;
    let worker = world.worker_with(settings, Sink::<()>::default());
    let why = halted(&worker, 0).await?;
    assert!(why.contains("created anew"), "{why}");
    worker.stop().await?;
    assert_eq!(world.losses().await?, []);
    assert_eq!(world.next_offset(0).await?, Some(25));
    world.assert_rows(0, 10).await?;
    Ok(())
}
