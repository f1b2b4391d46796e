//! Topics that are subscribed to and of which nobody in the group has ever been given a partition.
//!
//! librdkafka 2.12.1 may lose the news of a topic that comes in the middle of a rebalance (confluentinc/librdkafka#3008):
//! the group then never reads it, and no client says a word. Of partitions that nobody holds there are no rows, so no other
//! watch sees them. One worker of the group looks, the one whose turn the survey is.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::error::KafkaError;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::config::{Config, TopicPattern};
use crate::consumer::Catalog;
use crate::lag::whose_turn;
use crate::schema::SchemaName;

/// How the words of it begin.
const BEGINNING: &str = "nobody in group ";

/// What was found at the last look: of each such topic how many partitions nobody was given, of how many.
#[derive(Debug, Default)]
pub(super) struct Unassigned(Mutex<BTreeMap<Arc<str>, Missing>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) partitions: i32,
    pub(super) of: i32,
}

impl Missing {
    /// What a person reads of it.
    pub(super) fn words(self, group: &str, topic: &str) -> String {
        let Self { partitions, of } = self;
        format!(
            "{BEGINNING}{group} was given {partitions} of the {of} partitions of {topic}, which it subscribes to"
        )
    }
}

/// Of how many topics a worker's detail says that: it is ready all the same, and nobody else knows.
pub(crate) fn unassigned_topics(detail: &str) -> usize {
    detail.split("; ").filter(|part| part.starts_with(BEGINNING) && part.contains(" was given ")).count()
}

impl Unassigned {
    pub(super) fn found(&self) -> BTreeMap<Arc<str>, Missing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, found: BTreeMap<Arc<str>, Missing>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }
}

/// Who looks, and for what.
pub(super) struct Lookout {
    names: Vec<String>,
    patterns: Vec<TopicPattern>,
    known: String,
    turn: String,
}

impl Lookout {
    pub(super) fn new(config: &Config, schema: &SchemaName) -> Self {
        let (names, patterns) = config.subscription();
        Self {
            names,
            patterns,
            known: format!(
                "SELECT topic, partition FROM {} WHERE group_id = $1",
                schema.qualified("consumer_offset")
            ),
            turn: format!("SELECT $2 IS NOT DISTINCT FROM {}", whose_turn(schema)),
        }
    }

    /// The partitions that somebody has claimed once; `None` if it is another worker's turn to look.
    pub(super) async fn claimed(
        &self,
        client: &Client,
        group: &str,
        me: Uuid,
    ) -> Result<Option<HashSet<(String, i32)>>, tokio_postgres::Error> {
        if !client.query_one(&self.turn, &[&group, &me]).await?.get::<_, bool>(0) {
            return Ok(None);
        }
        let rows = client.query(&self.known, &[&group]).await?;
        Ok(Some(rows.iter().map(|row| (row.get(0), row.get(1))).collect()))
    }

    /// The topics of the subscription that Kafka has, and how many partitions each.
    async fn there(&self, catalog: &Catalog) -> Result<HashMap<String, i32>, KafkaError> {
        let mut there = HashMap::new();
        if !self.patterns.is_empty() {
            for (topic, count) in catalog.topics().await? {
                let is_ours = self.names.contains(&topic)
                    || self.patterns.iter().any(|pattern| pattern.matches(&topic));
                if let Some(count) = count.ok().filter(|_| is_ours) {
                    there.insert(topic, count);
                }
            }
            return Ok(there);
        }
        for topic in &self.names {
            if let Some(count) = catalog.partition_count(topic).await? {
                there.insert(topic.clone(), count);
            }
        }
        Ok(there)
    }

    /// What nobody was given, of what Kafka has.
    pub(super) async fn missing(
        &self,
        catalog: &Catalog,
        claimed: &HashSet<(String, i32)>,
    ) -> Result<BTreeMap<Arc<str>, Missing>, KafkaError> {
        Ok(missing(&self.there(catalog).await?, claimed))
    }
}

fn missing(there: &HashMap<String, i32>, claimed: &HashSet<(String, i32)>) -> BTreeMap<Arc<str>, Missing> {
    let mut held: HashMap<&str, i32> = HashMap::new();
    for (topic, partition) in claimed {
        if there.get(topic).is_some_and(|count| partition < count) {
            *held.entry(topic).or_default() += 1;
        }
    }
    there
        .iter()
        .filter_map(|(topic, &of)| {
            let partitions = of - held.get(&**topic).copied().unwrap_or_default();
            (partitions > 0).then(|| (Arc::from(&**topic), Missing { partitions, of }))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_has_claimed_is_missing_and_what_kafka_has_no_more_is_not() {
        let there = HashMap::from([("whole".to_owned(), 2), ("grown".to_owned(), 3), ("new".to_owned(), 1)]);
        let claimed: HashSet<(String, i32)> =
            [("whole", 0), ("whole", 1), ("grown", 0), ("grown", 1), ("shrunk", 0), ("whole", 5)]
                .map(|(topic, partition)| (topic.to_owned(), partition))
                .into();
        let found = missing(&there, &claimed);
        let expected =
            [("grown", Missing { partitions: 1, of: 3 }), ("new", Missing { partitions: 1, of: 1 })];
        assert_eq!(found, expected.map(|(topic, missing)| (Arc::from(topic), missing)).into());
    }

    #[test]
    fn its_words_are_known_again() {
        let words = Missing { partitions: 1, of: 3 }.words("g", "grown");
        assert_eq!(
            words,
            "nobody in group g was given 1 of the 3 partitions of grown, which it subscribes to"
        );
        assert_eq!(unassigned_topics(&words), 1);
        let told = format!(
            "Subscribed topic not available: x; {words}, for more than 1 min; {words}, for more than 30 s"
        );
        assert_eq!(unassigned_topics(&told), 2);
        assert_eq!(unassigned_topics("no broker answers (kafka:9092)"), 0);
    }
}
