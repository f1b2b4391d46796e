//! A log that lost its end in an unclean leader election.

use highwater::testing::{Cluster, Postgres};

use crate::operator::reset;
use crate::support::watch::halted;
use crate::support::{Setup, Sink, TestResult, World};

/// Both while the worker runs, and when a new claim finds that the log has grown past its offset again.
#[tokio::test]
async fn a_truncated_log_halts_also_when_it_has_grown_past_the_offset_again() -> TestResult {
    let (cluster, postgres) = tokio::try_join!(Cluster::start(3), Postgres::shared())?;
    let topic_config = [("unclean.leader.election.enable", "true"), ("min.insync.replicas", "1")];
    let setup = Setup { kafka: cluster.kafka(), postgres, partitions: 1, topic_config: &topic_config };
    let mut world = World::with("unclean", setup).await?;
    cluster.led_by(&world.topic, 0, 2).await?;
    world.produce(10).await?;
    // From here on node 2 is alone with what it acknowledges.
    cluster.kill(3).await?;
    world.produce(10).await?;
    let worker = world.worker(Sink::<()>::default());
    world.reached(0, 20).await?;
    let before = world.rows().await?;

    cluster.kill(2).await?;
    cluster.revive(3).await?;
    cluster.led_by(&world.topic, 0, 3).await?;
    world.producer = world.kafka.producer()?;
    world.produce(30).await?;
    assert_eq!(world.kafka.watermarks(&world.topic, 0).await?, (0, 40), "10 records are gone, 30 are new");
    let why = halted(&worker, 0).await?;
    assert!(why.contains("up to offset 20") && why.contains("truncated"), "{why}");
    worker.stop().await?;

    let worker = world.worker(Sink::<()>::default());
    let why = halted(&worker, 0).await?;
    assert!(
        why.contains(&world.group)
            && why.contains(&format!("{}[0] up to offset 20", world.topic))
            && why.contains("has grown again")
            && why.contains("offsets 0 to 40")
            && why.contains("broker end offset is 10"),
        "{why}"
    );
    world.reported(0, &why).await?;
    worker.stop().await?;
    assert_eq!(world.rows().await?, before, "nothing of the new log was applied");

    // The way out: what was applied is undone, and everything read again.
    world.database.execute(&reset(&world, 0, 0, "DELETE FROM sink; DELETE FROM balances;")).await?;
    let worker = world.worker(Sink::<()>::default());
    world.caught_up().await?;
    assert_eq!(world.assert_consistent().await?[&0], 40);
    worker.stop().await?;
    Ok(())
}
