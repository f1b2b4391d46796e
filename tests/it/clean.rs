//! Runs in which nothing goes wrong.

use highwater::testing::wait_until;

use crate::support::{PATIENCE, Process, Sink, TestResult, World};

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

/// `timeout` signals the process and then its group: that is one wish. A second one, later, does not wait for batches.
#[tokio::test]
async fn two_signals_at_once_stop_softly_and_a_later_one_hard() -> TestResult {
    let world = World::new("signals", 1).await?;
    world.produce(20).await?;
    let process = Process::start_with(&world, "twice", "slow", &[("HIGHWATER_TEST_SLOW_MS", "1000")])?;
    world.slow_batch_in_flight().await?;
    process.child.term()?;
    // Another one, for two of a kind may be delivered as one.
    let pid = rustix::process::Pid::from_raw(i32::try_from(process.child.pid())?).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
    assert_eq!(process.child.wait(PATIENCE).await?, 0);
    assert!(!process.wrote("stopped hard"));
    world.verify().await?;

    world.produce(20).await?;
    let process = Process::start_with(&world, "hard", "slow", &[("HIGHWATER_TEST_SLOW_MS", "60000")])?;
    world.slow_batch_in_flight().await?;
    process.child.term()?;
    process.child.wait_for_line(|text| text.contains("stops at once"), PATIENCE).await?;
    // Whichever of these comes half a second after the first.
    let ended = wait_until("it has ended", PATIENCE, async || {
        process.child.term().ok();
        Ok(process.child.wait(std::time::Duration::from_millis(200)).await.ok())
    });
    assert_eq!(ended.await?, 70);
    assert!(process.wrote("stopped hard by a second signal"));
    let process = Process::start(&world, "successor", "plain")?;
    world.verify().await?;
    process.stop().await?;
    Ok(())
}
