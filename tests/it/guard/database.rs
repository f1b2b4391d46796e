//! A database that was restored, or is the wrong one: the mirror's mark in Kafka tells (DESIGN 3.3, EO-8).

use std::time::Duration;

use highwater::ErrorKind;
use highwater::PartitionState;
use highwater::config::StartPolicy;
use highwater::testing::{Kafka, Postgres, Result};

use crate::support::watch::status_until;
use crate::support::{PATIENCE, Setup, Sink, TestResult, World};

/// What an operator runs when Kafka's copy is to be forgotten.
async fn delete_offsets(world: &World<'_>) -> TestResult {
    let arguments = ["--delete-offsets", "--group", &world.group, "--topic", &world.topic];
    let class = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
    let output = world.kafka.tool(class, &arguments).await?;
    assert!(output.status == Some(0) && output.stdout.contains("Successful"), "{output:?}");
    Ok(())
}

impl World<'_> {
    /// Why a worker with this start policy refuses to start.
    async fn refusal(&self, start: StartPolicy) -> String {
        let worker = self.worker_with(self.settings().start(start), Sink::<()>::default());
        let ended = tokio::time::timeout(PATIENCE, worker.wait()).await;
        let error = ended.expect("it refuses instead of running").expect_err("it refuses");
        assert_eq!((error.kind(), error.exit_code()), (ErrorKind::Guard, 4), "{error}");
        error.to_string()
    }
}

/// A few records, applied and mirrored.
async fn with_history(hint: &str) -> Result<World<'static>> {
    let world = World::new(hint, 2).await?;
    world.produce(10).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await.expect("it stops softly");
    let (offset, metadata) = world.kafka.committed(&world.group, &world.topic, 0).await?.expect("mirrored");
    let id: uuid::Uuid = world.database.query("SELECT database_id FROM highwater.meta", &[]).await?[0].get(0);
    assert_eq!((offset, metadata), (10, format!("highwater/{id}")));
    Ok(world)
}

/// The group's rows are gone, as if the database had been restored to before the group's start.
#[tokio::test]
async fn core_a_database_that_has_forgotten_the_group_is_refused() -> TestResult {
    let world = with_history("forgotten").await?;
    world
        .database
        .execute("DELETE FROM highwater.consumer_offset; DELETE FROM highwater.group_topic")
        .await?;
    for start in [StartPolicy::Earliest, StartPolicy::Latest, StartPolicy::AdoptKafka, StartPolicy::Fail] {
        let why = world.refusal(start).await;
        assert!(why.contains("offset 10 of partition 0, mirrored by this very database"), "{why}");
        assert!(why.contains("--delete-offsets --group") && why.contains(&world.group), "{why}");
    }
    assert_eq!(world.number("SELECT count(*) FROM highwater.group_topic").await?, 0);

    // The way out that the text names, for a new beginning on purpose.
    world.database.execute("TRUNCATE sink, balances").await?;
    delete_offsets(&world).await?;
    let worker = world.worker(Sink::<()>::default());
    world.caught_up().await?;
    world.assert_exact(true).await?;
    worker.stop().await?;
    Ok(())
}

/// Another database's group of the same name: with rows of its own, and without.
#[tokio::test]
async fn core_the_wrong_database_is_refused() -> TestResult {
    let world = with_history("wrong").await?;
    let id = "SELECT database_id::text FROM highwater.meta";
    let ours: String = world.database.query(id, &[]).await?[0].get(0);
    world.database.execute("UPDATE highwater.meta SET database_id = gen_random_uuid()").await?;
    let theirs: String = world.database.query(id, &[]).await?[0].get(0);
    let why = world.refusal(StartPolicy::Fail).await;
    assert!(why.contains(&format!("mirrored by database {ours}, but this is database {theirs}")), "{why}");
    assert!(why.contains("offset 10 of partition 0") && why.contains("--delete-offsets"), "{why}");

    // The right one again.
    world.database.execute(&format!("UPDATE highwater.meta SET database_id = '{ours}'")).await?;
    world.produce(5).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;

    let empty = World::new("wrong-empty", 2).await?;
    let worker = empty.worker_with(
        empty.settings().group(world.group.clone()).topics(vec![world.topic.clone()]),
        Sink::<()>::default(),
    );
    let error = worker.wait().await.expect_err("it refuses");
    assert_eq!(error.kind(), ErrorKind::Guard);
    assert!(error.to_string().contains(&format!("mirrored by database {ours}")), "{error}");
    Ok(())
}

/// Rows and offsets went back together: what came after the backup is applied again, once.
#[tokio::test]
async fn core_an_older_backup_is_caught_up_from_exactly_once() -> TestResult {
    let world = with_history("backup").await?;
    let tables =
        ["sink", "balances", "highwater.group_topic", "highwater.consumer_offset", "highwater.claim_history"];
    let copy = |table: &str| format!("backup_of_{}", table.trim_start_matches("highwater."));
    let worker = world.worker(Sink::<()>::default());
    world.produce(200).await?;
    world.reached(0, 100).await?;
    // Taken while the worker works, from one snapshot.
    let mut client = world.database.client().await?;
    let snapshot = client.build_transaction().isolation_level(tokio_postgres::IsolationLevel::RepeatableRead);
    let snapshot = snapshot.start().await?;
    for table in tables {
        snapshot.batch_execute(&format!("CREATE TABLE {} AS SELECT * FROM {table}", copy(table))).await?;
    }
    snapshot.commit().await?;
    world.produce(200).await?;
    world.verify().await?;
    worker.stop().await?;

    for table in tables {
        let restore = format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM {}", copy(table));
        world.database.execute(&restore).await?;
    }
    assert!(world.next_offset(0).await? < Some(410));
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

/// A broker that refuses the mark: nothing is handed out, that is said, and it is no reason to die.
#[tokio::test]
async fn the_first_claim_hands_out_nothing_before_the_mark_is_acknowledged() -> TestResult {
    // Room for an offset's metadata, but not for the mark.
    let (kafka, postgres) =
        tokio::try_join!(Kafka::start_with(&[("offset.metadata.max.bytes", "16")]), Postgres::shared())?;
    let setup = Setup { kafka: &kafka, postgres, partitions: 2, topic_config: &[] };
    let world = World::with("unmarked", setup).await?;
    world.produce(10).await?;
    let worker = world.worker(Sink::<()>::default());
    let waits = |detail: &Option<String>| {
        detail.as_ref().is_some_and(|detail| {
            detail.contains("waits for Kafka to acknowledge") && detail.contains("MetadataTooLarge")
        })
    };
    let status = status_until(&worker, "it says what it waits for", |status| {
        status.partitions.len() == 2 && status.partitions.iter().all(|partition| waits(&partition.detail))
    })
    .await?;
    assert!(status.partitions.iter().all(|partition| partition.state == PartitionState::Claiming));
    assert!(!status.ready);
    assert_eq!(world.number("SELECT count(*) FROM sink").await?, 0);
    assert_eq!(
        world.number("SELECT count(*) FROM highwater.group_topic WHERE mirror_marked_at IS NULL").await?,
        1
    );
    worker.stop().await?;

    // Without the mirror there is nothing to wait for: the window that the guarantees name.
    let unmirrored = world.settings().mirror_interval(None::<Duration>);
    let worker = world.worker_with(unmirrored, Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

/// … and with the mark they flow; whoever comes second has nothing to wait for.
#[tokio::test]
async fn core_the_mark_is_recorded_with_its_acknowledgement() -> TestResult {
    let world = World::new("marked", 2).await?;
    world.produce(10).await?;
    // The acknowledgement can't be recorded while somebody else holds the row: until then nothing flows.
    let hold = "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS \
                $$ BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NEW; END $$; \
                CREATE TRIGGER hold BEFORE UPDATE ON highwater.group_topic FOR EACH ROW EXECUTE FUNCTION hold()";
    world.database.execute(hold).await?;
    let other = world.database.client().await?;
    other.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(4711)").await?;
    let worker = world.worker(Sink::<()>::default());
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    highwater::testing::wait_until("the mark waits", PATIENCE, async || {
        Ok((world.number(waiting).await? == 1).then_some(()))
    })
    .await?;
    assert_eq!(world.number("SELECT count(*) FROM sink").await?, 0);
    let mirrored = world.kafka.committed(&world.group, &world.topic, 0).await?;
    let mirrored = mirrored.or(world.kafka.committed(&world.group, &world.topic, 1).await?);
    assert!(mirrored.is_some_and(|(offset, mark)| offset == 0 && mark.starts_with("highwater/")));
    other.batch_execute("COMMIT").await?;
    world.verify().await?;
    assert_eq!(
        world.number("SELECT count(*) FROM highwater.group_topic WHERE mirror_marked_at IS NULL").await?,
        0
    );
    worker.stop().await?;
    Ok(())
}
