//! Applying one batch, and what follows from how it went (DESIGN 3.7, 3.8, 4).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tracing::Instrument as _;

use super::Lane;
use super::ahead::Ahead;
use super::decide::{Decision, decide};
use super::fill::Taken;
use super::ruling::Failure;
use crate::ErrorKind;
use crate::batch::{Part, PartitionKey};
use crate::claim::OffsetRow;
use crate::commit::Attempt;
use crate::consumer::PartitionBuffer;
use crate::db::DbError;
use crate::db::waits::Wait;
use crate::handler::MAX_ABANDONED;
use crate::metrics::meter::Retry;
use crate::partition::{After, Halt};
use crate::trace;
use crate::verdict::{Class, Place, RETRIES};

/// How long a partition whose row somebody else has locked is left out of the batches.
const LOCKED_HOLD: Duration = Duration::from_millis(500);
/// The database "answers quickly" if it answers within this: then a time-out is the record's fault, not its.
const QUICK_ANSWER: Duration = Duration::from_secs(1);

impl Lane {
    /// Applies a batch; what it returns is the next one, on which work has begun.
    pub(super) async fn process(&mut self, Ahead { taken, preparing, span }: Ahead) -> Option<Ahead> {
        let (attempt, ahead) = self.attempt(&taken, preparing).instrument(span.clone()).await;
        trace::outcome(&span, &attempt);
        let is_applied = matches!(attempt, Attempt::Applied);
        if is_applied {
            Self::forget_keys(&taken);
        }
        let stays =
            |ahead: &Ahead| is_applied && !ahead.taken.buffers.iter().any(|buffer| buffer.lacks_keys());
        let ahead = match ahead {
            Some(ahead) if !stays(&ahead) => {
                // First: parts go back in the reverse order of their coming.
                self.put_back_ahead(&ahead);
                None
            }
            ahead => ahead,
        };
        self.conclude(taken, attempt).instrument(span).await;
        ahead
    }

    /// Records of it have become dead letters: later ones of their keys wait from now on, where that is so.
    fn forget_keys(taken: &Taken) {
        let by_handler = taken.batch.rejected() > 0;
        let grown = taken.pairs().filter(|(part, _)| by_handler || part.letter.is_some());
        grown.for_each(|(_, buffer)| buffer.forget_keys());
    }

    /// Reads which keys wait, of partitions in which records are parked behind them. Where it cannot, those are held back,
    /// and no others.
    pub(super) async fn know_keys(&self) {
        let now = Instant::now();
        let wants = |buffer: &Arc<PartitionBuffer>| {
            let peek = buffer.peek();
            peek.waiting_since.is_some() && peek.held_until.is_none_or(|until| until <= now)
        };
        let mut buffers = self.shared.buffers();
        buffers.retain(|buffer| buffer.lacks_keys() && wants(buffer));
        if buffers.is_empty() {
            return;
        }
        let why = match self.read_keys(&buffers).await {
            // Its end is on its way.
            Ok(()) => "its claim is not there".to_owned(),
            Err(error) => {
                self.parts.claims.db().heed(&error);
                format!("cannot read which keys have dead letters: {error}")
            }
        };
        for buffer in buffers.iter().filter(|buffer| buffer.lacks_keys()) {
            tracing::debug!(partition = %buffer.key, why, "trying again");
            buffer.note(Some(format!("trying again: {why}")));
            buffer.hold_until(Instant::now() + LOCKED_HOLD);
        }
    }

    async fn read_keys(&self, buffers: &[Arc<PartitionBuffer>]) -> Result<(), DbError> {
        let unbegun: Vec<_> = buffers
            .iter()
            .filter_map(|buffer| Some((buffer.key.clone(), buffer.claim, buffer.unbegun()?)))
            .collect();
        if !unbegun.is_empty() {
            self.parts.commit.begin_parking(&unbegun).await?;
            buffers.iter().for_each(|buffer| buffer.begun());
        }
        let lacking = || buffers.iter().filter(|buffer| buffer.lacks_keys());
        let held: Vec<_> = lacking().map(|buffer| (buffer.key.clone(), buffer.claim)).collect();
        if held.is_empty() {
            return Ok(());
        }
        let mut found = self.parts.commit.waiting_keys(&held).await?;
        for buffer in lacking() {
            let Some(keys) = found.remove(&buffer.key) else { continue };
            if !keys.is_empty() {
                tracing::debug!(partition = %buffer.key, keys = keys.len(), "later records of these keys are parked");
            }
            buffer.know_keys(keys);
        }
        Ok(())
    }

    /// Of it nothing was written yet.
    pub(super) fn put_back_ahead(&self, ahead: &Ahead) {
        trace::put_back(&ahead.span);
        self.put_back(&ahead.taken);
    }

    async fn conclude(&mut self, taken: Taken, attempt: Attempt) {
        match attempt {
            Attempt::Applied => self.applied(&taken),
            Attempt::Missed => self.missed(&taken).await,
            Attempt::Locked(lock) => self.locked(&taken, lock).await,
            Attempt::Failed { place, error } => {
                let class = error.cause().class;
                let why = error.to_string();
                let failure = Failure { place, class, error: Some(&error), why, waited: false };
                self.judge(&taken, &failure).await;
            }
            Attempt::Panicked(message) => {
                let why = format!("the handler panicked: {message}");
                let (place, class) = (Place::Statement, Class::Bug);
                self.judge(&taken, &Failure { place, class, error: None, why, waited: false }).await;
            }
            Attempt::TimedOut(lock) => {
                let mut why = "it took longer than max_processing_time and was cancelled".to_owned();
                if let Some(lock) = &lock {
                    why.push_str(&format!("; it waited for {lock}"));
                }
                let (place, class, waited) = (Place::Statement, Class::OwnTimeout, lock.is_some());
                self.judge(&taken, &Failure { place, class, error: None, why, waited }).await;
            }
            Attempt::Crowded => self.crowded(&taken),
            Attempt::Cancelled => {
                tracing::warn!(batch = ?taken.batch, "the drain deadline passed; the batch was cancelled");
                self.put_back(&taken);
            }
            Attempt::Unknown { class, why } => {
                tracing::warn!(batch = ?taken.batch, why, "the outcome of a commit is unknown; claiming again");
                self.parts.counters.unknown_outcomes.fetch_add(1, Ordering::Relaxed);
                // EO-7: nothing more of these partitions is applied before a new claim has said where they stand.
                let place = Place::Commit;
                self.judge(&taken, &Failure { place, class, error: None, why, waited: false }).await;
            }
            Attempt::Smuggled => self.smuggled(&taken),
            Attempt::Overtaken(rejected) => {
                self.parts.counters.retried(Retry::Order);
                for (record, why) in rejected {
                    if let Some((_, buffer)) = taken.pairs().find(|(part, _)| part.is_of(&record)) {
                        buffer.set_aside(record.offset, why);
                    }
                }
                self.put_back(&taken);
            }
            Attempt::NotParked => {
                self.parts.counters.retried(Retry::Order);
                taken.buffers.iter().for_each(|buffer| buffer.forget_keys());
                self.put_back(&taken);
            }
        }
    }

    fn applied(&mut self, taken: &Taken) {
        self.parts.backoff.reset();
        Self::tell_what_goes_on(taken);
        let mut wake = false;
        for (part, buffer) in taken.pairs() {
            buffer.applied(part);
            wake |= buffer.is_paused();
            let mut memory = buffer.memory();
            memory.relax();
            if part.letter.is_some() {
                memory.found();
            }
            let well = memory.alone().is_none();
            drop(memory);
            if well && self.is_aside && !buffer.in_flight() && !buffer.is_closed() {
                self.shared.give(buffer, self.parts.lanes.emptiest());
            }
        }
        if std::mem::take(&mut self.troubled) {
            self.shared.buffers().iter().for_each(|buffer| buffer.note(None));
        }
        // Also where the trouble was this partition's own, and the lane's no longer or never.
        taken.buffers.iter().for_each(|buffer| buffer.note(None));
        self.parts.counters.commits.fetch_add(1, Ordering::Relaxed);
        let records = u64::try_from(taken.batch.applied()).unwrap_or(u64::MAX);
        self.parts.counters.applied_records.fetch_add(records, Ordering::Relaxed);
        self.parts.counters.batches.applied(taken.batch.len(), taken.batch.bytes());
        if wake {
            self.parts.waker.wake();
        }
    }

    pub(super) fn put_back(&self, taken: &Taken) {
        for (part, buffer) in taken.pairs() {
            buffer.put_back(part.clone());
        }
    }

    fn smuggled(&self, taken: &Taken) {
        let why = "the handler ended the transaction that it was given: its rows are durable, their offset is not; \
                   remove those rows, and start the worker anew with a handler that does not";
        for (part, buffer) in taken.pairs() {
            buffer.abandoned(part);
            self.end(buffer, After::Halt(Halt::new(ErrorKind::Handler, range(part, why))));
        }
    }

    /// The decision table: what the rows say decides, never what the worker believes.
    async fn missed(&mut self, taken: &Taken) {
        let keys: Vec<PartitionKey> = taken.buffers.iter().map(|buffer| buffer.key.clone()).collect();
        let rows = match self.rows(&keys).await {
            Ok(rows) => rows,
            Err(error) => {
                self.parts.claims.db().heed(&error);
                self.put_back(taken);
                self.parts.counters.retried(Retry::Missed);
                let why = format!("cannot read the claims: {error}");
                Self::tell_all(taken, &why);
                return self.pause(&why).await;
            }
        };
        let me = self.parts.claims.db().identity.owner;
        let decisions: Vec<Decision> = taken
            .batch
            .parts
            .iter()
            .map(|part| decide(part.claim, part.from, rows.get(&part.key), me))
            .collect();
        if decisions.iter().all(|decision| *decision == Decision::Ours) {
            return self.missed_for_nothing(taken).await;
        }
        for ((part, buffer), decision) in taken.pairs().zip(decisions) {
            match decision {
                Decision::Ours => buffer.put_back(part.clone()),
                Decision::Over { after, taken_by_another } => {
                    buffer.abandoned(part);
                    if taken_by_another && buffer.first_fencing() {
                        self.parts.counters.fenced.fetch_add(1, Ordering::Relaxed);
                        tracing::warn!(partition = %part.key, epoch = part.claim.epoch, offset = %part.from,
                            "fenced: another process has claimed this partition; the batch was rolled back");
                    }
                    self.end(buffer, after);
                }
            }
        }
    }

    /// Every row is as it should be, and yet not all of them matched: the database has gone back between the miss and
    /// this look, or the other claim is gone again. The handler is not to blame; that the transaction's id has changed
    /// would be [`Attempt::Smuggled`].
    async fn missed_for_nothing(&mut self, taken: &Taken) {
        let why = "an update of its offset matches nothing, though its row is as this worker left it: look for a trigger, \
                   a rule or row security on consumer_offset, then `highwater partitions retry`";
        let mut worst = 0;
        for (part, buffer) in taken.pairs() {
            let mut seen = self.seen(1, part.len());
            buffer.memory().failed(part.from.get(), Class::RetryThenHalt, &mut seen);
            worst = worst.max(seen.times);
        }
        self.parts.counters.retried(Retry::Missed);
        if worst < RETRIES {
            self.put_back(taken);
            let why = "a compare-and-set missed, and the rows do not show why";
            Self::tell_all(taken, why);
            return self.pause(why).await;
        }
        if taken.buffers.len() > 1 {
            for buffer in &taken.buffers {
                buffer.memory().separate();
            }
            return self.put_back(taken);
        }
        for (part, buffer) in taken.pairs() {
            buffer.abandoned(part);
            self.end(buffer, After::Halt(Halt::new(ErrorKind::Schema, range(part, why))));
        }
    }

    async fn rows(&self, keys: &[PartitionKey]) -> Result<HashMap<PartitionKey, OffsetRow>, DbError> {
        let rows = self.parts.claims.rows(keys).await?;
        Ok(rows.into_iter().map(|row| (row.key.clone(), row)).collect())
    }

    /// Somebody holds a row's lock: that partition waits, the others go on.
    async fn locked(&mut self, taken: &Taken, lock: Option<Wait>) {
        let keys: Vec<PartitionKey> = taken.buffers.iter().map(|buffer| buffer.key.clone()).collect();
        let free = self.parts.claims.unlocked(&keys).await.unwrap_or_default();
        let mut why = "another session holds the lock of this partition's offset row".to_owned();
        if let Some(lock) = lock {
            why.push_str(&format!(": it waited for {lock}"));
        }
        for (at, buffer) in taken.buffers.iter().enumerate() {
            if !free.contains(&buffer.key) {
                // Alone, until it gets through: the others' work must not be rolled back for it again.
                let wait = self.hold(buffer, &why, LOCKED_HOLD);
                if Self::is_news(taken, &[at], "locked") {
                    tracing::warn!(partition = %buffer.key, retry_in = ?wait, "{why}");
                }
            }
        }
        self.parts.counters.retried(Retry::Locked);
        self.put_back(taken);
        for buffer in &taken.buffers {
            self.take_aside(buffer);
        }
    }

    /// A thread that is blocked for good is lost until the process ends: there is a limit to that.
    fn crowded(&mut self, taken: &Taken) {
        self.parts.counters.retried(Retry::Crowded);
        let why = format!(
            "the handler blocks its thread for longer than max_processing_time, and {MAX_ABANDONED} other handlers that \
             were given up do so still; have it wait with await, or in spawn_blocking, and restart the worker: their threads \
             come back with a new process alone"
        );
        for (part, buffer) in taken.pairs() {
            buffer.abandoned(part);
            self.end(buffer, After::Halt(Halt::new(ErrorKind::Handler, range(part, &why))));
        }
    }

    pub(super) async fn answers_quickly(&self) -> bool {
        let answer = async {
            let client = self.parts.claims.db().control().await.ok()?;
            let answer = client.simple_query("SELECT 1").await.ok()?;
            Some(answer)
        };
        matches!(tokio::time::timeout(QUICK_ANSWER, answer).await, Ok(Some(_)))
    }
}

impl Taken {
    pub(super) fn pairs(&self) -> impl Iterator<Item = (&Part, &Arc<PartitionBuffer>)> {
        self.batch.parts.iter().zip(&self.buffers)
    }
}

pub(super) fn range(part: &Part, why: &str) -> String {
    format!("{} [{}, {}): {why}", part.key, part.from, part.to)
}
