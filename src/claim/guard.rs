//! The guard: Kafka must still hold what Postgres says comes next (EO-6).

use rdkafka::error::KafkaError;

use crate::batch::PartitionKey;
use crate::consumer::Catalog;
use crate::partition::Halt;
use crate::{ErrorKind, NextOffset};

/// Checks positions against what Kafka holds.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    catalog: Catalog,
    group: std::sync::Arc<str>,
}

impl Guard {
    pub(crate) fn new(catalog: Catalog, group: std::sync::Arc<str>) -> Self {
        Self { catalog, group }
    }

    /// Low watermark ≤ `next_offset` ≤ end, or why not. The outer error means that Kafka did not answer.
    pub(crate) async fn check(
        &self,
        key: &PartitionKey,
        next_offset: NextOffset,
    ) -> Result<Result<(), Halt>, KafkaError> {
        let available = self.catalog.watermarks(key).await?;
        let group = &self.group;
        let verdict = if next_offset < available.low {
            Err(format!(
                "group {group} must read {key} from offset {next_offset}, but its first record is now at {}: retention \
                 removed {} offsets that were never applied; decide what the lost range means, then set the group's \
                 offset and restart",
                available.low,
                available.low.get() - next_offset.get(),
            ))
        } else if next_offset > available.high {
            Err(format!(
                "group {group} has applied {key} up to offset {next_offset}, but the log ends at {}: it was truncated \
                 or recreated, or this is another cluster; find out which records the database now holds in excess, \
                 then set the group's offset and restart",
                available.high,
            ))
        } else {
            Ok(())
        };
        Ok(verdict.map_err(|message| Halt::new(ErrorKind::Guard, message)))
    }
}
