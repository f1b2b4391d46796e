//! The batch behind the present one, which its handler prepares meanwhile (DESIGN 3.6).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use highwater::{Batch, Handler, HandlerError, HandlerErrorKind, PartialConfig, Tx};
use tokio::sync::Notify;

use crate::support::{Sink, TestResult, World};

/// What is in a batch: partition and offset of each record.
type Contents = Vec<(i32, i64)>;

fn contents(batch: &Batch) -> Contents {
    batch.records().map(|record| (record.partition(), record.offset())).collect()
}

/// What may go wrong in a preparation, once.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wrong {
    Nothing,
    Panics,
    Blocks,
}

struct Prepares {
    sink: Sink<()>,
    wrong: Wrong,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    /// The batch that was prepared last, and a signal of it.
    last: Mutex<Option<Contents>>,
    prepares: Notify,
    prepared: AtomicUsize,
    /// Batches during whose handling another one was prepared.
    overlapped: AtomicUsize,
    /// Handled with what was prepared.
    kept: AtomicUsize,
    handled: AtomicUsize,
}

impl Prepares {
    fn new(wrong: Wrong) -> (Self, Arc<Seen>) {
        let seen = Arc::<Seen>::default();
        (Self { sink: Sink::default(), wrong, seen: Arc::clone(&seen) }, seen)
    }
}

impl Seen {
    /// Waits for the preparation of another batch than the one at hand, until it was seen once: a lane that takes
    /// nothing ahead only makes this slow, and is found by the count.
    async fn another_than(&self, batch: &Batch) {
        let deadline = tokio::time::Instant::now() + Duration::from_millis(500);
        while self.overlapped.load(Ordering::SeqCst) == 0 {
            if self
                .last
                .lock()
                .expect("no holder panics")
                .as_ref()
                .is_some_and(|last| *last != contents(batch))
            {
                self.overlapped.fetch_add(1, Ordering::SeqCst);
            } else if tokio::time::timeout_at(deadline, self.prepares.notified()).await.is_err() {
                return;
            }
        }
    }
}

impl Handler for Prepares {
    fn prepare(&self, batch: &Batch) {
        if self.seen.prepared.fetch_add(1, Ordering::SeqCst) == 3 {
            match self.wrong {
                Wrong::Nothing => {}
                Wrong::Panics => panic!("cannot prepare"),
                Wrong::Blocks => std::thread::sleep(Duration::from_secs(3)),
            }
        }
        *self.seen.last.lock().expect("no holder panics") = Some(contents(batch));
        self.seen.prepares.notify_one();
        batch.keep(contents(batch));
    }

    async fn handle(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        assert_eq!(batch.take_kept::<String>(), None, "only what was kept comes back");
        if self.wrong == Wrong::Nothing {
            self.seen.another_than(batch).await;
        }
        let handled = self.seen.handled.fetch_add(1, Ordering::SeqCst);
        // Every seventh batch is tried again: what is prepared behind it goes back, and nothing of it is lost.
        let result = if handled % 7 == 6 {
            self.sink.handle(batch, tx).await.and(Err(HandlerError::retry("one more time")))
        } else {
            self.sink.handle(batch, tx).await
        };
        debug_assert!(result.as_ref().err().is_none_or(|error| error.kind() == HandlerErrorKind::Retry));
        result
    }
}

/// Checks what was kept before the batch is handled: it must be this very batch's.
struct Checked(Prepares);

impl Handler for Checked {
    fn prepare(&self, batch: &Batch) {
        self.0.prepare(batch);
    }

    async fn handle(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        if let Some(kept) = batch.take_kept::<Contents>() {
            assert_eq!(kept, contents(batch), "prepared for another batch");
            self.0.seen.kept.fetch_add(1, Ordering::SeqCst);
        }
        self.0.handle(batch, tx).await
    }
}

fn settings(world: &World<'_>) -> PartialConfig {
    world
        .settings()
        .lanes(1_usize)
        .batch_target_records(10_usize)
        .batch_max_records(20_usize)
        .retry_backoff_min(Duration::from_millis(10))
        .retry_backoff_max(Duration::from_millis(20))
}

/// A backlog under batches of 20, with retries; then the oracle.
async fn with_a_backlog(hint: &str, wrong: Wrong) -> highwater::testing::Result<Arc<Seen>> {
    let world = World::new(hint, 3).await?;
    world.produce(400).await?;
    let (handler, seen) = Prepares::new(wrong);
    let limit = Duration::from_secs(if wrong == Wrong::Blocks { 1 } else { 10 });
    let settings = settings(&world).max_processing_time(limit);
    let worker = world.worker_with(settings, Checked(handler));
    world.verify().await?;
    world.produce(100).await?;
    world.verify().await?;
    worker.stop().await.expect("it stops");
    Ok(seen)
}

#[tokio::test]
async fn core_batches_are_prepared_while_others_are_written() -> TestResult {
    let seen = with_a_backlog("ahead", Wrong::Nothing).await?;
    assert!(seen.overlapped.load(Ordering::SeqCst) > 0, "nothing was prepared meanwhile");
    assert!(seen.kept.load(Ordering::SeqCst) > 5, "nothing that was prepared was used");
    Ok(())
}

/// The batch is handled without what was not prepared.
#[tokio::test]
async fn a_preparation_that_panics_is_none() -> TestResult {
    let seen = with_a_backlog("ahead-panic", Wrong::Panics).await?;
    assert!(seen.prepared.load(Ordering::SeqCst) > 4, "it goes on");
    Ok(())
}

/// Longer than `max_processing_time`: that batch is given up before it was begun, its partitions are claimed again.
#[tokio::test]
async fn a_preparation_that_blocks_its_thread_holds_up_one_batch() -> TestResult {
    let seen = with_a_backlog("ahead-block", Wrong::Blocks).await?;
    assert!(seen.prepared.load(Ordering::SeqCst) > 4, "it goes on");
    Ok(())
}
