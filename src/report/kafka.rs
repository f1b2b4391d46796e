//! Kafka's view: brokers, topics and their properties, the groups' members and mirrored offsets.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Collection;
use crate::config::DoctorConfig;

/// How many groups are asked for.
const ASKED: usize = 20;

pub(super) async fn add(collection: &mut Collection, config: &DoctorConfig, groups: &[String]) {
    let about = "Kafka's view: brokers, topics, members, mirrored offsets";
    let name = "kafka.json";
    if config.operator.brokers.is_empty() {
        collection.text(name, about, Err("no brokers are configured".to_owned()));
        return;
    }
    let catalog = match config.operator.catalog() {
        Ok(catalog) => catalog,
        Err(error) => {
            collection.text(name, about, Err(error.report()));
            return;
        }
    };
    let topics: BTreeSet<String> = topics(collection).collect();
    let topics: Vec<String> = topics.into_iter().collect();
    let (brokers, views) = match catalog.cluster(topics.clone()).await {
        Ok(found) => found,
        Err(error) => {
            collection.text(name, about, Err(format!("no broker answers: {error}")));
            return;
        }
    };
    let properties = catalog.configs(&topics, None).await.map(|(topics, _)| topics).unwrap_or_default();
    let of_topics: Vec<Value> = views
        .iter()
        .map(|(topic, view)| {
            let partitions = view.as_ref().map(|partitions| {
                let shown = partitions.iter().map(|view| {
                    json!({ "partition": view.partition, "led": view.has_leader, "replicas": view.replicas,
                            "in_sync": view.in_sync })
                });
                shown.collect::<Vec<_>>()
            });
            let properties = match properties.get(topic) {
                Some(Some(properties)) => json!(properties),
                Some(None) => json!({ "unread": "this client may not see them" }),
                None => Value::Null,
            };
            let partitions =
                partitions.map_or_else(|code| json!({ "unread": code.to_string() }), |found| json!(found));
            json!({ "topic": topic, "partitions": partitions, "properties": properties })
        })
        .collect();
    let mut of_groups = Vec::new();
    for group in groups.iter().take(ASKED) {
        let members = match catalog.group_members(group).await {
            Ok(members) => members
                .iter()
                .map(|member| json!({ "id": member.id, "client_id": member.client_id, "host": member.host }))
                .collect(),
            Err(error) => json!({ "unread": error.to_string() }),
        };
        let committed = match catalog.group_offsets(group, |_| true).await {
            Ok(committed) => committed
                .iter()
                .map(|found| {
                    json!({ "topic": found.topic, "partition": found.partition, "offset": found.offset,
                            "metadata": found.metadata })
                })
                .collect(),
            Err(error) => json!({ "unread": error.to_string() }),
        };
        of_groups.push(json!({ "group": group, "members": members, "committed": committed }));
    }
    let brokers: Vec<Value> =
        brokers.iter().map(|broker| json!({ "id": broker.id, "address": broker.address })).collect();
    collection.json(name, about, Ok(json!({ "brokers": brokers, "topics": of_topics, "groups": of_groups })));
}

/// Those that the part before has found.
fn topics(collection: &Collection) -> impl Iterator<Item = String> {
    let part = collection.parts.iter().find(|part| part.name == "tables/group_topic.json");
    let rows: Vec<Value> = part.and_then(|part| serde_json::from_str(&part.content).ok()).unwrap_or_default();
    rows.into_iter().filter_map(|row| Some(row.get("topic")?.as_str()?.to_owned()))
}
