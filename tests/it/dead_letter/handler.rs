//! `Tx::reject`, and what a policy of `halt` makes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use highwater::config::OnRejected;
use highwater::{Batch, Handler, HandlerError, RejectPolicy, Tx, Worker};

use super::{BAD, calls};
use crate::support::topics::halted_of;
use crate::support::watch::halted;
use crate::support::{Sink, TestResult, World};

/// Rejects the bad ones, and writes the others.
struct Selective {
    calls: Arc<AtomicUsize>,
    /// Keeps to itself that a rejection was refused.
    swallows: bool,
}

impl Handler for Selective {
    async fn handle(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let (mut partitions, mut offsets) = (Vec::new(), Vec::new());
        for record in batch {
            if record.key() == Some(BAD.as_bytes()) {
                let rejected = tx.reject(&record, "the account is closed");
                assert_eq!(tx.has_rejected(&record), rejected.is_ok());
                if !self.swallows {
                    rejected?;
                }
                continue;
            }
            partitions.push(record.partition());
            offsets.push(record.offset());
        }
        let insert = "INSERT INTO sink SELECT '', * FROM unnest($1::int4[], $2::int8[])";
        tx.execute(insert, &[&partitions, &offsets]).await?;
        Ok(())
    }
}

#[tokio::test]
async fn core_a_handler_rejects_some_and_goes_on() -> TestResult {
    let world = World::new("selective", 1).await?;
    world.send_with_bad(0, 300, |n| n % 10 == 0 || n == 299)?;
    world.producer.flush().await?;
    let count = Arc::new(AtomicUsize::new(0));
    let settings = world.setting_aside().batch_max_records(100_usize);
    let worker = world.worker_with(settings, Selective { calls: Arc::clone(&count), swallows: false });
    world.caught_up().await?;
    world.assert_rows_and_letters("sink").await?;
    assert_eq!(world.letters().await?.len(), 31);
    worker.stop().await?;
    let made = calls(&count, |count| count);
    // As many as there are batches, however many of the records are bad.
    assert!(made <= 20, "{made} calls");
    Ok(())
}

#[tokio::test]
async fn core_where_the_policy_is_halt_it_halts_there() -> TestResult {
    for swallows in [false, true] {
        let world = World::new("refused", 1).await?;
        world.send_with_bad(0, 100, |n| n == 60 || n == 70)?;
        world.producer.flush().await?;
        let worker = world.worker(Selective { calls: Arc::default(), swallows });
        let why = halted(&worker, 0).await?;
        let expected = format!(
            "record {topic}[0]@60 was rejected: the account is closed; the records before it are applied; correct the data or \
             the handler, then `highwater partitions retry {place}`, or step over it: `highwater partitions skip {place} \
             --to 61 --reason …`",
            topic = world.topic,
            place = format!("--group {} --topic {}:0", world.group, world.topic),
        );
        assert_eq!(why, expected);
        assert_eq!(world.next_offset(0).await?, Some(60));
        assert_eq!(world.database.count("sink").await?, 60);
        world.assert_no_letters().await?;
        worker.stop().await?;
    }
    Ok(())
}

/// One batch of two routes: what one of them sets aside, the other halts for.
#[tokio::test]
async fn core_two_routes_with_a_policy_each() -> TestResult {
    let mut world = World::new("routes", 1).await?;
    let strict = format!("{}.strict", world.topic);
    world.another_topic((&strict, 1)).await?;
    world.send_with_bad(0, 100, |n| n % 20 == 5)?;
    world
        .at((&strict, 1), async |world| {
            world.send_with_bad(0, 100, |n| n == 33)?;
            world.producer.flush().await?;
            Ok(())
        })
        .await?;
    world.producer.flush().await?;
    let settings = world
        .settings()
        .on_rejected(OnRejected::DeadLetter)
        .topics(vec![strict.clone(), world.topic.clone()])
        .lanes(1_usize);
    let worker = Worker::builder()
        .ignore_environment()
        .settings(settings)
        .route(&*world.topic, Sink { fault: super::Named::default(), rows_only: true })
        .route(&*strict, Sink { fault: super::Named::default(), rows_only: true })
        .on_rejected(&*strict, RejectPolicy::halt())
        .build_routed()?
        .spawn();
    let why = halted_of(&worker, &strict, 0).await?;
    assert!(why.contains("@33 was rejected"), "{why}");
    world.reached(0, 100).await?;
    let letters = "SELECT count(*), min(topic), max(topic), min(handler) FROM highwater.dead_letter";
    let letters = &world.database.query(letters, &[]).await?[0];
    assert_eq!(letters.get::<_, i64>(0), 5);
    for column in 1..4 {
        assert_eq!(letters.get::<_, &str>(column), world.topic);
    }
    assert_eq!(world.database.count("sink").await?, 95 + 33);
    worker.stop().await?;
    Ok(())
}
