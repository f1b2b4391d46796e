//! What the worker's vigil asks a buffer, and tells it (EO-6).

use std::ops::Range;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;
use tokio::sync::Notify;

use super::PartitionBuffer;
use crate::NextOffset;
use crate::batch::{EpochMark, PartitionKey};
use crate::consumer::catalog::{Ends, Survey, TopicIdentity};
use crate::partition::After;

/// What a buffer is watched by.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watch {
    /// The topic that the claim's guard has seen.
    pub(crate) identity: TopicIdentity,
    /// Woken when there is something to look into.
    pub(crate) wake: Arc<Notify>,
}

/// A sign that the log is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Suspicion {
    /// In the client's words, or ours.
    pub(crate) text: String,
    /// The sign came again after fetching was begun anew, or needs no second one. The first alone may be an echo of a
    /// fetch that is over (PITFALLS 7).
    pub(crate) confirmed: bool,
}

/// How long what was told of a log's ends is news. It is asked for every three seconds; where the broker that is asked
/// falls silent it takes five to give it up, and some more to ask another, and the leaders: they are not to blame.
const NEWS: Duration = Duration::from_secs(12);

/// What Kafka said of a partition last, beside its records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// As told last: by now it may go further.
    pub(crate) ends: Option<Ends>,
    /// Where the log begins; as told last, too.
    pub(crate) start: Option<NextOffset>,
    /// Nobody leads it.
    pub(crate) leaderless: bool,
    /// Kafka answers, but this partition's leader did not when it was asked last: what came instead.
    pub(crate) silent: Option<RDKafkaErrorCode>,
    /// When it was told last how far the log goes, or that nobody leads it: then it goes no further.
    pub(crate) told: Option<Instant>,
}

impl Seen {
    /// What was answered at `now`.
    pub(crate) fn of(survey: &Survey, key: &PartitionKey, now: Instant) -> Self {
        let (ends, leaderless) = (survey.ends.get(key).copied(), survey.leaderless.contains(key));
        Self {
            ends,
            start: survey.available.get(key).map(|available| available.low),
            leaderless,
            silent: survey.silent.get(key).copied(),
            told: (ends.is_some() || leaderless).then_some(now),
        }
    }

    /// Without what is no news any more at `now`: where the log ends is not known then.
    pub(crate) fn known(self, now: Instant) -> Self {
        let is_news = self.told.is_some_and(|told| now.saturating_duration_since(told) <= NEWS);
        if is_news { self } else { Self { ends: None, start: None, ..self } }
    }
}

/// The client was refused the records at the end of what is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: RDKafkaErrorCode,
    /// In the client's words.
    pub(crate) text: String,
}

/// Signs of trouble since the last record.
#[derive(Debug, Default)]
pub(super) struct Signs {
    count: u32,
    open: Option<Suspicion>,
    pub(super) refusal: Option<Refusal>,
}

impl Signs {
    /// Whether there is one that nobody has looked into.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }
}

impl PartitionBuffer {
    /// Puts a new buffer under watch: its very first records are looked into, too. `mark` is the last record's end and
    /// leader epoch as the claim has them; with `gap_is_empty`, no record may lie between it and the start.
    pub(crate) fn watched(mut self, watch: Watch, mark: Option<EpochMark>, gap_is_empty: bool) -> Self {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.trust.interrupt();
        state.mark = mark;
        state.gap_is_empty = gap_is_empty;
        self.watch = watch;
        self.begins();
        self
    }

    pub(crate) fn identity(&self) -> &TopicIdentity {
        &self.watch.identity
    }

    /// Whether something waits for a look at the topic.
    pub(crate) fn is_doubted(&self) -> bool {
        self.lock().trust.limit().is_some()
    }

    /// Kafka was asked at `asked`, and it is still the same topic.
    pub(crate) fn verified(&self, asked: Instant) {
        self.lock().trust.verified(asked);
    }

    /// Whatever comes next is looked into (poll thread).
    pub(crate) fn doubt_next(&self) {
        self.lock().trust.interrupt();
    }

    /// Something is wrong with the log, to be looked into.
    pub(crate) fn suspect(&self, text: &str, certain: bool) {
        let mut state = self.lock();
        if state.closed.is_some() || state.failure.is_some() {
            return;
        }
        state.signs.count += 1;
        let confirmed = certain || state.signs.count > 1;
        state.signs.open = Some(Suspicion { text: text.to_owned(), confirmed });
        drop(state);
        self.watch.wake.notify_one();
    }

    /// Kafka does not give the records at the end of what is here (poll thread). Over with the next record, or when the
    /// log's end is reached.
    pub(crate) fn refused(&self, code: RDKafkaErrorCode, text: &str) {
        let mut state = self.lock();
        if state.closed.is_none() && state.failure.is_none() {
            state.signs.refusal = Some(Refusal { code, text: text.to_owned() });
        }
    }

    pub(crate) fn refusal(&self) -> Option<Refusal> {
        self.lock().signs.refusal.clone()
    }

    /// Kafka has told how far the partition goes.
    pub(crate) fn saw(&self, seen: Seen) {
        let mut state = self.lock();
        // Without a leader nobody tells of the ends: what was told before still holds. Where the leader alone is silent
        // it is remembered, too, but no news for long.
        let before = state.seen;
        state.seen = Seen {
            ends: seen.ends.or(before.ends),
            start: seen.start.or(before.start),
            told: seen.told.or(before.told),
            ..seen
        };
    }

    /// Kafka did not answer at all: then no leader is to blame.
    pub(crate) fn saw_nothing(&self) {
        self.lock().seen.silent = None;
    }

    pub(crate) fn seen(&self) -> Seen {
        self.lock().seen
    }

    pub(crate) fn suspicion(&self) -> Option<Suspicion> {
        self.lock().signs.open.clone()
    }

    /// Forgets the present suspicion, not that there was one.
    pub(crate) fn set_aside_suspicion(&self) {
        self.lock().signs.open = None;
    }

    /// Hands out what is there, then ends like this.
    pub(crate) fn finish(&self, after: After) {
        let mut state = self.lock();
        state.signs.open = None;
        if state.failure.is_none() {
            state.failure = Some(after);
        }
    }

    /// Hands out nothing more, whatever is asked and answered: the worker has not closed it yet.
    pub(crate) fn withdraw(&self) {
        let mut state = self.lock();
        state.signs.open = None;
        let from = state.from;
        state.trust.withdraw(from);
    }

    /// Where fetching goes on after what is here, and the last record before that.
    pub(crate) fn resume_point(&self) -> (NextOffset, Option<EpochMark>) {
        let state = self.lock();
        (state.to, state.mark)
    }

    /// A fetch begins: at the last record's end where that is known, so that a record which has appeared since where
    /// there was none (a marker that a truncation took away) is seen, and not dropped as an old one.
    pub(crate) fn begins(&self) -> Option<EpochMark> {
        let mut state = self.lock();
        let mark = state.mark;
        if let Some(mark) = mark.filter(|_| state.gap_is_empty) {
            state.gap = Some(mark.at.get()..state.to.get());
        }
        mark
    }

    /// What the client's error said that ends this buffer, though something in it may still wait.
    pub(crate) fn failure(&self) -> Option<After> {
        self.lock().failure.clone()
    }

    /// There is nothing to validate any more: the record that the mark is about is gone itself.
    pub(crate) fn drop_mark(&self) {
        self.lock().mark = None;
    }
}

/// Whether a record lies where none was when the offset after it was committed.
pub(super) fn contradicts(gap: Option<&Range<i64>>, offset: i64) -> bool {
    gap.is_some_and(|gap| gap.contains(&offset))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::ClaimId;
    use crate::consumer::Budget;

    const SECOND: Duration = Duration::from_secs(1);

    fn buffer() -> PartitionBuffer {
        let key = PartitionKey { topic: "t".into(), partition: 0 };
        let claim = ClaimId { epoch: 1, token: uuid::Uuid::nil() };
        PartitionBuffer::new(key, claim, NextOffset::ZERO, Arc::new(Budget::new(1 << 20)))
    }

    fn ends(log: i64) -> Option<Ends> {
        let log = NextOffset::new(log).unwrap();
        Some(Ends { log, stable: log })
    }

    fn told(log: i64, at: Instant) -> Seen {
        Seen { ends: ends(log), start: Some(NextOffset::ZERO), told: Some(at), ..Seen::default() }
    }

    fn silent() -> Seen {
        Seen { silent: Some(RDKafkaErrorCode::RequestTimedOut), ..Seen::default() }
    }

    #[test]
    fn where_a_log_ends_is_known_for_twelve_seconds_after_it_was_told() {
        let (buffer, begin) = (buffer(), Instant::now());
        assert_eq!(buffer.seen().known(begin).ends, None, "nobody has told yet");
        buffer.saw(told(7, begin));
        for second in 0..=12 {
            assert_eq!(buffer.seen().known(begin + second * SECOND).ends, ends(7), "{second} s");
        }
        let later = buffer.seen().known(begin + 13 * SECOND);
        assert_eq!((later.ends, later.start), (None, None));
        buffer.saw(told(9, begin + 14 * SECOND));
        assert_eq!(buffer.seen().known(begin + 14 * SECOND).ends, ends(9), "at once when it is told");
    }

    #[test]
    fn a_leader_that_is_silent_for_a_moment_makes_nothing_unknown_and_for_long_it_does() {
        let (buffer, begin) = (buffer(), Instant::now());
        buffer.saw(told(7, begin));
        buffer.saw(silent());
        assert_eq!(buffer.seen().known(begin + 9 * SECOND).ends, ends(7));
        assert_eq!(buffer.seen().known(begin + 13 * SECOND).ends, None);
        assert_eq!(buffer.seen().ends, ends(7), "so far it went, at least");
        assert!(buffer.seen().silent.is_some());
        buffer.saw_nothing();
        assert_eq!(buffer.seen().silent, None, "nobody answers: no leader is to blame");
    }

    #[test]
    fn without_a_leader_a_log_goes_no_further() {
        let (buffer, begin) = (buffer(), Instant::now());
        buffer.saw(told(7, begin));
        buffer.saw(Seen { leaderless: true, told: Some(begin + 20 * SECOND), ..Seen::default() });
        let seen = buffer.seen().known(begin + 25 * SECOND);
        assert_eq!((seen.ends, seen.leaderless), (ends(7), true));
    }
}
