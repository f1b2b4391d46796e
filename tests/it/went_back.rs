//! The database goes back under a running worker: a fail-over to a replica that was behind, or a restored backup. Rows
//! and offsets have gone back together.

use crate::support::watch::halted;
use crate::support::{Sink, TestResult, World};

/// What a fail-over would leave: the sink and the offsets as they were, under the very claims that the worker holds.
const BACK_UP: &str = "CREATE TABLE old_sink AS TABLE sink; CREATE TABLE old_balances AS TABLE balances;
    CREATE TABLE old_offsets AS TABLE highwater.consumer_offset;";
const RESTORE: &str = "BEGIN; SELECT FROM highwater.consumer_offset ORDER BY topic, partition FOR UPDATE;
    DELETE FROM sink; INSERT INTO sink SELECT * FROM old_sink;
    DELETE FROM balances; INSERT INTO balances SELECT * FROM old_balances;
    UPDATE highwater.consumer_offset o SET next_offset = b.next_offset, applied_records = b.applied_records,
        applied_batches = b.applied_batches FROM old_offsets b WHERE o.partition = b.partition; COMMIT;";

#[tokio::test]
async fn core_a_quiet_partition_notices_and_is_applied_again() -> TestResult {
    let world = World::new("went-back", 2).await?;
    world.produce(40).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    world.database.execute(BACK_UP).await?;
    world.produce(60).await?;
    world.verify().await?;
    let claims = "SELECT sum(epoch)::bigint FROM highwater.consumer_offset";
    let before = world.number(claims).await?;

    // No record comes after it: nothing but the heartbeat's answer can tell.
    world.database.execute(RESTORE).await?;
    world.verify().await?;
    assert_eq!(world.number(claims).await?, before + 2, "each partition was claimed once more, and no more");
    assert_eq!(worker.status().counters.fenced, 0, "nobody else was there");
    worker.stop().await?;
    Ok(())
}

/// What a batch finds that missed before a fail-over and reads its rows after it: nothing moved, and yet every row stands
/// as it was claimed. A trigger stands in for the fail-over, for as many misses as `misses` says.
async fn misses(world: &World<'_>, misses: i64) -> TestResult {
    let sql = format!(
        "CREATE SEQUENCE misses; CREATE FUNCTION miss() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $miss$ \
           BEGIN IF NEW.next_offset <> OLD.next_offset AND nextval('public.misses') <= {misses} THEN RETURN NULL; END IF; \
           RETURN NEW; END $miss$; \
         CREATE TRIGGER miss BEFORE UPDATE ON highwater.consumer_offset FOR EACH ROW EXECUTE FUNCTION miss()"
    );
    world.database.execute(&sql).await?;
    Ok(())
}

#[tokio::test]
async fn a_miss_that_the_rows_do_not_show_is_tried_again() -> TestResult {
    let world = World::new("missed", 1).await?;
    misses(&world, 2).await?;
    world.produce(20).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

/// Not for ever, and it is not the handler that is blamed, whose transaction was the same all the time.
#[tokio::test]
async fn a_miss_that_stays_halts_without_blaming_the_handler() -> TestResult {
    let world = World::new("missed-on", 1).await?;
    misses(&world, i64::MAX).await?;
    world.produce(20).await?;
    let worker = world.worker(Sink::<()>::default());
    let why = halted(&worker, 0).await?;
    assert!(why.contains("its row is as this worker left it") && !why.contains("handler"), "{why}");
    assert_eq!(world.next_offset(0).await?, Some(0));
    world.database.execute("DROP TRIGGER miss ON highwater.consumer_offset").await?;
    worker.stop().await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}
