//! Handlers that take too long.

use std::time::Duration;

use highwater::testing::wait_until;

use super::{Bad, Misdeed};
use crate::support::watch::{halted, halted_now};
use crate::support::{PATIENCE, Sink, TestResult, World};

/// What keeps a handler's statements from changing these does not look into functions.
const LIMITS: &str = "
    CREATE FUNCTION quick_transaction() RETURNS text LANGUAGE sql
        AS $$ SELECT set_config('transaction_timeout', '0', true); -- or the timer that runs would stay
              SELECT set_config('transaction_timeout', '300ms', true) $$;
    CREATE FUNCTION quick_idling() RETURNS text LANGUAGE sql
        AS $$ SELECT set_config('idle_in_transaction_session_timeout', '300ms', true) $$;";

/// Cancelled, claimed again, halved, and in the end halted for the single slow record; a partition of the same lane
/// that always has more to do gets on meanwhile.
async fn is_cancelled(hint: &str, misdeed: Misdeed) -> TestResult {
    let world = World::new(hint, 3).await?;
    world.database.execute(LIMITS).await?;
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
        format!("record {}[0]@3: this single record takes longer than max_processing_time", world.topic);
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

/// The server's own limits say the same as the worker's, and are heeded as such.
#[tokio::test]
async fn a_statement_that_the_server_ended_is_narrowed_to_its_record() -> TestResult {
    is_cancelled("statement", Misdeed::Batch("SET LOCAL statement_timeout = '300ms'; SELECT pg_sleep(60)"))
        .await
}

#[tokio::test]
async fn a_transaction_that_the_server_ended_is_narrowed_to_its_record() -> TestResult {
    let world = World::new("version", 1).await?;
    if world.number("SELECT current_setting('server_version_num')::int8").await? >= 170_000 {
        is_cancelled("transaction", Misdeed::Batch("SELECT quick_transaction(); SELECT pg_sleep(60)"))
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_transaction_that_idles_too_long_for_the_server_is_narrowed_to_its_record() -> TestResult {
    is_cancelled("idling", Misdeed::Idle("SELECT quick_idling()")).await
}

/// The server says so between two statements, where nobody listens: the next one finds the connection closed, as if the
/// network had lost it.
#[tokio::test]
async fn a_handler_that_pauses_too_long_between_statements_is_narrowed_to_its_record() -> TestResult {
    is_cancelled("pause", Misdeed::Pause("SELECT quick_idling()")).await?;
    let world = World::new("version", 1).await?;
    if world.number("SELECT current_setting('server_version_num')::int8").await? >= 170_000 {
        is_cancelled("pause-long", Misdeed::Pause("SELECT quick_transaction()")).await?;
    }
    Ok(())
}

/// A lock of somebody else's is no record's fault: the batch waits by itself, for as long as it takes.
#[tokio::test]
async fn a_lock_wait_halts_nobody_and_holds_up_its_partition_only() -> TestResult {
    let world = World::new("lock-wait", 3).await?;
    world.produce(10).await?;
    let settings = world
        .settings()
        .lanes(1_usize)
        .max_processing_time(Duration::from_millis(900))
        .lock_timeout(Duration::from_millis(300))
        .retry_backoff_max(Duration::from_millis(300))
        .single_record_timeouts(1_usize);
    let worker = world.worker_with(settings, Sink::<()>::default());
    world.verify().await?;
    let mut other = world.database.client().await?;
    let lock = other.transaction().await?;
    lock.execute("SELECT FROM balances WHERE account LIKE 'p0-%' FOR UPDATE", &[]).await?;
    world.produce(10).await?;
    world.reached(1, 20).await?;
    world.reached(2, 20).await?;
    let before = worker.status().counters.retries;
    wait_until("it was tried some times", PATIENCE, async || {
        Ok((worker.status().counters.retries > before + 4).then_some(()))
    })
    .await?;
    assert_eq!(world.next_offset(0).await?, Some(10));
    assert_eq!(halted_now(&worker), [] as [i32; 0], "{:#?}", worker.status());
    lock.rollback().await?;
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}
