//! Where each partition begins under a policy.

use std::time::SystemTime;

use futures_util::future::try_join_all;
use rdkafka::error::KafkaError;

use super::pattern::Wanted;
use super::{Start, StartError};
use crate::batch::PartitionKey;
use crate::config::{StartPolicy, epoch_ms};
use crate::consumer::catalog::Watermarks;

impl Start {
    /// Positions by partition, from 0, of a topic that the group does not know.
    pub(super) async fn positions(
        &self,
        topic: &str,
        partition_count: i32,
        policy: StartPolicy,
    ) -> Result<Vec<i64>, StartError> {
        let committed = self.committed(Wanted::Topic(topic)).await?;
        self.refuse_forgotten(&committed).await?;
        match policy {
            StartPolicy::AdoptKafka => self.adopted(topic, partition_count).await,
            StartPolicy::Timestamp(instant) => self.positions_at(topic, partition_count, instant).await,
            StartPolicy::Latest => {
                let available = self.watermarks(topic, partition_count).await?;
                Ok(available.iter().map(|available| available.high.get()).collect())
            }
            StartPolicy::Earliest | StartPolicy::Fail => {
                let available = self.watermarks(topic, partition_count).await?;
                Ok(available.iter().map(|available| available.low.get()).collect())
            }
        }
    }

    /// The ends are read first: a record that arrives after that is at or behind its partition's end, so that none
    /// is skipped where no record was found.
    async fn positions_at(
        &self,
        topic: &str,
        partition_count: i32,
        instant: SystemTime,
    ) -> Result<Vec<i64>, StartError> {
        let ends = self.watermarks(topic, partition_count).await?;
        let found = self.catalog.offsets_at(topic, partition_count, epoch_ms(instant)).await?;
        Ok(found.into_iter().zip(ends).map(|(found, end)| found.unwrap_or_else(|| end.high.get())).collect())
    }

    pub(super) async fn watermarks(
        &self,
        topic: &str,
        partition_count: i32,
    ) -> Result<Vec<Watermarks>, KafkaError> {
        let keys = (0..partition_count).map(|partition| PartitionKey { topic: topic.into(), partition });
        try_join_all(keys.map(|key| async move { self.catalog.watermarks(&key).await })).await
    }
}
