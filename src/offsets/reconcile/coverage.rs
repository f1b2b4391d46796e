//! How often each offset was applied, by the chain of claims and moves. Pure.
//!
//! `min` and `max` bound how many rows a record may have that makes one: a move back may have been made with its rows
//! undone by hand, or without.

use std::ops::Range;

use super::ledger::Step;

/// More often than can be said.
pub(in crate::offsets) const UNKNOWN: u32 = u32::MAX;

/// Offsets that all have the same history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::offsets) struct Segment {
    pub(in crate::offsets) from: i64,
    pub(in crate::offsets) to: i64,
    /// At least so often.
    pub(in crate::offsets) min: u32,
    /// At most so often, in tables that are undone with the offsets.
    pub(in crate::offsets) max: u32,
    /// At most so often, in others.
    pub(in crate::offsets) max_kept: u32,
    /// Which claims went over it: places in [`Coverage::claims`].
    pub(in crate::offsets) claims: Vec<usize>,
    /// How it was stepped over, last.
    pub(in crate::offsets) stepped_over: Option<String>,
    /// It lies before the group's start; whether that adopted another consumer's.
    pub(in crate::offsets) before_start: Option<bool>,
}

/// The history of all offsets of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::offsets) struct Coverage {
    /// From 0 to the last offset that there can be, without a gap.
    pub(in crate::offsets) segments: Vec<Segment>,
    /// Range and place in the chain of each claim.
    pub(in crate::offsets) claims: Vec<(Range<i64>, usize)>,
}

impl Coverage {
    pub(in crate::offsets) fn new(steps: &[Step]) -> Self {
        let mut coverage = Self { segments: segments(steps), claims: Vec::new() };
        for (place, step) in steps.iter().enumerate() {
            coverage.apply(step, place);
        }
        coverage
    }

    fn apply(&mut self, step: &Step, place: usize) {
        match step {
            Step::Start { to, adopted, .. } => {
                for segment in self.within(0..*to).iter_mut().filter(|segment| segment.max == 0) {
                    segment.before_start = Some(*adopted);
                }
            }
            Step::Forgotten { to } => {
                for segment in self.within(0..*to) {
                    (segment.min, segment.max, segment.max_kept) = (0, UNKNOWN, UNKNOWN);
                }
            }
            Step::Claim(claim) => {
                let number = self.claims.len();
                self.claims.push((claim.from..claim.to, place));
                let is_lost = |segment: &Segment| claim.lost.iter().any(|lost| lost.contains(&segment.from));
                for segment in self.within(claim.from..claim.to) {
                    if is_lost(segment) {
                        segment.stepped_over = Some("lost".to_owned());
                    } else {
                        segment.min = segment.min.saturating_add(1);
                        segment.covered_once_more();
                        segment.claims.push(number);
                    }
                }
            }
            Step::Move { from, to, event } if to < from => {
                let is_undone = event.kind == "undo";
                for segment in self.within(*to..*from) {
                    segment.min = 0;
                    if is_undone {
                        segment.max = 0;
                    }
                }
            }
            Step::Move { from, to, event } => {
                for segment in self.within(*from..*to) {
                    segment.stepped_over = Some(event.kind.clone());
                }
            }
            // Somebody may have applied it.
            Step::Hole { from, to } => {
                self.within(*from..*to).iter_mut().for_each(Segment::covered_once_more);
            }
            Step::Overlap { .. } | Step::Delete { .. } => {}
        }
    }

    /// The segments of a range whose ends are borders.
    fn within(&mut self, range: Range<i64>) -> &mut [Segment] {
        let first = self.segments.partition_point(|segment| segment.from < range.start);
        let last = self.segments.partition_point(|segment| segment.from < range.end);
        &mut self.segments[first..last.max(first)]
    }

    /// Whether one claim alone has gone over all that it has not stepped over.
    pub(in crate::offsets) fn is_alone(&self, claim: usize) -> bool {
        self.of(claim).iter().all(|segment| match &*segment.claims {
            [] => segment.stepped_over.is_some() && segment.max == 0,
            [only] => *only == claim && (segment.min, segment.max, segment.max_kept) == (1, 1, 1),
            _ => false,
        })
    }

    /// The segments that a claim goes over.
    pub(in crate::offsets) fn of(&self, claim: usize) -> &[Segment] {
        &self.segments[self.places_of(claim)]
    }

    /// Where they are.
    pub(in crate::offsets) fn places_of(&self, claim: usize) -> Range<usize> {
        let (range, _) = &self.claims[claim];
        let first = self.segments.partition_point(|segment| segment.from < range.start);
        let last = self.segments.partition_point(|segment| segment.from < range.end);
        first..last.max(first)
    }
}

impl Segment {
    fn covered_once_more(&mut self) {
        self.max = self.max.saturating_add(1);
        self.max_kept = self.max_kept.saturating_add(1);
    }
}

/// Untouched, between all offsets at which something begins or ends.
fn segments(steps: &[Step]) -> Vec<Segment> {
    let mut borders = vec![0, i64::MAX];
    for step in steps {
        match step {
            Step::Start { to, .. } | Step::Forgotten { to } => borders.push(*to),
            Step::Claim(claim) => {
                borders.extend([claim.from, claim.to]);
                borders.extend(claim.lost.iter().flat_map(|lost| [lost.start, lost.end]));
            }
            Step::Move { from, to, .. } | Step::Hole { from, to } | Step::Overlap { from, to } => {
                borders.extend([*from, *to]);
            }
            Step::Delete { .. } => {}
        }
    }
    borders.retain(|border| *border >= 0);
    borders.sort_unstable();
    borders.dedup();
    borders
        .windows(2)
        .map(|pair| Segment {
            from: pair[0],
            to: pair[1],
            min: 0,
            max: 0,
            max_kept: 0,
            claims: Vec::new(),
            stepped_over: None,
            before_start: None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::ledger::tests::{claim, event, history, known};
    use super::super::ledger::{Step, chain};
    use super::*;

    /// `from..to min-max` of each segment that anything is known of.
    fn shown(steps: &[Step]) -> String {
        let coverage = Coverage::new(steps);
        let segments = coverage.segments.iter().map(|segment| {
            let Segment { from, to, min, max, max_kept, .. } = segment;
            let to = if *to == i64::MAX { "end".to_owned() } else { to.to_string() };
            let times = |times: u32| if times == UNKNOWN { "?".to_owned() } else { times.to_string() };
            let kept = if max == max_kept { String::new() } else { format!("({})", times(*max_kept)) };
            format!("{from}..{to} {min}-{}{kept}", times(*max))
        });
        segments.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn claims_cover_once_and_moves_back_open_what_they_cross() {
        let start = event(1, "start", None, Some(10), 0);
        let plain =
            history(vec![claim(1, 10, 50, 1, Some(5)), claim(2, 50, 80, 5, None)], vec![start.clone()], 80);
        assert_eq!(shown(&chain(plain, known())), "0..10 0-0, 10..50 1-1, 50..80 1-1, 80..end 0-0");
        for (kind, after) in [
            ("reset", "0..10 0-0, 10..30 1-1, 30..40 1-2, 40..50 0-1, 50..end 0-0"),
            ("undo", "0..10 0-0, 10..30 1-1, 30..40 1-1(2), 40..50 0-0(1), 50..end 0-0"),
        ] {
            let back = event(2, kind, Some(50), Some(30), 5);
            let moved = history(
                vec![claim(1, 10, 50, 1, Some(5)), claim(3, 30, 40, 6, None)],
                vec![start.clone(), back],
                40,
            );
            assert_eq!(shown(&chain(moved, known())), after, "{kind}");
        }
    }

    #[test]
    fn what_is_stepped_over_is_covered_by_nobody() {
        let start = event(1, "start", None, Some(0), 0);
        let skip = event(2, "skip", Some(20), Some(25), 5);
        let lost = event(3, "lost", Some(30), Some(40), 7);
        let claims = vec![claim(1, 0, 20, 1, Some(5)), claim(3, 25, 60, 6, None)];
        let steps = chain(history(claims, vec![start, skip, lost], 60), known());
        assert_eq!(shown(&steps), "0..20 1-1, 20..25 0-0, 25..30 1-1, 30..40 0-0, 40..60 1-1, 60..end 0-0");
        let coverage = Coverage::new(&steps);
        let over: Vec<_> = coverage.segments.iter().filter_map(|one| one.stepped_over.as_deref()).collect();
        assert_eq!(over, ["skip", "lost"]);
        assert!(coverage.is_alone(0) && coverage.is_alone(1));
    }

    #[test]
    fn of_what_is_forgotten_anything_may_be() {
        let claims = vec![claim(7, 100, 150, 1, None)];
        let steps = chain(history(claims, Vec::new(), 150), known());
        assert_eq!(shown(&steps), "0..100 0-?, 100..150 1-1, 150..end 0-0");
    }
}
