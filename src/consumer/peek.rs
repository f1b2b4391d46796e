//! How old the records are that come next, where no worker holds them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::{Message as _, Offset, TopicPartitionList};
use tokio::sync::oneshot;

use super::Catalog;
use crate::batch::PartitionKey;

/// How long one poll may take.
const POLL: Duration = Duration::from_millis(100);

impl Catalog {
    /// The timestamps, in ms since 1970, of the first records at or after these offsets. What has none, or does not come
    /// within `limit`, is left out. Reads, joins no group, and keeps nothing of the records.
    ///
    /// # Errors
    /// If there can be no client for it.
    pub(crate) async fn peek(
        &self,
        places: Vec<(PartitionKey, i64)>,
        limit: Duration,
    ) -> Result<HashMap<PartitionKey, i64>, KafkaError> {
        let mut config = self.assignable();
        config.set("fetch.message.max.bytes", "65536");
        // Whoever no longer waits for it keeps no thread busy.
        let access = Arc::clone(self.access());
        let (asked, asker) = oneshot::channel::<()>();
        let _asker = asker;
        self.ask(move |_| {
            let client = access.consumer(&config)?;
            let mut list = TopicPartitionList::new();
            let mut open = HashSet::new();
            for (key, offset) in &places {
                list.add_partition_offset(&key.topic, key.partition, Offset::Offset(*offset))?;
                open.insert(key.clone());
            }
            client.assign(&list)?;
            let until = Instant::now() + limit;
            let mut found = HashMap::new();
            while !open.is_empty() && Instant::now() < until && !asked.is_closed() {
                let record = match client.poll(POLL) {
                    Some(Ok(record)) => record,
                    Some(Err(KafkaError::PartitionEOF(partition))) => {
                        // The topic is not told: where several have this number, they are waited for.
                        let ended: Vec<_> =
                            open.iter().filter(|key| key.partition == partition).cloned().collect();
                        if let [ended] = ended.as_slice() {
                            open.remove(ended);
                        }
                        continue;
                    }
                    _ => continue,
                };
                let key = PartitionKey { topic: record.topic().into(), partition: record.partition() };
                if open.remove(&key)
                    && let Some(at) = record.timestamp().to_millis()
                {
                    found.insert(key, at);
                }
            }
            client.unassign()?;
            Ok(found)
        })
        .await
    }
}
