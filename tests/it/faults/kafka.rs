//! The network between workers and Kafka (EO-3, EO-4).

use std::time::Duration;

use highwater::PartialConfig;
use highwater::testing::{Kafka, Postgres};

use super::small_batches;
use crate::support::watch::halted_now;
use crate::support::{Setup, Sink, TestResult, World};

/// The sum of all epochs: how often anything was claimed.
const CLAIMS: &str = "SELECT sum(epoch)::int8 FROM highwater.consumer_offset";

/// Nothing passes between the workers and Kafka, and nobody is told: for longer than the session, and than any request
/// may take. The database stays within reach.
#[tokio::test]
#[ignore = "slow: cargo test --test it slow_ -- --ignored"]
async fn slow_half_open_for_longer_than_every_time_out() -> TestResult {
    let ((kafka, ways), postgres) = tokio::try_join!(Kafka::start_behind(1), Postgres::shared())?;
    let setup = Setup { kafka: &kafka, postgres, partitions: 4, topic_config: &[] };
    let world = World::with("kafka-half", setup).await?;
    let settings = || -> PartialConfig {
        let behind = small_batches(world.settings()).brokers(vec![ways[0].address().to_string()]);
        // The session's is 6 s; a request's is a minute unless set.
        behind.kafka("socket.timeout.ms", "10000")
    };
    let workers = [0, 1].map(|_| world.worker_with(settings(), Sink::<()>::default()));
    world
        .under_load(async {
            for _ in 0..2 {
                world.held_by(2).await?;
                world.progress(50).await?;
                let before = ways[0].withheld_bytes();
                ways[0].stall();
                // Nothing to wait for.
                tokio::time::sleep(Duration::from_secs(13)).await;
                assert!(ways[0].withheld_bytes() > before, "something was under way");
                ways[0].resume();
            }
            world.held_by(2).await?;
            world.progress(50).await
        })
        .await?;
    world.verify().await?;
    for worker in workers {
        assert_eq!(halted_now(&worker), [] as [i32; 0], "{:#?}", worker.status());
        worker.stop().await?;
    }
    world.assert_ledger_gapless().await?;
    Ok(())
}

/// Cut, slow and half-open for both; then for one of them, which cannot reach its coordinator but its database: the
/// other takes over, and they do not fence each other for ever.
#[tokio::test]
#[ignore = "slow: cargo test --test it slow_ -- --ignored"]
async fn slow_cut_slow_half_open_and_unreachable_for_one() -> TestResult {
    let ((kafka, ways), postgres) = tokio::try_join!(Kafka::start_behind(2), Postgres::shared())?;
    let setup = Setup { kafka: &kafka, postgres, partitions: 4, topic_config: &[] };
    let world = World::with("kafka", setup).await?;
    let settings = |way: usize| -> PartialConfig {
        small_batches(world.settings()).brokers(vec![ways[way].address().to_string()])
    };
    let near = world.worker_with(settings(0), Sink::<()>::default());
    let far = world.worker_with(settings(1), Sink::<()>::default());
    world
        .under_load(async {
            world.held_by(2).await?;
            for _ in 0..5 {
                world.progress(50).await?;
                let closed: usize = ways.iter().map(highwater::testing::Proxy::close).sum();
                assert!(closed > 0, "both were connected");
            }
            ways.iter().for_each(|way| way.set_latency(Duration::from_millis(250)));
            world.progress(100).await?;
            ways.iter().for_each(|way| way.set_latency(Duration::ZERO));
            world.held_by(2).await?;

            let before = world.number(CLAIMS).await?;
            ways[1].stall();
            let far_owner = far.status().owner.expect("it has begun").to_string();
            world.held_by(1).await?;
            assert!(world.owners().await?.values().all(|(owner, _)| owner.as_deref() != Some(&*far_owner)));
            world.progress(100).await?;
            // Well past the session time-out: both have had their chance to disagree.
            tokio::time::sleep(Duration::from_secs(8)).await;
            let claims = world.number(CLAIMS).await? - before;
            assert!((2..=8).contains(&claims), "{claims} claims: two partitions moved, once or twice");
            assert!(ways[1].withheld_bytes() > 0);
            ways[1].resume();
            world.held_by(2).await.map(drop)
        })
        .await?;
    world.verify().await?;
    assert_eq!((halted_now(&near), halted_now(&far)), (Vec::new(), Vec::new()));
    near.stop().await?;
    far.stop().await?;
    world.assert_ledger_gapless().await?;
    Ok(())
}
