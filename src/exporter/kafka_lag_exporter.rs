//! The names of kafka-lag-exporter, which klag-exporter has taken over.

use std::sync::Arc;

use super::definitions::gauge;
use super::kafka_exporter::topics;
use super::own::by_topic;
use crate::config::CLIENT_ID_PREFIX;
use crate::fleet::{Group, Partition, Reading};
use crate::metrics::definition::Definition;
use crate::metrics::exposition::{Family, Labels, Value};

const OF_PARTITION: &[&str] =
    &["cluster_name", "group", "topic", "partition", "member_host", "consumer_id", "client_id"];
const OF_GROUP: &[&str] = &["cluster_name", "group"];
const OF_LOG: &[&str] = &["cluster_name", "topic", "partition"];

static LAG: Definition =
    gauge("kafka_consumergroup_group_lag", OF_PARTITION, "Group offset lag of a partition");
static SECONDS: Definition =
    gauge("kafka_consumergroup_group_lag_seconds", OF_PARTITION, "Group time lag of a partition");
static OFFSET: Definition =
    gauge("kafka_consumergroup_group_offset", OF_PARTITION, "Last group consumed offset of a partition");
static MAX_LAG: Definition = gauge("kafka_consumergroup_group_max_lag", OF_GROUP, "Max group offset lag");
static MAX_SECONDS: Definition =
    gauge("kafka_consumergroup_group_max_lag_seconds", OF_GROUP, "Max group time lag");
static SUM_LAG: Definition = gauge("kafka_consumergroup_group_sum_lag", OF_GROUP, "Sum of group offset lag");
static TOPIC_SUM_LAG: Definition = gauge(
    "kafka_consumergroup_group_topic_sum_lag",
    &["cluster_name", "group", "topic"],
    "Sum of group offset lag across topic partitions",
);
static LATEST: Definition = gauge("kafka_partition_latest_offset", OF_LOG, "Latest offset of a partition");
static EARLIEST: Definition =
    gauge("kafka_partition_earliest_offset", OF_LOG, "Earliest offset of a partition");
static POLL: Definition =
    gauge("kafka_consumergroup_poll_time_ms", &["cluster_name"], "Group time poll time");

pub(super) fn families(reading: &Reading, cluster: &str) -> Vec<Family> {
    let cluster = Labels::new([("cluster_name", Arc::from(cluster))]);
    let (mut lag, mut seconds, mut offset) = (Family::of(&LAG), Family::of(&SECONDS), Family::of(&OFFSET));
    let (mut max_lag, mut max_seconds) = (Family::of(&MAX_LAG), Family::of(&MAX_SECONDS));
    let (mut sum_lag, mut topic_sum) = (Family::of(&SUM_LAG), Family::of(&TOPIC_SUM_LAG));
    for group in &reading.groups {
        let of_group = cluster.and("group", group.group.as_str());
        for partition in &group.partitions {
            let labels = labels(&of_group, group, partition);
            if let Some(records) = partition.lag_records {
                lag.push(labels.clone(), Value::Integer(records));
            }
            if let Some(age) = partition.lag_seconds {
                seconds.push(labels.clone(), Value::Number(age));
            }
            offset.push(labels, Value::Integer(partition.next_offset));
        }
        if let Some(most) = group.partitions.iter().filter_map(|partition| partition.lag_records).max() {
            max_lag.push(of_group.clone(), Value::Integer(most));
        }
        if let Some(age) = group.lag_seconds {
            max_seconds.push(of_group.clone(), Value::Number(age));
        }
        if let Some(sum) = whole(group.partitions.iter()) {
            sum_lag.push(of_group.clone(), Value::Integer(sum));
        }
        for (topic, partitions) in by_topic(group) {
            if let Some(sum) = whole(partitions.into_iter()) {
                topic_sum.push(of_group.and("topic", topic), Value::Integer(sum));
            }
        }
    }
    let (mut latest, mut earliest) = (Family::of(&LATEST), Family::of(&EARLIEST));
    for (topic, partitions) in topics(reading) {
        let of_topic = cluster.and("topic", topic);
        for (number, partition) in partitions {
            let labels = of_topic.and("partition", number.to_string());
            if let Some(end) = partition.log_end_offset {
                latest.push(labels.clone(), Value::Integer(end));
            }
            if let Some(start) = partition.log_start_offset {
                earliest.push(labels, Value::Integer(start));
            }
        }
    }
    let poll = Family::of(&POLL).with(cluster, Value::Count(reading.took_ms));
    vec![lag, seconds, offset, max_lag, max_seconds, sum_lag, topic_sum, latest, earliest, poll]
}

/// None where a part of it is not known.
pub(super) fn whole<'a>(mut partitions: impl Iterator<Item = &'a Partition>) -> Option<i64> {
    partitions.try_fold(0, |sum, partition| Some(sum + partition.lag_records?))
}

/// A member is a worker: its id stands for the member's, which Kafka alone knows.
fn labels(of_group: &Labels, group: &Group, partition: &Partition) -> Labels {
    let owner = partition.owner.as_deref().unwrap_or_default();
    let host =
        group.workers.iter().find(|worker| worker.owner == owner).map_or("", |worker| worker.host.as_str());
    let client = if owner.is_empty() { String::new() } else { format!("{CLIENT_ID_PREFIX}{owner}") };
    of_group
        .and("topic", partition.topic.as_str())
        .and("partition", partition.partition.to_string())
        .and("member_host", host)
        .and("consumer_id", owner)
        .and("client_id", client)
}
