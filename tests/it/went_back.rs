//! The database goes back under a running worker: a fail-over to a replica that was behind, or a restored backup. Rows
//! and offsets have gone back together.

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
