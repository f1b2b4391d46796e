//! What was fetched of one partition under one claim, between the poll thread (which fills it) and the lane
//! (which empties it).
//!
//! A new claim gets a new buffer. So a record, a batch or a late answer of an older claim has nowhere to go
//! (EO-3, EO-5): there is no "current buffer of a partition" to mix up.

mod trust;
mod watch;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::{Budget, Signals};
use crate::NextOffset;
use crate::batch::{ClaimId, EpochMark, Letter, Part, PartitionKey, REPRESENTABLE_MS, Segment};
use crate::dead_letter::{Rejection, WaitingKeys};
use crate::invariants;
use crate::partition::{After, Halt};
use crate::record::chunk::{Chunk, RawRecord, Shape};
use crate::verdict::Memory;
use trust::Trust;
use watch::Signs;
pub(crate) use watch::{Seen, Suspicion, Watch};

/// A lane's batch, and the one behind it.
const MAX_OUT: u8 = 2;

/// Records of one partition under one claim, and the coverage `[from, to)` that they stand for.
pub(crate) struct PartitionBuffer {
    pub(crate) key: PartitionKey,
    pub(crate) claim: ClaimId,
    budget: Arc<Budget>,
    watch: Watch,
    /// Of its partition's failures; shared with the claims before and after this one.
    memory: Arc<Mutex<Memory>>,
    /// Whom to tell that something has come, or that it was closed: the lane that it is in.
    home: Mutex<Arc<Signals>>,
    state: Mutex<State>,
    held_bytes: AtomicUsize,
    paused: AtomicBool,
    fenced: AtomicBool,
    /// Written by the lane after each commit, read for the mirror and the status.
    committed: AtomicI64,
}

struct State {
    /// Everything below was handed out (EO-5).
    from: NextOffset,
    /// Everything below is in the buffer or was handed out; a record below is an old one.
    to: NextOffset,
    sealed: VecDeque<Segment>,
    open: Option<Chunk>,
    /// Of the last chunk, if that was about full.
    full_chunk: Option<Shape>,
    records: usize,
    /// When the oldest thing that waits here arrived.
    waiting_since: Option<Instant>,
    /// When something was last taken, for turns between partitions.
    taken_at: Option<Instant>,
    /// How many parts were handed out and are neither applied nor given up: at most the lane's batch, and the one that is
    /// prepared behind it.
    out: u8,
    closed: Option<Instant>,
    held_until: Option<Instant>,
    /// Nothing at or past this record's offset is handed out: it was rejected.
    stop: Option<(i64, Halt)>,
    /// The record at this offset was rejected, and is to be stored: it ends the part that it is in. A verdict of this
    /// claim's, on this record, and forgotten with either.
    letter: Option<(i64, Arc<Rejection>)>,
    keys: KnownKeys,
    /// What follows after everything below `to`: the client reported an error there, or lost its position.
    failure: Option<After>,
    /// What of it may be handed out.
    trust: Trust,
    signs: Signs,
    /// The last record below `to`.
    mark: Option<EpochMark>,
    /// Why nothing is being applied of it just now, for people to read.
    trouble: Option<String>,
    /// What Kafka said of the partition last.
    seen: Seen,
    /// Where each part that is out begins, and its first record's timestamp.
    out_from: Vec<(NextOffset, Option<i64>)>,
    /// Where no record lay when the present fetch began.
    gap: Option<Range<i64>>,
    /// No record lies between the mark and the end of the coverage: true of `read_committed` alone.
    gap_is_empty: bool,
}

/// Which keys have a dead letter, so that records of theirs are parked behind it.
#[derive(Debug, Clone)]
enum KnownKeys {
    /// Nothing is parked here.
    Unneeded,
    /// Under this claim it is still to be noted whether anything is parked.
    Unbegun {
        parks: bool,
    },
    /// To be read before anything is handed out.
    Unknown,
    Known(Arc<WaitingKeys>),
}

/// What became of a record that was pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    Kept,
    /// Below the coverage, or after the buffer's end: dropped, to be counted.
    Dropped,
}

/// What a lane sees of a buffer when it decides what to take.
#[derive(Debug, Clone, Default)]
pub(crate) struct Peek {
    pub(crate) records: usize,
    /// Set when there is something to take, be it only coverage without records.
    pub(crate) waiting_since: Option<Instant>,
    pub(crate) taken_at: Option<Instant>,
    /// The budget has stopped this partition: what is there will not grow.
    pub(crate) paused: bool,
    pub(crate) held_until: Option<Instant>,
    /// Revoked or given up: drop it, at the latest (if a batch is out) at this instant.
    pub(crate) closed: Option<Instant>,
    /// Set when nothing is left to take and nothing more will come: what follows.
    pub(crate) end: Option<After>,
}

impl PartitionBuffer {
    pub(crate) fn new(key: PartitionKey, claim: ClaimId, from: NextOffset, budget: Arc<Budget>) -> Self {
        Self {
            key,
            claim,
            budget,
            watch: Watch::default(),
            memory: Arc::new(Mutex::new(Memory::default())),
            home: Mutex::default(),
            state: Mutex::new(State {
                from,
                to: from,
                sealed: VecDeque::new(),
                open: None,
                full_chunk: None,
                records: 0,
                waiting_since: None,
                taken_at: None,
                out: 0,
                closed: None,
                held_until: None,
                stop: None,
                letter: None,
                keys: KnownKeys::Unneeded,
                failure: None,
                trust: Trust::new(Instant::now()),
                signs: Signs::default(),
                mark: None,
                trouble: None,
                seen: Seen::default(),
                out_from: Vec::new(),
                gap: None,
                gap_is_empty: false,
            }),
            held_bytes: AtomicUsize::new(0),
            paused: AtomicBool::new(false),
            fenced: AtomicBool::new(false),
            committed: AtomicI64::new(from.get()),
        }
    }

    /// What is remembered of the partition's failures.
    pub(crate) fn remembering(mut self, memory: Arc<Mutex<Memory>>) -> Self {
        self.memory = memory;
        self
    }

    /// Whether later records of a rejected one's key are parked behind it: then nothing is handed out before it is
    /// [known](Self::know_keys) which keys wait.
    ///
    /// `did`: under an earlier claim that was so.
    pub(crate) fn parking(mut self, parks: bool, did: bool) -> Self {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.keys = if parks || did { KnownKeys::Unbegun { parks } } else { KnownKeys::Unneeded };
        self
    }

    /// Whether the tables must be asked which keys wait, before anything more is handed out.
    pub(crate) fn lacks_keys(&self) -> bool {
        matches!(self.lock().keys, KnownKeys::Unbegun { .. } | KnownKeys::Unknown)
    }

    /// Whether anything is parked, where that is still to be noted under this claim.
    pub(crate) fn unbegun(&self) -> Option<bool> {
        match self.lock().keys {
            KnownKeys::Unbegun { parks } => Some(parks),
            _ => None,
        }
    }

    /// It is noted.
    pub(crate) fn begun(&self) {
        let mut state = self.lock();
        if let KnownKeys::Unbegun { parks } = state.keys {
            state.keys = if parks { KnownKeys::Unknown } else { KnownKeys::Unneeded };
        }
    }

    /// The keys that wait, as they were read under this claim.
    pub(crate) fn know_keys(&self, keys: WaitingKeys) {
        self.lock().keys = KnownKeys::Known(Arc::new(keys));
    }

    /// There may be others by now.
    pub(crate) fn forget_keys(&self) {
        let mut state = self.lock();
        if matches!(state.keys, KnownKeys::Known(_)) {
            state.keys = KnownKeys::Unknown;
        }
    }

    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lane that it is in.
    pub(crate) fn home(&self) -> Arc<Signals> {
        Arc::clone(&self.home.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn move_in(&self, home: &Arc<Signals>) {
        *self.home.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(home);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held can only come from a failed assertion in this file.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a record that the client gave us at `now` (poll thread).
    pub(crate) fn push<'h>(
        &self,
        record: &RawRecord<'_>,
        headers: impl Iterator<Item = (&'h [u8], Option<&'h [u8]>)>,
        now: Instant,
    ) -> Pushed {
        let mut state = self.lock();
        let Some(next) = NextOffset::after(record.offset) else { return Pushed::Dropped };
        if state.closed.is_some() || state.failure.is_some() || record.offset < state.to.get() {
            let contradicts = watch::contradicts(state.gap.as_ref(), record.offset);
            drop(state);
            if contradicts {
                let text = format!("a record lies at offset {}, where none was", record.offset);
                self.suspect(&text, true);
            }
            return Pushed::Dropped;
        }
        if state.open.as_ref().is_some_and(|chunk| chunk.is_full_for(record)) {
            state.seal();
        }
        let full_chunk = state.full_chunk;
        let chunk = state.open.get_or_insert_with(|| Chunk::starting_with(record, full_chunk));
        chunk.push(record, headers);
        // Charged from the chunk, so that headers count and the lane releases the very same sum.
        let weight = chunk.weight(chunk.len() - 1);
        state.records += 1;
        state.mark =
            (record.leader_epoch >= 0).then_some(EpochMark { at: next, leader_epoch: record.leader_epoch });
        state.signs = Signs::default();
        let doubted = state.advance(next, now);
        // Before the lock is released: whoever frees these bytes must find them charged.
        self.charge(weight);
        drop(state);
        if doubted {
            self.watch.wake.notify_one();
        }
        Pushed::Kept
    }

    /// The log has nothing (more) below `end`: markers and compaction gaps are covered too (poll thread).
    pub(crate) fn end_of_partition(&self, end: NextOffset) {
        let mut state = self.lock();
        if state.closed.is_some() || state.failure.is_some() {
            return;
        }
        // It was read up to here: a refusal before that is over.
        state.signs.refusal = None;
        if !state.signs.is_open() {
            // The client has read up to here since: what it stumbled over before was an echo.
            state.signs = Signs::default();
        }
        if end > state.to {
            let doubted = state.advance(end, Instant::now());
            drop(state);
            if doubted {
                self.watch.wake.notify_one();
            }
        }
    }

    /// The client cannot read on after what is here: what is here may still be applied (poll thread).
    pub(crate) fn fail(&self, halt: Halt) {
        self.finish(After::Halt(halt));
    }

    /// Where the client stands: fetching goes on from there, and error texts name it.
    pub(crate) fn covered_to(&self) -> NextOffset {
        self.lock().to
    }

    /// Takes up to `max_records` and about `max_bytes` off the front, with the coverage they stand for; one
    /// record is given whatever its size. `None` if there is nothing to take, or too much is out.
    pub(crate) fn take(&self, max_records: usize, max_bytes: usize) -> Option<Part> {
        let mut state = self.lock();
        let released = state.released();
        if state.out >= MAX_OUT || state.closed.is_some() || state.from == released || max_records == 0 {
            return None;
        }
        let waiting = match &state.keys {
            KnownKeys::Unneeded => None,
            KnownKeys::Unbegun { .. } | KnownKeys::Unknown => return None,
            KnownKeys::Known(keys) => Some(Arc::clone(keys)).filter(|keys| !keys.is_empty()),
        };
        let stop_at = state.stop.as_ref().map(|(offset, _)| *offset);
        let rejected = state.letter.clone();
        state.seal();
        let (mut segments, mut parked, mut records, mut bytes) = (Vec::new(), Vec::new(), 0, 0);
        let mut letter = None;
        let mut to = None;
        'fill: while let Some(segment) = state.sealed.front_mut() {
            let start = segment.range.start;
            for index in segment.range.clone() {
                let weight = segment.chunk.weight(index);
                let past_limit = records == max_records || (records > 0 && bytes + weight > max_bytes);
                let offset = segment.chunk.offset(index);
                let doubted = offset >= released.get();
                if doubted || past_limit || stop_at.is_some_and(|stop| offset >= stop) {
                    if index > start {
                        segments.push(Segment { chunk: Arc::clone(&segment.chunk), range: start..index });
                        segment.range.start = index;
                    }
                    if doubted {
                        to = Some(released);
                    }
                    to.get_or_insert(state.from);
                    break 'fill;
                }
                records += 1;
                bytes += weight;
                to = Some(segment.chunk.next_offset(index));
                if let Some((_, why)) = rejected.as_ref().filter(|(at, _)| *at == offset) {
                    let chunk = Arc::clone(&segment.chunk);
                    if index > start {
                        segments.push(Segment { chunk: Arc::clone(&chunk), range: start..index });
                    }
                    letter = Some(Letter {
                        segment: Segment { chunk, range: index..index + 1 },
                        why: Arc::clone(why),
                    });
                    segment.range.start = index + 1;
                    if segment.range.is_empty() {
                        state.sealed.pop_front();
                    }
                    break 'fill;
                }
                let behind = waiting.as_ref().and_then(|keys| keys.behind(segment.chunk.key(index), offset));
                parked.extend(behind.map(|first| (offset, first.clone())));
            }
            segments.extend(state.sealed.pop_front());
        }
        // Nothing left behind: the coverage beyond the last record (markers, gaps) goes with it.
        let to = if state.sealed.is_empty() { released } else { to? };
        if to == state.from {
            return None;
        }
        let key = self.key.clone();
        let part = Part { key, claim: self.claim, from: state.from, to, segments, letter, parked };
        debug_assert!(
            invariants::covered(part.from, part.to, part.every().map(|record| record.offset())),
            "{part:?}"
        );
        let first = part.every().next().and_then(|record| record.timestamp_ms());
        state.out_from.push((part.from, first));
        state.from = to;
        state.records -= records;
        state.out += 1;
        state.taken_at = Some(Instant::now());
        if state.from == state.to {
            state.waiting_since = None;
        }
        Some(part)
    }

    /// Puts back what was taken and not applied; the part that was taken last goes first.
    pub(crate) fn put_back(&self, part: Part) {
        let mut state = self.lock();
        debug_assert_eq!(part.claim, self.claim, "a part goes back where it came from");
        state.came_back(&part);
        if state.closed.is_some() {
            drop(state);
            self.uncharge(part.weight());
            return;
        }
        debug_assert!(
            invariants::contiguous(part.to, state.from),
            "parts go back in the reverse order of their coming"
        );
        state.from = part.from;
        state.records += part.all();
        let letter = part.letter.map(|letter| letter.segment);
        for segment in part.segments.into_iter().chain(letter).rev() {
            state.sealed.push_front(segment);
        }
        state.waiting_since.get_or_insert_with(Instant::now);
    }

    /// The part was applied: its bytes are free, its end is durable.
    pub(crate) fn applied(&self, part: &Part) {
        let mut state = self.lock();
        state.came_back(part);
        state.letter.take_if(|(offset, _)| *offset < part.to.get());
        drop(state);
        debug_assert_eq!(part.from.get(), self.committed(), "EO-2: parts are applied in the order they came");
        self.committed.store(part.to.get(), Ordering::Release);
        self.uncharge(part.weight());
    }

    /// The part will not be applied under this claim: whether it was is for the next claim to say (EO-7).
    pub(crate) fn abandoned(&self, part: &Part) {
        self.lock().came_back(part);
        self.uncharge(part.weight());
    }

    /// Hands out nothing until then: somebody else holds the row's lock.
    pub(crate) fn hold_until(&self, instant: Instant) {
        self.lock().held_until = Some(instant);
    }

    /// Notes why nothing is being applied, or that something is again.
    pub(crate) fn note(&self, trouble: Option<String>) {
        self.lock().trouble = trouble;
    }

    /// Why nothing is being applied just now.
    pub(crate) fn trouble(&self) -> Option<String> {
        let noted = self.lock().trouble.clone();
        noted.or_else(|| self.memory().trouble_at(self.committed()).map(str::to_owned))
    }

    /// Hands out nothing at or past the record at `offset`, and halts there.
    pub(crate) fn stop_at(&self, offset: i64, halt: Halt) {
        self.lock().stop = Some((offset, halt));
    }

    /// Hands the record at `offset` out to be stored only.
    pub(crate) fn set_aside(&self, offset: i64, why: Rejection) {
        self.lock().letter = Some((offset, Arc::new(why)));
    }

    /// Ends the buffer: nothing goes in or out any more. A batch in flight may finish until `deadline`.
    pub(crate) fn close(&self, deadline: Instant) {
        let mut state = self.lock();
        if state.closed.is_some() {
            return;
        }
        state.closed = Some(deadline);
        state.seal();
        let bytes = state.sealed.drain(..).map(|segment| segment.weight()).sum();
        state.records = 0;
        state.waiting_since = None;
        drop(state);
        self.uncharge(bytes);
    }

    /// Whether a record can still come in.
    pub(crate) fn is_open(&self) -> bool {
        let state = self.lock();
        state.closed.is_none() && state.failure.is_none()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed.is_some()
    }

    pub(crate) fn in_flight(&self) -> bool {
        self.lock().out > 0
    }

    /// Whether something could be taken, nothing of it is out, and nobody has said why not.
    pub(crate) fn is_overdue(&self) -> bool {
        let state = self.lock();
        let held = state.held_until.is_some_and(|until| until > Instant::now());
        let waits = state.closed.is_none() && state.stop.is_none() && state.from < state.released();
        waits && state.out == 0 && !held && state.trouble.is_none()
    }

    pub(crate) fn peek(&self) -> Peek {
        let state = self.lock();
        let rejected_next = state.stop.as_ref().filter(|(offset, _)| state.next_record() >= Some(*offset));
        let end = match rejected_next {
            // What is out is applied before that.
            _ if state.out > 0 => None,
            Some((_, halt)) => Some(After::Halt(halt.clone())),
            None if state.from == state.to => state.failure.clone(),
            None => None,
        };
        Peek {
            records: state.records,
            waiting_since: state
                .waiting_since
                .filter(|_| end.is_none() && rejected_next.is_none() && state.from < state.released()),
            taken_at: state.taken_at,
            paused: self.paused.load(Ordering::Relaxed),
            held_until: state.held_until,
            closed: state.closed,
            end,
        }
    }

    /// The timestamp of the first record that is not applied yet, where that record is here and has one.
    pub(crate) fn next_timestamp_ms(&self) -> Option<i64> {
        let state = self.lock();
        let out = state.out_from.iter().min_by_key(|(from, _)| *from);
        let next = match out {
            // It may have none: what waits behind it is another record.
            Some((_, timestamp)) => *timestamp,
            None => state.front().map(|(chunk, index)| chunk.timestamp_ms(index)),
        };
        next.filter(|ms| REPRESENTABLE_MS.contains(ms))
    }

    /// Bytes held, in the buffer and in the batch that is out.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// Whether the budget has paused it; only the poll thread sets this.
    pub(crate) fn set_paused(&self, paused: bool) {
        if paused {
            // It may stand still for long: the room that its chunk was given ahead is not charged.
            self.lock().seal();
        }
        self.paused.store(paused, Ordering::Relaxed);
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// `true` the first time: one lost claim counts once, whoever notices.
    pub(crate) fn first_fencing(&self) -> bool {
        !self.fenced.swap(true, Ordering::Relaxed)
    }

    /// The position that is durable in Postgres.
    pub(crate) fn committed(&self) -> i64 {
        self.committed.load(Ordering::Acquire)
    }

    fn charge(&self, bytes: usize) {
        self.held_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.budget.charge(bytes);
    }

    fn uncharge(&self, bytes: usize) {
        self.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.budget.release(bytes);
    }
}

impl State {
    fn seal(&mut self) {
        if let Some(mut chunk) = self.open.take() {
            chunk.close();
            self.full_chunk = chunk.shape();
            let range = 0..chunk.len();
            self.sealed.push_back(Segment { chunk: Arc::new(chunk), range });
        }
    }

    /// Something arrived at `now` that ends at `to`; `true` if it must be looked into before it is handed out.
    fn advance(&mut self, to: NextOffset, now: Instant) -> bool {
        debug_assert!(to > self.to, "coverage only grows");
        let doubted = self.trust.arrived(self.to, now);
        self.to = to;
        self.waiting_since.get_or_insert(now);
        doubted
    }

    /// Everything below may be handed out.
    fn released(&self) -> NextOffset {
        self.trust.limit().map_or(self.to, |limit| limit.min(self.to))
    }

    /// A part is out no more.
    fn came_back(&mut self, part: &Part) {
        self.out -= 1;
        self.out_from.retain(|(from, _)| *from != part.from);
    }

    /// The offset of the next record that would be handed out.
    fn next_record(&self) -> Option<i64> {
        self.front().map(|(chunk, index)| chunk.offset(index))
    }

    fn front(&self) -> Option<(&Chunk, usize)> {
        let segment = self.sealed.front().map(|segment| (&*segment.chunk, segment.range.start));
        segment.or(self.open.as_ref().map(|chunk| (chunk, 0)))
    }
}

impl Drop for PartitionBuffer {
    fn drop(&mut self) {
        self.budget.release(*self.held_bytes.get_mut());
    }
}

impl std::fmt::Debug for PartitionBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PartitionBuffer")
            .field("key", &self.key)
            .field("claim", &self.claim)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
