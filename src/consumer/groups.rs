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

/// Whether Kafka refused the question, rather than being away.
pub(crate) fn is_refusal(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed
        )
    )
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use rdkafka::mocking::{MockCluster, MockCoordinator};

    use super::*;

    /// Without a client of its own for each failure, the second answer would find the first question's remains and abort
    /// the process.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_coordinator_may_come_back_after_a_question_has_timed_out() {
        let cluster = MockCluster::new(2).unwrap();
        cluster.coordinator(MockCoordinator::Group("g".to_owned()), 2).unwrap();
        let properties = [("bootstrap.servers".to_owned(), cluster.bootstrap_servers())];
        let catalog = Catalog::new(&properties).unwrap();
        cluster.broker_down(2).unwrap();
        assert!(catalog.group_offsets("g", |_| true).await.is_err(), "the coordinator is away");
        cluster.broker_up(2).unwrap();
        let until = Instant::now() + std::time::Duration::from_secs(30);
        while let Err(error) = catalog.group_offsets("g", |_| true).await {
            assert!(Instant::now() < until, "{error}");
        }
    }
}
