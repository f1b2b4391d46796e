//! A second group that begins where the first one stands: blue and green.

use tokio_postgres::Error as PostgresError;
use uuid::Uuid;

use super::{Offsets, Position, Selection};
use crate::error::{Error, ErrorKind, Result};

/// A copy of a group's positions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    from: String,
    to: String,
    selection: Selection,
    program: Option<String>,
    actor: String,
    reason: String,
}

impl Copy {
    /// All that group `from` stands at becomes the beginning of group `to`.
    #[must_use]
    pub fn new(from: impl Into<String>, to: impl Into<String>) -> Self {
        let (actor, reason) = ("unknown".to_owned(), "none given".to_owned());
        let (from, to) = (from.into(), to.into());
        Self { from, to, selection: Selection::AllTopics, program: None, actor, reason }
    }

    /// Whole topics only.
    #[must_use]
    pub fn select(mut self, selection: Selection) -> Self {
        self.selection = selection;
        self
    }

    /// The program that the new group belongs to. Default: that of the group it is copied from.
    #[must_use]
    pub fn program(mut self, program: Option<String>) -> Self {
        self.program = program;
        self
    }

    /// Who says so, and why: recorded.
    #[must_use]
    pub fn by(mut self, actor: impl Into<String>, reason: impl Into<String>) -> Self {
        self.actor = actor.into();
        self.reason = reason.into();
        self
    }
}

impl Offsets {
    /// Lets a group that knows nothing of these topics begin where another stands, in one snapshot, also while that one
    /// runs. With `execute` false says where that would be.
    ///
    /// # Errors
    ///
    /// If a name is unknown, single partitions are selected, the new group knows one of the topics already
    /// ([`Difference`](ErrorKind::Difference)), or is at work ([`GroupActive`](ErrorKind::GroupActive)).
    pub async fn copy(&mut self, copy: &Copy, execute: bool) -> Result<Vec<Position>> {
        self.reconnect().await?;
        if copy.from == copy.to || copy.to.is_empty() {
            return Err(Error::configuration(
                "a group is copied to another group, which needs a name of its own",
            ));
        }
        if let Selection::Topics(topics) = &copy.selection
            && topics.iter().any(|topic| topic.partitions.is_some())
        {
            return Err(Error::configuration(
                "whole topics are copied: a group starts on all partitions of a topic at once",
            ));
        }
        let standing = self.standing(&copy.from, &copy.selection).await?;
        let mut topics: Vec<String> = standing.iter().map(|row| row.key.topic.to_string()).collect();
        topics.dedup();
        self.refuse_active(&copy.to).await?;
        if !execute {
            let position = |row: &super::rows::Standing| Position {
                group: copy.to.clone(),
                topic: row.key.topic.to_string(),
                partition: row.key.partition,
                offset: row.next_offset,
            };
            return Ok(standing.iter().map(position).collect());
        }
        let copied = self.copy_rows(copy, &topics).await.map_err(|source| {
            Error::postgres(
                format!("copy the offsets of group `{}` to group `{}`", copy.from, copy.to),
                source,
            )
        })?;
        copied.ok_or_else(|| {
            Error::new(
                ErrorKind::Difference,
                format!(
                    "group `{}` stands somewhere in one of these topics already, and nothing was copied: `highwater offsets \
                     delete` forgets that, `highwater offsets reset --from-file` moves it",
                    copy.to
                ),
            )
        })
    }

    /// `None`: the group knows one of them.
    async fn copy_rows(
        &mut self,
        copy: &Copy,
        topics: &[String],
    ) -> Result<Option<Vec<Position>>, PostgresError> {
        let schema = self.database.schema.clone();
        let (known, offsets) = (schema.qualified("group_topic"), schema.qualified("consumer_offset"));
        let transaction = self.client.transaction().await?;
        // As a worker's first start on a topic does.
        for topic in topics {
            let key = format!("highwater start {schema} {} {topic}", copy.to);
            transaction.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", &[&key]).await?;
        }
        let there = format!(
            "SELECT EXISTS (SELECT FROM {known} WHERE group_id = $1 AND topic = ANY($2)) \
               OR EXISTS (SELECT FROM {offsets} WHERE group_id = $1 AND topic = ANY($2))"
        );
        if transaction.query_one(&there, &[&copy.to, &topics]).await?.get(0) {
            return Ok(None);
        }
        let (me, policy) = (Uuid::new_v4(), format!("copied from {}", copy.from));
        let begin = format!(
            "INSERT INTO {known} (group_id, topic, start_policy, partition_count, cluster_id, topic_id, program, resolved_by) \
             SELECT $2, topic, $4, partition_count, cluster_id, topic_id, coalesce($5, program), $6 FROM {known} \
             WHERE group_id = $1 AND topic = ANY($3)"
        );
        transaction.execute(&begin, &[&copy.from, &copy.to, &topics, &policy, &copy.program, &me]).await?;
        if copy.selection == Selection::AllTopics {
            let patterns = format!(
                "INSERT INTO {0} (group_id, pattern, start_policy, program, resolved_by) \
                 SELECT $2, pattern, $3, coalesce($4, program), $5 FROM {0} WHERE group_id = $1 ON CONFLICT DO NOTHING",
                schema.qualified("group_pattern")
            );
            transaction.execute(&patterns, &[&copy.from, &copy.to, &policy, &copy.program, &me]).await?;
        }
        // One statement, one snapshot: a consistent place, whatever the other group does meanwhile.
        let rows = format!(
            "WITH new AS ( \
               INSERT INTO {offsets} (group_id, topic, partition, next_offset, leader_epoch, leader_epoch_offset) \
               SELECT $2, topic, partition, next_offset, leader_epoch, leader_epoch_offset FROM {offsets} \
               WHERE group_id = $1 AND topic = ANY($3) ORDER BY topic, partition RETURNING topic, partition, next_offset), \
             event AS ( \
               INSERT INTO {events} (group_id, topic, partition, kind, to_offset, actor, reason) \
               SELECT $2, topic, partition, 'start', next_offset, $4, $5 FROM new) \
             SELECT topic, partition, next_offset FROM new ORDER BY 1, 2",
            events = schema.qualified("offset_event")
        );
        let reason = format!("{} ({policy})", copy.reason);
        let rows = transaction.query(&rows, &[&copy.from, &copy.to, &topics, &copy.actor, &reason]).await?;
        transaction.commit().await?;
        let position = |row: &tokio_postgres::Row| Position {
            group: copy.to.clone(),
            topic: row.get(0),
            partition: row.get(1),
            offset: row.get(2),
        };
        Ok(Some(rows.iter().map(position).collect()))
    }
}
