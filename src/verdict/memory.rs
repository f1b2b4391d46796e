//! What is remembered of a partition's failures. It goes where the partition goes, through its claims and lanes, and is
//! forgotten when it is over: when the position moves and batches are as large as ever, or the partition leaves.

use std::time::{Duration, Instant};

use super::Class;
use crate::backoff::Backoff;
use crate::due::Trouble;

/// How many kinds of failures are told apart within one trouble.
const KINDS: usize = 8;

/// Of one partition.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    full: usize,
    backoff: Backoff,
    /// The most records that a batch may have; there is one while the partition gets batches of its own.
    limit: Option<usize>,
    /// Where the failures were that are counted, and of which class: four waits for a lock and one lost session are not
    /// five lost sessions.
    at: i64,
    class: Option<Class>,
    times: u32,
    singles: u32,
    /// The batch after the next one has a single record: the one that is suspected.
    then_single: bool,
    /// Why the batch that begins there is tried again, for people to read.
    trouble: Option<(i64, String)>,
    /// The batch is small for a suspect's sake, and not because nobody knows who it was.
    isolates: bool,
    /// What was said of the present trouble.
    said: Option<Said>,
}

/// A trouble, as the log has it.
#[derive(Debug, Clone)]
struct Said {
    words: Trouble,
    /// What has failed so far, each worth a word of its own.
    kinds: Vec<String>,
    /// It is over when the partition has come so far: the end of what failed first.
    until: i64,
}

/// A failure, and those before it at the same position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Partitions with records in the batch.
    pub(crate) partitions: usize,
    /// Records in the batch.
    pub(crate) records: usize,
    /// Failures in a row at this position, of this class, this one included.
    pub(crate) times: u32,
    /// Of these, with a single record, and with nobody else in the same trouble.
    pub(crate) singles: u32,
    /// The batch was cut before.
    pub(crate) narrowed: bool,
    /// The record is known.
    pub(crate) named: bool,
    /// It was named in the company of others, without which it may pass: by the order in which rows were sent.
    pub(crate) suspected: bool,
    /// No other session of this process was lost meanwhile.
    pub(crate) alone: bool,
    /// Time-outs of a single record before it halts.
    pub(crate) limit: u32,
}

impl Seen {
    /// Whether the record that is named may be innocent: others were with it, and nobody knows what it would do alone.
    pub(crate) fn is_in_company(&self) -> bool {
        self.suspected && (self.records > 1 || self.partitions > 1)
    }
}

/// For a buffer that nobody gave a memory.
impl Default for Memory {
    fn default() -> Self {
        Self::new(usize::MAX, Backoff::new(Duration::from_millis(100), Duration::from_secs(10)))
    }
}

impl Memory {
    /// `full`: the most records that a batch may have; `backoff`: how a partition waits.
    pub(crate) fn new(full: usize, backoff: Backoff) -> Self {
        Self {
            full,
            backoff,
            limit: None,
            at: 0,
            class: None,
            times: 0,
            singles: 0,
            then_single: false,
            trouble: None,
            isolates: false,
            said: None,
        }
    }

    /// A batch up to `until` has failed for the `kind` of reason: whether that is worth a word in the log. The first is,
    /// each kind once, and then one at growing intervals.
    pub(crate) fn is_news(&mut self, now: Instant, kind: &str, until: i64) -> bool {
        let said =
            self.said.get_or_insert_with(|| Said { words: Trouble::new(now), kinds: Vec::new(), until });
        let is_new = said.kinds.len() < KINDS && !said.kinds.iter().any(|known| known == kind);
        if is_new {
            said.kinds.push(kind.to_owned());
        }
        said.words.is_due(now) || is_new
    }

    /// It was applied up to `to`: for how long it was in trouble, once all of what had failed is applied.
    pub(crate) fn is_over(&mut self, now: Instant, to: i64) -> Option<Duration> {
        self.said.take_if(|said| to >= said.until).map(|said| said.words.lasted(now))
    }

    /// How many records the next batch may have; `None` if it shares a batch with others.
    pub(crate) fn alone(&self) -> Option<usize> {
        self.limit
    }

    /// A batch that begins at `at` failed; how often that has happened is in `seen` afterwards.
    pub(crate) fn failed(&mut self, at: i64, class: Class, seen: &mut Seen) {
        if (self.at, self.class) != (at, Some(class)) {
            (self.at, self.class, self.times, self.singles) = (at, Some(class), 0, 0);
        }
        self.times = self.times.saturating_add(1);
        if seen.records <= 1 && seen.partitions <= 1 && seen.alone {
            self.singles = self.singles.saturating_add(1);
        }
        (seen.times, seen.singles) = (self.times, self.singles);
        seen.narrowed = self.limit.is_some_and(|limit| limit < self.full);
    }

    /// The batch that begins at `at` is tried again, and why: that is told until it is applied, also under the next claim.
    pub(crate) fn is_in_trouble(&mut self, at: i64, why: String) {
        self.trouble = Some((at, why));
    }

    /// Why the batch that begins at `at` is tried again.
    pub(crate) fn trouble_at(&self, at: i64) -> Option<&str> {
        self.trouble.as_ref().filter(|(from, _)| *from == at).map(|(_, why)| why.as_str())
    }

    /// From now on it gets batches of its own.
    pub(crate) fn separate(&mut self) {
        self.limit.get_or_insert(self.full);
    }

    /// A batch of `records` failed: the next one has half of them.
    pub(crate) fn halve(&mut self, records: usize) {
        self.limit = Some((records / 2).max(1));
        self.then_single = false;
        self.isolates = false;
    }

    /// A record is suspected: the `before` records before it come first, then it comes alone.
    pub(crate) fn isolate(&mut self, before: usize) {
        self.limit = Some(before.max(1));
        self.then_single = before > 0;
        self.isolates = true;
    }

    /// How long it waits now.
    pub(crate) fn wait(&mut self) -> Duration {
        self.backoff.next()
    }

    /// The record that was at fault is stored and stepped over. Where it was suspected by name, the batches need not find
    /// their size again: the next one to fail will name its record, too.
    pub(crate) fn found(&mut self) {
        if std::mem::take(&mut self.isolates) {
            self.limit = None;
        }
    }

    /// A batch was applied: the next may be twice as large, and shared again once it is as large as ever.
    pub(crate) fn relax(&mut self) {
        self.trouble = None;
        self.times = 0;
        self.singles = 0;
        let Some(limit) = self.limit else { return };
        self.backoff.reset();
        if std::mem::take(&mut self.then_single) {
            self.limit = Some(1);
            return;
        }
        self.limit = (limit < self.full).then(|| limit.saturating_mul(2).min(self.full));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Memory {
        Memory::new(100, Backoff::new(Duration::from_millis(100), Duration::from_secs(10)))
    }

    #[test]
    fn narrows_to_one_record_and_widens_again() {
        let mut memory = memory();
        assert_eq!(memory.alone(), None);
        memory.separate();
        assert_eq!(memory.alone(), Some(100));
        while let Some(records) = memory.alone().filter(|records| *records > 1) {
            memory.halve(records);
        }
        let widened: Vec<_> = std::iter::from_fn(|| {
            memory.relax();
            memory.alone()
        })
        .collect();
        assert_eq!(widened, [2, 4, 8, 16, 32, 64, 100]);
    }

    #[test]
    fn a_suspect_comes_alone_once_what_is_before_it_is_applied() {
        let mut memory = memory();
        memory.isolate(7);
        assert_eq!(memory.alone(), Some(7));
        memory.relax();
        assert_eq!(memory.alone(), Some(1), "the suspect");
        memory.relax();
        assert_eq!(memory.alone(), Some(2), "it was innocent");
        memory.isolate(0);
        assert_eq!(memory.alone(), Some(1));
        memory.relax();
        assert_eq!(memory.alone(), Some(2));
    }

    #[test]
    fn a_suspect_that_is_stored_leaves_batches_as_large_as_ever_and_a_search_does_not() {
        let mut memory = memory();
        memory.isolate(7);
        memory.relax();
        memory.relax();
        memory.found();
        assert_eq!(memory.alone(), None);
        memory.isolate(7);
        memory.halve(50);
        memory.relax();
        memory.found();
        assert_eq!(memory.alone(), Some(50));
    }

    #[test]
    fn a_trouble_is_said_once_for_each_kind_and_is_over_when_all_of_it_is_applied() {
        let (mut memory, began) = (memory(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(memory.is_over(began, 5), None, "there was none");
        assert!(memory.is_news(began, "lock", 100));
        assert!(!memory.is_news(at(1), "lock", 100));
        assert!(memory.is_news(at(1), "halved", 50), "something else is done about it");
        assert!(!memory.is_news(at(2), "halved", 25) && !memory.is_news(at(3), "lock", 100));
        assert!(memory.is_news(at(5), "lock", 100), "and again after a while");
        assert_eq!(memory.is_over(at(40), 50), None, "a part of it");
        assert_eq!(memory.is_over(at(42), 100), Some(Duration::from_secs(42)));
        assert_eq!(memory.is_over(at(43), 200), None, "said once");
    }

    #[test]
    fn failures_count_at_one_position_only() {
        let mut memory = memory();
        let mut seen = super::super::tests::SEEN;
        for (at, records, times, singles) in [(7, 5, 1, 0), (7, 1, 2, 1), (8, 1, 1, 1), (8, 1, 2, 2)] {
            seen.records = records;
            memory.failed(at, Class::Lost, &mut seen);
            assert_eq!((seen.times, seen.singles), (times, singles), "at {at}");
        }
        memory.failed(8, Class::Environment, &mut seen);
        assert_eq!((seen.times, seen.singles), (1, 1), "something else");
        memory.failed(8, Class::Lost, &mut seen);
        assert_eq!((seen.times, seen.singles), (1, 1), "and then the first again");
        seen.alone = false;
        memory.failed(8, Class::Lost, &mut seen);
        assert_eq!((seen.times, seen.singles), (2, 1), "others were lost, too");
        memory.relax();
        seen.alone = true;
        memory.failed(8, Class::Lost, &mut seen);
        assert_eq!((seen.times, seen.singles), (1, 1), "it got on meanwhile");
    }
}
