//! What Kafka knows of topics, asked through a client that is in no group and so never disturbs the one that is.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use tokio::sync::Semaphore;

use super::Access;
use super::context::Context;
use super::ffi::topics::{OffsetSpec, Question, cluster_id};
use super::ffi::{self, Client, EventQueue};
use crate::NextOffset;
use crate::batch::PartitionKey;
use crate::config::OperatorConfig;

/// How long one question may take before it counts as failed and is asked again.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one leader may take for its part of an answer.
const LEADER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a request of a question may be under way before its connection is given up.
const GIVEN_UP_AFTER_MS: &str = "4000";
/// Questions that may be under way at the same time: each blocks a thread.
const QUESTIONS: usize = 16;
/// The group id of clients that read outside of any group: librdkafka assigns nothing without one. Nobody joins it, and
/// nothing is committed under it.
const READERS: &str = "highwater-reader";

/// First offset and end of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watermarks {
    pub(crate) low: NextOffset,
    pub(crate) high: NextOffset,
}

/// What makes a topic this one and no other of the same name. Missing where the broker has no such ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TopicIdentity {
    pub(crate) cluster_id: Option<String>,
    /// A random id that every creation of a topic makes anew, as Kafka's tools print it.
    pub(crate) topic_id: Option<String>,
}

impl TopicIdentity {
    /// Whether `found` knows an id that this one does not.
    pub(crate) fn lacks_some_of(&self, found: &Self) -> bool {
        (self.cluster_id.is_none() && found.cluster_id.is_some())
            || (self.topic_id.is_none() && found.topic_id.is_some())
    }
}

/// First offset and end of a partition; under `read_committed` the end is past the last stable offset, where a
/// transaction is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Available {
    pub(crate) low: NextOffset,
    pub(crate) end: NextOffset,
}

/// How far a partition's log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    /// Uncommitted records included.
    pub(crate) log: NextOffset,
    /// The last stable offset.
    pub(crate) stable: NextOffset,
}

/// What Kafka said of some partitions and their topics. What it did not answer is not in here.
#[derive(Debug, Clone, Default)]
pub(crate) struct Survey {
    pub(crate) identities: HashMap<Arc<str>, TopicIdentity>,
    pub(crate) available: HashMap<PartitionKey, Available>,
    pub(crate) ends: HashMap<PartitionKey, Ends>,
    /// Nobody leads them just now, so that nobody can be asked.
    pub(crate) leaderless: HashSet<PartitionKey>,
    /// Somebody leads them, who was asked and did not say where they end: what came instead.
    pub(crate) silent: HashMap<PartitionKey, RDKafkaErrorCode>,
    /// Of which topics Kafka does not tell, and why.
    pub(crate) refused: HashMap<Arc<str>, RDKafkaErrorCode>,
}

/// Asks brokers about topics. Cheap to clone; all clones share the present clients.
#[derive(Clone)]
pub(crate) struct Catalog {
    access: Arc<Access>,
    client: Arc<Mutex<Arc<Client>>>,
    questions: Arc<Semaphore>,
    /// The client for questions to a group's coordinator; see [`ask_coordinator`](Self::ask_coordinator).
    coordinator: Arc<Mutex<Option<Client>>>,
    /// Why brokers refuse these clients, if they have said so since they answered last.
    refused: Arc<Mutex<Option<Refusal>>>,
}

/// Brokers do not let these clients in.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) code: RDKafkaErrorCode,
    pub(crate) text: String,
    /// When it was said first, without an answer since.
    pub(crate) since: Instant,
    last: Instant,
}

/// A refusal that was not repeated for so long is over: the client says the same no more often than every 30 s.
const REFUSAL_OVER_AFTER: Duration = Duration::from_secs(75);

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Catalog").finish_non_exhaustive()
    }
}

impl Catalog {
    /// Makes the client of what consumers are made of; connects in the background.
    pub(crate) fn new(access: Arc<Access>) -> Result<Self, KafkaError> {
        let client = access.consumer(&for_questions(&access))?;
        Ok(Self {
            access,
            client: Arc::new(Mutex::new(Arc::new(client))),
            questions: Arc::new(Semaphore::new(QUESTIONS)),
            coordinator: Arc::default(),
            refused: Arc::default(),
        })
    }

    /// From now on asks through new clients, which begin with the brokers of the configuration: librdkafka 2.12.1 forgets
    /// every broker when an answer about topics names none, as one of a lone broker that its controller has fenced does.
    /// They show the present certificates and passwords. Questions that are under way end with the clients before.
    ///
    /// # Errors
    /// If there can be no new client; the one before stays.
    pub(crate) fn renew(&self) -> Result<(), KafkaError> {
        let client = Arc::new(self.access.consumer(&for_questions(&self.access))?);
        let before = std::mem::replace(&mut *lock(&self.client), client);
        let coordinator = Arc::clone(&self.coordinator);
        // Closing a client may block, and a question to the coordinator may hold its slot.
        std::thread::Builder::new()
            .name("highwater-renew".to_owned())
            .spawn(move || {
                drop(lock(&coordinator).take());
                drop(before);
            })
            .map_or_else(|error| Err(KafkaError::ClientCreation(error.to_string())), |_| Ok(()))
    }

    /// A new client that reads what it is assigned by hand, in no group. Whoever drops it closes it, which may block.
    pub(crate) fn reader(&self) -> Result<EventQueue, KafkaError> {
        let mut config = outside_of_groups(&self.access);
        config.set("group.id", READERS);
        let client = self.access.consumer(&config)?;
        EventQueue::of(Arc::new(client))
            .ok_or_else(|| KafkaError::ClientCreation("the client has no queue".to_owned()))
    }

    /// What all clients are made of.
    pub(super) fn access(&self) -> &Arc<Access> {
        &self.access
    }

    /// Why brokers do not let these clients in, if they have said so since they answered last.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        lock(&self.refused).clone().filter(|refusal| refusal.last.elapsed() < REFUSAL_OVER_AFTER)
    }

    /// For whoever asks for days: shows what is new of passwords, tokens and certificates from now on.
    ///
    /// # Errors
    /// If a secret cannot be read, or there can be no client of what was read; the one before stays.
    pub(crate) async fn refresh(&self) -> Result<(), String> {
        let (access, refused) = (Arc::clone(&self.access), self.refusal().is_some());
        let read = tokio::task::spawn_blocking(move || access.refresh(refused)).await;
        if read.map_err(|error| error.to_string())?.map_err(|unread| unread.why)?.any() {
            self.renew().map_err(|error| crate::config::refusal(&error))?;
            self.access.is_used();
            tracing::info!("the Kafka clients' credentials have changed");
        }
        Ok(())
    }

    /// Whether records of open and aborted transactions are left out.
    pub(crate) fn is_read_committed(&self) -> bool {
        self.access.properties().get("isolation.level") != Some("read_uncommitted")
    }

    /// How many partitions the topic has; `None` if there is no such topic (or this client may not see it).
    pub(crate) async fn partition_count(&self, topic: &str) -> Result<Option<i32>, KafkaError> {
        let topic = topic.to_owned();
        self.ask(move |client| {
            let metadata = client.fetch_metadata(Some(&topic), ANSWER_TIMEOUT)?;
            let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
                return Ok(None);
            };
            match found.error() {
                None => Ok(i32::try_from(found.partitions().len()).ok().filter(|&count| count > 0)),
                Some(error) => match RDKafkaErrorCode::from(error) {
                    RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => Ok(None),
                    code => Err(KafkaError::MetadataFetch(code)),
                },
            }
        })
        .await
    }

    /// All topics that this client may see, and how many partitions each has, or why Kafka does not tell just now.
    pub(crate) async fn topics(&self) -> Result<Vec<(String, Result<i32, RDKafkaErrorCode>)>, KafkaError> {
        self.ask(|client| {
            let metadata = client.fetch_metadata(None, ANSWER_TIMEOUT)?;
            let counted = metadata.topics().iter().map(|topic| {
                let count = match topic.error() {
                    Some(error) => Err(RDKafkaErrorCode::from(error)),
                    // There is no topic without a partition, but a broker may not know of any yet.
                    None => i32::try_from(topic.partitions().len())
                        .ok()
                        .filter(|&count| count > 0)
                        .ok_or(RDKafkaErrorCode::LeaderNotAvailable),
                };
                (topic.name().to_owned(), count)
            });
            Ok(counted.collect())
        })
        .await
    }

    /// The partition's first offset and its end: under `read_committed` the last stable offset.
    pub(crate) async fn watermarks(&self, key: &PartitionKey) -> Result<Watermarks, KafkaError> {
        let key = key.clone();
        self.ask(move |client| {
            let (low, high) = client.fetch_watermarks(&key.topic, key.partition, ANSWER_TIMEOUT)?;
            match (NextOffset::new(low), NextOffset::new(high)) {
                (Some(low), Some(high)) => Ok(Watermarks { low, high }),
                _ => Err(KafkaError::OffsetFetch(RDKafkaErrorCode::UnknownPartition)),
            }
        })
        .await
    }

    /// Which topic of that name this is.
    ///
    /// # Errors
    /// If no broker answered, or there is no such topic.
    pub(crate) async fn identity(&self, topic: &str) -> Result<TopicIdentity, KafkaError> {
        let topic = topic.to_owned();
        self.ask(move |client| {
            let until = Instant::now() + ANSWER_TIMEOUT;
            let topics = Question::topics(client, &[&topic], until);
            let answer = topics.answer().map_err(KafkaError::MetadataFetch)?;
            match answer.topic_ids().pop() {
                Some((_, Ok(topic_id))) => Ok(TopicIdentity { cluster_id: cluster_id(client), topic_id }),
                Some((_, Err(code))) => Err(KafkaError::MetadataFetch(code)),
                None => Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopic)),
            }
        })
        .await
    }

    /// By partition, from 0: the first offset whose record is not older than `timestamp_ms`, where there is one.
    pub(crate) async fn offsets_at(
        &self,
        topic: &str,
        partition_count: i32,
        timestamp_ms: i64,
    ) -> Result<Vec<Option<i64>>, KafkaError> {
        let topic = topic.to_owned();
        self.ask(move |client| {
            let mut wanted = TopicPartitionList::new();
            for partition in 0..partition_count {
                wanted.add_partition_offset(&topic, partition, Offset::Offset(timestamp_ms))?;
            }
            let found = client.offsets_for_times(wanted, ANSWER_TIMEOUT)?;
            let offset_of = |partition| {
                let element = found.find_partition(&topic, partition);
                let element = element.ok_or(KafkaError::OffsetFetch(RDKafkaErrorCode::UnknownPartition))?;
                element.error()?;
                match element.offset() {
                    Offset::Offset(offset) => Ok(Some(offset)),
                    _ => Ok(None),
                }
            };
            (0..partition_count).map(offset_of).collect()
        })
        .await
    }

    /// Cluster, topic ids, first offsets and ends, for all of `keys` together: first the topics, then three requests at
    /// once to the leaders of those partitions that have one. The client would wait for the others' leaders, and answer
    /// for none meanwhile.
    ///
    /// # Errors
    /// If the cluster or the topics did not answer; a partition that did not is left out.
    pub(crate) async fn survey(&self, keys: &[PartitionKey]) -> Result<Survey, KafkaError> {
        let keys = keys.to_vec();
        self.ask(move |client| {
            let until = Instant::now() + ANSWER_TIMEOUT;
            let (names, topics) = topics_of(&keys);
            let answer =
                Question::topics(client, &names, until).answer().map_err(KafkaError::MetadataFetch)?;
            let cluster_id = cluster_id(client);
            let mut survey = Survey::default();
            for (topic, id) in answer.topic_ids() {
                let Some(topic) = topics.get(topic.as_str()).map(Arc::clone) else { continue };
                match id {
                    Ok(topic_id) => {
                        let identity = TopicIdentity { cluster_id: cluster_id.clone(), topic_id };
                        survey.identities.insert(topic, identity);
                    }
                    Err(code) => {
                        survey.refused.insert(topic, code);
                    }
                }
            }
            let leaders: HashMap<PartitionKey, bool> = answer.leaders().into_iter().collect();
            let (led, others): (Vec<_>, Vec<_>) =
                keys.iter().cloned().partition(|key| leaders.get(key) == Some(&true));
            survey.leaderless.extend(others.into_iter().filter(|key| leaders.contains_key(key)));
            if led.is_empty() {
                return Ok(survey);
            }
            // Each leader is asked by a request of its own, whose time begins only when the leaders are known: one that
            // does not answer must be left out of the answer, not time the whole of it out.
            let leader = Instant::now() + LEADER_TIMEOUT;
            let ask = |spec| Question::offsets(client, &led, spec, leader, until);
            let (low, end, stable) =
                (ask(OffsetSpec::Earliest), ask(OffsetSpec::UncommittedEnd), ask(OffsetSpec::StableEnd));
            // Of a topic that is deleted just now there are none; its missing identity will say more than this error.
            let found = |question: Question<'_>| question.answer().map(|answer| answer.offsets());
            let (low, end, stable) = (found(low).unwrap_or_default(), found(end), found(stable));
            let why = [&end, &stable].into_iter().find_map(|found| found.as_ref().err()).copied();
            let (end, stable) = (end.unwrap_or_default(), stable.unwrap_or_default());
            let refused: HashMap<_, _> = end.iter().chain(&stable).filter_map(code).collect();
            let end: HashMap<_, _> = positions(end).collect();
            for (key, low) in positions(low) {
                if let Some(&end) = end.get(&key) {
                    survey.available.insert(key, Available { low, end });
                }
            }
            for (key, stable) in positions(stable) {
                if let Some(&log) = end.get(&key) {
                    // Asked a moment apart.
                    survey.ends.insert(key, Ends { log: log.max(stable), stable });
                }
            }
            for key in led.into_iter().filter(|key| !survey.ends.contains_key(key)) {
                let code = refused.get(&key).copied().or(why).unwrap_or(RDKafkaErrorCode::OperationTimedOut);
                survey.silent.insert(key, code);
            }
            Ok(survey)
        })
        .await
    }

    /// The ids of topics, in one request. A topic that does not exist (any more) is not in the answer.
    ///
    /// # Errors
    /// If no broker answered.
    pub(crate) async fn topic_ids(
        &self,
        topics: Vec<Arc<str>>,
    ) -> Result<HashMap<Arc<str>, Option<String>>, KafkaError> {
        self.ask(move |client| {
            let until = Instant::now() + ANSWER_TIMEOUT;
            let names: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
            let answer =
                Question::topics(client, &names, until).answer().map_err(KafkaError::MetadataFetch)?;
            let found = answer.topic_ids().into_iter();
            Ok(found.filter_map(|(topic, id)| Some((Arc::from(topic), id.ok()?))).collect())
        })
        .await
    }

    /// Properties of a client that may assign itself partitions, and joins no group.
    pub(super) fn assignable(&self) -> ClientConfig {
        of_coordinator(&self.access)
    }

    /// Asks on a thread that may block.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&BaseConsumer<Context>) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, KafkaError> {
        let permit = Arc::clone(&self.questions).acquire_owned().await;
        let client = Arc::clone(&lock(&self.client));
        let refused = Arc::clone(&self.refused);
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let answer = question(&client);
            match (&answer, ffi::access::refusal(&client)) {
                (Ok(_), _) => *lock(&refused) = None,
                (Err(_), None) => {}
                (Err(_), Some((code, text))) => {
                    tracing::warn!(?code, "Kafka does not let this client in: {text}");
                    let last = Instant::now();
                    let mut refused = lock(&refused);
                    let before = refused.as_ref().filter(|before| before.last.elapsed() < REFUSAL_OVER_AFTER);
                    let since = before.map_or(last, |before| before.since);
                    *refused = Some(Refusal { code, text, since, last });
                    return Err(KafkaError::Global(code));
                }
            }
            answer
        })
        .await
        .unwrap_or_else(|_| Err(KafkaError::Canceled))
    }

    /// Asks a group's coordinator, one question at a time, through a client of its own that ends with the first question
    /// that fails. librdkafka 2.12.1 aborts the process (`eonce->refcnt`) when a coordinator comes back after such a
    /// request has timed out: so none does, and whoever has waited long enough ends the client with the request in it.
    pub(super) async fn ask_coordinator<T: Send + 'static>(
        &self,
        question: impl FnOnce(&BaseConsumer<Context>) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, KafkaError> {
        let (access, slot) = (Arc::clone(&self.access), Arc::clone(&self.coordinator));
        self.ask(move |_| {
            let mut slot = lock(&slot);
            let client = match slot.take() {
                Some(client) => client,
                None => access.consumer(&of_coordinator(&access))?,
            };
            let answer = question(&client)?;
            *slot = Some(client);
            Ok(answer)
        })
        .await
    }
}

impl OperatorConfig {
    /// The catalogue for a person's tools.
    ///
    /// # Errors
    /// If a secret cannot be read, there is no token, or the client refuses its properties.
    pub(crate) fn catalog(&self) -> crate::Result<Catalog> {
        catalog(&self.properties, &self.secrets)
    }
}

#[cfg(feature = "cli")]
impl crate::config::KafkaConfig {
    /// As [`OperatorConfig::catalog`].
    pub(crate) fn catalog(&self) -> crate::Result<Catalog> {
        catalog(&self.properties, &self.secrets)
    }
}

fn catalog(properties: &[(String, String)], secrets: &crate::config::KafkaSecrets) -> crate::Result<Catalog> {
    let access = Access::open(properties.to_vec(), secrets.clone())?;
    Catalog::new(access).map_err(|error| crate::config::refused(&error))
}

/// Properties of a client that is in no group.
fn outside_of_groups(access: &Access) -> ClientConfig {
    let of_the_group = ["group.", "session.", "heartbeat.", "partition.assignment.", "max.poll.interval"];
    access.properties_if(|name| !of_the_group.iter().any(|prefix| name.starts_with(prefix)))
}

/// … and that asks. librdkafka 2.12.1 asks whichever broker it has asked last: one that does not answer any more, until its
/// connection is given up. By default that takes a minute, in which nobody would hear of the other brokers' partitions.
fn for_questions(access: &Access) -> ClientConfig {
    let mut config = outside_of_groups(access);
    config.set("socket.timeout.ms", GIVEN_UP_AFTER_MS);
    // Must be shorter; nothing is fetched.
    config.set("fetch.wait.max.ms", "500");
    config
}

/// A consumer that never subscribes joins no group, but librdkafka 2.12.1 follows a null pointer when a coordinator that
/// is asked for offsets answers that it is none (any more), unless the client has a group.
fn of_coordinator(access: &Access) -> ClientConfig {
    let mut config = outside_of_groups(access);
    config.set("group.id", access.properties().get("group.id").unwrap_or("highwater"));
    config
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The topics of some partitions, once each: their names, and each name's one copy.
fn topics_of(keys: &[PartitionKey]) -> (Vec<&str>, HashMap<&str, Arc<str>>) {
    let names: BTreeSet<&str> = keys.iter().map(|key| &*key.topic).collect();
    let topics = keys.iter().map(|key| (&*key.topic, Arc::clone(&key.topic))).collect();
    (names.into_iter().collect(), topics)
}

fn code(
    (key, offset): &(PartitionKey, Result<i64, RDKafkaErrorCode>),
) -> Option<(PartitionKey, RDKafkaErrorCode)> {
    Some((key.clone(), *offset.as_ref().err()?))
}

fn positions(
    offsets: Vec<(PartitionKey, Result<i64, RDKafkaErrorCode>)>,
) -> impl Iterator<Item = (PartitionKey, NextOffset)> {
    offsets.into_iter().filter_map(|(key, offset)| Some((key, NextOffset::new(offset.ok()?)?)))
}
