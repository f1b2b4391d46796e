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

use crate::WORKERS;

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
        }
    }
}

/// A fault, and how long to wait before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) pause: Duration,
    pub(crate) fault: Fault,
}

/// One of the two sequences.
#[derive(Debug)]
pub(crate) struct Schedule {
    rng: Rng,
    round: fn(&mut Rng) -> Vec<Fault>,
    /// The rest of the present round, last first.
    left: Vec<Fault>,
    longest_pause_ms: u64,
}

impl Schedule {
    /// Faults on processes.
    pub(crate) fn of_processes(seed: u64) -> Self {
        Self { rng: Rng::with_seed(seed), round: processes, left: Vec::new(), longest_pause_ms: 4_000 }
    }

    /// Faults on servers.
    pub(crate) fn of_servers(seed: u64) -> Self {
        Self { rng: Rng::with_seed(!seed), round: servers, left: Vec::new(), longest_pause_ms: 6_000 }
    }
}

impl Iterator for Schedule {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if self.left.is_empty() {
            self.left = (self.round)(&mut self.rng);
            self.rng.shuffle(&mut self.left);
        }
        let pause = milliseconds(&mut self.rng, 300, self.longest_pause_ms);
        self.left.pop().map(|fault| Step { pause, fault })
    }
}

/// Tells schedules apart: two runs that print the same had the same in mind.
pub(crate) fn fingerprint(seed: u64) -> String {
    let mut digest = Sha256::new();
    for step in Schedule::of_processes(seed).take(1_000).chain(Schedule::of_servers(seed).take(1_000)) {
        digest.update(format!("{step:?}"));
    }
    digest.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// Every kind of fault: a round of either sequence holds them all.
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
    ];
    for cut in [Cut::Transaction, Cut::Commit, Cut::Answer, Cut::Answered] {
        faults.extend((0..2).map(|_| Fault::Cut(cut)));
    }
    faults
}

fn milliseconds(rng: &mut Rng, from: u64, to: u64) -> Duration {
    Duration::from_millis(rng.u64(from..=to))
}
