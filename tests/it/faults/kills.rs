//! Worker processes that die at random moments, also in the middle of a rebalance (EO-1, EO-3, EO-4).

use std::time::Duration;

use highwater::testing::Result;

use crate::support::{PATIENCE, Process, TestResult, World};

/// Small batches.
const BATCHES: [(&str, &str); 2] =
    [("HIGHWATER_BATCH_TARGET_RECORDS", "10"), ("HIGHWATER_BATCH_MAX_RECORDS", "20")];

/// A session that is over soon, where the client has a say in it.
const CLASSIC: (&str, &str) = ("HIGHWATER_SESSION_TIMEOUT", "5s");
const EAGER: [(&str, &str); 2] = [CLASSIC, ("HIGHWATER_ASSIGNOR", "range")];
const KIP_848: (&str, &str) = ("HIGHWATER_GROUP_PROTOCOL", "consumer");

/// Kills one of three workers after another, under load, and starts a new one at once.
async fn killed_at_random(
    hint: &str,
    protocol: &[(&str, &str)],
    times: usize,
    longest: Duration,
) -> TestResult {
    let world = World::new(hint, 6).await?;
    let settings = [&BATCHES[..], protocol].concat();
    let start = |number: usize| Process::start_with(&world, &format!("worker-{number}"), "plain", &settings);
    let longest_ms = u64::try_from(longest.as_millis())?;
    let fleet = world.under_load(async {
        let mut fleet = (0..3).map(start).collect::<Result<Vec<_>>>()?;
        world.held_by(3).await?;
        for number in 3..3 + times {
            // The moment itself is the point: there is nothing to wait for.
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..=longest_ms))).await;
            let victim = std::mem::replace(&mut fleet[fastrand::usize(0..3)], start(number)?);
            victim.child.kill()?;
            assert_eq!(victim.child.wait(PATIENCE).await?, 137, "killed with SIGKILL");
        }
        world.progress(100).await?;
        Ok(fleet)
    });
    let fleet = fleet.await?;
    world.verify().await?;
    for worker in &fleet {
        worker.stop().await?;
    }
    world.assert_ledger_gapless().await?;
    Ok(())
}

/// Quick enough to hit rebalances that are under way.
const DOZEN: (usize, Duration) = (12, Duration::from_millis(800));
/// Slow enough to hit a fleet that has settled, too.
const HUNDREDS: (usize, Duration) = (300, Duration::from_secs(4));

#[tokio::test]
async fn core_a_dozen_kills_at_random_moments() -> TestResult {
    killed_at_random("kills", &[CLASSIC], DOZEN.0, DOZEN.1).await
}

#[tokio::test]
async fn a_dozen_kills_under_an_eager_protocol() -> TestResult {
    killed_at_random("kills-eager", &EAGER, DOZEN.0, DOZEN.1).await
}

#[tokio::test]
async fn a_dozen_kills_under_kip_848() -> TestResult {
    killed_at_random("kills-848", &[KIP_848], DOZEN.0, DOZEN.1).await
}

#[tokio::test]
#[ignore = "soak: 300 kills take ten minutes"]
async fn hundreds_of_kills() -> TestResult {
    killed_at_random("hundreds", &[CLASSIC], HUNDREDS.0, HUNDREDS.1).await
}

#[tokio::test]
#[ignore = "soak: 300 kills take ten minutes"]
async fn hundreds_of_kills_under_an_eager_protocol() -> TestResult {
    killed_at_random("hundreds-eager", &EAGER, HUNDREDS.0, HUNDREDS.1).await
}

#[tokio::test]
#[ignore = "soak: 300 kills take ten minutes"]
async fn hundreds_of_kills_under_kip_848() -> TestResult {
    killed_at_random("hundreds-848", &[KIP_848], HUNDREDS.0, HUNDREDS.1).await
}

/// No memory left, in the middle of a batch whose rows are written: whichever thread asks for some first, the process
/// aborts itself.
#[tokio::test]
async fn core_a_worker_that_runs_out_of_memory() -> TestResult {
    let world = World::new("memory", 3).await?;
    let hungry = Process::start_with(&world, "hungry", "hungry", &BATCHES)?;
    let died = world.under_load(async {
        hungry.child.wait_for_line(|line| line.contains("no memory is left"), PATIENCE).await?;
        hungry.child.wait(PATIENCE).await
    });
    assert_eq!(died.await?, 134, "it aborted");
    let heir = Process::start_with(&world, "heir", "plain", &BATCHES)?;
    world.produce(50).await?;
    world.verify().await?;
    heir.stop().await?;
    world.assert_ledger_gapless().await?;
    Ok(())
}
