//! What is no record's fault becomes no dead letter, whatever the policy.

use std::time::Duration;

use highwater::testing::{Kafka, Postgres, wait_until};
use highwater::{Batch, HandlerError, PartitionState, Tx};

use crate::support::watch::{halted, status_until};
use crate::support::{Fault, PATIENCE, Setup, Sink, TestResult, World};

/// Panics at one record.
struct Panics;

impl Fault for Panics {
    async fn after(&self, batch: &Batch, _: &mut Tx) -> Result<(), HandlerError> {
        assert!(!batch.records().any(|record| record.offset() == 57), "account 4711 has no branch");
        Ok(())
    }
}

/// A bug, as far as anybody can tell: a program that panics at every record would empty the topic.
#[tokio::test]
async fn core_a_panic_halts() -> TestResult {
    let world = World::new("panics", 1).await?;
    world.produce(100).await?;
    let worker = world.worker_with(world.setting_aside(), Sink { fault: Panics, rows_only: false });
    let why = halted(&worker, 0).await?;
    assert!(why.contains("@57 cannot be applied: the handler panicked"), "{why}");
    world.assert_no_letters().await?;
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn core_a_missing_privilege_halts() -> TestResult {
    let world = World::new("denied", 1).await?;
    world.produce(50).await?;
    world.database.execute(&format!("REVOKE INSERT ON sink FROM {}", world.role.name)).await?;
    let worker = world.worker_with(world.setting_aside(), Sink::<()>::default());
    let why = halted(&worker, 0).await?;
    assert!(why.contains("42501"), "{why}");
    world.assert_no_letters().await?;
    worker.stop().await?;
    Ok(())
}

/// Rejected, but its dead letter cannot be stored: nothing is stepped over.
#[tokio::test]
async fn core_a_dead_letter_that_cannot_be_stored_halts() -> TestResult {
    let world = World::new("unstored", 1).await?;
    world.send_with_bad(0, 50, |n| n == 20)?;
    world.producer.flush().await?;
    world
        .database
        .execute(&format!("REVOKE INSERT ON highwater.dead_letter FROM {}", world.role.name))
        .await?;
    let worker =
        world.worker_with(world.setting_aside(), Sink { fault: super::Named::default(), rows_only: false });
    let why = halted(&worker, 0).await?;
    assert!(
        why.contains("@20 was rejected (offset 20 is no good), and its dead letter cannot be stored"),
        "{why}"
    );
    assert!(world.next_offset(0).await? <= Some(20));
    world.assert_no_letters().await?;
    worker.stop().await?;
    // With the right given back it goes on.
    world.database.execute(&format!("GRANT INSERT ON highwater.dead_letter TO {}", world.role.name)).await?;
    let worker =
        world.worker_with(world.setting_aside(), Sink { fault: super::Named::default(), rows_only: false });
    assert_eq!(world.verify_with_letters().await?.len(), 1);
    worker.stop().await?;
    Ok(())
}

/// A table that is locked, a role that may not log in, a full disk, backends that are ended again and again.
#[tokio::test]
async fn core_outages_leave_none() -> TestResult {
    let world = World::new("outages", 2).await?;
    world.produce(100).await?;
    let settings = world
        .setting_aside()
        .lock_timeout(Duration::from_millis(100))
        .retry_backoff_max(Duration::from_millis(400))
        .lanes(1_usize);
    let worker = world.worker_with(settings, Sink::<()>::default());
    world.verify().await?;

    let held = world.database.client().await?;
    held.batch_execute("BEGIN; LOCK TABLE sink").await?;
    world.produce(100).await?;
    let retried = worker.status().counters.retries;
    let tries = async |more: u64, from: u64| {
        wait_until("it has tried again", PATIENCE, async || {
            Ok((worker.status().counters.retries >= from + more).then_some(()))
        })
        .await
    };
    tries(6, retried).await?;
    held.batch_execute("ROLLBACK").await?;
    world.verify().await?;

    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name LIKE 'highwater/%'";
    let role = &world.role.name;
    world.database.execute(&format!("ALTER ROLE {role} CONNECTION LIMIT 0")).await?;
    world.database.query(end, &[]).await?;
    world.produce(100).await?;
    tries(3, worker.status().counters.retries).await?;
    world.database.execute(&format!("ALTER ROLE {role} CONNECTION LIMIT -1")).await?;
    world.verify().await?;

    // A disk that is full.
    let full = "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                  RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$; \
                CREATE TRIGGER full_disk BEFORE INSERT ON sink EXECUTE FUNCTION full_disk()";
    world.database.execute(full).await?;
    world.produce(100).await?;
    tries(6, worker.status().counters.retries).await?;
    world.database.execute("DROP TRIGGER full_disk ON sink").await?;
    world.verify().await?;

    // Whoever writes is ended, until its partition halts: lost sessions are no record's fault, to be stepped over.
    let own = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
                 AND application_name LIKE 'highwater/%' AND query LIKE 'INSERT INTO sink%'";
    world
        .database
        .execute("ALTER TABLE sink ADD CONSTRAINT slow CHECK (pg_sleep(0.2) IS NOT NULL) NOT VALID")
        .await?;
    let mut seen = 0;
    wait_until("its sessions were lost again and again", PATIENCE, async || {
        // One that got through is followed by another.
        let applied = worker.status().counters.applied_records;
        if applied > seen {
            seen = applied;
            world.producer.send(world.message(0).key("p0-a1").value("1"))?;
        }
        held.query(own, &[]).await?;
        let halted = worker.status().partitions.iter().any(|status| status.state == PartitionState::Halted);
        Ok(halted.then_some(()))
    })
    .await?;
    world.producer.flush().await?;
    world.reported_halt(0).await?;
    world.database.execute("ALTER TABLE sink DROP CONSTRAINT slow").await?;
    world.assert_no_letters().await?;
    world.partitions_command("retry", 0, &[]).await?.ended(0);
    world.verify_with_moves().await?;
    world.assert_no_letters().await?;
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn postgres_is_stopped_for_a_while() -> TestResult {
    let (kafka, postgres) = tokio::try_join!(Kafka::shared(), Postgres::start())?;
    let setup = Setup { kafka, postgres: &postgres, partitions: 2, topic_config: &[] };
    let world = World::with("stopped", setup).await?;
    world.produce(50).await?;
    let worker = world.worker_with(world.setting_aside(), Sink::<()>::default());
    world.verify().await?;
    postgres.stop().await?;
    world.produce(50).await?;
    let from = worker.status().counters.retries;
    status_until(&worker, "it is not ready", |status| !status.ready).await?;
    wait_until("it has tried in vain", PATIENCE, async || {
        Ok((worker.status().counters.retries >= from + 2).then_some(()))
    })
    .await?;
    postgres.restart().await?;
    world.verify().await?;
    world.assert_no_letters().await?;
    worker.stop().await?;
    Ok(())
}
