//! Killed, frozen, fenced, held up: a redrive stands or falls with its rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use highwater::testing::wait_until;
use highwater::{Batch, HandlerError, Tx};

use super::BAD;
use crate::support::{Fault, PATIENCE, Process, Sink, TestResult, World};

const SETTINGS: [(&str, &str); 2] =
    [("HIGHWATER_ON_REJECTED", "dead_letter"), ("HIGHWATER_SESSION_TIMEOUT", "4s")];

/// A worker that takes what was rejected, and stops at a failpoint: nothing but the redrive passes it, for everything else
/// is applied.
fn armed(world: &World<'_>, name: &str, failpoint: &str) -> TestResult<Process> {
    let settings = [&SETTINGS[..], &[("HIGHWATER_TEST_FAILPOINT", failpoint)]].concat();
    Ok(Process::start_with(world, name, "plain", &settings)?)
}

async fn killed_at(failpoints: &[&str]) -> TestResult {
    let world = World::with_letters("redrive-killed", 2, 300, false).await?;
    world.redrive(&[]).await?.ended(0);
    for failpoint in failpoints {
        let victim = armed(&world, failpoint, &format!("{failpoint}=kill"))?;
        assert_eq!(victim.child.wait(PATIENCE).await?, 137, "killed with SIGKILL at {failpoint}");
    }
    let heir = Process::start_with(&world, "heir", "plain", &SETTINGS)?;
    let ended = world.redrive_ended().await?;
    assert_eq!(
        (&ended["state"], &ended["redriven"], &ended["failed"]),
        (&"done".into(), &60.into(), &0.into())
    );
    world.verify_redriven().await?;
    let twice = "SELECT count(*) FROM (SELECT dead_letter_id FROM highwater.dead_letter_attempt WHERE kind = 'redrive' \
                 GROUP BY 1 HAVING count(*) > 1) twice";
    assert_eq!(world.number(twice).await?, 0);
    heir.stop().await?;
    Ok(())
}

#[tokio::test]
async fn core_killed_when_states_have_changed_and_when_commit_was_sent() -> TestResult {
    killed_at(&["letters_redriven", "commit_sent"]).await
}

#[tokio::test]
async fn killed_anywhere_else() -> TestResult {
    killed_at(&["redrive_taken", "batch_begun", "rows_written", "commit_answered"]).await
}

/// It wakes in the middle of a redrive that its heir has done meanwhile.
#[tokio::test]
async fn core_a_zombie_redrives_nothing() -> TestResult {
    let world = World::with_letters("redrive-zombie", 2, 100, false).await?;
    let zombie = armed(&world, "zombie", "rows_written=freeze")?;
    world.redrive(&[]).await?.ended(0);
    zombie.reached("rows_written").await?;
    let heir = Process::start_with(&world, "heir", "plain", &SETTINGS)?;
    assert_eq!(world.redrive_ended().await?["redriven"], 20);
    world.thawed(&zombie).await?;
    world.no_transaction_is_open().await?;
    world.verify_redriven().await?;
    let by_zombie = format!(
        "SELECT count(*) FROM highwater.dead_letter_attempt WHERE kind = 'redrive' AND owner = '{}'",
        zombie.owner().await?
    );
    assert_eq!(world.number(&by_zombie).await?, 0);
    zombie.stop().await?;
    heir.stop().await?;
    Ok(())
}

/// Has the claim taken away when the first letters are as good as written: nobody has ended the session, nobody has decided
/// about the letters, and the worker has not noticed yet.
struct Thief {
    client: tokio_postgres::Client,
    batches: AtomicUsize,
}

impl Fault for Thief {
    async fn before(&self, batch: &Batch, _: &mut Tx) -> Result<(), HandlerError> {
        let is_of_letters = batch.records().any(|record| record.key() == Some(BAD.as_bytes()));
        if is_of_letters && self.batches.fetch_add(1, Ordering::SeqCst) == 0 {
            let theft = "UPDATE highwater.consumer_offset SET claim_token = gen_random_uuid()";
            self.client.batch_execute(theft).await.map_err(|error| HandlerError::fatal(error.to_string()))?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn core_nothing_is_redriven_under_a_claim_that_is_over() -> TestResult {
    let world = World::with_letters("redrive-fenced", 1, 100, false).await?;
    let thief = Arc::new(Thief { client: world.database.client().await?, batches: AtomicUsize::new(0) });
    let worker =
        world.worker_with(world.setting_aside(), Sink { fault: Arc::clone(&thief), rows_only: false });
    assert_eq!(world.redriven(&[]).await?["redriven"], 10);
    world.verify_redriven().await?;
    assert!(thief.batches.load(Ordering::SeqCst) > 1, "in vain, until the worker has claimed it anew");
    worker.stop().await?;
    Ok(())
}

/// A partition that is paused in the middle of a redrive applies nothing; once it is resumed, it goes on.
#[tokio::test]
async fn core_nothing_is_redriven_while_a_partition_is_paused() -> TestResult {
    let world = World::with_letters("redrive-paused", 1, 100, false).await?;
    let worker = armed(&world, "paused", "rows_written=freeze")?;
    world.redrive(&[]).await?.ended(0);
    worker.reached("rows_written").await?;
    let partitions = ["--group", &world.group, "--all-topics", "--reason", "a test"];
    world.highwater(&[&["partitions", "pause"], &partitions[..]].concat()).await?.ended(0);
    world.thawed(&worker).await?;
    world.no_transaction_is_open().await?;
    assert_eq!(world.letters().await?.len(), 10);
    world.assert_rows_and_letters("sink").await?;
    world.highwater(&[&["partitions", "resume"], &partitions[..]].concat()).await?.ended(0);
    assert_eq!(world.redrive_ended().await?["redriven"], 10);
    world.assert_exact(true).await?;
    assert_eq!(world.letters().await?.len(), 0);
    worker.stop().await?;
    Ok(())
}

/// A table that somebody has locked is waited for; no record is to blame for that.
#[tokio::test]
async fn what_is_no_records_fault_is_waited_for() -> TestResult {
    let world = World::with_letters("redrive-locked", 1, 50, false).await?;
    let mut locker = world.database.client().await?;
    let lock = locker.transaction().await?;
    lock.batch_execute("LOCK TABLE sink IN ACCESS EXCLUSIVE MODE").await?;
    let settings = [&SETTINGS[..], &[("HIGHWATER_LOCK_TIMEOUT", "500ms")]].concat();
    let worker = Process::start_with(&world, "waits", "plain", &settings)?;
    world.redrive(&[]).await?.ended(0);
    wait_until("it was tried several times", PATIENCE, async || {
        let tried = worker
            .child
            .lines()
            .iter()
            .filter(|line| line.text.contains("dead letters were not redriven"))
            .count();
        Ok((tried >= 3).then_some(()))
    })
    .await?;
    // Whoever looks at the redrive learns why it stands still, without the worker's log.
    let place = format!("{}[0]: ", world.topic);
    let why = world.redrives().await?[0]["why"].as_str().unwrap_or_default().to_owned();
    assert!(why.starts_with(&place) && why.contains("lock") && why.ends_with("; trying again"), "{why}");
    // Nobody tries again when it is dead.
    worker.child.kill()?;
    wait_until("its word counts no more", PATIENCE, async || {
        let redrive =
            &world.redrives().await.map_err(|error| highwater::testing::Error::caused("look", error))?[0];
        Ok((redrive["why"].is_null() && redrive["unheld"] == 5).then_some(()))
    })
    .await?;
    let worker = Process::start_with(&world, "goes on", "plain", &settings)?;
    lock.rollback().await?;
    let ended = world.redrive_ended().await?;
    assert_eq!((&ended["redriven"], &ended["failed"]), (&5.into(), &0.into()));
    assert_eq!(ended["why"], serde_json::Value::Null, "it is over");
    world.verify_redriven().await?;
    assert_eq!(world.number("SELECT max(attempts)::int8 FROM highwater.dead_letter").await?, 1);
    worker.stop().await?;
    Ok(())
}
