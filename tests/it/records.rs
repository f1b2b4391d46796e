//! All kinds of records, and places where there is none.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use highwater::testing::{Message, Oracle, unique, wait_until};
use highwater::{HandlerError, Record};

use crate::support::watch::status_until;
use crate::support::{Fault, PATIENCE, Setup, Sink, TestResult, World};

type Seen = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>, Option<i64>);

/// Notes what the handler was shown.
#[derive(Default)]
struct Notes(Mutex<BTreeMap<(i32, i64), Seen>>);

impl Fault for Notes {
    fn record(&self, record: &Record<'_>) -> Result<(), HandlerError> {
        let headers = record.headers().map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec)));
        let seen = (
            record.key().map(<[u8]>::to_vec),
            record.value().map(<[u8]>::to_vec),
            headers.collect(),
            record.timestamp_ms(),
        );
        self.0.lock().expect("no panic").insert((record.partition(), record.offset()), seen);
        Ok(())
    }
}

/// The handler sees exactly what an ordinary consumer sees.
async fn assert_seen(world: &World<'_>, notes: &Notes) -> TestResult {
    let expected: BTreeMap<_, Seen> = world
        .kafka
        .read(&world.topic)
        .await?
        .into_iter()
        .map(|record| {
            (
                (record.partition, record.offset),
                (record.key, record.value, record.headers, record.timestamp_ms),
            )
        })
        .collect();
    assert!(*notes.0.lock().expect("no panic") == expected, "a record differs from what Kafka has");
    Ok(())
}

#[tokio::test]
async fn core_tombstones_null_keys_empty_values_and_headers() -> TestResult {
    let world = World::new("kinds", 2).await?;
    for partition in 0..2 {
        let to = || world.message(partition);
        for message in [
            to(),
            to().key("a"),
            to().value("5"),
            to().key("").value(""),
            to().key(vec![0xff, 0x00]).value(vec![0x00, 0xfe]),
            to().key("a").value("7").header("trace", "1").header("trace", "2").header("empty", ""),
            to().key("a").value("7").timestamp_ms(1_700_000_000_123),
        ] {
            world.producer.send(message)?;
        }
    }
    world.producer.flush().await?;
    let notes = Arc::new(Notes::default());
    let worker = world.worker(Sink { fault: Arc::clone(&notes), rows_only: true });
    world.caught_up().await?;
    world.assert_exact(false).await?;
    assert_seen(&world, &notes).await?;
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn core_an_oversized_record_is_a_batch_of_its_own() -> TestResult {
    let world = World::new("oversized", 2).await?;
    // Far beyond a batch's bytes, and nearly the whole budget.
    let sizes = [10, 900_000, 10, 10, 100_000, 950_000, 10];
    for partition in 0..2 {
        for (n, size) in sizes.into_iter().enumerate() {
            let value = format!("{n} {}", "x".repeat(size));
            world.producer.send(world.message(partition).key("k").value(value))?;
        }
    }
    world.producer.flush().await?;
    let settings = world.settings().buffer_budget(1_usize << 20).batch_max_bytes(64_usize << 10);
    let worker = world.worker_with(settings, Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

/// As large as Kafka lets a record be when asked to: beyond the budget, and beyond the client's fetch size.
#[tokio::test]
async fn a_record_larger_than_the_budget_goes_through() -> TestResult {
    use highwater::testing::{Kafka, Postgres};
    let (kafka, postgres) = tokio::try_join!(Kafka::shared(), Postgres::shared())?;
    let config = [("max.message.bytes", "20000000")];
    let world = World::with("huge", Setup { kafka, postgres, partitions: 1, topic_config: &config }).await?;
    world.produce(3).await?;
    let (bootstrap, topic) = (kafka.bootstrap().to_owned(), world.topic.clone());
    let sent = tokio::task::spawn_blocking(move || {
        use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
        let mut config = highwater::testing::quiet_client_config(&bootstrap);
        let producer: BaseProducer = config.set("message.max.bytes", "20000000").create()?;
        let value = format!("4 {}", "x".repeat(17_500_000));
        let record = BaseRecord::to(&topic).partition(0).key("huge").payload(&value);
        producer.send(record).map_err(|(error, _)| error)?;
        producer.flush(Duration::from_secs(30))
    });
    sent.await??;
    world.producer.ledger().record(&world.topic, 0, 3);
    world.produce(3).await?;
    let settings = world.settings().buffer_budget(1_usize << 20).batch_max_bytes(64_usize << 10);
    let worker = world.worker_with(settings, Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn core_an_empty_topic_is_ready_and_mirrored_at_zero() -> TestResult {
    let world = World::new("empty", 3).await?;
    let worker = world.worker(Sink::<()>::default());
    let status = status_until(&worker, "all is mirrored", |status| {
        status.ready
            && status.partitions.len() == 3
            && status.partitions.iter().all(|status| status.mirrored_offset == Some(0))
    })
    .await?;
    assert!(status.partitions.iter().all(|status| status.next_offset == Some(0)), "{status:?}");
    assert_eq!(
        world.kafka.committed(&world.group, &world.topic, 2).await?.map(|(offset, _)| offset),
        Some(0)
    );
    world.produce(5).await?;
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

/// Markers and aborted records are no records: `next_offset` passes them, and Kafka's own tool sees no lag.
#[tokio::test]
async fn core_transactions_and_their_markers_leave_no_lag() -> TestResult {
    let world = World::new("aborted", 2).await?;
    let producer = world.kafka.transactional_producer(&unique("tx")).await?;
    let worker = world.worker(Sink::<()>::default());
    let send = |partition, count| -> TestResult {
        producer.begin()?;
        for n in 0..count {
            producer.send(Message::to(&world.topic).partition(partition).key("t").value(format!("{n}")))?;
        }
        Ok(())
    };
    for round in 0..6 {
        for partition in 0..2 {
            send(partition, 5)?;
            if (round + partition) % 2 == 0 { producer.commit().await? } else { producer.abort().await? }
        }
        if round == 2 {
            world.caught_up().await?;
        }
    }
    // Partition 0 ends with markers of aborted transactions only, partition 1 with those of a committed one.
    send(0, 3)?;
    producer.abort().await?;
    world.caught_up().await?;
    let client = world.database.client().await?;
    let rows = "SELECT source_partition, source_offset FROM sink";
    Oracle::new(producer.ledger(), &world.topic).compare(&client, rows).await?.assert_exact();
    world.assert_balances().await?;

    // An open transaction holds back what is behind it, and nothing of it is applied.
    send(0, 4)?;
    producer.flush().await?;
    let before = world.next_offset(0).await?;
    world.producer.send(world.message(0).key("late").value("1"))?;
    world.producer.send(world.message(1).key("late").value("1"))?;
    world.producer.flush().await?;
    let (_, end) = world.kafka.watermarks(&world.topic, 1).await?;
    world.reached(1, end).await?;
    assert_eq!(world.next_offset(0).await?, before);
    producer.commit().await?;
    world.caught_up().await?;
    let oracle = Oracle::new(producer.ledger(), &world.topic).and(world.producer.ledger(), &world.topic);
    oracle.compare(&client, rows).await?.assert_exact();
    world.assert_balances().await?;

    status_until(&worker, "the mirror has the ends", |status| {
        status.partitions.len() == 2
            && status.partitions.iter().all(|status| status.mirrored_offset == status.next_offset)
    })
    .await?;
    let description = wait_until("Kafka's tool sees no lag", PATIENCE, async || {
        let description = world.kafka.describe_group(&world.group).await?;
        let done = description.rows.len() == 2 && description.rows.iter().all(|row| row.lag == Some(0));
        Ok(done.then_some(description))
    })
    .await?;
    let client_id = description.rows[0].client_id.clone().unwrap_or_default();
    assert!(client_id.starts_with("highwater/"), "{}", description.raw);
    worker.stop().await?;
    let description = world.kafka.describe_group(&world.group).await?;
    assert!(
        description.rows.iter().all(|row| row.lag == Some(0) && row.consumer_id.is_none()),
        "{description:?}"
    );
    Ok(())
}

/// 32 partitions over two lanes share their commits.
#[tokio::test]
async fn core_many_partitions_share_commits() -> TestResult {
    let world = World::new("many", 32).await?;
    let worker = world.worker_with(world.settings().lanes(2_usize), Sink::<()>::default());
    status_until(&worker, "it is ready", |status| status.ready && status.partitions.len() == 32).await?;
    let before = worker.status().counters.commits;
    for round in 1..=10 {
        world.produce(3).await?;
        wait_until("all of the round is applied", PATIENCE, async || {
            Ok((worker.status().counters.applied_records == round * 32 * 3).then_some(()))
        })
        .await?;
    }
    world.verify().await?;
    let status = worker.status();
    assert_eq!(status.counters.applied_records, 32 * 30);
    let commits = status.counters.commits - before;
    assert!(commits < 160, "{commits} commits for 10 times 32 partitions");
    worker.stop().await?;
    Ok(())
}
