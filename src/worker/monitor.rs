//! Reading a worker's figures while it runs, or before and after.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use uuid::Uuid;

use super::status::{StatusBoard, WorkerStatus};
use crate::config::{Config, Isolation};
use crate::consumer::Budget;
use crate::db::Db;
use crate::metrics::{BufferMetrics, MetricsSnapshot, PartitionMetrics, Rebalances};

/// Reads a worker's status and figures, from anywhere and as often as one likes: it holds up nothing. Cheap to clone.
///
/// ```no_run
/// # async fn run(handler: impl highwater::Handler) -> highwater::Result<()> {
/// use highwater::Worker;
///
/// let worker = Worker::builder().build(handler)?;
/// let monitor = worker.monitor();
/// tokio::spawn(async move {
///     loop {
///         tokio::time::sleep(std::time::Duration::from_secs(10)).await;
///         let metrics = monitor.metrics();
///         println!("{} records in {} commits", metrics.applied_records, metrics.commits);
///     }
/// });
/// worker.run().await
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Monitor {
    board: Arc<StatusBoard>,
}

impl Monitor {
    pub(super) fn new(board: Arc<StatusBoard>) -> Self {
        Self { board }
    }

    /// The status now.
    #[must_use]
    pub fn status(&self) -> WorkerStatus {
        self.board.get()
    }

    /// Changes of phase, readiness and partitions. Counters alone do not wake a subscriber.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<WorkerStatus> {
        self.board.subscribe()
    }

    /// The figures now; those of the partitions are as of the last look, at most 250 ms ago.
    #[must_use]
    pub fn metrics(&self) -> MetricsSnapshot {
        self.board.metrics()
    }

    /// Of the partitions of a status, in their order.
    #[cfg(feature = "admin")]
    pub(crate) fn partition_metrics(&self, status: &WorkerStatus) -> Vec<PartitionMetrics> {
        self.board.partition_metrics(status)
    }

    /// The group, and what the worker is called in it.
    #[cfg(feature = "admin")]
    pub(crate) fn names(&self, status: &WorkerStatus) -> (String, String) {
        let about = self.board.about.get();
        about.map(|about| (about.group.clone(), about.worker(status.owner))).unwrap_or_default()
    }

    /// For how long nothing was committed although there was something to apply, and how long a batch may take.
    #[cfg(feature = "admin")]
    pub(crate) fn pending(&self) -> (Duration, Duration) {
        let deadline = self.board.about.get().map(|about| about.processing_deadline).unwrap_or_default();
        (self.board.lanes.batches.pending(&self.board.activity), deadline)
    }

    /// Where the admin server listens; `None` before it does, and without one.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.board.about.get()?.admin
    }
}

/// What a worker is called, and what it works with.
#[derive(Debug)]
pub(super) struct About {
    group: String,
    instance_id: Option<String>,
    isolation: Isolation,
    processing_deadline: Duration,
    admin: Option<SocketAddr>,
    /// Set once they are made. Weak, so that who looks does not keep a worker's connections.
    works_with: OnceLock<(Weak<Db>, Weak<Budget>)>,
    budget_bytes: usize,
}

impl About {
    pub(super) fn new(config: &Config, admin: Option<SocketAddr>) -> Self {
        Self {
            group: config.group.clone(),
            instance_id: config.instance_id.clone(),
            isolation: config.isolation,
            processing_deadline: config.max_processing_time,
            admin,
            works_with: OnceLock::new(),
            budget_bytes: config.buffer_budget,
        }
    }

    /// The instance id, or the owner's id where there is none.
    pub(super) fn worker(&self, owner: Option<Uuid>) -> String {
        let owner = || owner.map(|owner| owner.to_string());
        self.instance_id.clone().or_else(owner).unwrap_or_default()
    }
}

impl StatusBoard {
    /// The pools and the budget, once they are made.
    pub(super) fn works_with(&self, db: &Arc<Db>, budget: &Arc<Budget>) {
        if let Some(about) = self.about.get() {
            let _ = about.works_with.set((Arc::downgrade(db), Arc::downgrade(budget)));
        }
    }

    fn partition_metrics(&self, status: &WorkerStatus) -> Vec<PartitionMetrics> {
        let isolation = self.about.get().map(|about| about.isolation).unwrap_or_default();
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis());
        let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
        status.partitions.iter().map(|status| PartitionMetrics::of(status, isolation, now_ms)).collect()
    }

    pub(super) fn metrics(&self) -> MetricsSnapshot {
        let status = self.get();
        let (lanes, poll, activity) = (&self.lanes.batches, &self.poll, &self.activity);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let about = self.about.get();
        let db = about.and_then(|about| about.works_with.get()?.0.upgrade());
        let budget = about.and_then(|about| about.works_with.get()?.1.upgrade());
        let bytes = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        MetricsSnapshot {
            version: env!("CARGO_PKG_VERSION"),
            group: about.map(|about| about.group.clone()).unwrap_or_default(),
            worker: about.map(|about| about.worker(status.owner)).unwrap_or_default(),
            phase: status.phase,
            ready: status.ready,
            live: status.live,
            partitions: self.partition_metrics(&status),
            commits: status.counters.commits,
            applied_records: status.counters.applied_records,
            applied_bytes: lanes.bytes(),
            fetched_records: status.counters.fetched_records,
            dropped_records: status.counters.dropped_records,
            batch_records: lanes.records(),
            phases: lanes.phases(),
            since_commit: lanes.since_commit(),
            pending: lanes.pending(activity),
            processing_deadline: about.map(|about| about.processing_deadline).unwrap_or_default(),
            claims: count(&activity.claims),
            claims_again: count(&activity.claims_again),
            fencings: status.counters.fenced,
            unknown_outcomes: status.counters.unknown_outcomes,
            rebalances: Rebalances {
                assigned: count(&poll.assigned),
                revoked: count(&poll.revoked),
                lost: count(&poll.lost),
            },
            rebalance_pause: activity.pause.get(),
            retries: lanes.retries(),
            verdicts: lanes.verdicts(),
            dead_letters: lanes.dead_letters(),
            redriven: lanes.redriven(),
            stuck_partitions: count(&activity.stuck_partitions),
            unassigned_partitions: count(&activity.unassigned_partitions),
            pools: db.map(|db| db.pools()).unwrap_or_default(),
            buffers: BufferMetrics {
                held_bytes: budget.map_or(0, |budget| bytes(budget.used())),
                budget_bytes: about.map_or(0, |about| bytes(about.budget_bytes)),
                paused_partitions: count(&activity.paused_partitions),
            },
            kafka_clients: count(&activity.clients),
            kafka: poll.client.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}
