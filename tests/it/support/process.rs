//! Workers as processes of their own: this very test binary, started again.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::SinkExt;
use highwater::testing::{Child, FAILPOINTS, Result, at_failpoint, freeze_this_process, wait_until};
use highwater::{Batch, HandlerError, Tx, Worker};
use rustix::process::{Resource, Rlimit, Signal, getpid, getrlimit, kill_process, setrlimit};
use tracing::Instrument as _;

use super::world::World;
use super::{Copied, Fault, PATIENCE, Sink};
use crate::dead_letter::Named;
use crate::dead_letter::parking::Chain;
use crate::field::secrets;

/// A worker process.
pub(crate) struct Process {
    pub(crate) child: Child,
}

/// The environment variables that tell a worker process what to do; `HIGHWATER_TEST_…` is let through by the
/// configuration.
const ROLE: &str = "HIGHWATER_TEST_WORKER";
const FAILPOINT: &str = "HIGHWATER_TEST_FAILPOINT";
const SESSION: &str = "HIGHWATER_SESSION_TIMEOUT";

impl Process {
    /// Starts a worker of `world`. `role`: what its handler does, see [`worker_process`].
    pub(crate) fn start(world: &World<'_>, name: &str, role: &str) -> Result<Self> {
        Self::start_with(world, name, role, &[])
    }

    /// With more environment variables; `HIGHWATER_TEST_FAILPOINT` is `name=kill` or `name=freeze`, with
    /// `name=3*kill` for the third time.
    pub(crate) fn start_with(
        world: &World<'_>,
        name: &str,
        role: &str,
        more: &[(&str, &str)],
    ) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe().expect("the test binary has a path"));
        command
            .args(["--exact", "support::process::worker_process", "--ignored", "--nocapture"])
            .env(ROLE, role)
            .env("HIGHWATER_BROKERS", world.kafka.bootstrap())
            .env("HIGHWATER_POSTGRES_URL", &world.role.url)
            .env("HIGHWATER_GROUP", &world.group)
            .env("HIGHWATER_TOPICS", &world.topic)
            .env("HIGHWATER_PROGRAM", "it")
            .env("HIGHWATER_START", "earliest")
            .env("HIGHWATER_LOG", "info,highwater=debug")
            .envs(more.iter().copied());
        if !more.contains(&("HIGHWATER_GROUP_PROTOCOL", "consumer"))
            && !more.iter().any(|(name, _)| *name == SESSION)
        {
            command.env(SESSION, "6s");
        }
        Ok(Self { child: Child::spawn(name, &command)? })
    }

    /// Waits until the process says that it has passed its failpoint.
    pub(crate) async fn reached(&self, failpoint: &str) -> Result<()> {
        let line = format!("reached failpoint {failpoint}");
        self.child.wait_for_line(|text| text.contains(&line), PATIENCE).await.map(drop)
    }

    /// Waits until the process has claimed its first partition.
    pub(crate) async fn claimed(&self) -> Result<()> {
        self.child.wait_for_line(|text| text.contains("claimed partition="), PATIENCE).await.map(drop)
    }

    /// The random id of this process, as in `consumer_offset.owner`.
    pub(crate) async fn owner(&self) -> Result<String> {
        let line = self.child.wait_for_line(|text| text.contains("starting group="), PATIENCE).await?;
        let owner = line.split("owner=").nth(1).and_then(|rest| rest.split(' ').next());
        Ok(owner.expect("the line names the owner").to_owned())
    }

    /// How long it took to answer each rebalance so far.
    pub(crate) fn answers(&self) -> Vec<Duration> {
        let lines = self.child.lines();
        let answers = lines.iter().filter_map(|line| line.text.split("answered_in=").nth(1));
        answers.map(|rest| parse_elapsed(rest.split(' ').next().unwrap_or(rest))).collect()
    }

    /// Whether a line that it wrote contains `text`.
    pub(crate) fn wrote(&self, text: &str) -> bool {
        self.child.lines().iter().any(|line| line.text.contains(text))
    }

    /// SIGTERM, and exit status 0.
    pub(crate) async fn stop(&self) -> Result<()> {
        self.child.term()?;
        let status = self.child.wait(PATIENCE).await?;
        assert_eq!(status, 0, "a soft stop ends with 0");
        Ok(())
    }
}

impl World<'_> {
    /// Waits until a worker of the role `slow` is inside a batch's transaction, its rows written.
    ///
    /// That any session of a worker has a transaction would not do: its claims and heartbeats have them too.
    pub(crate) async fn slow_batch_in_flight(&self) -> Result<()> {
        let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' \
                        AND application_name LIKE 'highwater/%' AND query LIKE '%pg_sleep($1)%'";
        wait_until("a batch is in flight", PATIENCE, async || {
            Ok((self.number(sleeping).await? > 0).then_some(()))
        })
        .await
    }
}

/// A `Duration` as its `Debug` writes it.
fn parse_elapsed(text: &str) -> Duration {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').expect("a unit");
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "ns" => 1e-9,
        "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        other => panic!("{other} is not a unit of time"),
    };
    Duration::from_secs_f64(number.parse::<f64>().expect("a number") * seconds)
}

/// Not a test: the body of a worker process. Passes at once when nobody asked for one.
///
/// Roles: `plain`; `copied` (the rows by a `TableSink`); `rows` (no shared balances); `slow` (each batch stays 100 ms, or `HIGHWATER_TEST_SLOW_MS`, inside
/// its transaction); `timed` (notes when each partition commits, in `commits`); `late` (also how old its oldest record
/// was); `copy` (after its work, copies the
/// rows again into `copied`, and freezes once half-way); `traced` (has a span and a line of its own for each batch); `hungry` (runs out of memory in its third batch, when the
/// rows are written); `rejecting` (rejects the records of the account `bad`); `chain` (see `dead_letter/parking.rs`); `counted` (`plain`, and tells every second how many tasks its runtime has); `leaky`, `leaky-rows`,
/// `leaky-json` (see `field/secrets.rs`).
#[test]
#[ignore = "the body of a worker process"]
fn worker_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let logs = highwater::log::Options::default().init().expect("the process may log");
    if let Ok(failpoint) = std::env::var(FAILPOINT) {
        arm(&failpoint);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    if role.starts_with("leaky") {
        // As docs/handlers.md says: the text of a panic is the hook's to show.
        std::panic::set_hook(Box::new(|panic| match panic.location() {
            Some(place) => tracing::error!(%place, "panicked"),
            None => tracing::error!("panicked"),
        }));
    }
    let ended = runtime.block_on(async {
        match role.as_str() {
            "plain" => Worker::builder().build(Sink::<()>::default())?.run().await,
            "rows" => Worker::builder().build(Sink { fault: (), rows_only: true })?.run().await,
            "slow" => Worker::builder().build(Sink { fault: Slow, rows_only: false })?.run().await,
            "timed" => Worker::builder().build(Sink { fault: Timed, rows_only: false })?.run().await,
            "late" => Worker::builder().build(Sink { fault: Lateness, rows_only: false })?.run().await,
            "hungry" => Worker::builder().build(Sink { fault: Hungry, rows_only: false })?.run().await,
            "counted" => {
                tokio::spawn(count_tasks());
                Worker::builder().build(Sink::<()>::default())?.run().await
            }
            "traced" => Worker::builder().build(Sink { fault: Scored, rows_only: false })?.run().await,
            "rejecting" => {
                Worker::builder().build(Sink { fault: Named::default(), rows_only: false })?.run().await
            }
            "chain" => Worker::builder().build(Chain)?.run().await,
            "copied" => Worker::builder().build(Copied::default())?.run().await,
            "copy" => Worker::builder().build(Sink { fault: FrozenCopy, rows_only: false })?.run().await,
            "leaky" => Worker::builder().build(Sink { fault: secrets::Leaky, rows_only: false })?.run().await,
            "leaky-rows" => Worker::builder().build(secrets::table_sink())?.run().await,
            "leaky-json" => Worker::builder().build(secrets::json_sink())?.run().await,
            other => panic!("there is no role {other}"),
        }
    });
    drop(logs);
    if let Err(error) = ended {
        println!("error: {}", error.report());
        std::process::exit(error.exit_code().into());
    }
}

/// Arms `name=kill`, `name=freeze`, `name=panic`, `name=hang`, `name=N*kill`.
fn arm(failpoint: &str) {
    let (name, action) = failpoint.split_once('=').expect("name=action");
    let (nth, action) =
        action.split_once('*').map_or((1, action), |(nth, action)| (nth.parse().expect("a number"), action));
    let signal = match action {
        "kill" => Some(Signal::KILL),
        "freeze" => Some(Signal::STOP),
        "panic" | "hang" => None,
        other => panic!("there is no action {other}"),
    };
    let hangs = action == "hang";
    let name = *FAILPOINTS.iter().find(|known| **known == name).expect("a known failpoint");
    at_failpoint(name, nth, move || {
        println!("reached failpoint {name}");
        match signal {
            None if hangs => loop {
                std::thread::park();
            },
            None => panic!("at failpoint {name}"),
            Some(Signal::STOP) => freeze_this_process(),
            Some(signal) => kill_process(getpid(), signal).expect("a process may signal itself"),
        }
    });
}

/// Holds every transaction open for a while, so that a signal sent under load hits one.
struct Slow;

impl Fault for Slow {
    async fn after(&self, _: &Batch, tx: &mut Tx) -> std::result::Result<(), HandlerError> {
        let ms = std::env::var("HIGHWATER_TEST_SLOW_MS").map_or(100.0, |ms| ms.parse().expect("a number"));
        tx.execute("SELECT pg_sleep($1)", &[&(ms / 1000.0)]).await?;
        Ok(())
    }
}

/// Does something of its own in each batch, with a span and a line in the log.
struct Scored;

impl Fault for Scored {
    async fn after(&self, batch: &Batch, _: &mut Tx) -> std::result::Result<(), HandlerError> {
        let records = batch.len();
        async { tracing::info!(records, "scored") }.instrument(tracing::info_span!("score")).await;
        Ok(())
    }
}

/// Notes when each partition commits, to a few milliseconds.
struct Timed;

impl Fault for Timed {
    async fn after(&self, batch: &Batch, tx: &mut Tx) -> std::result::Result<(), HandlerError> {
        let partitions: Vec<i32> = batch.records().map(|record| record.partition()).collect();
        let note = "INSERT INTO commits SELECT DISTINCT p, clock_timestamp() FROM unnest($1::int4[]) AS p";
        tx.execute(note, &[&partitions]).await?;
        Ok(())
    }
}

/// Notes when each partition commits, and how many milliseconds ago its oldest record of the batch was produced.
struct Lateness;

impl Fault for Lateness {
    async fn after(&self, batch: &Batch, tx: &mut Tx) -> std::result::Result<(), HandlerError> {
        let mut oldest = BTreeMap::new();
        for record in batch.records() {
            let produced = record.timestamp_ms().unwrap_or_default();
            oldest.entry(record.partition()).and_modify(|at| *at = produced.min(*at)).or_insert(produced);
        }
        let (partitions, produced): (Vec<i32>, Vec<i64>) = oldest.into_iter().unzip();
        let note = "INSERT INTO commits SELECT p, clock_timestamp(), \
                    extract(epoch FROM clock_timestamp()) * 1000 - ms FROM unnest($1::int4[], $2::int8[]) AS t (p, ms)";
        tx.execute(note, &[&partitions, &produced]).await?;
        Ok(())
    }
}

/// Freezes this process in mid-COPY, once: half of the rows are sent, the rest and the end are not.
struct FrozenCopy;

impl Fault for FrozenCopy {
    async fn after(&self, batch: &Batch, tx: &mut Tx) -> std::result::Result<(), HandlerError> {
        static FROZEN: AtomicBool = AtomicBool::new(false);
        let lines: Vec<String> =
            batch.records().map(|record| format!("{}\t{}\n", record.partition(), record.offset())).collect();
        let sink = tx.copy_in("COPY copied FROM STDIN").await?;
        let mut sink = std::pin::pin!(sink);
        let (first, second) = lines.split_at(lines.len() / 2);
        sink.send(Bytes::from(first.concat())).await?;
        if !first.is_empty() && !FROZEN.swap(true, Ordering::SeqCst) {
            sink.flush().await?;
            println!("reached failpoint mid_copy");
            freeze_this_process();
        }
        sink.send(Bytes::from(second.concat())).await?;
        sink.finish().await?;
        Ok(())
    }
}

/// Has no memory left in its third batch: an allocation fails, and the process aborts.
struct Hungry;

impl Fault for Hungry {
    async fn after(&self, _: &Batch, _: &mut Tx) -> std::result::Result<(), HandlerError> {
        static BATCHES: AtomicUsize = AtomicUsize::new(0);
        if BATCHES.fetch_add(1, Ordering::SeqCst) == 2 {
            println!("no memory is left from here on");
            // Less than it has: nothing more can be mapped.
            let none = Rlimit { current: Some(0), ..getrlimit(Resource::As) };
            setrlimit(Resource::As, none).expect("a process may limit itself");
            let mut eaten = Vec::new();
            loop {
                eaten.push(vec![1_u8; 1 << 20]);
            }
        }
        Ok(())
    }
}

async fn count_tasks() {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
        println!("alive tasks: {}", tokio::runtime::Handle::current().metrics().num_alive_tasks());
    }
}
