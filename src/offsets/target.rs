//! Where to: the forms of a reset, as Kafka's own tool has them. Pure.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::request::Position;
use crate::config::{epoch_ms, show_instant};

/// Where offsets are moved to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// The first record that Kafka holds.
    Earliest,
    /// The end of the log, uncommitted records included.
    Latest,
    /// Where the group stands.
    Current,
    /// This offset, in every partition.
    Offset(i64),
    /// Where the group stands, and so many further; negative goes back.
    ShiftBy(i64),
    /// The first record that is not older; the end of the log where there is none.
    Timestamp(SystemTime),
    /// As [`Timestamp`](Self::Timestamp), so long ago by this machine's clock.
    Duration(Duration),
    /// One by one.
    Positions(Vec<Position>),
}

/// To which end of the log a target was brought that lies outside of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Clamp {
    /// Kafka holds nothing before it.
    Earliest,
    /// There is nothing after it yet.
    Latest,
}

impl Clamp {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Earliest => "earliest",
            Self::Latest => "latest",
        }
    }

    pub(super) fn parse(text: &str) -> Self {
        if text == "earliest" { Self::Earliest } else { Self::Latest }
    }
}

/// What is known of a partition when a target is resolved.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) current: i64,
    pub(super) earliest: i64,
    pub(super) latest: i64,
    /// The first record that is not older than the asked instant.
    pub(super) at: Option<i64>,
    /// What was asked of this very partition.
    pub(super) position: i64,
}

/// What was asked for, what becomes of it, and why they differ.
pub(super) type Resolved = (i64, i64, Option<Clamp>);

impl Target {
    /// Makes an instant of a duration, so that all partitions are asked for the same.
    pub(super) fn pinned(&self, now: SystemTime) -> Self {
        match self {
            Self::Duration(ago) => Self::Timestamp(now.checked_sub(*ago).unwrap_or(UNIX_EPOCH)),
            other => other.clone(),
        }
    }

    pub(super) fn instant_ms(&self) -> Option<i64> {
        match self {
            Self::Timestamp(instant) => Some(epoch_ms(*instant)),
            _ => None,
        }
    }

    /// Only numbers that a person gave, or that follow from one, can lie outside of the log.
    pub(super) fn resolve(&self, known: Known) -> Resolved {
        let exactly = |offset: i64| (offset, offset, None);
        match self {
            Self::Earliest => exactly(known.earliest),
            Self::Latest => exactly(known.latest),
            Self::Current => exactly(known.current),
            Self::Timestamp(_) | Self::Duration(_) => exactly(known.at.unwrap_or(known.latest)),
            Self::Offset(offset) => clamped(*offset, known),
            Self::ShiftBy(by) => clamped(known.current.saturating_add(*by), known),
            Self::Positions(_) => clamped(known.position, known),
        }
    }
}

fn clamped(wanted: i64, known: Known) -> Resolved {
    if wanted > known.latest {
        (wanted, known.latest, Some(Clamp::Latest))
    } else if wanted < known.earliest {
        (wanted, known.earliest, Some(Clamp::Earliest))
    } else {
        (wanted, wanted, None)
    }
}

/// As the command's flags.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Earliest => f.write_str("--to-earliest"),
            Self::Latest => f.write_str("--to-latest"),
            Self::Current => f.write_str("--to-current"),
            Self::Offset(offset) => write!(f, "--to-offset {offset}"),
            Self::ShiftBy(by) => write!(f, "--shift-by {by}"),
            Self::Timestamp(instant) => write!(f, "--to-datetime {}", show_instant(*instant)),
            Self::Duration(ago) => write!(f, "--by-duration PT{}S", ago.as_secs_f64()),
            Self::Positions(positions) => write!(f, "--from-file ({} partitions)", positions.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Known = Known { current: 50, earliest: 10, latest: 90, at: None, position: 7 };

    #[test]
    fn targets_are_resolved_and_clamped_as_kafkas_tool_does() {
        let resolve = |target: Target| target.resolve(KNOWN);
        assert_eq!(resolve(Target::Earliest), (10, 10, None));
        assert_eq!(resolve(Target::Latest), (90, 90, None));
        assert_eq!(resolve(Target::Current), (50, 50, None));
        assert_eq!(resolve(Target::Offset(90)), (90, 90, None));
        assert_eq!(resolve(Target::Offset(91)), (91, 90, Some(Clamp::Latest)));
        assert_eq!(resolve(Target::Offset(-5)), (-5, 10, Some(Clamp::Earliest)));
        assert_eq!(resolve(Target::ShiftBy(-41)), (9, 10, Some(Clamp::Earliest)));
        assert_eq!(resolve(Target::ShiftBy(i64::MAX)), (i64::MAX, 90, Some(Clamp::Latest)));
        assert_eq!(resolve(Target::Positions(Vec::new())), (7, 10, Some(Clamp::Earliest)));
        let at = |at| Target::Timestamp(UNIX_EPOCH).resolve(Known { at, ..KNOWN });
        assert_eq!((at(Some(30)), at(None)), ((30, 30, None), (90, 90, None)));
        // Where the group stands outside of the log, it stays: Kafka's tool leaves it there, too.
        assert_eq!(Target::Current.resolve(Known { current: 5, ..KNOWN }), (5, 5, None));
    }

    #[test]
    fn a_duration_is_an_instant_once_and_for_all() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        let pinned = Target::Duration(Duration::from_secs(100)).pinned(now);
        assert_eq!(pinned.instant_ms(), Some(900_000));
        assert_eq!(Target::Duration(Duration::MAX).pinned(now).instant_ms(), Some(0));
        assert_eq!(pinned.to_string(), "--to-datetime 1970-01-01T00:15:00Z");
    }
}
