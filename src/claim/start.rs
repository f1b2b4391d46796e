//! Where a group starts on a topic that it does not know yet (DESIGN 3.3).
//!
//! The first worker decides for *all* partitions, in one transaction under an advisory lock, and records it in
//! `group_topic`. From then on there is no policy any more, only rows: a row that is missing has vanished, and a
//! partition past the recorded count was added and starts at its beginning.

mod added;
mod adopt;
mod assigned;
mod mark;
mod near;
mod pattern;
mod policy;
mod record;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::config::{Config, StartPolicy, TopicPartition, TopicPattern};
use crate::consumer::Catalog;
use crate::consumer::groups::{code, is_refusal};
use crate::db::Db;
use crate::db::DbError;
use crate::due::Trouble;
use crate::error::{Error, ErrorKind, Result};
use crate::verdict::kafka::judge;
use crate::verdict::{Act, Place};
pub(in crate::claim) use added::Added;
pub(crate) use adopt::named;
pub(crate) use near::{did_you_mean, near};
use pattern::Wanted;
use record::Decision;

/// How long TLS may fail at the start.
const TLS_PATIENCE: Duration = Duration::from_secs(15);

/// Resolves start positions.
#[derive(Debug)]
pub(crate) struct Start {
    db: Arc<Db>,
    catalog: Catalog,
    /// This database's, which marks what it mirrors to Kafka.
    database_id: Uuid,
    policy: StartPolicy,
    program: String,
    /// Where Kafka's own tools are told to look, in error texts.
    bootstrap: String,
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
    pub(crate) fn new(
        db: Arc<Db>,
        database_id: Uuid,
        catalog: Catalog,
        config: &Config,
        backoff: Backoff,
    ) -> Self {
        let (topics, patterns) = config.subscription();
        Self {
            db,
            database_id,
            catalog,
            policy: config.start,
            program: config.program.clone(),
            bootstrap: config.brokers.join(","),
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
    /// topic for `unknown_topic_timeout`, or Kafka's offsets say that this is the wrong database, or they can't be
    /// adopted. A broker or a database that is away is waited for.
    async fn ensure(&self, wanted: Wanted<'_>) -> Result<()> {
        let mut backoff = self.backoff.clone();
        let (mut unknown_since, mut refused_since, mut trouble) = (None, None, None::<Trouble>);
        loop {
            let error = match self.try_ensure(wanted, &mut unknown_since).await {
                Ok(done) => return done,
                Err(error) => error,
            };
            let error = match error {
                StartError::Db(error) => StartError::Db(crate::db::into_fatal(error, &self.db)?),
                StartError::Refused(error) => return Err(error),
                other => other,
            };
            let (wait, now) = (backoff.next(), Instant::now());
            let error = match error {
                StartError::Kafka(error) => self.unreached(wanted, error, &mut refused_since)?,
                StartError::Db(error) => format!("{error} ({})", self.db.server),
                other => other.to_string(),
            };
            if trouble.get_or_insert_with(|| Trouble::new(now)).is_due(now) {
                tracing::warn!(%wanted, error, retry_in = ?wait, "cannot look up where to start; trying again");
            } else {
                tracing::debug!(%wanted, error, retry_in = ?wait, "cannot look up where to start; trying again");
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn try_ensure(
        &self,
        wanted: Wanted<'_>,
        unknown_since: &mut Option<Instant>,
    ) -> Result<Result<()>, StartError> {
        if let Err(refused) = self.alone_in(wanted).await? {
            return Ok(Err(refused));
        }
        if let Some(program) = self.known_program(wanted).await? {
            if let Err(refused) = self.same_program(wanted, &program) {
                return Ok(Err(refused));
            }
            return Ok(Ok(self.check_mirror(wanted).await?));
        }
        let begun = self.begin(wanted, unknown_since).await;
        if let Err(refused) = self.alone_in(wanted).await? {
            return Ok(Err(refused));
        }
        // Another worker may have been first, and be another program. Then Kafka's offsets are its doing, and what was
        // read of them counts for nothing.
        match (self.known_program(wanted).await?, begun) {
            (Some(program), _) => Ok(self.same_program(wanted, &program)),
            (None, begun) => begun.map(Ok),
        }
    }

    /// The first time.
    async fn begin(&self, wanted: Wanted<'_>, unknown_since: &mut Option<Instant>) -> Result<(), StartError> {
        // Before it is asked whether there is such a topic: a mistyped group id fails at once, and without joining.
        if self.policy == StartPolicy::Fail {
            return Err(StartError::Refused(self.refusal(wanted).await?));
        }
        let found = self.look_up(wanted, true).await?;
        if found.is_empty() {
            let since = unknown_since.get_or_insert_with(Instant::now);
            if since.elapsed() < self.unknown_topic_timeout {
                return Err(StartError::UnknownTopic);
            }
            return Err(StartError::Refused(self.unknown(wanted).await));
        }
        if let Some(missing) = self.missing_partition(&found) {
            return Err(StartError::Refused(missing));
        }
        self.resolve(wanted, &found).await
    }

    /// Waits until there is something to read; a group that knows a topic from before may have lost it since.
    ///
    /// # Errors
    /// If there is nothing for `unknown_topic_timeout`.
    async fn await_existence(&self, wanted: Wanted<'_>) -> Result<()> {
        let mut backoff = self.backoff.clone();
        let mut unknown_since: Option<Instant> = None;
        let mut refused_since = None;
        let mut words = Trouble::new(Instant::now());
        loop {
            match self.look_up(wanted, false).await {
                Ok(found) if !found.is_empty() => return self.missing_partition(&found).map_or(Ok(()), Err),
                Ok(_) => {
                    let since = unknown_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= self.unknown_topic_timeout {
                        return Err(self.unknown(wanted).await);
                    }
                    if words.is_due(Instant::now()) {
                        tracing::warn!(%wanted, "no such topic exists yet; waiting");
                    }
                }
                Err(error) => {
                    let error = self.unreached(wanted, error, &mut refused_since)?;
                    if words.is_due(Instant::now()) {
                        tracing::warn!(%wanted, error, "cannot reach Kafka; trying again");
                    }
                }
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }

    /// Why Kafka did not answer, in words.
    ///
    /// # Errors
    /// If it does not let this client in, or a right has been missing for so long that it ends the process.
    fn unreached(
        &self,
        wanted: Wanted<'_>,
        error: KafkaError,
        refused_since: &mut Option<Instant>,
    ) -> Result<String> {
        self.let_in()?;
        let Some(code) = code(&error).filter(|_| is_refusal(&error)) else {
            *refused_since = None;
            return Ok(format!("{error} (brokers: {})", self.bootstrap));
        };
        let since = *refused_since.get_or_insert_with(Instant::now);
        let judged = judge(Place::Metadata, code, false, since.elapsed());
        match judged.act {
            Act::Exit(kind) => {
                Err(Error::new(kind, format!("{}: {wanted}", judged.words)).with_source(error))
            }
            _ => Ok(format!("{} ({error})", judged.words)),
        }
    }

    /// At the start wrong credentials are refused at once. TLS that fails is tried again for a while: a broker that stops
    /// may cut a handshake short.
    fn let_in(&self) -> Result<()> {
        let Some(refusal) = self.catalog.refusal() else { return Ok(()) };
        if refusal.code == RDKafkaErrorCode::SSL && refusal.since.elapsed() < TLS_PATIENCE {
            return Ok(());
        }
        let text = format!("Kafka does not let this client in: {}", refusal.text);
        Err(Error::new(ErrorKind::Authentication, text))
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

    /// What a pattern covers may have been recorded for another program, under its own name or another pattern.
    async fn alone_in(&self, wanted: Wanted<'_>) -> Result<Result<()>, DbError> {
        let Wanted::Pattern(_) = wanted else { return Ok(Ok(())) };
        let client = self.db.control().await?;
        let sql = format!(
            "SELECT topic, program FROM {} WHERE group_id = $1 AND program <> $2 ORDER BY topic",
            self.db.schema.qualified("group_topic")
        );
        let rows = client.query(&sql, &[&&*self.db.identity.group, &self.program]).await?;
        let others = rows.iter().map(|row| (row.get::<_, &str>(0), row.get::<_, &str>(1)));
        let mut others = others.filter(|(topic, _)| wanted.covers(topic));
        Ok(others.next().map_or(Ok(()), |(topic, program)| self.same_program(Wanted::Topic(topic), program)))
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
        let policy = &*self.policy.to_string();
        let reason = &*match wanted {
            Wanted::Topic(_) => format!("start policy {policy}"),
            Wanted::Pattern(pattern) => format!("start policy {policy} under {pattern}"),
        };
        let kind = if self.policy == StartPolicy::AdoptKafka { "adopt" } else { "start" };
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
                let decision = Decision { topic, kind, policy, positions, identity, reason };
                self.record(&transaction, &decision).await?;
            }
            transaction.commit().await
        };
        resolved.await.map_err(DbError::from)?;
        Ok(())
    }
}

/// Why the topic could not be looked up this time.
#[derive(Debug)]
pub(crate) enum StartError {
    Db(DbError),
    Kafka(KafkaError),
    UnknownTopic,
    /// The group's offsets changed while they were adopted.
    Moved,
    /// For good.
    Refused(Error),
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
            Self::Moved => f.write_str("the group's offsets in Kafka are still moving"),
            Self::Refused(error) => write!(f, "{error}"),
        }
    }
}
