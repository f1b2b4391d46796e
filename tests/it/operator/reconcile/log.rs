//! What lies between a group and Kafka's log: retention that has passed it, a log that ends before it, nobody who leads.

use highwater::testing::{Cluster, Postgres, unique, wait_until};
use serde_json::Value;

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

/// Nobody leads a partition: that is said, and the others are compared, record by record. Then one leads that lacks the end
/// of the log.
#[tokio::test]
#[ignore = "slow: cargo test --test it slow_ -- --ignored"]
async fn slow_a_partition_that_nobody_leads_is_said_and_a_truncated_log_is_found() -> TestResult {
    let (cluster, postgres) = tokio::try_join!(Cluster::start(3), Postgres::shared())?;
    let setup = Setup { kafka: cluster.kafka(), postgres, partitions: 2, topic_config: &[] };
    let mut world = World::with("reconcile-unclean", setup).await?;
    world.topic = unique("led-by-two");
    let mut create = vec!["--create", "--topic", &world.topic, "--replica-assignment", "2:3,1:3"];
    create.extend(["--config", "unclean.leader.election.enable=true", "--config", "min.insync.replicas=1"]);
    let created = world.kafka.tool("org.apache.kafka.tools.TopicCommand", &create).await?;
    assert_eq!(created.status, Some(0), "{created:?}");
    cluster.led_by(&world.topic, 0, 2).await?;
    cluster.led_by(&world.topic, 1, 1).await?;
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
    let json = [STRICT, &["--json"]].concat();
    let (shallow, deep, json) =
        tokio::join!(world.reconcile(TABLE), world.reconcile(STRICT), world.reconcile(&json));
    let (shallow, deep, json) = (shallow?.ended(0).stdout, deep?.ended(70), json?.ended(70).json());
    let place = format!("{}[0]", world.topic);
    assert!(
        shallow.contains(&format!("log of {place} begins and ends: it has no leader"))
            && shallow.ends_with("\nno difference\n"),
        "{shallow}"
    );
    assert!(
        deep.stdout.contains(&format!("could not be read: {place}: it has no leader"))
            && deep.stdout.ends_with("\nno difference in what could be read\n")
            && deep
                .stderr
                .contains(&format!("nothing is proven of a partition that could not be read: {place}")),
        "{}{}",
        deep.stdout,
        deep.stderr
    );
    let (unread, partitions) = (&json[0]["unread"], &json[0]["partitions"]);
    assert_eq!((unread.as_array().map(Vec::len), &unread[0]["partition"]), (Some(1), &0.into()), "{json}");
    let records = |partition: usize| &partitions[partition]["records"];
    assert_eq!((records(0), records(1)), (&Value::Null, &20.into()), "{json}");
    // A row is there twice where nothing can be read, and one is missing where it can.
    world
        .database
        .execute(
            "CREATE TABLE taken AS SELECT * FROM sink WHERE source_partition = 1 AND source_offset = 5; \
             DELETE FROM sink WHERE source_partition = 1 AND source_offset = 5; \
             INSERT INTO sink SELECT * FROM sink WHERE source_partition = 0 AND source_offset = 3",
        )
        .await?;
    let mut found = world.found(STRICT).await?;
    found.sort_unstable();
    assert_eq!(found, ["doubled_row 0@3", "missing_row 1@5"]);
    world
        .database
        .execute(
            "INSERT INTO sink SELECT * FROM taken; \
             DELETE FROM sink WHERE ctid = (SELECT min(ctid) FROM sink WHERE source_partition = 0 AND source_offset = 3)",
        )
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
