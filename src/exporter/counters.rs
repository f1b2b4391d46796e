//! Counters of groups from those of their workers, which come and go: what a worker has counted is not taken back when its
//! row goes, or its process starts anew. Pure.

use std::collections::HashMap;

use crate::fleet::Reading;

/// For how long a worker is remembered of which nothing is heard: after an outage its next beat goes on where it was.
const KEPT_MS: i64 = 24 * 3_600_000;
/// By so much a first beat may be older than the reading that has missed it.
const SKEW_MS: i64 = 3_000;

/// What was counted since this process began.
#[derive(Debug, Clone, Default)]
pub(super) struct Counters {
    groups: HashMap<String, Counts>,
    /// What each worker said last, by its id, and when.
    workers: HashMap<String, (Counts, i64)>,
    last_ms: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) records: u64,
    pub(super) commits: u64,
    pub(super) fencings: u64,
}

impl Counters {
    pub(super) fn of(&self, group: &str) -> Counts {
        self.groups.get(group).copied().unwrap_or_default()
    }

    /// Adds what came since the reading before; the first begins at 0.
    pub(super) fn add(&mut self, reading: &Reading) {
        if self.last_ms == Some(reading.at_ms) {
            return;
        }
        let last_ms = self.last_ms.replace(reading.at_ms);
        for group in &reading.groups {
            let counts = self.groups.entry(group.group.clone()).or_default();
            for worker in &group.workers {
                let now = Counts {
                    records: positive(worker.records_total),
                    commits: positive(worker.commits_total),
                    fencings: positive(worker.fenced_total),
                };
                let before = self.workers.insert(worker.owner.clone(), (now, reading.at_ms));
                // One that was there before, and is seen for the first time, has counted we do not know when.
                let is_new = last_ms.is_some_and(|last_ms| worker.started_at_ms > last_ms - SKEW_MS);
                let before =
                    before.map_or(if is_new { Counts::default() } else { now }, |(counts, _)| counts);
                counts.records += now.records.saturating_sub(before.records);
                counts.commits += now.commits.saturating_sub(before.commits);
                counts.fencings += now.fencings.saturating_sub(before.fencings);
            }
        }
        self.workers.retain(|_, (_, seen_ms)| reading.at_ms.saturating_sub(*seen_ms) < KEPT_MS);
    }
}

fn positive(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{Group, Worker};

    /// Each worker with what it has applied, and since when.
    fn reading(at_ms: i64, workers: &[(&str, i64, i64)]) -> Reading {
        let workers = workers.iter().map(|(owner, records, started_at_ms)| Worker {
            owner: (*owner).to_owned(),
            records_total: *records,
            started_at_ms: *started_at_ms,
            ..Worker::default()
        });
        let group = Group { group: "g".to_owned(), workers: workers.collect(), ..Group::default() };
        Reading::of(at_ms, vec![group])
    }

    #[test]
    fn what_was_counted_is_not_taken_back() {
        let mut counters = Counters::default();
        let mut counted = |minute: i64, workers: &[(&str, i64, i64)]| {
            let workers: Vec<_> =
                workers.iter().map(|(owner, records, at)| (*owner, *records, at * 60_000)).collect();
            counters.add(&reading(minute * 60_000, &workers));
            counters.of("g").records
        };
        assert_eq!(
            counted(1, &[("a", 1_000, 0), ("b", 500, 0)]),
            0,
            "what was before this process is not its to count"
        );
        assert_eq!(counted(2, &[("a", 1_010, 0), ("b", 520, 0)]), 30);
        assert_eq!(counted(2, &[("a", 9_999, 0)]), 30, "the same reading");
        assert_eq!(counted(3, &[("a", 1_015, 0)]), 35, "b has gone");
        assert_eq!(counted(4, &[("a", 1_015, 0), ("c", 7, 4)]), 42, "c is new");
        assert_eq!(counted(5, &[("a", 1_016, 0)]), 43);
        // The database was away, and of nobody there is a fresh beat; nor has one that is old ever been seen.
        assert_eq!(counted(37, &[]), 43);
        assert_eq!(
            counted(38, &[("a", 1_020, 0), ("d", 5_000, 1), ("c", 9, 4)]),
            49,
            "not all since they began"
        );
        assert_eq!(counted(39, &[("d", 5_001, 1)]), 50);
        assert_eq!(counted(39 + 2 * 1_440, &[]), 50);
        assert_eq!(counted(40 + 2 * 1_440, &[("d", 9_000, 1)]), 50, "forgotten after a day");
    }
}
