//! Which dead letters.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};
use tokio_postgres::types::ToSql;

use super::super::Selection;

/// How many parameters [`WHICH`] has.
pub(super) const VALUES: usize = 9;
/// The condition on `d`, with the parameters of [`Values`].
pub(super) const WHICH: &str = "d.group_id = $1 \
    AND ($2::text[] IS NULL OR EXISTS (SELECT FROM unnest($2::text[], $3::int4[]) AS w(topic, partition) \
      WHERE w.topic = d.topic AND (w.partition IS NULL OR w.partition = d.partition))) \
    AND ($4::text[] IS NULL OR EXISTS (SELECT FROM unnest($4::text[]) AS k(kind) WHERE starts_with(d.fingerprint, k.kind))) \
    AND ($5::text[] IS NULL OR d.state = ANY($5::text[])) \
    AND ($6::timestamptz IS NULL OR d.last_at >= $6) AND ($7::timestamptz IS NULL OR d.last_at < $7) \
    AND ($8::bytea IS NULL OR d.key_hash = $8) AND ($9::int8[] IS NULL OR d.dead_letter_id = ANY($9::int8[]))";

/// Which dead letters of a group: those that fit all that is said.
#[derive(Debug, Clone)]
#[must_use]
pub struct DeadLetterFilter {
    pub(super) group: String,
    selection: Selection,
    kinds: Vec<String>,
    states: Option<Vec<DeadLetterState>>,
    since: Option<SystemTime>,
    until: Option<SystemTime>,
    key_hash: Option<Vec<u8>>,
    ids: Option<Vec<i64>>,
}

/// Where a dead letter stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeadLetterState {
    /// It waits for somebody's decision.
    Open,
    /// It waits behind another one of its key.
    Parked,
    /// It is to be applied once more.
    Queued,
    /// It was applied after all.
    Redriven,
    /// Somebody has decided that it will not be applied.
    Discarded,
    /// The offset was moved back before it, and the record was read again.
    Superseded,
}

impl DeadLetterState {
    /// As the tables have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Parked => "parked",
            Self::Queued => "queued",
            Self::Redriven => "redriven",
            Self::Discarded => "discarded",
            Self::Superseded => "superseded",
        }
    }
}

impl fmt::Display for DeadLetterState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for DeadLetterState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Open, Self::Parked, Self::Queued, Self::Redriven, Self::Discarded, Self::Superseded];
        let known = all.into_iter().find(|state| state.as_str() == text);
        known.ok_or_else(|| {
            let names = all.map(Self::as_str).join(", ");
            format!("`{text}` is no state of a dead letter: choose of {names}")
        })
    }
}

impl DeadLetterFilter {
    /// All that wait in a group: open, parked and queued ones.
    pub fn new(group: impl Into<String>) -> Self {
        let waiting = vec![DeadLetterState::Open, DeadLetterState::Parked, DeadLetterState::Queued];
        Self {
            group: group.into(),
            selection: Selection::AllTopics,
            kinds: Vec::new(),
            states: Some(waiting),
            since: None,
            until: None,
            key_hash: None,
            ids: None,
        }
    }

    /// Of these topics and partitions.
    pub fn selection(mut self, selection: Selection) -> Self {
        self.selection = selection;
        self
    }

    /// Of the kinds whose fingerprint begins like one of these; none: of any.
    pub fn kinds(mut self, kinds: impl IntoIterator<Item = String>) -> Self {
        self.kinds = kinds.into_iter().collect();
        self
    }

    /// In a state in which it may be applied once more: open, or parked behind another of its key.
    pub fn redrivable(self) -> Self {
        self.states(Some(vec![DeadLetterState::Open, DeadLetterState::Parked]))
    }

    /// In one of these states; `None`: in any.
    pub fn states(mut self, states: Option<Vec<DeadLetterState>>) -> Self {
        self.states = states;
        self
    }

    /// Last stored at this instant or after it.
    pub fn since(mut self, instant: Option<SystemTime>) -> Self {
        self.since = instant;
        self
    }

    /// Last stored before this instant.
    pub fn until(mut self, instant: Option<SystemTime>) -> Self {
        self.until = instant;
        self
    }

    pub(super) fn not_after(mut self, now: SystemTime) -> Self {
        self.until = Some(self.until.map_or(now, |until| until.min(now)));
        self
    }

    /// Of records with this key.
    pub fn key(mut self, key: Option<&[u8]>) -> Self {
        self.key_hash = key.map(|key| Sha256::digest(key).to_vec());
        self
    }

    /// With one of these numbers; `None`: with any.
    pub fn ids(mut self, ids: Option<Vec<i64>>) -> Self {
        self.ids = ids;
        self
    }

    /// The topics that are named.
    pub(super) fn topics(&self) -> impl Iterator<Item = &str> {
        let topics = match &self.selection {
            Selection::AllTopics => &[][..],
            Selection::Topics(topics) => topics,
        };
        topics.iter().map(|topic| topic.topic.as_str())
    }

    pub(super) fn values(&self) -> Values<'_> {
        let topics = match &self.selection {
            Selection::AllTopics => None,
            Selection::Topics(topics) => Some(topics),
        };
        let places = topics.map(|topics| {
            let of_topic = |topic: &super::super::TopicSelection| match &topic.partitions {
                None => vec![(topic.topic.clone(), None)],
                Some(some) => some.iter().map(|partition| (topic.topic.clone(), Some(*partition))).collect(),
            };
            topics.iter().flat_map(of_topic).unzip()
        });
        let (topics, partitions) = places
            .map_or((None, None), |(topics, partitions): (Vec<_>, Vec<_>)| (Some(topics), Some(partitions)));
        let states = self.states.as_ref();
        Values {
            group: &self.group,
            topics,
            partitions,
            kinds: Some(self.kinds.clone()).filter(|kinds| !kinds.is_empty()),
            states: states.map(|states| states.iter().map(|state| state.as_str()).collect()),
            since: self.since,
            until: self.until,
            key_hash: self.key_hash.as_deref(),
            ids: self.ids.as_deref(),
        }
    }
}

/// The parameters of [`WHICH`].
pub(super) struct Values<'a> {
    group: &'a str,
    pub(super) topics: Option<Vec<String>>,
    pub(super) partitions: Option<Vec<Option<i32>>>,
    pub(super) kinds: Option<Vec<String>>,
    states: Option<Vec<&'static str>>,
    since: Option<SystemTime>,
    until: Option<SystemTime>,
    pub(super) key_hash: Option<&'a [u8]>,
    pub(super) ids: Option<&'a [i64]>,
}

impl Values<'_> {
    pub(super) fn parameters(&self) -> Vec<&(dyn ToSql + Sync)> {
        let all: [&(dyn ToSql + Sync); VALUES] = [
            &self.group,
            &self.topics,
            &self.partitions,
            &self.kinds,
            &self.states,
            &self.since,
            &self.until,
            &self.key_hash,
            &self.ids,
        ];
        all.into()
    }
}
