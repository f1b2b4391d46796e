//! Topics, offsets and watermarks.

use std::time::Duration;

use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminOptions, NewPartitions, NewTopic, TopicReplication, TopicResult},
    consumer::Consumer,
    error::KafkaError,
};

use super::{
    Kafka,
    client::{REQUEST_TIMEOUT, consumer},
};
use crate::testing::{
    error::{Attempted, Error, Result, blocking},
    wait_until,
};

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT))
}

/// The outcome of an operation on one topic.
fn only(results: Result<Vec<TopicResult>, KafkaError>, attempt: impl Fn() -> String) -> Result<()> {
    for result in results.attempted(&attempt)? {
        result.map_err(|(_, code)| code).attempted(&attempt)?;
    }
    Ok(())
}

impl Kafka {
    /// Creates a topic; returns when every partition has a leader.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn create_topic(&self, name: &str, partitions: i32) -> Result<()> {
        self.create_topic_with(name, partitions, &[]).await
    }

    /// As [`Kafka::create_topic`], with properties of the topic such as `("cleanup.policy", "compact")`.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn create_topic_with(
        &self,
        name: &str,
        partitions: i32,
        config: &[(&str, &str)],
    ) -> Result<()> {
        if let Some(mock) = &self.mock {
            return mock.create_topic(name, partitions);
        }
        let replicas = vec![&*self.replicas; usize::try_from(partitions).unwrap_or_default()];
        let replication = match &*self.replicas {
            [] => TopicReplication::Fixed(1),
            _ => TopicReplication::Variable(&replicas),
        };
        let mut topic = NewTopic::new(name, partitions, replication);
        topic.config = config.to_vec();
        let results = self.admin.create_topics([&topic], &options()).await;
        only(results, || format!("create topic {name}"))?;
        self.wait_for_partitions(name, partitions).await
    }

    /// Deletes a topic; returns when it is gone from the broker's metadata.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn delete_topic(&self, name: &str) -> Result<()> {
        let results = self.admin.delete_topics(&[name], &options()).await;
        only(results, || format!("delete topic {name}"))?;
        self.wait_for_partitions(name, 0).await
    }

    /// Raises the number of partitions of a topic to `total`.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn add_partitions(&self, topic: &str, total: i32) -> Result<()> {
        let count = usize::try_from(total).attempted(|| format!("{total} partitions"))?;
        let results = self.admin.create_partitions([&NewPartitions::new(topic, count)], &options()).await;
        only(results, || format!("raise topic {topic} to {total} partitions"))?;
        self.wait_for_partitions(topic, total).await
    }

    /// Deletes the records of a partition before `before`, as retention would.
    ///
    /// # Errors
    /// When the broker refuses.
    pub async fn delete_records(&self, topic: &str, partition: i32, before: i64) -> Result<()> {
        let attempt = || format!("delete the records before {before} of {topic}/{partition}");
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(topic, partition, Offset::Offset(before))?;
        let outcome = self.admin.delete_records(&offsets, &options()).await.attempted(attempt)?;
        outcome.elements().iter().try_for_each(|element| element.error()).attempted(attempt)
    }

    /// The first offset that is still there and the offset of the next record to be written.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn watermarks(&self, topic: &str, partition: i32) -> Result<(i64, i64)> {
        let attempt = format!("fetch the watermarks of {topic}/{partition}");
        let (bootstrap, topic) = (self.bootstrap.clone(), topic.to_owned());
        blocking(move || {
            consumer(&bootstrap, &[])?
                .fetch_watermarks(&topic, partition, REQUEST_TIMEOUT)
                .attempted(|| attempt)
        })
        .await
    }

    /// The number of partitions of a topic; none if there is no such topic.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub async fn partition_count(&self, topic: &str) -> Result<Option<i32>> {
        let led = self.led_partitions(topic).await?;
        Ok(led.map(|(all, _)| all))
    }

    /// What a group has committed in Kafka for a partition: offset and metadata.
    ///
    /// # Errors
    /// When the group's coordinator does not answer.
    pub async fn committed(&self, group: &str, topic: &str, partition: i32) -> Result<Option<(i64, String)>> {
        let attempt = format!("fetch what group {group} committed for {topic}/{partition}");
        let (bootstrap, group, topic) = (self.bootstrap.clone(), group.to_owned(), topic.to_owned());
        blocking(move || {
            let mut partitions = TopicPartitionList::new();
            partitions.add_partition(&topic, partition);
            let consumer = consumer(&bootstrap, &[("group.id", &group)])?;
            let committed = consumer.committed_offsets(partitions, REQUEST_TIMEOUT).attempted(|| attempt)?;
            let element = committed.find_partition(&topic, partition);
            let element =
                element.ok_or_else(|| Error::new("the answer lacks the partition that was asked for"))?;
            element.error()?;
            Ok(element
                .offset()
                .to_raw()
                .filter(|&raw| raw >= 0)
                .map(|raw| (raw, element.metadata().to_owned())))
        })
        .await
    }

    /// How many partitions a topic has, and how many of them have a leader; none if there is no such topic.
    async fn led_partitions(&self, topic: &str) -> Result<Option<(i32, i32)>> {
        let (bootstrap, topic) = (self.bootstrap.clone(), topic.to_owned());
        blocking(move || {
            let metadata = consumer(&bootstrap, &[])?
                .fetch_metadata(Some(&topic), REQUEST_TIMEOUT)
                .attempted(|| format!("fetch the metadata of {topic}"))?;
            let found = metadata.topics().iter().find(|found| found.name() == topic);
            let found = found.filter(|found| found.error().is_none());
            Ok(found.map(|found| {
                let count = |all: usize| i32::try_from(all).unwrap_or(i32::MAX);
                let led = found.partitions().iter().filter(|partition| partition.leader() >= 0).count();
                (count(found.partitions().len()), count(led))
            }))
        })
        .await
    }

    /// The broker answers a request to create or delete before it shows the change; other clients look at what it shows.
    async fn wait_for_partitions(&self, topic: &str, wanted: i32) -> Result<()> {
        let what = format!("topic {topic} has {wanted} partitions with a leader");
        wait_until(&what, Duration::from_secs(30), async || {
            let led = self.led_partitions(topic).await?.map_or(0, |(_, led)| led);
            Ok((led == wanted).then_some(()))
        })
        .await
    }
}
