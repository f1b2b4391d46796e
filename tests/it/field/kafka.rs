//! What Kafka refuses, for a while or for good (W1.4, W1.5, W3.1).

use highwater::WorkerStatus;
use highwater::testing::{Kafka, Postgres, Result};

use super::standing::{behind, impatient};
use crate::support::watch::{halted_now, status_until};
use crate::support::{PATIENCE, Process, Setup, Sink, TestResult, World};

/// The codes that a fetch was answered with: UNKNOWN_SERVER_ERROR, KAFKA_STORAGE_ERROR, UNKNOWN_TOPIC_OR_PARTITION,
/// INVALID_REQUEST, which no table of ours lists.
const CODES: [i16; 4] = [-1, 56, 3, 42];

#[tokio::test]
async fn w1_4_a_fetch_that_fails_for_a_while_is_tried_again() -> TestResult {
    let ((kafka, ways), postgres) = tokio::try_join!(Kafka::start_behind(1), Postgres::shared())?;
    let proxy = &ways[0];
    let setup = Setup { kafka: &kafka, postgres, partitions: 2, topic_config: &[] };
    let world = World::with("refused-fetch", setup).await?;
    world.produce(10).await?;
    let worker = world.worker_with(behind(&world, proxy), Sink::<()>::default());
    world.caught_up().await?;
    for code in CODES {
        let before = proxy.failed_fetches();
        proxy.fail_fetches(code, 3);
        world.produce(10).await?;
        world.caught_up().await?;
        assert_eq!(halted_now(&worker), [] as [i32; 0], "{code}: {:#?}", worker.status());
        assert_eq!(proxy.failed_fetches(), before + 3, "{code}: all were met");
    }
    world.verify().await?;
    status_until(&worker, "nothing is said of it any more", |status| {
        status.ready && status.partitions.iter().all(|status| status.detail.is_none())
    })
    .await?;
    worker.stop().await?;
    Ok(())
}

/// While it lasts, the detail quotes the client and says what follows.
#[tokio::test]
async fn w1_4_what_is_refused_is_told() -> TestResult {
    let ((kafka, ways), postgres) = tokio::try_join!(Kafka::start_behind(1), Postgres::shared())?;
    let proxy = &ways[0];
    let setup = Setup { kafka: &kafka, postgres, partitions: 1, topic_config: &[] };
    let world = World::with("refused-long", setup).await?;
    world.produce(10).await?;
    let worker = world.worker_with(behind(&world, proxy), Sink::<()>::default());
    world.caught_up().await?;
    proxy.fail_fetches(-1, 1_000);
    world.produce(10).await?;
    let status = status_until(&worker, "it says what Kafka refuses", |status| {
        says(status, "Kafka refuses the records of") && !status.ready
    })
    .await?;
    assert!(says(&status, "from offset 10 on"), "{status:#?}");
    proxy.fail_fetches(-1, 0);
    world.verify().await?;
    status_until(&worker, "it is ready again", |status| status.ready).await?;
    worker.stop().await?;
    Ok(())
}

fn says(status: &WorkerStatus, text: &str) -> bool {
    status
        .partitions
        .iter()
        .any(|status| status.detail.as_deref().is_some_and(|detail| detail.contains(text)))
}

/// A broker that asks for rights, and lets everybody do everything as long as nothing is said of a resource.
async fn with_rights() -> Result<Kafka> {
    Kafka::start_with(&[
        ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
        ("allow.everyone.if.no.acl.found", "true"),
    ])
    .await
}

impl World<'_> {
    async fn rights(&self, arguments: &[&str]) -> Result<()> {
        let all = [arguments, &["--topic", &self.topic, "--force"]].concat();
        let output = self.kafka.tool("org.apache.kafka.tools.AclCommand", &all).await?;
        assert_eq!(output.status, Some(0), "{output:?}");
        Ok(())
    }

    async fn deny_reading(&self) -> Result<()> {
        self.rights(&["--add", "--allow-principal", "User:*", "--operation", "All"]).await?;
        self.rights(&["--add", "--deny-principal", "User:*", "--operation", "Read"]).await
    }

    async fn allow_reading(&self) -> Result<()> {
        self.rights(&["--remove", "--deny-principal", "User:*", "--operation", "Read"]).await
    }
}

#[tokio::test]
async fn w1_5_a_right_that_is_taken_away_and_given_back_is_waited_for() -> TestResult {
    let (kafka, postgres) = tokio::try_join!(with_rights(), Postgres::shared())?;
    let setup = Setup { kafka: &kafka, postgres, partitions: 2, topic_config: &[] };
    let world = World::with("denied", setup).await?;
    world.produce(10).await?;
    let worker = world.worker(Sink::<()>::default());
    world.caught_up().await?;
    world.deny_reading().await?;
    let status = status_until(&worker, "it says what right is missing", |status| {
        !status.ready && status.detail.as_deref().is_some_and(|detail| detail.contains("grant it READ"))
    })
    .await?;
    assert!(status.live);
    world.produce(10).await?;
    world.allow_reading().await?;
    world.verify().await?;
    status_until(&worker, "it is ready again", |status| status.ready).await?;
    worker.stop().await?;
    Ok(())
}

/// … for a minute: then the process ends with the documented code, and whoever started it sees why.
#[tokio::test]
async fn w1_5_a_right_that_stays_away_ends_the_process() -> TestResult {
    let (kafka, postgres) = tokio::try_join!(with_rights(), Postgres::shared())?;
    let setup = Setup { kafka: &kafka, postgres, partitions: 1, topic_config: &[] };
    let world = World::with("denied-long", setup).await?;
    world.produce(10).await?;
    let worker = Process::start(&world, "worker", "plain")?;
    world.caught_up().await?;
    world.deny_reading().await?;
    world.produce(10).await?;
    assert_eq!(worker.child.wait(2 * PATIENCE).await?, 5, "Privilege");
    assert!(worker.wrote("WARN") && worker.wrote("grant it READ"));
    world.allow_reading().await?;
    world.assert_consistent().await?;
    Ok(())
}

#[tokio::test]
async fn w3_1_a_session_timeout_that_the_brokers_refuse_ends_the_process() -> TestResult {
    let own = [("group.min.session.timeout.ms", "6000")];
    let (kafka, postgres) = tokio::try_join!(Kafka::start_with(&own), Postgres::shared())?;
    let setup = Setup { kafka: &kafka, postgres, partitions: 1, topic_config: &[] };
    let world = World::with("session", setup).await?;
    world.produce(10).await?;
    let short = [("HIGHWATER_SESSION_TIMEOUT", "3s")];
    let worker = Process::start_with(&world, "worker", "plain", &short)?;
    assert_eq!(worker.child.wait(PATIENCE).await?, 2, "Configuration");
    for text in ["error: ", "`session_timeout`", "group.min.session.timeout.ms", "Invalid session timeout"] {
        assert!(worker.wrote(text), "{text}");
    }
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn w3_1_a_group_that_is_full_is_waited_for_and_said() -> TestResult {
    let (kafka, postgres) =
        tokio::try_join!(Kafka::start_with(&[("group.max.size", "1")]), Postgres::shared())?;
    let setup = Setup { kafka: &kafka, postgres, partitions: 1, topic_config: &[] };
    let world = World::with("full", setup).await?;
    world.produce(10).await?;
    let first = Process::start(&world, "first", "plain")?;
    first.claimed().await?;
    let second = world.worker(Sink::<()>::default());
    status_until(&second, "it says why it cannot join", |status| {
        !status.ready && status.detail.as_deref().is_some_and(|detail| detail.contains("group.max.size"))
    })
    .await?;
    let third = Process::start(&world, "third", "plain")?;
    let told = |line: &str| line.contains("WARN") && line.contains("group.max.size");
    for _ in 0..2 {
        let mark = third.child.mark();
        third.child.wait_for_line_from(mark, told, PATIENCE).await?;
    }
    third.stop().await?;
    first.stop().await?;
    world.produce(10).await?;
    world.verify().await?;
    status_until(&second, "it has joined", |status| status.ready && status.detail.is_none()).await?;
    second.stop().await?;
    Ok(())
}

/// Under KIP-848 a full group ends the client: a new one is built, and built again.
#[tokio::test]
async fn w3_1_a_full_group_of_the_consumer_protocol_is_waited_for() -> TestResult {
    let (kafka, postgres) =
        tokio::try_join!(Kafka::start_with(&[("group.consumer.max.size", "1")]), Postgres::shared())?;
    let setup = Setup { kafka: &kafka, postgres, partitions: 1, topic_config: &[] };
    let world = World::with("full-848", setup).await?;
    world.produce(10).await?;
    let consumer = [("HIGHWATER_GROUP_PROTOCOL", "consumer")];
    let first = Process::start_with(&world, "first", "plain", &consumer)?;
    first.claimed().await?;
    let second = Process::start_with(&world, "second", "plain", &consumer)?;
    for _ in 0..2 {
        let mark = second.child.mark();
        let told = |line: &str| line.contains("group.consumer.max.size");
        second.child.wait_for_line_from(mark, told, PATIENCE).await?;
    }
    first.stop().await?;
    second.claimed().await?;
    world.verify().await?;
    second.stop().await?;
    Ok(())
}

/// Whatever stands still for good ends the process, with the code that a supervisor restarts.
#[tokio::test]
async fn what_stands_still_for_good_ends_the_process() -> TestResult {
    let (kafka, postgres) = tokio::try_join!(Kafka::start(), Postgres::shared())?;
    let setup = Setup { kafka: &kafka, postgres, partitions: 1, topic_config: &[] };
    let world = World::with("stuck", setup).await?;
    world.produce(10).await?;
    let stuck_after = [("HIGHWATER_STUCK_AFTER", "30s")];
    let worker = Process::start_with(&world, "worker", "plain", &stuck_after)?;
    world.caught_up().await?;
    kafka.stop().await?;
    assert_eq!(worker.child.wait(2 * PATIENCE).await?, 70);
    for text in ["no broker answers", "building a new Kafka client", "`stuck_after`"] {
        assert!(worker.wrote(text), "{text}");
    }
    kafka.restart().await?;
    let worker = world.worker_with(impatient(world.settings()), Sink::<()>::default());
    world.produce(10).await?;
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}
