//! Dead letters that are applied once more: once, whoever asks for it and whatever is killed meanwhile.

mod broken;
mod decided;
mod figures;
mod whole;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use highwater::testing::wait_until;
use highwater::{Batch, Handler, HandlerError, Record, Tx, WorkerHandle};
use serde_json::Value;

use super::{BAD, Named};
use crate::operator::command::Said;
use crate::operator::shapes::{check, documented};
use crate::support::{Fault, Gate, PATIENCE, Process, Sink, TestResult, World};

const IGNORING: [&str; 4] = ["--ignore-order", "--reason", "mended", "--execute"];

/// Rejects bad records until it is mended.
#[derive(Default)]
struct Mendable {
    mended: AtomicBool,
}

impl Mendable {
    fn mend(&self) {
        self.mended.store(true, Ordering::SeqCst);
    }
}

impl Fault for Mendable {
    fn record(&self, record: &Record<'_>) -> Result<(), HandlerError> {
        if self.mended.load(Ordering::SeqCst) { Ok(()) } else { Named::default().record(record) }
    }
}

/// Says of no table that it writes it.
struct Silent;

impl Handler for Silent {
    async fn handle(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        Sink { fault: (), rows_only: true }.handle(batch, tx).await
    }
}

/// Holds batches with bad records while it is closed.
#[derive(Default)]
struct Doorman(Gate);

impl Fault for Doorman {
    async fn before(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        if batch.records().any(|record| record.key() == Some(BAD.as_bytes())) {
            self.0.before(batch, tx).await?;
        }
        Ok(())
    }
}

impl World<'_> {
    /// So many records a partition, of which every tenth is a dead letter, and no worker any more.
    async fn with_letters(
        hint: &str,
        partitions: i32,
        count: usize,
        rows_only: bool,
    ) -> TestResult<World<'static>> {
        let world = World::new(hint, partitions).await?;
        for partition in 0..partitions {
            world.send_with_bad(partition, count, |n| n % 10 == 4)?;
        }
        world.producer.flush().await?;
        let worker = world.rejecting(rows_only);
        world.caught_up().await?;
        world.tables_registered().await?;
        worker.stop().await?;
        assert_eq!(world.letters().await?.len(), usize::try_from(partitions)? * count / 10);
        Ok(world)
    }

    fn rejecting(&self, rows_only: bool) -> WorkerHandle {
        self.worker_with(self.setting_aside(), Sink { fault: Named::default(), rows_only })
    }

    fn mended(&self) -> WorkerHandle {
        self.worker_with(self.setting_aside(), Sink::<()>::default())
    }

    /// Waits until the worker says so of every partition's handler.
    async fn said_to_write(&self, what: &str) -> TestResult {
        let said = format!("SELECT count(*) FROM highwater.partition_status WHERE writes = '{what}'");
        wait_until("what its handler writes is told", PATIENCE, async || {
            Ok((self.number(&said).await? == i64::from(self.partitions)).then_some(()))
        })
        .await?;
        Ok(())
    }

    async fn tables_registered(&self) -> TestResult {
        wait_until("the sink's tables are registered", PATIENCE, async || {
            Ok((self.database.count("highwater.sink_table").await? > 0).then_some(()))
        })
        .await?;
        Ok(())
    }

    /// Asks for it, whatever the order.
    async fn redrive(&self, more: &[&str]) -> TestResult<Said> {
        self.dead_letters("redrive", &[&IGNORING[..], more].concat()).await
    }

    /// Asks for it, and gives it as it stands.
    async fn redrive_begun(&self, more: &[&str]) -> TestResult<Value> {
        let said = self.redrive(&[more, &["--json"]].concat()).await?.ended(0).json();
        Ok(said["redrives"][0].clone())
    }

    /// Asks for it, and waits until it has ended.
    async fn redriven(&self, more: &[&str]) -> TestResult<Value> {
        self.redrive_begun(&[more, &["--wait"]].concat()).await
    }

    async fn redrives(&self) -> TestResult<Value> {
        Ok(self.dead_letters("redrives", &["--json"]).await?.ended(0).json())
    }

    /// Waits until the newest redrive has ended.
    pub(super) async fn redrive_ended(&self) -> TestResult<Value> {
        let running = "SELECT count(*) FROM highwater.redrive_request WHERE state = 'running'";
        wait_until("the redrive has ended", PATIENCE, async || {
            Ok((self.number(running).await? == 0).then_some(()))
        })
        .await?;
        Ok(self.redrives().await?[0].clone())
    }

    /// Waits until a worker has been frozen for so long that its failpoint notices it, and lets it go on.
    async fn thawed(&self, process: &Process) -> TestResult {
        let still = format!(
            "SELECT count(*) FROM highwater.worker_status WHERE owner = '{}' \
             AND heartbeat_at < clock_timestamp() - interval '3 seconds'",
            process.owner().await?
        );
        wait_until("it stands still", PATIENCE, async || Ok((self.number(&still).await? > 0).then_some(())))
            .await?;
        process.child.thaw()?;
        Ok(())
    }

    /// Waits until what a worker has begun has ended, one way or the other.
    async fn no_transaction_is_open(&self) -> TestResult {
        let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL \
                    AND application_name LIKE 'highwater/%'";
        wait_until("no transaction is open", PATIENCE, async || {
            Ok((self.number(open).await? == 0).then_some(()))
        })
        .await?;
        Ok(())
    }

    /// How many letters in a state there are.
    pub(super) async fn letters_in(&self, state: &str) -> TestResult<i64> {
        let sql = format!("SELECT count(*) FROM highwater.dead_letter WHERE state = '{state}'");
        Ok(self.number(&sql).await?)
    }

    /// Everything is applied once, and no dead letter is open.
    async fn verify_redriven(&self) -> TestResult {
        self.verify().await?;
        assert_eq!(self.letters().await?.len(), 0, "none is open");
        Ok(())
    }
}

#[tokio::test]
async fn core_they_are_counted_redriven_and_add_up() -> TestResult {
    let world = World::with_letters("redrive", 2, 100, false).await?;
    // Counted first, with who is not eligible and why.
    let dry = world.dead_letters("redrive", &["--dry-run"]).await?.ended(0).stdout;
    assert!(dry.contains("20 records: the handler of their topic does more than append"), "{dry}");
    assert!(dry.ends_with("no open dead letters fit that are eligible\n"), "{dry}");
    let dry =
        world.dead_letters("redrive", &["--dry-run", "--ignore-order", "--max", "7"]).await?.ended(0).stdout;
    assert!(dry.contains(&format!("{} ", world.group)), "{dry}");
    assert!(dry.ends_with("7 records would be redriven; nothing was done\n"), "{dry}");
    world.dead_letters("redrive", &["--ignore-order", "--execute"]).await?.ended(2);
    let nothing = world.dead_letters("redrives", &[]).await?.ended(0).stdout;
    assert_eq!(nothing, "nothing was ever redriven\n");

    let worker = world.mended();
    let one = format!("{}:1", world.topic);
    let said = world.redrive(&["--topic", &one, "--max", "7", "--wait", "--json"]).await?.ended(0).json();
    check(&said, &documented("dead-letters redrive"), "redrive");
    assert_eq!(
        (&said["redrives"][0]["redriven"], &said["redrives"][0]["state"]),
        (&7.into(), &"done".into())
    );
    // The rows of the rest are theirs alone.
    assert_eq!(world.verify_with_letters().await?.len(), 13);
    let rest = world.redriven(&["--canary", "2", "--rate", "100"]).await?;
    assert_eq!((&rest["records"], &rest["redriven"], &rest["failed"]), (&13.into(), &13.into(), &0.into()));
    world.verify_redriven().await?;
    check(&world.redrives().await?, &documented("dead-letters redrives"), "redrives");
    let again = world.redrive(&[]).await?.ended(0).stdout;
    assert_eq!(again, "no open dead letters fit that are eligible\n");
    let shown = world.highwater(&["dead-letters", "show", "1"]).await?.ended(0).stdout;
    assert!(shown.contains("redrive "), "{shown}");
    let stats = world.dead_letters("stats", &["--json"]).await?.ended(0).json();
    assert_eq!((&stats[0]["open"], &stats[0]["redriven"]), (&0.into(), &20.into()));
    world.highwater(&["reconcile", "--group", &world.group, "--table", "sink", "--deep"]).await?.ended(0);
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn core_two_people_at_once_redrive_each_once() -> TestResult {
    let world = World::with_letters("redrive-two", 2, 100, false).await?;
    let worker = world.mended();
    // Whoever comes second may find nothing any more, or nothing that no other redrive is at: it says so by its exit code.
    let redriven = async |actor: &str| -> TestResult<i64> {
        let said = world.redrive(&["--actor", actor, "--wait", "--json"]).await?;
        assert!(matches!(said.code, 0 | 1), "{}", said.stderr);
        Ok(said.json()["redrives"][0]["redriven"].as_i64().unwrap_or(0))
    };
    let (ana, ben) = tokio::join!(redriven("ana"), redriven("ben"));
    assert_eq!(ana? + ben?, 20);
    let sum = "SELECT count(*) FROM highwater.redrive_letter WHERE outcome = 'redriven'";
    assert_eq!(world.number(sum).await?, 20);
    world.verify_redriven().await?;
    worker.stop().await?;
    Ok(())
}

/// A handler that only appends, and says so, needs no leave; one that says nothing does.
#[tokio::test]
async fn whoever_appends_needs_no_leave() -> TestResult {
    let world = World::with_letters("redrive-append", 1, 50, true).await?;
    // What an earlier program has said counts no more.
    let worker = world.worker_with(world.setting_aside(), Silent);
    world.said_to_write("unsaid").await?;
    let dry = world.dead_letters("redrive", &["--dry-run"]).await?.ended(0).stdout;
    assert!(
        dry.contains("5 records: the handler of their topic does not say which tables it writes"),
        "{dry}"
    );
    worker.stop().await?;
    let worker = world.worker_with(world.setting_aside(), Sink { fault: (), rows_only: true });
    world.said_to_write("append").await?;
    let arguments = ["--reason", "mended", "--execute", "--wait", "--json"];
    let said = world.dead_letters("redrive", &arguments).await?.ended(0).json();
    assert_eq!(said["redrives"][0]["redriven"], 5);
    world.caught_up().await?;
    world.assert_exact(false).await?;
    worker.stop().await?;
    Ok(())
}

/// What is rejected again is open again, with one attempt more, and nothing else is held up by it.
#[tokio::test]
async fn core_what_fails_again_is_open_again() -> TestResult {
    let world = World::with_letters("redrive-again", 2, 100, false).await?;
    let fault = Arc::new(Mendable::default());
    let worker =
        world.worker_with(world.setting_aside(), Sink { fault: Arc::clone(&fault), rows_only: false });
    let stopped = world.redrive(&["--canary", "1", "--wait", "--json"]).await?.ended(1);
    assert!(stopped.stderr.contains("one of those that went first was rejected again"), "{}", stopped.stderr);
    let stopped = &stopped.json()["redrives"][0];
    assert_eq!(
        (&stopped["state"], &stopped["failed"], &stopped["waiting"]),
        (&"stopped".into(), &1.into(), &19.into())
    );
    let stopped = world.redrive(&["--stop-after", "3", "--wait", "--json"]).await?.ended(1).json();
    let stopped = &stopped["redrives"][0];
    assert_eq!((&stopped["state"], &stopped["failed"]), (&"stopped".into(), &3.into()));
    let attempts = "SELECT sum(attempts - 1)::int8 FROM highwater.dead_letter WHERE state = 'open'";
    assert_eq!(world.number(attempts).await?, 4);
    // The partitions have gone on meanwhile.
    for partition in 0..2 {
        world.send_with_bad(partition, 10, |n| n == 4)?;
    }
    world.producer.flush().await?;
    assert_eq!(world.verify_with_letters().await?.len(), 22);
    fault.mend();
    assert_eq!(world.redriven(&[]).await?["redriven"], 22);
    world.verify_redriven().await?;
    assert_eq!(worker.status().counters.unknown_outcomes, 0);
    worker.stop().await?;
    Ok(())
}

/// A redrive that hangs in its handler holds up no batch of its partition.
#[tokio::test]
async fn a_redrive_that_hangs_holds_up_nobody() -> TestResult {
    let world = World::with_letters("redrive-hangs", 1, 50, false).await?;
    let fault = Arc::new(Doorman::default());
    fault.0.close();
    let worker =
        world.worker_with(world.setting_aside(), Sink { fault: Arc::clone(&fault), rows_only: false });
    world.redrive(&[]).await?.ended(0);
    let begun = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                 AND state = 'idle in transaction' AND application_name LIKE 'highwater/%'";
    wait_until("the redrive is in its handler", PATIENCE, async || {
        Ok((world.number(begun).await? > 0).then_some(()))
    })
    .await?;
    world.send_with_bad(0, 50, |_| false)?;
    world.producer.flush().await?;
    assert_eq!(world.verify_with_letters().await?.len(), 5);
    fault.0.open();
    assert_eq!(world.redrive_ended().await?["redriven"], 5);
    world.verify_redriven().await?;
    worker.stop().await?;
    Ok(())
}
