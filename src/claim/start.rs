//! Where a group starts on a topic that it does not know yet (DESIGN 3.3).
//!
//! The first worker decides for *all* partitions, in one transaction under an advisory lock, and records it in
//! `group_topic`. From then on there is no policy any more, only rows: a row that is missing has vanished, and a
//! partition past the recorded count was added and starts at its beginning.

mod added;
mod assigned;
mod pattern;
mod record;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use rdkafka::error::KafkaError;

use super::DbError;
use crate::backoff::Backoff;
use crate::batch::PartitionKey;
use crate::config::{Config, StartPolicy, TopicPartition, TopicPattern};
use crate::consumer::Catalog;
use crate::db::Db;
use crate::error::{Error, ErrorKind, Result};
use pattern::Wanted;
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
    /// What this worker subscribes to, by name and by pattern.
    topics: Vec<String>,
    patterns: Vec<TopicPattern>,
    /// What is read without a group's assignment; and whether the group is this run's own.
    assigned: Vec<TopicPartition>,
    one_off: bool,
}

/// What `group_topic` holds.
struct Known {
    partition_count: i32,
    program: String,
}

impl Start {
    pub(crate) fn new(db: Arc<Db>, catalog: Catalog, config: &Config, backoff: Backoff) -> Self {
        let (topics, patterns) = config.subscription();
        Self {
            db,
            catalog,
            policy: config.start,
            program: config.program.clone(),
            backoff,
            unknown_topic_timeout: config.unknown_topic_timeout,
            topics,
            patterns,
            assigned: config.assign.clone(),
            one_off: config.is_one_off(),
        }
    }

    /// Makes sure that the group knows what this worker is about to read, before anything joins the group, and that
    /// it exists.
    ///
    /// # Errors
    /// As [`ensure`](Self::ensure).
    pub(crate) async fn ensure_all(&self) -> Result<()> {
        let topics = self.topics.iter().map(|topic| Wanted::Topic(topic));
        for wanted in topics.chain(self.patterns.iter().map(Wanted::Pattern)) {
            self.ensure(wanted).await?;
            self.await_existence(wanted).await?;
        }
        Ok(())
    }

    /// Makes sure that the group knows where it starts.
    ///
    /// # Errors
    /// If the policy is `Fail` and it does not, or another program runs under this group id, or there is no such
    /// topic for `unknown_topic_timeout`. A broker or a database that is away is waited for.
    async fn ensure(&self, wanted: Wanted<'_>) -> Result<()> {
        let mut backoff = self.backoff.clone();
        let mut unknown_since = None;
        loop {
            let error = match self.try_ensure(wanted, &mut unknown_since).await {
                Ok(done) => return done,
                Err(error) => error,
            };
            let error = match error {
                StartError::Db(error) => StartError::Db(crate::db::into_fatal(error, &self.db.schema)?),
                other => other,
            };
            let wait = backoff.next();
            tracing::warn!(%wanted, error = %error, retry_in = ?wait, "cannot look up where to start; trying again");
            tokio::time::sleep(wait).await;
        }
    }

    async fn try_ensure(
        &self,
        wanted: Wanted<'_>,
        unknown_since: &mut Option<Instant>,
    ) -> Result<Result<()>, StartError> {
        // Before Kafka is asked: a mistyped group id must fail at once, and without joining.
        if let Some(program) = self.known_program(wanted).await? {
            return Ok(self.same_program(wanted, &program));
        }
        if self.policy == StartPolicy::Fail {
            return Ok(Err(self.refusal(wanted).await?));
        }
        let found = self.look_up(wanted).await?;
        if found.is_empty() {
            let since = unknown_since.get_or_insert_with(Instant::now);
            if since.elapsed() < self.unknown_topic_timeout {
                return Err(StartError::UnknownTopic);
            }
            return Ok(Err(self.unknown(wanted)));
        }
        if let Some(missing) = self.missing_partition(&found) {
            return Ok(Err(missing));
        }
        self.resolve(wanted, &found).await?;
        // Another worker may have been first, and be another program.
        let program = self.known_program(wanted).await?;
        Ok(program.map_or(Ok(()), |program| self.same_program(wanted, &program)))
    }

    fn unknown(&self, wanted: Wanted<'_>) -> Error {
        let (waited, way_out) = (self.unknown_topic_timeout, "correct the topics setting");
        Error::new(
            ErrorKind::UnknownTopic,
            match wanted {
                Wanted::Topic(topic) => format!(
                    "topic {topic} does not exist, or this client may not describe it (waited {waited:?}): create it, or \
                     {way_out}"
                ),
                Wanted::Pattern(pattern) => format!(
                    "no topic matches {pattern}, or this client may not describe any that does (waited {waited:?}): create \
                     one, or {way_out}"
                ),
            },
        )
    }

    /// Waits until there is something to read; a group that knows a topic from before may have lost it since.
    ///
    /// # Errors
    /// If there is nothing for `unknown_topic_timeout`.
    async fn await_existence(&self, wanted: Wanted<'_>) -> Result<()> {
        let mut backoff = self.backoff.clone();
        let mut unknown_since: Option<Instant> = None;
        loop {
            match self.look_up(wanted).await {
                Ok(found) if !found.is_empty() => return self.missing_partition(&found).map_or(Ok(()), Err),
                Ok(_) => {
                    let since = unknown_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= self.unknown_topic_timeout {
                        return Err(self.unknown(wanted));
                    }
                    tracing::warn!(%wanted, "no such topic exists yet; waiting");
                }
                Err(error) => tracing::warn!(%wanted, %error, "cannot reach Kafka; trying again"),
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }

    /// What the group has recorded of a topic.
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

    fn same_program(&self, wanted: Wanted<'_>, program: &str) -> Result<()> {
        if program == self.program {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::StartPolicy,
            format!(
                "group {} on {wanted} belongs to program {program}, but this is {}: two programs under one group id would \
                 each apply only a part of the records; use a group id of its own, or set `program` if it was renamed",
                self.db.identity.group, self.program
            ),
        ))
    }

    /// The error of policy `Fail`, with the group ids that look like this one.
    async fn refusal(&self, wanted: Wanted<'_>) -> Result<Error, DbError> {
        if self.one_off {
            return Ok(self.one_off_refusal(wanted));
        }
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
        Ok(Error::new(ErrorKind::StartPolicy, refusal_text(group, &wanted.to_string(), &others)))
    }

    /// Resolves the policy for all partitions of what was found, in one transaction.
    async fn resolve(&self, wanted: Wanted<'_>, found: &[(String, i32)]) -> Result<(), StartError> {
        let mut looked_up = Vec::with_capacity(found.len());
        for (topic, partition_count) in found {
            // Before the positions: if the topic is created anew meanwhile, the claims' guard finds another id.
            let identity = self.catalog.identity(topic).await?;
            let positions = self.positions(topic, *partition_count, self.policy).await?;
            looked_up.push((topic, identity, positions));
        }
        let reason = match wanted {
            Wanted::Topic(_) => format!("start policy {}", self.policy.as_str()),
            Wanted::Pattern(pattern) => format!("start policy {} under {pattern}", self.policy.as_str()),
        };
        let mut client = self.db.control().await.map_err(DbError::from)?;
        let resolved = async {
            let transaction = client.transaction().await?;
            if let Wanted::Pattern(pattern) = wanted
                && !self.record_pattern(&transaction, pattern).await?
            {
                // Another worker was first. What it did not see yet starts at its beginning.
                return Ok(());
            }
            // In the order of their names, as every worker does: the locks are held until COMMIT.
            for (topic, identity, positions) in &looked_up {
                self.lock(&transaction, topic).await?;
                let decision =
                    Decision { topic, policy: self.policy.as_str(), positions, identity, reason: &reason };
                self.record(&transaction, &decision).await?;
            }
            transaction.commit().await
        };
        resolved.await.map_err(DbError::from)?;
        Ok(())
    }

    /// Where each partition begins under a policy.
    async fn positions(
        &self,
        topic: &str,
        partition_count: i32,
        policy: StartPolicy,
    ) -> Result<Vec<i64>, StartError> {
        let keys = (0..partition_count).map(|partition| PartitionKey { topic: topic.into(), partition });
        let positions = try_join_all(keys.map(|key| async move {
            let available = self.catalog.watermarks(&key).await?;
            Ok::<_, KafkaError>(match policy {
                StartPolicy::Latest => available.high.get(),
                _ => available.low.get(),
            })
        }))
        .await?;
        Ok(positions)
    }
}

fn refusal_text(group: &str, wanted: &str, others: &[String]) -> String {
    let mut near: Vec<(f64, &String)> = others
        .iter()
        .map(|other| (strsim::jaro_winkler(&group.to_lowercase(), &other.to_lowercase()), other))
        .filter(|(likeness, other)| *likeness >= NEAR_MISS && *other != group)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut text = format!("group {group} has never read {wanted}, and the start policy is `fail`");
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
        let text = refusal_text("fraud-rules-V2", "topic payments.tx_events", &others);
        assert!(text.contains("did you mean fraud-rules-v2?"), "{text}");
        assert!(!text.contains("analytics"), "{text}");
        assert!(text.contains("HIGHWATER_START=earliest"), "{text}");
    }
}
