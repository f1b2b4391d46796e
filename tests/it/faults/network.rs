//! The network between a worker and Postgres: cut at the worst moments, half-open, slow (EO-1, EO-7).

use std::time::{Duration, Instant};

use highwater::testing::{Cut, Proxy, Result};
use highwater::{PartialConfig, WorkerHandle};

use super::{assert_unharmed, small_batches};
use crate::support::watch::status_until;
use crate::support::{PATIENCE, Sink, TestResult, World};

/// A worker behind a proxy.
async fn behind(
    world: &World<'_>,
    change: impl Fn(PartialConfig) -> PartialConfig,
) -> Result<(Proxy, WorkerHandle)> {
    let proxy = Proxy::before_postgres(&world.role.url).await?;
    let url = proxy.url(&world.role.url)?;
    let settings = change(small_batches(world.settings()).postgres_url(url.as_str()));
    Ok((proxy, world.worker_with(settings, Sink::<()>::default())))
}

#[tokio::test]
async fn core_cut_before_at_and_after_commit() -> TestResult {
    let world = World::new("cut", 2).await?;
    let (proxy, worker) = behind(&world, |settings| settings).await?;
    world
        .under_load(async {
            for _ in 0..3 {
                for cut in [Cut::Transaction, Cut::Commit, Cut::Answer, Cut::Answered] {
                    proxy.cut(cut, PATIENCE).await?;
                    world.progress(20).await?;
                }
            }
            Ok(())
        })
        .await?;
    world.verify().await?;
    // Before COMMIT was sent and after it was answered there is no doubt.
    assert_eq!(worker.status().counters.unknown_outcomes, 6, "{:?}", worker.status().counters);
    assert_unharmed(&worker);
    worker.stop().await?;
    world.assert_ledger_gapless().await?;
    Ok(())
}

/// Nothing passes, and nobody is told: the worker gives its batch up, the server ends the idle transaction. What was
/// withheld, perhaps a COMMIT that nobody waits for any more, arrives in the end.
#[tokio::test]
async fn half_open_for_longer_than_every_time_out() -> TestResult {
    let world = World::new("half", 2).await?;
    let limit = Duration::from_secs(2);
    let (proxy, worker) = behind(&world, |settings| settings.max_processing_time(limit)).await?;
    world
        .under_load(async {
            for _ in 0..2 {
                world.progress(50).await?;
                let before = proxy.withheld_bytes();
                proxy.stall();
                // Above the server's own limit, which is five seconds above the worker's. Nothing to wait for.
                tokio::time::sleep(limit + Duration::from_secs(6)).await;
                assert!(proxy.withheld_bytes() > before, "something was under way");
                proxy.resume();
            }
            world.progress(50).await
        })
        .await?;
    world.verify().await?;
    assert_unharmed(&worker);
    worker.stop().await?;
    world.assert_ledger_gapless().await?;
    Ok(())
}

#[tokio::test]
async fn half_a_second_to_postgres_and_back() -> TestResult {
    let world = World::new("latency", 2).await?;
    let (proxy, worker) = behind(&world, |settings| settings).await?;
    status_until(&worker, "it is ready", |status| status.ready && status.partitions.len() == 2).await?;
    proxy.set_latency(Duration::from_millis(250));
    let began = Instant::now();
    world.produce(60).await?;
    world.verify().await?;
    assert!(began.elapsed() > Duration::from_secs(2), "no batch takes fewer than four round trips");
    let counters = worker.status().counters;
    assert_eq!((counters.retries, counters.unknown_outcomes), (0, 0), "slow is not broken: {counters:?}");
    assert_unharmed(&worker);
    proxy.set_latency(Duration::ZERO);
    worker.stop().await?;
    Ok(())
}
