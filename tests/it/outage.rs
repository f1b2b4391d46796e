//! Servers that are away, die, come back or stand still; and credentials that do not do.

use std::time::Duration;

use highwater::testing::{Kafka, Postgres, wait_until};
use highwater::{ErrorKind, PartitionState, Phase, WorkerHandle};

use crate::support::watch::{halted_now, status_until};
use crate::support::{PATIENCE, Process, Setup, Sink, TestResult, World};

/// Keeps producing while `outage` goes on.
async fn under_load(world: &World<'_>, outage: impl Future<Output = TestResult>) -> TestResult {
    let load = async {
        loop {
            // Not flushed: a broker that is away must not stop the load.
            for partition in 0..world.partitions {
                for n in 0..20 {
                    let message = world.message(partition).key(format!("p{partition}-a{}", n % 7));
                    world.producer.send(message.value(format!("{n}")))?;
                }
            }
            // No more than a busy machine can apply: what waits would come in batches as large as they may be.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        #[expect(unreachable_code, reason = "gives the block its type")]
        TestResult::Ok(())
    };
    tokio::select! {
        ended = outage => ended?,
        ended = load => return ended,
    }
    world.producer.flush().await?;
    Ok(())
}

/// Under load, until so many more records were applied.
async fn applies(worker: &WorkerHandle, more: u64) -> TestResult {
    let goal = worker.status().counters.applied_records + more;
    let applied = wait_until("more records are applied", PATIENCE, async || {
        Ok((worker.status().counters.applied_records >= goal).then_some(()))
    });
    applied.await.inspect_err(|_| eprintln!("{:#?}", worker.status()))?;
    Ok(())
}

#[tokio::test]
async fn core_a_wrong_password_ends_the_worker_at_once() -> TestResult {
    let mut world = World::new("password", 1).await?;
    let right = world.role.url.clone();
    world.role.url = right.replace(&world.role.password, "wrong");
    let ended = tokio::time::timeout(PATIENCE, world.worker(Sink::<()>::default()).wait()).await;
    let error = ended.expect("it is not retried for ever").expect_err("it is refused");
    assert_eq!((error.kind(), error.exit_code()), (ErrorKind::Authentication, 5), "{error:?}");
    assert!(!format!("{error:?}").contains("wrong"), "the password is in no text");

    let process = Process::start(&world, "refused", "plain")?;
    assert_eq!(process.child.wait(PATIENCE).await?, 5);
    let line = process.child.wait_for_line(|line| line.starts_with("error: "), PATIENCE).await?;
    assert!(line.contains("password authentication failed"), "{line}");
    Ok(())
}

#[tokio::test]
async fn core_the_workers_role_can_do_no_more_than_it_must() -> TestResult {
    let world = World::new("least", 1).await?;
    world.produce(10).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    let (client, connection) = tokio_postgres::connect(&world.role.url, tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    for forbidden in [
        "CREATE TABLE highwater.mine (a int)",
        "CREATE TABLE public.mine (a int)",
        "CREATE SCHEMA mine",
        "DROP TABLE highwater.claim_history",
        "ALTER TABLE highwater.consumer_offset ADD COLUMN a int",
        "TRUNCATE highwater.consumer_offset",
        "UPDATE highwater.meta SET version = 99",
        "UPDATE highwater.meta SET database_id = gen_random_uuid()",
        "DELETE FROM highwater.meta",
        "DELETE FROM highwater.consumer_offset",
        "DELETE FROM highwater.group_topic",
        "DELETE FROM highwater.dead_letter",
        "UPDATE highwater.claim_history SET end_offset = 0",
        "UPDATE highwater.offset_event SET reason = 'x'",
        "DELETE FROM highwater.offset_event",
        "DELETE FROM sink",
        "COPY sink TO PROGRAM 'true'",
        "CREATE ROLE mine",
    ] {
        let refused = client.batch_execute(forbidden).await;
        let code = refused.err().and_then(|error| error.code().map(|code| code.code().to_owned()));
        assert_eq!(code.as_deref(), Some("42501"), "{forbidden}");
    }
    Ok(())
}

/// Kafka away at the start, restarted, killed and frozen.
#[tokio::test]
#[ignore = "slow: cargo test --test it slow_ -- --ignored"]
async fn slow_a_broker_may_be_away_restart_die_and_stand_still() -> TestResult {
    let (kafka, postgres) = tokio::try_join!(Kafka::start(), Postgres::shared())?;
    let world =
        World::with("broker", Setup { kafka: &kafka, postgres, partitions: 3, topic_config: &[] }).await?;
    world.produce(50).await?;
    kafka.stop().await?;
    let settings = world.settings().batch_max_records(500_usize);
    let worker = world.worker_with(settings, Sink::<()>::default());
    let beats = "SELECT count(*) FROM highwater.worker_status";
    wait_until("it has reached Postgres", PATIENCE, async || {
        Ok((world.number(beats).await? == 1).then_some(()))
    })
    .await?;
    let status = worker.status();
    assert_eq!((status.phase, status.ready), (Phase::Starting, false), "{status:?}");
    kafka.restart().await?;
    world.verify().await?;

    under_load(&world, async {
        applies(&worker, 300).await?;
        kafka.restart().await?;
        applies(&worker, 300).await?;
        kafka.kill().await?;
        kafka.restart().await?;
        applies(&worker, 300).await?;
        kafka.freeze().await?;
        // Past the session time-out; nothing happens meanwhile that could be waited for.
        tokio::time::sleep(Duration::from_secs(7)).await;
        kafka.thaw().await?;
        applies(&worker, 300).await
    })
    .await?;
    world.verify().await?;
    assert_eq!(halted_now(&worker), [] as [i32; 0], "{:#?}", worker.status());
    status_until(&worker, "it is ready again", |status| status.ready).await?;
    worker.stop().await?;
    Ok(())
}

/// Postgres killed under load, down during a rebalance, and frozen.
#[tokio::test]
async fn postgres_may_die_be_away_in_a_rebalance_and_stand_still() -> TestResult {
    let (kafka, postgres) = tokio::try_join!(Kafka::shared(), Postgres::start())?;
    let world =
        World::with("postgres", Setup { kafka, postgres: &postgres, partitions: 4, topic_config: &[] })
            .await?;
    let settings = world
        .settings()
        .drain_deadline(Duration::from_secs(1))
        .max_processing_time(Duration::from_secs(4))
        .retry_backoff_max(Duration::from_secs(1))
        .single_record_timeouts(2_usize)
        .batch_max_records(50_usize);
    let first = world.worker_with(settings.clone(), Sink::<()>::default());
    let second = world.worker_with(settings.clone(), Sink::<()>::default());
    let two = |worker: &WorkerHandle| worker.status().partitions.len() == 2;
    wait_until("each has two partitions", PATIENCE, async || Ok((two(&first) && two(&second)).then_some(())))
        .await?;

    under_load(&world, async {
        applies(&first, 200).await?;
        postgres.kill().await?;
        postgres.restart().await?;
        applies(&first, 200).await?;

        // A rebalance while nothing can be claimed: the second leaves, and a third comes, which has to wait.
        postgres.kill().await?;
        second.abort().await;
        let status =
            status_until(&first, "it was given everything", |status| status.partitions.len() == 4).await?;
        assert!(
            !status.ready && status.partitions.iter().any(|status| status.state == PartitionState::Claiming)
        );
        let third = world.worker_with(settings.clone(), Sink::<()>::default());
        postgres.restart().await?;
        wait_until("each has two partitions", PATIENCE, async || {
            Ok((two(&first) && two(&third)).then_some(()))
        })
        .await?;
        applies(&first, 200).await?;
        applies(&third, 200).await?;

        // It stands still past `max_processing_time`: that is no record's fault.
        // Most of a batch's time is its COMMIT: given up there, its outcome is unknown.
        let given_up = || {
            let counters = first.status().counters;
            counters.retries + counters.unknown_outcomes
        };
        let before = given_up();
        postgres.freeze().await?;
        wait_until("a batch was given up", PATIENCE, async || Ok((given_up() > before).then_some(())))
            .await?;
        postgres.thaw().await?;
        applies(&first, 200).await?;
        applies(&third, 200).await?;
        assert_eq!((halted_now(&first), halted_now(&third)), (Vec::new(), Vec::new()));
        third.stop().await?;
        Ok(())
    })
    .await?;
    world.verify().await?;
    assert_eq!(halted_now(&first), [] as [i32; 0], "{:#?}", first.status());
    first.stop().await?;
    Ok(())
}

/// Stopped while Postgres is away: it ends in bounded time, and nothing is lost.
#[tokio::test]
async fn a_worker_stops_in_time_though_postgres_is_away() -> TestResult {
    let (kafka, postgres) = tokio::try_join!(Kafka::shared(), Postgres::start())?;
    let world =
        World::with("away", Setup { kafka, postgres: &postgres, partitions: 2, topic_config: &[] }).await?;
    world.produce(20).await?;
    let settings = world.settings().drain_deadline(Duration::from_secs(1));
    let worker = world.worker_with(settings.clone(), Sink::<()>::default());
    world.verify().await?;
    postgres.kill().await?;
    world.produce(20).await?;
    tokio::time::timeout(PATIENCE, worker.stop()).await.expect("it does not wait for the server")?;
    postgres.restart().await?;
    let worker = world.worker_with(settings, Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}
