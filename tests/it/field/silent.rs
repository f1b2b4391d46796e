//! What does not answer: one leader, all brokers, or nobody of whom a topic was asked (W3). Of the end of a log that nobody
//! has answered for, the last word is no news.

use std::time::{Duration, Instant};

use highwater::config::StartPolicy;
use highwater::offsets::StatusOptions;
use highwater::testing::{Cluster, Kafka, Postgres, unique};
use highwater::{PartitionState, WorkerStatus};

use super::standing::behind;
use crate::support::foreign::Foreign;
use crate::support::watch::{halted_now, status_until};
use crate::support::{PATIENCE, Setup, Sink, TestResult, World};

fn detail(status: &WorkerStatus, partition: i32) -> &str {
    let found = status.partitions.iter().find(|status| status.partition == partition);
    found.and_then(|status| status.detail.as_deref()).unwrap_or_default()
}

/// The worker alone cannot reach one leader, with which it was caught up; producers do. The others' partitions are as well as
/// before, to the eye as well.
#[tokio::test]
async fn w3_7_a_leader_that_does_not_answer_is_named_and_its_lag_is_not_known() -> TestResult {
    let ((cluster, ways), postgres) = tokio::try_join!(Cluster::start_behind(3), Postgres::shared())?;
    let kafka = cluster.kafka();
    let mut world =
        World::with("silent", Setup { kafka, postgres, partitions: 3, topic_config: &[] }).await?;
    world.topic = unique("each-led-by-another");
    let create = ["--create", "--topic", &world.topic, "--replica-assignment", "1,2,3"];
    let created = kafka.tool("org.apache.kafka.tools.TopicCommand", &create).await?;
    assert_eq!(created.status, Some(0), "{created:?}");
    for partition in 0..3 {
        cluster.led_by(&world.topic, partition, partition + 1).await?;
    }
    world.produce(10).await?;
    let addresses: Vec<_> = ways.iter().map(|way| way.address().to_string()).collect();
    let worker = world.worker_with(world.settings().brokers(addresses), Sink::<()>::default());
    world.caught_up().await?;
    for partition in 0..3 {
        world.seen_as(partition, "caught up", |seen| seen.records == Some(0)).await?;
    }
    status_until(&worker, "it is ready", |status| status.ready && status.detail.is_none()).await?;

    let coordinator = cluster.coordinator(&world.group).await?;
    let silent = (0..3).find(|partition| partition + 1 != coordinator).expect("there are three");
    let way = &ways[usize::try_from(silent)?];
    way.stall();
    world.produce(10).await?;
    let named = status_until(&worker, "it names the leader", |status| {
        detail(status, silent).contains(&format!("the leader of {}[{silent}] does not answer", world.topic))
    });
    let watched = async {
        loop {
            for partition in (0..3).filter(|partition| *partition != silent) {
                let seen = world.seen(partition).await?.expect("a row is never away");
                assert!(seen.records.is_some(), "{partition}: {seen:?}");
                let status = worker.status();
                assert_eq!(detail(&status, partition), "", "{status:#?}");
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let status = tokio::select! {
        named = named => named?,
        broken = watched => {
            let broken: TestResult = broken;
            return broken;
        }
    };
    assert_eq!(halted_now(&worker), [] as [i32; 0]);
    let of_it = status.partitions.iter().find(|status| status.partition == silent).expect("it is there");
    assert_eq!(of_it.state, PartitionState::Running, "{status:#?}");
    // Two of three flow: a rollout does not wait, and no pod is taken away.
    assert!(status.ready && status.detail.is_none(), "{status:#?}");
    let seen = world.seen_as(silent, "as not known", |seen| seen.records.is_none()).await?;
    assert_eq!((seen.next_offset, seen.seconds), (10, None), "{seen:?}");
    world
        .seen_as(silent, "without a word of being caught up", |seen| {
            seen.reason.as_deref().is_some_and(|reason| {
                reason.contains("the end of the log is not known") && reason.contains("does not answer")
            })
        })
        .await?;
    for partition in (0..3).filter(|partition| *partition != silent) {
        world.reached(partition, 20).await?;
    }

    way.resume();
    world.verify().await?;
    world.seen_as(silent, "caught up again", |seen| seen.records == Some(0)).await?;
    status_until(&worker, "nothing is said any more", |status| {
        status.ready && detail(status, silent).is_empty()
    })
    .await?;
    worker.stop().await?;
    Ok(())
}

/// No broker answers the worker; whoever produces hears nothing of it.
#[tokio::test]
async fn w3_7_brokers_that_do_not_answer_leave_no_lag_known() -> TestResult {
    let ((kafka, ways), postgres) = tokio::try_join!(Kafka::start_behind(1), Postgres::shared())?;
    let setup = Setup { kafka: &kafka, postgres, partitions: 2, topic_config: &[] };
    let world = World::with("silent-all", setup).await?;
    world.produce(10).await?;
    // Until then they are its own, and it says nothing of Kafka's silence yet.
    let settings = behind(&world, &ways[0]).session_timeout(Some(Duration::from_secs(45)));
    let worker = world.worker_with(settings, Sink::<()>::default());
    world.caught_up().await?;
    for partition in 0..2 {
        world.seen_as(partition, "caught up", |seen| seen.records == Some(0)).await?;
    }
    ways[0].stall();
    world.produce(10).await?;
    for partition in 0..2 {
        let seen = world.seen_as(partition, "as not known", |seen| seen.records.is_none()).await?;
        assert_eq!((seen.next_offset, seen.seconds), (10, None), "{seen:?}");
    }
    let status = status_until(&worker, "nobody answers", |status| {
        !status.ready && status.detail.as_deref().is_some_and(|detail| detail.contains("no broker answers"))
    })
    .await?;
    for partition in 0..2 {
        assert_eq!(detail(&status, partition), "", "no leader is blamed beside it: {status:#?}");
    }
    ways[0].resume();
    world.verify().await?;
    for partition in 0..2 {
        world.seen_as(partition, "caught up again", |seen| seen.records == Some(0)).await?;
    }
    worker.stop().await?;
    Ok(())
}

/// A member that reads nothing was given a topic of the pattern: the worker says so, and `status` with it.
#[tokio::test]
async fn w3_7_a_topic_that_nobody_was_given_is_told() -> TestResult {
    let mut world = World::new("given", 1).await?;
    world.produce(10).await?;
    let pattern = format!(r"^{}(\.[a-z]+)?$", world.topic);
    let settings = world.settings().topics(vec![pattern]).start(StartPolicy::Earliest);
    let settings = settings.stuck_after(Some(Duration::from_secs(30)));
    let settings = settings.kafka("topic.metadata.refresh.interval.ms", "600000");
    let worker = world.worker_with(settings, Sink::<()>::default());
    world.caught_up().await?;
    let (own, theirs) = (world.topic.clone(), format!("{}.theirs", world.topic));
    world.kafka.create_topic(&theirs, 1).await?;
    world.topic = theirs.clone();
    // Called as a worker is, so that nobody takes it for what it is.
    let named = [("partition.assignment.strategy", "cooperative-sticky"), ("client.id", "highwater/dumb")];
    let foreign = Foreign::join(&world, &named)?;
    world.topic = own;
    status_until(&worker, "it is told", |status| {
        status.ready
            && status.detail.as_deref().is_some_and(|detail| {
                detail.contains(&format!("was given 1 of the 1 partitions of {theirs}"))
            })
    })
    .await?;
    let mut offsets = world.operator(world.database.url()).await?;
    let asked = Instant::now();
    let status = loop {
        let status = offsets.status(&world.group, &StatusOptions::default()).await?;
        if format!("{:?}", status.troubles).contains("was given") {
            break status;
        }
        assert!(asked.elapsed() < PATIENCE / 4, "{status:#?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    assert!(!status.well, "{status:#?}");
    drop(foreign);
    worker.stop().await?;
    world.assert_exact(true).await?;
    Ok(())
}
