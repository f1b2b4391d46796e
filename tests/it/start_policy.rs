//! Where a group begins, and what it refuses to guess.

use std::time::{Duration, UNIX_EPOCH};

use highwater::config::StartPolicy;
use highwater::testing::{Kafka, Postgres, wait_until};
use highwater::{ErrorKind, PartitionState, Phase};

use crate::support::watch::status_until;
use crate::support::{PATIENCE, Setup, Sink, TestResult, World};

const DECIDED: &str = "SELECT count(*) FROM highwater.group_topic";

#[tokio::test]
async fn core_policy_fail_refuses_before_it_joins_and_names_near_misses() -> TestResult {
    let world = World::new("fail", 1).await?;
    world.produce(5).await?;
    let known = world.worker(Sink::<()>::default());
    world.verify().await?;
    known.stop().await?;

    let mistyped = format!("{}x", world.group);
    let settings = world.settings().group(mistyped.clone()).start(StartPolicy::Fail);
    let error = world.worker_with(settings, Sink::<()>::default()).wait().await.expect_err("it refuses");
    assert_eq!((error.kind(), error.exit_code()), (ErrorKind::StartPolicy, 4));
    let text = error.to_string();
    assert!(text.contains(&format!("did you mean {}?", world.group)), "{text}");
    assert!(text.contains(&mistyped) && text.contains(&world.topic), "{text}");
    assert_eq!(world.number(DECIDED).await?, 1, "nothing was recorded for the mistyped group");
    let described = world.kafka.describe_group(&mistyped).await;
    assert!(described.is_err() || described.is_ok_and(|group| group.rows.is_empty()), "it never joined");

    // The group that is known needs no policy.
    world.produce(5).await?;
    let settings = world.settings().start(StartPolicy::Fail);
    let known = world.worker_with(settings, Sink::<()>::default());
    world.verify().await?;
    known.stop().await?;
    Ok(())
}

/// A group that only Kafka knows is a neighbour, too; and this one has another consumer's offsets to take over.
#[tokio::test]
async fn policy_fail_names_the_groups_of_kafka() -> TestResult {
    let world = World::new("fail-kafka", 1).await?;
    world.produce(5).await?;
    world.commit_in_kafka(&[(0, 3)]).await?;
    let fail = world.settings().start(StartPolicy::Fail);
    let error = world.worker_with(fail.clone(), Sink::<()>::default()).wait().await.expect_err("it refuses");
    assert!(error.to_string().contains("HIGHWATER_START=adopt-kafka takes them over"), "{error}");
    let mistyped = fail.group(format!("{}x", world.group));
    let error = world.worker_with(mistyped, Sink::<()>::default()).wait().await.expect_err("it refuses");
    let text = error.to_string();
    assert!(text.contains(&format!("Kafka knows {}", world.group)) && !text.contains("adopt"), "{text}");
    assert_eq!(world.number(DECIDED).await?, 0);
    Ok(())
}

#[tokio::test]
async fn core_latest_begins_at_the_end_once_and_is_recorded() -> TestResult {
    let world = World::new("latest", 2).await?;
    world.produce(30).await?;
    let latest = world.settings().start(StartPolicy::Latest);
    let worker = world.worker_with(latest.clone(), Sink::<()>::default());
    status_until(&worker, "it is ready", |status| status.ready && status.partitions.len() == 2).await?;
    let policy =
        world.database.query("SELECT start_policy, partition_count FROM highwater.group_topic", &[]).await?;
    assert_eq!((policy[0].get(0), policy[0].get(1)), ("latest", 2));
    assert_eq!(world.number("SELECT count(*) FROM sink").await?, 0);
    worker.stop().await?;

    // While nobody runs, and under any other policy: what comes is not skipped, what was skipped does not come.
    world.produce(10).await?;
    let worker = world.worker_with(latest, Sink::<()>::default());
    world.caught_up().await?;
    worker.stop().await?;
    world.produce(10).await?;
    let worker = world.worker(Sink::<()>::default());
    world.caught_up().await?;
    worker.stop().await?;
    let rows = "SELECT source_partition, min(source_offset), max(source_offset), count(*), \
                count(DISTINCT source_offset) FROM sink GROUP BY 1 ORDER BY 1";
    for row in world.database.query(rows, &[]).await? {
        let (first, last, count, distinct): (i64, i64, i64, i64) =
            (row.get(1), row.get(2), row.get(3), row.get(4));
        assert_eq!((first, last, count, distinct), (30, 49, 20, 20));
    }
    Ok(())
}

/// In each partition the first record that is not older, and the end where there is none.
#[tokio::test]
async fn core_a_timestamp_is_resolved_for_each_partition() -> TestResult {
    const T: i64 = 1_777_086_000_000;
    // The records are older than the broker keeps them by default.
    let (kafka, postgres) = tokio::try_join!(Kafka::shared(), Postgres::shared())?;
    let setup = Setup { kafka, postgres, partitions: 3, topic_config: &[("retention.ms", "-1")] };
    let world = World::with("timestamp", setup).await?;
    let send = |partition: i32, timestamp_ms: i64| {
        let message = world.message(partition).key(format!("p{partition}")).value("1");
        world.producer.send(message.timestamp_ms(timestamp_ms))
    };
    for n in 0..10 {
        // Offset 6 is the first that is not older; behind it an older one, which is read nevertheless.
        send(0, if n == 8 { T - 5_000 } else { T - 6_000 + n * 1_000 })?;
        send(1, T - 1_000 - n)?;
    }
    world.producer.flush().await?;
    let policy = StartPolicy::Timestamp(UNIX_EPOCH + Duration::from_millis(T.unsigned_abs()));
    let worker = world.worker_with(world.settings().start(policy), Sink::<()>::default());
    world.caught_up().await?;
    worker.stop().await?;
    let decided = world.database.query("SELECT start_policy FROM highwater.group_topic", &[]).await?;
    assert_eq!(decided[0].get::<_, &str>(0), "timestamp:2026-04-25T03:00:00Z");

    // Resolved once: what comes later is read, be it older than the instant.
    for partition in 0..3 {
        send(partition, T - 1)?;
    }
    world.producer.flush().await?;
    let worker = world.worker(Sink::<()>::default());
    world.caught_up().await?;
    worker.stop().await?;
    let rows = "SELECT source_partition, source_offset FROM sink ORDER BY 1, 2";
    let rows = world.database.query(rows, &[]).await?;
    let rows: Vec<(i32, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(rows, [(0, 6), (0, 7), (0, 8), (0, 9), (0, 10), (1, 10), (2, 0)]);
    Ok(())
}

/// EO-4: between the decision and the claim there may be an hour and many records.
#[tokio::test]
async fn a_claim_long_after_the_decision_begins_where_that_was_made() -> TestResult {
    let world = World::new("later", 2).await?;
    world.produce(10).await?;
    let hold = "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS \
                $$ BEGIN NEW.paused_reason := 'held by the test'; RETURN NEW; END $$; \
                CREATE TRIGGER hold BEFORE INSERT ON highwater.consumer_offset FOR EACH ROW EXECUTE FUNCTION hold()";
    world.database.execute(hold).await?;
    let latest = world.settings().start(StartPolicy::Latest);
    let worker = world.worker_with(latest, Sink::<()>::default());
    status_until(&worker, "it claims", |status| status.partitions.len() == 2).await?;
    world.produce(20).await?;
    assert!(worker.status().partitions.iter().all(|partition| partition.state == PartitionState::Claiming));
    world.database.execute("UPDATE highwater.consumer_offset SET paused_reason = NULL").await?;
    world.caught_up().await?;
    let rows = "SELECT source_partition, min(source_offset), count(DISTINCT source_offset), count(*) FROM sink GROUP BY 1";
    for row in world.database.query(rows, &[]).await? {
        assert_eq!((row.get::<_, i64>(1), row.get::<_, i64>(2), row.get::<_, i64>(3)), (10, 20, 20));
    }
    assert_eq!(world.number("SELECT count(*) FROM sink").await?, 40);
    worker.stop().await?;
    Ok(())
}

/// Both read different ends; one of them decides, for both and for all partitions.
#[tokio::test]
async fn core_two_first_workers_resolve_the_start_once() -> TestResult {
    let world = World::new("race", 4).await?;
    world.produce(10).await?;
    let other = world.database.client().await?;
    // Both have read the ends and wait to write, when more records come.
    other.batch_execute("BEGIN; LOCK TABLE highwater.group_topic IN SHARE ROW EXCLUSIVE MODE").await?;
    let settings = world.settings().start(StartPolicy::Latest);
    let first = world.worker_with(settings.clone(), Sink::<()>::default());
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted \
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let wait_for = async |sessions: i64| {
        wait_until("the workers wait", PATIENCE, async || {
            Ok((world.number(waiting).await? >= sessions).then_some(()))
        })
        .await
    };
    wait_for(1).await?;
    world.produce(10).await?;
    let second = world.worker_with(settings, Sink::<()>::default());
    wait_for(2).await?;
    other.batch_execute("COMMIT").await?;

    let both = "SELECT count(DISTINCT owner) FROM highwater.consumer_offset";
    wait_until("both have partitions", PATIENCE, async || Ok((world.number(both).await? == 2).then_some(())))
        .await?;
    world.caught_up().await?;
    let events = "SELECT partition, to_offset FROM highwater.offset_event WHERE kind = 'start' ORDER BY 1";
    let events = world.database.query(events, &[]).await?;
    let events: Vec<(i32, i64)> = events.iter().map(|row| (row.get(0), row.get(1))).collect();
    let start = events[0].1;
    assert!(start == 10 || start == 20, "{events:?}");
    assert_eq!(events, (0..4).map(|partition| (partition, start)).collect::<Vec<_>>());
    let expected = 4 * (20 - start);
    assert_eq!(world.number("SELECT count(*) FROM sink").await?, expected);
    assert_eq!(
        world.number("SELECT count(DISTINCT (source_partition, source_offset)) FROM sink").await?,
        expected
    );
    first.stop().await?;
    second.stop().await?;
    Ok(())
}

#[tokio::test]
async fn added_partitions_start_at_their_beginning_whatever_the_policy() -> TestResult {
    let mut world = World::new("grow", 2).await?;
    world.produce(10).await?;
    let settings =
        world.settings().start(StartPolicy::Latest).kafka("topic.metadata.refresh.interval.ms", "500");
    let worker = world.worker_with(settings, Sink::<()>::default());
    status_until(&worker, "it is ready", |status| status.ready && status.partitions.len() == 2).await?;
    world.kafka.add_partitions(&world.topic, 4).await?;
    // Before the group can have noticed: these must not be missed. A new producer, for the old one has not.
    world.producer = world.kafka.producer()?;
    for partition in 2..4 {
        for n in 0..10 {
            world.producer.send(world.message(partition).key("new").value(format!("{n}")))?;
        }
    }
    world.producer.flush().await?;
    world.partitions = 4;
    world.caught_up().await?;
    let counts = "SELECT source_partition, count(*) FROM sink GROUP BY 1 ORDER BY 1";
    let counts = world.database.query(counts, &[]).await?;
    let counts: Vec<(i32, i64)> = counts.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(counts, [(2, 10), (3, 10)]);
    world.assert_exact(false).await?;
    assert_eq!(world.number("SELECT partition_count::int8 FROM highwater.group_topic").await?, 4);
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn another_program_under_the_same_group_is_refused() -> TestResult {
    let world = World::new("program", 1).await?;
    world.produce(5).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    let settings = world.settings().program("another");
    let error = world.worker_with(settings, Sink::<()>::default()).wait().await.expect_err("it is refused");
    assert_eq!((error.kind(), error.exit_code()), (ErrorKind::StartPolicy, 4));
    assert!(error.to_string().contains("belongs to program it, but this is another"), "{error}");
    let live = "SELECT count(*) FROM highwater.worker_status WHERE stopped_at IS NULL";
    assert_eq!(world.number(live).await?, 1, "nobody counts it as a worker");
    world.produce(5).await?;
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn core_an_unknown_topic_is_an_error_after_a_while() -> TestResult {
    let world = World::new("unknown", 1).await?;
    let topic = format!("{}_mistyped", world.topic);
    let settings =
        world.settings().topics(vec![topic.clone()]).unknown_topic_timeout(Duration::from_millis(500));
    let error = world.worker_with(settings, Sink::<()>::default()).wait().await.expect_err("there is none");
    assert_eq!((error.kind(), error.exit_code()), (ErrorKind::UnknownTopic, 2));
    let text = error.to_string();
    assert!(text.contains(&topic) && text.contains(&format!("did you mean {}", world.topic)), "{text}");
    assert_eq!(world.number(DECIDED).await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_topic_that_comes_late_is_waited_for() -> TestResult {
    let mut world = World::new("late", 1).await?;
    world.topic = format!("{}_late", world.topic);
    let worker = world.worker(Sink::<()>::default());
    status_until(&worker, "it has begun", |status| status.owner.is_some()).await?;
    let heartbeat = "SELECT count(*) FROM highwater.worker_status";
    wait_until("it beats", PATIENCE, async || Ok((world.number(heartbeat).await? == 1).then_some(())))
        .await?;
    assert_eq!((worker.status().phase, worker.status().ready), (Phase::Starting, false));
    world.kafka.create_topic(&world.topic, 1).await?;
    world.produce(10).await?;
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

/// EO-4, EO-8: what `__consumer_offsets` holds for the group is never a position, be it ahead or behind.
#[tokio::test]
async fn core_offsets_in_kafka_are_never_a_position() -> TestResult {
    let world = World::new("nonsense", 2).await?;
    world.produce(50).await?;
    world.commit_in_kafka(&[(0, 37), (1, 37)]).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    for nonsense in [3, 1_000_000] {
        world.commit_in_kafka(&[(0, nonsense), (1, nonsense)]).await?;
        world.produce(50).await?;
        let worker = world.worker(Sink::<()>::default());
        world.verify().await?;
        worker.stop().await?;
        let end = world.next_offset(1).await?;
        let mirrored = world.kafka.committed(&world.group, &world.topic, 1).await?;
        assert_eq!(mirrored.map(|(offset, _)| offset), end, "the mirror has overwritten the nonsense");
    }
    Ok(())
}
