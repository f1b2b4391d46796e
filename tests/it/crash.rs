//! Workers killed with SIGKILL at named places: whoever comes next applies what is left, once (EO-1, EO-4).

use highwater::testing::wait_until;

use crate::support::{PATIENCE, Process, Sink, TestResult, World};

/// Batches so small that a few seconds of load make dozens, and a session that is over soon.
const SETTINGS: [(&str, &str); 3] = [
    ("HIGHWATER_BATCH_TARGET_RECORDS", "10"),
    ("HIGHWATER_BATCH_MAX_RECORDS", "20"),
    ("HIGHWATER_SESSION_TIMEOUT", "4s"),
];

/// Kills a worker at its `nth` pass of the failpoint, under load; a second one takes over.
async fn killed_at(failpoint: &str, nth: usize) -> TestResult {
    let world = World::new("crash", 3).await?;
    let armed = format!("{failpoint}={nth}*kill");
    let settings = [&SETTINGS[..], &[("HIGHWATER_TEST_FAILPOINT", &*armed)]].concat();
    let victim = Process::start_with(&world, "victim", "plain", &settings)?;
    let died = world.under_load(async {
        victim.reached(failpoint).await?;
        victim.child.wait(PATIENCE).await
    });
    assert_eq!(died.await?, 137, "killed with SIGKILL");

    let heir = Process::start_with(&world, "heir", "plain", &SETTINGS)?;
    world.produce(50).await?;
    world.verify().await?;
    assert!(
        world.status_of(&heir.owner().await?, "records_total").await? >= 150,
        "the heir applied the rest"
    );
    heir.stop().await?;
    world.assert_ledger_gapless().await?;
    Ok(())
}

#[tokio::test]
async fn core_killed_between_rows_and_offsets() -> TestResult {
    killed_at("rows_written", 3).await
}

#[tokio::test]
async fn core_killed_between_offsets_and_commit() -> TestResult {
    killed_at("before_commit", 3).await
}

#[tokio::test]
async fn core_killed_right_after_commit_was_sent() -> TestResult {
    killed_at("commit_sent", 5).await
}

#[tokio::test]
async fn killed_right_after_commit_was_answered() -> TestResult {
    killed_at("commit_answered", 5).await
}

#[tokio::test]
async fn core_killed_before_the_mirror() -> TestResult {
    killed_at("before_mirror", 2).await
}

/// A future that is dropped stops hard; were its lanes or its heart to go on, nobody could tell that it is gone.
#[tokio::test]
async fn a_dropped_worker_is_really_gone() -> TestResult {
    let world = World::new("dropped", 2).await?;
    world.produce(50).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.abort().await;
    let live = "SELECT count(*) FROM highwater.worker_status WHERE heartbeat_at > clock_timestamp() - interval '3 seconds'";
    wait_until("the dropped worker counts as gone", PATIENCE, async || {
        Ok((world.number(live).await? == 0).then_some(()))
    })
    .await?;
    let heir = world.worker(Sink::<()>::default());
    world.produce(50).await?;
    world.verify().await?;
    heir.stop().await?;
    Ok(())
}
