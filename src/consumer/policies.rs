//! Whether topics are compacted: then records may be gone from the middle of a log.

use std::collections::HashMap;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, OwnedResourceSpecifier, ResourceSpecifier};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::KafkaError;

use super::Catalog;
use super::catalog::ANSWER_TIMEOUT;
use super::context::Context;

impl Catalog {
    /// Of each topic, whether it is compacted; one of which this client may not know that is not in the answer.
    ///
    /// # Errors
    /// If no broker answered.
    pub(crate) async fn compacted(&self, topics: &[&str]) -> Result<HashMap<String, bool>, KafkaError> {
        let mut config = ClientConfig::new();
        for (name, value) in self.properties() {
            // What only consumers have would be complained of.
            if ["bootstrap.", "client.", "security.", "sasl.", "ssl.", "socket.", "broker.", "reconnect."]
                .iter()
                .any(|prefix| name.starts_with(prefix))
            {
                config.set(name, value);
            }
        }
        let client: AdminClient<Context> = AdminClient::from_config_and_context(&config, Context)?;
        let wanted: Vec<ResourceSpecifier<'_>> =
            topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        let options = AdminOptions::new().request_timeout(Some(ANSWER_TIMEOUT));
        let answers = client.describe_configs(&wanted, &options).await;
        // Its thread is waited for.
        drop(tokio::task::spawn_blocking(move || drop(client)));
        let mut found = HashMap::new();
        for answer in answers? {
            let Ok(resource) = answer else { continue };
            let policy = resource.get("cleanup.policy").and_then(|entry| entry.value.as_deref());
            if let (OwnedResourceSpecifier::Topic(topic), Some(policy)) = (&resource.specifier, policy) {
                found.insert(topic.clone(), policy.split(',').any(|word| word.trim() == "compact"));
            }
        }
        Ok(found)
    }
}
