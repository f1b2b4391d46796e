//! W2: the trouble of one partition or topic is its own. It is tried with fewer records, named if it is a record's, and
//! costs the others of its lane one batch at most.

use std::time::{Duration, Instant};

use highwater::testing::{Kafka, Postgres, unique, wait_until};
use highwater::{Batch, HandlerError, Table, TableSink, Tx, Worker};

use crate::support::watch::{halted, halted_now, status_until};
use crate::support::{Fault, PATIENCE, Setup, Sink, TestResult, World};

/// Ends its own session for one record.
const SUICIDE: &str = "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN \
      IF NEW.source_partition = 0 AND NEW.source_offset = 50 THEN PERFORM pg_terminate_backend(pg_backend_pid()); \
        PERFORM pg_sleep(5); END IF; RETURN NEW; END $$; \
    CREATE TRIGGER die BEFORE INSERT ON sink FOR EACH ROW EXECUTE FUNCTION die()";

#[tokio::test]
async fn w2_1_a_record_that_ends_its_session_is_named_and_starves_nobody() -> TestResult {
    let world = World::new("suicide", 2).await?;
    world.database.execute(SUICIDE).await?;
    world.produce(100).await?;
    let worker = world.worker_with(world.settings().lanes(1_usize), Sink::<()>::default());
    // The other partition of the lane goes on, while the first is still looked into.
    world.reached(1, 100).await?;
    let why = halted(&worker, 0).await?;
    assert!(why.contains(&format!("record {}[0]@50 loses its session", world.topic)), "{why}");
    world.produce(2_000).await?;
    world.reached(1, 2_100).await?;
    assert_eq!(world.assert_consistent().await?[&0], 50, "what is before it is applied");
    assert_eq!(halted_now(&worker), [0]);
    worker.stop().await?;

    world.database.execute("DROP TRIGGER die ON sink").await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

const LOCK_TIMEOUT: Duration = Duration::from_secs(3);

/// Two topics with a table each; somebody locks one of the tables.
#[tokio::test]
async fn w2_2_a_locked_table_holds_up_its_own_topic_alone() -> TestResult {
    let world = World::new("locked", 2).await?;
    let other = unique("other");
    world.kafka.create_topic(&other, 1).await?;
    world
        .database
        .execute(&format!(
            "CREATE TABLE a (p int, o bigint); CREATE TABLE b (p int, o bigint); GRANT ALL ON a, b TO {}",
            world.role.name
        ))
        .await?;
    let sink = |table: &str| {
        TableSink::new(Table::append(table, ["p", "o"]), |record, rows| {
            rows.push((record.partition(), record.offset()))
        })
    };
    // Tried again often, so that many rounds of the other topic would meet it.
    let often = Duration::from_millis(300);
    let settings = world.settings().lanes(1_usize).lock_timeout(LOCK_TIMEOUT).retry_backoff_max(often);
    let settings = settings.topics(vec![world.topic.clone(), other.clone()]);
    let worker = Worker::builder()
        .ignore_environment()
        .settings(settings)
        .route(world.topic.as_str(), sink("a"))
        .route(other.as_str(), sink("b"))
        .build_routed()?
        .spawn();
    world.produce(50).await?;
    world.caught_up().await?;

    let mut locker = world.database.client().await?;
    let lock = locker.transaction().await?;
    lock.batch_execute("LOCK TABLE a IN SHARE MODE").await?;
    world.produce(50).await?;
    let waiting = |status: &highwater::WorkerStatus| {
        let detail = |at: &highwater::PartitionStatus| at.detail.as_deref().unwrap_or("").contains("55P03");
        status.partitions.iter().any(|at| at.topic == world.topic && detail(at))
    };
    status_until(&worker, "the lock is noticed and said", waiting).await?;
    // For many lock time-outs. A round of the other topic waits for one at most: when it shares a batch with a partition of
    // which nobody knows yet that it waits, too.
    let began = Instant::now();
    let (mut rounds, mut slow) = (0, 0);
    while began.elapsed() < Duration::from_secs(15) {
        rounds += 1;
        for _ in 0..10 {
            world.producer.send(highwater::testing::Message::to(&other).partition(0).value("1"))?;
        }
        world.producer.flush().await?;
        let sent = Instant::now();
        wait_until("the other topic goes on", PATIENCE, async || {
            Ok((world.database.count("b").await? == rounds * 10).then_some(()))
        })
        .await?;
        slow += i64::from(sent.elapsed() >= LOCK_TIMEOUT);
        assert!(sent.elapsed() < 2 * LOCK_TIMEOUT, "round {rounds} took {:?}", sent.elapsed());
    }
    // Were it one lane's turn after the other, there would be hardly more rounds than tries.
    let few = slow <= i64::from(world.partitions) && 4 * slow < rounds;
    assert!(few, "{slow} of {rounds} rounds waited for the lock");
    assert_eq!(world.database.count("a").await?, 100, "it is still locked");
    lock.rollback().await?;
    world.caught_up().await?;
    assert_eq!(world.database.count("a").await?, 200);
    assert_eq!(halted_now(&worker), [] as [i32; 0]);
    let well = |status: &highwater::WorkerStatus| status.partitions.iter().all(|at| at.detail.is_none());
    status_until(&worker, "nothing is said any more", well).await?;
    worker.stop().await?;
    Ok(())
}

/// Takes a lock for each record of the batch.
struct Locks;

impl Fault for Locks {
    async fn after(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        let offsets: Vec<i64> = batch.records().map(|record| record.offset()).collect();
        let locks = "SELECT count(pg_advisory_xact_lock(o)) FROM unnest($1::int8[]) AS o";
        tx.execute(locks, &[&offsets]).await.map(drop)
    }
}

#[tokio::test]
async fn w2_3_a_batch_that_needs_more_locks_than_there_are_becomes_smaller() -> TestResult {
    let few = [("max_connections", "30"), ("max_locks_per_transaction", "10")];
    let (kafka, postgres) = tokio::try_join!(Kafka::shared(), Postgres::start_with(&few))?;
    let setup = Setup { kafka, postgres: &postgres, partitions: 1, topic_config: &[] };
    let world = World::with("locks", setup).await?;
    world.produce(20_000).await?;
    let worker = world.worker(Sink { fault: Locks, rows_only: false });
    world.verify().await?;
    assert!(worker.status().counters.retries > 0, "{:#?}", worker.status());
    assert_eq!(halted_now(&worker), [] as [i32; 0]);
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn w2_4_a_commit_that_takes_too_long_becomes_smaller() -> TestResult {
    let world = World::new("slow", 1).await?;
    world
        .database
        .execute(
            "CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.05); RETURN NULL; END $$; \
             CREATE CONSTRAINT TRIGGER linger AFTER INSERT ON sink DEFERRABLE INITIALLY DEFERRED \
               FOR EACH ROW EXECUTE FUNCTION linger()",
        )
        .await?;
    world.produce(200).await?;
    let settings = world.settings().max_processing_time(Duration::from_secs(2));
    let worker = world.worker_with(settings, Sink::<()>::default());
    world.verify().await?;
    let counters = worker.status().counters;
    assert!(counters.unknown_outcomes > 0, "{counters:#?}");
    assert_eq!(halted_now(&worker), [] as [i32; 0]);
    worker.stop().await?;
    Ok(())
}

/// A partition that was looked at apart comes back into its lane, and the lane prepares ahead again.
#[tokio::test]
async fn w2_5_what_is_over_is_forgotten() -> TestResult {
    let world = World::new("forgotten", 3).await?;
    world.database.execute(SUICIDE).await?;
    world.produce(100).await?;
    let settings = world.settings().lanes(1_usize);
    let worker = world.worker_with(settings.clone(), Sink::<()>::default());
    halted(&worker, 0).await?;
    // Another member comes: the halted partition, or one of the others, goes to it, and is no suspect there.
    let second = world.worker_with(settings, Sink::<()>::default());
    world.database.execute("DROP TRIGGER die ON sink").await?;
    worker.stop().await?;
    world.verify().await?;
    world.produce(5_000).await?;
    world.verify().await?;
    let counters = second.status().counters;
    assert!(counters.commits < 1_000, "the batches are as large as ever: {counters:#?}");
    assert_eq!(halted_now(&second), [] as [i32; 0]);
    wait_until("nothing is said any more", PATIENCE, async || {
        Ok(second.status().partitions.iter().all(|at| at.detail.is_none()).then_some(()))
    })
    .await?;
    second.stop().await?;
    Ok(())
}

/// Raises an error for one partition, every time.
struct Raises {
    partition: i32,
    code: &'static str,
}

impl Fault for Raises {
    async fn after(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        if batch.records().any(|record| record.partition() == self.partition && record.offset() >= 20) {
            let raise = format!("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{}'; END $$", self.code);
            tx.batch_execute(&raise).await?;
        }
        Ok(())
    }
}

/// A connection that a statement made elsewhere, a lock, a full disk: no session is dropped for it, and no other partition
/// waits.
#[tokio::test]
async fn w2_trouble_of_the_surroundings_that_one_partition_alone_has() -> TestResult {
    for code in ["08006", "55P03", "53100", "40001", "57014", "72000"] {
        let world = World::new("trouble", 3).await?;
        world.produce(50).await?;
        let fault = Raises { partition: 0, code };
        let settings = world.settings().lanes(1_usize);
        let worker = world.worker_with(settings, Sink { fault, rows_only: false });
        world.reached(1, 50).await?;
        world.reached(2, 50).await?;
        world.reached(0, 20).await?;
        world.produce(500).await?;
        world.reached(1, 550).await?;
        world.reached(2, 550).await?;
        let next = world.assert_consistent().await?;
        assert_eq!(next[&0], 20, "{code}: what is before it is applied, with smaller batches");
        worker.stop().await?;
        let worker = world.worker(Sink::<()>::default());
        world.verify().await?;
        worker.stop().await?;
    }
    Ok(())
}
