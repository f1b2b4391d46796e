//! What a claim refuses to read over: a vanished row, records that are gone, a log that ends too early, another topic
//! (EO-6).

mod damage;
mod lost;
mod topic;
mod truncated;

mod database;

use crate::support::watch::{halted, halted_now, status_until};
use crate::support::{Sink, TestResult, World};

/// EO-6: a row that vanished is never guessed, and the on-call person reads why.
#[tokio::test]
async fn core_a_vanished_row_halts_its_partition() -> TestResult {
    let world = World::new("vanished", 2).await?;
    world.produce(10).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    world.database.execute("DELETE FROM highwater.consumer_offset WHERE partition = 1").await?;
    world.produce(10).await?;

    let worker = world.worker(Sink::<()>::default());
    let why = halted(&worker, 1).await?;
    assert!(why.contains("has vanished from consumer_offset") && why.contains(&world.group), "{why}");
    world.reached(0, 20).await?;
    assert_eq!(world.number("SELECT count(*) FROM sink WHERE source_partition = 1").await?, 10);
    world.reported(1, &why).await?;
    worker.stop().await?;

    // The way out that the text names.
    let restore = format!(
        "INSERT INTO highwater.consumer_offset (group_id, topic, partition, next_offset) VALUES ('{}', '{}', 1, 10)",
        world.group, world.topic
    );
    world.database.execute(&restore).await?;
    let worker = world.worker(Sink::<()>::default());
    // Not `verify`: with the row, the ledger's thread to the claim before is gone.
    world.caught_up().await?;
    world.assert_exact(true).await?;
    worker.stop().await?;
    Ok(())
}

/// The row vanishes under a running worker.
#[tokio::test]
async fn a_row_that_vanishes_under_a_running_worker_halts_its_partition() -> TestResult {
    let world = World::new("vanishing", 2).await?;
    world.produce(10).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    world.database.execute("DELETE FROM highwater.consumer_offset WHERE partition = 1").await?;
    world.produce(10).await?;
    let why = halted(&worker, 1).await?;
    assert!(why.contains("has vanished from consumer_offset"), "{why}");
    world.reached(0, 20).await?;
    assert_eq!(world.number("SELECT count(*) FROM sink WHERE source_partition = 1").await?, 10);
    assert_eq!(halted_now(&worker), [1]);
    worker.stop().await?;
    Ok(())
}

/// EO-6: retention has passed the offset.
#[tokio::test]
async fn core_lost_records_halt_their_partition_and_both_offsets_are_named() -> TestResult {
    let world = World::new("retention", 2).await?;
    world.produce(10).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    world.produce(90).await?;
    world.kafka.delete_records(&world.topic, 0, 73).await?;

    let worker = world.worker(Sink::<()>::default());
    let why = halted(&worker, 0).await?;
    assert!(
        why.contains("from offset 10") && why.contains("now at 73") && why.contains("63 offsets"),
        "{why}"
    );
    world.reached(1, 100).await?;
    assert_eq!(world.next_offset(0).await?, Some(10));
    world.reported(0, &why).await?;
    assert!(worker.status().ready);
    worker.stop().await?;
    world.assert_rows(0, 10).await?;
    Ok(())
}

/// The log ends before the offset: truncated, recreated, or another cluster.
#[tokio::test]
async fn a_log_that_ends_before_the_offset_halts_its_partition() -> TestResult {
    let world = World::new("truncated", 2).await?;
    world.produce(10).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    world
        .database
        .execute("UPDATE highwater.consumer_offset SET next_offset = 25 WHERE partition = 0")
        .await?;
    let worker = world.worker(Sink::<()>::default());
    let why = halted(&worker, 0).await?;
    assert!(why.contains("up to offset 25") && why.contains("ends at 10"), "{why}");
    status_until(&worker, "it is ready", |status| status.ready).await?;
    assert_eq!(halted_now(&worker), [0]);
    worker.stop().await?;
    Ok(())
}

impl World<'_> {
    /// The rows of a partition are those of `[0, next)`, once each.
    async fn assert_rows(&self, partition: i32, next: i64) -> TestResult {
        let sql = "SELECT source_offset FROM sink WHERE source_partition = $1 ORDER BY 1";
        let rows = self.database.query(sql, &[&partition]).await?;
        let offsets: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(offsets, (0..next).collect::<Vec<_>>());
        Ok(())
    }
}
