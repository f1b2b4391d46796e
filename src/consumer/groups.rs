//! What Kafka knows of consumer groups.

use std::fmt;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::Catalog;
use super::catalog::ANSWER_TIMEOUT;
pub(crate) use super::ffi::groups::{Committed, Member};
use super::ffi::groups::{Wanted, committed, group_ids, members};
use crate::config::CLIENT_ID_PREFIX;

impl Catalog {
    /// The members of `group`; none if there is no such group.
    pub(crate) async fn group_members(&self, group: &str) -> Result<Vec<Member>, KafkaError> {
        let group = group.to_owned();
        self.ask_coordinator(move |client| {
            members(client, &group, ANSWER_TIMEOUT).map_err(KafkaError::AdminOp)
        })
        .await
    }

    /// What `group` has committed of the topics that `covers` names, by topic and partition. An open transaction hides
    /// nothing: the offset before it is told.
    pub(crate) async fn group_offsets(
        &self,
        group: &str,
        covers: impl Fn(&str) -> bool,
    ) -> Result<Vec<Committed>, KafkaError> {
        self.committed(group, Wanted::All, covers).await
    }

    /// What `group` has committed of a topic, and nobody is about to replace.
    ///
    /// # Errors
    /// Also while a producer's open transaction holds an offset of this topic.
    pub(crate) async fn stable_offsets(
        &self,
        group: &str,
        topic: &str,
        partition_count: i32,
    ) -> Result<Vec<Committed>, KafkaError> {
        let wanted = Wanted::Stable { topic: topic.to_owned(), partition_count };
        self.committed(group, wanted, |found| found == topic).await
    }

    async fn committed(
        &self,
        group: &str,
        wanted: Wanted,
        covers: impl Fn(&str) -> bool,
    ) -> Result<Vec<Committed>, KafkaError> {
        let group = group.to_owned();
        let mut found = self
            .ask_coordinator(move |client| {
                committed(client, &group, &wanted, ANSWER_TIMEOUT).map_err(KafkaError::AdminOp)
            })
            .await?;
        // Another topic's error is nobody's business here.
        found.retain(|(topic, _)| covers(topic));
        let found: Result<Vec<_>, _> = found.into_iter().map(|(_, committed)| committed).collect();
        let mut found = found.map_err(KafkaError::AdminOp)?;
        found.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        Ok(found)
    }

    /// The ids of the groups that this client may see.
    pub(crate) async fn group_ids(&self) -> Result<Vec<String>, KafkaError> {
        self.ask(|client| group_ids(client, ANSWER_TIMEOUT).map_err(KafkaError::AdminOp)).await
    }
}

impl Member {
    /// Not one of ours: it takes records away from the group without applying them to this database.
    pub(crate) fn is_foreign(&self) -> bool {
        !self.client_id.starts_with(CLIENT_ID_PREFIX)
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.trim_start_matches('/');
        write!(f, "member {} (client.id {}, host {host})", self.id, self.client_id)
    }
}

/// The client's code, also of an answer to an admin question, of which `rdkafka_error_code` knows none.
pub(crate) fn code(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        error => error.rdkafka_error_code(),
    }
}

/// Whether Kafka refused the question, rather than being away.
pub(crate) fn is_refusal(error: &KafkaError) -> bool {
    matches!(
        code(error),
        Some(
            RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed
        )
    )
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use rdkafka::ClientConfig;
    use rdkafka::config::FromClientConfigAndContext;
    use rdkafka::consumer::BaseConsumer;
    use rdkafka::mocking::{MockCluster, MockCoordinator};
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    use super::*;
    use crate::config::KafkaSecrets;
    use crate::consumer::Access;
    use crate::consumer::context::Context;

    #[test]
    fn a_refused_question_is_a_refusal() {
        assert!(is_refusal(&KafkaError::AdminOp(RDKafkaErrorCode::GroupAuthorizationFailed)));
        assert!(is_refusal(&KafkaError::MetadataFetch(RDKafkaErrorCode::TopicAuthorizationFailed)));
        assert!(!is_refusal(&KafkaError::AdminOp(RDKafkaErrorCode::OperationTimedOut)));
        assert!(!is_refusal(&KafkaError::Canceled));
    }

    /// Without a client of its own for each failure, the second answer would find the first question's remains and abort
    /// the process.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_coordinator_may_come_back_after_a_question_has_timed_out() {
        let cluster = MockCluster::new(2).unwrap();
        cluster.coordinator(MockCoordinator::Group("g".to_owned()), 2).unwrap();
        let properties = vec![("bootstrap.servers".to_owned(), cluster.bootstrap_servers())];
        let catalog = Catalog::new(Access::open(properties, KafkaSecrets::default()).unwrap()).unwrap();
        cluster.broker_down(2).unwrap();
        assert!(catalog.group_offsets("g", |_| true).await.is_err(), "the coordinator is away");
        cluster.broker_up(2).unwrap();
        let until = Instant::now() + Duration::from_secs(30);
        while let Err(error) = catalog.group_offsets("g", |_| true).await {
            assert!(Instant::now() < until, "{error}");
        }
    }

    /// As it does for a moment after a broker's restart. A client without a group would end the process by a signal.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_coordinator_may_say_that_it_is_none() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.coordinator(MockCoordinator::Group("g".to_owned()), 1).unwrap();
        let properties = vec![("bootstrap.servers".to_owned(), cluster.bootstrap_servers())];
        let catalog = Catalog::new(Access::open(properties, KafkaSecrets::default()).unwrap()).unwrap();
        let not_here = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_COORDINATOR;
        cluster.request_errors(RDKafkaApiKey::OffsetFetch, &[not_here; 3]);
        let until = Instant::now() + Duration::from_secs(30);
        let mut refused = 0;
        while let Err(error) = catalog.group_offsets("g", |_| true).await {
            refused += 1;
            assert!(Instant::now() < until, "{error}");
        }
        assert!(refused > 0, "the errors were met");
    }
    /// Whenever it comes back: while a question waits for it, when that was given up, while the client ends. Had the
    /// request a time-out of its own, the process would abort within seconds.
    #[test]
    fn a_coordinator_may_come_back_at_any_moment() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.coordinator(MockCoordinator::Group("g".to_owned()), 1).unwrap();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", cluster.bootstrap_servers()).set("group.id", "g");
        let until = Instant::now() + Duration::from_secs(8);
        let ask = || {
            let (mut answered, mut given_up) = (0, 0);
            while Instant::now() < until {
                let client = BaseConsumer::from_config_and_context(&config, Context).unwrap();
                let limit = || Duration::from_millis(fastrand::u64(200..600));
                while Instant::now() < until && committed(&client, "g", &Wanted::All, limit()).is_ok() {
                    answered += 1;
                }
                given_up += 1;
            }
            (answered, given_up)
        };
        let counts = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            while Instant::now() < until {
                cluster.broker_down(1).unwrap();
                std::thread::sleep(Duration::from_millis(fastrand::u64(100..900)));
                cluster.broker_up(1).unwrap();
                std::thread::sleep(Duration::from_millis(fastrand::u64(100..400)));
            }
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(counts.iter().any(|(answered, _)| *answered > 0), "{counts:?}");
        assert!(counts.iter().any(|(_, given_up)| *given_up > 1), "{counts:?}");
    }
}
