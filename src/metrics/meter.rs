//! What is counted while a worker runs: relaxed atomics, a few times per batch, never per record.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::histogram::{Durations, Histogram, Sizes};
use super::snapshot::Phases;
use crate::verdict::{Act, Class};

/// Why a batch is tried again, where no class of the judge's says so.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Retry {
    Class(Class),
    /// Another session holds the lock of a partition's row.
    Locked,
    /// A compare-and-set found fewer rows than it should, and the rows do not show why.
    Missed,
    /// Too many handlers that were given up block their threads.
    Crowded,
    /// By the order of a key: a record was rejected though later ones of its key were in the batch, or what was parked has
    /// nothing to wait behind any more.
    Order,
}

/// Every name of [`Retry`].
const RETRIES: [&str; 13] = [
    "environment",
    "lost",
    "own_timeout",
    "reject",
    "retry_then_halt",
    "bug",
    "privilege",
    "halt",
    "authentication",
    "locked",
    "missed",
    "crowded",
    "order",
];
/// What can be done about a batch.
const ACTS: [&str; 6] = ["wait", "apart", "halve", "isolate", "name", "halt"];

impl Retry {
    fn as_str(self) -> &'static str {
        match self {
            Self::Class(Class::Environment) => "environment",
            Self::Class(Class::Lost) => "lost",
            Self::Class(Class::OwnTimeout) => "own_timeout",
            Self::Class(Class::Reject) => "reject",
            Self::Class(Class::RetryThenHalt) => "retry_then_halt",
            Self::Class(Class::Bug) => "bug",
            Self::Class(Class::Privilege) => "privilege",
            Self::Class(Class::Halt) => "halt",
            Self::Class(Class::Authentication) => "authentication",
            Self::Locked => "locked",
            Self::Missed => "missed",
            Self::Crowded => "crowded",
            Self::Order => "order",
        }
    }
}

fn name_of(act: Act) -> Option<&'static str> {
    match act {
        Act::Wait => Some("wait"),
        Act::Apart => Some("apart"),
        Act::Halve => Some("halve"),
        Act::Isolate => Some("isolate"),
        Act::Name => Some("name"),
        Act::Halt => Some("halt"),
        Act::FetchAnew | Act::NewClient | Act::Exit(_) => None,
    }
}

/// A few counters with a name each.
#[derive(Debug)]
struct Named<const N: usize> {
    names: &'static [&'static str; N],
    counts: [AtomicU64; N],
}

impl<const N: usize> Named<N> {
    fn new(names: &'static [&'static str; N]) -> Self {
        Self { names, counts: [const { AtomicU64::new(0) }; N] }
    }

    fn count(&self, name: &str) {
        self.add(name, 1);
    }

    fn add(&self, name: &str, count: usize) {
        if let Some(at) = self.names.iter().position(|known| *known == name) {
            self.counts[at].fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
        }
    }

    fn get(&self) -> Vec<(&'static str, u64)> {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        self.names.iter().copied().zip(counts).collect()
    }
}

/// Of the lanes: what becomes of batches, and where their time goes.
#[derive(Debug)]
pub(crate) struct BatchMeter {
    began: Instant,
    bytes: AtomicU64,
    records: Sizes,
    pub(crate) wait: Durations,
    pub(crate) decode: Durations,
    pub(crate) begin: Durations,
    pub(crate) handler: Durations,
    pub(crate) write: Durations,
    pub(crate) offsets: Durations,
    pub(crate) commit: Durations,
    retries: Named<13>,
    verdicts: Named<6>,
    /// When something was last committed, in ms since it began, and one; 0: never.
    last_commit: AtomicU64,
    /// Records stored as dead letters, by route.
    set_aside: Mutex<BTreeMap<String, u64>>,
    redriven: Named<2>,
}

impl Default for BatchMeter {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            bytes: AtomicU64::new(0),
            records: Sizes::sizes(),
            wait: Durations::durations(),
            decode: Durations::durations(),
            begin: Durations::durations(),
            handler: Durations::durations(),
            write: Durations::durations(),
            offsets: Durations::durations(),
            commit: Durations::durations(),
            retries: Named::new(&RETRIES),
            verdicts: Named::new(&ACTS),
            last_commit: AtomicU64::new(0),
            set_aside: Mutex::default(),
            redriven: Named::new(&["redriven", "rejected"]),
        }
    }
}

impl BatchMeter {
    /// A batch is durable.
    pub(crate) fn applied(&self, records: usize, bytes: usize) {
        self.bytes.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.records.count(u64::try_from(records).unwrap_or(u64::MAX));
        self.last_commit.store(self.now(), Ordering::Relaxed);
    }

    pub(crate) fn retried(&self, why: Retry) {
        self.retries.count(why.as_str());
    }

    pub(crate) fn judged(&self, act: Act) {
        if let Some(act) = name_of(act) {
            self.verdicts.count(act);
        }
    }

    /// So many records of a route are stored as dead letters.
    pub(crate) fn set_aside(&self, route: &str, records: u64) {
        let mut counts = self.set_aside.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(route) {
            Some(count) => *count += records,
            None => drop(counts.insert(route.to_owned(), records)),
        }
    }

    /// How many were, by route.
    pub(crate) fn dead_letters(&self) -> Vec<(String, u64)> {
        let counts = self.set_aside.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|(route, count)| (route.clone(), *count)).collect()
    }

    /// So many dead letters were applied once more, and so many rejected again.
    pub(crate) fn redrove(&self, redriven: usize, rejected: usize) {
        self.redriven.add("redriven", redriven);
        self.redriven.add("rejected", rejected);
    }

    /// How many were, by outcome.
    pub(crate) fn redriven(&self) -> Vec<(&'static str, u64)> {
        self.redriven.get()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn records(&self) -> Histogram {
        self.records.get()
    }

    pub(crate) fn phases(&self) -> Phases {
        Phases {
            wait: self.wait.get(),
            decode: self.decode.get(),
            begin: self.begin.get(),
            handler: self.handler.get(),
            write: self.write.get(),
            offsets: self.offsets.get(),
            commit: self.commit.get(),
        }
    }

    pub(crate) fn retries(&self) -> Vec<(&'static str, u64)> {
        self.retries.get()
    }

    pub(crate) fn verdicts(&self) -> Vec<(&'static str, u64)> {
        self.verdicts.get()
    }

    /// The time now, as it is kept in [`Activity::pending_since`].
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    /// How long ago the last commit was.
    pub(crate) fn since_commit(&self) -> Option<Duration> {
        let last = self.last_commit.load(Ordering::Relaxed);
        (last > 0).then(|| Duration::from_millis(self.now().saturating_sub(last)))
    }

    /// For how long nothing was committed although there was something to apply.
    pub(crate) fn pending(&self, activity: &Activity) -> Duration {
        match activity.pending_since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => {
                let since = since.max(self.last_commit.load(Ordering::Relaxed));
                Duration::from_millis(self.now().saturating_sub(since))
            }
        }
    }
}

/// Of the control loop: claims, clients, and what it finds whenever it publishes the status.
#[derive(Debug)]
pub(crate) struct Activity {
    pub(crate) claims: AtomicU64,
    pub(crate) claims_again: AtomicU64,
    pub(crate) clients: AtomicU64,
    pub(crate) pause: Durations,
    pub(crate) paused_partitions: AtomicU64,
    pub(crate) stuck_partitions: AtomicU64,
    pub(crate) unassigned_partitions: AtomicU64,
    /// Since when there is something to apply; 0: there is nothing.
    pub(crate) pending_since: AtomicU64,
}

impl Default for Activity {
    fn default() -> Self {
        Self {
            claims: AtomicU64::new(0),
            claims_again: AtomicU64::new(0),
            clients: AtomicU64::new(0),
            pause: Durations::durations(),
            paused_partitions: AtomicU64::new(0),
            stuck_partitions: AtomicU64::new(0),
            unassigned_partitions: AtomicU64::new(0),
            pending_since: AtomicU64::new(0),
        }
    }
}

impl Activity {
    /// A claim was granted: the first of its assignment, for which that had waited so long, or a further one.
    pub(crate) fn claimed(&self, waited: Option<Duration>) {
        let Some(waited) = waited else {
            self.claims_again.fetch_add(1, Ordering::Relaxed);
            return;
        };
        self.claims.fetch_add(1, Ordering::Relaxed);
        self.pause.took(waited);
    }

    /// What the loop has found: how many partitions the budget has paused, how many stand still, and since when there has
    /// been something to apply.
    pub(crate) fn found(&self, paused: usize, stuck: usize, pending: bool, now: u64) {
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        self.paused_partitions.store(number(paused), Ordering::Relaxed);
        self.stuck_partitions.store(number(stuck), Ordering::Relaxed);
        if !pending {
            self.pending_since.store(0, Ordering::Relaxed);
        } else if self.pending_since.load(Ordering::Relaxed) == 0 {
            self.pending_since.store(now, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_counter() {
        let meter = BatchMeter::default();
        let classes = [
            Class::Environment,
            Class::Lost,
            Class::OwnTimeout,
            Class::Reject,
            Class::RetryThenHalt,
            Class::Bug,
            Class::Privilege,
            Class::Halt,
            Class::Authentication,
        ];
        let others = [Retry::Locked, Retry::Missed, Retry::Crowded, Retry::Order];
        classes.into_iter().map(Retry::Class).chain(others).for_each(|why| meter.retried(why));
        assert!(meter.retries().into_iter().all(|(_, count)| count == 1), "{:?}", meter.retries());
        [Act::Wait, Act::Apart, Act::Halve, Act::Isolate, Act::Name, Act::Halt]
            .into_iter()
            .for_each(|act| meter.judged(act));
        assert!(meter.verdicts().into_iter().all(|(_, count)| count == 1), "{:?}", meter.verdicts());
    }

    #[test]
    fn time_counts_while_there_is_something_to_apply() {
        let (meter, activity) = (BatchMeter::default(), Activity::default());
        assert_eq!(meter.since_commit(), None);
        assert_eq!(meter.pending(&activity), Duration::ZERO);
        activity.found(1, 2, true, meter.now());
        std::thread::sleep(Duration::from_millis(20));
        activity.found(1, 2, true, meter.now());
        let pending = meter.pending(&activity);
        assert!(pending >= Duration::from_millis(19), "{pending:?}");
        meter.applied(1, 10);
        assert!(meter.pending(&activity) < pending);
        activity.found(0, 0, false, meter.now());
        assert_eq!(meter.pending(&activity), Duration::ZERO);
    }
}
