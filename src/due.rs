//! When something that lasts is worth a word: what is said at every attempt is read by nobody.

use std::time::{Duration, Instant};

/// The first pause between two words about the same trouble, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(600));

/// Pauses that double.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due {
    pub(crate) at: Duration,
    /// The first pause.
    pub(crate) pause: Duration,
    pub(crate) longest: Duration,
}

impl Due {
    pub(crate) fn after(first: Duration, longest: Duration) -> Self {
        Self { at: first, pause: first, longest }
    }

    /// `true` if it is due; then the next is due when it has taken twice as long.
    pub(crate) fn is(&mut self, waited: Duration) -> bool {
        if waited < self.at {
            return false;
        }
        self.at = waited + waited.max(self.pause).min(self.longest);
        true
    }
}

/// A trouble that lasts: said at once, then at growing intervals.
#[derive(Debug, Clone)]
pub(crate) struct Trouble {
    since: Instant,
    due: Due,
}

impl Trouble {
    /// It begins.
    pub(crate) fn new(now: Instant) -> Self {
        Self { since: now, due: Due { at: Duration::ZERO, pause: PAUSES.0, longest: PAUSES.1 } }
    }

    /// Whether a word is due; then it is said.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        self.due.is(self.lasted(now))
    }

    /// For how long it has lasted.
    pub(crate) fn lasted(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }
}

/// A duration as people say it: `0.4 s`, `42 s`, `3 min`, `2 h`.
pub(crate) fn span(duration: Duration) -> String {
    match duration.as_secs() {
        ..10 => format!("{:.1} s", duration.as_secs_f64()),
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ ..7_200 => format!("{} min", seconds / 60),
        seconds @ ..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_said_at_once_and_then_ever_more_seldom() {
        let began = Instant::now();
        let mut words = Trouble::new(began);
        let at = |tenths: u64| began + Duration::from_millis(100 * tenths);
        let said: Vec<u64> =
            (0..=36_000).filter(|tenths| words.is_due(at(*tenths))).map(|tenths| tenths / 10).collect();
        assert_eq!(said, [0, 5, 10, 20, 40, 80, 160, 320, 640, 1_240, 1_840, 2_440, 3_040]);
    }

    #[test]
    fn spans_are_as_people_say_them() {
        for (ms, text) in [
            (40, "0.0 s"),
            (420, "0.4 s"),
            (42_000, "42 s"),
            (190_000, "3 min"),
            (7_200_000, "2 h"),
            (200_000_000, "2 days"),
        ] {
            assert_eq!(span(Duration::from_millis(ms)), text);
        }
    }
}
