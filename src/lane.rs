//! Lanes: each applies the batches of its partitions, one after the other, on one Postgres connection.
//!
//! A lane decides nothing about claims. It reports what ends one, and, once nothing of a closed buffer can
//! commit any more, that the buffer is idle.

mod ahead;
pub(crate) mod decide;
mod fill;
mod linger;
mod pace;
mod process;
mod ruling;
mod shared;
mod words;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::backoff::Backoff;
use crate::batch::{ClaimId, PartitionKey};
use crate::claim::Claims;
use crate::commit::Commit;
use crate::consumer::{PartitionBuffer, Waker};
use crate::handler::{ErasedHandler, HandlerThread};
use crate::metrics::meter::{BatchMeter, Retry};
use crate::partition::After;
use ahead::Ahead;
use fill::Fill;
pub(crate) use linger::Linger;
pub(crate) use pace::Pace;
pub(crate) use shared::{LaneShared, Lanes};

/// What a lane tells the worker.
#[derive(Debug)]
pub(crate) enum Report {
    /// The claim is over, for this reason.
    Ended { key: PartitionKey, claim: ClaimId, after: After },
    /// The closed buffer is gone from the lane: no batch of its claim is left.
    Idle { key: PartitionKey, claim: ClaimId },
    /// The client has lost its position, it seems: fetch anew (from the vigil).
    Restart { key: PartitionKey, claim: ClaimId },
}

/// Figures that lanes keep; read by the status.
#[derive(Debug, Default)]
pub(crate) struct LaneCounters {
    pub(crate) applied_records: AtomicU64,
    pub(crate) commits: AtomicU64,
    /// Claims found taken by another process.
    pub(crate) fenced: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) unknown_outcomes: AtomicU64,
    pub(crate) batches: Arc<BatchMeter>,
}

impl LaneCounters {
    /// A batch is to be tried again.
    fn retried(&self, why: Retry) {
        self.retries.fetch_add(1, Ordering::Relaxed);
        self.batches.retried(why);
    }
}

/// Bounds of a batch.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) target_records: usize,
    pub(crate) max_records: usize,
    pub(crate) max_bytes: usize,
    pub(crate) linger: Linger,
    pub(crate) single_record_timeouts: u32,
    pub(crate) pace: Option<Arc<Pace>>,
}

/// What a lane works with.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) claims: Arc<Claims>,
    pub(crate) commit: Arc<Commit>,
    pub(crate) handler: Arc<dyn ErasedHandler>,
    pub(crate) limits: Limits,
    pub(crate) backoff: Backoff,
    pub(crate) counters: Arc<LaneCounters>,
    /// Unbounded so that a lane never waits for the worker; at most two reports per claim.
    pub(crate) reports: mpsc::UnboundedSender<Report>,
    pub(crate) waker: Arc<Waker>,
    pub(crate) lanes: Arc<Lanes>,
}

/// One lane.
pub(crate) struct Lane {
    shared: Arc<LaneShared>,
    parts: Parts,
    thread: HandlerThread,
    /// Where the batch behind the present one is prepared.
    preparer: HandlerThread,
    /// Whether it is one for partitions that are looked at apart.
    is_aside: bool,
    /// Whether it has noted on its buffers why nothing is applied.
    troubled: bool,
    /// Sessions lost by this process before the present attempt.
    lost_before: u64,
}

impl Lane {
    pub(crate) fn new(shared: Arc<LaneShared>, parts: Parts) -> Self {
        let (thread, preparer) = (parts.commit.handler_thread(), parts.commit.handler_thread());
        let is_aside = parts.lanes.is_aside(&shared);
        Self { shared, parts, thread, preparer, is_aside, troubled: false, lost_before: 0 }
    }

    /// Applies batches until told to stop and nothing is left to report.
    pub(crate) async fn run(mut self) {
        let mut ahead: Option<Ahead> = None;
        let mut waited = Duration::ZERO;
        loop {
            if let Some(ahead) = ahead.take_if(|ahead| ahead.is_ended()) {
                self.put_back_ahead(&ahead);
            }
            self.sweep();
            self.know_keys().await;
            if let Some(next) = ahead.take() {
                self.parts.counters.batches.wait.took(Duration::ZERO);
                ahead = self.process(next).await;
                continue;
            }
            if self.shared.is_stopping() && self.shared.is_empty() {
                return;
            }
            let began = Instant::now();
            match self.fill() {
                Fill::Batch(batch) => {
                    self.parts.counters.batches.wait.took(std::mem::take(&mut waited));
                    let batch = Ahead::new(batch, &self.parts);
                    ahead = self.process(batch).await;
                    continue;
                }
                Fill::Wait(None) => self.shared.signals.data.notified().await,
                Fill::Wait(Some(until)) => {
                    let until = tokio::time::Instant::from_std(until);
                    let _ = tokio::time::timeout_at(until, self.shared.signals.data.notified()).await;
                }
            }
            waited += began.elapsed();
        }
    }

    /// Lets go of closed buffers, and of those that have nothing more to give.
    fn sweep(&mut self) {
        for buffer in self.shared.buffers() {
            let peek = buffer.peek();
            if peek.closed.is_none()
                && let Some(after) = peek.end
            {
                self.end(&buffer, after);
            }
            // What was taken ahead of it may be out yet, if it was closed a moment ago: then it is its last batch.
            if buffer.is_closed() && !buffer.in_flight() {
                self.shared.remove(&buffer);
                self.report(Report::Idle { key: buffer.key.clone(), claim: buffer.claim });
            }
        }
    }

    /// Ends a claim. Its buffer is closed at once: nothing more may be taken under it, even before the worker
    /// has heard of it (EO-7).
    fn end(&self, buffer: &PartitionBuffer, after: After) {
        buffer.close(Instant::now());
        self.report(Report::Ended { key: buffer.key.clone(), claim: buffer.claim, after });
    }

    fn report(&self, report: Report) {
        let _ = self.parts.reports.send(report);
    }

    /// Waits after a failure, which its caller has told; ends early when a buffer is closed, so that a revoke is not held
    /// up.
    async fn pause(&mut self, why: &str) {
        self.troubled = true;
        self.shared.buffers().iter().for_each(|buffer| buffer.note(Some(format!("trying again: {why}"))));
        let wait = self.parts.backoff.next();
        tracing::debug!(why, retry_in = ?wait, "trying again");
        let _ = tokio::time::timeout(wait, self.shared.signals.closing.notified()).await;
    }

    /// Ends when a closed buffer of the batch has reached its drain deadline.
    async fn drain_deadline(shared: &LaneShared, buffers: &[Arc<PartitionBuffer>]) {
        loop {
            let closing = shared.signals.closing.notified();
            let deadline: Option<Instant> = buffers.iter().filter_map(|buffer| buffer.peek().closed).min();
            match deadline {
                None => closing.await,
                Some(deadline) => {
                    return tokio::time::sleep_until(tokio::time::Instant::from_std(deadline)).await;
                }
            }
        }
    }
}
