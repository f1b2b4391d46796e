//! Partitions that have no row yet.

use std::fmt::Display;
use std::sync::Arc;

use super::Start;
use crate::ErrorKind;
use crate::batch::PartitionKey;
use crate::db::DbError;
use crate::partition::Halt;

/// What became of a partition that had no row.
#[derive(Debug)]
pub(in crate::claim) enum Added {
    /// It has one now.
    Recorded,
    /// Kafka does not say where it begins: look again after a while.
    Unanswered(String),
}

impl Start {
    /// A partition without a row: added to the topic since, or vanished.
    pub(in crate::claim) async fn added_partition(
        &self,
        key: &PartitionKey,
    ) -> Result<Result<Added, Halt>, DbError> {
        let group = &*self.db.identity.group;
        let Some(known) = self.known(&key.topic).await? else { return self.newly_matched(key).await };
        if key.partition < known.partition_count {
            return Ok(Err(Halt::new(
                ErrorKind::Guard,
                format!(
                    "the row of {key} for group {group} has vanished from consumer_offset, though the group knows \
                     {} partitions of the topic: restore it from a backup, or set the group's offset by hand; \
                     guessing would lose or repeat records",
                    known.partition_count
                ),
            )));
        }
        // Added partitions start at their beginning, whatever the policy: a record must not be missed because
        // it was produced before the group noticed the partition.
        let now = match self.catalog.partition_count(&key.topic).await {
            Ok(Some(now)) => now,
            Ok(None) => return Ok(Ok(Added::no_topic())),
            Err(error) => return Ok(Ok(Added::unanswered(&error))),
        };
        let mut added = Vec::new();
        for partition in known.partition_count..now {
            let key = PartitionKey { topic: Arc::clone(&key.topic), partition };
            match self.catalog.watermarks(&key).await {
                Ok(available) => added.push((partition, available.low.get())),
                Err(error) => return Ok(Ok(Added::unanswered(&error))),
            }
        }
        let mut client = self.db.control().await?;
        let transaction = client.transaction().await?;
        self.lock(&transaction, &key.topic).await?;
        self.insert_rows(&transaction, &key.topic, &added, "start", "partition added to the topic").await?;
        transaction
            .execute(
                &format!(
                    "UPDATE {} SET partition_count = greatest(partition_count, $3) WHERE group_id = $1 AND topic = $2",
                    self.db.schema.qualified("group_topic")
                ),
                &[&group, &&*key.topic, &now],
            )
            .await?;
        transaction.commit().await?;
        tracing::info!(topic = &*key.topic, from = known.partition_count, to = now, "the topic has grown");
        Ok(Ok(Added::Recorded))
    }
}

impl Added {
    pub(super) fn unanswered(error: &impl Display) -> Self {
        Self::Unanswered(format!("Kafka does not say where it begins ({error}); trying again"))
    }

    pub(super) fn no_topic() -> Self {
        Self::Unanswered("Kafka assigns it, but does not know its topic; trying again".to_owned())
    }
}
