//! The names of Burrow's own `/metrics`. Classes that Burrow lacks are told as what it would take them for.

use std::str::FromStr as _;
use std::sync::Arc;

use super::definitions::gauge;
use super::kafka_exporter::topics;
use super::kafka_lag_exporter::whole;
use crate::fleet::Reading;
use crate::health::Class;
use crate::metrics::definition::Definition;
use crate::metrics::exposition::{Family, Labels, Value};

const OF_GROUP: &[&str] = &["cluster", "consumer_group"];
const OF_PARTITION: &[&str] = &["cluster", "consumer_group", "topic", "partition"];

// A gauge, whatever its name says.
static LAG: Definition = gauge(
    "burrow_kafka_consumer_lag_total",
    OF_GROUP,
    "The sum of all partition lags for the consumer group",
);
static STATUS: Definition = gauge(
    "burrow_kafka_consumer_status",
    OF_GROUP,
    "The status of the consumer group. It is calculated from the highest status for the individual partitions. Statuses \
     are an index list from NOTFOUND, OK, WARN, ERR, STOP, STALL, REWIND",
);
static PARTITION_LAG: Definition = gauge(
    "burrow_kafka_consumer_partition_lag",
    OF_PARTITION,
    "The lag of the latest offset commit on a partition as reported by burrow.",
);
static CURRENT: Definition = gauge(
    "burrow_kafka_consumer_current_offset",
    OF_PARTITION,
    "Latest offset commit on a partition as reported by burrow.",
);
static PARTITION_STATUS: Definition = gauge(
    "burrow_kafka_topic_partition_status",
    OF_PARTITION,
    "The status of topic partition as reported by burrow.",
);
static END: Definition = gauge(
    "burrow_kafka_topic_partition_offset",
    &["cluster", "topic", "partition"],
    "Latest offset the topic that storage module has seen",
);

pub(super) fn families(reading: &Reading, cluster: &str) -> Vec<Family> {
    let cluster = Labels::new([("cluster", Arc::from(cluster))]);
    let (mut lag, mut status) = (Family::of(&LAG), Family::of(&STATUS));
    let (mut partition_lag, mut current) = (Family::of(&PARTITION_LAG), Family::of(&CURRENT));
    let mut partition_status = Family::of(&PARTITION_STATUS);
    for group in &reading.groups {
        let of_group = cluster.and("consumer_group", group.group.as_str());
        if let Some(sum) = whole(group.partitions.iter()) {
            lag.push(of_group.clone(), Value::Integer(sum));
        }
        if let Ok(class) = Class::from_str(&group.class) {
            status.push(of_group.clone(), Value::Count(class.burrow_group().into()));
        }
        for partition in &group.partitions {
            let labels = of_group
                .and("topic", partition.topic.as_str())
                .and("partition", partition.partition.to_string());
            if let Some(records) = partition.lag_records {
                partition_lag.push(labels.clone(), Value::Integer(records));
            }
            current.push(labels.clone(), Value::Integer(partition.next_offset));
            if let Ok(class) = Class::from_str(&partition.class) {
                partition_status.push(labels, Value::Count(class.burrow().into()));
            }
        }
    }
    let mut end = Family::of(&END);
    for (topic, partitions) in topics(reading) {
        for (number, partition) in partitions {
            if let Some(offset) = partition.log_end_offset {
                end.push(
                    cluster.and("topic", topic).and("partition", number.to_string()),
                    Value::Integer(offset),
                );
            }
        }
    }
    vec![lag, status, partition_lag, current, partition_status, end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{Group, Partition};
    use crate::metrics::exposition::{Format, encode};

    #[test]
    fn a_sum_of_which_a_part_is_not_known_is_left_out() {
        let page = |lags: &[Option<i64>]| {
            let partitions = lags.iter().map(|lag| Partition { lag_records: *lag, ..Partition::default() });
            let mut group = Group { partitions: partitions.collect(), ..Group::default() };
            group.complete();
            encode(families(&Reading::of(1, vec![group]), "c"), Format::Text)
        };
        assert!(page(&[Some(3), Some(4)]).contains("burrow_kafka_consumer_lag_total"));
        assert!(!page(&[Some(3), None]).contains("burrow_kafka_consumer_lag_total"));
    }
}
