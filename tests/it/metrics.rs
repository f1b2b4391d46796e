//! A worker's figures: equal to what was done, exposed as documented, moved by what goes wrong.

mod grammar;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use highwater::health::Class;
use highwater::testing::{Result, wait_until};
use highwater::{Batch, HandlerError, PartialConfig, Tx, WorkerHandle};
use tokio::sync::Semaphore;

use crate::support::http::{get, get_with};
use crate::support::sink::Fault;
use crate::support::watch::status_until;
use crate::support::{Copied, PATIENCE, Sink, TestResult, World};
use grammar::Page;

/// With an admin server on a port of the system's choice, and a client that tells its statistics soon.
fn settings(world: &World<'_>) -> PartialConfig {
    let anywhere: SocketAddr = ([127, 0, 0, 1], 0).into();
    world
        .settings()
        .admin_address(Some(anywhere))
        .kafka("statistics.interval.ms", "300")
        .health_interval(Duration::from_millis(200))
}

fn address(worker: &WorkerHandle) -> SocketAddr {
    worker.monitor().admin_address().expect("it runs, and so listens")
}

async fn page(worker: &WorkerHandle) -> Result<Page> {
    let answer = get(address(worker), "/metrics").await?;
    assert_eq!(answer.status, 200, "{answer:?}");
    Ok(Page::plain(&answer.body))
}

/// The names in `docs/metrics.md`.
fn documented() -> BTreeSet<String> {
    let rows =
        include_str!("../../docs/metrics.md").lines().filter_map(|line| line.strip_prefix("| `highwater_"));
    rows.map(|row| format!("highwater_{}", row.split('`').next().unwrap_or_default())).collect()
}

/// Known only once there is a pace, or a retention that deletes; or where records may become dead letters.
const ABSENT: [&str; 4] = [
    "highwater_drain_seconds",
    "highwater_loss_seconds",
    "highwater_uncommitted_seconds",
    "highwater_records_rejected_total",
];

#[tokio::test]
async fn metrics_equal_what_was_done_and_are_those_of_the_page() -> TestResult {
    let world = World::new("metrics", 4).await?;
    world.produce(300).await?;
    let worker = world.worker_with(settings(&world), Copied::default());
    world.verify().await?;
    let is_told = async || {
        let metrics = worker.metrics();
        let lags = metrics.partitions.iter().map(|partition| partition.lag_records);
        let mirrored = metrics.partitions.iter().all(|partition| partition.mirror_lag_records == Some(0));
        let sampled = metrics.partitions.iter().all(|partition| partition.class == Some(Class::Ok));
        let caught_up = sampled && lags.len() == 4 && lags.clone().all(|lag| lag == Some(0)) && mirrored;
        Ok((metrics.kafka.is_some() && caught_up && metrics.pending.is_zero()).then_some(()))
    };
    wait_until("the worker knows that it has caught up", PATIENCE, is_told).await?;

    // What the oracle says.
    let records = world.kafka.read(&world.topic).await?;
    let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
    let bytes: usize = records.iter().map(|record| length(&record.key) + length(&record.value)).sum();
    let commits = world.number("SELECT count(DISTINCT xmin::text) FROM sink").await?;
    let metrics = worker.metrics();
    assert_eq!(metrics.applied_records, 1_200);
    assert_eq!(metrics.applied_bytes, u64::try_from(bytes)?);
    assert_eq!(i64::try_from(metrics.commits)?, commits);
    assert_eq!((metrics.claims, metrics.claims_again, metrics.fencings), (4, 0, 0));

    // The page says the same.
    let page = page(&worker).await?;
    let group = format!("group=\"{}\"", world.group);
    let single = |name: &str| page.value(name, &[&group]);
    assert_eq!(single("highwater_records_applied_total"), 1_200.0);
    assert_eq!(single("highwater_applied_bytes_total"), f64::from(u32::try_from(bytes)?));
    let commits = f64::from(u32::try_from(commits)?);
    assert_eq!(single("highwater_commits_total"), commits);
    assert_eq!(single("highwater_batch_records_count"), commits);
    assert_eq!(single("highwater_batch_records_sum"), 1_200.0);
    for phase in ["wait", "begin", "handler", "write", "offsets", "commit"] {
        let phase_label = format!("phase=\"{phase}\"");
        let count = page.value("highwater_commit_duration_seconds_count", &[&group, &phase_label]);
        assert!(count >= commits, "{phase}: {count} of {commits}");
    }
    for partition in 0..4 {
        let (_, end) = world.kafka.watermarks(&world.topic, partition).await?;
        let end = f64::from(i32::try_from(end)?);
        let labels = [&*group, &format!("topic=\"{}\"", world.topic), &format!("partition=\"{partition}\"")];
        assert_eq!(page.value("highwater_next_offset", &labels), end);
        assert_eq!(page.value("highwater_last_stable_offset", &labels), end);
        assert_eq!(page.value("highwater_lag_records", &labels), 0.0);
        assert_eq!(page.value("highwater_lag_seconds", &labels), 0.0);
        assert_eq!(page.value("highwater_uncommitted_records", &labels), 0.0);
        assert_eq!(page.value("highwater_health", &[labels.as_slice(), &["class=\"OK\""]].concat()), 0.0);
    }
    assert_eq!(page.value("highwater_rebalance_pause_seconds_count", &[&group]), 4.0);
    assert_eq!(page.value("highwater_claims_total", &[&group, "kind=\"assigned\""]), 4.0);
    assert!(page.value("highwater_kafka_brokers_up", &[&group]) >= 1.0);

    // Every documented metric is there, and nothing else.
    let (names, documented) = (page.names(), documented());
    assert!(names.is_subset(&documented), "{:?}", names.difference(&documented));
    let absent: BTreeSet<&str> = documented.difference(&names).map(String::as_str).collect();
    assert!(absent.is_subset(&ABSENT.into()), "{absent:?}");
    assert!(page.len() <= 9 * 4 + 250 && page.len() >= 6 * 4 + 240, "{} series", page.len());
    // The other format has the same, and each its type.
    let accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
    let open = get_with(address(&worker), "/metrics", &[("Accept", accept)]).await?;
    let kind = open.header("content-type");
    assert_eq!(kind, Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert_eq!(Page::open(&open.body).names(), names);
    let plain = get_with(address(&worker), "/metrics", &[("Accept", "text/plain")]).await?;
    assert_eq!(plain.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    worker.stop().await?;
    Ok(())
}

/// Fails the first batch, and has every other one wait for leave.
struct Fails {
    batches: AtomicUsize,
    leave: Semaphore,
}

impl Fault for Fails {
    async fn before(&self, _: &Batch, _: &mut Tx) -> std::result::Result<(), HandlerError> {
        if self.batches.fetch_add(1, Ordering::SeqCst) == 0 {
            return Err(HandlerError::retry("not yet"));
        }
        let _ = self.leave.acquire().await;
        Ok(())
    }
}

#[tokio::test]
async fn metrics_move_with_lag_retries_fences_and_rebalances() -> TestResult {
    let world = World::new("moves", 2).await?;
    let fault = Arc::new(Fails { batches: AtomicUsize::new(0), leave: Semaphore::new(0) });
    let worker = world.worker_with(settings(&world), Sink { fault: Arc::clone(&fault), rows_only: false });
    status_until(&worker, "it is ready", |status| status.ready && status.partitions.len() == 2).await?;
    assert_eq!(worker.metrics().pending, Duration::ZERO, "there is nothing to apply");
    let hour_ago = std::time::SystemTime::now() - Duration::from_secs(3_600);
    let hour_ago = hour_ago.duration_since(std::time::UNIX_EPOCH)?.as_millis().try_into()?;
    for _ in 0..10 {
        world.producer.send(world.message(0).key("a").value("1").timestamp_ms(hour_ago))?;
    }
    world.producer.flush().await?;

    // A batch that is tried again, and then stands at its handler.
    let lags = async || {
        let metrics = worker.metrics();
        let behind = metrics.partitions.iter().find(|partition| partition.lag_records == Some(10));
        let old = behind.and_then(|partition| partition.lag_seconds).is_some_and(|age| age >= 3_600.0);
        let waits = metrics.pending > Duration::from_millis(500);
        let again = metrics.retries.contains(&("environment", 1)) && metrics.verdicts.contains(&("wait", 1));
        Ok((old && waits && again && metrics.buffers.held_bytes > 0).then_some(()))
    };
    wait_until("the batch shows in the lag, the retries and the time since the last commit", PATIENCE, lags)
        .await?;
    assert_eq!(worker.status().counters.retries, 1);
    fault.leave.add_permits(Semaphore::MAX_PERMITS / 2);
    world.verify().await?;
    wait_until("nothing is pending", PATIENCE, async || {
        let metrics = worker.metrics();
        Ok((metrics.pending.is_zero() && metrics.since_commit.is_some()).then_some(()))
    })
    .await?;

    // Somebody takes a claim, and is gone.
    let thief = "UPDATE highwater.consumer_offset SET epoch = epoch + 1, claim_token = gen_random_uuid(), \
                   owner = gen_random_uuid() WHERE group_id = $1 AND partition = 1";
    world.database.client().await?.execute(thief, &[&world.group]).await?;
    wait_until("the fence and the new claim are counted", PATIENCE, async || {
        let metrics = worker.metrics();
        Ok((metrics.fencings == 1 && metrics.claims_again >= 1).then_some(()))
    })
    .await?;

    // A second worker comes and goes.
    let before = worker.metrics();
    let second = world.worker(Sink::<()>::default());
    status_until(&second, "it has a partition", |status| status.partitions.len() == 1 && status.ready)
        .await?;
    second.stop().await?;
    status_until(&worker, "it has both again", |status| status.partitions.len() == 2 && status.ready).await?;
    let after = worker.metrics();
    assert!(after.rebalances.revoked > before.rebalances.revoked, "{after:#?}");
    assert!(after.rebalances.assigned > before.rebalances.assigned, "{after:#?}");
    assert_eq!(after.claims, before.claims + 1, "{after:#?}");
    assert_eq!(after.rebalance_pause.count, after.claims);

    let page = page(&worker).await?;
    let group = format!("group=\"{}\"", world.group);
    assert_eq!(page.value("highwater_fencings_total", &[&group]), 1.0);
    assert_eq!(page.value("highwater_batch_retries_total", &[&group, "class=\"environment\""]), 1.0);
    assert_eq!(page.value("highwater_verdicts_total", &[&group, "act=\"wait\""]), 1.0);
    assert_eq!(page.value("highwater_partitions", &[&group, "state=\"running\""]), 2.0);
    worker.stop().await?;
    Ok(())
}
