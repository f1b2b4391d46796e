//! What the command line says.

use std::time::Duration;

use crate::schedule::{Only, kinds};

pub(crate) const HELP: &str = "\
Runs Highwater's soak: Kafka, PostgreSQL, four workers, faults drawn from a seed, then the check.

Usage: soak [--minutes N] [--seed N] [--rate N] [--protocol classic|consumer|mixed]
            [--only KIND,KIND] [--poison | --park] [--pipeline] [-v]

  --minutes N   how long faults go on (30); draining and the check come after
  --seed N      the schedule's seed (a random one, which is printed): the same seed gives the same schedule
  --rate N      payments a second (400); one in five of them in Kafka transactions, a third of which is rolled back
  --protocol P  the workers' group protocol (classic); mixed: half of them each
  --only KINDS  only these kinds of faults, separated by commas: to try one, or to keep others out
  --poison      one payment in a hundred is refused in three of four spans of ten seconds: it becomes a dead letter, is
                redriven with all others every few seconds, and must be applied once in the end
  --park        the same, and later payments of its account are parked behind it (`park_key`): in the end every account's
                must have been applied in the order of their offsets
  --pipeline    a pipeline's file makes the rows of two tables, and a trigger the balances, instead of a handler
  -v            show what the workers log at the end

Faults on processes (one at a time): kill (SIGKILL at a random moment), zombie (SIGSTOP in the middle of a batch until
the others have taken over, then SIGCONT), rolling (restart of the whole fleet by SIGTERM).
Faults on servers (one at a time, while those on processes go on): postgres-kill, storm (pg_terminate_backend), cut-…
(a connection lost in a transaction, at COMMIT, at its answer, after its answer), half-open and latency (on the way to
PostgreSQL), kafka-kill, kafka-cut, kafka-half-open, rewind (a backup of PostgreSQL is put back), fail-over (to a
replica that had fallen behind), refused (the database admits no connections for a while), locked-table (somebody holds
the sink's table), slow-commit (COMMIT of a large batch takes longer than a batch may), killer-record (one that ends its
own backend), first-host (of two in the URL, it drops what is sent), kafka-frozen (SIGSTOP for longer than the session),
kafka-brokerless (it lists topics, but no broker), open-transaction (of a producer, over every partition);
and an operator: operator-pause (and resume), operator-undo (back by some thousand records, rows undone in portions).

The last line is `missing N, duplicates M`; exit status 0 only if both are 0, the balances and the coverage ledger are
right, every fault was seen to happen, every partition moved within 60 s of the end of each (time in which a server is
faulty again does not count), and nothing halted but what holds a record that kills its backend. HIGHWATER_TEST_BACKEND=local is needed: servers in containers cannot go back.";

/// Which group protocol the workers use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Classic,
    Consumer,
    Mixed,
}

impl Protocol {
    /// What worker `number` (from 1) uses; none for the default.
    pub(crate) fn of_worker(self, number: usize) -> Option<&'static str> {
        match self {
            Self::Classic => None,
            Self::Consumer => Some("consumer"),
            Self::Mixed => number.is_multiple_of(2).then_some("consumer"),
        }
    }
}

/// What to do.
#[derive(Debug)]
pub(crate) struct Options {
    /// Be a worker process instead; it is configured by the environment alone.
    pub(crate) worker: bool,
    pub(crate) help: bool,
    pub(crate) verbose: bool,
    pub(crate) duration: Duration,
    pub(crate) seed: u64,
    /// Payments a second.
    pub(crate) rate: u64,
    pub(crate) protocol: Protocol,
    /// The kinds of faults to draw; empty for all.
    pub(crate) only: Only,
    pub(crate) poison: bool,
    /// With poison, and what comes after it waits behind it.
    pub(crate) park: bool,
    /// By a file, without a handler.
    pub(crate) pipeline: bool,
}

impl Options {
    /// # Errors
    /// A text for standard error.
    pub(crate) fn from_env() -> Result<Self, String> {
        let mut options = Self {
            worker: false,
            help: false,
            verbose: false,
            duration: Duration::from_secs(30 * 60),
            seed: fastrand::u64(1..1_000_000),
            rate: 400,
            protocol: Protocol::Classic,
            only: Only::new(),
            poison: false,
            park: false,
            pipeline: false,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "worker" => options.worker = true,
                "--help" | "-h" => options.help = true,
                "-v" | "--verbose" => options.verbose = true,
                "--minutes" => {
                    options.duration = Duration::from_secs(60 * number(&argument, arguments.next())?);
                }
                "--seed" => options.seed = number(&argument, arguments.next())?,
                "--rate" => options.rate = number(&argument, arguments.next())?,
                "--protocol" => options.protocol = protocol(arguments.next().as_deref())?,
                "--poison" => options.poison = true,
                "--park" => (options.poison, options.park) = (true, true),
                "--pipeline" => options.pipeline = true,
                "--only" => options.only = only(arguments.next().as_deref())?,
                other => return Err(format!("unknown argument {other:?}\n\n{HELP}")),
            }
        }
        Ok(options)
    }
}

fn protocol(value: Option<&str>) -> Result<Protocol, String> {
    match value {
        Some("classic") => Ok(Protocol::Classic),
        Some("consumer") => Ok(Protocol::Consumer),
        Some("mixed") => Ok(Protocol::Mixed),
        _ => Err("--protocol needs classic, consumer or mixed".to_owned()),
    }
}

fn only(value: Option<&str>) -> Result<Only, String> {
    let known = kinds();
    let named: Only = value.unwrap_or_default().split(',').map(str::to_owned).collect();
    match named.iter().find(|kind| !known.contains(kind.as_str())) {
        None => Ok(named),
        Some(kind) => Err(format!("--only: {kind:?} is none of {}", Vec::from_iter(known).join(", "))),
    }
}

fn number(name: &str, value: Option<String>) -> Result<u64, String> {
    let value = value.ok_or_else(|| format!("{name} needs a number"))?;
    match value.parse() {
        Ok(number @ 1..=1_000_000) => Ok(number),
        _ => Err(format!("{name}: {value:?} is not a number from 1 to 1000000")),
    }
}
