//! Counters of groups from those of their workers, which come and go: what a worker has counted is not taken back when its
//! row goes, or its process starts anew. Pure.

use std::collections::HashMap;

use crate::fleet::Reading;

/// What was counted since this process began.
#[derive(Debug, Clone, Default)]
pub(super) struct Counters {
    groups: HashMap<String, Counts>,
    /// What each worker said last, by its id.
    workers: HashMap<String, Counts>,
    last_ms: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    pub(super) records: u64,
    pub(super) commits: u64,
    pub(super) fencings: u64,
    pub(super) retries: u64,
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
        let is_first = self.last_ms.replace(reading.at_ms).is_none();
        let mut workers = HashMap::new();
        for group in &reading.groups {
            let counts = self.groups.entry(group.group.clone()).or_default();
            for worker in &group.workers {
                let now = Counts {
                    records: positive(worker.records_total),
                    commits: positive(worker.commits_total),
                    fencings: positive(worker.fenced_total),
                    retries: positive(worker.retries_total),
                };
                let before = self.workers.get(&worker.owner).copied();
                let before = before.unwrap_or(if is_first { now } else { Counts::default() });
                counts.records += now.records.saturating_sub(before.records);
                counts.commits += now.commits.saturating_sub(before.commits);
                counts.fencings += now.fencings.saturating_sub(before.fencings);
                counts.retries += now.retries.saturating_sub(before.retries);
                workers.insert(worker.owner.clone(), now);
            }
        }
        self.workers = workers;
    }
}

fn positive(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::{Group, Worker};

    fn reading(at_ms: i64, workers: &[(&str, i64)]) -> Reading {
        let workers = workers.iter().map(|(owner, records)| Worker {
            owner: (*owner).to_owned(),
            records_total: *records,
            ..Worker::default()
        });
        let group = Group { group: "g".to_owned(), workers: workers.collect(), ..Group::default() };
        Reading::of(at_ms, vec![group])
    }

    #[test]
    fn what_was_counted_is_not_taken_back() {
        let mut counters = Counters::default();
        let mut counted = |at_ms, workers: &[(&str, i64)]| {
            counters.add(&reading(at_ms, workers));
            counters.of("g").records
        };
        assert_eq!(
            counted(1, &[("a", 1_000), ("b", 500)]),
            0,
            "what was before this process is not its to count"
        );
        assert_eq!(counted(2, &[("a", 1_010), ("b", 520)]), 30);
        assert_eq!(counted(2, &[("a", 9_999)]), 30, "the same reading");
        assert_eq!(counted(3, &[("a", 1_015)]), 35, "b has gone");
        assert_eq!(counted(4, &[("a", 1_015), ("c", 7)]), 42, "c is new");
    }
}
