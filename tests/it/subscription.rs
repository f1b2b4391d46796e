//! `^patterns`: resolved once, and never blind to what is newly matched (EO-4, EO-6).

mod dialects;

use std::time::Duration;

use highwater::config::{GroupProtocol, StartPolicy};
use highwater::testing::{Result, unique, wait_until};
use highwater::{ErrorKind, PartialConfig, PartitionState, Worker, WorkerHandle};

use crate::support::watch::status_until;
use crate::support::{PATIENCE, Sink, TestResult, World};

impl World<'_> {
    /// A topic whose name begins with the world's own.
    fn sibling(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.topic)
    }

    /// The world's topic and its siblings. New topics are looked for often.
    fn pattern_settings(&self, policy: StartPolicy) -> PartialConfig {
        self.settings()
            .topics(vec![format!(r"^{}(\.[a-z]+)?$", self.topic)])
            .start(policy)
            .kafka("topic.metadata.refresh.interval.ms", "500")
    }

    /// Waits until a worker has claimed so many partitions.
    async fn running(&self, worker: &WorkerHandle, count: usize) -> Result<()> {
        let what = format!("{count} partitions run");
        let fits = |status: &highwater::WorkerStatus| status.ready && status.partitions.len() == count;
        status_until(worker, &what, fits).await.map(drop)
    }

    /// Policy and program of each topic that the group knows, in their order.
    async fn decisions(&self) -> Result<Vec<(String, String)>> {
        let sql = "SELECT topic, start_policy FROM highwater.group_topic WHERE group_id = $1 ORDER BY 1";
        let rows = self.database.query(sql, &[&self.group]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}

/// Both look up the same topics and read different ends; one of them decides, for both and for all topics.
#[tokio::test]
async fn core_two_first_workers_resolve_a_pattern_once() -> TestResult {
    let mut world = World::new("pattern", 2).await?;
    let (topic, sibling) = (world.topic.clone(), world.sibling("eu"));
    let topics = [(&*topic, 2), (&*sibling, 1)];
    world.another_topic(topics[1]).await?;
    let produce = async |world: &World<'_>| {
        for topic in topics {
            world.produce_to(topic, 10).await?;
        }
        Ok::<_, highwater::testing::Error>(())
    };
    produce(&world).await?;
    let other = world.database.client().await?;
    other.batch_execute("BEGIN; LOCK TABLE highwater.group_pattern IN SHARE ROW EXCLUSIVE MODE").await?;
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted \
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let settings = world.pattern_settings(StartPolicy::Latest);
    let mut workers = Vec::new();
    for count in 1..=2 {
        workers.push(world.worker_with(settings.clone(), Sink::<()>::default()));
        wait_until("the workers wait", PATIENCE, async || {
            Ok((world.number(waiting).await? >= count).then_some(()))
        })
        .await?;
        produce(&world).await?;
    }
    other.batch_execute("COMMIT").await?;

    for topic in topics {
        world.at(topic, async |world| world.caught_up().await).await?;
    }
    let count = async |sql: &str| world.number(sql).await;
    assert_eq!(count("SELECT count(*) FROM highwater.group_pattern").await?, 1);
    assert_eq!(count("SELECT count(DISTINCT resolved_by) FROM highwater.group_topic").await?, 1);
    let events = "SELECT topic, partition, to_offset, reason FROM highwater.offset_event ORDER BY 1, 2";
    let events = world.database.query(events, &[]).await?;
    assert_eq!(events.len(), 3, "each partition was resolved once");
    let start: i64 = events[0].get(2);
    assert!(start == 10 || start == 20, "{start}");
    for event in &events {
        assert_eq!(event.get::<_, i64>(2), start, "all by the same look");
        assert!(event.get::<_, &str>(3).starts_with("start policy latest under ^"), "{event:?}");
    }
    let expected = 3 * (30 - start);
    assert_eq!(count("SELECT count(*) FROM sink").await?, expected);
    let distinct = "SELECT count(DISTINCT (source_topic, source_partition, source_offset)) FROM sink";
    assert_eq!(count(distinct).await?, expected);
    for worker in workers {
        worker.stop().await?;
    }
    Ok(())
}

/// Whatever the policy: the first records of a new topic must not be missed, be it created while the group runs or
/// while nobody does.
async fn a_newly_matched_topic_is_read(
    hint: &str,
    adapt: impl Fn(PartialConfig) -> PartialConfig,
) -> TestResult {
    let mut world = World::new(hint, 2).await?;
    world.produce(10).await?;
    let settings = adapt(world.pattern_settings(StartPolicy::Latest));
    let first = world.worker_with(settings.clone(), Sink::<()>::default());
    world.running(&first, 2).await?;
    let second = world.worker_with(settings, Sink::<()>::default());
    world.running(&first, 1).await?;

    let (while_up, while_down) = (world.sibling("up"), world.sibling("down"));
    let (while_up, while_down) = ((&*while_up, 2), (&*while_down, 1));
    world.another_topic(while_up).await?;
    // At once: the group cannot have noticed the topic yet.
    world.produce_to(while_up, 30).await?;
    world.at(while_up, async |world| world.caught_up().await).await?;
    world.produce_to(while_up, 30).await?;
    world.verify_topics(&[while_up]).await?;
    first.stop().await?;
    second.stop().await?;

    world.another_topic(while_down).await?;
    world.produce_to(while_down, 30).await?;
    // The group is known: it needs no policy.
    let settings = adapt(world.pattern_settings(StartPolicy::Fail));
    let third = world.worker_with(settings, Sink::<()>::default());
    world.verify_topics(&[while_up, while_down]).await?;
    world.at(while_down, async |world| world.assert_ledger_gapless().await).await?;
    let policies: Vec<(String, String)> = world.decisions().await?;
    let expected = [(&*world.topic, "latest"), (while_down.0, "earliest"), (while_up.0, "earliest")];
    assert_eq!(policies, expected.map(|(topic, policy)| (topic.to_owned(), policy.to_owned())));
    let reasons = "SELECT count(*) FROM highwater.offset_event WHERE reason LIKE 'topic newly matched by ^%'";
    assert_eq!(world.number(reasons).await?, 3);
    third.stop().await?;
    Ok(())
}

/// The client has lost the news of a topic, as librdkafka may in the middle of a rebalance; here because it does not look.
#[tokio::test]
async fn a_topic_that_the_client_does_not_notice_is_given_to_somebody() -> TestResult {
    let mut world = World::new("pattern-lost", 2).await?;
    let settings = world.pattern_settings(StartPolicy::Earliest);
    let settings = settings
        .kafka("topic.metadata.refresh.interval.ms", "600000")
        .stuck_after(Some(Duration::from_secs(30)));
    let workers = [(); 2].map(|()| world.worker_with(settings.clone(), Sink::<()>::default()));
    for worker in &workers {
        world.running(worker, 1).await?;
    }
    let lost = world.sibling("lost");
    let lost = (&*lost, 2);
    world.another_topic(lost).await?;
    world.produce_to(lost, 30).await?;
    world.verify_topics(&[lost]).await?;
    for worker in workers {
        worker.stop().await?;
    }
    Ok(())
}

#[tokio::test]
async fn core_a_newly_matched_topic_starts_at_its_beginning() -> TestResult {
    a_newly_matched_topic_is_read("newly", |settings| settings).await
}

/// The broker evaluates the pattern, and looks for new topics every ten seconds.
#[tokio::test]
async fn a_newly_matched_topic_starts_at_its_beginning_under_kip_848() -> TestResult {
    a_newly_matched_topic_is_read("newly-848", |settings| {
        settings.group_protocol(GroupProtocol::Consumer).session_timeout(None)
    })
    .await
}

/// Patterns beside plain names, with a handler for each.
#[tokio::test]
async fn patterns_and_names_have_routes_of_their_own() -> TestResult {
    let mut world = World::new("mixed", 2).await?;
    let (sibling, other) = (world.sibling("a"), unique("mixed-other"));
    let (sibling, other) = ((&*sibling, 1), (&*other, 1));
    world.another_topic(sibling).await?;
    world.another_topic(other).await?;
    let worker = Worker::builder()
        .ignore_environment()
        .settings(world.settings().topics(vec![format!("^{}.*", world.topic), other.0.to_owned()]))
        .route(format!("^{}.*", world.topic), Sink::<()>::default())
        .route(other.0, Sink { fault: (), rows_only: true })
        .build_routed()
        .expect("the settings are valid")
        .spawn();
    world.produce(20).await?;
    world.produce_to(sibling, 20).await?;
    world.produce_to(other, 20).await?;
    world
        .at(other, async |world| {
            world.caught_up().await?;
            world.assert_exact(false).await
        })
        .await?;
    let topic = world.topic.clone();
    world.verify_topics(&[(&*topic, 2), sibling]).await?;
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn core_policy_fail_refuses_a_pattern_that_the_group_never_ran() -> TestResult {
    let world = World::new("pattern-fail", 1).await?;
    world.produce(5).await?;
    let worker = world.worker_with(world.pattern_settings(StartPolicy::Earliest), Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;

    let mistyped = format!("{}x", world.group);
    let settings = world.pattern_settings(StartPolicy::Fail).group(mistyped.clone());
    let error = world.worker_with(settings, Sink::<()>::default()).wait().await.expect_err("it refuses");
    assert_eq!((error.kind(), error.exit_code()), (ErrorKind::StartPolicy, 4));
    let text = error.to_string();
    assert!(text.contains(&format!("did you mean {}?", world.group)), "{text}");
    assert!(text.contains(&format!("group {mistyped} has never read pattern ^{}", world.topic)), "{text}");

    let settings = world.pattern_settings(StartPolicy::Earliest).program("another");
    let error = world.worker_with(settings, Sink::<()>::default()).wait().await.expect_err("it is refused");
    assert!(error.to_string().contains("belongs to program it, but this is another"), "{error}");
    Ok(())
}

/// A pattern is not a way around the check: what it covers belongs to the program that has recorded it by name.
#[tokio::test]
async fn a_pattern_of_another_program_over_a_known_topic_is_refused() -> TestResult {
    let world = World::new("pattern-program", 1).await?;
    world.produce(5).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    let settings = world.pattern_settings(StartPolicy::Earliest).program("another");
    let refused = tokio::time::timeout(PATIENCE, world.worker_with(settings, Sink::<()>::default()).wait());
    let error = refused.await?.expect_err("it is refused");
    assert_eq!((error.kind(), error.exit_code()), (ErrorKind::StartPolicy, 4));
    assert!(error.to_string().contains("belongs to program it, but this is another"), "{error}");
    world.produce(5).await?;
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_pattern_that_matches_nothing_is_waited_for_and_then_an_error() -> TestResult {
    let mut world = World::new("nothing", 1).await?;
    let topic = format!("{}_late", world.topic);
    let settings = world.settings().topics(vec![format!("^{topic}.*")]);
    let hasty = settings.clone().unknown_topic_timeout(Duration::from_millis(300));
    let error = world.worker_with(hasty, Sink::<()>::default()).wait().await.expect_err("nothing matches");
    assert_eq!((error.kind(), error.exit_code()), (ErrorKind::UnknownTopic, 2));
    assert!(error.to_string().contains(&format!("no topic matches ^{topic}.*")), "{error}");
    assert_eq!(world.number("SELECT count(*) FROM highwater.group_pattern").await?, 0);

    let worker = world.worker_with(settings, Sink::<()>::default());
    status_until(&worker, "it has begun", |status| status.owner.is_some()).await?;
    world.topic = topic;
    world.kafka.create_topic(&world.topic, 1).await?;
    world.produce(10).await?;
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn kafkas_own_topics_are_never_matched() -> TestResult {
    let mut world = World::new("internal", 1).await?;
    // By this commit the broker has `__consumer_offsets`.
    let worker = world.worker(Sink::<()>::default());
    world.running(&worker, 1).await?;
    worker.stop().await?;
    assert!(world.kafka.partition_count("__consumer_offsets").await?.is_some());

    world.topic = format!("__{}", world.topic);
    world.group = format!("{}-internal", world.group);
    world.kafka.create_topic(&world.topic, 1).await?;
    world.produce(10).await?;
    let settings = world.settings().topics(vec!["^__.*".to_owned()]);
    let worker = world.worker_with(settings, Sink::<()>::default());
    world.verify().await?;
    assert_eq!(world.decisions().await?.len(), 1);
    world.running(&worker, 1).await?;
    worker.stop().await?;
    Ok(())
}

/// The others go on, before and after the group has noticed.
#[tokio::test]
async fn a_matched_topic_that_is_deleted_takes_nothing_else_with_it() -> TestResult {
    let mut world = World::new("deleted", 2).await?;
    let doomed = world.sibling("doomed");
    let doomed = (&*doomed, 2);
    world.another_topic(doomed).await?;
    world.produce_to(doomed, 20).await?;
    let worker =
        world.worker_with(world.pattern_settings(StartPolicy::Earliest), Sink { fault: (), rows_only: true });
    world.at(doomed, async |world| world.caught_up().await).await?;
    world.kafka.delete_topic(doomed.0).await?;
    world.produce(20).await?;
    status_until(&worker, "nothing of the deleted topic runs", |status| {
        let mut gone = status.partitions.iter().filter(|partition| partition.topic == doomed.0);
        gone.all(|partition| partition.state == PartitionState::Halted)
    })
    .await?;
    world.produce(20).await?;
    world.caught_up().await?;
    world.assert_ledger_gapless().await?;
    world.assert_exact(false).await?;
    let halted = worker.status().partitions.into_iter().filter(|partition| partition.topic == world.topic);
    assert!(halted.clone().all(|partition| partition.state == PartitionState::Running), "{halted:?}");
    world.at(doomed, async |world| world.assert_exact(false).await).await?;
    worker.stop().await?;
    Ok(())
}
