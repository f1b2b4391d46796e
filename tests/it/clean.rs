//! Runs in which nothing goes wrong.

use crate::support::{Process, Sink, TestResult, World};

#[tokio::test]
async fn core_every_record_is_applied_exactly_once() -> TestResult {
    let world = World::new("clean", 6).await?;
    world.produce(500).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    world.produce(100).await?;
    world.verify().await?;
    let status = worker.status();
    assert_eq!(status.counters.applied_records, 6 * 600);
    assert!(status.ready, "{status:?}");
    worker.stop().await?;
    // Released, and mirrored synchronously (EO-8).
    assert_eq!(
        world.number("SELECT count(*) FROM highwater.consumer_offset WHERE owner IS NOT NULL").await?,
        0
    );
    for partition in 0..6 {
        let mirrored = world.kafka.committed(&world.group, &world.topic, partition).await?;
        assert_eq!(mirrored.map(|(offset, _)| offset), Some(600));
    }
    Ok(())
}

#[tokio::test]
async fn core_a_worker_process_stops_softly() -> TestResult {
    let world = World::new("process", 3).await?;
    let process = Process::start(&world, "worker", "plain")?;
    process.claimed().await?;
    world.produce(200).await?;
    world.verify().await?;
    process.stop().await?;
    world.assert_exact(true).await?;
    Ok(())
}
