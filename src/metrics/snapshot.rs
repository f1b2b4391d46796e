//! The figures of a worker at one moment, in plain numbers.

use std::time::Duration;

use super::histogram::Histogram;
use super::kafka::ClientMetrics;
use crate::config::Isolation;
use crate::health::{Class, loss_seconds};
use crate::worker::{PartitionState, PartitionStatus, Phase};

/// Clocks differ by so much: what is dated so far ahead was written now. The view `lag` has the same.
const AHEAD_MS: i64 = 5_000;

/// All figures of a worker. Counters are totals since the worker began. What is not known is `None`, never 0.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct MetricsSnapshot {
    /// Highwater's version.
    pub version: &'static str,
    /// The consumer group.
    pub group: String,
    /// The instance id, or the owner's id where there is none.
    pub worker: String,
    /// Where the worker stands.
    pub phase: Phase,
    /// As [`WorkerStatus::ready`](crate::WorkerStatus::ready).
    pub ready: bool,
    /// As [`WorkerStatus::live`](crate::WorkerStatus::live).
    pub live: bool,
    /// What is assigned to it, in order of topic and partition.
    pub partitions: Vec<PartitionMetrics>,
    /// Transactions committed.
    pub commits: u64,
    /// Records whose rows and offset are durable.
    pub applied_records: u64,
    /// Bytes of their keys, values and headers.
    pub applied_bytes: u64,
    /// Records taken from Kafka.
    pub fetched_records: u64,
    /// Records dropped because they belonged to an older assignment or were covered already.
    pub dropped_records: u64,
    /// Records in a batch that was applied.
    pub batch_records: Histogram,
    /// Where the time of batches went.
    pub phases: Phases,
    /// How long ago the last commit was; `None` before the first.
    pub since_commit: Option<Duration>,
    /// For how long nothing was committed although there was something to apply; zero while there is nothing.
    pub pending: Duration,
    /// The setting `max_processing_time`: how long a batch may take.
    pub processing_deadline: Duration,
    /// Claims granted after an assignment.
    pub claims: u64,
    /// Claims granted anew under the same assignment: after a failure, a fence, or a commit of unknown outcome.
    pub claims_again: u64,
    /// Claims found taken by another process.
    pub fencings: u64,
    /// Commits whose outcome was unknown and was resolved by claiming again.
    pub unknown_outcomes: u64,
    /// Rebalances that gave partitions, took them, or found them lost: the session was over.
    pub rebalances: Rebalances,
    /// How long each partition stood still from its assignment to the beginning of its fetch, in seconds.
    pub rebalance_pause: Histogram,
    /// Batches tried again, by why.
    pub retries: Vec<(&'static str, u64)>,
    /// What the judge has ruled about batches that failed, by what was done.
    pub verdicts: Vec<(&'static str, u64)>,
    /// Records stored as dead letters, by route: a route's topic or pattern, or the program where it has no routes.
    pub dead_letters: Vec<(String, u64)>,
    /// Dead letters that this worker has tried to apply once more, by outcome: `redriven`, `rejected`.
    pub redriven: Vec<(&'static str, u64)>,
    /// Partitions that stand still, and something is to be done about it.
    pub stuck_partitions: u64,
    /// Partitions of topics that are subscribed to which nobody in the group was ever given, where this worker looks for all.
    pub unassigned_partitions: u64,
    /// The connections to Postgres.
    pub pools: Vec<PoolMetrics>,
    /// What is held in memory.
    pub buffers: BufferMetrics,
    /// Kafka clients built: more than one means that some were replaced.
    pub kafka_clients: u64,
    /// What the Kafka client says of itself; `None` until it first has, or with `statistics.interval.ms = 0`.
    pub kafka: Option<ClientMetrics>,
}

/// Figures of a partition.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PartitionMetrics {
    /// The topic's name.
    pub topic: String,
    /// The partition's number, from 0.
    pub partition: i32,
    /// Where it stands.
    pub state: PartitionState,
    /// The position that is durable in Postgres.
    pub next_offset: Option<i64>,
    /// The end of what can be read: the last stable offset; under `read_uncommitted` the end of the log.
    pub end_offset: Option<i64>,
    /// Offsets from the position to that end.
    pub lag_records: Option<u64>,
    /// How old the next record to apply is, by its own timestamp; 0 where there is none.
    pub lag_seconds: Option<f64>,
    /// Offsets behind the last stable offset: transactions that are open.
    pub uncommitted_records: Option<u64>,
    /// For how long they have been held back; 0 where there are none.
    pub uncommitted_seconds: Option<f64>,
    /// How long until the lag is worked off, at the pace of the last minute; infinite where as much is produced as applied.
    pub drain_seconds: Option<f64>,
    /// How long until retention deletes the next record to apply; infinite where there is none.
    pub loss_seconds: Option<f64>,
    /// How it is doing; `None` before it was sampled.
    pub class: Option<Class>,
    /// Offsets that are durable in Postgres, and not yet mirrored to Kafka.
    pub mirror_lag_records: Option<u64>,
}

impl PartitionMetrics {
    /// `now_ms`: since 1970.
    pub(crate) fn of(status: &PartitionStatus, isolation: Isolation, now_ms: i64) -> Self {
        let end = status.readable_end(isolation);
        let ahead = |from: Option<i64>, to: Option<i64>| {
            from.zip(to).map(|(from, to)| u64::try_from(to.saturating_sub(from)).unwrap_or(0))
        };
        let lag_records = ahead(status.next_offset, end);
        let lag_seconds = match (status.next_record_timestamp_ms, lag_records) {
            // It may have been applied since it was looked at.
            (_, Some(0)) => Some(0.0),
            // A producer's clock may be far ahead of this one: then its age is not known.
            (Some(ms), _) => {
                let age_ms = now_ms.saturating_sub(ms);
                let age_ms = (age_ms >= -AHEAD_MS).then(|| u64::try_from(age_ms).unwrap_or(0));
                age_ms.map(|age_ms| Duration::from_millis(age_ms).as_secs_f64())
            }
            (None, _) => None,
        };
        let seconds = |ms: f64| (ms / 1_000.0).max(0.0);
        #[expect(clippy::cast_precision_loss, reason = "exact for 285,000 years")]
        let now = now_ms as f64;
        let uncommitted_records = ahead(status.last_stable_offset, status.log_end_offset);
        #[expect(clippy::cast_precision_loss, reason = "as above")]
        let since = |ms: i64| seconds(now - ms as f64);
        Self {
            topic: status.topic.clone(),
            partition: status.partition,
            state: status.state,
            next_offset: status.next_offset,
            end_offset: end,
            lag_records,
            lag_seconds,
            uncommitted_records,
            uncommitted_seconds: match (status.uncommitted_since_ms, uncommitted_records) {
                (_, Some(0)) => Some(0.0),
                (since_ms, _) => since_ms.map(since),
            },
            drain_seconds: status.drain_seconds,
            // By pace, the loss of a short log is always near: with nothing to apply there is nothing to lose.
            loss_seconds: lag_records.and_then(|lag| {
                loss_seconds(i64::try_from(lag).unwrap_or(i64::MAX), now_ms, status.loss_at_ms)
            }),
            class: status.reason.is_some().then_some(status.class),
            mirror_lag_records: ahead(status.mirrored_offset, status.next_offset),
        }
    }
}

/// Where the time of batches goes, in seconds, one measurement for each batch that came so far.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Phases {
    /// Waiting for records, and for the batch to fill.
    pub wait: Histogram,
    /// [`Handler::prepare`](crate::Handler::prepare): only under lag, while the batch before is written.
    pub decode: Histogram,
    /// Getting a connection, and `BEGIN`.
    pub begin: Histogram,
    /// [`Handler::handle`](crate::Handler::handle), with what it writes.
    pub handler: Histogram,
    /// The part of that which is table sinks' `COPY`.
    pub write: Histogram,
    /// The compare-and-set of the offsets.
    pub offsets: Histogram,
    /// `COMMIT`.
    pub commit: Histogram,
}

impl Phases {
    /// Each with its name.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &Histogram)> {
        [
            ("wait", &self.wait),
            ("decode", &self.decode),
            ("begin", &self.begin),
            ("handler", &self.handler),
            ("write", &self.write),
            ("offsets", &self.offsets),
            ("commit", &self.commit),
        ]
        .into_iter()
    }
}

/// Rebalance events by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Rebalances {
    /// Partitions were given.
    pub assigned: u64,
    /// Partitions were taken, in order.
    pub revoked: u64,
    /// Partitions were lost: this member's session had ended.
    pub lost: u64,
}

/// Connections of one purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolMetrics {
    /// `lanes` for batches, `control` for claims and reads, `status` for heartbeats and reports.
    pub name: &'static str,
    /// In use.
    pub used: u64,
    /// Open and at rest.
    pub idle: u64,
    /// Callers that wait for one.
    pub waiting: u64,
}

impl PoolMetrics {
    pub(crate) fn new(name: &'static str, size: usize, idle: usize, waiting: usize) -> Self {
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        Self { name, used: number(size.saturating_sub(idle)), idle: number(idle), waiting: number(waiting) }
    }
}

/// Memory for records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct BufferMetrics {
    /// Bytes of records in buffers and batches.
    pub held_bytes: u64,
    /// The setting `buffer_budget`.
    pub budget_bytes: u64,
    /// Partitions that fetch no more until something was applied.
    pub paused_partitions: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(next: i64, stable: i64, end: i64, timestamp: Option<i64>) -> PartitionStatus {
        PartitionStatus {
            next_offset: Some(next),
            mirrored_offset: Some(next - 2),
            log_end_offset: Some(end),
            last_stable_offset: Some(stable),
            next_record_timestamp_ms: timestamp,
            ..PartitionStatus::new("t", 0, PartitionState::Running)
        }
    }

    #[test]
    fn lag_is_to_the_last_stable_offset_and_by_the_next_records_clock() {
        let of = |status: &PartitionStatus| PartitionMetrics::of(status, Isolation::ReadCommitted, 10_000);
        let behind = of(&status(5, 8, 11, Some(7_500)));
        assert_eq!((behind.lag_records, behind.lag_seconds), (Some(3), Some(2.5)));
        assert_eq!((behind.uncommitted_records, behind.mirror_lag_records), (Some(3), Some(2)));
        let mut held = status(5, 8, 11, None);
        (held.uncommitted_since_ms, held.loss_at_ms) = (Some(4_000), Some(70_000.0));
        (held.class, held.reason) = (Class::Stall, Some("stands".to_owned()));
        let held = of(&held);
        assert_eq!((held.uncommitted_seconds, held.loss_seconds), (Some(6.0), Some(60.0)));
        assert_eq!((behind.class, held.class), (None, Some(Class::Stall)));
        let caught_up = of(&status(8, 8, 11, Some(7_500)));
        assert_eq!((caught_up.lag_records, caught_up.lag_seconds), (Some(0), Some(0.0)));
        let none_to_lose = of(&PartitionStatus { loss_at_ms: Some(70_000.0), ..status(8, 8, 11, None) });
        assert_eq!(none_to_lose.loss_seconds, Some(f64::INFINITY));
        let ahead = of(&status(9, 8, 8, None));
        assert_eq!((ahead.lag_records, ahead.lag_seconds), (Some(0), Some(0.0)));
        let future = of(&status(5, 8, 8, Some(99_000)));
        assert_eq!(future.lag_seconds, None, "not 0, for it waits");
        for (timestamp, age) in [(14_999, Some(0.0)), (15_000, Some(0.0)), (15_001, None)] {
            assert_eq!(of(&status(5, 8, 8, Some(timestamp))).lag_seconds, age, "{timestamp}");
        }
        let not_here = of(&status(5, 8, 8, None));
        assert_eq!((not_here.lag_records, not_here.lag_seconds), (Some(3), None));
        let unknown = of(&PartitionStatus::new("t", 0, PartitionState::Claiming));
        assert_eq!(
            (unknown.lag_records, unknown.lag_seconds, unknown.mirror_lag_records),
            (None, None, None)
        );
        let dirty = PartitionMetrics::of(&status(5, 8, 11, None), Isolation::ReadUncommitted, 10_000);
        assert_eq!((dirty.lag_records, dirty.end_offset), (Some(6), Some(11)));
    }
}
