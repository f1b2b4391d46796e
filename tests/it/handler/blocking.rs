//! Handlers that block their thread: nobody can interrupt one, so everybody else must get on without it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use highwater::testing::wait_until;
use highwater::{Batch, HandlerError, Tx};

use crate::support::watch::{halted, halted_now};
use crate::support::{Fault, PATIENCE, Sink, TestResult, World};

/// Blocks its thread whenever it is given the record at offset 3 of partition 0, until it is opened; then goes on as
/// if nothing had happened.
#[derive(Default)]
struct Blocking {
    open: Mutex<bool>,
    opened: Condvar,
    entered: AtomicU32,
    left: AtomicU32,
    /// The first burns its core for so long instead of waiting.
    busy: Duration,
}

impl Blocking {
    fn block(&self) {
        let first = self.entered.fetch_add(1, Ordering::SeqCst) == 0;
        let began = Instant::now();
        while first && began.elapsed() < self.busy {
            std::hint::spin_loop();
        }
        let open = self.open.lock().expect("no panic under the lock");
        drop(self.opened.wait_while(open, |open| !*open).expect("no panic under the lock"));
    }

    fn open(&self) {
        *self.open.lock().expect("no panic under the lock") = true;
        self.opened.notify_all();
    }
}

/// What only a zombie's late write puts there.
const LATE: &str = "SELECT count(*) FROM sink WHERE source_topic = 'late'";

/// No thread stays blocked, however a test ends.
struct Opens(Arc<Blocking>);

impl Drop for Opens {
    fn drop(&mut self) {
        self.0.open();
    }
}

impl Fault for Blocking {
    async fn before(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        let bad = batch.records().any(|record| (record.partition(), record.offset()) == (0, 3));
        if !bad || *self.open.lock().expect("no panic under the lock") {
            return Ok(());
        }
        self.block();
        // Before the write: a zombie's ends at the first wait.
        self.left.fetch_add(1, Ordering::SeqCst);
        // A zombie by now; only the last one's time may not be up yet.
        tx.execute("INSERT INTO sink VALUES ('late', 0, 0)", &[]).await?;
        Err(HandlerError::retry("opened just in time"))
    }
}

/// While partition 0 blocks thread after thread, the others get on, the heart beats, and nobody's claim moves; when
/// the blockade is over, what was given up does nothing, and everything is applied once.
async fn blocks_nobody_else(hint: &str, busy: bool) -> TestResult {
    let world = World::new(hint, 4).await?;
    let limit = Duration::from_secs(3);
    let settings = world
        .settings()
        .lanes(2_usize)
        .max_processing_time(limit)
        .single_record_timeouts(1_000_usize)
        .retry_backoff_max(Duration::from_millis(500));
    let busy = if busy { 2 * limit } else { Duration::ZERO };
    let fault = Arc::new(Blocking { busy, ..Blocking::default() });
    let _opens = Opens(Arc::clone(&fault));
    let worker = world.worker_with(settings, Sink { fault: Arc::clone(&fault), rows_only: false });
    world.held_by(1).await?;
    world.produce(10).await?;
    let began = Instant::now();
    let owners = async || -> highwater::testing::Result<Vec<Option<String>>> {
        Ok(world.owners().await?.into_values().map(|(owner, _)| owner).collect())
    };
    let before = owners().await?;
    // Three times as long as a batch may take, and more blocked handlers than there are lanes or threads.
    let held_up = async {
        wait_until("a third handler blocks", PATIENCE, async || {
            let beat = "SELECT extract(epoch FROM clock_timestamp() - max(heartbeat_at))::int8 \
                        FROM highwater.worker_status";
            assert!(world.number(beat).await? < 6, "the heart stands still");
            let long = began.elapsed() >= 3 * limit && fault.entered.load(Ordering::SeqCst) > 2;
            Ok(long.then_some(()))
        })
        .await?;
        for healthy in 1..4 {
            world.reached(healthy, 20).await?;
        }
        Ok(())
    };
    world.under_load(held_up).await?;
    assert_eq!(fault.left.load(Ordering::SeqCst), 0, "all this happened while they were blocked");
    assert_eq!(owners().await?, before, "the claims stayed where they were");
    assert!(world.assert_consistent().await?[&0] <= 3, "nothing past the record is applied");

    let entered = fault.entered.load(Ordering::SeqCst);
    fault.open();
    wait_until("the given up have come back", PATIENCE, async || {
        Ok((fault.left.load(Ordering::SeqCst) >= entered).then_some(()))
    })
    .await?;
    world.verify().await?;
    assert_eq!(world.number(LATE).await?, 0, "a handler that was given up has written");
    assert_eq!(halted_now(&worker), [] as [i32; 0], "{:#?}", worker.status());
    worker.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_blocks_its_thread_holds_up_its_partition_only() -> TestResult {
    blocks_nobody_else("block", false).await
}

/// The least that a worker can have.
#[tokio::test(flavor = "current_thread")]
async fn a_handler_that_blocks_holds_up_nobody_else_on_a_runtime_of_one_thread() -> TestResult {
    blocks_nobody_else("block-one", false).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_in_a_busy_loop_holds_up_its_partition_only() -> TestResult {
    blocks_nobody_else("busy", true).await
}

/// Threads are not left behind without end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_blocked_handlers_halt_the_partition() -> TestResult {
    let world = World::new("crowd", 2).await?;
    let settings =
        world.settings().max_processing_time(Duration::from_millis(600)).single_record_timeouts(1_000_usize);
    let fault = Arc::new(Blocking::default());
    let _opens = Opens(Arc::clone(&fault));
    let worker = world.worker_with(settings.clone(), Sink { fault: Arc::clone(&fault), rows_only: true });
    world.produce(10).await?;
    let why = halted(&worker, 0).await?;
    assert!(why.contains("8 other handlers") && why.contains("spawn_blocking"), "{why}");
    world.produce(10).await?;
    world.reached(1, 20).await?;
    fault.open();
    worker.stop().await?;
    assert_eq!(world.number(LATE).await?, 0, "a handler that was given up has written");

    let worker = world.worker_with(world.settings(), Sink { fault: (), rows_only: true });
    world.caught_up().await?;
    world.assert_ledger_gapless().await?;
    world.assert_exact(false).await?;
    worker.stop().await?;
    Ok(())
}
