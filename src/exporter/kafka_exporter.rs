//! The names of danielqsj's `kafka_exporter`, which Strimzi's boards and alerts are written in.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::definitions::gauge;
use super::own::by_topic;
use crate::fleet::{Partition, Reading};
use crate::metrics::definition::Definition;
use crate::metrics::exposition::{Family, Labels, Value};

const OF_GROUP: &[&str] = &["consumergroup", "topic", "partition"];
const OF_TOPIC: &[&str] = &["topic", "partition"];

static LAG: Definition = gauge(
    "kafka_consumergroup_lag",
    OF_GROUP,
    "Current Approximate Lag of a ConsumerGroup at Topic/Partition",
);
static CURRENT: Definition = gauge(
    "kafka_consumergroup_current_offset",
    OF_GROUP,
    "Current Offset of a ConsumerGroup at Topic/Partition",
);
static LAG_SUM: Definition = gauge(
    "kafka_consumergroup_lag_sum",
    &["consumergroup", "topic"],
    "Current Approximate Lag of a ConsumerGroup at Topic for all partitions",
);
static CURRENT_SUM: Definition = gauge(
    "kafka_consumergroup_current_offset_sum",
    &["consumergroup", "topic"],
    "Current Offset of a ConsumerGroup at Topic for all partitions",
);
static MEMBERS: Definition =
    gauge("kafka_consumergroup_members", &["consumergroup"], "Amount of members in a consumer group");
static END: Definition =
    gauge("kafka_topic_partition_current_offset", OF_TOPIC, "Current Offset of a Broker at Topic/Partition");
static START: Definition =
    gauge("kafka_topic_partition_oldest_offset", OF_TOPIC, "Oldest Offset of a Broker at Topic/Partition");
static PARTITIONS: Definition =
    gauge("kafka_topic_partitions", &["topic"], "Number of partitions for this Topic");

pub(super) fn families(reading: &Reading) -> Vec<Family> {
    let mut families = of_groups(reading);
    families.extend(of_topics(reading));
    families
}

fn of_groups(reading: &Reading) -> Vec<Family> {
    let (mut lag, mut current) = (Family::of(&LAG), Family::of(&CURRENT));
    let (mut lag_sum, mut current_sum) = (Family::of(&LAG_SUM), Family::of(&CURRENT_SUM));
    let mut members = Family::of(&MEMBERS);
    for group in &reading.groups {
        let of_group = Labels::new([("consumergroup", Arc::from(group.group.as_str()))]);
        members.push(of_group.clone(), Value::Count(group.live_workers as u64));
        for (topic, partitions) in by_topic(group) {
            let of_topic = of_group.and("topic", topic);
            for partition in &partitions {
                let labels = of_topic.and("partition", partition.partition.to_string());
                if let Some(records) = partition.lag_records {
                    lag.push(labels.clone(), Value::Integer(records));
                }
                current.push(labels, Value::Integer(partition.next_offset));
            }
            let known: Option<i64> = partitions.iter().map(|partition| partition.lag_records).sum();
            if let Some(sum) = known {
                lag_sum.push(of_topic.clone(), Value::Integer(sum));
            }
            current_sum.push(of_topic, Value::Integer(partitions.iter().map(|p| p.next_offset).sum()));
        }
    }
    vec![lag, current, lag_sum, current_sum, members]
}

/// Of each partition of a topic whoever of the groups has seen it last.
pub(super) fn topics(reading: &Reading) -> BTreeMap<&str, BTreeMap<i32, &Partition>> {
    let mut topics: BTreeMap<&str, BTreeMap<i32, &Partition>> = BTreeMap::new();
    for partition in reading.groups.iter().flat_map(|group| &group.partitions) {
        let seen =
            topics.entry(&partition.topic).or_default().entry(partition.partition).or_insert(partition);
        let knows = |p: &Partition| (p.log_end_offset.is_some(), p.as_of_ms);
        if knows(partition) > knows(seen) {
            *seen = partition;
        }
    }
    topics
}

fn of_topics(reading: &Reading) -> Vec<Family> {
    let (mut end, mut start, mut count) = (Family::of(&END), Family::of(&START), Family::of(&PARTITIONS));
    for (topic, partitions) in topics(reading) {
        let of_topic = Labels::new([("topic", Arc::from(topic))]);
        count.push(of_topic.clone(), Value::Count(partitions.len() as u64));
        for (number, partition) in partitions {
            let labels = of_topic.and("partition", number.to_string());
            if let Some(offset) = partition.log_end_offset {
                end.push(labels.clone(), Value::Integer(offset));
            }
            if let Some(offset) = partition.log_start_offset {
                start.push(labels, Value::Integer(offset));
            }
        }
    }
    vec![end, start, count]
}
