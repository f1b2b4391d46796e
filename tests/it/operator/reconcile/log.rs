//! What lies between a group and Kafka's log: retention that has passed it, a log that ends before it, nobody who leads.

use highwater::testing::{Cluster, Postgres, wait_until};

use super::{DEEP, STRICT, TABLE};
use crate::support::{PATIENCE, Setup, TestResult, World};

#[tokio::test]
async fn what_retention_has_passed_and_a_claim_that_went_back_are_found() -> TestResult {
    let world = World::new("gone", 2).await?;
    world.produce(40).await?;
    world.apply_all().await?;
    world.produce(20).await?;
    world.apply_all().await?;
    world.produce(20).await?;
    world.is_well().await?;
    // Records that nobody has applied: they are named as a range, and no row is missing of them.
    world.kafka.delete_records(&world.topic, 1, 70).await?;
    for arguments in [TABLE, STRICT] {
        assert_eq!(world.found(arguments).await?, ["gone 1@60"]);
    }
    let said = world.reconcile(TABLE).await?.ended(1);
    assert!(
        said.stdout.contains("the group stands at 60, and Kafka holds nothing before 70"),
        "{}",
        said.stdout
    );
    let forward = ["--topic", &format!("{}:1", world.topic), "--to-earliest", "--execute"];
    world.offsets("reset", &forward).await?.ended(0);
    world.is_well().await?;

    // A claim that ended before it began, and what that leaves open.
    let shift = |change: i64| {
        format!(
            "UPDATE highwater.claim_history SET claimed_offset = claimed_offset + {change} WHERE partition = 0 AND epoch = \
             (SELECT min(epoch) FROM highwater.claim_history WHERE partition = 0)"
        )
    };
    world.database.execute(&shift(45)).await?;
    let mut found = world.found(STRICT).await?;
    found.sort_unstable();
    assert_eq!(found, ["claim_backwards 0@45", "hole 0@0"]);
    world.database.execute(&shift(-45)).await?;
    world.is_well().await?;
    Ok(())
}

/// Nobody leads a partition: that is said, and the rest is compared. Then one leads that lacks the end of the log.
#[tokio::test]
async fn a_partition_that_nobody_leads_is_said_and_a_truncated_log_is_found() -> TestResult {
    let (cluster, postgres) = tokio::try_join!(Cluster::start(3), Postgres::shared())?;
    let topic_config = [("unclean.leader.election.enable", "true"), ("min.insync.replicas", "1")];
    let setup = Setup { kafka: cluster.kafka(), postgres, partitions: 1, topic_config: &topic_config };
    let world = World::with("reconcile-unclean", setup).await?;
    cluster.led_by(&world.topic, 0, 2).await?;
    world.produce(10).await?;
    // From here on node 2 is alone with what it acknowledges.
    cluster.kill(3).await?;
    world.produce(10).await?;
    world.apply_all().await?;
    assert_eq!(world.found(DEEP).await?, [""; 0]);

    cluster.kill(2).await?;
    wait_until("it has no leader", PATIENCE, async || {
        Ok(cluster.leaderless(&world.topic, 0).await?.then_some(()))
    })
    .await?;
    // Rows and ledger are compared all the same; what cannot be read cannot be proved.
    let (shallow, deep) = tokio::join!(world.reconcile(TABLE), world.reconcile(DEEP));
    let (shallow, deep) = (shallow?.ended(0), deep?.ended(70));
    assert!(
        shallow.stdout.contains("note: Kafka was left out") && shallow.stdout.contains("it has no leader"),
        "{}",
        shallow.stdout
    );
    assert!(deep.stderr.contains("it has no leader"), "{}", deep.stderr);
    world.database.execute("INSERT INTO sink SELECT * FROM sink WHERE source_offset = 3").await?;
    let said = world.reconcile(TABLE).await?.ended(1);
    assert!(
        said.stdout.contains("doubled_row ") && said.stdout.contains("]@3 in sink: 2 rows"),
        "{}",
        said.stdout
    );
    world
        .database
        .execute("DELETE FROM sink WHERE ctid = (SELECT min(ctid) FROM sink WHERE source_offset = 3)")
        .await?;

    cluster.revive(3).await?;
    cluster.led_by(&world.topic, 0, 3).await?;
    for arguments in [TABLE, STRICT] {
        assert_eq!(world.found(arguments).await?, ["behind_log 0@10"]);
    }
    let said = world.reconcile(TABLE).await?.ended(1);
    assert!(said.stdout.contains("the group stands at 20, and the log ends at 10"), "{}", said.stdout);
    Ok(())
}
