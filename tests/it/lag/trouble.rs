//! Lag under trouble: while a partition stands halted, while a member comes, while one is killed and when all are gone, it
//! is Kafka's own count, and no reading says anything else.

use std::cell::Cell;
use std::time::Duration;

use highwater::testing::{ReadRecord, Result, wait_until};

use super::{near, now_ms};
use crate::support::served::Served;
use crate::support::{PATIENCE, Process, TestResult, World};

const PARTITIONS: i32 = 4;
/// This one halts, at a record of the account that role `rejecting` rejects.
const HALTED: i32 = 3;

/// How many records wait in each partition, and how many in the first that nobody may read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Behind {
    records: [i64; 4],
    tail: i64,
}

impl Behind {
    fn of(self, partition: i32) -> (i64, i64) {
        let records = usize::try_from(partition).map(|number| self.records[number]).unwrap_or_default();
        (records, if partition == 0 { self.tail } else { 0 })
    }
}

impl World<'_> {
    /// Waits until Kafka has each partition's position: from then on what it counts is up to date, while nothing moves.
    async fn mirrored(&self) -> Result<()> {
        for partition in 0..PARTITIONS {
            let position = self.next_offset(partition).await?;
            wait_until(&format!("Kafka has the position of partition {partition}"), PATIENCE, async || {
                let committed = self.kafka.committed(&self.group, &self.topic, partition).await?;
                Ok((committed.map(|(offset, _)| offset) == position).then_some(()))
            })
            .await?;
        }
        Ok(())
    }

    /// The view and Kafka's own tool say it, and the ages are those of the next records as they can be read.
    async fn says_as_kafka(&self, when: &str, behind: Behind) -> TestResult {
        let readable = self.kafka.read(&self.topic).await?;
        for partition in 0..PARTITIONS {
            let (records, tail) = behind.of(partition);
            let fits = |seen: &super::Seen| {
                (seen.records, seen.uncommitted) == (Some(records), Some(tail)) && seen.seconds.is_some()
            };
            let seen = self.seen_as(partition, &format!("{records} and {tail} behind, {when}"), fits).await?;
            let age = age(&readable, partition, seen.next_offset);
            assert!(near(seen.seconds, age), "{when}: {seen:?}, and the record is {age} s old");
        }
        let described = self.kafka.describe_group(&self.group).await?;
        let rows: Vec<_> = described.rows.iter().filter(|row| row.topic == self.topic).collect();
        assert_eq!(rows.len(), 4, "{when}: {}", described.raw);
        for row in rows {
            let seen = self.seen(row.partition).await?.expect("it is there");
            assert_eq!(row.current_offset, Some(seen.next_offset), "{when}: {}", described.raw);
            let (records, tail) = behind.of(row.partition);
            assert_eq!(row.lag, Some(records + tail), "{when}: {}", described.raw);
            assert_eq!((seen.records, seen.uncommitted), (Some(records), Some(tail)), "{when}: {seen:?}");
        }
        Ok(())
    }

    /// Looks as fast as it can while `work` runs: what is said then is right, and it is never unknown. How often it was
    /// looked.
    async fn never_wrong<T>(
        &self,
        behind: Behind,
        work: impl Future<Output = TestResult<T>>,
    ) -> TestResult<(T, usize)> {
        let readings = Cell::new(0);
        let looking = async {
            loop {
                for partition in 0..PARTITIONS {
                    let seen = self.seen(partition).await?.expect("a row is never away");
                    let (records, tail) = behind.of(partition);
                    assert_eq!(
                        (seen.records, seen.uncommitted),
                        (Some(records), Some(tail)),
                        "{partition}: {seen:?}"
                    );
                    assert!(seen.seconds.is_some() && seen.age.is_some(), "{partition}: {seen:?}");
                    readings.set(readings.get() + 1);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            done = work => Ok((done?, readings.get())),
            broken = looking => {
                let broken: TestResult<T> = broken;
                broken.map(|done| (done, 0))
            }
        }
    }
}

/// How old the record at `offset` is now, or the next after it.
#[expect(clippy::cast_precision_loss, reason = "milliseconds of some minutes")]
fn age(readable: &[ReadRecord], partition: i32, offset: i64) -> f64 {
    let next = readable.iter().filter(|record| record.partition == partition && record.offset >= offset);
    let next = next.min_by_key(|record| record.offset).and_then(|record| record.timestamp_ms);
    (now_ms() - next.expect("there is a record, and it has a time")) as f64 / 1_000.0
}

#[tokio::test]
async fn whoever_comes_halts_or_is_killed_it_is_kafkas_own_count() -> TestResult {
    let world = World::new("lag-trouble", PARTITIONS).await?;
    world.produce(10).await?;
    // A batch that waits is given back soon when the group shares anew.
    let hasty = [("HIGHWATER_DRAIN_DEADLINE", "1s")];
    let first = Process::start_with(&world, "first", "rejecting", &hasty)?;
    world.verify().await?;

    // One halts; of the others nothing can be written from now on.
    world.producer.send(world.message(HALTED).key("bad").value("1"))?;
    world.producer.flush().await?;
    world.reported_halt(HALTED).await?;
    world.mirrored().await?;
    let mut client = world.database.client().await?;
    let lock = client.transaction().await?;
    lock.batch_execute("LOCK TABLE sink IN SHARE MODE").await?;
    for (partition, count, seconds) in [(0, 7, 100), (1, 11, 40), (2, 13, 10), (HALTED, 5, 70)] {
        world.produce_old(partition, count, seconds).await?;
    }
    let mut behind = Behind { records: [7, 11, 13, 1 + 5], tail: 0 };
    world.says_as_kafka("with one worker, and a halt", behind).await?;
    let halted = world.seen(HALTED).await?.expect("it is there");
    assert_eq!(halted.class, "HALTED", "{halted:?}");

    // A rebalance, a kill, a take-over.
    let moved = async {
        let second = Process::start_with(&world, "second", "rejecting", &hasty)?;
        let owner = second.owner().await?;
        world.holds_something(&owner).await?;
        world.says_as_kafka("with two workers", behind).await?;
        first.child.kill()?;
        world.says_as_kafka("with one killed", behind).await?;
        wait_until("the other has taken everything over", PATIENCE, async || {
            // A claim ends with a halt.
            let mut owners = world.owners().await?;
            owners.remove(&HALTED);
            Ok(owners.values().all(|(holder, _)| holder.as_ref() == Some(&owner)).then_some(()))
        })
        .await?;
        world.says_as_kafka("after the take-over", behind).await?;
        TestResult::Ok(second)
    };
    let (second, readings) = world.never_wrong(behind, moved).await?;
    println!("{readings} readings");
    assert!(readings > 100, "{readings}");

    // Nobody is left but the exporter.
    second.child.kill()?;
    let served = Served::of("exporter", &world, &world.monitor().await?, &[]).await?;
    let (_, readings) =
        world.never_wrong(behind, world.says_as_kafka("with all workers dead", behind)).await?;
    println!("{readings} readings by the exporter's eyes");
    for partition in 0..3 {
        world.seen_as(partition, "dead", |seen| seen.class == "DEAD").await?;
    }
    world.produce_old(1, 2, 0).await?;
    behind.records[1] += 2;
    world.says_as_kafka("with all workers dead, and more to do", behind).await?;
    let transaction = world.kafka.transactional_producer(&world.topic).await?;
    transaction.begin()?;
    for _ in 0..5 {
        transaction.send(world.message(0).key("a").value("1"))?;
    }
    transaction.flush().await?;
    behind.tail = 5;
    world.says_as_kafka("with a transaction that is open", behind).await?;
    transaction.abort().await?;
    // What was aborted, and its marker, are places in the log, for Kafka as for us.
    behind = Behind { records: [7 + 5 + 1, 13, 13, 6], tail: 0 };
    world.says_as_kafka("with a transaction that was aborted", behind).await?;
    served.stop().await?;

    // And nothing of it costs a record.
    lock.rollback().await?;
    let third = Process::start(&world, "third", "plain")?;
    world.verify().await?;
    world.seen_as(HALTED, "caught up", |seen| seen.records == Some(0) && seen.seconds == Some(0.0)).await?;
    third.stop().await?;
    Ok(())
}
