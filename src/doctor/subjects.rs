//! Which groups, topics and partitions are examined: what the database knows, and what this environment names.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::{Client, Transaction};

use super::{Checked, Finding, Patient, ask};
use crate::batch::PartitionKey;
use crate::claim::start::{did_you_mean, near};
use crate::config::{ONE_OFF_GROUP, is_pattern};
use crate::consumer::inspect::TopicView;

/// What a group knows of a topic.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) partitions: i32,
    pub(super) topic_id: Option<String>,
    pub(super) cluster_id: Option<String>,
}

/// Where a partition stands.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) group: String,
    pub(super) key: PartitionKey,
    pub(super) next_offset: i64,
    /// How old the next record is, as its worker says.
    pub(super) age_seconds: Option<f64>,
}

#[derive(Debug, Default)]
pub(super) struct Subjects {
    pub(super) groups: BTreeSet<String>,
    /// By group and topic.
    pub(super) known: BTreeMap<(String, String), Known>,
    pub(super) topics: BTreeSet<String>,
    pub(super) places: Vec<Place>,
    /// What Kafka says of the topics.
    pub(super) views: BTreeMap<String, TopicView>,
    /// One of the brokers.
    pub(super) broker: Option<i32>,
}

pub(super) async fn find(patient: &mut Patient<'_>, client: Option<&mut Client>) -> Vec<Finding> {
    let worker = &patient.config.worker;
    let mut asked: BTreeSet<String> = patient.options.groups.iter().cloned().collect();
    if asked.is_empty() && !worker.group.is_empty() {
        asked.insert(worker.group.clone());
    }
    let of_environment = worker.topics.iter().filter(|topic| !is_pattern(topic)).cloned();
    patient.subjects.topics = of_environment.collect();
    let findings = match client {
        Some(client) => {
            let (patient, asked) = (&mut *patient, &asked);
            ask(client, "groups", async |transaction| read(patient, transaction, asked).await).await
        }
        None => Vec::new(),
    };
    patient.subjects.groups.extend(asked);
    findings
}

async fn read(patient: &mut Patient<'_>, client: &Transaction<'_>, asked: &BTreeSet<String>) -> Checked {
    let schema = patient.schema();
    let asked_for =
        |group: &str| asked.contains(group) || (asked.is_empty() && !group.starts_with(ONE_OFF_GROUP));
    let sql = format!(
        "SELECT group_id, topic, partition_count, topic_id, cluster_id FROM {} ORDER BY 1, 2",
        schema.qualified("group_topic")
    );
    let (mut all, mut known) = (BTreeSet::new(), BTreeMap::new());
    for row in client.query(&sql, &[]).await? {
        let (group, topic): (String, String) = (row.get(0), row.get(1));
        if asked_for(&group) {
            let about = Known { partitions: row.get(2), topic_id: row.get(3), cluster_id: row.get(4) };
            known.insert((group.clone(), topic), about);
        }
        all.insert(group);
    }
    let sql = format!(
        "SELECT o.group_id, o.topic, o.partition, o.next_offset, \
           extract(epoch FROM clock_timestamp() - s.next_record_timestamp)::float8 \
         FROM {} o LEFT JOIN {} s ON s.group_id = o.group_id AND s.topic = o.topic AND s.partition = o.partition \
           AND s.epoch = o.epoch ORDER BY 1, 2, 3",
        schema.qualified("consumer_offset"),
        schema.qualified("partition_status")
    );
    let mut places = Vec::new();
    for row in client.query(&sql, &[]).await? {
        let group: String = row.get(0);
        if asked_for(&group) {
            let key = PartitionKey { topic: row.get::<_, &str>(1).into(), partition: row.get(2) };
            places.push(Place { group, key, next_offset: row.get(3), age_seconds: row.get(4) });
        }
    }
    let names: Vec<String> = all.into_iter().collect();
    let unknown = asked.iter().filter(|group| !names.contains(group)).map(|group| {
        let hint = did_you_mean(&near(group, &names));
        Finding::warn("groups", format!("this database knows nothing of it{hint}"))
            .of(group)
            .cure("correct the name; a new group needs a start policy at its first start")
    });
    let mut findings: Vec<Finding> = unknown.collect();
    if findings.is_empty() {
        let partitions = super::counted(places.len(), "partition");
        let groups: BTreeSet<&String> = known.keys().map(|(group, _)| group).collect();
        findings.push(Finding::ok(
            "groups",
            format!("{} with {partitions}", super::counted(groups.len(), "group")),
        ));
    }
    let subjects = &mut patient.subjects;
    subjects.groups = known.keys().map(|(group, _)| group.clone()).collect();
    subjects.topics.extend(known.keys().map(|(_, topic)| topic.clone()));
    subjects.known = known;
    subjects.places = places;
    Ok(findings)
}
