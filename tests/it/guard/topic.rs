//! A topic, or a whole cluster, that only has the name of the one that was read.

use highwater::Worker;
use highwater::config::{Isolation, StartPolicy};
use highwater::testing::{Message, Oracle, unique};

use crate::operator::accept_topic;
use crate::support::watch::{halted, halted_now, status_until};
use crate::support::{Sink, TestResult, World};

impl World<'_> {
    /// The topic is deleted and created anew, and holds `count` records per partition.
    pub(super) async fn recreate_topic(&mut self, count: usize) -> TestResult {
        self.kafka.delete_topic(&self.topic).await?;
        self.kafka.create_topic(&self.topic, self.partitions).await?;
        // A ledger of its own: the offsets of the old topic mean other records.
        self.producer = self.kafka.producer()?;
        self.produce(count).await?;
        Ok(())
    }

    /// Every row: partition and offset, with repeats.
    pub(super) async fn rows(&self) -> TestResult<Vec<(i32, i64)>> {
        let sql = "SELECT source_partition, source_offset FROM sink ORDER BY 1, 2";
        let rows = self.database.query(sql, &[]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// What the group has recorded: cluster id and topic id.
    pub(super) async fn recorded(&self) -> TestResult<(Option<String>, Option<String>)> {
        let sql = "SELECT cluster_id, topic_id FROM highwater.group_topic WHERE group_id = $1 AND topic = $2";
        let rows = self.database.query(sql, &[&self.group, &self.topic]).await?;
        Ok((rows[0].get(0), rows[0].get(1)))
    }
}

/// The new id, from the text that the on-call person reads.
fn new_topic_id(why: &str) -> &str {
    id_after(why, "now has id ", ',')
}

/// What stands between two marks in a text.
pub(super) fn id_after<'a>(why: &'a str, before: &str, after: char) -> &'a str {
    let rest = why.split(before).nth(1).and_then(|rest| rest.split(after).next());
    rest.unwrap_or_else(|| panic!("{why:?} names no id after {before:?}"))
}

/// Fewer, as many and more records than the group has applied: each halts, and each is accepted on purpose.
#[tokio::test]
async fn core_a_topic_created_anew_while_down_halts_whatever_it_holds() -> TestResult {
    let mut world = World::new("recreated", 2).await?;
    world.produce(10).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    for count in [4, 4, 30] {
        let (cluster_id, topic_id) = world.recorded().await?;
        let (cluster_id, topic_id) = (cluster_id.expect("recorded"), topic_id.expect("recorded"));
        let stands_at = world.next_offset(1).await?.expect("a row");
        world.recreate_topic(count).await?;
        let worker = world.worker(Sink::<()>::default());
        let why = halted(&worker, 1).await?;
        assert!(
            why.contains(&world.group)
                && why.contains(&format!(
                    "at offset {stands_at} of {}[1] with topic id {topic_id}",
                    world.topic
                ))
                && why.contains(&format!("offsets 0 to {count}")),
            "{why}"
        );
        assert_ne!(new_topic_id(&why), topic_id);
        world.reported(1, &why).await?;
        halted(&worker, 0).await?;
        assert!(worker.status().ready, "a restart would not help");
        worker.stop().await?;
        assert_eq!(world.next_offset(1).await?, Some(stands_at), "nothing was applied");

        // The way out: this is the topic from now on, from its beginning, and the old rows are not wanted.
        let undo = "DELETE FROM sink; DELETE FROM balances;";
        let accept = accept_topic(&world, &cluster_id, new_topic_id(&why), 0, undo);
        world.database.execute(&accept).await?;
        let worker = world.worker(Sink::<()>::default());
        world.caught_up().await?;
        world.assert_exact(true).await?;
        worker.stop().await?;
    }
    let events = "SELECT count(*) FROM highwater.offset_event WHERE kind = 'reset' AND to_offset = 0 AND from_offset > 0";
    assert_eq!(world.number(events).await?, 6, "one per partition and acceptance");
    Ok(())
}

/// Rows of an older release lack the ids: the first claim takes them from the brokers, and the next one holds on to
/// them.
#[tokio::test]
async fn ids_that_were_not_recorded_are_filled_in_once() -> TestResult {
    let mut world = World::new("unrecorded", 1).await?;
    world.produce(10).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    let recorded = world.recorded().await?;
    assert!(recorded.0.is_some() && recorded.1.is_some(), "{recorded:?}");
    world.database.execute("UPDATE highwater.group_topic SET cluster_id = NULL, topic_id = NULL").await?;
    world.produce(10).await?;
    let worker = world.worker_with(world.settings().start(StartPolicy::Fail), Sink::<()>::default());
    world.verify().await?;
    worker.stop().await?;
    assert_eq!(world.recorded().await?, recorded);

    world.recreate_topic(30).await?;
    let worker = world.worker(Sink::<()>::default());
    let why = halted(&worker, 0).await?;
    assert!(why.contains("deleted and created anew"), "{why}");
    assert_eq!(world.recorded().await?, recorded, "a worker never overwrites what is recorded");
    worker.stop().await?;
    Ok(())
}

/// The other guard that a claim needs: what the group knows of the topic.
#[tokio::test]
async fn a_topic_whose_row_has_vanished_halts() -> TestResult {
    let world = World::new("unknown-topic", 2).await?;
    world.produce(10).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    // Under the running worker: one that starts would resolve the topic anew.
    let sql = "WITH gone AS (DELETE FROM highwater.group_topic) \
               UPDATE highwater.consumer_offset SET claim_token = gen_random_uuid(), owner = NULL WHERE partition = 1";
    world.database.execute(sql).await?;
    let why = halted(&worker, 1).await?;
    assert!(why.contains("vanished from group_topic") && why.contains("offset 10"), "{why}");
    assert_eq!(halted_now(&worker), [1]);
    worker.stop().await?;
    Ok(())
}

/// Under `read_committed` the end for a reader lies before an open transaction; the log does not end there.
#[tokio::test]
async fn core_an_open_transaction_is_no_truncated_log() -> TestResult {
    let world = World::new("isolation", 1).await?;
    world.produce(5).await?;
    let transactional = world.kafka.transactional_producer(&unique("tx")).await?;
    transactional.begin()?;
    for n in 0..5 {
        transactional.send(Message::to(&world.topic).partition(0).key("t").value(format!("{n}")))?;
    }
    transactional.flush().await?;
    let settings = world.settings().isolation(Isolation::ReadUncommitted);
    let worker = world.worker_with(settings, Sink::<()>::default());
    world.reached(0, 10).await?;
    worker.stop().await?;

    let worker = world.worker(Sink::<()>::default());
    status_until(&worker, "it has claimed", |status| status.ready && status.partitions.len() == 1).await?;
    assert_eq!(halted_now(&worker), [] as [i32; 0]);
    transactional.commit().await?;
    world.produce(5).await?;
    world.caught_up().await?;
    let rows = "SELECT source_partition, source_offset FROM sink";
    let oracle = Oracle::new(world.producer.ledger(), &world.topic).and(transactional.ledger(), &world.topic);
    oracle.compare(&world.database.client().await?, rows).await?.assert_exact();
    world.assert_balances().await?;
    worker.stop().await?;
    Ok(())
}

/// A pause in the records is what it takes to exchange a topic: what comes after one waits for a look at the topic.
#[tokio::test]
async fn core_a_topic_created_anew_under_a_running_worker_halts_whatever_it_holds() -> TestResult {
    for count in [4, 10, 30] {
        let mut world = World::new("exchanged", 2).await?;
        // The client looks for itself, too: as soon as it can.
        let settings = world.settings().kafka("topic.metadata.refresh.interval.ms", "100");
        let worker = world.worker_with(settings, Sink::<()>::default());
        world.produce(10).await?;
        world.verify().await?;
        let before = world.rows().await?;
        world.recreate_topic(count).await?;
        let why = halted(&worker, 1).await?;
        halted(&worker, 0).await?;
        assert!(
            why.contains(&format!("at offset 10 of {}[1] with topic id", world.topic))
                && why.contains("deleted and created anew"),
            "{why}"
        );
        assert_eq!(world.rows().await?, before, "nothing of the new topic was applied");
        worker.stop().await?;
    }
    Ok(())
}

/// Partitions by hand are not revoked when their topic goes away, as a group's are: here the vigil alone notices, and
/// holds back what came after the pause.
#[tokio::test]
async fn the_vigil_alone_notices_a_topic_created_anew() -> TestResult {
    for count in [10, 30] {
        let mut world = World::new("unwatched", 1).await?;
        world.produce(10).await?;
        let built = Worker::builder()
            .ignore_environment()
            .settings(world.settings().kafka("topic.metadata.refresh.interval.ms", "100"))
            .assign([(&*world.topic, 0)])
            .build(Sink::<()>::default());
        let worker = built.expect("the settings are valid").spawn();
        world.verify().await?;
        let epoch = world.owners().await?[&0].1;
        world.recreate_topic(count).await?;
        let why = halted(&worker, 0).await?;
        assert!(why.contains("at offset 10 of") && why.contains("deleted and created anew"), "{why}");
        world.assert_rows(0, 10).await?;
        assert_eq!(world.owners().await?[&0].1, epoch, "no other claim was made: this was not its guard");
        worker.stop().await?;
    }
    Ok(())
}

/// The look costs a slow partition one request each time, and a busy one nothing; both come through.
#[tokio::test]
async fn records_after_a_pause_come_through() -> TestResult {
    let world = World::new("pauses", 2).await?;
    let worker = world.worker(Sink::<()>::default());
    for _ in 0..4 {
        world.produce(5).await?;
        world.caught_up().await?;
        // A pause, which is what this test is about.
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    }
    world.verify().await?;
    assert_eq!(halted_now(&worker), [] as [i32; 0]);
    worker.stop().await?;
    Ok(())
}
