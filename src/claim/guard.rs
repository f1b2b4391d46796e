//! The guard: Kafka must still hold what Postgres says comes next, in the very topic of which Postgres says it (EO-6).

mod verdict;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;
use tokio::sync::Notify;

use super::{Claimed, Waiting};
use crate::NextOffset;
use crate::batch::PartitionKey;
use crate::consumer::Catalog;
use crate::consumer::buffer::Seen;
use crate::consumer::catalog::TopicIdentity;
use crate::db::Db;
use crate::db::DbError;
use crate::verdict::{Place, kafka};
pub(crate) use verdict::{Position, Verdict};

/// Checks positions against what Kafka holds.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    catalog: Catalog,
    db: Arc<Db>,
    /// Woken when something of a running partition must be looked into; see the worker's vigil.
    pub(crate) wake: Arc<Notify>,
    recorded: Arc<str>,
    complete: Arc<str>,
}

/// Why there is no verdict yet: somebody did not answer. Never a reason to halt.
#[derive(Debug)]
pub(crate) enum Unanswered {
    Kafka(KafkaError),
    Db(DbError),
}

impl std::fmt::Display for Unanswered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kafka(error) => write!(f, "Kafka: {error}"),
            Self::Db(error) => write!(f, "Postgres: {error}"),
        }
    }
}

impl Guard {
    pub(crate) fn new(catalog: Catalog, db: Arc<Db>) -> Self {
        let topics = db.schema.qualified("group_topic");
        Self {
            recorded: format!(
                "SELECT topic, cluster_id, topic_id FROM {topics} WHERE group_id = $1 AND topic = ANY($2)"
            )
            .into(),
            // Whoever is first decides; what is recorded is never overwritten by a worker.
            complete: format!(
                "UPDATE {topics} SET cluster_id = coalesce(cluster_id, $3), topic_id = coalesce(topic_id, $4) \
                 WHERE group_id = $1 AND topic = $2 RETURNING cluster_id, topic_id"
            )
            .into(),
            wake: Arc::default(),
            catalog,
            db,
        }
    }

    pub(crate) fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    pub(crate) fn group(&self) -> &str {
        &self.db.identity.group
    }

    /// What follows for each of `claimed`, in their order, and how far it goes. Kafka is asked about all of them together, and only after
    /// the claims were granted: what it says is then newer than their positions.
    ///
    /// Beside them, what is known of why Kafka has left some out of its answer.
    ///
    /// # Errors
    /// If Kafka or Postgres did not answer.
    pub(crate) async fn check(
        &self,
        claimed: &[Claimed],
    ) -> Result<(Vec<(Verdict, Seen)>, HashMap<PartitionKey, Waiting>), Unanswered> {
        let keys: Vec<PartitionKey> = claimed.iter().map(|claimed| claimed.key.clone()).collect();
        let survey = self.catalog.survey(&keys).await.map_err(Unanswered::Kafka)?;
        let recorded = self.recorded(&keys, &survey.identities).await.map_err(Unanswered::Db)?;
        let group = &*self.db.identity.group;
        let verdict = |claimed: &Claimed| {
            let key = &claimed.key;
            let Some(recorded) = recorded.get(&*key.topic) else {
                return Verdict::Halted(verdict::unrecorded(group, key, claimed.next_offset));
            };
            let Some(found) = survey.identities.get(&*key.topic) else { return Verdict::Unanswered };
            let available = survey.available.get(key).copied();
            Position { group, key, next_offset: claimed.next_offset }.judge(recorded, found, available)
        };
        let seen = |claimed: &Claimed| Seen::of(&survey, &claimed.key, Instant::now());
        let verdicts = claimed.iter().map(|claimed| (verdict(claimed), seen(claimed))).collect();
        let waiting = keys.into_iter().filter_map(|key| {
            let waiting = if survey.leaderless.contains(&key) {
                Waiting::on_leader(&key)
            } else if let Some(code) = survey.silent.get(&key) {
                Waiting::on_silent_leader(&key, *code)
            } else {
                let code = *survey.refused.get(&*key.topic)?;
                let words = kafka::judge(Place::Question, code, false, Duration::ZERO).words;
                Waiting::on_answer(format!("Kafka does not tell how far {key} goes ({code:?}): {words}"))
            };
            Some((key, waiting))
        });
        Ok((verdicts, waiting.collect()))
    }

    /// What the group has recorded of the topics' identities; what an older release left out is taken from `found`.
    async fn recorded(
        &self,
        keys: &[PartitionKey],
        found: &HashMap<Arc<str>, TopicIdentity>,
    ) -> Result<HashMap<String, TopicIdentity>, DbError> {
        let group = &*self.db.identity.group;
        let topics: BTreeSet<&str> = keys.iter().map(|key| &*key.topic).collect();
        let topics: Vec<&str> = topics.into_iter().collect();
        let client = self.db.control().await?;
        let statement = client.prepare_cached(&self.recorded).await?;
        let mut recorded = HashMap::new();
        for row in client.query(&statement, &[&group, &topics]).await? {
            let topic: String = row.get(0);
            let mut identity = TopicIdentity { cluster_id: row.get(1), topic_id: row.get(2) };
            if let Some(found) = found.get(&*topic)
                && identity.lacks_some_of(found)
            {
                let complete = client.prepare_cached(&self.complete).await?;
                let row = client
                    .query_one(&complete, &[&group, &topic, &found.cluster_id, &found.topic_id])
                    .await?;
                identity = TopicIdentity { cluster_id: row.get(0), topic_id: row.get(1) };
                tracing::info!(topic, ?identity, "recorded which topic this is");
            }
            recorded.insert(topic, identity);
        }
        Ok(recorded)
    }

    /// Where `on_offset_lost = latest` goes on: the end, under `read_committed` the last stable offset.
    ///
    /// # Errors
    /// If Kafka did not answer.
    pub(crate) async fn readable_end(&self, key: &PartitionKey) -> Result<NextOffset, Unanswered> {
        Ok(self.catalog.watermarks(key).await.map_err(Unanswered::Kafka)?.high)
    }
}
