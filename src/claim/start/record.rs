//! Writing down where a group starts.

use tokio_postgres::Error;

use super::Start;
use crate::consumer::catalog::TopicIdentity;
use crate::db::Transaction;

/// Where a group starts in a topic, as it goes into `group_topic` and `consumer_offset`.
pub(super) struct Decision<'a> {
    pub(super) topic: &'a str,
    /// Of its events in `offset_event`.
    pub(super) kind: &'a str,
    pub(super) policy: &'a str,
    /// By partition, from 0.
    pub(super) positions: &'a [i64],
    pub(super) identity: &'a TopicIdentity,
    /// For `offset_event`.
    pub(super) reason: &'a str,
}

impl Start {
    /// Records a decision, unless another worker was first: then its decision stands, and this is `false`.
    pub(super) async fn record(
        &self,
        transaction: &Transaction<'_>,
        decision: &Decision<'_>,
    ) -> Result<bool, Error> {
        let &Decision { topic, kind, policy, positions, identity, reason } = decision;
        let partition_count = i32::try_from(positions.len()).unwrap_or(i32::MAX);
        let inserted = transaction
            .execute(
                &format!(
                    "INSERT INTO {} (group_id, topic, start_policy, partition_count, cluster_id, topic_id, program, resolved_by) \
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
                    self.db.schema.qualified("group_topic")
                ),
                &[
                    &&*self.db.identity.group,
                    &topic,
                    &policy,
                    &partition_count,
                    &identity.cluster_id,
                    &identity.topic_id,
                    &self.program,
                    &self.db.identity.owner,
                ],
            )
            .await?;
        if inserted == 0 {
            return Ok(false);
        }
        let numbered: Vec<(i32, i64)> = (0..).zip(positions.iter().copied()).collect();
        self.insert_rows(transaction, topic, &numbered, kind, reason).await?;
        tracing::info!(topic, partitions = partition_count, policy, reason, "start positions resolved");
        Ok(true)
    }

    pub(super) async fn lock(&self, transaction: &Transaction<'_>, topic: &str) -> Result<(), Error> {
        transaction
            .execute(
                "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))",
                &[&format!("highwater start {} {} {topic}", self.db.schema, self.db.identity.group)],
            )
            .await?;
        Ok(())
    }

    pub(super) async fn insert_rows(
        &self,
        transaction: &Transaction<'_>,
        topic: &str,
        positions: &[(i32, i64)],
        kind: &str,
        reason: &str,
    ) -> Result<(), Error> {
        let (partitions, offsets): (Vec<i32>, Vec<i64>) = positions.iter().copied().unzip();
        // ON CONFLICT: the position comes from the row, whoever wrote it first. An event only for what was new.
        transaction
            .execute(
                &format!(
                    "WITH new AS ( \
                       INSERT INTO {} (group_id, topic, partition, next_offset) \
                       SELECT $1, $2, p, o FROM unnest($3::int4[], $4::int8[]) AS n(p, o) ORDER BY p \
                       ON CONFLICT DO NOTHING RETURNING partition, next_offset) \
                     INSERT INTO {} (group_id, topic, partition, kind, to_offset, actor, reason) \
                     SELECT $1, $2, partition, $7, next_offset, $5, $6 FROM new",
                    self.db.schema.qualified("consumer_offset"),
                    self.db.schema.qualified("offset_event")
                ),
                &[
                    &&*self.db.identity.group,
                    &topic,
                    &partitions,
                    &offsets,
                    &format!("worker {}", self.db.identity.owner),
                    &reason,
                    &kind,
                ],
            )
            .await?;
        Ok(())
    }
}
