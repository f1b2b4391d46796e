//! Patterns: several topics, of which there may be more any time.
//!
//! A pattern is resolved once per group, like a topic: all topics that match it then, by the start policy, in one
//! transaction, and the fact is recorded in `group_pattern`. From then on whatever is newly matched starts at its
//! beginning, whatever the policy: its first records must not be missed because they were produced before the group
//! noticed the topic.

use std::fmt;
use std::sync::Arc;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::added::Added;
use super::record::Decision;
use super::{Start, StartError};
use crate::ErrorKind;
use crate::batch::PartitionKey;
use crate::config::{INTERNAL_TOPICS, StartPolicy, TopicPattern};
use crate::db::{DbError, Transaction};
use crate::partition::Halt;

/// What a group is to read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted<'a> {
    Topic(&'a str),
    Pattern(&'a TopicPattern),
}

impl Wanted<'_> {
    pub(super) fn covers(&self, topic: &str) -> bool {
        match self {
            Self::Topic(name) => *name == topic,
            Self::Pattern(pattern) => pattern.matches(topic),
        }
    }
}

/// The topics that have a count, by name.
fn counted(
    found: impl Iterator<Item = (String, Result<i32, RDKafkaErrorCode>)>,
    strict: bool,
) -> Result<Vec<(String, i32)>, KafkaError> {
    use RDKafkaErrorCode as Code;
    let mut topics = Vec::new();
    for (topic, count) in found {
        match count {
            Ok(count) => topics.push((topic, count)),
            // Deleted just now.
            Err(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {}
            Err(code) if strict => {
                tracing::warn!(topic, ?code, "Kafka tells nothing of a topic that the pattern matches");
                return Err(KafkaError::MetadataFetch(code));
            }
            Err(_) => {}
        }
    }
    topics.sort();
    Ok(topics)
}

impl fmt::Display for Wanted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(topic) => write!(f, "topic {topic}"),
            Self::Pattern(pattern) => write!(f, "pattern {pattern}"),
        }
    }
}

impl Start {
    /// The topics that there are now, by name, and how many partitions each has. One that matches a pattern, but of which
    /// Kafka tells nothing just now, is left out; `strict`: is an error, since it would count as new later.
    pub(super) async fn look_up(
        &self,
        wanted: Wanted<'_>,
        strict: bool,
    ) -> Result<Vec<(String, i32)>, KafkaError> {
        match wanted {
            Wanted::Topic(topic) => {
                let count = self.catalog.partition_count(topic).await?;
                Ok(count.map(|count| (topic.to_owned(), count)).into_iter().collect())
            }
            Wanted::Pattern(pattern) => {
                let all = self.catalog.topics().await?;
                counted(all.into_iter().filter(|(topic, _)| pattern.matches(topic)), strict)
            }
        }
    }

    /// The program for which the group has recorded it; `None` if it has not.
    pub(super) async fn known_program(&self, wanted: Wanted<'_>) -> Result<Option<String>, DbError> {
        let pattern = match wanted {
            Wanted::Topic(topic) => return Ok(self.known(topic).await?.map(|known| known.program)),
            Wanted::Pattern(pattern) => pattern.as_str(),
        };
        let client = self.db.control().await?;
        let sql = format!(
            "SELECT program FROM {} WHERE group_id = $1 AND pattern = $2",
            self.db.schema.qualified("group_pattern")
        );
        let row = client.query_opt(&sql, &[&&*self.db.identity.group, &pattern]).await?;
        Ok(row.map(|row| row.get(0)))
    }

    /// Records that a pattern is being resolved, unless another worker was first.
    pub(super) async fn record_pattern(
        &self,
        transaction: &Transaction<'_>,
        pattern: &TopicPattern,
    ) -> Result<bool, tokio_postgres::Error> {
        // No topic's name begins with `^`, so the lock is the pattern's own.
        self.lock(transaction, pattern.as_str()).await?;
        let inserted = transaction
            .execute(
                &format!(
                    "INSERT INTO {} (group_id, pattern, start_policy, program, resolved_by) VALUES ($1, $2, $3, $4, $5) \
                     ON CONFLICT DO NOTHING",
                    self.db.schema.qualified("group_pattern")
                ),
                &[
                    &&*self.db.identity.group,
                    &pattern.as_str(),
                    &self.policy.to_string(),
                    &self.program,
                    &self.db.identity.owner,
                ],
            )
            .await?;
        Ok(inserted == 1)
    }

    /// A topic that the group does not know, and yet is assigned: newly matched, so it starts at its beginning. The
    /// outer error means that Postgres did not answer; if Kafka does not, the caller looks again.
    pub(super) async fn newly_matched(&self, key: &PartitionKey) -> Result<Result<Added, Halt>, DbError> {
        let topic = &*key.topic;
        let pattern = match self.covering(topic).await? {
            Ok(pattern) => pattern,
            Err(why) => return Ok(Err(why)),
        };
        let partition_count = match self.catalog.partition_count(topic).await {
            Ok(Some(count)) => count,
            Ok(None) => return Ok(Ok(Added::no_topic())),
            Err(error) => return Ok(Ok(Added::unanswered(&error))),
        };
        // As in `resolve`: the identity comes first.
        let identity = match self.catalog.identity(topic).await {
            Ok(identity) => identity,
            Err(error) => return Ok(Ok(Added::unanswered(&error))),
        };
        let positions = match self.positions(topic, partition_count, StartPolicy::Earliest).await {
            Ok(positions) => positions,
            Err(StartError::Db(error)) => return Err(error),
            Err(StartError::Refused(error)) => {
                return Ok(Err(Halt::new(error.kind(), error.to_string())));
            }
            Err(error @ (StartError::Kafka(_) | StartError::UnknownTopic | StartError::Moved)) => {
                return Ok(Ok(Added::unanswered(&error)));
            }
        };
        let decision = Decision {
            topic,
            kind: "start",
            policy: &StartPolicy::Earliest.to_string(),
            positions: &positions,
            identity: &identity,
            reason: &format!("topic newly matched by {pattern}"),
        };
        let mut client = self.db.control().await?;
        let transaction = client.transaction().await?;
        self.lock(&transaction, topic).await?;
        self.record(&transaction, &decision).await?;
        transaction.commit().await?;
        Ok(Ok(Added::Recorded))
    }

    /// The pattern by which Kafka assigned a topic, or why there is none.
    async fn covering(&self, topic: &str) -> Result<Result<&TopicPattern, Halt>, DbError> {
        let group = &*self.db.identity.group;
        let refused = |why: String| Ok(Err(Halt::new(ErrorKind::StartPolicy, why)));
        if INTERNAL_TOPICS.contains(&topic) {
            return refused(format!("{topic} is one of Kafka's own topics: group {group} does not read it"));
        }
        let client = self.db.control().await?;
        let sql =
            format!("SELECT pattern FROM {} WHERE group_id = $1", self.db.schema.qualified("group_pattern"));
        let rows = client.query(&sql, &[&group]).await?;
        let resolved: Vec<Arc<str>> = rows.iter().map(|row| row.get::<_, &str>(0).into()).collect();
        let mut ours =
            self.patterns.iter().filter(|pattern| resolved.iter().any(|known| **known == *pattern.as_str()));
        if let Some(pattern) = ours.clone().find(|pattern| pattern.matches(topic)) {
            return Ok(Ok(pattern));
        }
        match ours.next() {
            // Who assigns it has the say; the dialects were meant to agree.
            Some(pattern) => {
                tracing::warn!(topic, %pattern, "Kafka matched a topic that the worker itself does not");
                Ok(Ok(pattern))
            }
            None => refused(format!(
                "group {group} has no start position for topic {topic}: it was never resolved; restart the worker"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Left out of a resolution, it would be taken for a new topic later, and start at its beginning.
    #[test]
    fn a_topic_of_which_kafka_tells_nothing_is_waited_for_where_a_pattern_is_resolved() {
        let found = || {
            let unknown = RDKafkaErrorCode::UnknownTopicOrPartition;
            [("b", Ok(2)), ("gone", Err(unknown)), ("a", Ok(1))]
                .map(|(topic, count)| (topic.to_owned(), count))
        };
        let expected = [("a".to_owned(), 1), ("b".to_owned(), 2)];
        assert_eq!(counted(found().into_iter(), true).unwrap(), expected);
        let doubtful =
            || found().into_iter().chain([("c".to_owned(), Err(RDKafkaErrorCode::LeaderNotAvailable))]);
        assert!(counted(doubtful(), true).is_err());
        assert_eq!(counted(doubtful(), false).unwrap(), expected);
    }
}
