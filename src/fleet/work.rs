//! For how long somebody has had something to apply, and has committed nothing. Pure.

use std::collections::{BTreeMap, HashMap};

use super::group::{Group, Partition, Worker};

/// Held by a person or by an error: that nothing is committed is as it should be.
fn is_held(class: &str) -> bool {
    matches!(class, "PAUSED" | "HALTED")
}

/// Since its last commit, its claim, or the moment at which its next record was written: whichever came last. So a
/// partition that was idle for an hour does not look wedged when its first record comes.
pub(super) fn since_commit(partition: &Partition, now_ms: i64) -> Option<f64> {
    if partition.lag_records.is_none_or(|lag| lag <= 0) || is_held(&partition.class) {
        return None;
    }
    let from = partition.committed_at_ms.max(partition.claimed_at_ms)?;
    #[allow(clippy::cast_precision_loss)] // milliseconds of some years
    let since = (now_ms - from).max(0) as f64 / 1_000.0;
    Some(partition.lag_seconds.map_or(since, |age| age.min(since)))
}

/// Of which partitions it was seen, and first when, that they have something to apply: by group, topic and number, in
/// milliseconds since 1970.
#[derive(Debug, Default)]
pub(super) struct Behind(HashMap<(String, String, i32), i64>);

impl Behind {
    /// Of a record without an age (it is not here, bears no time, or is dated far ahead) nobody knows when it came: it waits
    /// since it was first seen that something does, for the last commit may be of yesterday.
    pub(super) fn heed(&mut self, groups: &mut BTreeMap<String, Group>, now_ms: i64) {
        let before = std::mem::take(&mut self.0);
        for (name, group) in groups {
            for partition in &mut group.partitions {
                if partition.lag_records.is_some_and(|lag| lag <= 0) {
                    continue;
                }
                let key = (name.clone(), partition.topic.clone(), partition.partition);
                let now = partition.lag_records.map(|_| now_ms);
                let Some(first_ms) = before.get(&key).copied().or(now) else { continue };
                self.0.insert(key, first_ms);
                if partition.lag_seconds.is_none() {
                    #[allow(clippy::cast_precision_loss)] // milliseconds of some years
                    let seen = (now_ms - first_ms).max(0) as f64 / 1_000.0;
                    partition.since_commit_seconds =
                        partition.since_commit_seconds.map(|since| since.min(seen));
                }
            }
        }
    }
}

/// What the partitions of each worker say of it.
pub(super) fn add_partitions(workers: &mut [Worker], partitions: &[Partition]) {
    let mut held: HashMap<&str, Vec<&Partition>> = HashMap::new();
    for partition in partitions {
        if let Some(owner) = &partition.owner {
            held.entry(owner).or_default().push(partition);
        }
    }
    for worker in workers {
        let held = held.get(worker.owner.as_str()).map(Vec::as_slice).unwrap_or_default();
        worker.partitions = held.len();
        worker.behind = held.iter().filter(|partition| partition.lag_records > Some(0)).count();
        let waits = |p: &&&Partition| p.detail.is_some() && !is_held(&p.class);
        worker.stuck = held.iter().filter(waits).count();
        // A commit of an earlier claim is another's.
        let own = held.iter().filter(|partition| partition.committed_at_ms >= partition.claimed_at_ms);
        worker.committed_at_ms = own.filter_map(|partition| partition.committed_at_ms).max();
        let waiting = held.iter().filter_map(|partition| Some((partition.since_commit_seconds?, partition)));
        if let Some((seconds, partition)) = waiting.max_by(|a, b| a.0.total_cmp(&b.0)) {
            worker.since_commit_seconds = seconds;
            worker.slowest = Some(partition.place());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(lag: i64, lag_seconds: f64, committed: i64, claimed: i64) -> Partition {
        Partition {
            topic: "t".to_owned(),
            lag_records: Some(lag),
            lag_seconds: Some(lag_seconds),
            committed_at_ms: Some(committed),
            claimed_at_ms: Some(claimed),
            class: "OK".to_owned(),
            owner: Some("w".to_owned()),
            ..Partition::default()
        }
    }

    #[test]
    fn idle_is_not_wedged() {
        let now = 100_000;
        for (partition, expected) in [
            (partition(0, 0.0, 0, 0), None),             // nothing to do
            (partition(5, 90.0, 80_000, 0), Some(20.0)), // it has work, and has not committed for 20 s
            (partition(5, 0.5, 0, 0), Some(0.5)),        // it was idle until half a second ago
            (partition(5, 90.0, 0, 97_000), Some(3.0)),  // just claimed
            (partition(5, 0.0, 80_000, 0), Some(0.0)), // its next record was written now, or is dated a little ahead
            (Partition { lag_seconds: None, ..partition(5, 0.0, 80_000, 0) }, Some(20.0)),
            (Partition { class: "PAUSED".to_owned(), ..partition(5, 90.0, 0, 0) }, None),
            (Partition { lag_records: None, ..partition(0, 0.0, 0, 0) }, None),
        ] {
            assert_eq!(since_commit(&partition, now), expected, "{partition:?}");
        }
    }

    /// An idle partition whose next record bears no time: its last commit was of yesterday.
    #[test]
    fn what_has_no_age_waits_since_it_was_first_seen() {
        let mut behind = Behind::default();
        let mut at = |now_ms, lag| {
            let mut partition =
                Partition { lag_records: lag, lag_seconds: None, ..partition(0, 0.0, 9_000, 0) };
            partition.since_commit_seconds = since_commit(&partition, now_ms);
            let group = Group { group: "g".to_owned(), partitions: vec![partition], ..Group::default() };
            let mut groups = BTreeMap::from([("g".to_owned(), group)]);
            behind.heed(&mut groups, now_ms);
            groups["g"].partitions[0].since_commit_seconds
        };
        assert_eq!(at(90_000, Some(0)), None);
        assert_eq!(at(100_000, Some(1)), Some(0.0));
        assert_eq!(at(105_000, None), None, "unknown, and not 0");
        assert_eq!(at(110_000, Some(1)), Some(10.0));
        assert_eq!(at(120_000, Some(0)), None);
        assert_eq!(at(130_000, Some(1)), Some(0.0));
    }

    /// A partition that has halted has its own words, and its own alert.
    #[test]
    fn what_is_held_does_not_wait() {
        let said = |class: &str| Partition {
            detail: Some("why".to_owned()),
            class: class.to_owned(),
            ..partition(3, 1.0, 9, 5)
        };
        let mut workers = [Worker { owner: "w".to_owned(), ..Worker::default() }];
        add_partitions(&mut workers, &[said("OK"), said("HALTED"), said("PAUSED"), partition(3, 1.0, 9, 5)]);
        assert_eq!(workers[0].stuck, 1);
    }

    #[test]
    fn a_worker_is_as_late_as_its_slowest_partition() {
        let with = |number, since| Partition {
            partition: number,
            since_commit_seconds: since,
            ..partition(3, 1.0, 9, 5)
        };
        let mut workers = [Worker { owner: "w".to_owned(), ..Worker::default() }, Worker::default()];
        add_partitions(&mut workers, &[with(0, Some(0.1)), with(1, Some(12.0)), with(2, None)]);
        assert_eq!((workers[0].since_commit_seconds, workers[0].slowest.as_deref()), (12.0, Some("t:1")));
        assert_eq!((workers[0].partitions, workers[0].behind, workers[0].committed_at_ms), (3, 3, Some(9)));
        assert_eq!((workers[1].partitions, workers[1].since_commit_seconds), (0, 0.0));
    }
}
