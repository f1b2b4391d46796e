//! Several brokers, of which one is lost (EO-4, EO-6).

use highwater::testing::{Cluster, Postgres};

use super::{assert_unharmed, small_batches};
use crate::support::{Setup, Sink, TestResult, World};

/// The leader of all partitions dies, and again the one that took its place; one of them may have been the group's
/// coordinator. Nothing that was acknowledged is lost with them, so nothing halts.
#[tokio::test]
#[ignore = "slow: cargo test --test it slow_ -- --ignored"]
async fn slow_three_brokers_lose_their_leader_twice() -> TestResult {
    let (cluster, postgres) = tokio::try_join!(Cluster::start(3), Postgres::shared())?;
    let setup = Setup { kafka: cluster.kafka(), postgres, partitions: 3, topic_config: &[] };
    let world = World::with("leader", setup).await?;
    let workers = [0, 1].map(|_| world.worker_with(small_batches(world.settings()), Sink::<()>::default()));
    world
        .under_load(async {
            world.held_by(2).await?;
            for (leader, successor) in [(2, 3), (3, 2)] {
                for partition in 0..world.partitions {
                    cluster.led_by(&world.topic, partition, leader).await?;
                    cluster.in_sync(&world.topic, partition, successor).await?;
                }
                world.progress(100).await?;
                cluster.kill(usize::try_from(leader).expect("a number of a node")).await?;
                for partition in 0..world.partitions {
                    cluster.led_by(&world.topic, partition, successor).await?;
                }
                world.progress(100).await?;
                cluster.revive(usize::try_from(leader).expect("a number of a node")).await?;
            }
            world.held_by(2).await.map(drop)
        })
        .await?;
    world.verify().await?;
    for worker in workers {
        assert_unharmed(&worker);
        worker.stop().await?;
    }
    world.assert_ledger_gapless().await?;
    Ok(())
}
