//! KMinion's names.

use std::collections::HashSet;
use std::sync::Arc;

use super::counters::Counters;
use super::definitions::gauge;
use super::kafka_exporter::topics;
use super::own::by_topic;
use crate::fleet::{Group, Reading};
use crate::metrics::definition::{Definition, Kind};
use crate::metrics::exposition::{Family, Labels, Value};

const OF_GROUP: &[&str] = &["group_id"];
const OF_TOPIC: &[&str] = &["group_id", "topic_name"];
const OF_LOG: &[&str] = &["topic_name", "partition_id"];

static LAG: Definition = gauge(
    "kminion_kafka_consumer_group_topic_partition_lag",
    &["group_id", "topic_name", "partition_id"],
    "The number of messages a consumer group is lagging behind the latest offset of a partition",
);
static TOPIC_LAG: Definition = gauge(
    "kminion_kafka_consumer_group_topic_lag",
    OF_TOPIC,
    "The number of messages a consumer group is lagging behind across all partitions in a topic",
);
static OFFSET_SUM: Definition = gauge(
    "kminion_kafka_consumer_group_topic_offset_sum",
    OF_TOPIC,
    "The sum of all committed group offsets across all partitions in a topic",
);
static TOPIC_MEMBERS: Definition = gauge(
    "kminion_kafka_consumer_group_topic_members",
    OF_TOPIC,
    "Number of members in the consumer group that have a partition of the topic",
);
static ASSIGNED: Definition = gauge(
    "kminion_kafka_consumer_group_topic_assigned_partitions",
    OF_TOPIC,
    "Number of partitions of the topic that are assigned to members of the group",
);
static INFO: Definition = gauge(
    "kminion_kafka_consumer_group_info",
    &["group_id", "protocol", "protocol_type", "state", "coordinator_id"],
    "Consumer Group info metrics. It will report 1 if the group is in the stable state, otherwise 0.",
);
static MEMBERS: Definition =
    gauge("kminion_kafka_consumer_group_members", OF_GROUP, "Number of members in the consumer group");
static EMPTY: Definition = gauge(
    "kminion_kafka_consumer_group_empty_members",
    OF_GROUP,
    "It will report the number of members in the consumer group with no partition assigned",
);
static COMMITS: Definition = Definition {
    name: "kminion_kafka_consumer_group_offset_commits_total",
    kind: Kind::Counter,
    unit: None,
    labels: OF_GROUP,
    help: "The number of offsets committed by a group",
};
static LOW: Definition =
    gauge("kminion_kafka_topic_partition_low_water_mark", OF_LOG, "Partition Low Water Mark");
static HIGH: Definition =
    gauge("kminion_kafka_topic_partition_high_water_mark", OF_LOG, "Partition High Water Mark");

pub(super) fn families(reading: &Reading, counters: &Counters) -> Vec<Family> {
    let mut families = of_topics(reading);
    families.extend(of_groups(reading, counters));
    families.extend(of_logs(reading));
    families
}

fn of_topics(reading: &Reading) -> Vec<Family> {
    let (mut lag, mut topic_lag, mut sum) =
        (Family::of(&LAG), Family::of(&TOPIC_LAG), Family::of(&OFFSET_SUM));
    let (mut members, mut assigned) = (Family::of(&TOPIC_MEMBERS), Family::of(&ASSIGNED));
    for group in &reading.groups {
        let of_group = Labels::new([("group_id", Arc::from(group.group.as_str()))]);
        let live = live(group);
        for (topic, partitions) in by_topic(group) {
            let of_topic = of_group.and("topic_name", topic);
            for partition in &partitions {
                if let Some(records) = partition.lag_records {
                    let labels = of_topic.and("partition_id", partition.partition.to_string());
                    lag.push(labels, Value::Integer(records));
                }
            }
            let whole: Option<i64> = partitions.iter().map(|partition| partition.lag_records).sum();
            if let Some(records) = whole {
                topic_lag.push(of_topic.clone(), Value::Integer(records));
            }
            sum.push(of_topic.clone(), Value::Integer(partitions.iter().map(|p| p.next_offset).sum()));
            let held: Vec<&str> = partitions
                .iter()
                .filter_map(|p| p.owner.as_deref())
                .filter(|owner| live.contains(owner))
                .collect();
            assigned.push(of_topic.clone(), Value::Count(held.len() as u64));
            members.push(of_topic, Value::Count(held.into_iter().collect::<HashSet<_>>().len() as u64));
        }
    }
    vec![lag, topic_lag, sum, members, assigned]
}

fn live(group: &Group) -> HashSet<&str> {
    group.workers.iter().filter(|worker| worker.live).map(|worker| worker.owner.as_str()).collect()
}

fn of_groups(reading: &Reading, counters: &Counters) -> Vec<Family> {
    let (mut info, mut members) = (Family::of(&INFO), Family::of(&MEMBERS));
    let (mut empty, mut commits) = (Family::of(&EMPTY), Family::of(&COMMITS));
    for group in &reading.groups {
        let of_group = Labels::new([("group_id", Arc::from(group.group.as_str()))]);
        let has_members = group.live_workers > 0;
        // Which protocol, and who coordinates it, nobody has asked Kafka.
        let labels = of_group
            .and("protocol", "")
            .and("protocol_type", "consumer")
            .and("state", if has_members { "Stable" } else { "Empty" })
            .and("coordinator_id", "");
        info.push(labels, Value::Count(u64::from(has_members)));
        members.push(of_group.clone(), Value::Count(group.live_workers as u64));
        let idle = group.workers.iter().filter(|worker| worker.live && worker.partitions == 0).count();
        empty.push(of_group.clone(), Value::Count(idle as u64));
        commits.push(of_group, Value::Count(counters.of(&group.group).commits));
    }
    vec![info, members, empty, commits]
}

fn of_logs(reading: &Reading) -> Vec<Family> {
    let (mut low, mut high) = (Family::of(&LOW), Family::of(&HIGH));
    for (topic, partitions) in topics(reading) {
        let of_topic = Labels::new([("topic_name", Arc::from(topic))]);
        for (number, partition) in partitions {
            let labels = of_topic.and("partition_id", number.to_string());
            if let Some(offset) = partition.log_start_offset {
                low.push(labels.clone(), Value::Integer(offset));
            }
            if let Some(offset) = partition.log_end_offset {
                high.push(labels, Value::Integer(offset));
            }
        }
    }
    vec![low, high]
}
