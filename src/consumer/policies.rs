//! Whether topics are compacted: then records may be gone from the middle of a log.

use std::collections::HashMap;

use rdkafka::admin::{OwnedResourceSpecifier, ResourceSpecifier};
use rdkafka::error::KafkaError;

use super::Catalog;

impl Catalog {
    /// Of each topic, whether it is compacted; one of which this client may not know that is not in the answer.
    ///
    /// # Errors
    /// If no broker answered.
    pub(crate) async fn compacted(&self, topics: &[&str]) -> Result<HashMap<String, bool>, KafkaError> {
        let wanted: Vec<ResourceSpecifier<'_>> =
            topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        let mut found = HashMap::new();
        for resource in self.described(&wanted).await? {
            let policy = resource.get("cleanup.policy").and_then(|entry| entry.value.as_deref());
            if let (OwnedResourceSpecifier::Topic(topic), Some(policy)) = (&resource.specifier, policy) {
                found.insert(topic.clone(), policy.split(',').any(|word| word.trim() == "compact"));
            }
        }
        Ok(found)
    }
}
