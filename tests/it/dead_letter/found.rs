//! However a bad record is found, it alone is set aside.

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater::testing::{Kafka, Postgres, Result};

use super::{Named, Unnamed, calls};
use crate::support::{Fault, PATIENCE, Setup, Sink, TestResult, World};

/// Where bad records are, by partition: one in 500, ten, the edges of batches, all of them.
fn is_bad(partition: i32, n: usize) -> bool {
    match partition {
        0 => n == 250,
        1 => n % 50 == 7,
        2 => matches!(n, 0 | 1 | 99 | 100 | 199 | 200 | 399 | 498 | 499),
        _ => true,
    }
}

const COUNTS: [usize; 4] = [500, 500, 500, 60];

fn expected() -> BTreeSet<(i32, i64)> {
    let all = (0_i32..).zip(COUNTS);
    let of =
        |(partition, count)| (0..count).filter(move |n| is_bad(partition, *n)).map(move |n| (partition, n));
    all.flat_map(of).map(|(partition, n)| (partition, i64::try_from(n).expect("small"))).collect()
}

async fn world(hint: &str) -> Result<World<'static>> {
    let world = World::new(hint, 4).await?;
    for (partition, count) in (0_i32..).zip(COUNTS) {
        world.send_with_bad(partition, count, |n| is_bad(partition, n))?;
    }
    world.producer.flush().await?;
    Ok(world)
}

async fn sets_aside<F: Fault>(world: &World<'_>, fault: &Arc<F>) -> TestResult {
    let settings = world.setting_aside().batch_max_records(100_usize).batch_target_records(100_usize);
    let worker = world.worker_with(settings, Sink { fault: Arc::clone(fault), rows_only: false });
    assert_eq!(world.verify_with_letters().await?, expected());
    let rejected: u64 = worker.monitor().metrics().dead_letters.iter().map(|(_, count)| count).sum();
    assert_eq!(rejected, expected().len() as u64);
    let applied = 1_560 - rejected;
    assert_eq!(worker.status().counters.applied_records, applied, "dead letters are not applied");
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn core_records_that_the_handler_names() -> TestResult {
    let world = world("named").await?;
    let fault = Arc::new(Named::default());
    sets_aside(&world, &fault).await?;
    let calls = calls(&fault, |fault| &fault.calls);
    // Each costs the call that names it, and one for what was before it.
    let bound = 2 * expected().len() + 1_560 / 20;
    assert!(calls <= bound, "{calls} calls for {} bad records, and not {bound}", expected().len());
    let kinds =
        "SELECT count(DISTINCT fingerprint), min(handler), min(attempts)::text FROM highwater.dead_letter";
    let kinds = &world.database.query(kinds, &[]).await?[0];
    assert_eq!(
        (kinds.get::<_, i64>(0), kinds.get::<_, &str>(1), kinds.get::<_, &str>(2)),
        (1, "it", "1"),
        "offsets in the reason are one kind"
    );
    Ok(())
}

#[tokio::test]
async fn core_records_that_only_the_database_finds() -> TestResult {
    let world = world("unnamed").await?;
    world.database.execute("ALTER TABLE balances ADD CONSTRAINT good CHECK (account <> 'bad')").await?;
    let fault = Arc::new(Unnamed::default());
    sets_aside(&world, &fault).await?;
    let calls = calls(&fault, |fault| &fault.calls);
    // Narrowing by halves, and widening again.
    let bound = 18 * expected().len() + 1_560 / 20;
    assert!(calls <= bound, "{calls} calls for {} bad records, and not {bound}", expected().len());
    let why = "SELECT DISTINCT sqlstate, reason FROM highwater.dead_letter";
    let why = world.database.query(why, &[]).await?;
    assert_eq!(why.len(), 1);
    assert_eq!(why[0].get::<_, &str>(0), "23514");
    let reason: &str = why[0].get(1);
    assert!(reason.contains("constraint good") && !reason.contains("bad"), "no value in it: {reason}");
    Ok(())
}

/// A deferred constraint speaks at COMMIT only.
#[tokio::test]
async fn core_records_that_appear_at_commit() -> TestResult {
    let world = world("deferred").await?;
    world
        .database
        .execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
               IF NEW.account = 'bad' THEN RAISE EXCEPTION 'account % is closed', NEW.account; END IF; RETURN NULL; END $$; \
             CREATE CONSTRAINT TRIGGER late AFTER INSERT OR UPDATE ON balances DEFERRABLE INITIALLY DEFERRED \
               FOR EACH ROW EXECUTE FUNCTION refuse()",
        )
        .await?;
    sets_aside(&world, &Arc::new(Unnamed::default())).await?;
    let reason = "SELECT count(*) FROM highwater.dead_letter WHERE sqlstate = 'P0001' AND reason LIKE '%function refuse%' \
                  AND reason NOT LIKE '%bad%'";
    assert_eq!(world.number(reason).await?, i64::try_from(expected().len())?);
    Ok(())
}

#[tokio::test]
async fn batches_of_one() -> TestResult {
    let world = World::new("of-one", 1).await?;
    world.send_with_bad(0, 30, |n| n % 3 == 0)?;
    world.producer.flush().await?;
    let settings = world.setting_aside().batch_max_records(1_usize);
    let worker = world.worker_with(settings, Sink { fault: Named::default(), rows_only: false });
    assert_eq!(world.verify_with_letters().await?.len(), 10);
    worker.stop().await?;
    Ok(())
}

/// Two partitions in one batch, each with a bad record; and what is prepared ahead meanwhile.
#[tokio::test]
async fn in_a_lane_that_is_behind() -> TestResult {
    let world = World::new("behind", 3).await?;
    for partition in 0..3 {
        world.send_with_bad(partition, 400, |n| n % 90 == 45)?;
    }
    world.producer.flush().await?;
    let settings =
        world.setting_aside().lanes(1_usize).batch_max_records(30_usize).batch_target_records(10_usize);
    let worker = world.worker_with(settings, Sink { fault: Named::default(), rows_only: false });
    assert_eq!(world.verify_with_letters().await?.len(), 12);
    worker.stop().await?;
    Ok(())
}

/// Everything that the record had, byte for byte.
#[tokio::test]
async fn core_a_dead_letter_is_the_record_whole() -> TestResult {
    let world = World::new("whole", 1).await?;
    let value = |text: &[u8]| [text, &[0, 0xff, 0xfe, 0]].concat();
    let bad = || world.message(0).key("bad");
    for message in [
        bad()
            .value(value(b"\x00not text"))
            .header("a", vec![0, 1, 0xff])
            .header("a", "")
            .timestamp_ms(1_700_000_000_123),
        bad(),
        bad().value(""),
        bad().value(vec![b'x'; 900_000]),
    ] {
        world.producer.send(message)?;
    }
    world.producer.flush().await?;
    let worker = world.worker_with(world.setting_aside(), Sink { fault: Named::default(), rows_only: false });
    assert_eq!(world.verify_with_letters().await?.len(), 4);
    worker.stop().await?;
    let sql = "SELECT record_key, record_value, header_names, header_values, timestamp_ms, timestamp_type::int4, \
                 key_hash = sha256(record_key), d.worker IS NOT NULL, d.topic_id <> '' \
               FROM highwater.dead_letter d JOIN highwater.dead_letter_payload USING (dead_letter_id) ORDER BY record_offset";
    let kept = world.database.query(sql, &[]).await?;
    for (kept, record) in kept.iter().zip(world.kafka.read(&world.topic).await?) {
        assert_eq!(kept.get::<_, Option<Vec<u8>>>(0), record.key);
        assert!(kept.get::<_, Option<Vec<u8>>>(1) == record.value, "the value of {}", record.offset);
        let names: Vec<Vec<u8>> = kept.get(2);
        let values: Vec<Option<Vec<u8>>> = kept.get(3);
        let names = names.into_iter().map(|name| String::from_utf8(name).expect("these are text"));
        assert_eq!(names.zip(values).collect::<Vec<_>>(), record.headers);
        assert_eq!(kept.get::<_, Option<i64>>(4), record.timestamp_ms);
        assert_eq!(kept.get::<_, Option<i32>>(5), Some(0), "CreateTime");
        assert!(
            [6, 7, 8].into_iter().all(|fact| kept.get(fact)),
            "the hash of the key, the worker, the topic's id"
        );
    }
    Ok(())
}

/// As large as a topic may be told to let records be: stored whole, and redriven as it was.
#[tokio::test]
async fn core_ten_megabytes_are_stored_whole() -> TestResult {
    let (kafka, postgres) = tokio::try_join!(Kafka::shared(), Postgres::shared())?;
    let config = [("max.message.bytes", "20000000")];
    let world =
        World::with("ten-mb", Setup { kafka, postgres, partitions: 1, topic_config: &config }).await?;
    world.send_with_bad(0, 3, |_| false)?;
    world.producer.flush().await?;
    // More bytes than texts may have: zeros, too.
    let value: Vec<u8> = (0..10_000_000_u32).flat_map(|n| n.to_le_bytes()[..1].to_vec()).collect();
    let (bootstrap, topic, sent) = (kafka.bootstrap().to_owned(), world.topic.clone(), value.clone());
    let sent = tokio::task::spawn_blocking(move || {
        use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
        let mut config = highwater::testing::quiet_client_config(&bootstrap);
        let producer: BaseProducer = config.set("message.max.bytes", "20000000").create()?;
        let record = BaseRecord::to(&topic).partition(0).key("bad").payload(&sent);
        producer.send(record).map_err(|(error, _)| error)?;
        producer.flush(PATIENCE)
    });
    sent.await??;
    world.producer.ledger().record(&world.topic, 0, 3);
    world.send_with_bad(0, 5, |n| n == 2)?;
    world.producer.flush().await?;
    let settings = world.setting_aside().buffer_budget(1_usize << 20).batch_max_bytes(64_usize << 10);
    let worker = world.worker_with(settings, Sink { fault: Named::default(), rows_only: false });
    let letters = world.verify_with_letters().await?;
    assert_eq!(letters.into_iter().collect::<Vec<_>>(), [(0, 3), (0, 6)]);
    worker.stop().await?;
    let kept = "SELECT record_value FROM highwater.dead_letter JOIN highwater.dead_letter_payload USING (dead_letter_id) \
                WHERE record_offset = 3";
    let kept: Option<Vec<u8>> = world.database.query(kept, &[]).await?[0].get(0);
    assert!(kept == Some(value), "byte for byte");
    Ok(())
}
