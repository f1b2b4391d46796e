//! Where it stands, every few seconds.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::faults::{Faults, Seen};
use crate::fleet::TOLD;
use crate::moving::Slowest;
use crate::options::Options;
use crate::produce::Production;
use crate::servers::Servers;
use crate::{GROUP, PARTITIONS, Result, TOPIC, WORKERS};

const INTERVAL: Duration = Duration::from_secs(5);
/// A server that is away must not hold up the tally.
const LIMIT: Duration = Duration::from_secs(3);

/// Prints until it is dropped.
pub(crate) async fn show(
    faults: &Faults<'_>,
    production: &Production,
    in_transactions: &AtomicUsize,
    began: Instant,
) -> Result<Infallible> {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let produced = production.acknowledged() + in_transactions.load(Ordering::Relaxed);
        let lag = match tokio::time::timeout(LIMIT, lag(faults.servers)).await {
            Ok(Ok(lag)) => lag.to_string(),
            _ => "unknown (a server is away)".to_owned(),
        };
        let (seconds, seen) = (began.elapsed().as_secs(), faults.seen());
        println!("{seconds:>6} s  produced {produced}, lag {lag}; faults {}", faults_line(&seen));
    }
}

/// `12 kill, 3 zombie`.
pub(crate) fn faults_line(seen: &Seen) -> String {
    let kinds: Vec<String> = seen.by_kind.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    if kinds.is_empty() { "none yet".to_owned() } else { kinds.join(", ") }
}

/// A row of the table in `docs/guarantees.md`, without the records.
pub(crate) fn row(
    options: &Options,
    seen: &Seen,
    moved: Option<&Slowest>,
    told: [usize; TOLD.len()],
) -> String {
    let sum = |kinds: &[&str]| -> usize { kinds.iter().filter_map(|kind| seen.by_kind.get(kind)).sum() };
    let [unknown, fencings, ..] = told;
    let slowest =
        moved.map_or_else(|| "–".to_owned(), |moved| format!("{:.1} s", moved.passed.as_secs_f64()));
    format!(
        "| {}{}{} | {} | {} min | {} | {} | {} | {} | {} + {} + {} | {} + {} | {} + {} + {} + {} + {} | {} + {} + {} | {} + {} | {slowest} | {unknown} | {fencings} |",
        options.seed,
        match (options.park, options.poison) {
            (true, _) => ", with `--park`",
            (_, true) => ", with `--poison`",
            _ => "",
        },
        if options.pipeline { ", with `--pipeline`" } else { "" },
        crate::schedule::fingerprint(options.seed, &options.only),
        options.duration.as_secs() / 60,
        sum(&["kill"]),
        sum(&["zombie"]),
        sum(&["cut-transaction", "cut-commit", "cut-answer", "cut-answered", "kafka-cut", "storm"]),
        sum(&["half-open", "latency", "kafka-half-open"]),
        WORKERS * sum(&["rolling"]),
        sum(&["postgres-kill"]),
        sum(&["kafka-kill"]),
        sum(&["fail-over"]),
        sum(&["rewind"]),
        sum(&["refused"]),
        sum(&["locked-table"]),
        sum(&["slow-commit"]),
        sum(&["killer-record"]),
        sum(&["first-host"]),
        sum(&["kafka-frozen"]),
        sum(&["kafka-brokerless"]),
        sum(&["open-transaction"]),
        sum(&["operator-pause"]),
        sum(&["operator-undo"]),
    )
}

/// Offsets between the ends of the log and the positions, aborted records and markers included.
pub(crate) async fn lag(servers: &Servers) -> Result<i64> {
    let mut ends = 0;
    for partition in 0..PARTITIONS {
        ends += servers.kafka.watermarks(TOPIC, partition).await?.1;
    }
    let sql = "SELECT coalesce(sum(next_offset), 0)::int8 FROM highwater.consumer_offset WHERE group_id = $1";
    let rows = servers.database().query(sql, &[&GROUP]).await?;
    Ok(ends - rows[0].get::<_, i64>(0))
}
