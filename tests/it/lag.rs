//! `SELECT * FROM highwater.lag` against Kafka's own count, and against the records themselves: while a partition runs,
//! and while nobody holds it.

mod trouble;
mod twin;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use highwater::PartialConfig;
use highwater::testing::{Result, wait_until};

use crate::support::{Gate, PATIENCE, Process, Sink, TestResult, World};

/// How far an age may be off: it is compared after it was read.
const TOLERANCE: f64 = 3.0;
/// How old what is said may be, of a partition that somebody looks after: it is written again every half a minute.
const FRESH: f64 = 45.0;

/// What the views say of a partition.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) next_offset: i64,
    pub(crate) records: Option<i64>,
    pub(crate) seconds: Option<f64>,
    pub(crate) uncommitted: Option<i64>,
    pub(crate) uncommitted_seconds: Option<f64>,
    pub(crate) drain: Option<f64>,
    pub(crate) loss: Option<f64>,
    pub(crate) log_start: Option<i64>,
    pub(crate) log_end: Option<i64>,
    /// How old all this is, in seconds.
    pub(crate) age: Option<f64>,
    pub(crate) class: String,
    pub(crate) reason: Option<String>,
}

impl World<'_> {
    pub(crate) async fn seen(&self, partition: i32) -> Result<Option<Seen>> {
        let sql = "SELECT l.next_offset, l.lag_records, l.lag_seconds, l.uncommitted_records, l.uncommitted_seconds, \
                     l.drain_seconds, l.loss_seconds, l.log_start_offset, l.log_end_offset, \
                     extract(epoch FROM clock_timestamp() - l.as_of)::float8, h.class, h.reason \
                   FROM highwater.lag l JOIN highwater.health h USING (group_id, topic, partition) \
                   WHERE l.group_id = $1 AND l.topic = $2 AND l.partition = $3";
        let rows = self.database.query(sql, &[&self.group, &self.topic, &partition]).await?;
        Ok(rows.first().map(|row| Seen {
            next_offset: row.get(0),
            records: row.get(1),
            seconds: row.get(2),
            uncommitted: row.get(3),
            uncommitted_seconds: row.get(4),
            drain: row.get(5),
            loss: row.get(6),
            log_start: row.get(7),
            log_end: row.get(8),
            age: row.get(9),
            class: row.get(10),
            reason: row.get(11),
        }))
    }

    /// Waits until the views say something like it.
    pub(crate) async fn seen_as(
        &self,
        partition: i32,
        what: &str,
        fits: impl Fn(&Seen) -> bool,
    ) -> Result<Seen> {
        let mut last = None;
        let found = wait_until(&format!("partition {partition} is seen {what}"), PATIENCE, async || {
            last = self.seen(partition).await?;
            Ok(last.clone().filter(|seen| fits(seen)))
        })
        .await;
        if found.is_err() {
            println!("seen last: {last:?}");
        }
        found
    }

    /// How old the record at `offset` is, or the first after it, by reading it.
    async fn age(&self, partition: i32, offset: i64) -> Result<f64> {
        let records = self.kafka.read(&self.topic).await?;
        let next = records.iter().filter(|record| record.partition == partition && record.offset >= offset);
        let next = next.min_by_key(|record| record.offset).and_then(|record| record.timestamp_ms);
        Ok((now_ms() - next.expect("there is a record, and it has a time")) as f64 / 1_000.0)
    }

    /// So many records, made so many seconds ago as they say themselves.
    pub(crate) async fn produce_old(&self, partition: i32, count: usize, seconds: i64) -> Result<()> {
        for n in 0..count {
            let message = self.message(partition).key(format!("a{n}")).value("1");
            self.producer.send(message.timestamp_ms(now_ms() - seconds * 1_000))?;
        }
        self.producer.flush().await
    }
}

/// Samples every half a second, so that a test takes seconds.
pub(crate) fn sampled(settings: PartialConfig) -> PartialConfig {
    let settings = settings.max_processing_time(PATIENCE);
    settings.health_interval(Duration::from_millis(500)).health_window(Duration::from_secs(30))
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn near(found: Option<f64>, expected: f64) -> bool {
    found.is_some_and(|found| (found - expected).abs() < TOLERANCE)
}

#[tokio::test]
async fn lag_is_kafkas_own_count_but_for_what_is_not_committed() -> TestResult {
    let world = World::new("lag-twin", 1).await?;
    world.produce_old(0, 10, 5).await?;
    let gate = Arc::new(Gate::default());
    let worker =
        world.worker_with(sampled(world.settings()), Sink { fault: Arc::clone(&gate), ..Sink::default() });
    world.verify().await?;
    let caught_up = world.seen_as(0, "caught up", |seen| seen.records == Some(0)).await?;
    assert_eq!((caught_up.seconds, caught_up.uncommitted), (Some(0.0), Some(0)), "{caught_up:?}");
    assert_eq!((caught_up.drain, caught_up.loss), (Some(0.0), Some(f64::INFINITY)), "{caught_up:?}");

    // The handler waits: what is produced now is lag, as old as the first of it.
    gate.close();
    world.produce_old(0, 30, 100).await?;
    world.seen_as(0, "behind", |seen| seen.records == Some(30)).await?;
    let behind =
        world.seen_as(0, "behind, with an age", |seen| seen.seconds.is_some_and(|age| age > 0.0)).await?;
    let read = world.age(0, behind.next_offset).await?;
    assert!(near(behind.seconds, read) && read >= 100.0, "{behind:?} {read}");
    assert_eq!((behind.next_offset, behind.log_start, behind.log_end), (10, Some(0), Some(40)));
    let never = world.seen_as(0, "never drained", |seen| seen.drain == Some(f64::INFINITY)).await?;
    assert!(never.age.is_some_and(|age| age < FRESH), "{never:?}");

    // An open transaction is no lag, and told apart.
    let transaction = world.kafka.transactional_producer(&world.topic).await?;
    transaction.begin()?;
    for _ in 0..5 {
        transaction.send(world.message(0).key("a").value("1"))?;
    }
    transaction.flush().await?;
    let open = world.seen_as(0, "with a tail", |seen| seen.uncommitted == Some(5)).await?;
    assert_eq!((open.records, open.log_end), (Some(30), Some(45)), "{open:?}");
    world
        .seen_as(0, "with a tail that grows old", |seen| {
            seen.uncommitted_seconds.is_some_and(|age| age > 0.5)
        })
        .await?;
    transaction.commit().await?;
    // The marker is an offset of its own, for Kafka as for us; it is written a moment after the commit was answered.
    let closed = world.seen_as(0, "without a tail", |seen| seen.uncommitted == Some(0)).await?;
    let (_, end) = world.kafka.watermarks(&world.topic, 0).await?;
    assert_eq!((closed.records, end), (Some(36), 46), "{closed:?}");
    assert_eq!(closed.uncommitted_seconds, Some(0.0));

    // Dated in the future, the next record has no age: not 0, for it waits.
    gate.open();
    world.caught_up().await?;
    world.seen_as(0, "caught up again", |seen| seen.records == Some(0) && seen.seconds == Some(0.0)).await?;
    gate.close();
    world.produce_old(0, 1, -1_800).await?;
    let future = world.seen_as(0, "behind by one", |seen| seen.records == Some(1)).await?;
    assert_eq!(future.seconds, None, "{future:?}");
    gate.open();
    world.caught_up().await?;
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn what_nobody_holds_is_looked_after_by_a_worker() -> TestResult {
    let world = World::new("lag-held", 3).await?;
    world.produce(10).await?;
    let worker = world.worker_with(sampled(world.settings()), Sink::<()>::default());
    world.verify().await?;
    let (paused, halted) = (format!("{}:0", world.topic), format!("{}:1", world.topic));
    let why = ["--reason", "INC-812: wait for the index"];
    let orders =
        |verb, place| [&["partitions", verb, "--group", &world.group, "--topic", place], &why[..]].concat();
    world.highwater(&orders("pause", &paused)).await?.ended(0);
    world.highwater(&orders("halt", &halted)).await?.ended(0);
    world.produce_old(0, 7, 500).await?;
    world.produce_old(1, 3, 50).await?;

    let seen =
        world.seen_as(0, "seven behind", |seen| seen.records == Some(7) && seen.seconds.is_some()).await?;
    let read = world.age(0, seen.next_offset).await?;
    assert!(near(seen.seconds, read) && read >= 500.0, "{seen:?} {read}");
    assert!(seen.age.is_some_and(|age| age < FRESH), "{seen:?}");
    assert_eq!((&*seen.class, seen.reason.as_deref()), ("PAUSED", Some("INC-812: wait for the index")));
    assert_eq!(seen.drain, Some(f64::INFINITY), "nobody applies it");
    let seen =
        world.seen_as(1, "three behind", |seen| seen.records == Some(3) && seen.seconds.is_some()).await?;
    let read = world.age(1, seen.next_offset).await?;
    assert!(near(seen.seconds, read) && read >= 50.0, "{seen:?} {read}");
    assert_eq!((&*seen.class, seen.reason.as_deref()), ("HALTED", Some("INC-812: wait for the index")));
    let by = "SELECT count(*) FROM highwater.partition_survey s JOIN highwater.worker_status w ON w.owner = s.surveyed_by";
    assert_eq!(world.number(by).await?, 2);
    // Retention is a week here: Kafka may delete the next record of the first a while before that of the second.
    let loss = async |partition| -> Result<f64> {
        let known = |seen: &Seen| seen.loss.is_some_and(f64::is_finite);
        let seen = world.seen_as(partition, "with a loss to come", known).await?;
        Ok(seen.loss.unwrap_or_default())
    };
    let (first, second) = (loss(0).await?, loss(1).await?);
    let apart = world.age(0, 10).await? - world.age(1, 10).await?;
    assert!((second - first - apart).abs() < FRESH, "{first} {second} {apart}");

    // While workers come and go it is never unknown, and never 0.
    let other = world.worker_with(sampled(world.settings()), Sink::<()>::default());
    let mut readings = 0;
    let handed_over = async {
        let has_some = |status: &highwater::WorkerStatus| !status.partitions.is_empty();
        crate::support::watch::status_until(&other, "it has a partition", has_some).await?;
        worker.stop().await.map_err(|error| highwater::testing::Error::caused("stop", error))?;
        crate::support::watch::status_until(&other, "it has all of them", |status| {
            status.partitions.len() == 3
        })
        .await
        .map(drop)
    };
    let reading = async {
        loop {
            let seen = world.seen(0).await?.expect("it is there");
            assert_eq!((seen.records, &*seen.class), (Some(7), "PAUSED"), "{seen:?}");
            readings += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        done = handed_over => done?,
        broken = reading => {
            let broken: Result<()> = broken;
            broken?;
        }
    }
    println!("{readings} readings");
    world.highwater(&orders("resume", &paused)).await?.ended(0);
    world.highwater(&orders("retry", &halted)).await?.ended(0);
    world.verify_with_moves().await?;
    world.seen_as(0, "caught up", |seen| seen.records == Some(0) && seen.class == "OK").await?;
    other.stop().await?;
    Ok(())
}

#[tokio::test]
async fn the_dead_are_looked_after_by_the_living_and_then_the_view_grows_old() -> TestResult {
    let world = World::new("lag-dead", 2).await?;
    world.produce(10).await?;
    // For so long the group waits for the dead.
    let patient = [("HIGHWATER_SESSION_TIMEOUT", "40s")];
    let first = Process::start_with(&world, "first", "plain", &patient)?;
    let second = Process::start_with(&world, "second", "plain", &patient)?;
    world.held_by(2).await?;
    world.verify().await?;
    let dead = first.owner().await?;
    let sql = "SELECT partition FROM highwater.consumer_offset WHERE owner::text = $1";
    let partition: i32 = world.database.query(sql, &[&dead]).await?[0].get(0);
    first.child.kill()?;
    world.produce_old(partition, 5, 60).await?;
    let seen = world
        .seen_as(partition, "dead and behind", |seen| {
            seen.records == Some(5) && seen.seconds.is_some() && seen.class == "DEAD"
        })
        .await?;
    let read = world.age(partition, seen.next_offset).await?;
    assert!(near(seen.seconds, read) && read >= 60.0, "{seen:?} {read}");
    assert!(seen.reason.as_deref().is_some_and(|why| why.ends_with("and it is 5 behind")), "{seen:?}");

    second.child.kill()?;
    let old = world
        .seen_as(partition, "for the last time", |seen| {
            seen.age.is_some_and(|age| age > 4.0) && seen.class == "DEAD"
        })
        .await?;
    assert_eq!(old.records, Some(5), "the last word stands: {old:?}");
    let other = world.seen(1 - partition).await?.expect("it is there");
    assert!(other.class == "DEAD" && other.age.is_some_and(|age| age > 3.0), "{other:?}");
    Ok(())
}
