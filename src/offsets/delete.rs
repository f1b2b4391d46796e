//! Forgetting where a group stood.

use serde::Serialize;
use tokio_postgres::Error as PostgresError;

use super::request::Selection;
use super::{Offsets, Position};
use crate::config::TopicPattern;
use crate::error::{Error, ErrorKind, Result};

/// What was forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Deleted {
    /// Where the group stood.
    pub positions: Vec<Position>,
}

impl Offsets {
    /// Deletes what the group knows of whole topics: its offsets and its start. Claims and events stay, and where it stood
    /// is an event. Only while the group rests.
    ///
    /// A worker that starts afterwards is refused as long as Kafka holds the group's mirrored offsets: that nothing is read
    /// twice by mistake, they are to be deleted there, too.
    ///
    /// # Errors
    ///
    /// [`GroupActive`](ErrorKind::GroupActive), or a name that is unknown, or single partitions: a row that is missing halts
    /// its partition.
    pub async fn delete(
        &mut self,
        group: &str,
        selection: &Selection,
        actor: &str,
        reason: &str,
    ) -> Result<Deleted> {
        self.reconnect().await?;
        if let Selection::Topics(topics) = selection
            && topics.iter().any(|topic| topic.partitions.is_some())
        {
            return Err(Error::configuration(
                "offsets are deleted of whole topics: a single partition whose row is missing halts",
            ));
        }
        let standing = self.standing(group, selection).await?;
        self.refuse_active(group).await?;
        let mut topics: Vec<String> = standing.iter().map(|row| row.key.topic.to_string()).collect();
        topics.dedup();
        let failed = |source| Error::postgres(format!("delete offsets of group `{group}`"), source);
        let positions = self.forget(group, &topics, actor, reason).await.map_err(failed)?;
        let Some(positions) = positions else {
            return Err(Error::new(
                ErrorKind::GroupActive,
                format!("a worker of group `{group}` has just claimed a partition; nothing was deleted"),
            ));
        };
        Ok(Deleted { positions })
    }

    /// As [`delete`](Self::delete), of one topic, while the group works on others: one that it does not read any more, or
    /// that is gone. `as_new`: also one that a pattern of the group matches, so that whoever still reads by that pattern
    /// finds it as a new topic, and applies it from its beginning.
    ///
    /// # Errors
    ///
    /// [`GroupActive`](ErrorKind::GroupActive) if a live worker holds one of the topic's partitions;
    /// [`StartPolicy`](ErrorKind::StartPolicy) if a pattern matches it and it is there; a name that is unknown.
    pub async fn forget_topic(
        &mut self,
        group: &str,
        topic: &str,
        as_new: bool,
        actor: &str,
        reason: &str,
    ) -> Result<Deleted> {
        self.reconnect().await?;
        self.standing(group, &Selection::topic(topic)).await?;
        if !as_new {
            self.refuse_matched(group, topic).await?;
        }
        let failed = |source| Error::postgres(format!("forget topic {topic} in group `{group}`"), source);
        // Nobody holds what is paused, though a worker may wait for it: it would find a new topic there.
        let paused = format!(
            "SELECT EXISTS (SELECT FROM {} WHERE group_id = $1 AND topic = $2 AND paused_reason IS NOT NULL)",
            self.schema().qualified("consumer_offset")
        );
        let is_paused: bool = self.client.query_one(&paused, &[&group, &topic]).await.map_err(failed)?.get(0);
        if is_paused && !self.live_workers(group).await?.is_empty() {
            return Err(Error::new(
                ErrorKind::GroupActive,
                format!(
                    "partitions of topic {topic} are paused, and workers of group `{group}` may be waiting for them; nothing was \
                     deleted: take the topic out of their `topics`, and resume it, first"
                ),
            ));
        }
        let positions = self.forget(group, &[topic.to_owned()], actor, reason).await.map_err(failed)?;
        let positions = positions.ok_or_else(|| {
            Error::new(
                ErrorKind::GroupActive,
                format!(
                    "a live worker of group `{group}` holds partitions of topic {topic}, and nothing was deleted: take the topic \
                     out of its `topics` first"
                ),
            )
        })?;
        Ok(Deleted { positions })
    }

    /// What a pattern matches comes back as a new topic, on top of the rows that are there.
    ///
    /// # Errors
    /// If so, or if Kafka does not say whether the topic is there.
    async fn refuse_matched(&self, group: &str, topic: &str) -> Result<()> {
        let sql = format!(
            "SELECT pattern FROM {} WHERE group_id = $1 ORDER BY pattern",
            self.schema().qualified("group_pattern")
        );
        let rows = self.client.query(&sql, &[&group]).await;
        let rows =
            rows.map_err(|source| Error::postgres(format!("read the patterns of group `{group}`"), source))?;
        let mut patterns = rows.iter().filter_map(|row| TopicPattern::new(row.get(0)).ok());
        let Some(pattern) = patterns.find(|pattern| pattern.matches(topic)) else { return Ok(()) };
        let count = self.kafka()?.partition_count(topic).await.map_err(|source| {
            let text = format!("Kafka does not say whether topic {topic}, which {pattern} matches, is there");
            Error::new(ErrorKind::Kafka, text).with_source(source)
        })?;
        if count.is_none() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::StartPolicy,
            format!(
                "topic {topic} is matched by {pattern}, by which group `{group}` reads, and nothing was deleted: its workers \
                 would find it as a new topic, and apply it from its beginning, on top of the rows that are there. Delete it in \
                 Kafka first; or, if no worker reads by that pattern any more, or that is what is wanted, give --as-new"
            ),
        ))
    }

    /// `None`: somebody has claimed a row meanwhile.
    async fn forget(
        &mut self,
        group: &str,
        topics: &[String],
        actor: &str,
        reason: &str,
    ) -> Result<Option<Vec<Position>>, PostgresError> {
        let schema = self.database.schema.clone();
        let offsets = schema.qualified("consumer_offset");
        let transaction = self.client.transaction().await?;
        let lock = format!(
            "SELECT topic, partition, next_offset, coalesce({}, false) FROM {offsets} o \
             WHERE group_id = $1 AND topic = ANY($2) ORDER BY topic, partition FOR UPDATE",
            crate::db::live(&schema, "o.owner")
        );
        let rows = transaction.query(&lock, &[&group, &topics]).await?;
        if rows.iter().any(|row| row.get(3)) {
            return Ok(None);
        }
        let record = format!(
            "WITH gone AS (DELETE FROM {offsets} WHERE group_id = $1 AND topic = ANY($2) RETURNING *), \
             history AS ( \
               INSERT INTO {history} (group_id, topic, partition, epoch, claim_token, owner, instance_id, claimed_offset, \
                 end_offset, applied_records, applied_batches, claimed_at, committed_at) \
               SELECT group_id, topic, partition, epoch, claim_token, claimed_by, instance_id, claimed_offset, next_offset, \
                 applied_records, applied_batches, claimed_at, committed_at FROM gone WHERE claimed_at IS NOT NULL), \
             topics AS (DELETE FROM {topics} WHERE group_id = $1 AND topic = ANY($2)), \
             status AS (DELETE FROM {status} WHERE group_id = $1 AND topic = ANY($2)), \
             survey AS (DELETE FROM {survey} WHERE group_id = $1 AND topic = ANY($2)), \
             control AS (DELETE FROM {control} WHERE group_id = $1 AND topic = ANY($2) AND obeyed_at IS NULL) \
             INSERT INTO {events} (group_id, topic, partition, kind, from_offset, actor, reason) \
             SELECT group_id, topic, partition, 'delete', next_offset, $3, $4 FROM gone",
            history = schema.qualified("claim_history"),
            topics = schema.qualified("group_topic"),
            status = schema.qualified("partition_status"),
            survey = schema.qualified("partition_survey"),
            control = schema.qualified("partition_control"),
            events = schema.qualified("offset_event"),
        );
        transaction.execute(&record, &[&group, &topics, &actor, &reason]).await?;
        // A group of which nothing is known starts by its policy, whatever its pattern has matched before.
        let patterns = format!(
            "DELETE FROM {} WHERE group_id = $1 AND NOT EXISTS (SELECT FROM {} WHERE group_id = $1)",
            schema.qualified("group_pattern"),
            schema.qualified("group_topic"),
        );
        transaction.execute(&patterns, &[&group]).await?;
        transaction.commit().await?;
        let position = |row: &tokio_postgres::Row| Position {
            group: group.to_owned(),
            topic: row.get(0),
            partition: row.get(1),
            offset: row.get(2),
        };
        Ok(Some(rows.iter().map(position).collect()))
    }
}
