//! The survey: what Kafka says of partitions that no live process holds, because they are paused, halted, released, or
//! their owner is dead. Whoever is alive looks after them.
//!
//! Of a group's workers the one that started last looks (all agree on that by reading their heartbeats, so that there is
//! nothing to elect, to lock or to give back); after its death another does within three seconds. Of a group without a
//! live worker, a watcher does (the exporter). Should two look, for a moment or because there are two watchers, the
//! second finds that it was looked at just now; and if not even that, both write the same.

mod rows;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio_postgres::Client;
use uuid::Uuid;

use super::{Retention, Tail};
use crate::batch::{PartitionKey, REPRESENTABLE_MS};
use crate::config::epoch_ms;
use crate::consumer::Catalog;
use crate::health::Loss;
use crate::schema::SchemaName;
pub(crate) use rows::{Line, Place, whose_turn};

/// How many partitions one turn has at most: those that were looked at longest ago.
const MOST: i64 = 4_000;
/// About how many Kafka is asked at once, and for how long altogether another portion may begin.
const PORTION: usize = 1_000;
const ASK: Duration = Duration::from_secs(15);
/// For how long what Kafka does not answer for (of a topic that was deleted, say) waits behind all others.
const UNANSWERED: Duration = Duration::from_secs(60);
/// Of how many the next record is read in one turn, and how long that may take.
const PEEKED: usize = 256;
const PEEK: Duration = Duration::from_secs(2);
/// After which a record that has not come is read again.
const PEEK_AGAIN: Duration = Duration::from_secs(30);
/// What has not changed is written again after so long, so that it is known to be true still.
const REFRESHED_SECONDS: f64 = 30.0;

/// Which partitions a surveyor looks after.
#[derive(Debug, Clone)]
pub(crate) enum Whose {
    /// Those of this group, while it is this worker's turn.
    WorkersOf(Arc<str>),
    /// Those of groups without a live worker: of these groups, or of all.
    Watched(Option<Vec<String>>),
}

/// Looks after partitions that no live process holds.
pub(crate) struct Surveyor {
    catalog: Catalog,
    me: Uuid,
    whose: Whose,
    retention: Arc<Retention>,
    look: String,
    write: String,
    memory: HashMap<(Arc<str>, PartitionKey), Memory>,
    /// What was asked about in vain, and when.
    unanswered: HashMap<(Arc<str>, PartitionKey), Instant>,
    silence: Option<String>,
}

/// What is known of a partition from one turn to the next.
#[derive(Default)]
struct Memory {
    tail: Tail,
    loss: Loss,
    /// The record that was read: its offset or the one before it, when it was tried, and its timestamp.
    peeked: Option<(i64, Instant, Option<i64>)>,
    /// When it may be lost, as it was written last.
    told: Option<String>,
}

impl std::fmt::Debug for Surveyor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surveyor").field("whose", &self.whose).finish_non_exhaustive()
    }
}

impl Surveyor {
    /// `me`: who it is that writes; a worker's owner id.
    pub(crate) fn new(
        schema: &SchemaName,
        catalog: Catalog,
        me: Uuid,
        whose: Whose,
        retention: Arc<Retention>,
    ) -> Self {
        Self {
            look: rows::look(schema, &whose),
            write: rows::write(schema),
            catalog,
            me,
            whose,
            retention,
            memory: HashMap::new(),
            unanswered: HashMap::new(),
            silence: None,
        }
    }

    /// Why Kafka has not answered all of the last turn, if so.
    pub(crate) fn silence(&self) -> Option<&str> {
        self.silence.as_deref()
    }

    /// One turn on one connection, for who has it to himself: looks, asks Kafka, writes. How many partitions there were.
    ///
    /// # Errors
    /// If Postgres does not answer. Kafka's silence is none: then what was known grows old, and says so.
    pub(crate) async fn turn(&mut self, client: &Client) -> Result<usize, tokio_postgres::Error> {
        self.retention.refresh(&self.catalog.clone()).await;
        let places = self.look(client).await?;
        let count = places.len();
        let lines = self.ask(places).await;
        let untold = || self.retention.silence().map(|why| format!("how long records are kept: {why}"));
        self.silence = self.silence.take().or_else(untold);
        self.write(client, &lines).await?;
        Ok(count)
    }

    /// Which partitions there are to survey.
    pub(crate) async fn look(&self, client: &Client) -> Result<Vec<Place>, tokio_postgres::Error> {
        let (mut groups_of, mut topics_of, mut numbers_of) = (Vec::new(), Vec::new(), Vec::new());
        for ((group, key), at) in &self.unanswered {
            if at.elapsed() < UNANSWERED {
                groups_of.push(&**group);
                topics_of.push(&*key.topic);
                numbers_of.push(key.partition);
            }
        }
        let (groups_of, topics_of) = (&groups_of, &topics_of);
        let found = match &self.whose {
            Whose::WorkersOf(group) => {
                client
                    .query(&self.look, &[&&**group, &self.me, &MOST, groups_of, topics_of, &numbers_of])
                    .await?
            }
            Whose::Watched(groups) => {
                client
                    .query(&self.look, &[groups, &self.me, &MOST, groups_of, topics_of, &numbers_of])
                    .await?
            }
        };
        Ok(found.iter().map(Place::of).collect())
    }

    /// What Kafka says of them, as far as that is news.
    pub(crate) async fn ask(&mut self, places: Vec<Place>) -> Vec<Line> {
        let there: HashSet<_> = places.iter().map(Place::key).collect();
        self.memory.retain(|key, _| there.contains(key));
        let mut keys: Vec<PartitionKey> = places.iter().map(|place| place.partition.clone()).collect();
        keys.sort_unstable();
        keys.dedup();
        let (mut ends, mut starts) = (HashMap::new(), HashMap::new());
        self.silence = None;
        let began = Instant::now();
        let mut tried = 0;
        for portion in keys.chunks(PORTION).take_while(|_| began.elapsed() < ASK) {
            tried += portion.len();
            match self.catalog.survey(portion).await {
                Ok(survey) => {
                    ends.extend(survey.ends);
                    starts.extend(survey.available.into_iter().map(|(key, found)| (key, found.low.get())));
                }
                Err(error) => {
                    tracing::debug!(partitions = portion.len(), %error, "Kafka did not answer the survey");
                    self.silence = Some(error.to_string());
                }
            }
        }
        let tried: HashSet<&PartitionKey> = keys[..tried].iter().collect();
        self.unanswered.retain(|_, at| at.elapsed() < UNANSWERED);
        let mut asked: Vec<(Place, i64, i64)> = Vec::new();
        for place in places {
            let Some(ends) = ends.get(&place.partition) else {
                if tried.contains(&place.partition) {
                    self.unanswered.entry(place.key()).or_insert(began);
                }
                continue;
            };
            self.unanswered.remove(&place.key());
            let stable = if place.reads_uncommitted { ends.log } else { ends.stable };
            asked.push((place, stable.get(), ends.log.get()));
        }
        self.peek(&asked).await;
        let now_ms = epoch_ms(SystemTime::now());
        let mut lines = Vec::new();
        for (place, stable, log) in asked {
            let memory = self.memory.entry(place.key()).or_insert_with(|| place.remembered());
            let next_record_ms = memory.timestamp(place.next_offset).filter(|_| stable > place.next_offset);
            let start = starts.get(&place.partition).copied();
            if let Some(start) = start {
                memory.loss.push(now_ms, start);
            }
            let retention_ms = self.retention.of(&place.partition.topic);
            let loss_at = memory.loss.at(now_ms, place.next_offset, next_record_ms, retention_ms);
            let line = Line {
                log_start_offset: start,
                last_stable_offset: stable,
                log_end_offset: log,
                next_record_ms,
                uncommitted_since_ms: memory.tail.since(now_ms, Some(stable), Some(log)),
                loss_at: loss_at.map(super::instant),
                place,
            };
            if line.is_news(REFRESHED_SECONDS) || memory.told != line.loss_at {
                memory.told.clone_from(&line.loss_at);
                lines.push(line);
            }
        }
        lines
    }

    /// Reads the next records whose timestamps nobody knows.
    async fn peek(&mut self, asked: &[(Place, i64, i64)]) {
        let now = Instant::now();
        let mut wanted: HashMap<PartitionKey, i64> = HashMap::new();
        let mut askers = Vec::new();
        for (place, stable, _) in asked {
            let memory = self.memory.entry(place.key()).or_insert_with(|| place.remembered());
            let is_known = memory.peeked.is_some_and(|(at, tried, found)| {
                at == place.next_offset && (found.is_some() || now.duration_since(tried) < PEEK_AGAIN)
            });
            // Two groups may stand at two places in one partition: the other is read in the next turn.
            let is_free = wanted.get(&place.partition).is_none_or(|&at| at == place.next_offset);
            if *stable > place.next_offset && !is_known && is_free && wanted.len() < PEEKED {
                wanted.insert(place.partition.clone(), place.next_offset);
                askers.push((place.key(), place.partition.clone(), place.next_offset));
            }
        }
        if wanted.is_empty() {
            return;
        }
        let found = self.catalog.peek(wanted.into_iter().collect(), PEEK).await;
        let found = found.unwrap_or_else(|error| {
            tracing::debug!(%error, "the next records could not be read");
            HashMap::new()
        });
        for (key, partition, at) in askers {
            let timestamp = found.get(&partition).copied();
            if let Some(memory) = self.memory.get_mut(&key) {
                memory.peeked = Some((at, now, timestamp));
            }
        }
    }

    /// Writes what is news.
    pub(crate) async fn write(&self, client: &Client, lines: &[Line]) -> Result<(), tokio_postgres::Error> {
        if lines.is_empty() {
            return Ok(());
        }
        rows::upsert(client, &self.write, self.me, lines).await
    }
}

impl Memory {
    /// Of the next record, where it is known and a time.
    fn timestamp(&self, next_offset: i64) -> Option<i64> {
        let (at, _, timestamp) = self.peeked?;
        timestamp.filter(|ms| at == next_offset && REPRESENTABLE_MS.contains(ms))
    }
}

impl Place {
    fn key(&self) -> (Arc<str>, PartitionKey) {
        (Arc::clone(&self.group), self.partition.clone())
    }

    /// What another surveyor has found, before this one came.
    fn remembered(&self) -> Memory {
        let mut memory = Memory::default();
        let Some(before) = &self.before else { return memory };
        if let (Some(stable), Some(since_ms)) = (before.last_stable_offset, before.uncommitted_since_ms) {
            memory.tail = Tail::seen(stable, since_ms);
        }
        if let Some(ms) = before.next_record_ms.filter(|_| before.next_offset == self.next_offset) {
            memory.peeked = Some((self.next_offset, Instant::now(), Some(ms)));
        }
        memory
    }
}
