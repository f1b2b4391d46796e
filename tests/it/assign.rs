//! Partitions assigned by hand: no group membership, but the same claims (EO-3, EO-4).

use std::time::Duration;

use highwater::config::{Assignor, GroupProtocol, StartPolicy};
use highwater::testing::{Result, wait_until};
use highwater::{ErrorKind, PartialConfig, PartitionState, Worker, WorkerHandle};
use tokio_util::task::AbortOnDropHandle;

use crate::support::fleet::Owners;
use crate::support::watch::status_until;
use crate::support::{PATIENCE, Process, Sink, TestResult, World};

impl World<'_> {
    /// As [`settings`](Self::settings), but without a group, topics or a start policy.
    fn bare_settings(&self) -> PartialConfig {
        PartialConfig::default()
            .brokers(vec![self.kafka.bootstrap().to_owned()])
            .postgres_url(self.role.url.as_str())
            .program("it")
    }

    /// Waits until the present owner of every partition is `owner`.
    async fn all_held_by(&self, owner: &str) -> Result<Owners> {
        wait_until(&format!("{owner} holds all partitions"), PATIENCE, async || {
            let owners = self.owners().await?;
            let all = owners.values().all(|(holder, _)| holder.as_deref() == Some(owner));
            Ok((all && !owners.is_empty()).then_some(owners))
        })
        .await
    }

    /// All partitions, as `HIGHWATER_ASSIGN` has them.
    fn all_by_hand(&self) -> String {
        let named: Vec<String> =
            (0..self.partitions).map(|number| format!("{}:{number}", self.topic)).collect();
        named.join(",")
    }
}

/// Waits until the worker says of all its partitions that it waits for a live process; returns what it says of one.
async fn waits(worker: &WorkerHandle) -> Result<String> {
    let waiting = |status: &highwater::PartitionStatus| {
        let detail = status.detail.as_deref().unwrap_or_default();
        status.state == PartitionState::Claiming && detail.contains("which is live; waiting until it lets go")
    };
    let status = status_until(worker, "it waits", |status| {
        !status.partitions.is_empty() && status.partitions.iter().all(waiting)
    })
    .await?;
    assert!(!status.ready);
    Ok(status.partitions[0].detail.clone().unwrap_or_default())
}

/// Into a table of its own: exactly the records of one partition, under a group that is the run's alone.
#[tokio::test]
async fn core_one_partition_is_replayed_exactly() -> TestResult {
    let mut world = World::new("replay", 3).await?;
    world.produce(200).await?;
    let error = Worker::builder()
        .ignore_environment()
        .settings(world.bare_settings())
        .assign([(&*world.topic, 1)])
        .build(Sink::<()>::default())?
        .run()
        .await
        .expect_err("where to begin must be said");
    assert_eq!((error.kind(), error.exit_code()), (ErrorKind::StartPolicy, 4));
    assert!(
        error.to_string().contains("no group was named") && error.to_string().contains("HIGHWATER_START="),
        "{error}"
    );

    let worker = Worker::builder()
        .ignore_environment()
        // Whatever the protocol: there is no group that would speak it.
        .settings(world.bare_settings().start(StartPolicy::Earliest).group_protocol(GroupProtocol::Consumer))
        .assign([(&*world.topic, 1)])
        .build(Sink::<()>::default())?
        .spawn();
    let started = status_until(&worker, "it is ready", |status| status.ready).await?;
    assert_eq!(started.partitions.len(), 1);
    world.group = format!("highwater-assign-{}", started.owner.expect("it has begun"));
    world.reached(1, 200).await?;
    world.produce(50).await?;
    world.reached(1, 250).await?;
    let next = world.assert_consistent().await?;
    assert_eq!(next, [(0, 0), (1, 250), (2, 0)].into_iter().collect());
    // The mirror is written, and yet there is no member.
    wait_until("it is mirrored", PATIENCE, async || {
        let mirrored = world.kafka.committed(&world.group, &world.topic, 1).await?;
        Ok(mirrored.filter(|(offset, _)| *offset == 250).map(drop))
    })
    .await?;
    let group = world.kafka.describe_group(&world.group).await?;
    assert!(group.rows.iter().all(|row| row.consumer_id.is_none()), "{}", group.raw);
    worker.stop().await?;
    let held = "SELECT count(*) FROM highwater.consumer_offset WHERE owner IS NOT NULL";
    assert_eq!(world.number(held).await?, 0);

    // What the page tells an operator to type when the rows are no longer needed.
    let page = include_str!("../../docs/operations.md");
    let block =
        page.split("no longer needed").nth(1).expect("the place").split("```sql").nth(1).expect("a fence");
    world.database.execute(block.split("```").next().expect("its end")).await?;
    for table in ["consumer_offset", "group_topic", "claim_history", "partition_status", "worker_status"] {
        let rows = format!("SELECT count(*) FROM highwater.{table}");
        assert_eq!(world.number(&rows).await?, 0, "{table}");
    }
    Ok(())
}

/// First come, first served: the second waits, and takes over when the first is frozen, then killed. A zombie that
/// wakes up waits in its turn; nobody takes anything from a live process, and nothing goes to and fro.
#[tokio::test]
async fn core_two_workers_by_hand_take_turns_and_never_both_write() -> TestResult {
    let world = World::new("turns", 2).await?;
    let settings = [("HIGHWATER_ASSIGN", &*world.all_by_hand())];
    let waits = "which is live; waiting until it lets go";
    let (first, second) = world
        .under_load(async {
            let first = Process::start_with(&world, "first", "slow", &settings)?;
            let before = world.all_held_by(&first.owner().await?).await?;
            let second = Process::start_with(&world, "second", "slow", &settings)?;
            let line = second.child.wait_for_line(|line| line.contains(waits), PATIENCE).await?;
            let named = format!("process id {}, owner {}", first.child.pid(), first.owner().await?);
            assert!(line.contains(&named) && line.contains("it (host "), "{line}");
            world.progress(100).await?;
            assert_eq!(world.owners().await?, before, "nothing was taken from the first");

            first.child.freeze()?;
            let after = world.all_held_by(&second.owner().await?).await?;
            world.progress(100).await?;
            let mark = first.child.mark();
            first.child.thaw()?;
            // Also after its fence's backoff it waits instead of claiming.
            let back =
                |line: &str| line.contains(waits) || line.contains("another live process holds the claim");
            first.child.wait_for_line_from(mark, back, PATIENCE).await?;
            world.progress(200).await?;
            assert_eq!(world.owners().await?, after, "the zombie took nothing back");

            second.child.kill()?;
            let third = world.all_held_by(&first.owner().await?).await?;
            for (partition, (_, epoch)) in &third {
                assert_eq!(*epoch, 3, "partition {partition}: one claim for each change of hands");
            }
            world.progress(100).await?;
            Ok((first, second))
        })
        .await?;
    assert_eq!(second.child.wait(PATIENCE).await?, 137);
    world.verify().await?;
    first.stop().await?;
    Ok(())
}

/// Kafka's word goes before a hand's: beside a live member of the group it waits; a member takes its partitions back.
#[tokio::test]
async fn core_a_worker_by_hand_takes_nothing_from_a_live_member() -> TestResult {
    let world = World::new("guest", 2).await?;
    world.produce(50).await?;
    let member = world.worker(Sink::<()>::default());
    world.caught_up().await?;
    let before = world.owners().await?;
    let by_hand = || {
        Worker::builder()
            .ignore_environment()
            .settings(world.settings().assignor(Some(Assignor::Range)))
            .assign([(&*world.topic, 0), (&*world.topic, 1)])
            .build(Sink::<()>::default())
    };
    let guest = by_hand()?.spawn();
    let detail = waits(&guest).await?;
    let pid = format!("process id {}", std::process::id());
    assert!(detail.contains(&pid) && detail.contains(&world.group) && detail.contains("[0]"), "{detail}");
    world.produce(50).await?;
    world.verify().await?;
    assert_eq!(world.owners().await?, before, "nothing was taken");
    let applied = member.status().counters.applied_records;
    assert_eq!((applied, guest.status().counters.applied_records), (200, 0));

    // It lets go: the guest goes on from there, at once.
    member.stop().await?;
    status_until(&guest, "it runs", |status| status.ready).await?;
    world.produce(50).await?;
    world.verify().await?;
    assert_eq!(guest.status().counters.applied_records, 100);

    // Kafka's word: the member takes them back, and the guest waits again.
    let member = world.worker(Sink::<()>::default());
    status_until(&member, "it runs", |status| status.ready && status.partitions.len() == 2).await?;
    world.produce(50).await?;
    world.verify().await?;
    status_until(&guest, "it holds nothing", |status| {
        let idle = |state| matches!(state, PartitionState::Fenced | PartitionState::Claiming);
        status.partitions.iter().all(|partition| idle(partition.state))
    })
    .await?;
    let owners = world.owners().await?;
    assert!(owners.values().all(|(_, epoch)| *epoch == 3), "{owners:?}");
    member.stop().await?;
    guest.stop().await?;
    Ok(())
}

/// A claim that waits for a row's lock must not take the row from whoever had it meanwhile, and is live: the waiting
/// statement's own snapshot knows nothing of that.
#[tokio::test]
async fn a_claim_that_had_to_wait_takes_nothing_from_who_came_first() -> TestResult {
    let world = World::new("snapshot", 1).await?;
    world.produce(20).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;

    let other = world.database.client().await?;
    let claim = "BEGIN; UPDATE highwater.consumer_offset SET owner = gen_random_uuid(), epoch = epoch + 1, \
                 claim_token = gen_random_uuid(), claimed_by = NULL, claimed_at = NULL";
    other.batch_execute(claim).await?;
    let guest = Worker::builder()
        .ignore_environment()
        .settings(world.settings())
        .assign([(&*world.topic, 0)])
        .build(Sink::<()>::default())?
        .spawn();
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database() \
                   AND application_name LIKE 'highwater/%'";
    wait_until("the claim waits for the row", PATIENCE, async || {
        Ok((world.number(waiting).await? > 0).then_some(()))
    })
    .await?;
    let beat = "INSERT INTO highwater.worker_status SELECT owner, group_id, 'rival', 'it', 'v', 'host-a', 4711, now(), \
                clock_timestamp(), NULL, 'running', true, NULL, 1, 0, 0, 0, 0, 0 FROM highwater.consumer_offset";
    other.batch_execute(beat).await?;
    other.batch_execute("COMMIT").await?;
    let heart = world.database.client().await?;
    let heart = AbortOnDropHandle::new(tokio::spawn(async move {
        let beat =
            "UPDATE highwater.worker_status SET heartbeat_at = clock_timestamp() WHERE instance_id = 'rival'";
        while heart.batch_execute(beat).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }));
    let detail = waits(&guest).await?;
    assert!(detail.contains("it (host host-a, process id 4711, instance rival, owner "), "{detail}");

    drop(heart);
    other.batch_execute("DELETE FROM highwater.worker_status WHERE instance_id = 'rival'").await?;
    world.produce(20).await?;
    world.caught_up().await?;
    world.assert_exact(true).await?;
    guest.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_partition_that_does_not_exist_is_an_error_and_nothing_is_recorded() -> TestResult {
    let world = World::new("absent", 2).await?;
    let run = async || {
        let settings = world.settings().unknown_topic_timeout(Duration::from_secs(1));
        let worker = Worker::builder()
            .ignore_environment()
            .settings(settings)
            .assign([(&*world.topic, 0), (&*world.topic, 2)])
            .build(Sink::<()>::default());
        worker.expect("the settings are valid").run().await.expect_err("there is none")
    };
    let error = run().await;
    assert_eq!((error.kind(), error.exit_code()), (ErrorKind::UnknownTopic, 2));
    let text =
        format!("partition {}:2 does not exist: topic {} has 2 partitions, 0 to 1", world.topic, world.topic);
    assert!(error.to_string().contains(&text), "{error}");
    assert_eq!(world.number("SELECT count(*) FROM highwater.group_topic").await?, 0);

    // Nor when the group knows the topic.
    world.produce(5).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    assert!(run().await.to_string().contains(&text));
    Ok(())
}
