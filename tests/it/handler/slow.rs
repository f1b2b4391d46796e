//! Handlers that take too long.

use std::time::Duration;

use super::{Bad, Misdeed};
use crate::support::watch::{halted, halted_now};
use crate::support::{Sink, TestResult, World};

/// Cancelled, claimed again, halved, and in the end halted for the single slow record; a partition of the same lane
/// that always has more to do gets on meanwhile.
async fn is_cancelled(hint: &str, misdeed: Misdeed) -> TestResult {
    let world = World::new(hint, 3).await?;
    world.produce(6).await?;
    let settings = world
        .settings()
        .lanes(1_usize)
        .batch_max_records(100_usize)
        .max_processing_time(Duration::from_millis(700))
        .single_record_timeouts(2_usize);
    let bad = Bad { partition: 0, offset: 3, misdeed };
    let worker = world.worker_with(settings.clone(), Sink { fault: bad, rows_only: false });
    let why = halted(&worker, 0).await?;
    let range =
        format!("{}[0] [3, 4): this single record takes longer than max_processing_time", world.topic);
    assert!(why.contains(&range), "{why}");
    world.produce(20).await?;
    world.reached(1, 26).await?;
    world.reached(2, 26).await?;
    assert_eq!(world.assert_consistent().await?[&0], 3, "what is before the slow record is applied");
    assert_eq!(halted_now(&worker), [0]);
    // Nothing was left behind: no backend still works on a batch that was given up.
    let left = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND state = 'active' \
                AND datname = current_database() AND application_name LIKE 'highwater/%'";
    assert_eq!(world.number(left).await?, 0);
    worker.stop().await?;

    let worker = world.worker_with(settings, Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_slow_statement_is_cancelled_and_narrowed_to_its_record() -> TestResult {
    is_cancelled("slow", Misdeed::Sql("SELECT pg_sleep(60)")).await
}

#[tokio::test]
async fn a_future_that_never_ends_is_cancelled_and_narrowed_to_its_record() -> TestResult {
    is_cancelled("hang", Misdeed::Hang).await
}
