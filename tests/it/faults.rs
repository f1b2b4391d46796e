//! Everything around a worker goes wrong: the network, both servers, the machine, other programs. Each test ends in
//! the oracle, the balances and the coverage ledger.
//!
//! What takes minutes is `#[ignore]`d; `docs/testing.md` says how to run it.

mod bounds;
mod brokers;
mod kafka;
mod kills;
mod network;
mod others;
mod past;
pub(crate) mod pooler;
mod postgres;
mod releases;

use std::process::Command;

use highwater::testing::{Backend, Child, Result, wait_until};
use highwater::{PartialConfig, WorkerHandle};

use crate::support::watch::halted_now;
use crate::support::{PATIENCE, TestResult, example};

/// Batches so small that a few seconds of load make dozens.
fn small_batches(settings: PartialConfig) -> PartialConfig {
    settings.batch_target_records(10_usize).batch_max_records(20_usize)
}

/// Waits until so many more batches had to be tried again. Whatever the fault is: it has struck then.
async fn tries_again(worker: &WorkerHandle, times: u64) -> Result<()> {
    let goal = worker.status().counters.retries + times;
    wait_until("batches are tried again", PATIENCE, async || {
        Ok((worker.status().counters.retries >= goal).then_some(()))
    })
    .await
}

/// A fault of the environment halts nothing, and was no fencing.
#[track_caller]
fn assert_unharmed(worker: &WorkerHandle) {
    let status = worker.status();
    assert_eq!(halted_now(worker), [] as [i32; 0], "{status:#?}");
    assert_eq!(status.counters.fenced, 0, "it was alone: {status:#?}");
}

/// The soak in little. Which faults a minute holds is the seed's to say; the whole of it takes half an hour.
#[tokio::test]
#[ignore = "soak: a minute of faults, and as long again"]
async fn soak_for_a_minute() -> TestResult {
    if Backend::current().await? == Backend::Containers {
        eprintln!("skipped: the data of a server in a container cannot be put back");
        return Ok(());
    }
    let mut command = Command::new(example("soak"));
    command.args(["--minutes", "1", "--rate", "200"]);
    let soak = Child::spawn("soak", &command)?;
    let status = soak.wait(8 * PATIENCE).await?;
    let output = soak.stdout();
    assert_eq!(output.lines().last(), Some("missing 0, duplicates 0"), "{soak}");
    assert_eq!(status, 0, "{soak}");
    Ok(())
}

#[tokio::test]
async fn the_soak_explains_itself_and_refuses_what_it_does_not_know() -> TestResult {
    for (argument, status, text) in
        [("--help", 0, "--seed N"), ("--minute", 2, "unknown argument \"--minute\"")]
    {
        let mut command = Command::new(example("soak"));
        command.arg(argument);
        let soak = Child::spawn("soak", &command)?;
        assert_eq!(soak.wait(PATIENCE).await?, status);
        assert!(soak.lines().iter().any(|line| line.text.contains(text)), "{soak}");
    }
    Ok(())
}
