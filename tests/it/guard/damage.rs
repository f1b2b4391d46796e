//! What only a broker of the test's own can suffer: a corrupt batch, and another cluster in its place.

use highwater::PartitionState;
use highwater::testing::{Kafka, Postgres};

use super::topic::id_after;
use crate::operator::{accept_topic, reset};
use crate::support::watch::{halted, halted_now, status_until};
use crate::support::{Setup, Sink, TestResult, World};

/// The client reports a corrupt batch once and reads on after it: nothing after it may be applied.
#[tokio::test]
async fn a_corrupt_batch_halts_its_partition_before_it() -> TestResult {
    a_corrupt_batch(&[]).await
}

/// The checksum is over what is compressed: the damage must not come out as other records.
#[tokio::test]
async fn a_corrupt_compressed_batch_halts_its_partition_before_it() -> TestResult {
    a_corrupt_batch(&[("compression.type", "zstd")]).await
}

async fn a_corrupt_batch(topic_config: &[(&str, &str)]) -> TestResult {
    let (kafka, postgres) = tokio::try_join!(Kafka::start(), Postgres::shared())?;
    let setup = Setup { kafka: &kafka, postgres, partitions: 2, topic_config };
    let world = World::with("corrupt", setup).await?;
    for _ in 0..3 {
        // A batch of its own each time.
        world.produce(10).await?;
    }
    kafka.corrupt(&world.topic, 0, 10).await?;
    let worker = world.worker(Sink::<()>::default());
    let why = halted(&worker, 0).await?;
    assert!(
        why.contains(&format!("cannot read {}[0] at offset 10", world.topic))
            && why.contains("failed CRC32C check")
            && why.contains("nothing after it was applied"),
        "{why}"
    );
    world.reached(1, 30).await?;
    assert_eq!(halted_now(&worker), [0]);
    assert_eq!(world.next_offset(0).await?, Some(10));
    world.reported(0, &why).await?;
    worker.stop().await?;
    world.assert_rows(0, 10).await?;

    // The way out that the text names: past the batch, and the move is on record.
    world.database.execute(&reset(&world, 0, 20, "")).await?;
    let worker = world.worker(Sink::<()>::default());
    world.reached(0, 30).await?;
    worker.stop().await?;
    let sql = "SELECT source_offset FROM sink WHERE source_partition = 0 ORDER BY 1";
    let offsets: Vec<i64> = world.database.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect();
    assert_eq!(offsets, (0..10).chain(20..30).collect::<Vec<_>>());
    Ok(())
}

/// The same address, the same topic name, another cluster: under a running worker, and at the next claim.
#[tokio::test]
async fn another_cluster_at_the_same_address_halts() -> TestResult {
    let (kafka, postgres) = tokio::try_join!(Kafka::start(), Postgres::shared())?;
    let setup = Setup { kafka: &kafka, postgres, partitions: 1, topic_config: &[] };
    let mut world = World::with("moved", setup).await?;
    world.produce(10).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    let (cluster_id, _) = world.recorded().await?;
    let cluster_id = cluster_id.expect("recorded");

    kafka.replace_cluster().await?;
    kafka.create_topic(&world.topic, 1).await?;
    world.producer = kafka.producer()?;
    world.produce(30).await?;
    // The vigil halts it, or the other cluster, which does not know the member, has taken the partition away before.
    status_until(&worker, "it reads no more", |status| {
        status.partitions.iter().all(|status| status.state == PartitionState::Halted)
    })
    .await?;
    worker.stop().await?;
    let worker = world.worker(Sink::<()>::default());
    let why = halted(&worker, 0).await?;
    assert!(
        why.contains(&world.group)
            && why.contains(&format!("at offset 10 of {}[0] in cluster {cluster_id}", world.topic))
            && why.contains("these brokers are cluster")
            && why.contains("offsets 0 to 30"),
        "{why}"
    );
    worker.stop().await?;
    world.assert_rows(0, 10).await?;

    let other = id_after(&why, "these brokers are cluster ", ' ');
    let topic_id = id_after(&why, &format!("{other} (topic id "), ')');
    let undo = "DELETE FROM sink; DELETE FROM balances;";
    world.database.execute(&accept_topic(&world, other, topic_id, 0, undo)).await?;
    let worker = world.worker(Sink::<()>::default());
    world.caught_up().await?;
    world.assert_exact(true).await?;
    worker.stop().await?;
    Ok(())
}
