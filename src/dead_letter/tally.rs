//! How many records became dead letters lately. Pure: the time comes from outside.

use std::collections::{HashMap, VecDeque};

use uuid::Uuid;

use crate::batch::PartitionKey;

/// Of how many records the second window is.
const RECORDS: u64 = 1_000_000;
/// In how many steps a window moves on.
const STEPS: u64 = 60;

/// What a route has had.
#[derive(Debug, Default)]
pub(super) struct Tally {
    runs: HashMap<PartitionKey, Run>,
    minute: Window,
    million: Window,
    /// Records that were applied or stored.
    records: u64,
}

/// Dead letters of a partition right before a position, under one claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) claim: Uuid,
    pub(super) at: i64,
    pub(super) length: u64,
}

impl Tally {
    /// How many there are in a row right before `at`.
    pub(super) fn run(&self, key: &PartitionKey, claim: Uuid, at: i64) -> u64 {
        let known = self.runs.get(key).filter(|run| (run.claim, run.at) == (claim, at));
        known.map_or(0, |run| run.length)
    }

    /// How many there were in the last 60 s.
    pub(super) fn in_a_minute(&mut self, now_s: u64) -> u64 {
        self.minute.count(now_s)
    }

    /// How many there were among the last million records.
    pub(super) fn in_a_million(&mut self) -> u64 {
        self.million.count(self.records / (RECORDS / STEPS))
    }

    /// So many records are durable, of which so many are dead letters.
    pub(super) fn count(&mut self, records: u64, stored: u64, now_s: u64) {
        self.records += records;
        if stored > 0 {
            self.minute.add(now_s, stored);
            self.million.add(self.records / (RECORDS / STEPS), stored);
        }
    }

    pub(super) fn set_run(&mut self, key: &PartitionKey, run: Run) {
        if run.length > 0 {
            self.runs.insert(key.clone(), run);
        } else {
            self.runs.remove(key);
        }
    }
}

/// Counts of the last [`STEPS`] steps.
#[derive(Debug, Default)]
struct Window {
    counts: VecDeque<(u64, u64)>,
    sum: u64,
}

impl Window {
    fn add(&mut self, step: u64, count: u64) {
        match self.counts.back_mut().filter(|(last, _)| *last >= step) {
            Some((_, last)) => *last += count,
            None => self.counts.push_back((step, count)),
        }
        self.sum += count;
    }

    fn count(&mut self, step: u64) -> u64 {
        while let Some((_, count)) = self.counts.front().filter(|(first, _)| *first + STEPS <= step) {
            self.sum -= count;
            self.counts.pop_front();
        }
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_passes() {
        let mut tally = Tally::default();
        tally.count(10, 3, 100);
        tally.count(10, 2, 130);
        assert_eq!([tally.in_a_minute(131), tally.in_a_minute(159), tally.in_a_minute(160)], [5, 5, 2]);
        assert_eq!(tally.in_a_minute(190), 0);
    }

    #[test]
    fn a_million_records_pass() {
        let mut tally = Tally::default();
        tally.count(1_000, 7, 0);
        tally.count(900_000, 0, 0);
        assert_eq!(tally.in_a_million(), 7);
        tally.count(1_000, 1, 0);
        tally.count(120_000, 0, 0);
        assert_eq!(tally.in_a_million(), 1);
    }

    #[test]
    fn a_row_is_of_one_claim_and_has_no_gap() {
        let mut tally = Tally::default();
        let key = PartitionKey { topic: "t".into(), partition: 0 };
        let claim = Uuid::from_u128(1);
        tally.set_run(&key, Run { claim, at: 8, length: 3 });
        assert_eq!(tally.run(&key, claim, 8), 3);
        assert_eq!(tally.run(&key, claim, 9), 0);
        assert_eq!(tally.run(&key, Uuid::from_u128(2), 8), 0);
        tally.set_run(&key, Run { claim, at: 9, length: 0 });
        assert_eq!(tally.run(&key, claim, 8), 0);
    }
}
