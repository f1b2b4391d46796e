//! Readings of a real database.

use std::time::{Duration, Instant};

use super::*;
use crate::testing::{Database, Postgres};
use crate::{PartialConfig, SchemaName, migrate};

const WORKER: &str = "00000000-0000-4000-8000-000000000001";

/// One partition at offset 5 of 9, held by a worker that beats now.
async fn held(hint: &str) -> (Database, Fleet) {
    let database = Postgres::shared().await.unwrap().fresh_database(hint).await.unwrap();
    migrate::migrate(&mut database.client().await.unwrap(), &SchemaName::default()).await.unwrap();
    let rows = format!(
        "INSERT INTO highwater.worker_status (owner, group_id, program, version, host, process_id, started_at, heartbeat_at, \
           state, ready, partitions, records_total, commits_total, fenced_total, retries_total, dropped_total) \
         VALUES ('{WORKER}', 'g', 'p', 'v', 'h', 1, clock_timestamp(), clock_timestamp(), 'running', true, 1, 0, 0, 0, 0, 0); \
         INSERT INTO highwater.consumer_offset (group_id, topic, partition, next_offset, epoch, owner) \
         VALUES ('g', 't', 0, 5, 1, '{WORKER}'); \
         INSERT INTO highwater.partition_status (group_id, topic, partition, epoch, owner, state, updated_at, \
           last_stable_offset, log_end_offset, next_record_timestamp, class) \
         VALUES ('g', 't', 0, 1, '{WORKER}', 'running', clock_timestamp(), 9, 9, clock_timestamp() - interval '7 s', 'OK')"
    );
    database.execute(&rows).await.unwrap();
    let config = PartialConfig::default().postgres_url(database.url()).finish_operator().unwrap();
    (database, Fleet::new(&config))
}

async fn partition(fleet: &mut Fleet) -> Partition {
    fleet.read().await.unwrap().groups.remove(0).partitions.remove(0)
}

/// A heartbeat is as old as it is when the reading begins, however long that takes.
#[tokio::test]
async fn a_slow_reading_declares_nobody_dead() {
    let (database, _) = held("fleet_slow").await;
    let client = database.client().await.unwrap();
    let beat = "UPDATE highwater.worker_status SET heartbeat_at = clock_timestamp()";
    database.execute(beat).await.unwrap();
    client
        .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1; SELECT pg_sleep(3.5)")
        .await
        .unwrap();
    database.execute(beat).await.unwrap();
    let class = async || {
        client.query_one("SELECT class FROM highwater.health", &[]).await.unwrap().get::<_, String>(0)
    };
    assert_eq!(class().await, "OK", "in a snapshot");
    client.batch_execute("COMMIT; BEGIN; SELECT 1; SELECT pg_sleep(3.5)").await.unwrap();
    assert_eq!(class().await, "DEAD", "each statement sees the beats of its own moment");
    database.execute(beat).await.unwrap();
    assert_eq!(class().await, "OK");
}

/// It lags, and how old the record is that waits is not known.
#[tokio::test]
async fn a_record_from_the_future_is_not_of_age_0() {
    let (database, mut fleet) = held("fleet_future").await;
    assert!(partition(&mut fleet).await.lag_seconds.is_some_and(|age| age >= 7.0));
    let future =
        "UPDATE highwater.partition_status SET next_record_timestamp = clock_timestamp() + interval '10 min'";
    database.execute(future).await.unwrap();
    let seen = partition(&mut fleet).await;
    assert_eq!((seen.lag_records, seen.lag_seconds), (Some(4), None));
    database.execute("UPDATE highwater.consumer_offset SET next_offset = 9").await.unwrap();
    assert_eq!(partition(&mut fleet).await.lag_seconds, Some(0.0), "nothing waits");
}

/// One that has written and idles has no snapshot, and holds back vacuum all the same.
#[tokio::test]
async fn whoever_idles_after_a_write_holds_back_vacuum() {
    let (database, mut fleet) = held("fleet_horizon").await;
    let idler = database.client().await.unwrap();
    idler.batch_execute("BEGIN; UPDATE highwater.worker_status SET detail = 'x'").await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let age = fleet.read().await.unwrap().oldest_snapshot_seconds;
    assert!(age.is_some_and(|age| age >= 1.2), "{age:?}");
}

/// What a former claim has said in its last words is over with the next claim, for the view as for every command.
#[tokio::test]
async fn a_halt_is_over_once_somebody_else_holds_the_partition() {
    let (database, mut fleet) = held("fleet_halted").await;
    let halted = "UPDATE highwater.partition_status SET state = 'halted', detail = 'why'; \
                  UPDATE highwater.consumer_offset SET owner = NULL";
    database.execute(halted).await.unwrap();
    let seen = partition(&mut fleet).await;
    assert_eq!((&*seen.class, seen.detail.as_deref()), ("HALTED", Some("why")));
    let taken = format!("UPDATE highwater.consumer_offset SET owner = '{WORKER}', epoch = 2");
    database.execute(&taken).await.unwrap();
    let seen = partition(&mut fleet).await;
    assert_eq!((&*seen.class, seen.detail.as_deref()), ("OK", None));
}

/// To count dead letters is the least of a reading.
#[tokio::test]
async fn letters_that_cannot_be_counted_hold_nothing_else_up() {
    let (database, mut fleet) = held("fleet_uncounted").await;
    let client = database.client().await.unwrap();
    client.batch_execute("BEGIN; LOCK TABLE highwater.dead_letter").await.unwrap();
    let group = fleet.read().await.unwrap().groups.remove(0);
    assert_eq!((group.dead_letters, group.partitions.len()), (None, 1), "nobody knows of any");
    let note =
        group.diagnosis.notes.iter().find(|note| note.starts_with("dead letters could not be counted"));
    assert!(note.is_some(), "{:?}", group.diagnosis.notes);
    // It is not tried with each reading.
    let took = Instant::now();
    fleet.read().await.unwrap();
    assert!(took.elapsed() < Duration::from_secs(5));
}
