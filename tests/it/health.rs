//! What `SELECT * FROM highwater.health` says of incidents as they are staged.

use std::sync::Arc;
use std::time::{Duration, Instant};

use highwater::health::Class;
use highwater::testing::Postgres;
use highwater::{SchemaName, migrate};

use crate::lag::sampled;
use crate::support::{Gate, Sink, TestResult, World};

#[tokio::test]
async fn a_wedged_handler_is_a_stall_long_before_its_lag_is_one() -> TestResult {
    let world = World::new("health-wedged", 2).await?;
    world.produce(10).await?;
    let gate = Arc::new(Gate::default());
    let worker =
        world.worker_with(sampled(world.settings()), Sink { fault: Arc::clone(&gate), ..Sink::default() });
    world.verify().await?;
    world
        .seen_as(0, "well", |seen| seen.class == "OK" && seen.reason.as_deref() == Some("caught up"))
        .await?;
    gate.close();
    let wedged = Instant::now();
    world.produce_old(0, 1, 0).await?;
    let seen = world.seen_as(0, "stalled", |seen| seen.class == "STALL").await?;
    println!("STALL after {:?}: {:?}", wedged.elapsed(), seen.reason);
    assert_eq!(seen.records, Some(1), "one record is enough");
    let words = seen.reason.unwrap_or_default();
    assert!(words.starts_with("has stood at offset 10 for "), "{words}");
    // Four samples, the last answer of the brokers (3 s), a report (1 s), and a busy machine.
    assert!(wedged.elapsed() < Duration::from_secs(15), "{:?}", wedged.elapsed());
    let status = worker.status();
    let partition = status.partitions.iter().find(|status| status.partition == 0).expect("it is assigned");
    assert_eq!((partition.class, partition.drain_seconds), (Class::Stall, Some(f64::INFINITY)));
    assert!(partition.reason.is_some(), "{partition:?}");
    // Nobody else is to blame.
    assert_eq!(world.seen(1).await?.map(|seen| seen.class).as_deref(), Some("OK"));

    // The command says the same.
    let said = world.status(&[]).await?.ended(1);
    assert!(said.stdout.contains("  stalled    "), "{}", said.stdout);
    let described = world.offsets("describe", &["--json"]).await?.ended(0).json();
    assert_eq!(described[0]["partitions"][0]["class"], "STALL", "{described}");

    gate.open();
    world.verify().await?;
    world.seen_as(0, "well again", |seen| seen.class == "OK").await?;
    let said = world.status(&["--json"]).await?.ended(0).json();
    assert_eq!(said[0]["class"], "OK", "{said}");
    worker.stop().await?;
    Ok(())
}

/// Somebody has a row of the reports, and goes for lunch. The heart beats on, records are applied, and what is known grows old.
#[tokio::test]
async fn reports_that_are_not_written_grow_old_though_the_heart_beats() -> TestResult {
    let world = World::new("health-silent", 1).await?;
    world.produce(10).await?;
    let worker = world.worker_with(sampled(world.settings()), Sink::<()>::default());
    world.verify().await?;
    world.seen_as(0, "well", |seen| seen.class == "OK" && seen.records == Some(0)).await?;
    let lunch = world.database.client().await?;
    lunch.batch_execute("BEGIN; UPDATE highwater.partition_status SET detail = detail").await?;
    world.produce(15).await?;
    world.verify().await?;
    world.seen_as(0, "old", |seen| seen.class == "OK" && seen.age.is_some_and(|age| age > 5.0)).await?;
    let seen = world.seen_as(0, "stopped", |seen| seen.class == "STOP").await?;
    let reason = seen.reason.unwrap_or_default();
    assert!(reason.starts_with("its worker beats, and has reported nothing for "), "{reason}");
    lunch.batch_execute("ROLLBACK").await?;
    world
        .seen_as(0, "well again", |seen| seen.class == "OK" && seen.age.is_some_and(|age| age < 5.0))
        .await?;
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn the_view_knows_the_classes_and_their_severities() -> TestResult {
    let database = Postgres::shared().await?.fresh_database("health-classes").await?;
    migrate::migrate(&mut database.client().await?, &SchemaName::default()).await?;
    database
        .execute(
            "INSERT INTO highwater.worker_status VALUES ('00000000-0000-4000-8000-000000000001', 'g', NULL, 'p', 'v', 'h', 1, \
               now(), now() + interval '1 hour', NULL, 'running', true, NULL, 0, 0, 0, 0, 0, 0); \
             INSERT INTO highwater.consumer_offset (group_id, topic, partition, next_offset, epoch, owner) \
             VALUES ('g', 't', 0, 5, 1, '00000000-0000-4000-8000-000000000001'); \
             INSERT INTO highwater.partition_status (group_id, topic, partition, epoch, owner, state, updated_at) \
             VALUES ('g', 't', 0, 1, '00000000-0000-4000-8000-000000000001', 'running', now())",
        )
        .await?;
    let seen = async || -> TestResult<(String, i32)> {
        let row = database.query("SELECT class, severity FROM highwater.health", &[]).await?.remove(0);
        Ok((row.get(0), row.get(1)))
    };
    // A heartbeat from the future proves nothing.
    assert_eq!(seen().await?, ("DEAD".to_owned(), i32::from(Class::Dead.severity())));
    database.execute("UPDATE highwater.consumer_offset SET owner = NULL").await?;
    assert_eq!(seen().await?, ("UNOWNED".to_owned(), i32::from(Class::Unowned.severity())));
    for (paused, halted, class) in [("'x'", "false", Class::Paused), ("'x'", "true", Class::Halted)] {
        let hold =
            format!("UPDATE highwater.consumer_offset SET paused_reason = {paused}, halted = {halted}");
        database.execute(&hold).await?;
        assert_eq!(seen().await?, (class.to_string(), i32::from(class.severity())));
    }
    let own = "UPDATE highwater.consumer_offset SET paused_reason = NULL, halted = false, \
                 owner = '00000000-0000-4000-8000-000000000001'";
    database.execute(own).await?;
    let of_trajectories =
        [Class::Ok, Class::Draining, Class::Warn, Class::Stop, Class::Stall, Class::Rewind, Class::Fenced];
    for class in of_trajectories {
        let beat = format!(
            "UPDATE highwater.worker_status SET heartbeat_at = clock_timestamp(); \
             UPDATE highwater.partition_status SET class = '{class}'"
        );
        database.execute(&beat).await?;
        assert_eq!(seen().await?, (class.to_string(), i32::from(class.severity())));
    }
    // It beats, and has reported nothing for half a minute.
    let silent = "UPDATE highwater.worker_status SET heartbeat_at = clock_timestamp(), \
                    reported_at = clock_timestamp() - interval '31 s'; \
                  UPDATE highwater.partition_status SET class = 'OK', updated_at = clock_timestamp() - interval '31 s'";
    database.execute(silent).await?;
    assert_eq!(seen().await?, ("STOP".to_owned(), i32::from(Class::Stop.severity())));
    // Nothing was said of lag: unknown, and not 0.
    let unknown = "SELECT count(*) FROM highwater.lag WHERE num_nulls(lag_records, lag_seconds, drain_seconds, loss_seconds, \
                     uncommitted_records, uncommitted_seconds) = 6";
    assert_eq!(database.query(unknown, &[]).await?[0].get::<_, i64>(0), 1);
    Ok(())
}
