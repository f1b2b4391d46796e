//! Applying one batch, and what follows from how it went (DESIGN 3.7, 3.8, 4).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Lane;
use super::ahead::Ahead;
use super::decide::{Decision, decide};
use super::fill::Taken;
use crate::batch::{Part, PartitionKey};
use crate::claim::OffsetRow;
use crate::commit::Attempt;
use crate::consumer::PartitionBuffer;
use crate::db::DbError;
use crate::handler::MAX_ABANDONED;
use crate::partition::{After, Halt};
use crate::sqlstate::{Class, Connection};
use crate::{ErrorKind, HandlerError, telling};

/// How long a partition whose row somebody else has locked is left out of the batches.
const LOCKED_HOLD: Duration = Duration::from_millis(500);
/// The database "answers quickly" if it answers within this: then a time-out is the record's fault, not its.
const QUICK_ANSWER: Duration = Duration::from_secs(1);

impl Lane {
    /// Applies a batch; what it returns is the next one, on which work has begun.
    pub(super) async fn process(&mut self, Ahead { taken, preparing }: Ahead) -> Option<Ahead> {
        let (attempt, ahead) = self.attempt(&taken, preparing).await;
        let ahead = if matches!(attempt, Attempt::Applied) {
            ahead
        } else {
            // First: parts go back in the reverse order of their coming.
            if let Some(ahead) = ahead {
                self.put_back(&ahead.taken);
            }
            None
        };
        self.conclude(taken, attempt).await;
        ahead
    }

    async fn conclude(&mut self, taken: Taken, attempt: Attempt) {
        match attempt {
            Attempt::Applied => self.applied(&taken),
            Attempt::Missed => self.missed(&taken).await,
            Attempt::Locked => self.locked(&taken).await,
            Attempt::Failed(error) => self.failed(&taken, error).await,
            Attempt::Panicked(message) => {
                let why = format!("the handler panicked: {message}; fix it and restart the worker");
                self.culprit(&taken, ErrorKind::Handler, &why);
            }
            Attempt::TimedOut => self.timed_out(&taken).await,
            Attempt::Crowded => self.crowded(&taken),
            Attempt::Cancelled => {
                tracing::warn!(batch = ?taken.batch, "the drain deadline passed; the batch was cancelled");
                self.put_back(&taken);
            }
            Attempt::Unknown(why) => {
                tracing::warn!(batch = ?taken.batch, why, "the outcome of a commit is unknown; claiming again");
                self.parts.counters.unknown_outcomes.fetch_add(1, Ordering::Relaxed);
                self.unknown(&taken);
            }
            Attempt::Smuggled => self.smuggled(&taken),
        }
    }

    fn applied(&mut self, taken: &Taken) {
        self.parts.backoff.reset();
        self.caution.relax(taken.buffers.iter().map(|buffer| &buffer.key));
        let mut wake = false;
        for (part, buffer) in taken.pairs() {
            buffer.applied(part);
            wake |= buffer.is_paused();
        }
        self.parts.counters.commits.fetch_add(1, Ordering::Relaxed);
        let records = u64::try_from(taken.batch.len()).unwrap_or(u64::MAX);
        self.parts.counters.applied_records.fetch_add(records, Ordering::Relaxed);
        if wake {
            self.parts.waker.wake();
        }
    }

    pub(super) fn put_back(&self, taken: &Taken) {
        for (part, buffer) in taken.pairs() {
            buffer.put_back(part.clone());
        }
    }

    /// EO-7: nothing more of these partitions is applied before a new claim has said where they stand.
    fn unknown(&self, taken: &Taken) {
        for (part, buffer) in taken.pairs() {
            buffer.abandoned(part);
            self.end(buffer, After::Claim);
        }
    }

    fn smuggled(&self, taken: &Taken) {
        let why = "the handler ended the transaction that it was given: its rows are durable, their offset is not; \
                   remove those rows, fix the handler and restart the worker";
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
                return self.pause(&format!("cannot read the claims: {error}")).await;
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
        if self.out_of_retries(taken) {
            let why = "an update of its offset matches nothing, though its row is as this worker left it: look for a \
                       trigger, a rule or row security on consumer_offset, then restart the worker";
            return self.culprit(taken, ErrorKind::Schema, why);
        }
        self.put_back(taken);
        self.pause("a compare-and-set missed, and the rows do not show why").await;
    }

    async fn rows(&self, keys: &[PartitionKey]) -> Result<HashMap<PartitionKey, OffsetRow>, DbError> {
        let rows = self.parts.claims.rows(keys).await?;
        Ok(rows.into_iter().map(|row| (row.key.clone(), row)).collect())
    }

    /// Somebody holds a row's lock: that partition waits, the others go on.
    async fn locked(&mut self, taken: &Taken) {
        let keys: Vec<PartitionKey> = taken.buffers.iter().map(|buffer| buffer.key.clone()).collect();
        let free = self.parts.claims.unlocked(&keys).await.unwrap_or_default();
        for buffer in &taken.buffers {
            if !free.contains(&buffer.key) {
                // Alone, until it gets through: the others' work must not be rolled back for it again.
                let wait = self.caution.wait(&buffer.key).max(LOCKED_HOLD);
                tracing::warn!(partition = %buffer.key, retry_in = ?wait,
                    "another session holds the lock of this partition's offset row");
                buffer.hold_until(Instant::now() + wait);
            }
        }
        self.parts.counters.retries.fetch_add(1, Ordering::Relaxed);
        self.put_back(taken);
    }

    async fn failed(&mut self, taken: &Taken, error: HandlerError) {
        let report = describe(&error);
        match error.verdict().class {
            // The server ended a statement or the transaction for taking too long, before the worker did.
            Class::OwnTimeout => self.timed_out(taken).await,
            Class::Reject => self.rejected(taken, &error, &report),
            Class::Halt => self.culprit(taken, ErrorKind::Handler, &report),
            Class::RetryThenHalt if self.out_of_retries(taken) => {
                self.culprit(taken, ErrorKind::Handler, &report)
            }
            // Also a password that was changed while running: it may be changed back, and halting helps nobody.
            Class::Environment | Class::RetryThenHalt | Class::Authentication => {
                self.put_back(taken);
                if error.verdict().connection == Connection::Keep {
                    self.try_apart(taken, &report);
                } else {
                    self.pause(&report).await;
                }
            }
        }
    }

    /// The database is there, so the trouble may be one partition's alone (a locked row of the sink, a service that
    /// the handler asks): it waits by itself, and the others go on.
    fn try_apart(&mut self, taken: &Taken, why: &str) {
        self.parts.counters.retries.fetch_add(1, Ordering::Relaxed);
        if let [buffer] = taken.buffers.as_slice() {
            let wait = self.caution.wait(&buffer.key);
            tracing::warn!(partition = %buffer.key, why, retry_in = ?wait, "a batch was not applied; trying again");
            buffer.hold_until(Instant::now() + wait);
        } else {
            tracing::warn!(batch = ?taken.batch, why, "a batch was not applied; trying its partitions one by one");
            self.separate(taken);
        }
    }

    fn separate(&mut self, taken: &Taken) {
        self.caution.separate(taken.buffers.iter().map(|buffer| &buffer.key));
    }

    fn out_of_retries(&mut self, taken: &Taken) -> bool {
        let mut out = false;
        for part in &taken.batch.parts {
            out |= self.caution.strike_retry(&part.key, part.from.get());
        }
        out
    }

    /// Data that cannot be applied: find the record, apply what is before it, halt there.
    fn rejected(&mut self, taken: &Taken, error: &HandlerError, report: &str) {
        let named = error.record().and_then(|id| {
            let part = taken
                .batch
                .parts
                .iter()
                .position(|part| part.key.topic == id.topic && part.key.partition == id.partition)?;
            taken.batch.parts[part]
                .records()
                .any(|record| record.offset() == id.offset)
                .then_some((part, id.offset))
        });
        let single = || {
            let mut records = taken.batch.records();
            let only = records.next()?;
            let part = taken.batch.parts.iter().position(|part| part.len() == 1)?;
            records.next().is_none().then_some((part, only.offset()))
        };
        if let Some((part, offset)) = named.or_else(single) {
            let key = &taken.batch.parts[part].key;
            let why = format!(
                "record {key}@{offset} was rejected: {report}; the records before it are applied; correct the data or \
                 the handler, then restart the worker"
            );
            taken.buffers[part].stop_at(offset, Halt::new(ErrorKind::Handler, why));
        } else {
            self.narrow(taken);
        }
        self.put_back(taken);
    }

    fn narrow(&mut self, taken: &Taken) {
        let mut with_records = taken.batch.parts.iter().filter(|part| part.len() > 0);
        match (with_records.next(), with_records.next()) {
            (Some(part), None) => self.caution.halve(&part.key, part.len()),
            _ => self.separate(taken),
        }
    }

    /// The batch cannot be applied and it is not the data's fault: halt the partition it comes from, but first
    /// make sure which one that is.
    fn culprit(&mut self, taken: &Taken, kind: ErrorKind, why: &str) {
        let with_records = taken.batch.parts.iter().filter(|part| part.len() > 0).count();
        if with_records > 1 {
            self.separate(taken);
            return self.put_back(taken);
        }
        for (part, buffer) in taken.pairs() {
            if part.len() > 0 || with_records == 0 {
                buffer.abandoned(part);
                self.end(buffer, After::Halt(Halt::new(kind, range(part, why))));
            } else {
                buffer.put_back(part.clone());
            }
        }
    }

    /// Too slow: the backend was ended. Claim again, with half of it; halt only when a single record is too slow
    /// several times while the database answers quickly.
    async fn timed_out(&mut self, taken: &Taken) {
        tracing::warn!(batch = ?taken.batch, "a batch took longer than max_processing_time and was cancelled");
        self.parts.counters.retries.fetch_add(1, Ordering::Relaxed);
        let single = taken.batch.len() == 1;
        self.narrow(taken);
        let mut halt = None;
        if single && let Some(part) = taken.batch.parts.iter().find(|part| part.len() == 1) {
            let limit = self.parts.limits.single_record_timeouts;
            if self.caution.strike(&part.key, part.from.get(), limit) && self.answers_quickly().await {
                halt = Some(part.key.clone());
            }
        }
        for (part, buffer) in taken.pairs() {
            buffer.abandoned(part);
            let after = if halt.as_ref() == Some(&part.key) {
                let why = "this single record takes longer than max_processing_time every time, though the database \
                           answers quickly; fix the handler or raise the limit, then restart the worker";
                After::Halt(Halt::new(ErrorKind::Handler, range(part, why)))
            } else {
                After::Claim
            };
            self.end(buffer, after);
        }
    }

    /// A thread that is blocked for good is lost until the process ends: there is a limit to that.
    fn crowded(&mut self, taken: &Taken) {
        self.parts.counters.retries.fetch_add(1, Ordering::Relaxed);
        let why = format!(
            "the handler blocks its thread for longer than max_processing_time, and {MAX_ABANDONED} other handlers that \
             were given up do so still; have it wait with await, or in spawn_blocking, then restart the worker"
        );
        for (part, buffer) in taken.pairs() {
            buffer.abandoned(part);
            self.end(buffer, After::Halt(Halt::new(ErrorKind::Handler, range(part, &why))));
        }
    }

    async fn answers_quickly(&self) -> bool {
        let answer = async {
            let client = self.parts.claims.db().lease().await.ok()?;
            let answer = client.simple_query("SELECT 1").await.ok()?;
            client.give_back();
            Some(answer)
        };
        matches!(tokio::time::timeout(QUICK_ANSWER, answer).await, Ok(Some(_)))
    }
}

impl Taken {
    fn pairs(&self) -> impl Iterator<Item = (&Part, &Arc<PartitionBuffer>)> {
        self.batch.parts.iter().zip(&self.buffers)
    }
}

/// The error without data of the user's: a log may not hold payloads.
fn describe(error: &HandlerError) -> String {
    match error.db_error().and_then(telling::message) {
        Some(message) => format!("{error}: {message}"),
        None => error.to_string(),
    }
}

fn range(part: &Part, why: &str) -> String {
    format!("{} [{}, {}): {why}", part.key, part.from, part.to)
}
