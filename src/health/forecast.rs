//! What a lag leads to: how long until it is worked off, and how long until Kafka deletes what was not applied yet.

use std::collections::VecDeque;

/// How long it takes until a lag of so many offsets is worked off: [`f64::INFINITY`] where as much is produced as applied,
/// or more; 0 where there is none. `None` where a rate is not known.
#[must_use]
pub fn drain_seconds(lag: i64, applied_per_s: Option<f64>, produced_per_s: Option<f64>) -> Option<f64> {
    if lag <= 0 {
        return Some(0.0);
    }
    let net = applied_per_s? - produced_per_s?;
    Some(if net > 0.0 { lag as f64 / net } else { f64::INFINITY })
}

/// How long until the next record is deleted before it was applied: the sooner of what its age and what the beginning of
/// the log say. [`f64::INFINITY`] where nothing is left to apply; `None` where neither is known.
///
/// - **By its age** ([`Loss::at_by_age`]): Kafka deletes a segment when the newest record in it is older than
///   `retention.ms`, so never before this record is. That is the soonest it can happen; mostly it takes as long again as
///   a segment is written (`segment.ms`, `segment.bytes`), and up to five minutes until the broker looks.
/// - **By the beginning of the log** ([`Loss::at_by_pace`]): `retention.bytes` deletes by size, and then only the pace at
///   which the log's beginning comes nearer tells. It comes in steps of a segment: an estimate, from two steps on.
#[must_use]
pub fn loss_seconds(lag: i64, now_ms: i64, loss_at_ms: Option<f64>) -> Option<f64> {
    if lag <= 0 {
        return Some(f64::INFINITY);
    }
    loss_at_ms.map(|at| ((at - now_ms as f64) / 1_000.0).max(0.0))
}

const MINUTE_MS: f64 = 60_000.0;
/// For so long the beginning of a log must have been watched before its pace is one.
const WATCHED_MS: i64 = 600_000;
/// Steps further back count no more.
const REMEMBERED_MS: i64 = 7_200_000;
/// The most steps that are kept.
const STEPS: usize = 64;

/// Watches a partition's beginning.
#[derive(Debug, Clone, Default)]
pub struct Loss {
    /// When it was first seen there; the oldest first.
    steps: VecDeque<(i64, i64)>,
}

impl Loss {
    /// Nothing was seen yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The log begins at `log_start_offset`.
    pub fn push(&mut self, at_ms: i64, log_start_offset: i64) {
        match self.steps.back() {
            // The clock went back, or this is another log.
            Some(&(at, start)) if at_ms < at || log_start_offset < start => self.steps.clear(),
            Some(&(_, start)) if start == log_start_offset => return,
            _ => {}
        }
        self.steps.push_back((at_ms, log_start_offset));
        let is_old = |&(at, _): &(i64, i64)| at_ms.saturating_sub(at) > REMEMBERED_MS;
        // Two stay: a pace that is old is better than none.
        while self.steps.len() > STEPS || self.steps.len() > 3 && self.steps.front().is_some_and(is_old) {
            self.steps.pop_front();
        }
    }

    /// When, in ms since 1970, the next record may be deleted for its age; [`f64::INFINITY`] where `retention_ms` is -1.
    /// `None` where a figure is missing, or the record has no time (it bears a negative one).
    #[must_use]
    pub fn at_by_age(next_record_timestamp_ms: Option<i64>, retention_ms: Option<i64>) -> Option<f64> {
        match retention_ms? {
            ..0 => Some(f64::INFINITY),
            retention_ms => {
                let at = next_record_timestamp_ms.filter(|&at| at >= 0)?;
                Some(at.saturating_add(retention_ms) as f64)
            }
        }
    }

    /// When, in ms since 1970, the log's beginning comes to `next_offset` at the pace of the last two hours: now where it
    /// is past it. `None` before it was watched for 10 min and has made two steps.
    #[must_use]
    pub fn at_by_pace(&self, now_ms: i64, next_offset: i64) -> Option<f64> {
        let (&(since, from), &(_, start)) = (self.steps.front()?, self.steps.back()?);
        if start > next_offset {
            return Some(now_ms as f64);
        }
        let watched_ms = now_ms.saturating_sub(since);
        if self.steps.len() < 3 || watched_ms < WATCHED_MS {
            return None;
        }
        let ms_per_offset = watched_ms as f64 / start.saturating_sub(from) as f64;
        let at = now_ms as f64 + next_offset.saturating_sub(start) as f64 * ms_per_offset;
        // It is not known better than that, and should hold still.
        Some((at / MINUTE_MS).round() * MINUTE_MS)
    }

    /// The sooner of both.
    #[must_use]
    pub fn at(
        &self,
        now_ms: i64,
        next_offset: i64,
        next_record_timestamp_ms: Option<i64>,
        retention_ms: Option<i64>,
    ) -> Option<f64> {
        let by_age = Self::at_by_age(next_record_timestamp_ms, retention_ms);
        match (by_age, self.at_by_pace(now_ms, next_offset)) {
            (Some(age), Some(pace)) => Some(age.min(pace)),
            (age, pace) => age.or(pace),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_is_drained_by_the_difference_of_the_rates() {
        assert_eq!(drain_seconds(0, None, None), Some(0.0));
        assert_eq!(drain_seconds(100, Some(30.0), Some(10.0)), Some(5.0));
        assert_eq!(drain_seconds(100, Some(10.0), Some(10.0)), Some(f64::INFINITY));
        assert_eq!(drain_seconds(100, Some(0.0), Some(10.0)), Some(f64::INFINITY));
        assert_eq!(drain_seconds(100, None, Some(10.0)), None);
    }

    #[test]
    fn what_is_deleted_by_age_is_told_from_the_record() {
        let at = Loss::at_by_age(Some(1_000), Some(60_000));
        assert_eq!(at, Some(61_000.0));
        assert_eq!(loss_seconds(5, 31_000, at), Some(30.0));
        assert_eq!(loss_seconds(5, 99_000, at), Some(0.0), "it may be gone any moment");
        assert_eq!(loss_seconds(0, 99_000, at), Some(f64::INFINITY));
        assert_eq!(loss_seconds(5, 0, Loss::at_by_age(Some(1_000), Some(-1))), Some(f64::INFINITY));
        assert_eq!(loss_seconds(5, 0, Loss::at_by_age(Some(-1), Some(60_000))), None, "no time");
        assert_eq!(Loss::at_by_age(Some(1_000), None), None);
        assert!(Loss::at_by_age(Some(i64::MAX), Some(i64::MAX)).is_some());
    }

    #[test]
    fn what_is_deleted_by_size_is_told_from_the_beginning() {
        let mut loss = Loss::new();
        const MINUTE: i64 = 60_000;
        loss.push(0, 100);
        loss.push(5 * MINUTE, 100);
        loss.push(10 * MINUTE, 1_100);
        assert_eq!(loss.at_by_pace(15 * MINUTE, 5_000), None, "one step is no pace");
        loss.push(20 * MINUTE, 2_100);
        // 2,000 offsets in 20 minutes, and 3,000 to go.
        assert_eq!(loss.at_by_pace(20 * MINUTE, 5_100), Some((50 * MINUTE) as f64));
        assert_eq!(loss.at(20 * MINUTE, 5_100, Some(0), Some(MINUTE)), Some(MINUTE as f64), "the sooner");
        assert_eq!(loss.at_by_pace(21 * MINUTE, 2_000), Some((21 * MINUTE) as f64), "it is past it");
        loss.push(22 * MINUTE, 0);
        assert_eq!(loss.at_by_pace(22 * MINUTE, 5_100), None, "another log");
        for step in 0..10_000 {
            loss.push((23 + step) * MINUTE, step);
        }
        assert!(loss.steps.len() <= STEPS, "{}", loss.steps.len());
    }
}
