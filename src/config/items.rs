//! Lists of names, each checked alone: brokers and topics.

use std::collections::BTreeSet;

use super::pattern::{INTERNAL_TOPICS, TopicPattern, is_pattern};

/// Kafka's own limit.
const TOPIC_MAX_BYTES: usize = 249;

pub(super) fn check_brokers(brokers: &[String]) -> Result<(), String> {
    check_items(brokers, "broker")?;
    match brokers.iter().find(|broker| broker.contains("://")) {
        Some(broker) => Err(format!("{broker:?} is not host:port: leave out the scheme")),
        None => Ok(()),
    }
}

pub(crate) fn check_topics(topics: &[String]) -> Result<(), String> {
    check_items(topics, "topic")?;
    let mut seen = BTreeSet::new();
    for topic in topics {
        if !seen.insert(topic) {
            return Err(format!("`{topic}` is named twice"));
        }
        if is_pattern(topic) {
            TopicPattern::new(topic)?;
            continue;
        }
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if !topic.chars().all(legal) || topic.len() > TOPIC_MAX_BYTES || topic == "." || topic == ".." {
            return Err(format!(
                "`{topic}` can't be a topic's name: Kafka allows up to {TOPIC_MAX_BYTES} letters, digits, `.`, `_` and `-`"
            ));
        }
        if INTERNAL_TOPICS.contains(&topic.as_str()) {
            return Err(format!("`{topic}` is one of Kafka's own topics: it can't be consumed"));
        }
    }
    Ok(())
}

/// The exporters whose names ours knows.
pub(super) const COMPAT: [&str; 4] = ["kafka_exporter", "kafka_lag_exporter", "burrow", "kminion"];

pub(super) fn check_compat(names: &[String]) -> Result<(), String> {
    match names.iter().find(|name| !COMPAT.contains(&name.as_str())) {
        Some(name) => Err(format!("`{name}` is no exporter that this knows: choose {}", COMPAT.join(", "))),
        None => Ok(()),
    }
}

fn check_items(items: &[String], noun: &str) -> Result<(), String> {
    if items.is_empty() {
        return Err(format!("is empty: name at least one {noun}"));
    }
    match items
        .iter()
        .find(|item| item.is_empty() || item.chars().any(|c| c.is_whitespace() || c.is_control()))
    {
        Some(item) => Err(format!("{item:?} is not a {noun}: look for a stray comma or blank")),
        None => Ok(()),
    }
}
