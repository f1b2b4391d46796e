//! What Kafka knows of topics, asked through a client that is in no group and so never disturbs the one that is.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::context::Context;
use crate::NextOffset;
use crate::batch::PartitionKey;

/// How long one question may take before it counts as failed and is asked again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// First offset and end of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watermarks {
    pub(crate) low: NextOffset,
    pub(crate) high: NextOffset,
}

/// Asks brokers about topics. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Catalog {
    client: Arc<BaseConsumer<Context>>,
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog").finish_non_exhaustive()
    }
}

impl Catalog {
    /// Makes the client from a consumer's properties; connects in the background.
    pub(crate) fn new(properties: &[(String, String)]) -> Result<Self, KafkaError> {
        let mut config = ClientConfig::new();
        let of_the_group = ["group.", "session.", "heartbeat.", "partition.assignment.", "max.poll.interval"];
        for (name, value) in properties {
            if !of_the_group.iter().any(|prefix| name.starts_with(prefix)) {
                config.set(name, value);
            }
        }
        let client = BaseConsumer::from_config_and_context(&config, Context)?;
        Ok(Self { client: Arc::new(client) })
    }

    /// How many partitions the topic has; `None` if there is no such topic (or this client may not see it).
    pub(crate) async fn partition_count(&self, topic: &str) -> Result<Option<i32>, KafkaError> {
        let topic = topic.to_owned();
        self.ask(move |client| {
            let metadata = client.fetch_metadata(Some(&topic), ANSWER_TIMEOUT)?;
            let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
                return Ok(None);
            };
            match found.error() {
                None => Ok(i32::try_from(found.partitions().len()).ok().filter(|&count| count > 0)),
                Some(error) => match RDKafkaErrorCode::from(error) {
                    RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => Ok(None),
                    code => Err(KafkaError::MetadataFetch(code)),
                },
            }
        })
        .await
    }

    /// The partition's first offset and its end: under `read_committed` the last stable offset.
    pub(crate) async fn watermarks(&self, key: &PartitionKey) -> Result<Watermarks, KafkaError> {
        let key = key.clone();
        self.ask(move |client| {
            let (low, high) = client.fetch_watermarks(&key.topic, key.partition, ANSWER_TIMEOUT)?;
            match (NextOffset::new(low), NextOffset::new(high)) {
                (Some(low), Some(high)) => Ok(Watermarks { low, high }),
                _ => Err(KafkaError::OffsetFetch(RDKafkaErrorCode::UnknownPartition)),
            }
        })
        .await
    }

    /// The cluster's id, if the broker tells.
    pub(crate) async fn cluster_id(&self) -> Option<String> {
        self.ask(|client| Ok(client.client().fetch_cluster_id(ANSWER_TIMEOUT))).await.ok().flatten()
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&BaseConsumer<Context>) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, KafkaError> {
        let client = Arc::clone(&self.client);
        tokio::task::spawn_blocking(move || question(&client))
            .await
            .unwrap_or_else(|_| Err(KafkaError::Canceled))
    }
}
