//! What stands still, and with which face (W3).

use std::time::Duration;

use highwater::config::{GroupProtocol, StartPolicy};
use highwater::testing::Proxy;
use highwater::testing::{Cluster, Kafka, Message, Oracle, Postgres, unique, wait_until};
use highwater::{PartialConfig, PartitionState, WorkerStatus};

use crate::support::watch::{halted_now, status_until};
use crate::support::{PATIENCE, Process, Setup, Sink, TestResult, World};

/// Half a minute instead of a quarter of an hour: what stands still is begun anew after five seconds, and by a new client
/// after fifteen.
pub(super) fn impatient(settings: PartialConfig) -> PartialConfig {
    settings.stuck_after(Some(Duration::from_secs(30)))
}

/// Settings of a worker that reaches the broker through a proxy.
pub(super) fn behind(world: &World<'_>, proxy: &Proxy) -> PartialConfig {
    world.settings().brokers(vec![proxy.address().to_string()])
}

fn detail(status: &WorkerStatus, partition: i32) -> &str {
    let found = status.partitions.iter().find(|status| status.partition == partition);
    found.and_then(|status| status.detail.as_deref()).unwrap_or_default()
}

/// A lone broker that its controller has fenced names no broker, and the clients forget it. They are made anew, and ask
/// the brokers of the configuration.
#[tokio::test]
async fn w3_2_brokers_that_were_forgotten_are_found_again() -> TestResult {
    let ((kafka, ways), postgres) = tokio::try_join!(Kafka::start_behind(1), Postgres::shared())?;
    let proxy = &ways[0];
    let setup = Setup { kafka: &kafka, postgres, partitions: 2, topic_config: &[] };
    let world = World::with("forgotten", setup).await?;
    world.produce(10).await?;
    let settings = behind(&world, proxy).kafka("topic.metadata.refresh.interval.ms", "200");
    let worker = world.worker_with(settings, Sink::<()>::default());
    world.caught_up().await?;
    let before = proxy.brokerless_answers();
    proxy.hide_brokers(true);
    // The client that reads asks five times a second, the one for questions every three.
    status_until(&worker, "nobody answers its questions", |status| {
        !status.ready && status.detail.as_deref().is_some_and(|detail| detail.contains("no broker answers"))
    })
    .await?;
    assert!(proxy.brokerless_answers() >= before + 2, "both were told of no broker");
    proxy.hide_brokers(false);
    world.produce(10).await?;
    world.verify().await?;
    assert_eq!(halted_now(&worker), [] as [i32; 0]);
    status_until(&worker, "it is ready again", |status| status.ready).await?;
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn w3_3_a_broker_that_stands_still_makes_the_worker_unready() -> TestResult {
    let (kafka, postgres) = tokio::try_join!(Kafka::start(), Postgres::shared())?;
    let setup = Setup { kafka: &kafka, postgres, partitions: 2, topic_config: &[] };
    let world = World::with("still", setup).await?;
    world.produce(10).await?;
    let worker = world.worker(Sink::<()>::default());
    world.caught_up().await?;
    status_until(&worker, "it is ready", |status| status.ready && status.detail.is_none()).await?;
    kafka.freeze().await?;
    let status = status_until(&worker, "it says that nobody answers", |status| {
        !status.ready && status.detail.as_deref().is_some_and(|detail| detail.contains("no broker answers"))
    })
    .await?;
    assert!(status.live, "a restart would not help");
    kafka.thaw().await?;
    world.produce(10).await?;
    world.verify().await?;
    status_until(&worker, "it is ready again", |status| status.ready && status.partitions.len() == 2).await?;
    worker.stop().await?;
    Ok(())
}

/// Postgres, too; and what depends on it is not blamed beside it.
#[tokio::test]
async fn w3_3_a_database_that_stands_still_makes_the_worker_unready() -> TestResult {
    let (kafka, postgres) = tokio::try_join!(Kafka::shared(), Postgres::start())?;
    let setup = Setup { kafka, postgres: &postgres, partitions: 2, topic_config: &[] };
    let world = World::with("still-db", setup).await?;
    world.produce(10).await?;
    let worker = world.worker(Sink::<()>::default());
    world.caught_up().await?;
    postgres.freeze().await?;
    status_until(&worker, "it says that Postgres does not answer", |status| {
        !status.ready
            && status.detail.as_deref().is_some_and(|detail| detail.contains("Postgres does not answer"))
    })
    .await?;
    postgres.thaw().await?;
    world.produce(10).await?;
    world.verify().await?;
    status_until(&worker, "it is ready again", |status| status.ready).await?;
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn w3_4_a_surplus_member_is_ready_under_the_consumer_protocol() -> TestResult {
    let world = World::new("surplus", 1).await?;
    world.produce(10).await?;
    // Without a session time-out: the broker decides.
    let settings = || {
        PartialConfig::default()
            .brokers(vec![world.kafka.bootstrap().to_owned()])
            .postgres_url(world.role.url.as_str())
            .group(world.group.clone())
            .topics(vec![world.topic.clone()])
            .program("it")
            .start(StartPolicy::Earliest)
            .group_protocol(GroupProtocol::Consumer)
    };
    let workers = [0, 1].map(|_| world.worker_with(settings(), Sink::<()>::default()));
    world.caught_up().await?;
    for worker in &workers {
        status_until(worker, "it is ready", |status| status.ready && status.detail.is_none()).await?;
    }
    let held: Vec<usize> = workers.iter().map(|worker| worker.status().partitions.len()).collect();
    assert_eq!(held.iter().sum::<usize>(), 1, "{held:?}");
    world.produce(10).await?;
    world.verify().await?;
    for worker in workers {
        worker.stop().await?;
    }
    Ok(())
}

/// … and under the classic one.
#[tokio::test]
async fn w3_4_a_surplus_member_is_ready_under_the_classic_protocol() -> TestResult {
    let world = World::new("surplus-classic", 1).await?;
    world.produce(10).await?;
    let workers = [0, 1].map(|_| world.worker(Sink::<()>::default()));
    world.caught_up().await?;
    for worker in &workers {
        status_until(worker, "it is ready", |status| status.ready).await?;
    }
    world.verify().await?;
    for worker in workers {
        worker.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn w3_5_an_open_transaction_upstream_is_named() -> TestResult {
    let world = World::new("dangling", 1).await?;
    world.produce(5).await?;
    let worker = world.worker_with(impatient(world.settings()), Sink::<()>::default());
    world.caught_up().await?;
    let transactional = world.kafka.transactional_producer(&unique("tx")).await?;
    transactional.begin()?;
    for n in 0..5 {
        transactional.send(Message::to(&world.topic).partition(0).key("t").value(format!("{n}")))?;
    }
    transactional.flush().await?;
    let status = status_until(&worker, "the transaction is named", |status| {
        detail(status, 0).contains("an open transaction upstream holds the last stable offset")
    })
    .await?;
    let partition = &status.partitions[0];
    assert!(detail(&status, 0).contains("at 5, and the log goes on to 10"), "{status:#?}");
    assert!(detail(&status, 0).contains("for more than"), "{status:#?}");
    assert_eq!((partition.last_stable_offset, partition.log_end_offset), (Some(5), Some(10)));
    assert_eq!((status.ready, partition.state), (true, PartitionState::Running), "{status:#?}");
    transactional.commit().await?;
    world.produce(5).await?;
    world.caught_up().await?;
    let status = status_until(&worker, "it is over", |status| detail(status, 0).is_empty()).await?;
    assert_eq!(status.partitions[0].next_record_timestamp_ms, None, "all is applied");
    let rows = "SELECT source_partition, source_offset FROM sink";
    let oracle = Oracle::new(world.producer.ledger(), &world.topic).and(transactional.ledger(), &world.topic);
    oracle.compare(&world.database.client().await?, rows).await?.assert_exact();
    world.assert_balances().await?;
    worker.stop().await?;
    Ok(())
}

/// One partition is without a leader when the worker starts: the other is claimed and read, and the pod is ready.
#[tokio::test]
async fn w3_6_a_leaderless_partition_is_named_and_holds_up_nothing() -> TestResult {
    let (cluster, postgres) = tokio::try_join!(Cluster::start(3), Postgres::shared())?;
    let kafka = cluster.kafka();
    let setup = Setup { kafka, postgres, partitions: 2, topic_config: &[] };
    let mut world = World::with("leaderless", setup).await?;
    world.topic = unique("led-by-one");
    let create = ["--create", "--topic", &world.topic, "--replica-assignment", "1,3"];
    let created = kafka.tool("org.apache.kafka.tools.TopicCommand", &create).await?;
    assert_eq!(created.status, Some(0), "{created:?}");
    cluster.led_by(&world.topic, 0, 1).await?;
    cluster.led_by(&world.topic, 1, 3).await?;
    world.produce(10).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;

    cluster.kill(3).await?;
    wait_until("partition 1 has no leader", PATIENCE, async || {
        Ok(cluster.leaderless(&world.topic, 1).await?.then_some(()))
    })
    .await?;
    let process = Process::start(&world, "worker", "plain")?;
    let told = |line: &str| line.contains("WARN") && line.contains("has no leader");
    process.child.wait_for_line(told, PATIENCE).await?;
    process.stop().await?;
    let worker = world.worker(Sink::<()>::default());
    let status = status_until(&worker, "it says that a leader is missing", |status| {
        status.ready && detail(status, 1).contains("has no leader")
    })
    .await?;
    assert!(
        status
            .partitions
            .iter()
            .any(|status| status.partition == 0 && status.state == PartitionState::Running)
    );
    for n in 0..10 {
        world.producer.send(world.message(0).key(format!("p0-a{n}")).value("7"))?;
    }
    world.producer.flush().await?;
    world.reached(0, 20).await?;
    cluster.revive(3).await?;
    cluster.led_by(&world.topic, 1, 3).await?;
    world.produce(10).await?;
    world.verify().await?;
    status_until(&worker, "nothing is said any more", |status| detail(status, 1).is_empty()).await?;
    worker.stop().await?;
    Ok(())
}
