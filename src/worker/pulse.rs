//! Whether the poll thread moves. One that hangs, in a call that the client never answers, is no panic: its partitions
//! would stand still for ever, while the client's own thread keeps them in this member's hands.

use std::time::{Duration, Instant};

/// When it is said that the thread does not move, and when the worker ends for it. A turn takes 100 ms.
const SAID_AFTER: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(20);
/// The most that counts between two looks: a process that was frozen, or had no processor, must not take its own absence
/// for the thread's.
const MOST: Duration = Duration::from_millis(500);

/// What the control loop knows of the thread's turns.
#[derive(Debug)]
pub(super) struct Pulse {
    turns: u64,
    looked_at: Instant,
    still: Duration,
    said: bool,
}

/// What a look has found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Finding {
    Moves,
    /// For so long already; said once.
    Slow(Duration),
    /// For longer than anything in the thread may take.
    Hangs(Duration),
}

impl Pulse {
    pub(super) fn new(now: Instant) -> Self {
        Self { turns: 0, looked_at: now, still: Duration::ZERO, said: false }
    }

    /// Whether the thread has not moved for so long that it is worth a word.
    pub(super) fn is_slow(&self) -> bool {
        self.still >= SAID_AFTER
    }

    /// `turns`: so far; `None` while there is no thread.
    pub(super) fn look(&mut self, turns: Option<u64>, now: Instant) -> Finding {
        let since = now.duration_since(self.looked_at).min(MOST);
        self.looked_at = now;
        match turns {
            Some(turns) if turns == self.turns => self.still += since,
            moved => {
                self.turns = moved.unwrap_or(self.turns);
                (self.still, self.said) = (Duration::ZERO, false);
            }
        }
        if self.still >= LIMIT {
            return Finding::Hangs(self.still);
        }
        if self.still < SAID_AFTER || std::mem::replace(&mut self.said, true) {
            return Finding::Moves;
        }
        Finding::Slow(self.still)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(250);

    #[test]
    fn a_thread_that_hangs_is_said_once_and_then_given_up() {
        let mut now = Instant::now();
        let mut pulse = Pulse::new(now);
        let mut findings = Vec::new();
        for _ in 0..=80 {
            now += TICK;
            findings.push(pulse.look(Some(7), now));
        }
        let said = findings.iter().filter(|finding| matches!(finding, Finding::Slow(_))).count();
        assert_eq!((said, findings.last()), (1, Some(&Finding::Hangs(LIMIT))));
        assert_eq!(pulse.look(Some(8), now + TICK), Finding::Moves);
    }

    #[test]
    fn a_process_that_stood_still_does_not_blame_the_thread() {
        let mut now = Instant::now();
        let mut pulse = Pulse::new(now);
        assert_eq!(pulse.look(Some(7), now), Finding::Moves);
        now += Duration::from_secs(3600);
        for _ in 0..1_000 {
            // The interval makes up for the ticks that it missed.
            assert_eq!(pulse.look(Some(7), now), Finding::Moves);
        }
        assert_eq!(pulse.look(Some(8), now + TICK), Finding::Moves);
    }

    #[test]
    fn without_a_thread_nothing_hangs() {
        let mut now = Instant::now();
        let mut pulse = Pulse::new(now);
        for _ in 0..1_000 {
            now += TICK;
            assert_eq!(pulse.look(None, now), Finding::Moves);
        }
    }
}
