//! Highwater in this process, with its defaults, until it has applied what was produced.

use std::time::{Duration, Instant};

use highwater::testing::unique;
use highwater::{Handler, PartialConfig, Worker, WorkerHandle};

use super::servers::Servers;
use super::{Result, Run, member};

/// How often the counters are read; that late, at most, the end is noticed.
const LOOK: Duration = Duration::from_millis(2);
/// A worker that gets no further is an error, not a benchmark that never ends.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a worker of a group of its own needs to be told; all else is as it comes.
pub(crate) fn settings(servers: &Servers, topic: &str) -> PartialConfig {
    PartialConfig::default()
        .brokers(vec![servers.kafka.bootstrap().to_owned()])
        .postgres_url(servers.database.url())
        .group(unique("bench"))
        .topics(vec![topic.to_owned()])
        .start(highwater::config::StartPolicy::Earliest)
}

/// Settings by the names of their variables without `HIGHWATER_`, as in `LANES=2,LINGER=5ms`.
///
/// # Errors
/// When one has no `=`, or is not a setting.
pub(crate) fn trial(list: Option<&str>) -> Result<PartialConfig> {
    let settings =
        member::settings(list)?.into_iter().map(|(name, value)| (format!("HIGHWATER_{name}"), value));
    Ok(PartialConfig::from_sources(None, settings)?)
}

/// Runs a worker from its start until `count` records are applied.
///
/// # Errors
/// When it ends by itself, or gets no further.
pub(crate) async fn drain(settings: PartialConfig, handler: impl Handler, count: u64) -> Result<Run> {
    drain_and(settings, handler, count, |_| ()).await.map(|(run, ())| run)
}

/// As [`drain`]; `look` sees the worker when everything is applied, before it is stopped.
///
/// # Errors
/// As there.
pub(crate) async fn drain_and<T>(
    settings: PartialConfig,
    handler: impl Handler,
    count: u64,
    look: impl FnOnce(&WorkerHandle) -> T,
) -> Result<(Run, T)> {
    let began = Instant::now();
    let worker = Worker::builder().ignore_environment().settings(settings).build(handler)?.spawn();
    let first = wait(&worker, |counters| counters.fetched_records > 0).await?;
    let last = wait(&worker, |counters| counters.applied_records >= count).await?;
    let commits = Some(worker.status().counters.commits);
    let looked = look(&worker);
    worker.stop().await?;
    Ok((Run { startup: first - began, elapsed: last - first, records: count, commits }, looked))
}

async fn wait(worker: &WorkerHandle, arrived: impl Fn(&highwater::Counters) -> bool) -> Result<Instant> {
    let mut progress = (0, Instant::now());
    loop {
        let counters = worker.status().counters;
        let now = Instant::now();
        if arrived(&counters) {
            return Ok(now);
        }
        if counters.applied_records > progress.0 {
            progress = (counters.applied_records, now);
        } else if now - progress.1 > PATIENCE {
            return Err(format!("the worker has not moved for {PATIENCE:?}: {:?}", worker.status()).into());
        }
        tokio::time::sleep(LOOK).await;
    }
}
