//! Is a group well, and if not, what and where: what a person on call asks first.
//!
//! Lag alone is no trouble, unless the caller sets a limit: what is, is a lag that grows, or a partition that stands still,
//! and that workers tell who have followed it (see [`health`](crate::health)).

mod judge;
mod read;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Offsets;
use crate::error::Result;
use crate::health::Class;

/// For so long it is looked again where what was found may be a hand-over between two workers, which takes a second.
const SETTLE: Duration = Duration::from_secs(3);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// Under which conditions a group is well.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StatusOptions {
    allow_paused: bool,
    max_lag: Option<i64>,
    max_lag_seconds: Option<f64>,
    max_dead_letters: Option<i64>,
}

impl StatusOptions {
    /// Partitions that a person has paused are no trouble. What a person has halted stays one: that is what a halt is for.
    #[must_use]
    pub fn allow_paused(mut self, allow: bool) -> Self {
        self.allow_paused = allow;
        self
    }

    /// More than so many offsets behind, in one partition, is trouble.
    #[must_use]
    pub fn max_lag(mut self, offsets: Option<i64>) -> Self {
        self.max_lag = offsets;
        self
    }

    /// A next record older than so many seconds is trouble.
    #[must_use]
    pub fn max_lag_seconds(mut self, seconds: Option<f64>) -> Self {
        self.max_lag_seconds = seconds;
        self
    }

    /// More than so many open dead letters are trouble.
    #[must_use]
    pub fn max_dead_letters(mut self, count: Option<i64>) -> Self {
        self.max_dead_letters = count;
        self
    }
}

/// How a group stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct GroupStatus {
    /// The group.
    pub group: String,
    /// Nothing is wrong: no trouble [counts](Trouble::counts).
    pub well: bool,
    /// How its worst partition is doing; none where this role may not read that.
    pub class: Option<Class>,
    /// Whether Kafka was asked, and has answered; if not, ends are those that workers have reported.
    pub asked_kafka: bool,
    /// How many partitions it has.
    pub partitions: usize,
    /// How many of them a live process holds.
    pub held: usize,
    /// What is wrong, and where; the gravest first.
    pub troubles: Vec<Trouble>,
    /// How far behind it is.
    pub lag: Lag,
    /// Its last commit, in UTC.
    pub committed_at: Option<String>,
    /// How long ago that was.
    pub seconds_since_commit: Option<f64>,
    /// Who is at work.
    pub workers: Workers,
    /// Dead letters that wait for somebody, by state (`open`, `parked`, `queued`); none where this role may not read them.
    pub dead_letters: Option<BTreeMap<String, i64>>,
    /// In which partitions these are, and since when; those with the most of them first.
    pub dead_letters_in: Vec<PartitionLetters>,
    /// What becomes of a record that is rejected, and in how many partitions, as workers have said last: `halt`,
    /// `dead_letter`.
    pub on_rejected: BTreeMap<String, usize>,
    /// What a person has done last, or a worker where records were lost; none where nobody has.
    pub last_event: Option<LastEvent>,
}

/// What is wrong with a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TroubleKind {
    /// The partition has stopped with an error.
    Halted,
    /// A person has halted it.
    HaltedByOperator,
    /// Kafka does not hold the record that comes next: it was deleted, or the log was cut.
    OutsideLog,
    /// No worker is live.
    NobodyAtWork,
    /// The process that holds the partition has stopped beating.
    DeadOwner,
    /// Nobody holds it, though workers are live.
    Unowned,
    /// Of a topic that the group subscribes to, nobody was ever given a partition: the worker that looks says of which.
    Unassigned,
    /// Nobody leads it in Kafka.
    NoLeader,
    /// It is held, and does not move: its worker says why.
    Stuck,
    /// It is held, records wait, and nothing of it is applied, for no reason that its worker knows of.
    Stalled,
    /// Its lag grows.
    Growing,
    /// It is assigned, and its claim is not there yet.
    Claiming,
    /// Another live process has its claim.
    Fenced,
    /// A worker says that it is not ready.
    NotReady,
    /// A person has paused it.
    Paused,
    /// It went back, and has not come to where it was.
    Rewound,
    /// It is further behind than the caller's limit.
    Lag,
    /// More dead letters wait than the caller's limit.
    DeadLetters,
    /// Kafka does not answer whoever asks here; the workers may hear it.
    KafkaSilent,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Trouble {
    /// What it is.
    pub kind: TroubleKind,
    /// Whether the group is not well because of it.
    pub counts: bool,
    /// The topic; none if it is no partition's.
    pub topic: Option<String>,
    /// The partition.
    pub partition: Option<i32>,
    /// Where that stands: the next record to apply.
    pub next_offset: Option<i64>,
    /// The process that it is about.
    pub owner: Option<String>,
    /// Where that runs.
    pub host: Option<String>,
    /// For how long it has been so, where that is known.
    pub seconds: Option<f64>,
    /// Why, in the words of whoever knows.
    pub detail: Option<String>,
}

/// Dead letters of a partition.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PartitionLetters {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// How many wait.
    pub waiting: i64,
    /// Since when the one that has waited longest does, in UTC.
    pub since: Option<String>,
    /// How long that is.
    pub seconds: Option<f64>,
}

/// How far behind a group is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Lag {
    /// How many offsets lie between the next records and the ends, markers included; none if an end is unknown.
    pub offsets: Option<i64>,
    /// In how many partitions.
    pub partitions: usize,
    /// The largest of one partition.
    pub most: Option<i64>,
    /// How old the oldest of the next records is; 0 if there is none, none if that is unknown.
    pub seconds: Option<f64>,
    /// Where that is, as `topic:partition`.
    pub oldest: Option<String>,
}

/// Who is at work.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct Workers {
    /// Processes whose heartbeat is fresh.
    pub live: usize,
    /// Of those, how many say that they are ready.
    pub ready: usize,
    /// How many of them run which version.
    pub versions: BTreeMap<String, usize>,
}

/// What was done last.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LastEvent {
    /// `reset`, `skip`, `adopt`, `delete`, `undo`, `lost`, or `pause`, `halt`, `resume`, `retry`.
    pub kind: String,
    /// By whom.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When, in UTC.
    pub at: String,
    /// How long ago.
    pub seconds: f64,
    /// The topic of one of its partitions.
    pub topic: String,
    /// That partition.
    pub partition: i32,
    /// How many partitions it was.
    pub partitions: i64,
}

impl Offsets {
    /// How `group` stands now. What may be a hand-over is looked at again, for up to three seconds.
    ///
    /// # Errors
    ///
    /// If the group is unknown, or Postgres does not answer. Kafka's silence is no error.
    pub async fn status(&mut self, group: &str, options: &StatusOptions) -> Result<GroupStatus> {
        self.reconnect().await?;
        let until = Instant::now() + SETTLE;
        loop {
            let status = judge::judge(group, self.see(group).await?, options);
            if status.well || !judge::may_pass(&status) || Instant::now() >= until {
                return Ok(status);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The groups of this database, but for those that one run had for itself and that are over.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    pub async fn lasting_groups(&mut self) -> Result<Vec<String>> {
        let groups = self.list().await?;
        let lasts = |group: &super::GroupSummary| {
            group.workers > 0 || !group.group.starts_with(crate::config::ONE_OFF_GROUP)
        };
        Ok(groups.into_iter().filter(lasts).map(|group| group.group).collect())
    }
}
