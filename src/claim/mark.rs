//! The mirror's mark: every offset that is copied to Kafka carries the database's id, so that a wrong or a restored
//! database is noticed (DESIGN 3.3). Here it is written the first time; `start/mark.rs` reads it back.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;
use tokio::sync::{Notify, OnceCell, mpsc};
use uuid::Uuid;

use super::Claimed;
use crate::backoff::Backoff;
use crate::batch::PartitionKey;
use crate::consumer::poll::MirrorEntry;
use crate::db::Db;
use crate::db::DbError;

const PREFIX: &str = "highwater/";
/// How long Kafka may leave the first mark unacknowledged before that is said, and how often it is said again.
const PATIENCE: Duration = Duration::from_secs(5);
const REMINDER: Duration = Duration::from_secs(60);
/// How often a waiting grant looks whether its partition is still assigned.
const STILL_POLL: Duration = Duration::from_millis(100);
/// First and longest wait before an unacknowledged mark is sent again.
const RESEND: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// The metadata of every mirror commit of a database.
pub(crate) fn mirror_mark(database_id: Uuid) -> Arc<str> {
    format!("{PREFIX}{database_id}").into()
}

/// The id of the database that marked a commit, if one did.
pub(crate) fn marked_by(metadata: &str) -> Option<&str> {
    metadata.strip_prefix(PREFIX)
}

/// Holds the grants of a topic's first claims until Kafka has acknowledged one marked commit: before that, a database
/// that was restored to before the start could not be told from one that never started.
#[derive(Debug)]
pub(crate) struct Marks {
    db: Arc<Db>,
    mark: Arc<str>,
    /// `None` with the mirror off: then nothing is held.
    commits: Option<mpsc::UnboundedSender<MirrorEntry>>,
    /// Per topic; filled when `group_topic` says that it is marked. One waiting grant asks for all.
    marked: Mutex<HashMap<Arc<str>, Arc<OnceCell<()>>>>,
    heard: Mutex<Heard>,
    news: Notify,
}

/// What Kafka said of mirror commits, and what is said of that.
#[derive(Debug, Default)]
struct Heard {
    acknowledged: HashSet<Arc<str>>,
    refused: Option<RDKafkaErrorCode>,
    waiting: HashMap<Arc<str>, String>,
}

/// The partition was revoked while its grant was held.
struct Revoked;

impl Marks {
    /// `commits` is where the first mark is sent from; unbounded, but one per topic and attempt.
    pub(crate) fn new(
        db: Arc<Db>,
        database_id: Uuid,
        commits: Option<mpsc::UnboundedSender<MirrorEntry>>,
    ) -> Self {
        Self {
            db,
            mark: mirror_mark(database_id),
            commits,
            marked: Mutex::default(),
            heard: Mutex::default(),
            news: Notify::new(),
        }
    }

    pub(crate) fn mark(&self) -> &Arc<str> {
        &self.mark
    }

    /// Returns when the topic is marked, at once for all but its first claims; or when the partition is not `still`
    /// assigned.
    pub(crate) async fn hold(&self, claimed: &Claimed, still: impl Fn() -> bool) {
        if self.commits.is_none() {
            return;
        }
        let cell = {
            let mut marked = self.marked.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(marked.entry(Arc::clone(&claimed.key.topic)).or_default())
        };
        let held = cell.get_or_try_init(|| self.make(claimed, &still));
        tokio::pin!(held);
        loop {
            tokio::select! {
                _ = &mut held => return,
                // Behind another partition's attempt, whose end it does not wait for.
                () = tokio::time::sleep(STILL_POLL) => if !still() { return },
            }
        }
    }

    /// Kafka has acknowledged a mirror commit of this topic.
    pub(crate) fn acknowledged(&self, topic: &str) {
        self.heard().acknowledged.insert(topic.into());
        self.news.notify_waiters();
    }

    /// Kafka has refused one.
    pub(crate) fn refused(&self, code: RDKafkaErrorCode) {
        self.heard().refused = Some(code);
        self.news.notify_waiters();
    }

    /// What the claims of this topic wait for, if they have waited for long.
    pub(crate) fn waiting(&self, key: &PartitionKey) -> Option<String> {
        self.heard().waiting.get(&key.topic).cloned()
    }

    async fn make(&self, claimed: &Claimed, still: &impl Fn() -> bool) -> Result<(), Revoked> {
        let topic = &claimed.key.topic;
        let mut backoff = Backoff::new(RESEND.0, RESEND.1);
        let began = Instant::now();
        let mut said: Option<Instant> = None;
        loop {
            match self.recorded(topic).await {
                // Perhaps by another worker.
                Ok(true) => break,
                Ok(false) => self.ask(claimed),
                Err(error) => tracing::debug!(%error, "could not look for the mirror's mark; trying again"),
            }
            self.await_news(topic, backoff.next()).await;
            if self.heard().acknowledged.contains(topic) {
                match self.record(topic).await {
                    Ok(()) => break,
                    Err(error) => {
                        self.db.heed(&error);
                        tracing::debug!(%error, "could not record the mirror's mark; trying again");
                        tokio::time::sleep(backoff.next()).await;
                    }
                }
            }
            if !still() {
                self.heard().waiting.remove(topic);
                return Err(Revoked);
            }
            if began.elapsed() >= PATIENCE && said.is_none_or(|said| said.elapsed() >= REMINDER) {
                said = Some(Instant::now());
                self.say(topic, began.elapsed());
            }
        }
        self.heard().waiting.remove(topic);
        Ok(())
    }

    /// Sends one marked commit: the claim's own position, which is durable (EO-8).
    fn ask(&self, claimed: &Claimed) {
        let entry = MirrorEntry {
            key: claimed.key.clone(),
            offset: claimed.next_offset,
            metadata: Arc::clone(&self.mark),
        };
        if let Some(commits) = &self.commits {
            // The worker is gone only when the process ends.
            let _ = commits.send(entry);
        }
    }

    /// Until Kafka has said something of this topic, at most so long.
    async fn await_news(&self, topic: &Arc<str>, limit: Duration) {
        let until = tokio::time::Instant::now() + limit;
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            if self.heard().acknowledged.contains(topic)
                || tokio::time::timeout_at(until, news).await.is_err()
            {
                return;
            }
        }
    }

    fn say(&self, topic: &Arc<str>, waited: Duration) {
        let mut heard = self.heard();
        if heard.acknowledged.contains(topic) {
            tracing::warn!(
                topic = &**topic,
                ?waited,
                "the mirror's mark is in Kafka, but not yet on record in Postgres"
            );
            return;
        }
        let why = heard
            .refused
            .map_or_else(|| "no answer".to_owned(), |code| format!("the last answer was {code:?}"));
        let group = &self.db.identity.group;
        // An offset is committed by whoever may read both.
        let what = match heard.refused {
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => "it READ on the topic",
            Some(RDKafkaErrorCode::GroupAuthorizationFailed) => "it READ on the group",
            _ => "it READ on the group and on the topic, if it lacks that",
        };
        let text = format!(
            "waits for Kafka to acknowledge the first mirror commit of group {group} for topic {topic} ({why}): until \
             then a wrong database could not be told from the right one; grant {what}, or set \
             mirror_interval to `off` and see the guarantees"
        );
        tracing::warn!(topic = &**topic, waited = ?waited, refused = ?heard.refused, "{text}");
        heard.waiting.insert(Arc::clone(topic), text);
    }

    async fn recorded(&self, topic: &Arc<str>) -> Result<bool, DbError> {
        let client = self.db.control().await?;
        let sql = format!(
            "SELECT mirror_marked_at IS NOT NULL FROM {} WHERE group_id = $1 AND topic = $2",
            self.db.schema.qualified("group_topic")
        );
        let row = client.query_opt(&sql, &[&&*self.db.identity.group, &&**topic]).await?;
        // Without a row there is nothing to mark; the guard and the claims say what follows.
        Ok(row.is_none_or(|row| row.get(0)))
    }

    async fn record(&self, topic: &Arc<str>) -> Result<(), DbError> {
        let client = self.db.control().await?;
        let sql = format!(
            "UPDATE {} SET mirror_marked_at = clock_timestamp() \
             WHERE group_id = $1 AND topic = $2 AND mirror_marked_at IS NULL",
            self.db.schema.qualified("group_topic")
        );
        client.execute(&sql, &[&&*self.db.identity.group, &&**topic]).await?;
        Ok(())
    }

    fn heard(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
