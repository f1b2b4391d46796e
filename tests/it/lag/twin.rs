//! Twins of lag: Kafka's own tool for records, and the records' own timestamps for seconds, however odd those are.

use std::sync::Arc;

use highwater::testing::{Kafka, Postgres, wait_until};

use super::{Seen, near, sampled};
use crate::support::served::Served;
use crate::support::{Gate, PATIENCE, Setup, Sink, TestResult, World};

impl World<'_> {
    /// What `kafka-consumer-groups --describe` says of partition 0, once Kafka has this position.
    async fn described(&self, position: i64) -> TestResult<i64> {
        wait_until("the mirror is there", PATIENCE, async || {
            let found = self.kafka.committed(&self.group, &self.topic, 0).await?;
            Ok(found.filter(|(offset, _)| *offset == position))
        })
        .await?;
        let described = self.kafka.describe_group(&self.group).await?;
        let row = described.rows.iter().find(|row| row.topic == self.topic && row.partition == 0);
        let row = row.unwrap_or_else(|| panic!("no row of {}: {}", self.topic, described.raw));
        assert_eq!(row.current_offset, Some(position), "{}", described.raw);
        Ok(row.lag.expect("it knows the lag"))
    }
}

#[tokio::test]
async fn kafkas_own_tool_says_the_same_but_for_the_tail() -> TestResult {
    let world = World::new("lag-describe", 1).await?;
    world.produce_old(0, 10, 5).await?;
    let gate = Arc::new(Gate::default());
    let worker =
        world.worker_with(sampled(world.settings()), Sink { fault: Arc::clone(&gate), ..Sink::default() });
    world.verify().await?;
    world.seen_as(0, "caught up", |seen| seen.records == Some(0)).await?;
    assert_eq!(world.described(10).await?, 0);

    gate.close();
    world.produce_old(0, 30, 0).await?;
    world.seen_as(0, "behind", |seen| seen.records == Some(30)).await?;
    assert_eq!(world.described(10).await?, 30);

    // Kafka's tool counts what nobody can read yet.
    let transaction = world.kafka.transactional_producer(&world.topic).await?;
    transaction.begin()?;
    for _ in 0..5 {
        transaction.send(world.message(0).key("a").value("1"))?;
    }
    transaction.flush().await?;
    let open = world.seen_as(0, "with a tail", |seen| seen.uncommitted == Some(5)).await?;
    assert_eq!((open.records, world.described(10).await?), (Some(30), 35), "apart by the tail: {open:?}");
    transaction.commit().await?;
    let is_closed = |seen: &Seen| seen.uncommitted == Some(0) && seen.records > Some(30);
    let closed = world.seen_as(0, "without a tail", is_closed).await?;
    assert_eq!(
        (closed.records, world.described(10).await?),
        (Some(36), 36),
        "the marker is in both: {closed:?}"
    );

    // And with every worker gone, by the exporter's eyes.
    gate.open();
    world.caught_up().await?;
    worker.stop().await?;
    world.produce_old(0, 7, 0).await?;
    let served = Served::of("exporter", &world, &world.monitor().await?, &[]).await?;
    let left = world.seen_as(0, "left behind", |seen| seen.records == Some(7)).await?;
    assert_eq!((&*left.class, world.described(46).await?), ("UNOWNED", 7), "{left:?}");
    served.stop().await?;
    Ok(())
}

#[tokio::test]
async fn seconds_are_by_the_brokers_clock_where_the_topic_is() -> TestResult {
    let (kafka, postgres) = tokio::try_join!(Kafka::shared(), Postgres::shared())?;
    let topic_config = &[("message.timestamp.type", "LogAppendTime")];
    let world = World::with("lag-append", Setup { kafka, postgres, partitions: 1, topic_config }).await?;
    let gate = Arc::new(Gate::default());
    let worker =
        world.worker_with(sampled(world.settings()), Sink { fault: Arc::clone(&gate), ..Sink::default() });
    world.produce(1).await?;
    world.verify().await?;
    gate.close();
    // An hour old, by the producer's clock, which does not count.
    world.produce_old(0, 3, 3_600).await?;
    let is_told = |seen: &Seen| seen.records == Some(3) && seen.seconds.is_some_and(|age| age > 0.0);
    let behind = world.seen_as(0, "behind", is_told).await?;
    let read = world.age(0, behind.next_offset).await?;
    assert!(near(behind.seconds, read) && read < 600.0, "{behind:?} {read}");
    gate.open();
    world.caught_up().await?;
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_record_of_no_age_is_behind_all_the_same() -> TestResult {
    let world = World::new("lag-dates", 1).await?;
    let gate = Arc::new(Gate::default());
    let worker =
        world.worker_with(sampled(world.settings()), Sink { fault: Arc::clone(&gate), ..Sink::default() });
    world.produce(1).await?;
    world.verify().await?;
    // Before 1970 there is no age, nor in the future: unknown, and not 0. Of 1970, it is what it is.
    for (timestamp_ms, expected) in
        [(-5_000, None), (super::now_ms() + 1_800_000, None), (1_000, Some(1.7e9))]
    {
        gate.close();
        world.producer.send(world.message(0).key("a").value("1").timestamp_ms(timestamp_ms))?;
        world.producer.flush().await?;
        let fits = |seen: &Seen| {
            seen.records == Some(1)
                && match expected {
                    Some(least) => seen.seconds.is_some_and(|age| age > least),
                    None => seen.seconds.is_none(),
                }
        };
        let seen = world.seen_as(0, &format!("behind by what is of {timestamp_ms}"), fits).await?;
        assert!(seen.class == "OK" || seen.class == "STALL", "{seen:?}");
        gate.open();
        world.caught_up().await?;
        world.seen_as(0, "caught up", |seen| seen.records == Some(0) && seen.seconds == Some(0.0)).await?;
    }
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}
