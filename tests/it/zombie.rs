//! Workers that were taken for dead and are not, backends that hold locks for nobody, commits whose outcome is
//! unknown (EO-3, EO-7).

mod contention;
mod unknown;

use highwater::testing::{Result, wait_until};
use highwater::{Batch, HandlerError, Tx};
use tokio::sync::watch;

use crate::support::{Fault, PATIENCE, Process, Sink, TestResult, World};

const SMALL_BATCHES: [(&str, &str); 2] =
    [("HIGHWATER_BATCH_TARGET_RECORDS", "10"), ("HIGHWATER_BATCH_MAX_RECORDS", "20")];

/// The line by which a successor says that it had to end a zombie's backend.
const ENDED_A_BACKEND: &str = "ended a backend";

fn freezing(world: &World<'_>, role: &str, failpoint: &str) -> Result<Process> {
    let settings = [&SMALL_BATCHES[..], &[("HIGHWATER_TEST_FAILPOINT", failpoint)]].concat();
    Process::start_with(world, "zombie", role, &settings)
}

/// The thawed zombie is a member like any other: it holds a partition again, and applies.
async fn healthy_again(world: &World<'_>, zombie: &Process) -> Result<()> {
    let owner = zombie.owner().await?;
    if let Err(error) = world.holds_something(&owner).await {
        panic!("{error}; it wrote:\n{}", zombie.child);
    }
    let before = world.status_of(&owner, "records_total").await?;
    wait_until("the zombie applies records again", PATIENCE, async || {
        world.produce(5).await?;
        Ok((world.status_of(&owner, "records_total").await? > before).then_some(()))
    })
    .await
}

/// Waits until the count of claims that a process found taken is above zero.
async fn fenced(world: &World<'_>, zombie: &Process) -> Result<()> {
    let owner = zombie.owner().await?;
    wait_until("the zombie counts its fencing", PATIENCE, async || {
        Ok((world.status_of(&owner, "fenced_total").await? > 0).then_some(()))
    })
    .await?;
    assert!(zombie.wrote("fenced: another process"), "it says so, too");
    Ok(())
}

#[tokio::test]
async fn core_frozen_before_its_first_write() -> TestResult {
    let world = World::new("zombie", 2).await?;
    world.produce(100).await?;
    // One lane: another one's transaction, caught in its compare-and-set, would hold a lock after all.
    let one_lane = [("HIGHWATER_LANES", "1"), ("HIGHWATER_TEST_FAILPOINT", "batch_begun=3*freeze")];
    let settings = [&SMALL_BATCHES[..], &one_lane].concat();
    let zombie = Process::start_with(&world, "zombie", "rows", &settings)?;
    zombie.reached("batch_begun").await?;
    let heir = Process::start_with(&world, "heir", "rows", &SMALL_BATCHES)?;
    heir.claimed().await?;
    world.produce(50).await?;
    world.caught_up().await?;

    let mark = zombie.child.mark();
    zombie.child.thaw()?;
    // Its compare-and-set is really sent, and matches nothing.
    let missed = |line: &str| line.contains("the compare-and-set missed") && line.contains("moved=0");
    zombie.child.wait_for_line_from(mark, missed, PATIENCE).await?;
    fenced(&world, &zombie).await?;
    assert!(!heir.wrote(ENDED_A_BACKEND), "the zombie held no lock: nobody had a reason to end its backend");
    healthy_again(&world, &zombie).await?;
    world.caught_up().await?;
    world.assert_exact(false).await?;
    world.assert_ledger_gapless().await?;
    zombie.stop().await?;
    heir.stop().await?;
    Ok(())
}

/// Holds every batch until it is opened.
struct Gate {
    entered: watch::Sender<bool>,
    open: watch::Receiver<bool>,
}

impl Fault for Gate {
    async fn before(&self, _: &Batch, _: &mut Tx) -> std::result::Result<(), HandlerError> {
        self.entered.send_replace(true);
        let opened = self.open.clone().wait_for(|open| *open).await.map(drop);
        opened.map_err(|_| HandlerError::retry("the test is over"))
    }
}

/// Only the claim has changed hands: `next_offset` is still where the zombie's batch starts, and the token alone
/// stands between it and the table (EO-3).
#[tokio::test]
async fn core_fenced_by_its_token_though_the_offset_has_not_moved() -> TestResult {
    let world = World::new("token", 1).await?;
    world.produce(50).await?;
    let zombie = freezing(&world, "rows", "batch_begun=freeze")?;
    zombie.reached("batch_begun").await?;
    let (entered, mut inside) = watch::channel(false);
    let (open, opened) = watch::channel(false);
    let heir = world.worker(Sink { fault: Gate { entered, open: opened }, rows_only: true });
    tokio::time::timeout(PATIENCE, inside.wait_for(|inside| *inside)).await??;

    zombie.child.thaw()?;
    let missed = |line: &str| line.contains("the compare-and-set missed") && line.contains("moved=0");
    zombie.child.wait_for_line(missed, PATIENCE).await?;
    assert_eq!(world.database.count("sink").await?, 0, "nothing is applied while the heir holds the claim");
    open.send_replace(true);
    fenced(&world, &zombie).await?;
    world.caught_up().await?;
    world.assert_exact(false).await?;
    world.assert_ledger_gapless().await?;
    zombie.stop().await?;
    heir.stop().await?;
    Ok(())
}

/// Frozen with locks that no time-out of Postgres frees in time: the heir ends its backend and goes on.
async fn frozen_with_locks(role: &str, failpoint: &str) -> TestResult {
    let world = World::new("locks", 2).await?;
    world.database.execute("CREATE TABLE copied (partition int, record_offset bigint)").await?;
    world.database.execute(&format!("GRANT INSERT ON copied TO {}", world.role.name)).await?;
    world.produce(100).await?;
    let armed = if failpoint == "mid_copy" { String::new() } else { format!("{failpoint}=3*freeze") };
    let zombie = match armed.as_str() {
        "" => Process::start_with(&world, "zombie", role, &SMALL_BATCHES)?,
        armed => freezing(&world, role, armed)?,
    };
    zombie.reached(failpoint).await?;
    let heir = Process::start_with(&world, "heir", "plain", &SMALL_BATCHES)?;
    heir.claimed().await?;
    world.produce(50).await?;
    // Had the server's own limit, or the zombie, freed the locks, it would have had no reason to.
    heir.child.wait_for_line(|line| line.contains(ENDED_A_BACKEND), PATIENCE).await?;
    world.verify().await?;

    zombie.child.thaw()?;
    healthy_again(&world, &zombie).await?;
    world.verify().await?;
    assert_eq!(zombie.child.exit_status(), None);
    zombie.stop().await?;
    heir.stop().await?;
    Ok(())
}

#[tokio::test]
async fn core_frozen_holding_the_lock_of_its_offset_row() -> TestResult {
    frozen_with_locks("plain", "before_commit").await
}

#[tokio::test]
async fn frozen_holding_locks_on_balances() -> TestResult {
    frozen_with_locks("plain", "rows_written").await
}

#[tokio::test]
async fn core_frozen_in_mid_copy_holding_locks() -> TestResult {
    frozen_with_locks("copy", "mid_copy").await
}
