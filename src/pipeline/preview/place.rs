//! Where a worker of the file would begin to read. Nothing is recorded, and no group joined.

use std::collections::{HashMap, HashSet};

use rdkafka::error::KafkaError;

use crate::batch::PartitionKey;
use crate::claim::start::{did_you_mean, near};
use crate::config::{Config, StartPolicy, TopicPattern, epoch_ms};
use crate::consumer::Catalog;
use crate::db::{Db, DbError};
use crate::error::{Error, ErrorKind, Result};
use crate::offsets::Place;

/// The partitions, and what of it would keep a worker from starting.
pub(super) struct Places {
    pub(super) partitions: Vec<(PartitionKey, Place)>,
    pub(super) problems: Vec<String>,
}

/// What the group has recorded.
struct Standing {
    /// Topic: program, and the topic's id.
    topics: HashMap<String, (String, Option<String>)>,
    patterns: HashSet<String>,
    offsets: HashMap<PartitionKey, i64>,
}

/// # Errors
/// If a topic is unknown, or Kafka or Postgres do not answer.
pub(super) async fn places(config: &Config, db: &Db, catalog: &Catalog) -> Result<Places> {
    let standing = standing(config, db).await?;
    let mut places = Places { partitions: Vec::new(), problems: Vec::new() };
    let (names, patterns) = config.subscription();
    for (topic, count) in topics(catalog, &names, &patterns).await? {
        let known = standing.topics.get(&topic);
        if let Some((program, topic_id)) = known {
            if *program != config.program {
                places.problems.push(format!(
                    "group {} on topic {topic} belongs to program {program}, but this is {}: use a group of its own, or set \
                     `program` if it was renamed",
                    config.group, config.program
                ));
            }
            let found = catalog.identity(&topic).await.map_err(unanswered)?.topic_id;
            if topic_id.is_some() && found.is_some() && *topic_id != found {
                places.problems.push(format!(
                    "topic {topic} is not the one that the group has read so far: see \"Accept another topic\" in \
                     docs/operations.md"
                ));
            }
        }
        // What is newly matched, or was added, begins at its beginning.
        let is_newly_matched = || {
            let mut covering = patterns.iter().filter(|pattern| pattern.matches(&topic));
            covering.any(|pattern| standing.patterns.contains(pattern.as_str()))
        };
        let begins = if known.is_some() || is_newly_matched() {
            vec![Place::Beginning; usize::try_from(count).unwrap_or(0)]
        } else {
            by_policy(config, catalog, (&topic, count), &mut places.problems).await?
        };
        for (place, partition) in begins.into_iter().zip(0..) {
            let key = PartitionKey { topic: topic.as_str().into(), partition };
            let place = standing.offsets.get(&key).map_or(place, |offset| Place::At(*offset));
            places.partitions.push((key, place));
        }
    }
    Ok(places)
}

/// All topics that are meant, by name, and how many partitions each has.
///
/// # Errors
/// If there is none of a name, or of a pattern.
pub(in crate::pipeline) async fn topics(
    catalog: &Catalog,
    names: &[String],
    patterns: &[TopicPattern],
) -> Result<Vec<(String, i32)>> {
    let all = catalog.topics().await.map_err(|source| refused(catalog, source))?;
    let mut found: Vec<(String, i32)> = Vec::new();
    let unknown = |what: String| Err(Error::new(ErrorKind::UnknownTopic, what));
    for name in names {
        match all.iter().find(|(topic, _)| topic == name) {
            Some((topic, Ok(count))) => found.push((topic.clone(), *count)),
            Some((topic, Err(code))) => {
                return Err(Error::new(
                    ErrorKind::Kafka,
                    format!("Kafka does not tell of topic {topic}: {code}"),
                ));
            }
            None => {
                let others: Vec<String> = all.iter().map(|(topic, _)| topic.clone()).collect();
                let near = did_you_mean(&near(name, &others));
                return unknown(format!(
                    "topic {name} does not exist, or this client may not describe it{near}"
                ));
            }
        }
    }
    for pattern in patterns {
        let matched: Vec<_> = all.iter().filter(|(topic, _)| pattern.matches(topic)).collect();
        if matched.is_empty() {
            return unknown(format!(
                "no topic matches {pattern}, or this client may not describe any that does"
            ));
        }
        found.extend(matched.into_iter().filter_map(|(topic, count)| Some((topic.clone(), (*count).ok()?))));
    }
    found.sort();
    found.dedup();
    Ok(found)
}

async fn by_policy(
    config: &Config,
    catalog: &Catalog,
    (topic, count): (&str, i32),
    problems: &mut Vec<String>,
) -> Result<Vec<Place>> {
    let all = |place| vec![place; usize::try_from(count).unwrap_or(0)];
    Ok(match config.start {
        StartPolicy::Earliest => all(Place::Beginning),
        // What comes then is not there yet: the last ones are most like it.
        StartPolicy::Latest => all(Place::Recent),
        StartPolicy::Fail => {
            problems.push(format!(
                "group {} has never read topic {topic}, and the start policy is `fail`: say start = \"earliest\", \"latest\", \
                 a timestamp or \"adopt-kafka\"",
                config.group
            ));
            all(Place::Beginning)
        }
        StartPolicy::Timestamp(instant) => {
            let found = catalog.offsets_at(topic, count, epoch_ms(instant)).await.map_err(unanswered)?;
            found.into_iter().map(|offset| offset.map_or(Place::Recent, Place::At)).collect()
        }
        StartPolicy::AdoptKafka => {
            let committed = catalog.group_offsets(&config.group, |known| known == topic).await;
            let committed = committed.map_err(unanswered)?;
            if committed.is_empty() {
                problems.push(format!(
                    "group {} has committed nothing of topic {topic} in Kafka: there is nothing to adopt",
                    config.group
                ));
            }
            let mut places = all(Place::Beginning);
            for one in committed {
                if let Some(place) = usize::try_from(one.partition).ok().and_then(|at| places.get_mut(at)) {
                    *place = Place::At(one.offset);
                }
            }
            places
        }
    })
}

async fn standing(config: &Config, db: &Db) -> Result<Standing> {
    let read = async {
        let client = db.control().await?;
        let of = |columns: &str, table: &str| {
            format!("SELECT {columns} FROM {} WHERE group_id = $1", db.schema.qualified(table))
        };
        let topics = client.query(&of("topic, program, topic_id", "group_topic"), &[&config.group]).await?;
        let patterns = client.query(&of("pattern", "group_pattern"), &[&config.group]).await?;
        let offsets =
            client.query(&of("topic, partition, next_offset", "consumer_offset"), &[&config.group]).await?;
        Ok::<_, DbError>(Standing {
            topics: topics.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect(),
            patterns: patterns.iter().map(|row| row.get(0)).collect(),
            offsets: offsets
                .iter()
                .map(|row| {
                    let topic = row.get::<_, &str>(0).into();
                    (PartitionKey { topic, partition: row.get(1) }, row.get(2))
                })
                .collect(),
        })
    };
    read.await.map_err(|error| super::unusable(error, db))
}

fn unanswered(source: KafkaError) -> Error {
    Error::new(ErrorKind::Kafka, "Kafka does not say where the topics' records are").with_source(source)
}

fn refused(catalog: &Catalog, source: KafkaError) -> Error {
    match catalog.refusal() {
        Some(refusal) => {
            let text = format!("Kafka does not let this client in: {}", refusal.text);
            Error::new(ErrorKind::Authentication, text)
        }
        None => Error::new(ErrorKind::Kafka, "Kafka does not answer").with_source(source),
    }
}
