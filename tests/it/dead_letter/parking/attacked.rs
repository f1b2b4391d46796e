//! What an attacker has tried.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use highwater::config::OnRejected;
use highwater::testing::wait_until;
use highwater::{Batch, Handler, HandlerError, Record, Tx};

use super::Chain;
use crate::support::watch::halted;
use crate::support::{Fault, Gate, PATIENCE, Sink, TestResult, World};

/// Letters from before: later records of their keys are applied, and a redrive must say so, under whatever policy now.
#[tokio::test]
async fn core_what_was_overtaken_under_another_policy_is_in_no_order() -> TestResult {
    let world = World::chained("parked-late", 1).await?;
    // Parked, and then not: nothing waits behind those that did.
    let worker = world.chaining();
    world.reached(0, 60).await?;
    worker.stop().await?;
    let worker = world.worker_with(world.parking().on_rejected(OnRejected::DeadLetter), Chain);
    world.caught_up().await?;
    worker.stop().await?;
    let worker = world.chaining();
    world.said_to_park().await?;
    world.mend().await?;
    let dry = world.dead_letters("redrive", &["--dry-run"]).await?.ended(0).stdout;
    assert!(
        dry.contains("does more than append, and later records were applied since (--ignore-order)"),
        "{dry}"
    );
    assert!(dry.ends_with("no open dead letters fit that are eligible\n"), "{dry}");
    // From here on the order is kept again, also for what comes of those keys: it waits behind them.
    world.database.execute("UPDATE mended SET is_mended = false").await?;
    world.send_chained(0, 20, &[(7, "tx")])?;
    world.producer.flush().await?;
    world.caught_up().await?;
    let (open, parked) = world.waiting().await?;
    world.mend().await?;
    let mut done = world.unparked(&["--ignore-order"]).await?;
    assert_eq!(done["redriven"], open + parked, "{done}");
    world.send_chained(0, 40, &[(5, "good")])?;
    world.producer.flush().await?;
    world.caught_up().await?;
    assert_eq!(world.waiting().await?, (0, 0));
    done = world.dead_letters("redrives", &["--json"]).await?.ended(0).json();
    assert_eq!(done[0]["behind"], 0);
    worker.stop().await?;
    Ok(())
}

/// Many parked records, each slow to store, beside one for the handler: that one is not to blame.
#[tokio::test]
async fn none_is_blamed_for_what_takes_long_to_park() -> TestResult {
    let world = World::chained("parked-slow", 1).await?;
    world
        .database
        .execute(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.15); RETURN NEW; END $$; \
             CREATE TRIGGER slow BEFORE INSERT ON highwater.dead_letter \
               FOR EACH ROW WHEN (NEW.state = 'parked') EXECUTE FUNCTION slow()",
        )
        .await?;
    for n in 0..40 {
        let value = if n == 1 { "sql" } else { "good" };
        let key = if n % 20 == 19 { "innocent" } else { "hot" };
        world.producer.send(world.message(0).key(key).value(value))?;
    }
    world.producer.flush().await?;
    let worker = world.worker_with(world.parking().max_processing_time(Duration::from_secs(2)), Chain);
    world.verify_parked().await?;
    let innocent = "SELECT count(*) FROM highwater.dead_letter WHERE key_hash = sha256('innocent')";
    assert_eq!(world.number(innocent).await?, 0);
    worker.stop().await?;
    Ok(())
}

/// Holds every batch of partition 0 for a moment, so that another one is always prepared behind it.
struct Busy(Gate);

impl Handler for Busy {
    async fn handle(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        self.0.before(batch, tx).await?;
        for record in batch {
            let row: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
                [&record.topic(), &record.partition(), &record.offset()];
            tx.execute("INSERT INTO sink VALUES ($1, $2, $3)", &row).await?;
        }
        Ok(())
    }
}

/// A lane that never comes to rest reads the keys of the partitions that come to it all the same.
#[tokio::test]
async fn core_a_partition_is_not_starved_by_its_neighbours_backlog() -> TestResult {
    let world = World::new("parked-starved", 2).await?;
    for _ in 0..3_000 {
        world.producer.send(world.message(0).key("a").value("good"))?;
    }
    world.producer.flush().await?;
    let worker = world.worker_with(world.parking().lanes(1_usize), Busy(Gate::default()));
    world.reached(0, 200).await?;
    world.producer.send(world.message(1).key("b").value("good"))?;
    world.producer.flush().await?;
    world.reached(1, 1).await?;
    let busy = world.next_offset(0).await?;
    assert!(busy < Some(2_000), "{busy:?}");
    world.caught_up().await?;
    world.assert_exact(false).await?;
    worker.stop().await?;
    Ok(())
}

/// What cannot be read holds back those that park, says so, and holds up no other topic of the lane.
#[tokio::test]
async fn where_keys_cannot_be_read_others_go_on() -> TestResult {
    let world = World::chained("parked-unread", 1).await?;
    let other = format!("{}-other", world.topic);
    world.kafka.create_topic(&other, 1).await?;
    let role = &world.role.name;
    world.database.execute(&format!("REVOKE SELECT ON highwater.dead_letter FROM {role}")).await?;
    let settings = world
        .settings()
        .lanes(1_usize)
        .on_rejected(OnRejected::DeadLetter)
        .topics(vec![world.topic.clone(), other.clone()]);
    let built = highwater::Worker::builder()
        .ignore_environment()
        .settings(settings)
        .on_rejected(&*world.topic, highwater::RejectPolicy::park_key())
        .build(Sink { fault: (), rows_only: true });
    let worker = built.expect("the settings are valid").spawn();
    world.producer.send(highwater::testing::Message::to(&other).partition(0).key("a").value("1"))?;
    world.producer.flush().await?;
    let applied = format!("SELECT count(*) FROM sink WHERE source_topic = '{other}'");
    wait_until("the other topic is applied", PATIENCE, async || {
        Ok((world.number(&applied).await? == 1).then_some(()))
    })
    .await?;
    let why = "SELECT count(*) FROM highwater.partition_status WHERE detail LIKE '%cannot read which keys have dead letters%'";
    wait_until("it is said", PATIENCE, async || Ok((world.number(why).await? == 1).then_some(()))).await?;
    assert_eq!(world.next_offset(0).await?, Some(0));
    world.database.execute(&format!("GRANT SELECT ON highwater.dead_letter TO {role}")).await?;
    world.caught_up().await?;
    worker.stop().await?;
    Ok(())
}

/// One whose content is not kept holds back what is behind it; the redrive ends all the same, canary or not.
#[tokio::test]
async fn core_a_redrive_ends_where_a_content_is_not_kept() -> TestResult {
    let world = World::chained("parked-omitted", 1).await?;
    let worker = world.worker_with(world.parking().dead_letter_max_payload_bytes(1_000_usize), Chain);
    let large = "x".repeat(4_000);
    for value in ["tx", &large, "good"] {
        world.producer.send(world.message(0).key("c").value(value))?;
    }
    world.producer.flush().await?;
    world.verify_parked().await?;
    world.said_to_park().await?;
    world.mend().await?;
    let dry = world.dead_letters("redrive", &["--key", "c", "--dry-run"]).await?.ended(0).stdout;
    assert!(dry.contains("1 record: their content is not kept"), "{dry}");
    assert!(dry.contains("1 record: an earlier dead letter of their key waits"), "{dry}");
    let done = world.unparked(&["--key", "c", "--canary", "2"]).await?;
    assert_eq!((&done["state"], &done["redriven"], &done["waiting"]), (&"done".into(), &1.into(), &0.into()));
    world.verify_parked().await?;
    // Whoever decides about it lets the rest go on.
    world.dead_letters("discard", &["--key", "c", "--parked", "--reason", "r", "--dry-run"]).await?.ended(0);
    let omitted = "UPDATE highwater.dead_letter SET state = 'discarded' WHERE omitted_bytes IS NOT NULL";
    world.database.execute(omitted).await?;
    world.unparked(&[]).await?;
    world.verify_chains().await?;
    worker.stop().await?;
    Ok(())
}

/// An offset that was moved by hand, with no word of dead letters: they lie ahead, and hold up nothing before them.
#[tokio::test]
async fn core_letters_that_lie_ahead_hold_up_nothing() -> TestResult {
    let world = World::chained("parked-anew", 1).await?;
    let worker = world.chaining();
    world.verify_parked().await?;
    worker.stop().await?;
    let back = "DELETE FROM sink; DELETE FROM chain; \
                UPDATE highwater.consumer_offset SET next_offset = 0, claim_token = gen_random_uuid()";
    world.database.execute(back).await?;
    world.mend().await?;
    let worker = world.chaining();
    world.caught_up().await?;
    // All of it is there, in order, but for what lies behind letters that nobody has decided about.
    let behind = "SELECT count(*) FROM sink s JOIN highwater.dead_letter d ON d.record_offset = s.source_offset \
                  WHERE d.reason NOT LIKE 'parked%' AND d.state = 'open'";
    assert!(world.number(behind).await? > 0, "they were read again, and applied");
    let overtaken =
        "SELECT count(*) FROM chain WHERE offsets <> ARRAY(SELECT o FROM unnest(offsets) AS o ORDER BY o)";
    assert_eq!(world.number(overtaken).await?, 0);
    assert!(world.number("SELECT count(*) FROM sink").await? >= 120);
    worker.stop().await?;
    Ok(())
}

/// Mended, but the partition halts for a limit before a redrive can begin: where one is asked for, it waits for that.
#[tokio::test]
async fn core_at_a_limit_a_redrive_lets_a_hot_key_through() -> TestResult {
    let world = World::chained("parked-limit", 1).await?;
    for n in 0..60 {
        let value = if n == 0 { "tx" } else { "good" };
        world.producer.send(world.message(0).key("hot").value(value))?;
    }
    world.producer.flush().await?;
    let worker = world.worker_with(world.parking().dead_letter_max_in_a_row(Some(20)), Chain);
    let why = halted(&worker, 0).await?;
    assert!(why.contains("waits for another") && why.contains("more than 20 dead letters in a row"), "{why}");
    world.mend().await?;
    world.said_to_park().await?;
    world.dead_letters("redrive", &["--reason", "mended", "--execute"]).await?.ended(0);
    // What is told to try again is what is known to have halted.
    world.reported(0, &why).await?;
    world.partitions_command("retry", 0, &[]).await?.ended(0);
    world.caught_up().await?;
    wait_until("nothing waits", PATIENCE, async || {
        Ok((world
            .number("SELECT count(*) FROM highwater.dead_letter WHERE state IN ('open', 'parked')")
            .await?
            == 0)
            .then_some(()))
    })
    .await?;
    world.verify_chains().await?;
    worker.stop().await?;
    Ok(())
}

/// Rejects what is worth `tx` until it is mended.
#[derive(Default)]
struct Worthless(AtomicBool);

impl Fault for Worthless {
    fn record(&self, record: &Record<'_>) -> Result<(), HandlerError> {
        let is_worthless = record.value() == Some(b"tx") && !self.0.load(Ordering::SeqCst);
        if is_worthless { Err(HandlerError::reject(record, "worthless")) } else { Ok(()) }
    }
}

/// A key with thousands of records that wait: how long it takes to park, to pass, to count and to redrive them.
#[tokio::test]
#[ignore = "figures: cargo test --release --test it parking::attacked::figures -- --ignored --nocapture"]
async fn figures_of_a_hot_key() -> TestResult {
    let world = World::new("parked-hot-figures", 1).await?;
    let settings = world
        .parking()
        .dead_letter_max_per_minute(None)
        .dead_letter_max_per_million(None)
        .batch_max_records(2_000_usize);
    let fault = Arc::new(Worthless::default());
    let worker = world.worker_with(settings, Sink { fault: Arc::clone(&fault), rows_only: true });
    for count in [1_000, 10_000, 100_000] {
        fault.0.store(false, Ordering::SeqCst);
        let key = format!("hot{count}");
        for n in 0..count {
            world.producer.send(world.message(0).key(key.clone()).value(if n == 0 {
                "tx"
            } else {
                "good"
            }))?;
        }
        world.producer.flush().await?;
        let began = Instant::now();
        world.caught_up().await?;
        let parked = began.elapsed();
        world.said_to_park().await?;
        // The first of them is as bad as ever: all others are passed.
        let began = Instant::now();
        let done = world.unparked(&["--key", &key, "--timeout", "PT30M"]).await?;
        assert_eq!((&done["failed"], &done["behind"]), (&1.into(), &(count - 1).into()));
        let passed = began.elapsed();
        fault.0.store(true, Ordering::SeqCst);
        let began = Instant::now();
        world.dead_letters("redrive", &["--dry-run", "--key", &key]).await?.ended(0);
        let counted = began.elapsed();
        let began = Instant::now();
        let done = world.unparked(&["--key", &key, "--timeout", "PT30M"]).await?;
        assert_eq!(done["redriven"], count);
        println!(
            "{count} of one key: parked in {parked:?}, passed in {passed:?}, counted in {counted:?}, redriven in {:?}",
            began.elapsed()
        );
    }
    world.assert_exact(false).await?;
    worker.stop().await?;
    Ok(())
}
