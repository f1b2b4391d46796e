//! Where a group starts on a topic that it does not know yet (DESIGN 3.3).
//!
//! The first worker decides for *all* partitions, in one transaction under an advisory lock, and records it in
//! `group_topic`. From then on there is no policy any more, only rows: a row that is missing has vanished, and a
//! partition past the recorded count was added and starts at its beginning.

mod added;
mod record;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use rdkafka::error::KafkaError;

use super::DbError;
use crate::backoff::Backoff;
use crate::batch::PartitionKey;
use crate::config::{Config, StartPolicy};
use crate::consumer::Catalog;
use crate::db::Db;
use crate::error::{Error, ErrorKind, Result};
use record::Decision;

/// How different (Jaro-Winkler) a group id may be to be named as a near miss.
const NEAR_MISS: f64 = 0.85;

/// Resolves start positions.
#[derive(Debug)]
pub(crate) struct Start {
    db: Arc<Db>,
    catalog: Catalog,
    policy: StartPolicy,
    program: String,
    backoff: Backoff,
    unknown_topic_timeout: Duration,
}

/// What `group_topic` holds.
struct Known {
    partition_count: i32,
    program: String,
}

impl Start {
    pub(crate) fn new(db: Arc<Db>, catalog: Catalog, config: &Config, backoff: Backoff) -> Self {
        Self {
            db,
            catalog,
            policy: config.start,
            program: config.program.clone(),
            backoff,
            unknown_topic_timeout: config.unknown_topic_timeout,
        }
    }

    /// Makes sure that the group knows the topic, before anything joins the group.
    ///
    /// # Errors
    /// If the policy is `Fail` and it does not, or another program runs under this group id, or there is no such
    /// topic for `unknown_topic_timeout`. A broker or a database that is away is waited for.
    pub(crate) async fn ensure_topic(&self, topic: &str) -> Result<()> {
        let mut backoff = self.backoff.clone();
        let mut unknown_since = None;
        loop {
            let error = match self.try_ensure(topic, &mut unknown_since).await {
                Ok(done) => return done,
                Err(error) => error,
            };
            let error = match error {
                StartError::Db(error) => StartError::Db(crate::db::into_fatal(error, &self.db.schema)?),
                other => other,
            };
            let wait = backoff.next();
            tracing::warn!(topic, error = %error, retry_in = ?wait, "cannot look up where to start; trying again");
            tokio::time::sleep(wait).await;
        }
    }

    async fn try_ensure(
        &self,
        topic: &str,
        unknown_since: &mut Option<Instant>,
    ) -> Result<Result<()>, StartError> {
        // Before Kafka is asked: a mistyped group id must fail at once, and without joining.
        if let Some(known) = self.known(topic).await? {
            return Ok(self.same_program(topic, &known));
        }
        if self.policy == StartPolicy::Fail {
            return Ok(Err(self.refusal(topic).await?));
        }
        let Some(partition_count) = self.catalog.partition_count(topic).await? else {
            let since = unknown_since.get_or_insert_with(Instant::now);
            if since.elapsed() < self.unknown_topic_timeout {
                return Err(StartError::UnknownTopic);
            }
            return Ok(Err(self.unknown_topic(topic)));
        };
        self.resolve(topic, partition_count).await?;
        // Another worker may have been first, and be another program.
        let known = self.known(topic).await?;
        Ok(known.map_or(Ok(()), |known| self.same_program(topic, &known)))
    }

    fn unknown_topic(&self, topic: &str) -> Error {
        Error::new(
            ErrorKind::UnknownTopic,
            format!(
                "topic {topic} does not exist, or this client may not describe it (waited {:?}): create it, or correct \
                 the topics setting",
                self.unknown_topic_timeout
            ),
        )
    }

    /// Waits until the topic exists; a group that knows it from before may have lost it since.
    ///
    /// # Errors
    /// If it does not exist for `unknown_topic_timeout`.
    pub(crate) async fn await_topic(&self, topic: &str) -> Result<()> {
        let mut backoff = self.backoff.clone();
        let mut unknown_since: Option<Instant> = None;
        loop {
            match self.catalog.partition_count(topic).await {
                Ok(Some(_)) => return Ok(()),
                Ok(None) => {
                    let since = unknown_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= self.unknown_topic_timeout {
                        return Err(self.unknown_topic(topic));
                    }
                    tracing::warn!(topic, "the topic does not exist yet; waiting");
                }
                Err(error) => tracing::warn!(topic, %error, "cannot reach Kafka; trying again"),
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }

    async fn known(&self, topic: &str) -> Result<Option<Known>, DbError> {
        let client = self.db.control().await?;
        let row = client
            .query_opt(
                &format!(
                    "SELECT partition_count, program FROM {} WHERE group_id = $1 AND topic = $2",
                    self.db.schema.qualified("group_topic")
                ),
                &[&&*self.db.identity.group, &topic],
            )
            .await?;
        Ok(row.map(|row| Known { partition_count: row.get(0), program: row.get(1) }))
    }

    fn same_program(&self, topic: &str, known: &Known) -> Result<()> {
        if known.program == self.program {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::StartPolicy,
            format!(
                "group {} on topic {topic} belongs to program {}, but this is {}: two programs under one group id would \
                 each apply only a part of the records; use a group id of its own, or set `program` if it was renamed",
                self.db.identity.group, known.program, self.program
            ),
        ))
    }

    /// The error of policy `Fail`, with the group ids that look like this one.
    async fn refusal(&self, topic: &str) -> Result<Error, DbError> {
        let client = self.db.control().await?;
        let group = &*self.db.identity.group;
        let rows = client
            .query(
                &format!(
                    "SELECT DISTINCT group_id FROM {} ORDER BY group_id",
                    self.db.schema.qualified("group_topic")
                ),
                &[],
            )
            .await?;
        let others: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        Ok(Error::new(ErrorKind::StartPolicy, refusal_text(group, topic, &others)))
    }

    /// Resolves the policy for all partitions, in one transaction.
    async fn resolve(&self, topic: &str, partition_count: i32) -> Result<(), StartError> {
        // Before the positions: if the topic is created anew meanwhile, the claims' guard finds another id.
        let identity = self.catalog.identity(topic).await?;
        let positions = self.positions(topic, partition_count).await?;
        let decision = Decision {
            topic,
            policy: self.policy.as_str(),
            positions: &positions,
            identity: &identity,
            reason: &format!("start policy {}", self.policy.as_str()),
        };
        let mut client = self.db.control().await.map_err(DbError::from)?;
        let resolved = async {
            let transaction = client.transaction().await?;
            self.lock(&transaction, topic).await?;
            self.record(&transaction, &decision).await?;
            transaction.commit().await
        };
        resolved.await.map_err(DbError::from)?;
        Ok(())
    }

    /// Where each partition begins under the policy.
    async fn positions(&self, topic: &str, partition_count: i32) -> Result<Vec<i64>, StartError> {
        let keys = (0..partition_count).map(|partition| PartitionKey { topic: topic.into(), partition });
        let positions = try_join_all(keys.map(|key| async move {
            let available = self.catalog.watermarks(&key).await?;
            Ok::<_, KafkaError>(match self.policy {
                StartPolicy::Latest => available.high.get(),
                _ => available.low.get(),
            })
        }))
        .await?;
        Ok(positions)
    }
}

fn refusal_text(group: &str, topic: &str, others: &[String]) -> String {
    let mut near: Vec<(f64, &String)> = others
        .iter()
        .map(|other| (strsim::jaro_winkler(&group.to_lowercase(), &other.to_lowercase()), other))
        .filter(|(likeness, other)| *likeness >= NEAR_MISS && *other != group)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut text = format!("group {group} has never read topic {topic}, and the start policy is `fail`");
    if !near.is_empty() {
        let names: Vec<&str> = near.iter().take(3).map(|(_, name)| name.as_str()).collect();
        text.push_str(&format!("; did you mean {}?", names.join(" or ")));
    }
    text.push_str(
        "; if the group is new, start it once with HIGHWATER_START=earliest (all records that Kafka holds) or \
         HIGHWATER_START=latest (only what comes from now on)",
    );
    text
}

/// Why the topic could not be looked up this time.
#[derive(Debug)]
pub(crate) enum StartError {
    Db(DbError),
    Kafka(KafkaError),
    UnknownTopic,
}

impl From<DbError> for StartError {
    fn from(error: DbError) -> Self {
        Self::Db(error)
    }
}

impl From<KafkaError> for StartError {
    fn from(error: KafkaError) -> Self {
        Self::Kafka(error)
    }
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Db(error) => write!(f, "{error}"),
            Self::Kafka(error) => write!(f, "{error}"),
            Self::UnknownTopic => f.write_str("the topic does not exist yet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_group_id_names_the_one_that_was_meant() {
        let others = ["fraud-rules-v2", "analytics-warehouse"].map(str::to_owned);
        let text = refusal_text("fraud-rules-V2", "payments.tx_events", &others);
        assert!(text.contains("did you mean fraud-rules-v2?"), "{text}");
        assert!(!text.contains("analytics"), "{text}");
        assert!(text.contains("HIGHWATER_START=earliest"), "{text}");
    }
}
