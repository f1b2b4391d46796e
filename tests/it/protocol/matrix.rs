//! Protocol × membership: each cell grows, shrinks, loses a member to SIGKILL, wakes a zombie and is restarted member by
//! member, all under load.

use highwater::testing::{Result, wait_until};

use super::{CONSUMER, COOPERATIVE, EAGER, Fleet, Membership, Protocol, ROUND_ROBIN};
use crate::support::fleet::Owners;
use crate::support::{PATIENCE, TestResult, World};

const DYNAMIC: Membership = Membership { fixed: false, session_timeout: "4s" };
const STATIC: Membership = Membership { fixed: true, session_timeout: "4s" };

async fn cell(protocol: Protocol, membership: Membership) -> TestResult {
    let world = World::new("cell", 6).await?;
    let mut fleet = Fleet::new(&world, protocol, membership);
    world
        .under_load(async {
            fleet.add("a")?;
            fleet.add("b")?;
            fleet.settled(None).await?;
            fleet.assert_is_what_it_says().await?;
            scale_out(&mut fleet).await?;
            scale_in(&mut fleet).await?;
            kill(&mut fleet).await?;
            zombie(&mut fleet).await?;
            rolling_restart(&mut fleet).await
        })
        .await?;
    world.verify().await?;
    fleet.assert_is_what_it_says().await?;
    fleet.stop_all().await?;
    world.assert_ledger_gapless().await?;
    fleet.assert_answered_at_once();
    Ok(())
}

/// A third member takes its share. Under an eager protocol every claim is made anew; else, exactly those of the
/// partitions that moved.
async fn scale_out(fleet: &mut Fleet<'_, '_>) -> Result<()> {
    let before = fleet.settled(None).await?;
    fleet.add("c")?;
    let after = fleet.settled(Some(&before)).await?;
    for (partition, (owner, epoch)) in &before {
        let (new_owner, new_epoch) = &after[partition];
        let renewed = fleet.protocol.eager || owner != new_owner;
        assert_eq!(renewed, epoch != new_epoch, "partition {partition}: {before:?} became {after:?}");
    }
    assert!(moved(&before, &after) > 0, "the third member has something");
    fleet.world.progress(100).await
}

/// A member leaves; one with an instance id is missed only when its session is over.
async fn scale_in(fleet: &mut Fleet<'_, '_>) -> Result<()> {
    let before = fleet.settled(None).await?;
    fleet.stop("c").await?;
    let after = fleet.settled(Some(&before)).await?;
    assert!(moved(&before, &after) > 0, "its partitions have new owners");
    fleet.world.progress(100).await
}

/// A member dies in the middle of its work, and is replaced at once.
async fn kill(fleet: &mut Fleet<'_, '_>) -> Result<()> {
    let before = fleet.settled(None).await?;
    let victim = fleet.take("b");
    let owner = victim.owner().await?;
    victim.child.kill()?;
    assert_eq!(victim.child.wait(PATIENCE).await?, 137);
    fleet.add("b")?;
    let what = format!("{owner}, who is dead, holds nothing");
    wait_until(&what, PATIENCE, async || {
        let owners = fleet.world.owners().await?;
        Ok(owners.values().all(|(holder, _)| holder.as_ref() != Some(&owner)).then_some(()))
    })
    .await?;
    let after = fleet.settled(None).await?;
    assert!(moved(&before, &after) > 0, "its partitions have new owners");
    fleet.world.progress(100).await
}

/// A member freezes in the middle of its work for longer than its session; the other goes on without it. When it
/// wakes, it finds its claims taken, and becomes a member like any other.
async fn zombie(fleet: &mut Fleet<'_, '_>) -> Result<()> {
    let world = fleet.world;
    let zombie = fleet.take("a");
    let owner = zombie.owner().await?;
    let fenced_before = world.status_of(&owner, "fenced_total").await?;
    let before = fleet.world.owners().await?;
    zombie.child.freeze()?;
    fleet.settled(None).await?;
    world.progress(100).await?;
    zombie.child.thaw()?;
    wait_until("the zombie holds something, under a claim of after its death", PATIENCE, async || {
        let owners = world.owners().await?;
        let holds = |(partition, (holder, epoch)): (&i32, &(Option<String>, i64))| {
            holder.as_ref() == Some(&owner) && *epoch > before[partition].1
        };
        Ok(owners.iter().any(holds).then_some(()))
    })
    .await?;
    // Its return makes an eager group give everything back, so that it may find its old claims released, not taken.
    if !fleet.protocol.eager {
        wait_until("it counts its fencing", PATIENCE, async || {
            let fenced = world.status_of(&owner, "fenced_total").await?;
            Ok((fenced > fenced_before).then_some(()))
        })
        .await?;
    }
    fleet.members.push(super::Member { name: "a".to_owned(), process: zombie });
    fleet.settled(None).await?;
    world.progress(100).await
}

/// One after the other is stopped and started again.
async fn rolling_restart(fleet: &mut Fleet<'_, '_>) -> Result<()> {
    for name in ["a", "b"] {
        fleet.stop(name).await?;
        fleet.add(name)?;
        fleet.world.holds_something(&fleet.process(name).owner().await?).await?;
        fleet.settled(None).await?;
        fleet.world.progress(100).await?;
    }
    Ok(())
}

/// How many partitions have another owner than before.
fn moved(before: &Owners, after: &Owners) -> usize {
    before.iter().filter(|(partition, (owner, _))| *owner != after[partition].0).count()
}

#[tokio::test]
async fn core_cooperative_dynamic() -> TestResult {
    cell(COOPERATIVE, DYNAMIC).await
}

#[tokio::test]
#[ignore = "slow: cargo test --test it slow_ -- --ignored"]
async fn slow_cooperative_static() -> TestResult {
    cell(COOPERATIVE, STATIC).await
}

#[tokio::test]
async fn core_eager_dynamic() -> TestResult {
    cell(EAGER, DYNAMIC).await
}

#[tokio::test]
#[ignore = "slow: cargo test --test it slow_ -- --ignored"]
async fn slow_eager_round_robin() -> TestResult {
    cell(ROUND_ROBIN, DYNAMIC).await
}

#[tokio::test]
#[ignore = "slow: cargo test --test it slow_ -- --ignored"]
async fn slow_eager_static() -> TestResult {
    cell(EAGER, STATIC).await
}

#[tokio::test]
async fn core_consumer_dynamic() -> TestResult {
    cell(CONSUMER, DYNAMIC).await
}

#[tokio::test]
#[ignore = "slow: cargo test --test it slow_ -- --ignored"]
async fn slow_consumer_static() -> TestResult {
    cell(CONSUMER, STATIC).await
}
