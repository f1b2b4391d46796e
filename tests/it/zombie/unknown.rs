//! Commits whose answer never comes (EO-7).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use highwater::testing::{Cut, Proxy, Result, wait_until};
use highwater::{HandlerError, Record, WorkerHandle};

use crate::support::watch::status_until;
use crate::support::{Fault, PATIENCE, Sink, TestResult, World};

/// Counts the records that the handler is given.
#[derive(Default)]
struct Count(AtomicU64);

impl Fault for Count {
    fn record(&self, _: &Record<'_>) -> std::result::Result<(), HandlerError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// Cuts `times` commits; what follows must be a new claim for each, and nothing else.
async fn cut_off(cut: Cut, times: u64) -> TestResult {
    let world = World::new("unknown", 1).await?;
    let proxy = Proxy::before_postgres(&world.role.url).await?;
    let handled = Arc::new(Count::default());
    let sink = Sink { fault: Arc::clone(&handled), rows_only: false };
    let worker = world.worker_with(world.settings().postgres_url(proxy.url(&world.role.url)?.as_str()), sink);
    world.produce(20).await?;
    world.verify().await?;
    for time in 1..=times {
        tokio::try_join!(world.produce(20), proxy.cut(cut, PATIENCE))?;
        claimed_again(&world, &worker, time).await?;
        world.verify().await?;
    }
    let counters = worker.status().counters;
    assert_eq!(counters.fenced, 0, "nobody else was there: {counters:?}");
    if cut == Cut::Commit {
        // What was lost was not taken for applied until a heartbeat found the row behind it.
        let all = 20 * (times + 1);
        let counted = "all that is applied is counted";
        let status = status_until(&worker, counted, |status| status.counters.applied_records >= all).await?;
        assert_eq!(status.counters.applied_records, all, "records that the lane knows to be applied");
    }
    if cut == Cut::Answer {
        // The claim said that they were applied: nobody tried them again first.
        assert_eq!(handled.0.load(Ordering::SeqCst), 20 * (times + 1), "records given to the handler");
    }
    worker.stop().await?;
    world.assert_ledger_gapless().await?;
    Ok(())
}

/// One unknown outcome is one new claim, before anything else is applied.
async fn claimed_again(world: &World<'_>, worker: &WorkerHandle, times: u64) -> Result<()> {
    wait_until("the partition is claimed again", PATIENCE, async || {
        let unknown = worker.status().counters.unknown_outcomes;
        let epoch = world.owners().await?[&0].1;
        Ok((unknown == times && epoch == i64::try_from(times).expect("small") + 1).then_some(()))
    })
    .await
}

#[tokio::test]
async fn core_the_answer_to_commit_is_lost() -> TestResult {
    cut_off(Cut::Answer, 3).await
}

/// The old backend is still in the transaction, with the offset row locked, and would wait for ever.
#[tokio::test]
async fn core_the_commit_itself_is_lost() -> TestResult {
    cut_off(Cut::Commit, 2).await
}
