//! How careful a lane is after a batch failed.
//!
//! A batch that cannot be applied is cut: first into its partitions, then to half the records, down to one record,
//! always from the front, so that what is applied stays a contiguous prefix. Each cut is an ordinary committed
//! batch. What cannot be cut further is the culprit; everybody else goes on. Successes widen it again.
//!
//! All of this is kept per partition: the successes of a busy partition must not widen another one's batches, or a
//! bad record beside it would never be found, and one that waits must not make the others wait.

use std::collections::HashMap;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::batch::PartitionKey;

/// Times that an error of class "retry, then halt" is retried before the partition halts.
const RETRIES_BEFORE_HALT: u32 = 5;

/// A lane's present limits.
#[derive(Debug)]
pub(super) struct Caution {
    full: usize,
    backoff: Backoff,
    suspects: HashMap<PartitionKey, Suspect>,
    strikes: HashMap<PartitionKey, Strikes>,
}

/// A partition that gets batches of its own for a while.
#[derive(Debug)]
struct Suspect {
    records: usize,
    backoff: Backoff,
}

/// Failures in a row at one position.
#[derive(Debug, Default)]
struct Strikes {
    from: i64,
    count: u32,
}

impl Caution {
    /// `backoff`: how a partition waits whose batches fail for the environment's sake.
    pub(super) fn new(full: usize, backoff: Backoff) -> Self {
        Self { full, backoff, suspects: HashMap::new(), strikes: HashMap::new() }
    }

    /// How many records of a partition the next batch may have; `None` if it shares a batch with others.
    pub(super) fn alone(&self, key: &PartitionKey) -> Option<usize> {
        self.suspects.get(key).map(|suspect| suspect.records)
    }

    /// Whether no partition is looked at apart.
    pub(super) fn is_calm(&self) -> bool {
        self.suspects.is_empty()
    }

    /// A batch was applied.
    pub(super) fn relax<'a>(&mut self, keys: impl Iterator<Item = &'a PartitionKey>) {
        if self.suspects.is_empty() && self.strikes.is_empty() {
            return;
        }
        for key in keys {
            self.strikes.remove(key);
            let Some(suspect) = self.suspects.get_mut(key) else { continue };
            if suspect.records >= self.full {
                self.suspects.remove(key);
            } else {
                suspect.records = suspect.records.saturating_mul(2).min(self.full);
                suspect.backoff.reset();
            }
        }
    }

    fn suspect(&mut self, key: &PartitionKey) -> &mut Suspect {
        let new = || Suspect { records: self.full, backoff: self.backoff.clone() };
        self.suspects.entry(key.clone()).or_insert_with(new)
    }

    /// A batch of several partitions failed: look at each of them alone.
    pub(super) fn separate<'a>(&mut self, keys: impl Iterator<Item = &'a PartitionKey>) {
        keys.for_each(|key| {
            self.suspect(key);
        });
    }

    /// A batch of `records` of one partition failed: try the first half.
    pub(super) fn halve(&mut self, key: &PartitionKey, records: usize) {
        self.suspect(key).records = (records / 2).max(1);
    }

    /// How long a partition waits that failed alone, and not for its data's sake.
    pub(super) fn wait(&mut self, key: &PartitionKey) -> Duration {
        self.suspect(key).backoff.next()
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

    fn caution() -> Caution {
        Caution::new(100, Backoff::new(Duration::from_millis(100), Duration::from_secs(10)))
    }

    #[test]
    fn narrows_to_one_record_and_widens_again() {
        let mut caution = caution();
        caution.separate([key(0), key(1)].iter());
        assert_eq!((caution.alone(&key(0)), caution.alone(&key(2))), (Some(100), None));
        let mut records = 100;
        while records > 1 {
            caution.halve(&key(0), records);
            records = caution.alone(&key(0)).unwrap();
        }
        for _ in 0..20 {
            caution.relax([key(1)].iter());
        }
        assert_eq!(caution.alone(&key(1)), None, "cleared by one success");
        assert_eq!(caution.alone(&key(0)), Some(1), "not widened by another partition's successes");
        for _ in 0..7 + 1 {
            caution.relax([key(0)].iter());
        }
        assert_eq!(caution.alone(&key(0)), None);
    }

    #[test]
    fn each_partition_waits_for_itself() {
        let mut caution = caution();
        for _ in 0..10 {
            caution.wait(&key(0));
        }
        assert!(caution.wait(&key(0)) >= Duration::from_secs(5));
        assert!(caution.wait(&key(1)) <= Duration::from_millis(100));
    }

    #[test]
    fn strikes_count_at_one_position_only() {
        let mut caution = caution();
        assert!(!caution.strike(&key(0), 7, 2));
        assert!(!caution.strike(&key(0), 8, 2), "it got on meanwhile");
        assert!(!caution.strike(&key(1), 8, 2), "another partition");
        assert!(caution.strike(&key(0), 8, 2));
    }
}
