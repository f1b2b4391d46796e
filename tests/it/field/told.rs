//! What is said of a partition while another one, or a lock, holds it up; and that it is over when it is over.

use std::time::Duration;

use highwater::{Batch, HandlerError, PartialConfig, Tx, WorkerStatus};

use crate::support::watch::{halted_now, status_until};
use crate::support::{Fault, Sink, TestResult, World};

/// Calls a function of the database that takes as many seconds as the record's value says, if that is a number above 1,000
/// milliseconds.
struct Slow;

impl Fault for Slow {
    async fn before(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        for record in batch.records() {
            let ms: Option<f64> =
                record.value().and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
            if let Some(ms) = ms.filter(|ms| *ms > 1_000.0) {
                tx.execute("SELECT pg_sleep($1)", &[&(ms / 1_000.0)]).await?;
            }
        }
        Ok(())
    }
}

async fn append(world: &World<'_>, partition: i32, value: &str) -> TestResult {
    world.producer.send(world.message(partition).key(format!("p{partition}-a1")).value(value))?;
    world.producer.flush().await?;
    Ok(())
}

fn one_lane(world: &World<'_>) -> PartialConfig {
    world.settings().lanes(1_usize)
}

/// Every lane has partitions of one table, and somebody locks that: also the last partition of a lane, which nobody takes
/// aside, is well again afterwards.
#[tokio::test]
async fn w2_2_nothing_is_said_of_a_lock_that_is_gone() -> TestResult {
    let world = World::new("lock-gone", 4).await?;
    let settings = world.settings().lanes(2_usize).lock_timeout(Duration::from_millis(500));
    let worker = world.worker_with(settings, Sink::<()>::default());
    world.produce(20).await?;
    world.caught_up().await?;
    let mut locker = world.database.client().await?;
    let lock = locker.transaction().await?;
    lock.batch_execute("LOCK TABLE sink IN SHARE MODE").await?;
    world.produce(20).await?;
    let all_wait = |status: &WorkerStatus| {
        status.partitions.iter().all(|at| at.detail.as_deref().unwrap_or_default().contains("55P03"))
    };
    status_until(&worker, "the lock is said of every partition", all_wait).await?;
    lock.rollback().await?;
    world.verify().await?;
    let well = |status: &WorkerStatus| status.ready && status.partitions.iter().all(|at| at.detail.is_none());
    status_until(&worker, "nothing is said any more", well).await?;
    worker.stop().await?;
    Ok(())
}

/// Within its limit a record may be slow; who waits behind it in its lane is not to blame, nor is the worker unready.
#[tokio::test]
async fn w2_3_who_waits_behind_a_slow_record_in_its_lane_does_not_stand_still() -> TestResult {
    let world = World::new("behind", 2).await?;
    let settings = one_lane(&world).max_processing_time(Duration::from_secs(25));
    let worker = world.worker_with(settings, Sink { fault: Slow, rows_only: false });
    append(&world, 0, "1").await?;
    append(&world, 1, "1").await?;
    world.caught_up().await?;
    let mut seen = worker.subscribe();
    append(&world, 0, "13000").await?;
    append(&world, 1, "1").await?;
    let watching = async {
        loop {
            let status = seen.borrow_and_update().clone();
            let texts = status.partitions.iter().filter_map(|at| at.detail.as_ref()).chain(&status.detail);
            assert!(!texts.into_iter().any(|text| text.contains("none is applied")), "{status:?}");
            if seen.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        done = world.caught_up() => done?,
        () = watching => {}
    }
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

/// Also while its claim is renewed after each time-out, it is said why a batch is tried again, and for the how manieth time.
#[tokio::test]
async fn w2_4_a_call_that_hangs_is_said_before_it_halts() -> TestResult {
    let world = World::new("hangs", 1).await?;
    let settings = one_lane(&world).max_processing_time(Duration::from_millis(1_500));
    let worker = world.worker_with(settings, Sink { fault: Slow, rows_only: false });
    append(&world, 0, "1").await?;
    world.caught_up().await?;
    append(&world, 0, "60000").await?;
    let twice = |status: &WorkerStatus| {
        let detail = status.partitions.first().and_then(|at| at.detail.as_deref()).unwrap_or_default();
        detail.contains("took longer than max_processing_time") && detail.contains("(2 times)")
    };
    status_until(&worker, "the second time-out is said", twice).await?;
    status_until(&worker, "it halts", |status| {
        status
            .partitions
            .iter()
            .any(|at| at.detail.as_deref().is_some_and(|why| why.contains("this single record")))
    })
    .await?;
    assert_eq!(halted_now(&worker), [0]);
    world.assert_consistent().await?;
    worker.stop().await?;
    Ok(())
}
