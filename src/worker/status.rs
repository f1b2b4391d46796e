//! What a worker tells about itself.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::watch;
use uuid::Uuid;

use super::contact::Contact;
use super::monitor::About;
use super::sampling::Judged;
use crate::batch::PartitionKey;
use crate::config::Isolation;
use crate::consumer::poll::PollCounters;
use crate::health::Class;
use crate::lane::LaneCounters;
use crate::metrics::meter::Activity;

/// Where a worker stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Phase {
    /// Connecting, checking the schema, resolving start positions.
    #[default]
    Starting,
    /// In the group (or joining it).
    Running,
    /// Finishing batches, releasing claims.
    Stopping,
    /// Ended.
    Stopped,
}

/// Where a partition stands that Kafka assigned to this worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum PartitionState {
    /// Assigned by Kafka; Postgres has not granted the claim yet.
    Claiming,
    /// Claimed; records flow.
    Running,
    /// The claim is over; a batch may still be finishing.
    Draining,
    /// Another live process holds the claim.
    Fenced,
    /// Stopped with an error: see [`PartitionStatus::detail`].
    Halted,
}

impl PartitionStatus {
    /// Nothing is known yet.
    #[cfg(test)]
    pub(crate) fn new(topic: &str, partition: i32, state: PartitionState) -> Self {
        Self {
            topic: topic.to_owned(),
            partition,
            state,
            next_offset: None,
            mirrored_offset: None,
            held_bytes: 0,
            detail: None,
            epoch: None,
            log_end_offset: None,
            last_stable_offset: None,
            next_record_timestamp_ms: None,
            log_start_offset: None,
            class: Class::Ok,
            reason: None,
            applied_per_second: None,
            produced_per_second: None,
            drain_seconds: None,
            uncommitted_since_ms: None,
            loss_at_ms: None,
        }
    }
}

impl PartitionState {
    /// The state's name, as the table `partition_status` holds it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Claiming => "claiming",
            Self::Running => "running",
            Self::Draining => "draining",
            Self::Fenced => "fenced",
            Self::Halted => "halted",
        }
    }
}

/// A partition as its worker sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PartitionStatus {
    /// The topic's name.
    pub topic: String,
    /// The partition's number, from 0.
    pub partition: i32,
    /// Where it stands.
    pub state: PartitionState,
    /// The position that this worker has made durable; `None` while it has no claim.
    pub next_offset: Option<i64>,
    /// The position that Kafka has acknowledged as mirrored, by this worker.
    pub mirrored_offset: Option<i64>,
    /// Bytes held in memory: buffered, or in the batch that is out.
    pub held_bytes: usize,
    /// Why it halted; or what it is waiting for.
    pub detail: Option<String>,
    /// The epoch of the claim that this is about; `None` while there is none.
    pub epoch: Option<i64>,
    /// The end of the log, uncommitted records included, as Kafka said last.
    pub log_end_offset: Option<i64>,
    /// The last stable offset, as Kafka said last: behind the end of the log while a transaction is open.
    pub last_stable_offset: Option<i64>,
    /// The timestamp of the next record to apply, in ms since 1970, where that record is here.
    pub next_record_timestamp_ms: Option<i64>,
    /// Where the log begins, as Kafka said last.
    pub log_start_offset: Option<i64>,
    /// How it is doing, by its trajectory and by what is known of it: see [`health`](crate::health).
    pub class: Class,
    /// Why, in words; `None` before it was sampled.
    pub reason: Option<String>,
    /// Offsets applied per second, over the last minute.
    pub applied_per_second: Option<f64>,
    /// Offsets produced per second, over the same time.
    pub produced_per_second: Option<f64>,
    /// How long until the lag is worked off, as of the last sample; infinite where as much is produced as applied.
    pub drain_seconds: Option<f64>,
    /// Since when, in ms since 1970, the last stable offset stands before records that are not committed; `None` where
    /// there are none.
    pub uncommitted_since_ms: Option<i64>,
    /// When, in ms since 1970, Kafka may delete the next record; infinite where it never does. As of the last sample.
    pub loss_at_ms: Option<f64>,
}

/// Totals since the worker started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Counters {
    /// Records applied: rows and offset are durable.
    pub applied_records: u64,
    /// Transactions committed.
    pub commits: u64,
    /// Claims that were found taken by another process: batches that were *not* applied twice.
    pub fenced: u64,
    /// Batches tried again.
    pub retries: u64,
    /// Commits whose outcome was unknown and was resolved by claiming again.
    pub unknown_outcomes: u64,
    /// Records taken from Kafka.
    pub fetched_records: u64,
    /// Records dropped because they belonged to an older assignment or were covered already.
    pub dropped_records: u64,
    /// Rebalance events answered.
    pub rebalances: u64,
}

/// A worker's status.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct WorkerStatus {
    /// Where the worker stands.
    pub phase: Phase,
    /// The random id of this process start, as in `consumer_offset.owner`.
    pub owner: Option<Uuid>,
    /// A member of the group; whatever is assigned is claimed and read, or has a reason of its own (halted, fenced, paused by
    /// an operator, without a leader: these need a human, not a restart); and Kafka and Postgres answer.
    pub ready: bool,
    /// The control loop and the poll thread move. Where this is false for long, only a restart helps.
    pub live: bool,
    /// Why it is not ready, or what the worker as a whole is waiting for.
    pub detail: Option<String>,
    /// What Kafka assigned, in order of topic and partition.
    pub partitions: Vec<PartitionStatus>,
    /// Totals.
    pub counters: Counters,
}

/// Where the worker's parts write their figures and everybody reads them.
#[derive(Debug)]
pub(crate) struct StatusBoard {
    snapshot: watch::Sender<WorkerStatus>,
    pub(crate) lanes: Arc<LaneCounters>,
    pub(crate) poll: Arc<PollCounters>,
    pub(crate) contact: Contact,
    pub(crate) activity: Activity,
    /// What the worker is called and works with; set when it begins.
    pub(super) about: OnceLock<About>,
    pulse: Beats,
    /// When the partitions were last published, in ms since this began; and when that was which the tables have.
    published_ms: AtomicU64,
    reported_ms: AtomicU64,
    /// What the samples say of each partition.
    judged: Mutex<HashMap<PartitionKey, Judged>>,
}

/// Signs of life of the control loop.
#[derive(Debug)]
struct Beats {
    began: Instant,
    /// When the loop last went round, in ms since then.
    last_ms: AtomicU64,
    poll_moves: AtomicBool,
}

/// A moment at which the partitions were published.
#[derive(Debug, Clone, Copy)]
pub(super) struct Published(u64);

/// For how long the control loop may be away. It goes round four times a second.
const ABSENT: Duration = Duration::from_secs(10);

impl PartitionStatus {
    /// Up to where its records are read.
    pub(crate) fn readable_end(&self, isolation: Isolation) -> Option<i64> {
        match isolation {
            Isolation::ReadCommitted => self.last_stable_offset,
            Isolation::ReadUncommitted => self.log_end_offset,
        }
    }
}

impl StatusBoard {
    pub(crate) fn new() -> Self {
        Self {
            snapshot: watch::Sender::default(),
            lanes: Arc::default(),
            poll: Arc::default(),
            contact: Contact::default(),
            activity: Activity::default(),
            about: OnceLock::new(),
            pulse: Beats {
                began: Instant::now(),
                last_ms: AtomicU64::new(0),
                poll_moves: AtomicBool::new(true),
            },
            published_ms: AtomicU64::new(0),
            reported_ms: AtomicU64::new(0),
            judged: Mutex::default(),
        }
    }

    /// What the samples say of each partition.
    pub(super) fn judged(&self) -> MutexGuard<'_, HashMap<PartitionKey, Judged>> {
        self.judged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The status now: counters are live, the rest is as of the last change.
    pub(crate) fn get(&self) -> WorkerStatus {
        let mut status = self.snapshot.borrow().clone();
        status.counters = self.counters();
        status.live = self.is_live(status.phase);
        status
    }

    /// When what [`get`](Self::get) returns from now on was published, or later.
    pub(super) fn published(&self) -> Published {
        Published(self.published_ms.load(Ordering::Relaxed))
    }

    /// The tables have what was published then.
    pub(super) fn reported(&self, Published(at_ms): Published) {
        self.reported_ms.store(at_ms, Ordering::Relaxed);
    }

    /// How old that is which the tables have of the partitions: by a control loop that hangs, too, it grows.
    pub(super) fn reported_age(&self) -> Duration {
        Duration::from_millis(self.ms().saturating_sub(self.reported_ms.load(Ordering::Relaxed)))
    }

    /// The control loop has gone round.
    pub(super) fn beat(&self) {
        self.pulse.last_ms.store(self.ms(), Ordering::Relaxed);
    }

    /// Whether the poll thread moves.
    pub(super) fn set_poll_moves(&self, moves: bool) {
        self.pulse.poll_moves.store(moves, Ordering::Relaxed);
    }

    fn ms(&self) -> u64 {
        u64::try_from(self.pulse.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Only while it runs is there a loop that must move; starting and stopping have limits of their own.
    fn is_live(&self, phase: Phase) -> bool {
        let absent_ms = self.ms().saturating_sub(self.pulse.last_ms.load(Ordering::Relaxed));
        phase != Phase::Running
            || (Duration::from_millis(absent_ms) < ABSENT && self.pulse.poll_moves.load(Ordering::Relaxed))
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<WorkerStatus> {
        self.snapshot.subscribe()
    }

    pub(crate) fn counters(&self) -> Counters {
        let (lanes, poll) = (&self.lanes, &self.poll);
        Counters {
            applied_records: lanes.applied_records.load(Ordering::Relaxed),
            commits: lanes.commits.load(Ordering::Relaxed),
            fenced: lanes.fenced.load(Ordering::Relaxed),
            retries: lanes.retries.load(Ordering::Relaxed),
            unknown_outcomes: lanes.unknown_outcomes.load(Ordering::Relaxed),
            fetched_records: poll.fetched_records.load(Ordering::Relaxed),
            dropped_records: poll.dropped_records.load(Ordering::Relaxed),
            rebalances: poll.rebalances.load(Ordering::Relaxed),
        }
    }

    pub(super) fn set_phase(&self, phase: Phase, owner: Option<Uuid>) {
        self.beat();
        if phase == Phase::Running {
            // Before it runs there is nothing to report.
            self.reported_ms.store(self.ms(), Ordering::Relaxed);
        }
        self.snapshot.send_modify(|status| {
            status.phase = phase;
            status.owner = owner.or(status.owner);
            status.ready &= phase == Phase::Running;
            status.live = true;
        });
    }

    /// Publishes the partitions, and what is to be said of the whole; subscribers are only woken when something changed.
    pub(super) fn publish(&self, ready: bool, detail: Option<String>, partitions: Vec<PartitionStatus>) {
        let counters = self.counters();
        self.snapshot.send_if_modified(|status| {
            let changed = status.ready != ready || status.detail != detail || status.partitions != partitions;
            status.ready = ready;
            status.detail = detail;
            status.partitions = partitions;
            status.counters = counters;
            changed
        });
        self.published_ms.store(self.ms(), Ordering::Relaxed);
    }
}
