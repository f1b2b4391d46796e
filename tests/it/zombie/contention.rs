//! Workers that are alive, and must not be taken for zombies.

use highwater::testing::Message;

use super::{ENDED_A_BACKEND, SMALL_BATCHES};
use crate::support::{Process, Sink, TestResult, World};

/// Both write the same row, in transactions longer than the patience of whoever waits for it: the waiter looks who
/// blocks it, finds a live process, and leaves it alone.
#[tokio::test]
async fn core_two_workers_on_one_hot_row() -> TestResult {
    let world = World::new("hot", 2).await?;
    let settings = [&SMALL_BATCHES[..], &[("HIGHWATER_TEST_SLOW_MS", "300")]].concat();
    let workers = [
        Process::start_with(&world, "left", "slow", &settings)?,
        Process::start_with(&world, "right", "slow", &settings)?,
    ];
    world.held_by(2).await?;
    for number in 0..150 {
        for partition in 0..2 {
            let message = Message::to(&world.topic).partition(partition).key("hot").value(number.to_string());
            world.producer.send(message)?;
        }
    }
    world.producer.flush().await?;
    world.verify().await?;
    for worker in &workers {
        assert_eq!(world.status_of(&worker.owner().await?, "records_total").await?, 150, "each did its part");
        worker.stop().await?;
        assert!(!worker.wrote(ENDED_A_BACKEND));
        assert!(!worker.wrote("the outcome of a commit is unknown"));
    }
    Ok(())
}

/// An administrator ends all its backends, again and again.
#[tokio::test]
async fn core_backends_ended_by_an_administrator() -> TestResult {
    let world = World::new("admin", 3).await?;
    let worker = world.worker(Sink::<()>::default());
    let end_all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE datname = current_database() AND application_name LIKE 'highwater/%'";
    world
        .under_load(async {
            for _ in 0..10 {
                world.progress(50).await?;
                world.database.execute(end_all).await?;
            }
            world.progress(50).await
        })
        .await?;
    world.verify().await?;
    let counters = worker.status().counters;
    assert_eq!(counters.fenced, 0, "it was alone: {counters:?}");
    worker.stop().await?;
    world.assert_ledger_gapless().await?;
    Ok(())
}
