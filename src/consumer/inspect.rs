//! What an examination asks Kafka: who is there, what topics are like, what this client may do. Nothing is changed by it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use rdkafka::admin::{AdminOptions, ConfigResource, OwnedResourceSpecifier, ResourceSpecifier};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::Catalog;
use super::catalog::ANSWER_TIMEOUT;
use super::ffi::groups;
pub(crate) use super::ffi::rights::Right;
use super::ffi::topics::{OffsetSpec, Question};
use crate::batch::PartitionKey;

/// A broker, and where it says that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broker {
    pub(crate) id: i32,
    pub(crate) address: String,
}

/// A topic's partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionView {
    pub(crate) partition: i32,
    pub(crate) has_leader: bool,
    pub(crate) replicas: usize,
    pub(crate) in_sync: usize,
}

/// A topic's partitions, or why Kafka does not tell.
pub(crate) type TopicView = Result<Vec<PartitionView>, RDKafkaErrorCode>;

/// Properties of a topic or a broker.
pub(crate) type Properties = BTreeMap<String, String>;

impl Catalog {
    /// The brokers, and these topics.
    pub(crate) async fn cluster(
        &self,
        topics: Vec<String>,
    ) -> Result<(Vec<Broker>, BTreeMap<String, TopicView>), KafkaError> {
        self.ask(move |client| {
            let mut brokers = Vec::new();
            let mut found = BTreeMap::new();
            // Without a topic all of them are asked for, which is the one way to hear of the brokers alone.
            let asked: Vec<Option<&str>> = if topics.is_empty() {
                vec![None]
            } else {
                topics.iter().map(|topic| Some(topic.as_str())).collect()
            };
            for topic in asked {
                let metadata = client.fetch_metadata(topic, ANSWER_TIMEOUT)?;
                brokers = metadata
                    .brokers()
                    .iter()
                    .map(|broker| Broker {
                        id: broker.id(),
                        address: format!("{}:{}", broker.host(), broker.port()),
                    })
                    .collect();
                let Some(name) = topic else { continue };
                let view = metadata.topics().iter().find(|view| view.name() == name);
                let view = view.ok_or(RDKafkaErrorCode::UnknownTopicOrPartition).and_then(|view| match view
                    .error()
                {
                    Some(error) => Err(error.into()),
                    None => Ok(view.partitions().iter().map(PartitionView::of).collect()),
                });
                found.insert(name.to_owned(), view);
            }
            brokers.sort_by_key(|broker| broker.id);
            Ok((brokers, found))
        })
        .await
    }

    /// What this client may do with topics.
    pub(crate) async fn topic_rights(
        &self,
        topics: Vec<String>,
    ) -> Result<Vec<(String, Result<BTreeSet<Right>, RDKafkaErrorCode>)>, KafkaError> {
        self.ask(move |client| {
            let names: Vec<&str> = topics.iter().map(String::as_str).collect();
            let answer = Question::rights(client, &names, Instant::now() + ANSWER_TIMEOUT).answer();
            Ok(answer.map_err(KafkaError::AdminOp)?.rights())
        })
        .await
    }

    /// What this client may do with a group.
    pub(crate) async fn group_rights(&self, group: &str) -> Result<BTreeSet<Right>, KafkaError> {
        let group = group.to_owned();
        self.ask_coordinator(move |client| {
            groups::rights(client, &group, ANSWER_TIMEOUT).map_err(KafkaError::AdminOp)
        })
        .await
    }

    /// The newest timestamp among a partition's records, in ms since 1970; a partition without records is left out.
    pub(crate) async fn newest(
        &self,
        keys: Vec<PartitionKey>,
    ) -> Result<HashMap<PartitionKey, i64>, KafkaError> {
        self.ask(move |client| {
            let until = Instant::now() + ANSWER_TIMEOUT;
            let answer = Question::offsets(client, &keys, OffsetSpec::Newest, until, until).answer();
            Ok(answer.map_err(KafkaError::AdminOp)?.timestamps().into_iter().collect())
        })
        .await
    }

    /// The properties of topics, and of a broker; `None`: this client may not see them.
    pub(crate) async fn configs(
        &self,
        topics: &[String],
        broker: Option<i32>,
    ) -> Result<(BTreeMap<String, Option<Properties>>, Option<Properties>), KafkaError> {
        let mut of_topics = BTreeMap::new();
        if !topics.is_empty() {
            let asked: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
            for answer in self.described(&asked).await? {
                if let OwnedResourceSpecifier::Topic(topic) = &answer.specifier {
                    of_topics.insert(topic.clone(), properties(&answer));
                }
            }
        }
        // A request of its own: whoever may not see it is refused as a whole.
        let mut of_broker = None;
        if let Some(broker) = broker {
            let answers = self.described(&[ResourceSpecifier::Broker(broker)]).await;
            of_broker = answers.ok().and_then(|mut answers| properties(&answers.pop()?));
        }
        Ok((of_topics, of_broker))
    }

    /// Topics and brokers with their properties.
    pub(super) async fn described(
        &self,
        asked: &[ResourceSpecifier<'_>],
    ) -> Result<Vec<ConfigResource>, KafkaError> {
        // What only consumers have would be complained of.
        let of_any_client =
            ["bootstrap.", "client.", "security.", "sasl.", "ssl.", "socket.", "broker.", "reconnect."];
        let config =
            self.access().properties_if(|name| of_any_client.iter().any(|prefix| name.starts_with(prefix)));
        let client = self.access().admin(&config)?;
        let options = AdminOptions::new().request_timeout(Some(ANSWER_TIMEOUT));
        let answers = client.describe_configs(asked, &options).await;
        // Its thread is waited for.
        drop(tokio::task::spawn_blocking(move || drop(client)));
        Ok(answers?.into_iter().flatten().collect())
    }
}

/// Where a client may not see any, the crate gives an empty answer instead of an error.
fn properties(resource: &ConfigResource) -> Option<Properties> {
    let given = resource.entries.iter().filter(|entry| !entry.is_sensitive);
    let given: Properties =
        given.filter_map(|entry| Some((entry.name.clone(), entry.value.clone()?))).collect();
    (!given.is_empty()).then_some(given)
}

impl PartitionView {
    fn of(partition: &rdkafka::metadata::MetadataPartition) -> Self {
        Self {
            partition: partition.id(),
            has_leader: partition.leader() >= 0,
            replicas: partition.replicas().len(),
            in_sync: partition.isr().len(),
        }
    }
}
