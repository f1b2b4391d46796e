//! Killed, frozen, fenced: a dead letter stands or falls with its batch.

use highwater::testing::wait_until;

use crate::support::{PATIENCE, Process, TestResult, World};

const SETTINGS: [(&str, &str); 4] = [
    ("HIGHWATER_ON_REJECTED", "dead_letter"),
    ("HIGHWATER_BATCH_TARGET_RECORDS", "20"),
    ("HIGHWATER_BATCH_MAX_RECORDS", "20"),
    ("HIGHWATER_SESSION_TIMEOUT", "4s"),
];

async fn world(hint: &str) -> TestResult<World<'static>> {
    let world = World::new(hint, 2).await?;
    for partition in 0..2 {
        world.send_with_bad(partition, 200, |n| n % 10 == 4)?;
    }
    world.producer.flush().await?;
    Ok(world)
}

async fn killed_at(failpoint: &str, nth: usize) -> TestResult {
    let world = world("letters-killed").await?;
    let armed = format!("{failpoint}={nth}*kill");
    let settings = [&SETTINGS[..], &[("HIGHWATER_TEST_FAILPOINT", &*armed)]].concat();
    let victim = Process::start_with(&world, "victim", "rejecting", &settings)?;
    assert_eq!(victim.child.wait(PATIENCE).await?, 137, "killed with SIGKILL");
    let heir = Process::start_with(&world, "heir", "rejecting", &SETTINGS)?;
    assert_eq!(world.verify_with_letters().await?.len(), 40);
    assert_eq!(
        world.number("SELECT max(attempts)::int8 FROM highwater.dead_letter").await?,
        1,
        "none was stored twice"
    );
    heir.stop().await?;
    Ok(())
}

#[tokio::test]
async fn core_killed_when_dead_letters_are_stored_and_nothing_is_committed() -> TestResult {
    killed_at("letters_stored", 5).await
}

#[tokio::test]
async fn killed_when_commit_was_sent() -> TestResult {
    killed_at("commit_sent", 7).await
}

/// Its claim is taken while it holds a dead letter that is not committed.
#[tokio::test]
async fn core_a_zombie_leaves_no_dead_letter() -> TestResult {
    let world = world("letters-frozen").await?;
    let settings = [&SETTINGS[..], &[("HIGHWATER_TEST_FAILPOINT", "letters_stored=3*freeze")]].concat();
    let zombie = Process::start_with(&world, "zombie", "rejecting", &settings)?;
    zombie.reached("letters_stored").await?;
    let heir = Process::start_with(&world, "heir", "rejecting", &SETTINGS)?;
    assert_eq!(world.verify_with_letters().await?.len(), 40);
    zombie.child.thaw()?;
    let owner = zombie.owner().await?;
    wait_until("the zombie is at work again", PATIENCE, async || {
        world.send_with_bad(0, 2, |_| false)?;
        world.send_with_bad(1, 2, |_| false)?;
        world.producer.flush().await?;
        let live = format!("SELECT count(*) FROM highwater.consumer_offset WHERE owner = '{owner}'");
        Ok((world.number(&live).await? > 0).then_some(()))
    })
    .await?;
    assert_eq!(world.verify_with_letters().await?.len(), 40);
    assert_eq!(world.number("SELECT max(attempts)::int8 FROM highwater.dead_letter").await?, 1);
    zombie.stop().await?;
    heir.stop().await?;
    Ok(())
}
