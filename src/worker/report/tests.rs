//! What a worker writes of itself and its partitions, and what the views make of it.

use uuid::Uuid;

use super::*;
use crate::db::Identity;
use crate::health::Class;
use crate::testing::{Database, Postgres};
use crate::worker::PartitionState;
use crate::worker::heartbeat::Heartbeat;
use crate::{Config, PartialConfig, SchemaName, migrate};

fn config(database: &Database) -> Config {
    PartialConfig::default()
        .brokers(vec!["127.0.0.1:1".to_owned()])
        .postgres_url(database.url())
        .group("g")
        .topics(vec!["t".to_owned()])
        .finish()
        .unwrap()
}

async fn reporter() -> (Database, Reporter) {
    let database = Postgres::shared().await.unwrap().fresh_database("report").await.unwrap();
    migrate::migrate(&mut database.client().await.unwrap(), &SchemaName::default()).await.unwrap();
    let config = config(&database);
    let identity = Identity { owner: Uuid::new_v4(), group: "g".into(), instance_id: None };
    let db = Arc::new(Db::new(&config, identity).unwrap());
    (
        database,
        Reporter::new(
            db,
            Arc::new(StatusBoard::new()),
            Arc::new(Policies::halting()),
            Writes::default(),
            Isolation::ReadCommitted,
        ),
    )
}

fn status(state: PartitionState, epoch: Option<i64>) -> PartitionStatus {
    PartitionStatus {
        topic: "t".to_owned(),
        partition: 0,
        state,
        next_offset: None,
        mirrored_offset: None,
        held_bytes: 0,
        detail: Some("why".to_owned()),
        epoch,
        log_end_offset: None,
        last_stable_offset: None,
        next_record_timestamp_ms: None,
        log_start_offset: None,
        class: Class::Ok,
        reason: None,
        applied_per_second: None,
        produced_per_second: None,
        drain_seconds: None,
        uncommitted_since_ms: None,
        loss_at_ms: None,
    }
}

async fn report(reporter: &mut Reporter, status: PartitionStatus) {
    reporter.board.publish(true, None, vec![status]);
    reporter.turn(None).await.unwrap();
}

/// State, epoch, both ends and the next record's second; and the transaction that wrote it.
async fn row(database: &Database) -> (String, i64, [Option<i64>; 3], String) {
    let sql = "SELECT state, epoch, log_end_offset, last_stable_offset, \
                 extract(epoch FROM next_record_timestamp)::int8, xmin::text FROM highwater.partition_status";
    let row = database.query(sql, &[]).await.unwrap().remove(0);
    (row.get(0), row.get(1), [row.get(2), row.get(3), row.get(4)], row.get(5))
}

/// Whatever was said before in the same words: it is of the present claim, and of nobody else's.
#[tokio::test]
async fn a_row_is_of_the_present_claim_and_written_only_when_it_changes() {
    let (database, mut reporter) = reporter().await;
    let claimed = async |epoch: i64, owner: Option<Uuid>| {
        let sql = "INSERT INTO highwater.consumer_offset (group_id, topic, partition, next_offset, epoch, owner) \
                   VALUES ('g', 't', 0, 0, $1, $2) ON CONFLICT (group_id, topic, partition) \
                   DO UPDATE SET epoch = excluded.epoch, owner = excluded.owner";
        database.query(sql, &[&epoch, &owner]).await.unwrap();
    };
    let halted = || status(PartitionState::Halted, None);
    claimed(5, None).await;
    report(&mut reporter, halted()).await;
    let first = row(&database).await;
    assert_eq!((&*first.0, first.1), ("halted", 5));
    report(&mut reporter, halted()).await;
    assert_eq!(row(&database).await, first, "nothing has changed, so nothing is written");
    claimed(6, None).await;
    report(&mut reporter, halted()).await;
    assert_eq!(row(&database).await.1, 6, "halted again, in the same words");

    let me = reporter.db.identity.owner;
    let running = |epoch| PartitionStatus {
        log_end_offset: Some(9),
        last_stable_offset: Some(7),
        next_record_timestamp_ms: Some(1_500),
        ..status(PartitionState::Running, Some(epoch))
    };
    claimed(7, Some(me)).await;
    report(&mut reporter, running(7)).await;
    let seventh = row(&database).await;
    assert_eq!((&*seventh.0, seventh.1, seventh.2), ("running", 7, [Some(9), Some(7), Some(2)]));
    // Somebody else has claimed it, and then this worker once more: the first of the two reports is late.
    claimed(8, Some(Uuid::new_v4())).await;
    report(&mut reporter, halted()).await;
    assert_eq!(row(&database).await, seventh, "it is another's to report");
    claimed(9, Some(me)).await;
    report(&mut reporter, running(8)).await;
    assert_eq!(row(&database).await, seventh, "not of the present claim");
    let sampled = PartitionStatus {
        class: Class::Stall,
        reason: Some("stands".to_owned()),
        applied_per_second: Some(0.5),
        uncommitted_since_ms: Some(2_000),
        loss_at_ms: Some(f64::INFINITY),
        ..running(9)
    };
    report(&mut reporter, sampled).await;
    let more = "SELECT class, reason, applied_per_second, produced_per_second IS NULL, \
                  extract(epoch FROM uncommitted_since)::int8, loss_at::text FROM highwater.partition_status";
    let more = database.query(more, &[]).await.unwrap().remove(0);
    assert_eq!((more.get(0), more.get(1)), (Some("STALL"), Some("stands")));
    assert_eq!((more.get(2), more.get(3), more.get(4)), (Some(0.5), true, Some(2_i64)));
    assert_eq!(more.get::<_, &str>(5), "infinity");
    let wild =
        PartitionStatus { next_record_timestamp_ms: Some(i64::MAX), next_offset: Some(1), ..running(9) };
    report(&mut reporter, wild).await;
    assert_eq!((row(&database).await.1, row(&database).await.2[2]), (9, None), "no such year");
}

/// A heart that beats says nothing of the partitions: what is known of them is as old as the last report, and once that is
/// old, the worker counts as stopped.
#[tokio::test]
async fn what_cannot_be_reported_grows_old() {
    let (database, mut reporter) = reporter().await;
    let (db, board) = (Arc::clone(&reporter.db), Arc::clone(&reporter.board));
    let heart = {
        let config = PartialConfig::default()
            .brokers(vec!["127.0.0.1:1".to_owned()])
            .postgres_url(database.url())
            .group("g")
            .topics(vec!["t".to_owned()])
            .finish()
            .unwrap();
        let taken = tokio::sync::mpsc::unbounded_channel().0;
        Heartbeat::new(Arc::clone(&db), board, Arc::default(), taken, &config)
    };
    let beat = async || heart.write(&db.status().await.unwrap()).await.unwrap();
    let seen = async || {
        let sql = "SELECT extract(epoch FROM clock_timestamp() - l.as_of)::float8, l.lag_records, h.class, h.reason \
                   FROM highwater.lag l JOIN highwater.health h USING (group_id, topic, partition)";
        let row = database.query(sql, &[]).await.unwrap().remove(0);
        (
            row.get::<_, f64>(0),
            row.get::<_, Option<i64>>(1),
            row.get::<_, String>(2),
            row.get::<_, Option<String>>(3),
        )
    };
    let claim = "INSERT INTO highwater.consumer_offset (group_id, topic, partition, next_offset, epoch, owner) \
                 VALUES ('g', 't', 0, 3, 7, $1)";
    database.query(claim, &[&db.identity.owner]).await.unwrap();
    let at = |end| PartitionStatus {
        last_stable_offset: Some(end),
        log_end_offset: Some(end),
        ..status(PartitionState::Running, Some(7))
    };
    report(&mut reporter, at(9)).await;
    // Nothing is news, and so nothing is written: that, too, is a report.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    report(&mut reporter, at(9)).await;
    beat().await;
    let (age, lag, class, _) = seen().await;
    assert!(age < 1.0, "{age}");
    assert_eq!((lag, &*class), (Some(6), "OK"));

    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$; \
                  CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON highwater.partition_status EXECUTE FUNCTION refuse()";
    database.execute(refuse).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    reporter.board.publish(true, None, vec![at(2_000)]);
    assert!(reporter.turn(None).await.is_err());
    beat().await;
    let (age, ..) = seen().await;
    assert!(age >= 1.5, "as old as the last report, not as the heartbeat: {age}");
    // Half a minute later.
    database
        .execute(
            "UPDATE highwater.worker_status SET reported_at = reported_at - interval '30 s'; \
             ALTER TABLE highwater.partition_status DISABLE TRIGGER refuse; \
             UPDATE highwater.partition_status SET updated_at = updated_at - interval '30 s'; \
             ALTER TABLE highwater.partition_status ENABLE TRIGGER refuse",
        )
        .await
        .unwrap();
    let (.., class, reason) = seen().await;
    let reason = reason.unwrap();
    assert!(
        class == "STOP" && reason.starts_with("its worker beats, and has reported nothing for 00:00:3"),
        "{class} {reason}"
    );
    database.execute("UPDATE highwater.worker_status SET state = 'stopping'").await.unwrap();
    assert_eq!(seen().await.2, "OK", "it finishes its batches");

    database.execute("DROP TRIGGER refuse ON highwater.partition_status").await.unwrap();
    report(&mut reporter, at(2_000)).await;
    beat().await;
    let (age, lag, class, _) = seen().await;
    assert!(age < 1.0, "{age}");
    assert_eq!((lag, &*class), (Some(1_997), "OK"));
    // A control loop that hangs publishes nothing: its old words, said once more, are no report.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    reporter.turn(None).await.unwrap();
    beat().await;
    assert!(seen().await.0 >= 1.5);
}

/// That there was nothing to apply is as old as the look at the log's end; that there was something is "at least".
#[tokio::test]
async fn an_old_0_is_not_known() {
    const KNOWN: &str = "SELECT lag_records, num_nulls(lag_records, lag_seconds, drain_seconds, loss_seconds) \
                           FROM highwater.lag";
    let (database, reporter) = reporter().await;
    let run = async |sql: &str| database.query(sql, &[]).await.unwrap();
    let lag = async || {
        let row = run(KNOWN).await.remove(0);
        (row.get::<_, Option<i64>>(0), row.get::<_, i32>(1))
    };
    let unknown = (None, 4);
    let me = reporter.db.identity.owner;
    let claim = "INSERT INTO highwater.consumer_offset (group_id, topic, partition, next_offset, epoch, owner, claimed_at) \
                 VALUES ('g', 't', 0, 7, 5, $1, now() - interval '1 h')";
    database.query(claim, &[&me]).await.unwrap();
    run("INSERT INTO highwater.worker_status SELECT owner, 'g', NULL, 'p', 'v', 'h', 1, now(), now(), NULL, 'running', true, \
           NULL, 0, 0, 0, 0, 0, 0 FROM highwater.consumer_offset")
        .await;
    run("UPDATE highwater.worker_status SET reported_at = now()").await;
    run("INSERT INTO highwater.partition_status (group_id, topic, partition, epoch, owner, state, updated_at, \
           last_stable_offset, log_end_offset, applied_per_second, loss_at) \
         SELECT 'g', 't', 0, 5, owner, 'running', now() - interval '1 h', 7, 7, 0, 'infinity' FROM highwater.consumer_offset")
        .await;
    assert_eq!(
        lag().await,
        (Some(0), 0),
        "its worker lives and reports, and nothing has changed for an hour"
    );
    run("UPDATE highwater.worker_status SET reported_at = now() - interval '61 s'").await;
    assert_eq!(lag().await, unknown, "it cannot report");
    run("UPDATE highwater.partition_status SET last_stable_offset = 9, log_end_offset = 9").await;
    assert_eq!(lag().await.0, Some(2), "at least");
    run("UPDATE highwater.partition_status SET last_stable_offset = 7, log_end_offset = 7").await;

    run("UPDATE highwater.worker_status SET heartbeat_at = now() - interval '50 s', reported_at = now() - interval '50 s'")
        .await;
    assert_eq!(lag().await, (Some(0), 0), "dead since a moment ago");
    run("UPDATE highwater.worker_status SET heartbeat_at = now() - interval '61 s'").await;
    run("UPDATE highwater.worker_status SET reported_at = heartbeat_at").await;
    assert_eq!(lag().await, unknown, "dead");

    // A hand-over.
    run("UPDATE highwater.worker_status SET heartbeat_at = now(), reported_at = now(), stopped_at = now()")
        .await;
    run("UPDATE highwater.consumer_offset SET owner = NULL").await;
    assert_eq!(lag().await, (Some(0), 0), "released just now");
    run("UPDATE highwater.consumer_offset SET epoch = 6, owner = gen_random_uuid(), claimed_at = now()")
        .await;
    assert_eq!(lag().await, (Some(0), 0), "claimed just now");
    run("UPDATE highwater.consumer_offset SET claimed_at = now() - interval '61 s'").await;
    assert_eq!(lag().await, unknown, "claimed, and nothing was ever reported of it");
    run("UPDATE highwater.partition_status SET epoch = 6, ends_as_of = now() - interval '61 s'").await;
    assert_eq!(lag().await, unknown, "what the former claim has left");

    // Somebody looks.
    run("UPDATE highwater.consumer_offset SET owner = NULL").await;
    run("INSERT INTO highwater.partition_survey (group_id, topic, partition, next_offset, last_stable_offset, \
           log_end_offset, loss_at, class, surveyed_at, surveyed_by) \
         VALUES ('g', 't', 0, 7, 7, 7, 'infinity', 'UNOWNED', now() - interval '5 s', gen_random_uuid())")
        .await;
    assert_eq!(lag().await, (Some(0), 0), "seen just now");
    run("UPDATE highwater.consumer_offset SET next_offset = 8").await;
    assert_eq!(lag().await, unknown, "it has passed what was seen");
    run("UPDATE highwater.partition_survey SET next_offset = 8").await;
    assert_eq!(lag().await, (Some(0), 0), "it stood behind the end when it was looked at");
    run("UPDATE highwater.partition_survey SET surveyed_at = now() - interval '61 s'").await;
    assert_eq!(lag().await, unknown, "nobody looks any more");
    run("UPDATE highwater.partition_survey SET last_stable_offset = 9, log_end_offset = 9").await;
    assert_eq!(lag().await.0, Some(1), "at least");
}

#[tokio::test]
async fn clocks_differ_by_a_little() {
    let (database, _reporter) = reporter().await;
    database
        .execute(
            "INSERT INTO highwater.consumer_offset (group_id, topic, partition, next_offset) VALUES ('g', 't', 0, 7); \
             INSERT INTO highwater.partition_survey (group_id, topic, partition, next_offset, last_stable_offset, \
               log_end_offset, class, surveyed_at, surveyed_by) \
             VALUES ('g', 't', 0, 7, 9, 9, 'UNOWNED', now(), gen_random_uuid())",
        )
        .await
        .unwrap();
    for (ahead, age) in [(4, Some(0.0)), (9, None)] {
        let dated = format!(
            "UPDATE highwater.partition_survey SET next_record_timestamp = clock_timestamp() + interval '{ahead} s'"
        );
        database.execute(&dated).await.unwrap();
        let said = database.query("SELECT lag_seconds FROM highwater.lag", &[]).await.unwrap();
        assert_eq!(said[0].get::<_, Option<f64>>(0), age, "{ahead} s ahead");
    }
}

/// Somebody has the row of one partition, and goes for lunch: of the others everything is told.
#[tokio::test]
async fn it_is_written_around_what_somebody_has_locked() {
    const CLASSES: &str = "SELECT partition, class, lag_records FROM highwater.health \
                             JOIN highwater.lag USING (group_id, topic, partition) ORDER BY 1";
    let (database, mut reporter) = reporter().await;
    let me = reporter.db.identity.owner;
    let claims = "INSERT INTO highwater.consumer_offset (group_id, topic, partition, next_offset, epoch, owner) \
                  SELECT 'g', 't', p, 3, 7, $1 FROM generate_series(0, 2) p";
    database.query(claims, &[&me]).await.unwrap();
    let at = |partition, end| PartitionStatus {
        partition,
        last_stable_offset: Some(end),
        log_end_offset: Some(end),
        ..status(PartitionState::Running, Some(7))
    };
    let publish = |board: &StatusBoard, ends: [i64; 3]| {
        let partitions = (0..).zip(ends).map(|(partition, end)| at(partition, end));
        board.publish(true, None, partitions.collect());
    };
    publish(&reporter.board, [3, 3, 3]);
    reporter.turn(None).await.unwrap();
    let silent = "INSERT INTO highwater.worker_status SELECT $1::uuid, 'g', NULL, 'p', 'v', 'h', 1, now(), now(), NULL, \
                    'running', true, NULL, 3, 0, 0, 0, 0, 0";
    database.query(silent, &[&me]).await.unwrap();
    let long_ago = "UPDATE highwater.worker_status SET heartbeat_at = clock_timestamp(), \
                      reported_at = clock_timestamp() - interval '70 s'; \
                    UPDATE highwater.partition_status SET updated_at = clock_timestamp() - interval '70 s'";
    let classes = async || {
        database
            .execute("UPDATE highwater.worker_status SET heartbeat_at = clock_timestamp()")
            .await
            .unwrap();
        let rows = database.query(CLASSES, &[]).await.unwrap();
        let said = |row: &tokio_postgres::Row| (row.get::<_, String>(1), row.get::<_, Option<i64>>(2));
        rows.iter().map(said).collect::<Vec<_>>()
    };
    database.execute(long_ago).await.unwrap();
    let lunch = database.client().await.unwrap();
    lunch
        .batch_execute("BEGIN; UPDATE highwater.partition_status SET detail = detail WHERE partition = 1")
        .await
        .unwrap();
    // Of the first there is news, of the second as well, of the third is none.
    publish(&reporter.board, [5, 6, 3]);
    let left = reporter.turn(None).await.unwrap_err().to_string();
    assert!(left.contains("locked 1 of its rows") && left.contains("t[1]"), "{left}");
    let stop = || ("STOP".to_owned(), None);
    let ok = |lag| ("OK".to_owned(), Some(lag));
    assert_eq!(classes().await, [ok(2), stop(), ok(0)]);
    // Without waiting for it now.
    publish(&reporter.board, [8, 6, 3]);
    let began = Instant::now();
    assert!(reporter.turn(None).await.is_err());
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(classes().await, [ok(5), stop(), ok(0)]);
    lunch.batch_execute("ROLLBACK").await.unwrap();
    reporter.turn(None).await.unwrap();
    assert_eq!(classes().await, [ok(5), ok(3), ok(0)]);
    assert!(reporter.around.is_none());
}

/// A worker that began before `highwater migrate`, once that is done.
#[tokio::test]
async fn beats_say_all_that_the_tables_have_once_they_are_migrated() {
    let (database, reporter) = reporter().await;
    let config = config(&database);
    let (taken, _) = tokio::sync::mpsc::unbounded_channel();
    let heart =
        Heartbeat::new(Arc::clone(&reporter.db), Arc::clone(&reporter.board), Arc::default(), taken, &config);
    let beat = async || {
        heart.write(&reporter.db.status().await.unwrap()).await.unwrap();
        let said = "SELECT num_nulls(reported_at, processing_deadline_seconds) FROM highwater.worker_status";
        database.query(said, &[]).await.unwrap()[0].get::<_, i32>(0)
    };
    let rename = async |from: &str, to: &str| {
        let sql = format!("ALTER TABLE highwater.worker_status RENAME {from} TO {to}");
        database.execute(&sql).await.unwrap();
    };
    rename("reported_at", "later").await;
    heart.write(&reporter.db.status().await.unwrap()).await.unwrap();
    rename("later", "reported_at").await;
    assert_eq!(beat().await, 2);
    heart.look_anew();
    assert_eq!(beat().await, 0);
}

#[test]
fn silence_is_told_once() {
    let mut failing = Failing::default();
    let began = Instant::now();
    let told = [0, 9, 10, 11, 60].map(|seconds| failing.again(began + Duration::from_secs(seconds)));
    assert_eq!(told, [false, false, true, false, false]);
    assert!(failing.ended() && !failing.ended());
    assert!(!failing.again(began) && !failing.ended(), "nobody was told");
}

/// What is not committed is to be applied, too, where it is read.
#[test]
fn one_that_reads_uncommitted_records_reports_how_far_it_reads() {
    let seen = PartitionStatus {
        last_stable_offset: Some(7),
        log_end_offset: Some(9),
        ..status(PartitionState::Running, Some(1))
    };
    for (isolation, end) in [(Isolation::ReadCommitted, 7), (Isolation::ReadUncommitted, 9)] {
        let line = Line::of(&seen, &Policies::halting(), &Writes::default(), isolation);
        assert_eq!((line.last_stable_offset, line.log_end_offset), (Some(end), Some(9)));
    }
}

/// In a hand-over the lag stays known, as old as it is: the former claim's ends, until this one has its own.
#[tokio::test]
async fn what_a_former_claim_knew_stands_until_this_one_knows_more() {
    const SEEN: &str = "SELECT lag_records, uncommitted_records, lag_seconds IS NOT NULL, \
                          extract(epoch FROM clock_timestamp() - as_of)::float8 FROM highwater.lag";
    let (database, mut reporter) = reporter().await;
    let run = async |sql: &str| database.query(sql, &[]).await.unwrap();
    let lag = async || {
        let row = database.query(SEEN, &[]).await.unwrap().remove(0);
        let age: f64 = row.get(3);
        ((row.get(0), row.get(1), row.get(2)), age)
    };
    run("INSERT INTO highwater.consumer_offset (group_id, topic, partition, next_offset, epoch) VALUES ('g', 't', 0, 3, 5)")
        .await;
    run(
        "INSERT INTO highwater.worker_status VALUES (gen_random_uuid(), 'g', NULL, 'p', 'v', 'h', 1, now(), \
           now() - interval '10 s', NULL, 's', true, NULL, 0, 0, 0, 0, 0, 0)",
    )
    .await;
    run("INSERT INTO highwater.partition_status (group_id, topic, partition, epoch, owner, state, updated_at, \
           last_stable_offset, log_end_offset, next_record_timestamp, stood_at) \
         SELECT 'g', 't', 0, 5, owner, 'running', now() - interval '1 h', 7, 9, 'epoch', 3 FROM highwater.worker_status")
        .await;
    // Released, and not claimed yet.
    for _ in 0..2 {
        report(&mut reporter, status(PartitionState::Claiming, None)).await;
        let (seen, age) = lag().await;
        assert_eq!(seen, (Some(4_i64), Some(2_i64), true));
        assert!((9.9..60.0).contains(&age), "as old as the former's last sign of life: {age}");
    }
    // It had come further than its owner had looked.
    run("UPDATE highwater.consumer_offset SET next_offset = 8").await;
    assert_eq!(lag().await.0, (None, None, false), "not 0");

    let me = reporter.db.identity.owner;
    let claim = "UPDATE highwater.consumer_offset SET epoch = 6, owner = $1";
    database.query(claim, &[&me]).await.unwrap();
    let own = PartitionStatus {
        log_end_offset: Some(20),
        last_stable_offset: Some(20),
        next_offset: Some(8),
        ..status(PartitionState::Running, Some(6))
    };
    report(&mut reporter, own.clone()).await;
    let (seen, age) = lag().await;
    assert_eq!(seen, (Some(12), Some(0), false), "of another record nothing is known");
    assert!(age < 9.0, "{age}");
    report(&mut reporter, PartitionStatus { next_record_timestamp_ms: Some(5), ..own.clone() }).await;
    report(&mut reporter, own.clone()).await;
    assert_eq!(lag().await.0, (Some(12), Some(0), true), "the record stands there still");
    // Its leader does not answer any more, and somebody has looked long before this claim.
    run("INSERT INTO highwater.partition_survey (group_id, topic, partition, next_offset, last_stable_offset, \
           log_end_offset, class, surveyed_at, surveyed_by) \
         VALUES ('g', 't', 0, 2, 3, 3, 'UNOWNED', now() - interval '30 min', gen_random_uuid())")
        .await;
    run("INSERT INTO highwater.worker_status SELECT owner, 'g', NULL, 'p', 'v', 'h', 1, now(), now(), NULL, 's', true, \
           NULL, 0, 0, 0, 0, 0, 0 FROM highwater.consumer_offset")
        .await;
    let silent = || PartitionStatus { next_offset: Some(8), ..status(PartitionState::Running, Some(6)) };
    report(&mut reporter, silent()).await;
    let (seen, age) = lag().await;
    assert_eq!((seen.0, seen.1), (None, None), "not what was told last, nor what was seen before");
    assert!(age < 9.0, "{age}");
    run("DELETE FROM highwater.partition_survey").await;
    report(&mut reporter, own).await;
    assert_eq!(lag().await.0.0, Some(12), "it answers again");

    // Somebody has looked while nobody held it, and what he has seen is newer.
    run("UPDATE highwater.consumer_offset SET epoch = 7, owner = NULL").await;
    run("UPDATE highwater.partition_status SET updated_at = now() - interval '1 h'").await;
    run("INSERT INTO highwater.partition_survey (group_id, topic, partition, next_offset, last_stable_offset, \
           log_end_offset, class, surveyed_at, surveyed_by) \
         VALUES ('g', 't', 0, 8, 30, 30, 'UNOWNED', now() - interval '30 min', gen_random_uuid())")
        .await;
    report(&mut reporter, status(PartitionState::Claiming, None)).await;
    let (seen, age) = lag().await;
    assert_eq!((seen.0, age > 1_790.0 && age < 1_900.0), (Some(22), true), "{age}");
    database.query("UPDATE highwater.consumer_offset SET owner = $1", &[&me]).await.unwrap();
    assert_eq!(lag().await.0.0, Some(22), "also under the new claim, which knows nothing itself");
}

#[test]
fn a_text_is_printable_and_not_endless() {
    assert_eq!(printable("a\0b\u{7}\n\u{1b}[31m\tü"), "a\u{FFFD}b\u{FFFD}\n\u{FFFD}[31m\tü");
    assert_eq!(printable(&"ü".repeat(TEXT_LIMIT)), "ü".repeat(TEXT_LIMIT));
    assert_eq!(printable(&"ü".repeat(TEXT_LIMIT + 1)), "ü".repeat(TEXT_LIMIT) + "…");
    assert_eq!(ascii("a…ü"), "a??");
}
