//! Members with a name of their own: what a restart, a death and a namesake do to the group.

use std::time::Duration;

use highwater::testing::{Result, wait_until};

use super::{
    CONSUMER, COOPERATIVE, EAGER, Fleet, Membership, Protocol, ROUND_ROBIN, SMALL_BATCHES, configure_group,
};
use crate::support::{PATIENCE, Process, TestResult, World};

/// Far longer than a restart takes on a busy machine; nothing waits for its end.
const LONG: Membership = Membership { fixed: true, session_timeout: "45s" };

/// A member that is back within its session gets its partitions back, and the others notice nothing: no rebalance,
/// not one claim.
async fn a_restart_moves_nothing(protocol: Protocol) -> TestResult {
    let world = World::new("named", 6).await?;
    if protocol.group_type == "Consumer" {
        configure_group(&world, "consumer.session.timeout.ms=45000").await?;
    }
    let mut fleet = Fleet::new(&world, protocol, LONG);
    world
        .under_load(async {
            for name in ["a", "b", "c"] {
                fleet.add(name)?;
            }
            fleet.settled(None).await?;
            fleet.assert_is_what_it_says().await?;
            // Only now: a group that says it is stable has no rebalance under way.
            let before = fleet.settled(None).await?;
            let rebalances = fleet.process("a").answers().len() + fleet.process("c").answers().len();
            let old = Some(fleet.process("b").owner().await?);
            fleet.stop("b").await?;
            fleet.add("b")?;
            let new = Some(fleet.process("b").owner().await?);
            let after = fleet.settled(None).await?;
            for (partition, (owner, epoch)) in &before {
                let (new_owner, new_epoch) = &after[partition];
                if *owner == old {
                    assert_eq!(*new_owner, new, "partition {partition}: {before:?} became {after:?}");
                } else {
                    assert_eq!((new_owner, new_epoch), (owner, epoch), "{before:?} became {after:?}");
                }
            }
            let now = fleet.process("a").answers().len() + fleet.process("c").answers().len();
            assert_eq!(now, rebalances, "the others were not even asked");
            asked_who_is_there(&world, fleet.process("b")).await?;
            world.progress(100).await
        })
        .await?;
    world.verify().await?;
    fleet.stop_all().await?;
    world.assert_ledger_gapless().await?;
    Ok(())
}

/// The coordinator goes on listing the client id of the predecessor: who is back is a member all the same. After eight
/// seconds it has been asked twice.
async fn asked_who_is_there(world: &World<'_>, back: &Process) -> Result<()> {
    let owner = back.owner().await?;
    wait_until("the coordinator was asked twice", PATIENCE, async || {
        let sql = "SELECT ready, heartbeat_at > started_at + interval '8 seconds' FROM highwater.worker_status \
                   WHERE owner::text = $1";
        let row = &world.database.query(sql, &[&owner]).await?[0];
        Ok(row.get::<_, bool>(1).then(|| assert!(row.get::<_, bool>(0), "it is ready")))
    })
    .await?;
    assert!(!back.wrote("not a member of group"), "nobody doubts that it is a member");
    Ok(())
}

#[tokio::test]
async fn cooperative_a_restart_within_the_session_moves_nothing() -> TestResult {
    a_restart_moves_nothing(COOPERATIVE).await
}

#[tokio::test]
async fn eager_a_restart_within_the_session_moves_nothing() -> TestResult {
    a_restart_moves_nothing(EAGER).await
}

#[tokio::test]
async fn core_consumer_a_restart_within_the_session_moves_nothing() -> TestResult {
    a_restart_moves_nothing(CONSUMER).await
}

fn named(world: &World<'_>, label: &str, protocol: Protocol) -> Result<Process> {
    let settings = [&SMALL_BATCHES[..], protocol.settings, &[("HIGHWATER_INSTANCE_ID", "pod-0")]].concat();
    Process::start_with(world, label, "plain", &settings)
}

const WAITS: &str = "the group still has a member of this instance id";

/// Under KIP-848 the group keeps the place of a member that was killed, and refuses its successor, which is fatal for
/// the client: a new one is built until the session is over.
#[tokio::test]
async fn core_consumer_a_killed_members_successor_waits_for_its_session() -> TestResult {
    let world = World::new("unreleased", 2).await?;
    world.produce(50).await?;
    let first = named(&world, "first", CONSUMER)?;
    first.claimed().await?;
    first.child.kill()?;
    first.child.wait(PATIENCE).await?;
    let heir = named(&world, "heir", CONSUMER)?;
    heir.child.wait_for_line(|line| line.contains(WAITS), PATIENCE).await?;
    world.produce(50).await?;
    heir.claimed().await?;
    world.verify().await?;
    heir.stop().await?;
    world.assert_ledger_gapless().await?;
    Ok(())
}

/// … and one whose namesake lives waits until it goes: the place is not taken from a live process.
#[tokio::test]
async fn consumer_a_second_process_of_the_same_name_waits() -> TestResult {
    let world = World::new("namesake", 2).await?;
    world.produce(50).await?;
    let first = named(&world, "first", CONSUMER)?;
    first.claimed().await?;
    let second = named(&world, "second", CONSUMER)?;
    for _ in 0..3 {
        let mark = second.child.mark();
        second.child.wait_for_line_from(mark, |line| line.contains(WAITS), PATIENCE).await?;
        world.produce(10).await?;
        world.verify().await?;
    }
    assert!(!second.wrote("claimed partition="));
    first.stop().await?;
    second.claimed().await?;
    world.produce(10).await?;
    world.verify().await?;
    second.stop().await?;
    Ok(())
}

/// Under the classic protocol the name goes to whoever comes last; the other ends, and says why.
#[tokio::test]
async fn core_classic_a_second_process_of_the_same_name_ends_the_first() -> TestResult {
    let world = World::new("fenced", 2).await?;
    world.produce(50).await?;
    let first = named(&world, "first", COOPERATIVE)?;
    first.claimed().await?;
    let second = named(&world, "second", COOPERATIVE)?;
    assert_eq!(first.child.wait(PATIENCE).await?, 4, "InstanceFenced");
    assert!(first.wrote("give every process an instance id of its own"));
    second.claimed().await?;
    world.produce(50).await?;
    world.verify().await?;
    second.stop().await?;
    world.assert_ledger_gapless().await?;
    Ok(())
}

/// Two assignors do not mix. Who comes second waits, says why, and takes over when the first has gone.
#[tokio::test]
async fn a_member_with_another_assignor_waits_and_says_so() -> TestResult {
    let world = World::new("inconsistent", 2).await?;
    world.produce(50).await?;
    let first = Process::start_with(&world, "first", "plain", COOPERATIVE.settings)?;
    first.claimed().await?;
    let second = Process::start_with(&world, "second", "plain", ROUND_ROBIN.settings)?;
    let told = |line: &str| line.contains("share its partitions out by another assignor");
    second.child.wait_for_line(told, PATIENCE).await?;
    world.produce(50).await?;
    world.verify().await?;
    assert!(!second.wrote("claimed partition="));
    first.stop().await?;
    second.claimed().await?;
    world.produce(50).await?;
    world.verify().await?;
    second.stop().await?;
    world.assert_ledger_gapless().await?;
    Ok(())
}

/// What the broker does not have is a configuration error, not a client to be built again and again.
#[tokio::test]
async fn an_assignor_that_the_brokers_lack_ends_the_worker() -> TestResult {
    let kafka = highwater::testing::Kafka::start_with(&[("group.consumer.assignors", "range")]).await?;
    let setup = crate::support::Setup {
        kafka: &kafka,
        postgres: highwater::testing::Postgres::shared().await?,
        partitions: 1,
        topic_config: &[],
    };
    let world = World::with("assignor", setup).await?;
    let settings = [CONSUMER.settings, &[("HIGHWATER_ASSIGNOR", "uniform")]].concat();
    let worker = Process::start_with(&world, "worker", "plain", &settings)?;
    assert_eq!(worker.child.wait(Duration::from_secs(120)).await?, 2, "Configuration");
    assert!(worker.wrote("group.consumer.assignors"));
    Ok(())
}
