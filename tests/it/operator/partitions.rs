//! Halt, pause, resume, skip and retry, while the fleet runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use highwater::offsets::{Order, Selection, Verb};
use highwater::testing::wait_until;
use highwater::{HandlerError, PartitionState, Record};

use crate::support::watch::{halted, status_until};
use crate::support::{Fault, PATIENCE, Process, Sink, TestResult, World};

/// Until a partition that stands still is believed to do so.
const STILL: Duration = Duration::from_millis(1_500);

/// Rejects one record for as long as it is armed.
#[derive(Default)]
struct Poison {
    disarmed: AtomicBool,
}

impl Fault for Poison {
    fn record(&self, record: &Record<'_>) -> Result<(), HandlerError> {
        if record.partition() == 1 && record.offset() == 7 && !self.disarmed.load(Ordering::SeqCst) {
            return Err(HandlerError::reject(record, "poison"));
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_paused_partition_waits_and_the_others_go_on() -> TestResult {
    let world = World::new("pause", 2).await?;
    world.produce(20).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    let said = world.partitions_command("pause", 1, &["--reason", "INC-812"]).await?.ended(0);
    assert!(said.stderr.is_empty(), "it was obeyed: {}", said.stderr);
    status_until(&worker, "the worker says that it is paused", |status| {
        let paused = status.partitions.iter().find(|partition| partition.partition == 1);
        paused.is_some_and(|paused| paused.detail.as_deref() == Some("paused by an operator: INC-812"))
    })
    .await?;
    assert!(worker.status().ready, "a paused partition does not make it unready");
    world.produce(20).await?;
    world.reached(0, 40).await?;
    tokio::time::sleep(STILL).await;
    assert_eq!(world.assert_consistent().await?[&1], 20, "nothing of it was applied");
    let described = world.offsets("describe", &["--json"]).await?.ended(0).json();
    let line = &described[0]["partitions"][1];
    assert_eq!(
        (&line["state"], &line["detail"], &line["lag"]),
        (&"paused".into(), &"INC-812".into(), &20.into())
    );
    // Once more is the same.
    let again = world.partitions_command("pause", 1, &["--reason", "another"]).await?.ended(0);
    assert!(again.stdout.contains("nothing to pause"), "{}", again.stdout);
    // Its offset may be moved meanwhile, and it stays paused.
    let one = format!("{}:1", world.topic);
    world.offsets("reset", &["--topic", &one, "--shift-by", "-5", "--live", "--execute"]).await?.ended(0);
    tokio::time::sleep(STILL).await;
    assert_eq!(world.next_offset(1).await?, Some(15));
    world.partitions_command("resume", 1, &[]).await?.ended(0);
    world.verify_with_moves().await?;
    worker.stop().await?;
    Ok(())
}

/// What was in its transaction when the order came rolls back: nothing commits any more, not once, whoever hears of it
/// when.
#[tokio::test]
async fn a_pause_holds_from_the_moment_it_is_given() -> TestResult {
    let world = World::new("pause-flight", 1).await?;
    world.produce(20).await?;
    let slow = [("HIGHWATER_TEST_SLOW_MS", "3000")];
    let worker = Process::start_with(&world, "slow", "slow", &slow)?;
    world.slow_batch_in_flight().await?;
    // Without waiting for the worker, as the command does.
    let order = Order::new(&world.group, Selection::AllTopics, Verb::Pause).by("ana", "now");
    let told = world.operator(world.database.url()).await?.order(&order).await?;
    assert_eq!(told.len(), 1);
    let at = world.next_offset(0).await?;
    tokio::time::sleep(2 * STILL + Duration::from_secs(2)).await;
    assert_eq!(world.next_offset(0).await?, at, "a batch was committed after the pause");
    world.assert_consistent().await?;
    world.partitions_command("resume", 0, &[]).await?.ended(0);
    world.verify_with_moves().await?;
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn an_operators_halt_is_reported_and_ends_with_a_retry() -> TestResult {
    let world = World::new("halt", 2).await?;
    world.produce(20).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    world.partitions_command("halt", 0, &["--reason", "INC-9"]).await?.ended(0);
    let why = halted(&worker, 0).await?;
    assert!(why.contains("halted by an operator: INC-9") && why.contains("partitions retry"), "{why}");
    world.reported(0, &why).await?;
    // A resume is for what was paused.
    let said = world.partitions_command("resume", 0, &[]).await?.ended(0);
    assert!(said.stdout.contains("nothing to resume"), "{}", said.stdout);
    world.produce(20).await?;
    world.reached(1, 40).await?;
    // It stays halted when its worker is another.
    worker.stop().await?;
    let worker = world.worker(Sink::<()>::default());
    halted(&worker, 0).await?;
    assert_eq!(world.assert_consistent().await?[&0], 20);
    world.partitions_command("retry", 0, &[]).await?.ended(0);
    world.verify_with_moves().await?;
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn what_has_halted_is_retried_without_a_restart() -> TestResult {
    let world = World::new("retry", 2).await?;
    let poison = Arc::new(Poison::default());
    let worker = world.worker(Sink { fault: Arc::clone(&poison), rows_only: false });
    world.produce(20).await?;
    let why = halted(&worker, 1).await?;
    assert!(why.contains("poison"), "{why}");
    world.reported_halt(1).await?;
    // Not mended yet: it halts anew.
    world.partitions_command("retry", 1, &[]).await?.ended(0);
    halted(&worker, 1).await?;
    assert_eq!(world.assert_consistent().await?[&1], 7);
    poison.disarmed.store(true, Ordering::SeqCst);
    wait_until("it goes on", PATIENCE, async || {
        world.partitions_command("retry", 1, &["--reason", "mended"]).await?;
        Ok(world.next_offset(1).await?.filter(|next| *next == 20))
    })
    .await?;
    world.verify_with_moves().await?;
    assert!(worker.status().partitions.iter().all(|partition| partition.state == PartitionState::Running));
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_record_is_skipped_and_that_is_on_record() -> TestResult {
    let world = World::new("skip", 2).await?;
    let worker = world.worker(Sink { fault: Arc::new(Poison::default()), rows_only: false });
    world.produce(20).await?;
    halted(&worker, 1).await?;
    let far = world.partitions_command("skip", 1, &["--to", "21", "--reason", "too far"]).await?.ended(2);
    assert!(far.stderr.contains("ends at 20"), "{}", far.stderr);
    world.partitions_command("skip", 1, &["--to", "8", "--reason", "INC-813: not JSON"]).await?.ended(0);
    world.verify_with_moves().await?;
    let again = world.partitions_command("skip", 1, &["--to", "8", "--reason", "again"]).await?.ended(0);
    assert!(again.stdout.contains("nothing to skip"), "{}", again.stdout);
    let events = world.offsets("events", &["--json"]).await?.ended(0).json();
    let event = &events[0];
    assert_eq!(
        (&event["kind"], &event["from"], &event["to"], &event["actor"], &event["reason"]),
        (&"skip".into(), &7.into(), &8.into(), &"ana".into(), &"INC-813: not JSON".into())
    );
    assert_eq!(world.number("SELECT count(*) FROM sink WHERE source_partition = 1").await?, 19);
    worker.stop().await?;
    Ok(())
}

/// A reset is as good as a retry: what it has moved is tried from the new place.
#[tokio::test]
async fn a_live_reset_wakes_what_has_halted() -> TestResult {
    let world = World::new("wake", 2).await?;
    let worker = world.worker(Sink { fault: Arc::new(Poison::default()), rows_only: false });
    world.produce(20).await?;
    halted(&worker, 1).await?;
    let one = format!("{}:1", world.topic);
    world.offsets("reset", &["--topic", &one, "--to-offset", "8", "--live", "--execute"]).await?.ended(0);
    world.verify_with_moves().await?;
    worker.stop().await?;
    Ok(())
}

/// Byte for byte, also what is no text; and the same record skipped once more is the same dead letter.
#[tokio::test]
async fn what_is_skipped_is_kept_whole() -> TestResult {
    let world = World::new("skip-kept", 1).await?;
    world.produce(3).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    world.partitions_command("pause", 0, &["--reason", "INC-1"]).await?.ended(0);
    let wild = [0_u8, 0xff, 0xfe, b'\n'];
    world.producer.send(
        world
            .message(0)
            .key(wild)
            .value([0xc3, 0x28, 0])
            .header("a", wild)
            .header("a", [])
            .timestamp_ms(1_234_567),
    )?;
    world.producer.send(world.message(0).key("k"))?;
    world.producer.send(world.message(0).value("not kept"))?;
    world.producer.flush().await?;
    let skip = async |to: &str, more: &[&str]| {
        let arguments = [&["--to", to, "--reason", "INC-2"], more].concat();
        world.partitions_command("skip", 0, &arguments).await
    };
    let said = skip("5", &[]).await?.ended(0);
    assert!(said.stderr.contains("2 records are kept in dead_letter"), "{}", said.stderr);
    let sql = "SELECT record_offset, state, reason, key_hash = sha256(record_key), record_key, record_value, header_names, \
                 header_values, timestamp_ms, timestamp_type, topic_id <> '', attempts \
               FROM highwater.dead_letter JOIN highwater.dead_letter_payload USING (dead_letter_id) ORDER BY 1";
    let rows = world.database.query(sql, &[]).await?;
    assert_eq!(rows.len(), 2);
    let (first, second) = (&rows[0], &rows[1]);
    assert_eq!((first.get(0), first.get(1), first.get(2)), (3_i64, "open", "skipped by ana: INC-2"));
    assert_eq!((first.get::<_, Option<bool>>(3), first.get::<_, &[u8]>(4)), (Some(true), &wild[..]));
    assert_eq!(first.get::<_, &[u8]>(5), [0xc3, 0x28, 0]);
    assert_eq!(first.get::<_, Vec<Vec<u8>>>(6), [b"a", b"a"]);
    assert_eq!(first.get::<_, Vec<Option<Vec<u8>>>>(7), [Some(wild.to_vec()), Some(Vec::new())]);
    assert_eq!((first.get(8), first.get(9), first.get(10)), (1_234_567_i64, 0_i16, true));
    assert_eq!(second.get::<_, Option<&[u8]>>(5), None, "a tombstone has no value");

    // Back, and over it again: opened anew, not a second one.
    world.offsets("reset", &["--all-topics", "--to-offset", "3", "--live", "--execute"]).await?.ended(0);
    let states = "SELECT count(*) FROM highwater.dead_letter WHERE state = 'superseded'";
    assert_eq!(world.number(states).await?, 2);
    skip("4", &[]).await?.ended(0);
    let said = skip("6", &["--no-store"]).await?.ended(0);
    assert!(!said.stderr.contains("kept"), "{}", said.stderr);
    let rows = world.database.query(sql, &[]).await?;
    let states: Vec<(i64, &str, i32)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(11))).collect();
    assert_eq!(states, [(3, "open", 2), (4, "superseded", 1)]);
    let attempts = "SELECT count(*) FROM highwater.dead_letter_attempt";
    assert_eq!(world.number(attempts).await?, 3);
    world.partitions_command("resume", 0, &[]).await?.ended(0);
    world.verify_with_moves().await?;
    worker.stop().await?;
    Ok(())
}
