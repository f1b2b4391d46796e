//! How careful a lane is after a batch failed.
//!
//! A batch that cannot be applied is cut: first to one partition, then to half the records, down to one record,
//! always from the front, so that what is applied stays a contiguous prefix. Each cut is an ordinary committed
//! batch. What cannot be cut further is the culprit; everybody else goes on. Successes widen it again.

use std::collections::HashMap;

use crate::batch::PartitionKey;

/// Times that an error of class "retry, then halt" is retried before the partition halts.
const RETRIES_BEFORE_HALT: u32 = 5;

/// A lane's present limits.
#[derive(Debug)]
pub(super) struct Caution {
    full: usize,
    records: usize,
    /// Batches of one partition each, for so many successes.
    alone: usize,
    strikes: HashMap<PartitionKey, Strikes>,
}

/// Failures in a row at one position.
#[derive(Debug, Default)]
struct Strikes {
    from: i64,
    count: u32,
}

impl Caution {
    pub(super) fn new(full: usize) -> Self {
        Self { full, records: full, alone: 0, strikes: HashMap::new() }
    }

    /// How many records the next batch may have.
    pub(super) fn max_records(&self) -> usize {
        self.records
    }

    /// Whether the next batch may hold one partition only.
    pub(super) fn one_partition(&self) -> bool {
        self.alone > 0
    }

    /// A batch was applied.
    pub(super) fn relax<'a>(&mut self, keys: impl Iterator<Item = &'a PartitionKey>) {
        self.records = self.records.saturating_mul(2).min(self.full);
        if self.records == self.full {
            self.alone = self.alone.saturating_sub(1);
        }
        if !self.strikes.is_empty() {
            for key in keys {
                self.strikes.remove(key);
            }
        }
    }

    /// A batch of several partitions failed: look at each of the lane's partitions alone.
    pub(super) fn separate(&mut self, partitions_of_lane: usize) {
        self.alone = 2 * partitions_of_lane.max(1);
    }

    /// A batch of `records` of one partition failed: try the first half.
    pub(super) fn halve(&mut self, records: usize) {
        self.records = (records / 2).max(1);
        self.alone = self.alone.max(1);
    }

    /// Counts a failure at a position that is retried as it is; `true` when `limit` is reached.
    pub(super) fn strike(&mut self, key: &PartitionKey, from: i64, limit: u32) -> bool {
        let strikes = self.strikes.entry(key.clone()).or_default();
        if strikes.from != from {
            *strikes = Strikes { from, count: 0 };
        }
        strikes.count += 1;
        let out = strikes.count >= limit;
        if out {
            self.strikes.remove(key);
        }
        out
    }

    pub(super) fn strike_retry(&mut self, key: &PartitionKey, from: i64) -> bool {
        self.strike(key, from, RETRIES_BEFORE_HALT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(partition: i32) -> PartitionKey {
        PartitionKey { topic: "t".into(), partition }
    }

    #[test]
    fn narrows_to_one_record_and_widens_again() {
        let mut caution = Caution::new(100);
        caution.separate(2);
        assert!(caution.one_partition());
        let mut records = 100;
        while records > 1 {
            caution.halve(records);
            records = caution.max_records();
        }
        assert_eq!(records, 1);
        for _ in 0..7 + 4 {
            caution.relax([key(0)].iter());
        }
        assert_eq!((caution.max_records(), caution.one_partition()), (100, false));
    }

    #[test]
    fn strikes_count_at_one_position_only() {
        let mut caution = Caution::new(100);
        assert!(!caution.strike(&key(0), 7, 2));
        assert!(!caution.strike(&key(0), 8, 2), "it got on meanwhile");
        assert!(!caution.strike(&key(1), 8, 2), "another partition");
        assert!(caution.strike(&key(0), 8, 2));
    }
}
