//! Several topics with a handler each, in one worker.

use std::time::Duration;

use highwater::testing::wait_until;
use highwater::{Batch, Handler, HandlerError, Tx, Worker, WorkerHandle};

use crate::support::topics::{Topic, halted_of};
use crate::support::{PATIENCE, Sink, TestResult, World};

/// Writes `refunds`; does something wrong at one record of each partition if it is `bad`.
struct Refunds {
    bad: bool,
}

/// Offset of the bad record, by partition: 0 panics, 1 is rejected, 2 hangs.
const BAD: [i64; 3] = [5, 7, 3];

impl Handler for Refunds {
    async fn handle(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        for record in batch {
            assert!(record.topic().ends_with(".refunds"), "{record:?} has a handler of its own");
            let insert = "INSERT INTO refunds VALUES ($1, $2)";
            tx.execute(insert, &[&record.partition(), &record.offset()]).await?;
        }
        for record in batch {
            let partition = usize::try_from(record.partition()).expect("a partition's number");
            if !self.bad || record.offset() != BAD[partition] {
                continue;
            }
            match partition {
                0 => panic!("no such refund"),
                1 => return Err(HandlerError::reject(&record, "a refund of nothing")),
                _ => std::future::pending().await,
            }
        }
        Ok(())
    }
}

/// Two topics of three partitions each; the second one's rows go into `refunds`.
async fn world(hint: &str) -> highwater::testing::Result<(World<'static>, String)> {
    let world = World::new(hint, 3).await?;
    let refunds = format!("{}.refunds", world.topic);
    world.another_topic((&refunds, 3)).await?;
    world
        .database
        .execute("CREATE TABLE refunds (source_partition int NOT NULL, source_offset bigint NOT NULL)")
        .await?;
    world.database.execute(&format!("GRANT SELECT, INSERT ON refunds TO {}", world.role.name)).await?;
    Ok((world, refunds))
}

/// One lane, so that both topics share batches.
fn start(world: &World<'_>, refunds: &str, bad: bool) -> WorkerHandle {
    let settings = world
        .settings()
        .topics(vec![refunds.to_owned(), world.topic.clone()])
        .lanes(1_usize)
        .linger(Duration::from_millis(100))
        .max_processing_time(Duration::from_secs(3))
        .single_record_timeouts(1_usize);
    let built = Worker::builder()
        .ignore_environment()
        .settings(settings)
        .route(&*world.topic, Sink::<()>::default())
        .route(refunds, Refunds { bad })
        .build_routed();
    built.expect("the settings are valid").spawn()
}

impl World<'_> {
    /// The oracle for both topics, each in its own table.
    async fn verify_routed(&mut self, refunds: Topic<'_>) -> TestResult {
        self.verify().await?;
        self.at(refunds, async |world| {
            world.caught_up().await?;
            world.assert_ledger_gapless().await?;
            let oracle = highwater::testing::Oracle::new(world.producer.ledger(), &world.topic);
            let rows = "SELECT source_partition, source_offset FROM refunds";
            oracle.compare(&world.database.client().await?, rows).await?.assert_exact();
            Ok(())
        })
        .await?;
        let astray = "SELECT count(*) FROM sink WHERE source_topic LIKE '%.refunds'";
        assert_eq!(self.number(astray).await?, 0);
        Ok(())
    }
}

#[tokio::test]
async fn core_two_topics_two_handlers_two_tables_one_transaction() -> TestResult {
    let (mut world, refunds) = world("routes").await?;
    let refunds = (&*refunds, 3);
    let worker = start(&world, refunds.0, false);
    // Rows of both tables by one transaction: `xmin` is the one that inserted a row.
    let shared = "SELECT count(*) FROM (SELECT xmin::text FROM sink INTERSECT SELECT xmin::text FROM refunds) AS shared";
    wait_until("a transaction has written both tables", PATIENCE, async || {
        world.produce(20).await?;
        world.produce_to(refunds, 20).await?;
        Ok((world.number(shared).await? > 0).then_some(()))
    })
    .await?;
    world.verify_routed(refunds).await?;
    worker.stop().await?;
    Ok(())
}

/// One topic's bad record, bug or hang halts its partition alone; what the other handler wrote in the same batch
/// is not lost and not doubled.
#[tokio::test]
async fn core_what_one_handler_does_wrong_halts_its_own_partition_only() -> TestResult {
    let (mut world, refunds) = world("misroutes").await?;
    let refunds = (&*refunds, 3);
    world.produce(10).await?;
    world.produce_to(refunds, 10).await?;
    let worker = start(&world, refunds.0, true);
    for (partition, part) in [
        (0, "the handler panicked: no such refund"),
        (1, "@7 was rejected"),
        (2, "takes longer than max_processing_time"),
    ] {
        let why = halted_of(&worker, refunds.0, partition).await?;
        assert!(why.contains(part) && why.contains(&format!("{}[{partition}]", refunds.0)), "{why}");
    }
    world.produce(10).await?;
    world.produce_to(refunds, 10).await?;
    world.verify().await?;
    world
        .at(refunds, async |world| {
            let mut applied = 0;
            for (partition, offset) in (0..).zip(BAD) {
                let next = world.next_offset(partition).await?.expect("its row");
                assert_eq!(
                    next, offset,
                    "each is narrowed down to its record, a panic as well: partition {partition}"
                );
                applied += next;
            }
            assert_eq!(world.number("SELECT count(*) FROM refunds").await?, applied);
            Ok(())
        })
        .await?;
    worker.stop().await?;

    let worker = start(&world, refunds.0, false);
    world.verify_routed(refunds).await?;
    worker.stop().await?;
    Ok(())
}
