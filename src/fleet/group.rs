//! A group, its partitions and its workers, as one reading has found them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Advice, Diagnosis, Event, json};
use crate::health::{Class, group_class};

/// A group.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct Group {
    /// Its name.
    pub group: String,
    /// The worst class of its partitions.
    pub class: String,
    /// How bad that is; 0: not at all.
    pub severity: i32,
    /// Which of partition, throughput and consumer it is, in words.
    pub diagnosis: Diagnosis,
    /// What one would do next, the likeliest first.
    pub advice: Vec<Advice>,
    /// How many records wait: at least so many, if it is not known of [some](Self::unknown_partitions). None: not known, and
    /// never 0 while it is unknown of a part.
    #[serde(serialize_with = "json::maybe_text")]
    pub lag_records: Option<i64>,
    /// Of how many partitions it is not known.
    pub unknown_partitions: usize,
    /// How old the oldest next record is; none, and never 0, while that is unknown of a part.
    #[serde(serialize_with = "json::seconds")]
    pub lag_seconds: Option<f64>,
    /// Where that is, or where most records wait, as `topic:partition`.
    pub furthest: Option<String>,
    /// When the slowest partition will have caught up; infinity: never, at this pace.
    #[serde(serialize_with = "json::seconds")]
    pub drain_seconds: Option<f64>,
    /// How long until Kafka deletes a record that was not applied.
    #[serde(serialize_with = "json::seconds")]
    pub loss_seconds: Option<f64>,
    /// When that of its partitions was last seen that was not seen for longest, in milliseconds since 1970; of those that were
    /// ever seen.
    pub as_of_ms: Option<i64>,
    /// Workers whose heartbeat is fresh.
    pub live_workers: usize,
    /// Of those, how many say that they are ready.
    pub ready_workers: usize,
    /// The longest that a worker has had something to apply without a commit.
    #[serde(serialize_with = "json::seconds")]
    pub since_commit_seconds: Option<f64>,
    /// Its partitions, by topic and number.
    pub partitions: Vec<Partition>,
    /// Its workers: live, or gone within the window.
    pub workers: Vec<Worker>,
    /// What happened within the window, the newest first.
    pub events: Vec<Event>,
    /// Dead letters that wait for somebody, by topic and state; none where they may not be read.
    pub dead_letters: Option<Vec<DeadLetters>>,
    /// The same by kind: those with the most, and the rest together; none where they may not be read.
    pub dead_letter_kinds: Option<Vec<WaitingKind>>,
}

/// Dead letters that wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DeadLetters {
    /// Whose records they are.
    pub topic: String,
    /// `open`, `parked` or `queued`.
    pub state: String,
    /// How many.
    #[serde(serialize_with = "json::text")]
    pub count: i64,
    /// Since when the one of them is in this state that is longest, in milliseconds since 1970.
    pub since_ms: i64,
}

/// Dead letters of one kind that wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WaitingKind {
    /// The kind's fingerprint; `other`: all kinds that are not listed.
    pub kind: String,
    /// How many: open, parked and queued ones.
    #[serde(serialize_with = "json::text")]
    pub count: i64,
}

/// A partition of a group.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Partition {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The next record to apply.
    #[serde(serialize_with = "json::text")]
    pub next_offset: i64,
    /// Where Kafka's log begins.
    #[serde(serialize_with = "json::maybe_text")]
    pub log_start_offset: Option<i64>,
    /// Up to where `read_committed` reads.
    #[serde(serialize_with = "json::maybe_text")]
    pub last_stable_offset: Option<i64>,
    /// Where the log ends.
    #[serde(serialize_with = "json::maybe_text")]
    pub log_end_offset: Option<i64>,
    /// How many offsets lie between the next record and the last stable offset.
    #[serde(serialize_with = "json::maybe_text")]
    pub lag_records: Option<i64>,
    /// How old the next record is; 0 if there is none.
    #[serde(serialize_with = "json::seconds")]
    pub lag_seconds: Option<f64>,
    /// How many offsets an open transaction hides.
    #[serde(serialize_with = "json::maybe_text")]
    pub uncommitted_records: Option<i64>,
    /// For how long.
    #[serde(serialize_with = "json::seconds")]
    pub uncommitted_seconds: Option<f64>,
    /// When it will have caught up, at this pace; infinity: never.
    #[serde(serialize_with = "json::seconds")]
    pub drain_seconds: Option<f64>,
    /// How long until Kafka deletes the next record.
    #[serde(serialize_with = "json::seconds")]
    pub loss_seconds: Option<f64>,
    /// When somebody has last seen it, in milliseconds since 1970.
    pub as_of_ms: Option<i64>,
    /// How it is: see [`health`](crate::health).
    pub class: String,
    /// Why, in words.
    pub reason: Option<String>,
    /// How bad that is; 0: not at all.
    pub severity: i32,
    /// The process that holds it.
    pub owner: Option<String>,
    /// The claim's number.
    #[serde(serialize_with = "json::text")]
    pub epoch: i64,
    /// When it was claimed, in milliseconds since 1970.
    pub claimed_at_ms: Option<i64>,
    /// Who has claimed it last.
    #[serde(skip)]
    pub claimed_by: Option<String>,
    /// When it has last committed, in milliseconds since 1970.
    pub committed_at_ms: Option<i64>,
    /// What its worker says of it.
    pub state: Option<String>,
    /// … in words.
    pub detail: Option<String>,
    /// Since when, in milliseconds since 1970.
    pub state_since_ms: Option<i64>,
    /// For how long it has had something to apply without a commit; none: it has nothing, or is held.
    #[serde(serialize_with = "json::seconds")]
    pub since_commit_seconds: Option<f64>,
}

impl Partition {
    /// As people write it: `topic:partition`.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}:{}", self.topic, self.partition)
    }

    /// Its owner beats and does not report it: whether its records are applied, nobody knows. Told by the words of the view `health`.
    pub(super) fn is_unreported(&self) -> bool {
        self.class == "STOP"
            && self.reason.as_deref().is_some_and(|reason| reason.contains("has reported nothing"))
    }
}

/// A worker process.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Worker {
    /// Its random id.
    pub owner: String,
    /// Its static membership, if it has one.
    pub instance_id: Option<String>,
    /// Which program it is.
    pub program: String,
    /// In which version.
    pub version: String,
    /// Where it runs.
    pub host: String,
    /// Its process id there.
    pub process_id: i32,
    /// When it started, in milliseconds since 1970.
    pub started_at_ms: i64,
    /// When its heart has last beaten.
    pub heartbeat_at_ms: i64,
    /// When it has stopped, if it said so.
    pub stopped_at_ms: Option<i64>,
    /// Whether its heartbeat is fresh.
    pub live: bool,
    /// What it says of itself.
    pub state: String,
    /// Whether it says that it is ready.
    pub ready: bool,
    /// Why not, or what it waits for.
    pub detail: Option<String>,
    /// How many partitions it holds.
    pub partitions: usize,
    /// How many of those have something to apply.
    pub behind: usize,
    /// How many of those wait for something, of which it says what: neither paused nor halted.
    pub stuck: usize,
    /// When it has last committed, in milliseconds since 1970.
    pub committed_at_ms: Option<i64>,
    /// For how long it has had something to apply without a commit: 0 if it has nothing to apply.
    pub since_commit_seconds: f64,
    /// The partition of which that is.
    pub slowest: Option<String>,
    /// How long a batch of it may take: its `max_processing_time`, as it says.
    pub deadline_seconds: f64,
    /// Records that it has applied.
    #[serde(serialize_with = "json::text")]
    pub records_total: i64,
    /// Batches that it has committed.
    #[serde(serialize_with = "json::text")]
    pub commits_total: i64,
    /// Claims of it that another process has taken.
    #[serde(serialize_with = "json::text")]
    pub fenced_total: i64,
    /// Batches that it has tried again.
    #[serde(serialize_with = "json::text")]
    pub retries_total: i64,
}

impl Worker {
    /// By which people know it: its instance id, or where it runs.
    #[must_use]
    pub fn name(&self) -> String {
        self.instance_id.clone().unwrap_or_else(|| format!("{} pid {}", self.host, self.process_id))
    }

    /// Whether it is the partition's owner.
    pub(crate) fn holds(&self, partition: &Partition) -> bool {
        partition.owner.as_deref() == Some(self.owner.as_str())
    }
}

impl Group {
    /// Adds up what its partitions and workers say, and judges it.
    pub(crate) fn complete(&mut self) {
        let classes = self.partitions.iter().filter_map(|partition| partition.class.parse::<Class>().ok());
        self.class = group_class(classes).to_string();
        self.severity = self.partitions.iter().map(|partition| partition.severity).max().unwrap_or(0);
        let known = || self.partitions.iter().filter_map(|partition| partition.lag_records);
        self.unknown_partitions = self.partitions.len() - known().count();
        let total: i64 = known().sum();
        self.lag_records =
            (known().count() > 0 && (total > 0 || self.unknown_partitions == 0)).then_some(total);
        let oldest = self.partitions.iter().filter_map(|p| Some((p.lag_seconds?, p)));
        let oldest = oldest.max_by(|a, b| a.0.total_cmp(&b.0));
        let aged = self.partitions.iter().filter(|p| p.lag_seconds.is_some()).count();
        self.lag_seconds =
            oldest.map(|(age, _)| age).filter(|age| *age > 0.0 || aged == self.partitions.len());
        let most = self.partitions.iter().max_by_key(|partition| partition.lag_records);
        let furthest = oldest.filter(|(seconds, _)| *seconds > 0.0).map(|(_, partition)| partition);
        let furthest = furthest.or_else(|| most.filter(|partition| partition.lag_records > Some(0)));
        self.furthest = furthest.map(Partition::place);
        self.drain_seconds = self.partitions.iter().filter_map(|p| p.drain_seconds).reduce(f64::max);
        self.loss_seconds = self.partitions.iter().filter_map(|p| p.loss_seconds).reduce(f64::min);
        self.as_of_ms = self.partitions.iter().filter_map(|partition| partition.as_of_ms).min();
        self.live_workers = self.workers.iter().filter(|worker| worker.live).count();
        self.ready_workers = self.workers.iter().filter(|worker| worker.live && worker.ready).count();
        let live = self.workers.iter().filter(|worker| worker.live);
        self.since_commit_seconds = live.map(|worker| worker.since_commit_seconds).reduce(f64::max);
        self.diagnosis = super::diagnosis::diagnose(self);
        self.advice = super::advice::advise(self);
    }

    /// Dead letters that wait, by state.
    #[must_use]
    pub fn waiting_letters(&self) -> BTreeMap<&str, i64> {
        let mut states = BTreeMap::new();
        for letters in self.dead_letters.iter().flatten() {
            *states.entry(letters.state.as_str()).or_default() += letters.count;
        }
        states
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(class: Class, lag: Option<i64>, as_of_ms: Option<i64>) -> Partition {
        Partition {
            topic: "t".to_owned(),
            class: class.to_string(),
            severity: class.severity().into(),
            lag_records: lag,
            lag_seconds: lag.map(|_| 0.0),
            as_of_ms,
            ..Partition::default()
        }
    }

    fn completed(partitions: Vec<Partition>) -> Group {
        let worker = Worker { live: true, ready: true, ..Worker::default() };
        let mut group = Group { partitions, workers: vec![worker], ..Group::default() };
        group.complete();
        group
    }

    #[test]
    fn a_groups_class_is_the_one_that_every_command_tells() {
        assert_eq!(completed(vec![]).class, "NOTFOUND");
        for first in Class::ALL {
            for second in Class::ALL {
                let group = completed([first, second].map(|class| of(class, Some(0), Some(1))).into());
                let class = group_class([first, second]);
                assert_eq!((&*group.class, group.severity), (class.as_str(), class.severity().into()));
            }
        }
    }

    #[test]
    fn what_is_not_known_is_no_part_of_a_sum_that_says_all_is_well() {
        let group = completed(vec![of(Class::Ok, Some(0), Some(9)), of(Class::Ok, None, None)]);
        assert_eq!((group.lag_records, group.lag_seconds, group.unknown_partitions), (None, None, 1));
        assert_eq!(group.diagnosis.headline, "Nobody knows how far behind 1 of 2 partitions are.");
        assert_eq!(group.as_of_ms, Some(9), "of those that are known");
        let group = completed(vec![of(Class::Ok, Some(7), Some(9)), of(Class::Ok, None, Some(5))]);
        assert_eq!((group.lag_records, group.as_of_ms), (Some(7), Some(5)), "at least so many");
        let ageless = Partition { lag_seconds: None, ..of(Class::Ok, Some(7), Some(9)) };
        let group = completed(vec![of(Class::Ok, Some(0), Some(9)), ageless]);
        assert_eq!((group.lag_records, group.lag_seconds), (Some(7), None), "not 0 s");
        let group = completed(vec![of(Class::Ok, Some(0), Some(9)); 2]);
        assert_eq!((group.lag_records, group.lag_seconds), (Some(0), Some(0.0)));
        assert_eq!(group.diagnosis.headline, "Well: caught up.");
    }
}
