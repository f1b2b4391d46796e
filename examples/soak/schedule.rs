//! The schedule: what is done to whom, and when, all drawn from one seed.
//!
//! Two sequences without end, one of faults on processes, one of faults on servers, which go on at the same time.
//! Each is a row of rounds; a round holds every fault of its kind, some several times, in a random order, so that
//! none is left to chance.

use std::collections::BTreeSet;
use std::time::Duration;

use fastrand::Rng;
use highwater::testing::Cut;
use sha2::{Digest, Sha256};

use crate::{PARTITIONS, WORKERS};

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL; a new process takes its place after `down`.
    Kill { worker: usize, down: Duration },
    /// SIGSTOP in the middle of a batch, SIGCONT when its partitions are others'.
    Zombie { worker: usize },
    /// SIGTERM and a new process for each worker.
    Rolling,
    /// SIGKILL for PostgreSQL and all its backends.
    PostgresKill { down: Duration },
    /// All backends of the workers ended, so many times.
    Storm { times: usize },
    /// A connection to PostgreSQL lost at a certain place.
    Cut(Cut),
    /// Nothing passes on the way to PostgreSQL, and nobody is told.
    HalfOpen { length: Duration },
    /// Everything on the way to PostgreSQL takes longer, each way.
    Latency { each_way: Duration, length: Duration },
    /// SIGKILL for the broker.
    KafkaKill { down: Duration },
    /// The workers' connections to Kafka closed, and none opened meanwhile.
    KafkaCut { down: Duration },
    /// Nothing passes between workers and Kafka.
    KafkaHalfOpen { length: Duration },
    /// PostgreSQL goes back to a copy that is so much older.
    Rewind { behind: Duration },
    /// The primary dies, and a replica that has received nothing for so long takes its place.
    FailOver { behind: Duration },
    /// The database admits no connections, and its sessions end.
    ConnectionsRefused { length: Duration },
    /// Somebody else holds the sink's table in SHARE mode.
    LockedTable { length: Duration },
    /// COMMIT takes longer the more rows there are.
    SlowCommit { length: Duration },
    /// A record whose insertion ends its own backend.
    KillerRecord { partition: i32 },
    /// The first of the two hosts in the workers' URL drops what is sent to it; the other one begins to answer.
    FirstHostDrops { length: Duration },
    /// SIGSTOP for the broker, for longer than a session.
    KafkaFrozen { length: Duration },
    /// The broker lists topics, but no broker.
    KafkaBrokerless { length: Duration },
    /// An operator pauses a partition, and resumes it.
    Pause { partition: i32, length: Duration },
    /// An operator moves a partition back, and undoes its rows, in portions.
    Undo { partition: i32, back: i64 },
    /// A producer's transaction that stays open over every partition.
    OpenTransaction { length: Duration, roll_back: bool },
}

impl Fault {
    /// Its name in the tally.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Kill { .. } => "kill",
            Self::Zombie { .. } => "zombie",
            Self::Rolling => "rolling",
            Self::PostgresKill { .. } => "postgres-kill",
            Self::Storm { .. } => "storm",
            Self::Cut(Cut::Transaction) => "cut-transaction",
            Self::Cut(Cut::Commit) => "cut-commit",
            Self::Cut(Cut::Answer) => "cut-answer",
            Self::Cut(Cut::Answered) => "cut-answered",
            Self::HalfOpen { .. } => "half-open",
            Self::Latency { .. } => "latency",
            Self::KafkaKill { .. } => "kafka-kill",
            Self::KafkaCut { .. } => "kafka-cut",
            Self::KafkaHalfOpen { .. } => "kafka-half-open",
            Self::Rewind { .. } => "rewind",
            Self::FailOver { .. } => "fail-over",
            Self::ConnectionsRefused { .. } => "refused",
            Self::LockedTable { .. } => "locked-table",
            Self::SlowCommit { .. } => "slow-commit",
            Self::KillerRecord { .. } => "killer-record",
            Self::FirstHostDrops { .. } => "first-host",
            Self::KafkaFrozen { .. } => "kafka-frozen",
            Self::KafkaBrokerless { .. } => "kafka-brokerless",
            Self::OpenTransaction { .. } => "open-transaction",
            Self::Pause { .. } => "operator-pause",
            Self::Undo { .. } => "operator-undo",
        }
    }
}

/// A fault, and how long to wait before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) pause: Duration,
    pub(crate) fault: Fault,
}

/// The kinds that a round is restricted to; empty for all of them.
pub(crate) type Only = BTreeSet<String>;

/// One of the two sequences.
#[derive(Debug)]
pub(crate) struct Schedule {
    rng: Rng,
    only: Only,
    round: fn(&mut Rng) -> Vec<Fault>,
    /// The rest of the present round, last first.
    left: Vec<Fault>,
    longest_pause_ms: u64,
}

impl Schedule {
    /// Faults on processes.
    pub(crate) fn of_processes(seed: u64, only: &Only) -> Self {
        let (rng, only) = (Rng::with_seed(seed), only.clone());
        Self { rng, only, round: processes, left: Vec::new(), longest_pause_ms: 4_000 }
    }

    /// Faults on servers.
    pub(crate) fn of_servers(seed: u64, only: &Only) -> Self {
        let (rng, only) = (Rng::with_seed(!seed), only.clone());
        Self { rng, only, round: servers, left: Vec::new(), longest_pause_ms: 6_000 }
    }
}

impl Iterator for Schedule {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if self.left.is_empty() {
            self.left = (self.round)(&mut self.rng);
            self.left.retain(|fault| self.only.is_empty() || self.only.contains(fault.kind()));
            self.rng.shuffle(&mut self.left);
        }
        let pause = milliseconds(&mut self.rng, 300, self.longest_pause_ms);
        self.left.pop().map(|fault| Step { pause, fault })
    }
}

/// Tells schedules apart: two runs that print the same had the same in mind.
pub(crate) fn fingerprint(seed: u64, only: &Only) -> String {
    let mut digest = Sha256::new();
    let (processes, servers) = (Schedule::of_processes(seed, only), Schedule::of_servers(seed, only));
    for step in processes.take(1_000).chain(servers.take(1_000)) {
        digest.update(format!("{step:?}"));
    }
    digest.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// Every kind of fault: a round of either sequence holds all of its own, unless it is restricted.
pub(crate) fn kinds() -> BTreeSet<&'static str> {
    let mut rng = Rng::with_seed(0);
    let (processes, servers) = (processes(&mut rng), servers(&mut rng));
    processes.iter().chain(&servers).map(Fault::kind).collect()
}

fn processes(rng: &mut Rng) -> Vec<Fault> {
    let mut faults = vec![Fault::Rolling];
    faults.extend((0..2).map(|_| Fault::Zombie { worker: rng.usize(1..=WORKERS) }));
    faults.extend(
        (0..10).map(|_| Fault::Kill { worker: rng.usize(1..=WORKERS), down: milliseconds(rng, 0, 2_000) }),
    );
    faults
}

fn servers(rng: &mut Rng) -> Vec<Fault> {
    let mut faults = vec![
        Fault::PostgresKill { down: milliseconds(rng, 0, 3_000) },
        Fault::Storm { times: rng.usize(3..=8) },
        // The longest of the workers' and the server's own limits is 9 s.
        Fault::HalfOpen { length: milliseconds(rng, 10_000, 12_000) },
        Fault::Latency { each_way: milliseconds(rng, 50, 250), length: milliseconds(rng, 4_000, 8_000) },
        Fault::KafkaKill { down: milliseconds(rng, 0, 3_000) },
        Fault::KafkaCut { down: milliseconds(rng, 500, 4_000) },
        Fault::KafkaHalfOpen { length: milliseconds(rng, 3_000, 9_000) },
        Fault::Rewind { behind: milliseconds(rng, 1_000, 5_000) },
        Fault::FailOver { behind: milliseconds(rng, 1_000, 5_000) },
        Fault::ConnectionsRefused { length: milliseconds(rng, 8_000, 12_000) },
        Fault::LockedTable { length: milliseconds(rng, 3_000, 9_000) },
        Fault::SlowCommit { length: milliseconds(rng, 15_000, 25_000) },
        Fault::KillerRecord { partition: rng.i32(0..PARTITIONS) },
        Fault::FirstHostDrops { length: milliseconds(rng, 8_000, 15_000) },
        // The workers' session is 6 s under the classic protocol, and the broker's own with its controller 9 s.
        Fault::KafkaFrozen { length: milliseconds(rng, 8_000, 14_000) },
        Fault::KafkaBrokerless { length: milliseconds(rng, 5_000, 15_000) },
        Fault::OpenTransaction { length: milliseconds(rng, 5_000, 15_000), roll_back: rng.bool() },
    ];
    faults.push(Fault::Pause { partition: rng.i32(0..PARTITIONS), length: milliseconds(rng, 2_000, 6_000) });
    faults
        .extend((0..2).map(|_| Fault::Undo { partition: rng.i32(0..PARTITIONS), back: rng.i64(1..=5_000) }));
    for cut in [Cut::Transaction, Cut::Commit, Cut::Answer, Cut::Answered] {
        faults.extend((0..2).map(|_| Fault::Cut(cut)));
    }
    faults
}

fn milliseconds(rng: &mut Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(rng.u64(from..=to))
}
