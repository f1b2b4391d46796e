//! From another consumer to Highwater, without losing or repeating a record (docs/adoption.md).

mod python;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use highwater::config::StartPolicy;
use highwater::testing::{Result, unique, wait_until};
use highwater::{ErrorKind, PartitionState, WorkerHandle};

use crate::support::foreign::{Foreign, OpenOffsets};
use crate::support::watch::{halted, halted_now, status_until};
use crate::support::{PATIENCE, Sink, TestResult, World};
use python::Python;

impl World<'_> {
    fn adopting(&self) -> WorkerHandle {
        self.worker_with(self.settings().start(StartPolicy::AdoptKafka), Sink::<()>::default())
    }

    /// Why a worker does not adopt.
    async fn refused(&self, kind: ErrorKind) -> String {
        let ended = tokio::time::timeout(PATIENCE, self.adopting().wait()).await;
        let error = ended.expect("it refuses instead of running").expect_err("it refuses");
        assert_eq!((error.kind(), error.exit_code()), (kind, 4), "{error}");
        error.to_string()
    }

    async fn decided(&self) -> Result<i64> {
        self.number("SELECT (SELECT count(*) FROM highwater.group_topic) + (SELECT count(*) FROM highwater.consumer_offset)")
            .await
    }

    /// What was adopted, by partition.
    async fn adopted(&self) -> Result<Vec<(i32, i64)>> {
        let events =
            "SELECT partition, to_offset FROM highwater.offset_event WHERE kind = 'adopt' ORDER BY 1";
        let events = self.database.query(events, &[]).await?;
        Ok(events.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// Waits until there are so many rows more than now.
    async fn more_rows(&self, count: i64) -> Result<()> {
        let rows = "SELECT count(*) FROM sink";
        let enough = self.number(rows).await? + count;
        wait_until("there are more rows", PATIENCE, async || {
            Ok((self.number(rows).await? >= enough).then_some(()))
        })
        .await
    }
}

/// Waits until the worker's partitions have halted because of a member, and all of them.
async fn halted_by(worker: &WorkerHandle, client_id: &str) -> Result<String> {
    let status = status_until(worker, "all its partitions have halted", |status| {
        let halted = |partition: &highwater::PartitionStatus| partition.state == PartitionState::Halted;
        !status.partitions.is_empty() && status.partitions.iter().all(halted)
    })
    .await?;
    let why = status.partitions[0].detail.clone().unwrap_or_default();
    assert!(why.contains(&format!("client.id {client_id}")) && why.contains("host 127.0.0.1"), "{why}");
    Ok(why)
}

#[tokio::test]
async fn core_adoption_goes_on_where_the_group_has_committed() -> TestResult {
    let world = World::new("adopt", 3).await?;
    for n in 0..20 {
        for partition in 0..2 {
            world.producer.send(world.message(partition).key("a").value(format!("{n}")))?;
        }
    }
    world.producer.flush().await?;
    // The third partition never had a record, and so nobody could commit anything there.
    world.commit_in_kafka(&[(0, 7), (1, 20)]).await?;
    let worker = world.adopting();
    world.caught_up().await?;
    assert_eq!(world.adopted().await?, [(0, 7), (1, 20), (2, 0)]);
    let policy = world.database.query("SELECT start_policy FROM highwater.group_topic", &[]).await?;
    assert_eq!(policy[0].get::<_, &str>(0), "adopt-kafka");
    worker.stop().await?;

    // Once: a worker that still has the setting adopts nothing again, whatever Kafka says by now.
    world.commit_in_kafka(&[(0, 3), (1, 3), (2, 0)]).await?;
    world.produce(5).await?;
    let worker = world.adopting();
    world.caught_up().await?;
    worker.stop().await?;
    let rows = "SELECT source_partition, min(source_offset), max(source_offset), count(*), count(DISTINCT source_offset) \
                FROM sink GROUP BY 1 ORDER BY 1";
    let rows = world.database.query(rows, &[]).await?;
    let rows: Vec<(i32, i64, i64, i64, i64)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4))).collect();
    assert_eq!(rows, [(0, 7, 24, 18, 18), (1, 20, 24, 5, 5), (2, 0, 4, 5, 5)]);
    Ok(())
}

#[tokio::test]
async fn core_a_partition_without_an_offset_is_named_with_the_command_that_commits_one() -> TestResult {
    let world = World::new("adopt-gap", 3).await?;
    world.produce(10).await?;
    world.commit_in_kafka(&[(0, 4)]).await?;
    let why = world.refused(ErrorKind::StartPolicy).await;
    assert!(why.contains("committed none for partitions 1,2"), "{why}");
    assert_eq!(world.decided().await?, 0);

    // The very command, without the tool's name and the server.
    let command = why.split("kafka-consumer-groups.sh").nth(1).expect("the command is in the text");
    let arguments: Vec<&str> = command.split_whitespace().skip(2).collect();
    let class = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
    let output = world.kafka.tool(class, &arguments).await?;
    assert_eq!(output.status, Some(0), "{output:?}");
    let worker = world.adopting();
    world.caught_up().await?;
    assert_eq!(world.adopted().await?, [(0, 4), (1, 0), (2, 0)]);
    assert_eq!(world.number("SELECT count(*) FROM sink").await?, 26);
    worker.stop().await?;
    Ok(())
}

/// An adoption that got no further than its rows, after which the old fleet was started once more: what that applied
/// must not be applied again.
#[tokio::test]
async fn an_adoption_before_the_old_consumer_had_ended_is_refused() -> TestResult {
    let world = World::new("adopt-early", 1).await?;
    world.produce(20).await?;
    world.commit_in_kafka(&[(0, 7)]).await?;
    let worker = world.adopting();
    world.caught_up().await?;
    worker.stop().await?;
    let rows = "SELECT count(*) FROM sink";
    let applied = world.number(rows).await?;
    // As if it had ended before its first claim.
    world.database.execute("UPDATE highwater.group_topic SET mirror_marked_at = NULL").await?;
    world.produce(20).await?;
    world.commit_in_kafka(&[(0, 35)]).await?;
    let error = tokio::time::timeout(PATIENCE, world.adopting().wait()).await?.expect_err("it is refused");
    assert_eq!((error.kind(), error.exit_code()), (ErrorKind::Guard, 4));
    assert!(error.to_string().contains("has committed offset 35 of partition 0 since"), "{error}");
    assert_eq!(world.number(rows).await?, applied);
    Ok(())
}

/// A committed offset that Kafka can't serve is the guard's to refuse, as for any position.
#[tokio::test]
async fn an_offset_out_of_range_is_adopted_and_halts() -> TestResult {
    let world = World::new("adopt-range", 2).await?;
    world.produce(10).await?;
    world.commit_in_kafka(&[(0, 99), (1, 4)]).await?;
    let worker = world.adopting();
    let why = halted(&worker, 0).await?;
    assert!(why.contains("offset 99") && why.contains("10"), "{why}");
    world.reached(1, 10).await?;
    assert_eq!(world.number("SELECT count(*) FROM sink").await?, 6);
    worker.stop().await?;
    Ok(())
}

/// What another program is about to commit is waited for where it is adopted, and nowhere else.
#[tokio::test]
async fn an_open_transaction_of_another_program_delays_only_the_adoption_of_its_topic() -> TestResult {
    let world = World::new("adopt-open", 1).await?;
    world.produce(20).await?;
    world.commit_in_kafka(&[(0, 4)]).await?;
    let other = unique("adopt-open-other");
    world.kafka.create_topic(&other, 1).await?;
    let (others, ours) =
        (OpenOffsets::begin(&world, &other, 3).await?, OpenOffsets::begin(&world, &world.topic, 7).await?);
    let worker = world.adopting();
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(world.decided().await?, 0, "nothing is adopted while it is about to change");
    ours.commit().await?;
    // And the other topic's is still open.
    world.caught_up().await?;
    assert_eq!(world.adopted().await?, [(0, 7)]);
    worker.stop().await?;
    others.commit().await?;
    Ok(())
}

/// No other policy takes a position from Kafka, and a mark that stands is seen below the one that is about to replace it.
#[tokio::test]
async fn an_open_transaction_of_another_program_does_not_delay_a_start() -> TestResult {
    let world = World::new("open-start", 1).await?;
    world.produce(20).await?;
    let ours = OpenOffsets::begin(&world, &world.topic, 7).await?;
    for _ in 0..2 {
        // The first resolves; the second finds the group known.
        let worker = world.worker(Sink::<()>::default());
        world.verify().await?;
        worker.stop().await?;
        world.produce(20).await?;
    }
    ours.commit().await?;
    Ok(())
}

/// Of either protocol, since the coordinator keeps two kinds of groups.
#[tokio::test]
async fn core_nothing_is_adopted_while_another_consumer_is_in_the_group() -> TestResult {
    for properties in [&[("partition.assignment.strategy", "range")], &[("group.protocol", "consumer")]] {
        let world = World::new("adopt-foreign", 1).await?;
        world.produce(10).await?;
        world.commit_in_kafka(&[(0, 4)]).await?;
        let foreign = Foreign::join(&world, properties)?;
        wait_until("it is in the group", PATIENCE, async || {
            let described = world.kafka.describe_group(&world.group).await?;
            Ok(described.raw.contains("legacy").then_some(()))
        })
        .await?;
        let why = world.refused(ErrorKind::ForeignMember).await;
        assert!(why.contains("client.id legacy, host 127.0.0.1"), "{properties:?}: {why}");
        assert!(why.contains("member legacy-") || properties[0].0 == "group.protocol", "{why}");
        assert_eq!(world.decided().await?, 0);

        drop(foreign);
        let worker = world.adopting();
        world.caught_up().await?;
        assert_eq!(world.number("SELECT count(*) FROM sink").await?, 6);
        worker.stop().await?;
    }
    Ok(())
}

/// Not only in a group that was adopted.
#[tokio::test]
async fn core_a_consumer_that_joins_later_halts_the_workers_until_it_leaves() -> TestResult {
    let world = World::new("joiner", 4).await?;
    world.produce(10).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    let foreign = Foreign::join(&world, &[("partition.assignment.strategy", "cooperative-sticky")])?;
    let why = halted_by(&worker, "legacy").await?;
    assert!(why.contains(&world.group) && why.contains("once it has left, this worker goes on"), "{why}");
    // Kafka gives it its share nevertheless; what stays here stands still.
    status_until(&worker, "the stranger has its share", |status| status.partitions.len() == 2).await?;
    let why = halted_by(&worker, "legacy").await?;
    let partition = halted_now(&worker)[0];
    world.reported(partition, &why).await?;
    world.produce(10).await?;
    assert!(worker.status().ready, "others would not fare better");

    drop(foreign);
    world.verify().await?;
    status_until(&worker, "all run again", |status| {
        status.partitions.len() == 4
            && status.partitions.iter().all(|partition| partition.state == PartitionState::Running)
    })
    .await?;
    worker.stop().await?;
    Ok(())
}

/// The migration of docs/adoption.md, and back, while records keep coming.
#[tokio::test]
async fn core_a_python_consumer_is_replaced_under_load_and_brought_back() -> TestResult {
    if python::lacks_python() {
        return Ok(());
    }
    let world = World::new("migration", 4).await?;
    let done = AtomicBool::new(false);
    let load = async {
        while !done.load(Ordering::Relaxed) {
            world.produce(25).await?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    };
    let migration = async {
        let migrated = migrate_and_back(&world).await;
        done.store(true, Ordering::Relaxed);
        migrated
    };
    let (loaded, migrated): (TestResult, TestResult) = tokio::join!(load, migration);
    migrated?;
    loaded?;

    // The Python consumer has the last word: what is left, then the oracle over the whole.
    let python = Python::start(&world, "python again", false)?;
    let produced = 4 * world.kafka.watermarks(&world.topic, 0).await?.1;
    wait_until("everything is applied", PATIENCE, async || {
        Ok((world.number("SELECT count(*) FROM sink").await? >= produced).then_some(()))
    })
    .await?;
    python.stop().await?;
    world.assert_exact(true).await?;
    Ok(())
}

async fn migrate_and_back(world: &World<'_>) -> TestResult {
    let python = Python::start(world, "python", false)?;
    python.assigned().await?;
    world.more_rows(200).await?;

    // Too early: it is still in the group.
    let why = world.refused(ErrorKind::ForeignMember).await;
    assert!(why.contains("client.id legacy-python"), "{why}");
    assert_eq!(world.decided().await?, 0);

    python.stop().await?;
    let worker = world.adopting();
    world.more_rows(200).await?;
    for (partition, offset) in world.adopted().await? {
        assert!(offset > 0, "partition {partition} was adopted at {offset}");
    }

    // Somebody starts an instance of the old fleet: nobody writes beside it, and when it is gone, all goes on.
    let forgotten = Python::start(world, "forgotten python", true)?;
    forgotten.assigned().await?;
    halted_by(&worker, "legacy-python").await?;
    forgotten.stop().await?;
    world.more_rows(200).await?;

    // The way back: a soft stop leaves the exact positions in Kafka.
    worker.stop().await?;
    Ok(())
}
