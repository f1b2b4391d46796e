//! A partition as settings name it.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::items::check_topics;

/// A partition of a topic, written `topic:partition`.
///
/// ```
/// use highwater::config::TopicPartition;
///
/// let written: TopicPartition = "payments:3".parse()?;
/// assert_eq!(written, TopicPartition::from(("payments", 3)));
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: String,
    /// The partition's number, from 0.
    pub partition: i32,
}

impl<T: Into<String>> From<(T, i32)> for TopicPartition {
    fn from((topic, partition): (T, i32)) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl FromStr for TopicPartition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.rsplit_once(':').and_then(|(topic, number)| Some((topic, number.parse().ok()?)));
        parts.map(Self::from).ok_or_else(|| format!("`{text}` is not topic:partition, such as payments:3"))
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.topic, self.partition)
    }
}

pub(super) fn check_partitions(partitions: &[TopicPartition]) -> Result<(), String> {
    if partitions.is_empty() {
        return Err("is empty: name at least one partition, or leave it out".to_owned());
    }
    let mut seen = BTreeSet::new();
    for partition in partitions {
        if partition.topic.starts_with('^') {
            return Err(format!("`{partition}` names a pattern: partitions are of one topic each"));
        }
        check_topics(std::slice::from_ref(&partition.topic))?;
        if partition.partition < 0 {
            return Err(format!("`{partition}` can't be a partition: they are numbered from 0"));
        }
        if !seen.insert(partition) {
            return Err(format!("`{partition}` is named twice"));
        }
    }
    Ok(())
}
