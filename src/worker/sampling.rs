//! The samples: how each partition of this worker is doing, judged by its trajectory. In a task of its own, for neither a
//! silent database nor a silent broker may keep it from seeing that nothing moves.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::status::{PartitionStatus, StatusBoard};
use crate::batch::PartitionKey;
use crate::config::{Config, Isolation, epoch_ms};
use crate::health::{Class, Known, Loss, Options, Sample, Trajectory, round};
use crate::lag::{Retention, Tail};

/// Digits of a rate that are told: more would only be different every time.
const DIGITS: i32 = 3;

/// What the samples say of a partition.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Judged {
    pub(super) class: Class,
    /// `None`: it was not sampled yet.
    pub(super) reason: Option<String>,
    pub(super) applied_per_second: Option<f64>,
    pub(super) produced_per_second: Option<f64>,
    pub(super) drain_seconds: Option<f64>,
    pub(super) uncommitted_since_ms: Option<i64>,
    pub(super) loss_at_ms: Option<f64>,
    /// Where it stood when the reason was made that it stands.
    pub(super) stood_at: Option<i64>,
}

impl Judged {
    /// The reason, unless the partition has moved on since: samples are seldom, and one that moves counts only once another
    /// has confirmed it.
    pub(super) fn reason_at(&self, next_offset: Option<i64>) -> Option<String> {
        let moved = self.stood_at.is_some_and(|stood| next_offset.is_some_and(|next| next != stood));
        let reason = self.reason.clone()?;
        Some(if moved { format!("moves again: until the last sample it {reason}") } else { reason })
    }
}

impl Default for Judged {
    fn default() -> Self {
        Self {
            class: Class::Ok,
            reason: None,
            applied_per_second: None,
            produced_per_second: None,
            drain_seconds: None,
            uncommitted_since_ms: None,
            loss_at_ms: None,
            stood_at: None,
        }
    }
}

/// Takes the samples.
pub(super) struct Sampler {
    board: Arc<StatusBoard>,
    options: Options,
    isolation: Isolation,
    retention: Arc<Retention>,
    followed: HashMap<PartitionKey, Followed>,
}

/// What is known of a partition for as long as it is assigned.
struct Followed {
    trajectory: Trajectory,
    loss: Loss,
    tail: Tail,
    /// The present reason, and where the partition was when it was made.
    reason: Option<(String, Option<i64>)>,
}

impl Sampler {
    pub(super) fn new(board: Arc<StatusBoard>, config: &Config, retention: Arc<Retention>) -> Self {
        let options = Options {
            allowed_lag: i64::try_from(config.allowed_lag).unwrap_or(i64::MAX),
            window: config.health_window,
            interval: config.health_interval,
            ..Options::default()
        };
        Self { board, options, isolation: config.isolation, retention, followed: HashMap::new() }
    }

    /// Samples until aborted.
    pub(super) async fn run(mut self) {
        let mut ticks = tokio::time::interval(self.options.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now_ms = epoch_ms(SystemTime::now());
            let judged = self.look(now_ms, &self.board.get().partitions);
            *self.board.judged() = judged;
        }
    }

    fn look(&mut self, now_ms: i64, partitions: &[PartitionStatus]) -> HashMap<PartitionKey, Judged> {
        let key = |status: &PartitionStatus| PartitionKey {
            topic: status.topic.as_str().into(),
            partition: status.partition,
        };
        let mut before = std::mem::take(&mut self.followed);
        let mut judged = HashMap::with_capacity(partitions.len());
        for status in partitions {
            let key = key(status);
            let mut followed = before.remove(&key).unwrap_or_else(|| Followed {
                trajectory: Trajectory::new(self.options),
                loss: Loss::new(),
                tail: Tail::default(),
                reason: None,
            });
            judged.insert(
                key.clone(),
                followed.judge(now_ms, status, self.isolation, self.retention.of(&key.topic)),
            );
            self.followed.insert(key, followed);
        }
        judged
    }
}

impl Followed {
    fn judge(
        &mut self,
        now_ms: i64,
        status: &PartitionStatus,
        isolation: Isolation,
        retention_ms: Option<i64>,
    ) -> Judged {
        let end = status.readable_end(isolation);
        // Without a claim there is no position, and so no sample.
        if let Some(next_offset) = status.next_offset {
            self.trajectory.push(Sample::new(now_ms, next_offset, end));
        }
        if let Some(start) = status.log_start_offset {
            self.loss.push(now_ms, start);
        }
        let verdict = self.trajectory.judge(now_ms, &Known::Nothing);
        if self.reason.as_ref().is_none_or(|(reason, _)| *reason != verdict.reason) {
            self.reason = Some((verdict.reason.clone(), status.next_offset));
        }
        let stood_at = self.reason.as_ref().and_then(|(_, at)| *at).filter(|_| verdict.class == Class::Stall);
        let is_sampled = self.trajectory.samples().next().is_some();
        let rounded = |rate: Option<f64>| rate.map(|rate| round(rate, DIGITS));
        Judged {
            class: verdict.class,
            reason: is_sampled.then_some(verdict.reason),
            applied_per_second: rounded(self.trajectory.applied_per_second()),
            produced_per_second: rounded(self.trajectory.produced_per_second()),
            drain_seconds: rounded(self.trajectory.drain_seconds().filter(|_| end.is_some())),
            uncommitted_since_ms: self.tail.since(now_ms, end, status.log_end_offset),
            loss_at_ms: status.next_offset.and_then(|next_offset| {
                self.loss.at(now_ms, next_offset, status.next_record_timestamp_ms, retention_ms)
            }),
            stood_at,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::worker::PartitionState;

    pub(in crate::worker) fn status(next_offset: Option<i64>, stable: i64) -> PartitionStatus {
        PartitionStatus {
            topic: "t".to_owned(),
            partition: 0,
            state: PartitionState::Running,
            next_offset,
            mirrored_offset: None,
            held_bytes: 0,
            detail: None,
            epoch: Some(1),
            log_end_offset: Some(stable + 5),
            last_stable_offset: Some(stable),
            next_record_timestamp_ms: Some(1_000),
            log_start_offset: Some(0),
            class: Class::Ok,
            reason: None,
            applied_per_second: None,
            produced_per_second: None,
            drain_seconds: None,
            uncommitted_since_ms: None,
            loss_at_ms: None,
        }
    }

    #[test]
    fn a_partition_is_followed_while_it_is_assigned() {
        let config = crate::PartialConfig::default()
            .brokers(vec!["127.0.0.1:1".to_owned()])
            .postgres_url("postgres://h/d")
            .group("g")
            .topics(vec!["t".to_owned()])
            .finish()
            .unwrap();
        let mut sampler = Sampler::new(Arc::new(StatusBoard::new()), &config, Arc::default());
        let key = PartitionKey { topic: "t".into(), partition: 0 };
        let unclaimed = sampler.look(0, &[status(None, 100)]);
        assert_eq!(unclaimed[&key], Judged { uncommitted_since_ms: Some(0), ..Judged::default() });
        for n in 1..=5 {
            let judged = sampler.look(n * 10_000, &[status(Some(40), 100)]);
            assert_eq!(judged[&key].uncommitted_since_ms, Some(0));
        }
        let judged = sampler.look(60_000, &[status(Some(40), 100)]);
        let found = &judged[&key];
        assert_eq!(found.class, Class::Stall, "{found:?}");
        assert_eq!((found.applied_per_second, found.produced_per_second), (Some(0.0), Some(0.0)));
        assert_eq!(found.drain_seconds, Some(f64::INFINITY));
        assert_eq!(found.reason_at(Some(40)), found.reason, "it stands");
        assert!(found.reason_at(Some(55)).unwrap().starts_with("moves again: "), "{found:?}");
        // Revoked, and assigned once more.
        assert!(sampler.look(70_000, &[]).is_empty());
        assert_eq!(sampler.look(80_000, &[status(Some(40), 100)])[&key].class, Class::Ok);
    }

    /// What is not committed is to be applied, too, where it is read: it cannot be caught up before.
    #[test]
    fn one_that_reads_uncommitted_records_waits_for_them() {
        let config = crate::PartialConfig::default()
            .brokers(vec!["127.0.0.1:1".to_owned()])
            .postgres_url("postgres://h/d")
            .group("g")
            .topics(vec!["t".to_owned()])
            .isolation(Isolation::ReadUncommitted)
            .finish()
            .unwrap();
        let mut sampler = Sampler::new(Arc::new(StatusBoard::new()), &config, Arc::default());
        let mut last = HashMap::new();
        for n in 0..=6 {
            last = sampler.look(n * 10_000, &[status(Some(100), 100)]);
        }
        let found = last.values().next().unwrap();
        assert_eq!((found.class, found.uncommitted_since_ms), (Class::Stall, None), "{found:?}");
    }
}
