//! Outages of a minute each, with records set aside and keys parked: not one record is blamed for them.

use std::time::Duration;

use highwater::WorkerHandle;
use highwater::config::OnRejected;
use highwater::testing::{Kafka, Postgres};

use crate::support::{Setup, Sink, TestResult, World};

/// The outages are compared by their length, and nothing signals that a minute is over.
const MINUTE: Duration = Duration::from_secs(60);

const FULL_DISK: &str = "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
      RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$; \
    CREATE TRIGGER full_disk BEFORE INSERT ON sink EXECUTE FUNCTION full_disk()";
const END_ALL: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
    WHERE datname = current_database() AND application_name LIKE 'highwater/%'";
const END_WRITERS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
    AND application_name LIKE 'highwater/%' AND query LIKE 'INSERT INTO sink%'";

fn parking(world: &World<'_>) -> WorkerHandle {
    let settings = world
        .settings()
        .on_rejected(OnRejected::ParkKey)
        .lock_timeout(Duration::from_millis(500))
        .retry_backoff_max(Duration::from_secs(2));
    world.worker_with(settings, Sink::<()>::default())
}

/// With records applied before it, and others that come while it lasts. `during`: what is done all the time.
async fn lasts(
    world: &World<'_>,
    worker: WorkerHandle,
    begin: &str,
    during: Option<&str>,
    end: &str,
) -> TestResult {
    let held = world.database.client().await?;
    held.batch_execute(begin).await?;
    world.produce(100).await?;
    let over = tokio::time::Instant::now() + MINUTE;
    match during {
        None => tokio::time::sleep_until(over).await,
        Some(sql) => {
            while tokio::time::Instant::now() < over {
                held.query(sql, &[]).await?;
            }
        }
    }
    world.assert_no_letters().await?;
    held.batch_execute(end).await?;
    // What is no outage to wait for has halted, and wants a word.
    for partition in 0..world.partitions {
        world.partitions_command("retry", partition, &[]).await?.ended(0);
    }
    world.verify_with_moves().await?;
    world.assert_no_letters().await?;
    worker.stop().await?;
    Ok(())
}

async fn outage(hint: &str, begin: &str, during: Option<&str>, end: &str) -> TestResult {
    let world = World::new(hint, 2).await?;
    world.produce(100).await?;
    let worker = parking(&world);
    world.verify().await?;
    let [begin, end] = [begin, end].map(|sql| sql.replace("ROLE_NAME", &world.role.name));
    lasts(&world, worker, &begin, during, &end).await
}

async fn stopped() -> TestResult {
    let (kafka, postgres) = tokio::try_join!(Kafka::shared(), Postgres::start())?;
    let setup = Setup { kafka, postgres: &postgres, partitions: 2, topic_config: &[] };
    let world = World::with("minute-stopped", setup).await?;
    world.produce(100).await?;
    let worker = parking(&world);
    world.verify().await?;
    postgres.stop().await?;
    world.produce(100).await?;
    tokio::time::sleep(MINUTE).await;
    postgres.restart().await?;
    world.verify().await?;
    world.assert_no_letters().await?;
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
#[ignore = "slow: cargo test --test it slow_ -- --ignored"]
async fn slow_no_outage_of_a_minute_leaves_a_dead_letter() -> TestResult {
    let refused = format!("ALTER ROLE ROLE_NAME CONNECTION LIMIT 0; {END_ALL}");
    let slow = "ALTER TABLE sink ADD CONSTRAINT slow CHECK (pg_sleep(0.2) IS NOT NULL) NOT VALID";
    tokio::try_join!(
        stopped(),
        outage("minute-refused", &refused, Some(END_ALL), "ALTER ROLE ROLE_NAME CONNECTION LIMIT -1"),
        outage("minute-full", FULL_DISK, None, "DROP TRIGGER full_disk ON sink"),
        outage(
            "minute-denied",
            "REVOKE INSERT ON sink FROM ROLE_NAME",
            None,
            "GRANT INSERT ON sink TO ROLE_NAME"
        ),
        outage("minute-locked", "BEGIN; LOCK TABLE sink", None, "ROLLBACK"),
        outage("minute-killed", slow, Some(END_WRITERS), "ALTER TABLE sink DROP CONSTRAINT slow"),
    )?;
    Ok(())
}
