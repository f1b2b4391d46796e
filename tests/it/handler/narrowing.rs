//! Bad records are found; trouble that passes is waited out.

use std::sync::atomic::AtomicU32;
use std::time::Duration;

use highwater::testing::wait_until;

use super::{Bad, Misdeed, Passing};
use crate::support::watch::{halted, halted_now};
use crate::support::{PATIENCE, Sink, TestResult, World};

#[tokio::test]
async fn core_a_rejected_record_halts_its_partition_exactly_there() -> TestResult {
    let world = World::new("reject", 3).await?;
    world.produce(100).await?;
    let bad = Bad { partition: 1, offset: 57, misdeed: Misdeed::Reject };
    let worker = world.worker(Sink { fault: bad, rows_only: false });
    let why = halted(&worker, 1).await?;
    let record = format!("record {}[1]@57 was rejected", world.topic);
    assert!(why.contains(&record) && why.contains("the amount is negative"), "{why}");
    world.produce(10).await?;
    world.reached(0, 110).await?;
    world.reached(2, 110).await?;
    assert_eq!(world.assert_consistent().await?[&1], 57, "what is before it is applied, and no more");
    assert_eq!(halted_now(&worker), [1]);
    world.reported(1, &why).await?;
    worker.stop().await?;

    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

/// Data that only the database finds bad, in a lane whose other partition never runs dry: what that one succeeds
/// with must not undo the narrowing.
#[tokio::test]
async fn bad_data_that_nobody_names_is_found_beside_a_busy_partition() -> TestResult {
    let world = World::new("bisect", 2).await?;
    world
        .database
        .execute("ALTER TABLE balances ADD CONSTRAINT payments_few CHECK (account <> 'bad')")
        .await?;
    for n in 0..300 {
        let account = if n == 211 { "bad" } else { "good" };
        world.producer.send(world.message(0).key(account).value("3"))?;
    }
    world.producer.flush().await?;
    let settings = world.settings().lanes(1_usize).batch_max_records(64_usize).batch_target_records(1_usize);
    let worker = world.worker_with(settings, Sink::<()>::default());
    let busy = async {
        loop {
            world.producer.send(world.message(1).key("busy").value("1"))?;
            if world.producer.ledger().count(&world.topic) % 50 == 0 {
                world.producer.flush().await?;
            }
            tokio::task::yield_now().await;
        }
        #[expect(unreachable_code, reason = "gives the block its type")]
        TestResult::Ok(())
    };
    let why = tokio::select! {
        why = halted(&worker, 0) => why?,
        ended = busy => return ended,
    };
    world.producer.flush().await?;
    let record = format!("record {}[0]@211 was rejected", world.topic);
    assert!(why.contains(&record) && why.contains("23514") && why.contains("payments_few"), "{why}");
    let (_, end) = world.kafka.watermarks(&world.topic, 1).await?;
    world.reached(1, end).await?;
    assert_eq!(world.assert_consistent().await?[&0], 211);
    worker.stop().await?;

    world.database.execute("ALTER TABLE balances DROP CONSTRAINT payments_few").await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

async fn is_retried(hint: &str, sql: &'static str, times: u32) -> TestResult {
    let world = World::new(hint, 3).await?;
    world.produce(40).await?;
    let fault = Passing { left: AtomicU32::new(times), sql };
    let worker = world.worker(Sink { fault, rows_only: false });
    world.verify().await?;
    world.produce(40).await?;
    world.verify().await?;
    let status = worker.status();
    assert!(status.counters.retries >= times.into(), "{status:?}");
    assert_eq!(halted_now(&worker), [] as [i32; 0]);
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn core_a_serialization_failure_is_retried() -> TestResult {
    is_retried("serial", "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END $$", 4).await
}

#[tokio::test]
async fn a_full_disk_never_halts() -> TestResult {
    // More often than an error of class "retry a few times" is.
    is_retried("full", "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '53100'; END $$", 8).await
}

/// A real deadlock, with a session that takes the same two rows the other way round, and loses time after time.
#[tokio::test]
async fn a_deadlock_is_retried() -> TestResult {
    let world = World::new("deadlock", 1).await?;
    let rows = "INSERT INTO balances VALUES ('a', 0, 0), ('b', 0, 0)";
    world.database.execute(rows).await?;
    let lock_b = "SELECT 1 FROM balances WHERE account = 'b' FOR UPDATE";
    let other = world.database.client().await?;
    other
        .batch_execute(
            "SET deadlock_timeout = '10min'; BEGIN; UPDATE balances SET payments = 0 WHERE account = 'a'",
        )
        .await?;
    // The handler takes b, then wants a; the other has a and then wants b. Only the handler's session looks for a
    // deadlock soon, so it is the one that is rolled back.
    let sql = "SELECT 1 FROM balances WHERE account = 'b' FOR UPDATE; SELECT 1 FROM balances WHERE account = 'a' FOR UPDATE";
    world.producer.send(world.message(0).key("a").value("1"))?;
    world.producer.send(world.message(0).key("b").value("2"))?;
    world.producer.flush().await?;
    let settings = world.settings().lock_timeout(Duration::from_secs(10));
    let fault = Before(sql);
    let worker = world.worker_with(settings, Sink { fault, rows_only: false });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database() \
                 AND application_name LIKE 'highwater/%'";
    wait_until("the handler waits for the row", PATIENCE, async || {
        Ok((world.number(waits).await? > 0).then_some(()))
    })
    .await?;
    other.batch_execute(lock_b).await?;
    other.batch_execute("COMMIT").await?;
    world.verify().await?;
    let status = worker.status();
    assert!(status.counters.retries >= 1, "{status:?}");
    assert_eq!(halted_now(&worker), [] as [i32; 0]);
    worker.stop().await?;
    Ok(())
}

/// Runs statements before anything is written.
struct Before(&'static str);

impl crate::support::Fault for Before {
    async fn before(
        &self,
        _: &highwater::Batch,
        tx: &mut highwater::Tx,
    ) -> Result<(), highwater::HandlerError> {
        tx.batch_execute(self.0).await
    }
}

/// Waiting for one partition's sake must not hold up the others of its lane.
#[tokio::test]
async fn a_retry_for_one_partition_does_not_stall_the_others() -> TestResult {
    let world = World::new("retry", 3).await?;
    world.produce(50).await?;
    let bad = Bad { partition: 0, offset: 10, misdeed: Misdeed::Retry };
    let settings = world.settings().lanes(1_usize).retry_backoff_max(Duration::from_millis(500));
    let worker = world.worker_with(settings.clone(), Sink { fault: bad, rows_only: false });
    world.reached(1, 50).await?;
    world.reached(2, 50).await?;
    world.produce(50).await?;
    world.reached(1, 100).await?;
    world.reached(2, 100).await?;
    let next = world.assert_consistent().await?;
    assert!(next[&0] <= 10, "{next:?}");
    assert_eq!(halted_now(&worker), [] as [i32; 0], "it may succeed any time");
    worker.stop().await?;

    let worker = world.worker_with(settings, Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}
