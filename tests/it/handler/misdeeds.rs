//! Bugs of a handler.

use super::{Bad, Misdeed};
use crate::support::watch::{halted, halted_now};
use crate::support::{PATIENCE, Process, Sink, TestResult, World};

/// Halts what is bad, and shows that everything else goes on, also with what comes later; then "fixes" the handler
/// by starting a worker with a good one, which applies the rest exactly once.
async fn halts(world: &World<'_>, bad: Vec<Bad>, expected: &[&str]) -> TestResult {
    let partitions: Vec<i32> = bad.iter().map(|bad| bad.partition).collect();
    let offsets: Vec<i64> = bad.iter().map(|bad| bad.offset).collect();
    world.produce(50).await?;
    let worker = world.worker(Sink { fault: bad, rows_only: false });
    for ((partition, offset), expected) in partitions.iter().zip(&offsets).zip(expected) {
        let why = halted(&worker, *partition).await?;
        assert!(why.contains(expected), "partition {partition}: {why}");
        let named = format!("{}[{partition}]", world.topic);
        assert!(why.contains(&named), "it names the partition: {why}");
        let next = world.next_offset(*partition).await?.expect("it was claimed");
        assert!(
            next <= *offset,
            "nothing at or past {offset} of partition {partition} is durable, but {next} is"
        );
    }
    // What comes later, too.
    world.produce(50).await?;
    for healthy in (0..world.partitions).filter(|partition| !partitions.contains(partition)) {
        world.reached(healthy, 100).await?;
    }
    world.assert_consistent().await?;
    assert_eq!(halted_now(&worker), partitions, "nobody else halted");
    let status = worker.status();
    assert!(status.ready, "a halted partition needs a human, not a restart: {status:#?}");
    for (partition, expected) in partitions.iter().zip(expected) {
        let reported = world.reported_halt(*partition).await?;
        assert!(reported.contains(expected), "partition {partition}: {reported}");
    }
    worker.stop().await?;

    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn core_a_swallowed_sql_error_halts_and_loses_nothing() -> TestResult {
    let world = World::new("swallow", 4).await?;
    let bad = |partition, offset, sql| Bad { partition, offset, misdeed: Misdeed::Swallow(sql) };
    let bad = vec![bad(0, 0, "SELECT 1 / 0"), bad(2, 17, "INSERT INTO sink VALUES ('', 0, NULL)")];
    let text = "one of its statements had failed and aborted the transaction";
    halts(&world, bad, &[text, text]).await
}

#[tokio::test]
async fn core_transaction_control_in_a_handler_is_refused() -> TestResult {
    let world = World::new("control", 8).await?;
    let bad = |partition, misdeed| Bad { partition, offset: 0, misdeed };
    let misdeeds = vec![
        bad(0, Misdeed::Sql("COMMIT")),
        bad(1, Misdeed::Sql("end")),
        bad(2, Misdeed::Batch("ROLLBACK AND CHAIN")),
        bad(3, Misdeed::Sql("PREPARE TRANSACTION 'smuggled'")),
        bad(4, Misdeed::Batch("SELECT 1; COMMIT")),
        bad(5, Misdeed::Batch("/* ; */ SELECT ';'; cOmMiT; BEGIN")),
        // What text alone cannot show, the server refuses.
        bad(6, Misdeed::Batch("DO $do$ BEGIN COMMIT; END $do$")),
    ];
    let control = "statement refused before it was sent: BEGIN, START, COMMIT, END, ABORT and ROLLBACK belong to the worker";
    let two_phase = "statement refused before it was sent: two-phase commit";
    halts(&world, misdeeds, &[control, control, control, two_phase, control, control, "SQLSTATE 2D000"])
        .await?;
    let prepared = "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()";
    assert_eq!(world.number(prepared).await?, 0);
    Ok(())
}

#[tokio::test]
async fn core_a_panic_halts_one_partition_and_the_worker_lives_on() -> TestResult {
    let world = World::new("panic", 3).await?;
    let bad = vec![Bad { partition: 1, offset: 20, misdeed: Misdeed::Panic }];
    halts(&world, bad, &["the handler panicked: account 4711 has no branch"]).await
}

/// The table is named where the on-call person looks.
#[tokio::test]
async fn a_missing_table_of_the_sink_halts_loudly() -> TestResult {
    let world = World::new("missing", 2).await?;
    world.database.execute("ALTER TABLE balances RENAME TO accounts").await?;
    world.produce(10).await?;
    let worker = world.worker(Sink::<()>::default());
    for partition in 0..2 {
        let why = halted(&worker, partition).await?;
        assert!(why.contains("42P01") && why.contains("\"balances\""), "{why}");
        let why = world.reported_halt(partition).await?;
        assert!(why.contains("42P01") && why.contains("\"balances\""), "{why}");
        assert_eq!(world.next_offset(partition).await?, Some(0));
    }
    assert_eq!(world.number("SELECT count(*) FROM sink").await?, 0);
    worker.stop().await?;

    world.database.execute("ALTER TABLE accounts RENAME TO balances").await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

/// A right that was taken away is named, too.
#[tokio::test]
async fn a_missing_right_on_the_sink_halts_loudly() -> TestResult {
    let world = World::new("right", 1).await?;
    world.produce(10).await?;
    world.database.execute(&format!("REVOKE INSERT ON sink FROM {}", world.role.name)).await?;
    let worker = world.worker(Sink::<()>::default());
    let why = halted(&worker, 0).await?;
    assert!(why.contains("42501") && why.contains("permission denied for table sink"), "{why}");
    worker.stop().await?;

    world.database.execute(&format!("GRANT INSERT ON sink TO {}", world.role.name)).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

/// Without a heartbeat a successor takes this process for dead.
#[tokio::test]
async fn a_heart_that_dies_ends_the_worker_with_an_error() -> TestResult {
    breaks("dead-heart", "before_heartbeat", "2*panic", "the heartbeat has panicked").await
}

/// Something of Highwater's own breaks at a failpoint: the process ends with a message and exit status 70, and the next
/// one goes on exactly where it stood.
async fn breaks(hint: &str, point: &str, how: &str, message: &str) -> TestResult {
    let world = World::new(hint, 2).await?;
    world.produce(20).await?;
    let failpoint = format!("{point}={how}");
    let more = [("HIGHWATER_TEST_FAILPOINT", &*failpoint), ("HIGHWATER_DRAIN_DEADLINE", "1s")];
    let process = Process::start_with(&world, "worker", "plain", &more)?;
    process.reached(point).await?;
    let line = process.child.wait_for_line(|line| line.starts_with("error: "), PATIENCE).await?;
    assert!(line.contains(message), "{line}");
    assert_eq!(process.child.wait(PATIENCE).await?, 70);
    world.assert_consistent().await?;

    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

/// A panic of Highwater's own, not of the handler: its partitions must not just stand still with nobody to say so.
#[tokio::test]
async fn a_lane_that_dies_ends_the_worker_with_an_error() -> TestResult {
    breaks("dead-lane", "rows_written", "panic", "a lane has panicked").await
}

/// A thread that hangs in the client has not panicked; its partitions would stand still, and stay this member's.
#[tokio::test]
async fn a_poll_thread_that_hangs_ends_the_worker_with_an_error() -> TestResult {
    breaks("hung-poll", "before_mirror", "hang", "the poll thread has hung for").await
}
