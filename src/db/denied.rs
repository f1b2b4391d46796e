//! Whether the database goes on refusing this worker's credentials. A password that is rotated is refused for a while by
//! one side or the other; one that stays wrong is not cured by waiting.

use std::time::{Duration, Instant};

/// Refusals without anything else between them.
#[derive(Debug, Default)]
pub(crate) struct Denied {
    first: Option<Instant>,
    last: Option<(Instant, String)>,
}

impl Denied {
    /// The credentials were refused.
    pub(crate) fn refused(&mut self, now: Instant, why: String) {
        self.first.get_or_insert(now);
        self.last = Some((now, why));
    }

    /// A session was opened, or the server was away: whether it would refuse still, nobody knows.
    pub(crate) fn interrupted(&mut self) {
        *self = Self::default();
    }

    /// For how long it has been said, and what was said last. The time since the last refusal does not count: where
    /// nobody asks for a session, nothing is refused.
    pub(crate) fn since(&self) -> Option<(Duration, &str)> {
        let (first, (last, why)) = (self.first?, self.last.as_ref()?);
        Some((last.duration_since(first), why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_refusals_without_a_break_count() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let mut denied = Denied::default();
        assert_eq!(denied.since(), None);
        denied.refused(at(0), "a".to_owned());
        assert_eq!(denied.since(), Some((Duration::ZERO, "a")), "once is not for long");
        denied.refused(at(60), "b".to_owned());
        assert_eq!(denied.since(), Some((Duration::from_secs(60), "b")));
        denied.interrupted();
        assert_eq!(denied.since(), None);
        denied.refused(at(120), "c".to_owned());
        assert_eq!(denied.since(), Some((Duration::ZERO, "c")), "it begins anew");
    }
}
