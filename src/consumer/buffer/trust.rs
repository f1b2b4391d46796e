//! What of a buffer may be handed out: everything that follows its predecessor without a pause, and what came after a
//! pause once somebody has asked Kafka, *after it arrived*, whether the topic is still the same.
//!
//! To change over to another topic of the same name the client must first be told that the old one is gone, and then
//! backs off for `fetch.error.backoff.ms` (500 ms, fixed by the configuration). So records without a pause between
//! them come from one topic, and a busy partition never waits.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::NextOffset;

/// A pause that is long enough for a topic to be exchanged: 200 ms below the client's back-off, for what the poll
/// thread may lag. Unit tests push by hand, on machines that may be busy.
const SILENCE: Duration = if cfg!(test) { Duration::from_secs(3600) } else { Duration::from_millis(300) };

/// Which arrivals follow a pause that nobody has looked into yet.
#[derive(Debug)]
pub(super) struct Trust {
    /// When something last arrived; `None` if the next arrival is to be doubted, however soon it comes.
    arrived_at: Option<Instant>,
    doubts: VecDeque<Doubt>,
    /// Nothing from there on is ever handed out.
    end: Option<NextOffset>,
}

#[derive(Debug)]
struct Doubt {
    /// Everything from there on waits.
    from: NextOffset,
    /// Only a question that was asked later than this says anything about it.
    since: Instant,
}

impl Trust {
    /// As if something had just arrived.
    pub(super) fn new(now: Instant) -> Self {
        Self { arrived_at: Some(now), doubts: VecDeque::new(), end: None }
    }

    /// Something arrived that goes on at `from`; `true` if it must be looked into.
    pub(super) fn arrived(&mut self, from: NextOffset, now: Instant) -> bool {
        let follows = self.arrived_at.is_some_and(|at| now.duration_since(at) <= SILENCE);
        self.arrived_at = Some(now);
        if !follows {
            self.doubts.push_back(Doubt { from, since: now });
        }
        !follows
    }

    /// Doubts the next arrival: while nothing was fetched, or nobody looked, a pause would not show.
    pub(super) fn interrupt(&mut self) {
        self.arrived_at = None;
    }

    /// A question that was asked at `asked` was answered: still the same topic.
    pub(super) fn verified(&mut self, asked: Instant) {
        while self.doubts.front().is_some_and(|doubt| doubt.since < asked) {
            self.doubts.pop_front();
        }
    }

    /// Takes the trust back, for good.
    pub(super) fn withdraw(&mut self, from: NextOffset) {
        self.end = Some(from);
    }

    /// Nothing from there on may be handed out.
    pub(super) fn limit(&self) -> Option<NextOffset> {
        let doubted = self.doubts.front().map(|doubt| doubt.from);
        self.end.or(doubted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: i64) -> NextOffset {
        NextOffset::new(offset).unwrap()
    }

    #[test]
    fn only_a_pause_raises_a_doubt() {
        let start = Instant::now();
        let mut trust = Trust::new(start);
        assert!(!trust.arrived(at(0), start + SILENCE));
        assert!(!trust.arrived(at(1), start + 2 * SILENCE));
        assert_eq!(trust.limit(), None, "a busy partition never waits");
        assert!(trust.arrived(at(2), start + 4 * SILENCE));
        assert!(!trust.arrived(at(3), start + 5 * SILENCE), "one question for the whole run");
        assert_eq!(trust.limit(), Some(at(2)));
    }

    #[test]
    fn a_question_says_nothing_of_what_came_after_it_was_asked() {
        let start = Instant::now();
        let mut trust = Trust::new(start);
        trust.arrived(at(2), start + 2 * SILENCE);
        trust.arrived(at(5), start + 4 * SILENCE);
        trust.verified(start + 2 * SILENCE);
        assert_eq!(trust.limit(), Some(at(2)), "asked in the very instant of the arrival");
        trust.verified(start + 3 * SILENCE);
        assert_eq!(trust.limit(), Some(at(5)), "the second pause is not covered");
        trust.verified(start + 5 * SILENCE);
        assert_eq!(trust.limit(), None);
    }

    #[test]
    fn an_interruption_is_a_pause_however_short() {
        let start = Instant::now();
        let mut trust = Trust::new(start);
        trust.interrupt();
        assert!(trust.arrived(at(7), start));
        assert_eq!(trust.limit(), Some(at(7)));
    }
}
