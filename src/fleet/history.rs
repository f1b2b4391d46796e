//! Half an hour of each group, in memory: how far behind, and how much was produced and applied. Pure.

use std::collections::{HashMap, VecDeque};

use serde::Serialize;

use super::{Group, Reading, WINDOW, json};

/// Between two points. In milliseconds.
pub(super) const INTERVAL_MS: i64 = 10_000;

/// A moment of a group.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Point {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// How many records waited, of the partitions of which that was known.
    #[serde(serialize_with = "json::maybe_text")]
    pub lag_records: Option<i64>,
    /// How old the oldest next record was.
    #[serde(serialize_with = "json::seconds")]
    pub lag_seconds: Option<f64>,
    /// Offsets produced each second, since the point before.
    #[serde(serialize_with = "json::seconds")]
    pub produced_per_second: Option<f64>,
    /// Offsets applied each second, since the point before.
    #[serde(serialize_with = "json::seconds")]
    pub applied_per_second: Option<f64>,
}

/// The trajectories of all groups.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct History {
    groups: HashMap<String, Track>,
    last_ms: Option<i64>,
}

#[derive(Debug, Clone, Default)]
struct Track {
    points: VecDeque<Point>,
    /// Where its partitions stood at the last point: next offset and last stable offset.
    stood: HashMap<(String, i32), (i64, Option<i64>)>,
}

impl History {
    /// The points of a group, the oldest first.
    #[must_use]
    pub fn points(&self, group: &str) -> Vec<Point> {
        self.groups.get(group).map(|track| track.points.iter().copied().collect()).unwrap_or_default()
    }

    /// The newest point of a group.
    #[must_use]
    pub fn last(&self, group: &str) -> Option<&Point> {
        self.groups.get(group)?.points.back()
    }

    /// Whether it is time for the next point.
    pub(super) fn is_due(&self, now_ms: i64) -> bool {
        // A tenth early rather than a reading late.
        self.last_ms.is_none_or(|last| now_ms - last >= INTERVAL_MS - INTERVAL_MS / 10 || now_ms < last)
    }

    /// Adds a reading, later than those before it: a [`Watch`](super::Watch) does, every 10 s.
    pub fn add(&mut self, reading: &Reading) {
        self.last_ms = Some(reading.at_ms);
        let oldest = reading.at_ms - i64::try_from(WINDOW.as_millis()).unwrap_or(i64::MAX);
        for group in &reading.groups {
            self.groups.entry(group.group.clone()).or_default().add(group, reading.at_ms);
        }
        for track in self.groups.values_mut() {
            while track.points.front().is_some_and(|point| point.at_ms < oldest) {
                track.points.pop_front();
            }
        }
        self.groups.retain(|_, track| !track.points.is_empty());
    }
}

impl Track {
    fn add(&mut self, group: &Group, at_ms: i64) {
        // The database's clock went back.
        self.points.retain(|point| point.at_ms < at_ms);
        #[allow(clippy::cast_precision_loss)] // half an hour in milliseconds
        let seconds = self.points.back().map(|last| (at_ms - last.at_ms) as f64 / 1_000.0);
        let (mut produced, mut applied) = (None, None);
        let mut stood = HashMap::with_capacity(group.partitions.len());
        for partition in &group.partitions {
            let key = (partition.topic.clone(), partition.partition);
            if let Some((next, stable)) = self.stood.get(&key) {
                // What was moved back by a person was not applied; nor is a topic that was created anew produced.
                *applied.get_or_insert(0) += (partition.next_offset - next).max(0);
                if let (Some(now), Some(before)) = (partition.last_stable_offset, stable) {
                    *produced.get_or_insert(0) += (now - before).max(0);
                }
            }
            stood.insert(key, (partition.next_offset, partition.last_stable_offset));
        }
        self.stood = stood;
        #[allow(clippy::cast_precision_loss)] // offsets of half an hour
        let rate = |count: Option<i64>| Some(count? as f64 / seconds.filter(|seconds| *seconds > 0.0)?);
        self.points.push_back(Point {
            at_ms,
            lag_records: group.lag_records,
            lag_seconds: group.lag_seconds,
            produced_per_second: rate(produced),
            applied_per_second: rate(applied),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Partition;

    fn reading(at_ms: i64, next: i64, end: Option<i64>) -> Reading {
        let partition = Partition {
            topic: "t".to_owned(),
            next_offset: next,
            last_stable_offset: end,
            lag_records: end.map(|end| end - next),
            ..Partition::default()
        };
        let mut group = Group { group: "g".to_owned(), partitions: vec![partition], ..Group::default() };
        group.complete();
        Reading::of(at_ms, vec![group])
    }

    #[test]
    fn rates_are_between_points_and_unknown_is_not_zero() {
        let mut history = History::default();
        history.add(&reading(0, 100, Some(100)));
        history.add(&reading(10_000, 300, Some(500)));
        history.add(&reading(20_000, 250, None)); // moved back, and nobody knows the end
        let points = history.points("g");
        assert_eq!((points[0].produced_per_second, points[0].applied_per_second), (None, None));
        assert_eq!((points[1].produced_per_second, points[1].applied_per_second), (Some(40.0), Some(20.0)));
        assert_eq!((points[2].produced_per_second, points[2].applied_per_second), (None, Some(0.0)));
        assert_eq!((points[1].lag_records, points[2].lag_records), (Some(200), None));
        assert!(!history.is_due(25_000) && history.is_due(30_000) && history.is_due(3));
    }

    #[test]
    fn half_an_hour_is_kept_and_a_group_that_is_gone_goes() {
        let mut history = History::default();
        for n in 0..400 {
            history.add(&reading(n * 10_000, n, Some(n)));
        }
        assert_eq!(history.points("g").len(), 181);
        let none = Reading::of(400 * 10_000 + 1_900_000, Vec::new());
        history.add(&none);
        assert!(history.points("g").is_empty());
    }
}
