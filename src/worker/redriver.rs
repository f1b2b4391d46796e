//! Applies dead letters once more, as people have asked for: those of the partitions that this worker holds, by its own
//! handler, beside its lanes.
//!
//! A batch of letters is a batch like any other, but for how it is settled: the claim is locked, the letters' states change,
//! and the offset stays. What the judge says of a failure is heard here, too, and carried out on a list of letters: none of
//! it halts or holds up a partition.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::Instrument as _;

use super::heartbeat::HeldClaims;
use super::registrar::Writes;
use crate::backoff::Backoff;
use crate::batch::PartitionKey;
use crate::commit::{Attempt, Commit, FailedAgain};
use crate::config::Config;
use crate::consumer::PartitionBuffer;
use crate::db::{Db, DbError};
use crate::dead_letter::{Passed, Redrives, Rejection, Request, Waiting};
use crate::due::Trouble;
use crate::failpoint::failpoint;
use crate::handler::{ErasedHandler, HandlerThread};
use crate::verdict::{Act, Class, Memory, Place, Seen, judge};
use crate::{Batch, HandlerError, trace};

/// How often it is looked for redrives.
const INTERVAL: Duration = Duration::from_secs(1);
/// And while one waits for its rate, or for a partition that is held back.
const SOON: Duration = Duration::from_millis(100);
/// And where the tables do not have them yet.
const SELDOM: Duration = Duration::from_secs(60);
/// The most letters of a transaction; and of the first ones, so that what is not mended yet fails by the few.
const MOST: usize = 500;
const FIRST: usize = 10;
/// How often it is looked whether the claim is still held.
const CLOSED: Duration = Duration::from_millis(50);
/// How long the ends of other sessions may take to be noticed.
const NOTICE: Duration = Duration::from_millis(150);
/// The database "answers quickly" if it answers within this.
const QUICK_ANSWER: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Redriver {
    db: Arc<Db>,
    held: Arc<HeldClaims>,
    commit: Arc<Commit>,
    handler: Arc<dyn ErasedHandler>,
    thread: HandlerThread,
    redrives: Redrives,
    writes: Writes,
    standing: HashMap<PartitionKey, Standing>,
    /// Whose turn it was last.
    last: Option<PartitionKey>,
    most: usize,
    max_bytes: usize,
    single_record_timeouts: u32,
    backoff: Backoff,
}

/// Of the letters of one partition.
struct Standing {
    memory: Memory,
    /// Held back until then.
    until: Instant,
}

/// What a look at the redrives came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// Something was done, and there may be more.
    Worked,
    /// There is something to do, but not now.
    Waits,
    Nothing,
    NoTables,
}

/// Letters at work.
struct Work<'a> {
    request: Request,
    buffer: &'a Arc<PartitionBuffer>,
    batch: Arc<Batch>,
}

impl Redriver {
    pub(super) fn new(
        db: &Arc<Db>,
        held: &Arc<HeldClaims>,
        commit: &Arc<Commit>,
        handler: &Arc<dyn ErasedHandler>,
        config: &Config,
    ) -> Self {
        Self {
            held: Arc::clone(held),
            // Handlers that block must not cost the lanes what they may leave behind.
            thread: commit.thread_apart(),
            commit: Arc::clone(commit),
            handler: Arc::clone(handler),
            redrives: Redrives::new(Arc::clone(db)),
            writes: Writes::new(&handler.writes()),
            standing: HashMap::new(),
            last: None,
            most: config.batch_max_records.min(MOST),
            max_bytes: config.batch_max_bytes,
            single_record_timeouts: u32::try_from(config.single_record_timeouts).unwrap_or(u32::MAX),
            backoff: Backoff::new(config.retry_backoff_min, config.retry_backoff_max),
            db: Arc::clone(db),
        }
    }

    /// Works until aborted.
    pub(super) async fn run(mut self) {
        let mut backoff = self.backoff.clone();
        let mut trouble: Option<Trouble> = None;
        loop {
            let round = self.round().await;
            if round.is_ok() {
                trouble = None;
            }
            let wait = match round {
                Ok(Round::Worked) => {
                    backoff.reset();
                    continue;
                }
                Ok(Round::Waits) => SOON,
                Ok(Round::Nothing) => INTERVAL,
                Ok(Round::NoTables) => SELDOM,
                Err(error) => {
                    self.db.heed(&error);
                    let now = Instant::now();
                    if trouble.get_or_insert_with(|| Trouble::new(now)).is_due(now) {
                        tracing::warn!(%error, "dead letters are not redriven: they cannot be looked up; trying again");
                    }
                    backoff.next()
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    async fn round(&mut self) -> Result<Round, DbError> {
        let mut held = self.held.sorted();
        held.retain(|buffer| !buffer.is_closed());
        self.standing.retain(|key, _| held.iter().any(|buffer| buffer.key == *key));
        if held.is_empty() {
            return Ok(Round::Nothing);
        }
        let Some(requests) = self.redrives.running().await? else { return Ok(Round::NoTables) };
        let mut found = Round::Nothing;
        for request in requests {
            match self.work(request, &held).await? {
                Round::Worked => return Ok(Round::Worked),
                Round::Waits => found = Round::Waits,
                Round::Nothing | Round::NoTables => {}
            }
        }
        Ok(found)
    }

    /// Does a batch of a redrive's letters.
    async fn work(&mut self, request: Request, held: &[Arc<PartitionBuffer>]) -> Result<Round, DbError> {
        let partitions = self.redrives.partitions(&request, held).await?;
        // What was in the way of a partition of which nothing waits any more is over.
        for buffer in held.iter().filter(|buffer| !partitions.contains(&buffer.key)) {
            self.goes_on(&request, &buffer.key).await;
        }
        if partitions.is_empty() {
            self.redrives.conclude(&request).await?;
            return Ok(Round::Nothing);
        }
        let now = Instant::now();
        let Some(buffer) = self.choose(held, &partitions, now) else { return Ok(Round::Waits) };
        let standing = self.standing(&buffer.key, now);
        let most = standing.memory.alone().unwrap_or(usize::MAX).min(self.most);
        // So that they come evenly.
        let evenly = request.per_second.and_then(|per_second| usize::try_from(per_second / 5).ok());
        let parks = self.commit.policies().parks(&buffer.key.topic);
        // Another program may have held the partition when it was asked for.
        if !request.ignores_order && !parks && self.writes.of(&buffer.key.topic) != "append" {
            let why = format!(
                "the handler of {} does more than append, or does not say what it writes, and later records were applied since: \
                 ask again, with --ignore-order",
                buffer.key.topic
            );
            self.redrives.stop(&request, &why).await?;
            return Ok(Round::Worked);
        }
        let most = evenly.map_or(most, |evenly| most.min(evenly.max(1)));
        let waiting = self.redrives.waiting(&request, buffer, self.most, parks).await?;
        self.last = Some(buffer.key.clone());
        let (fit, passed): (Vec<Waiting>, Vec<Waiting>) =
            waiting.into_iter().partition(|waiting| waiting.passed.is_none());
        for why in Passed::ALL {
            let letters = passed.iter().filter(|waiting| waiting.passed == Some(why));
            let letters: Vec<i64> = letters.map(|waiting| waiting.letter).collect();
            if !letters.is_empty() {
                self.redrives.pass(&request, &letters, why, parks).await?;
            }
        }
        if !passed.is_empty() {
            self.goes_on(&request, &buffer.key).await;
        }
        // What comes after such a one of its key is behind it from now on.
        if parks && passed.iter().any(|waiting| waiting.passed == Some(Passed::Ineligible)) {
            return Ok(Round::Worked);
        }
        let fit = &fit[..within(self.max_bytes, &fit).min(most)];
        if fit.is_empty() {
            return Ok(Round::Worked);
        }
        if !self.redrives.turn(&request, fit.len()).await? {
            return Ok(Round::Waits);
        }
        let Some(mut batch) = self.redrives.batch(&request, buffer, fit).await? else {
            return Ok(Round::Worked);
        };
        if self.commit.policies().is_any() {
            batch.set_policies(self.commit.policies());
        }
        failpoint!("redrive_taken");
        let work = Work { request, buffer, batch: Arc::new(batch) };
        let lost = self.db.lost_sessions();
        let attempt = self.attempt(&work).await;
        self.conclude(work, attempt, lost).await?;
        Ok(Round::Worked)
    }

    /// The partition whose turn it is, of those that have something to do and are not held back.
    fn choose<'a>(
        &self,
        held: &'a [Arc<PartitionBuffer>],
        partitions: &[PartitionKey],
        now: Instant,
    ) -> Option<&'a Arc<PartitionBuffer>> {
        let is_ready =
            |key: &PartitionKey| self.standing.get(key).is_none_or(|standing| standing.until <= now);
        let waits =
            |buffer: &&Arc<PartitionBuffer>| partitions.contains(&buffer.key) && is_ready(&buffer.key);
        let ready: Vec<&'a Arc<PartitionBuffer>> = held.iter().filter(waits).collect();
        let is_next =
            |buffer: &&&Arc<PartitionBuffer>| self.last.as_ref().is_some_and(|last| buffer.key > *last);
        ready.iter().find(is_next).or(ready.first()).copied()
    }

    fn standing(&mut self, key: &PartitionKey, now: Instant) -> &mut Standing {
        let (most, backoff) = (self.most, &self.backoff);
        self.standing.entry(key.clone()).or_insert_with(|| {
            let mut memory = Memory::new(most, backoff.clone());
            memory.halve(2 * FIRST.min(most));
            Standing { memory, until: now }
        })
    }

    async fn attempt(&mut self, work: &Work<'_>) -> Attempt {
        let span = trace::process(&work.batch, &self.db.identity, None);
        let limit = self.commit.limit(async {
            // Nothing is lost by rolling back: they wait for the next one to hold the partition.
            while !work.buffer.is_closed() {
                tokio::time::sleep(CLOSED).await;
            }
        });
        tokio::pin!(limit);
        let apply = self.commit.apply(&work.batch, &self.handler, &mut self.thread, limit);
        let attempt = apply.instrument(span.clone()).await;
        trace::outcome(&span, &attempt);
        attempt
    }

    async fn conclude(&mut self, work: Work<'_>, attempt: Attempt, lost: u64) -> Result<(), DbError> {
        let Work { request, batch, .. } = &work;
        match attempt {
            Attempt::Applied => {
                let redriven = batch.applied();
                let failed = batch.len() - redriven;
                self.commit.meter().redrove(redriven, failed);
                let memory = &mut self.standing(&work.buffer.key, Instant::now()).memory;
                memory.relax();
                tracing::info!(
                    redrive = request.id,
                    ?batch,
                    redriven,
                    failed,
                    "dead letters were applied once more"
                );
                if failed > 0 {
                    memory.halve(2 * FIRST);
                }
                self.goes_on(request, &work.buffer.key).await;
                if failed > 0 {
                    self.redrives.conclude(request).await?;
                }
            }
            Attempt::Cancelled => {
                tracing::info!(
                    redrive = request.id,
                    ?batch,
                    "dead letters were not redriven: the claim is over"
                );
            }
            Attempt::Missed => {
                self.hold(&work, "its claim is over, or somebody has decided about one of them").await
            }
            Attempt::Locked(_) => self.hold(&work, "another session holds a lock that it needs").await,
            // Those that were redriven are not open any more, and are not found again.
            Attempt::Unknown { why, .. } => self.hold(&work, &why).await,
            // The first of each key: what comes after it waits behind it.
            Attempt::Overtaken(rejected) => {
                for (record, why) in rejected {
                    self.open_again(&work, record.offset, &why).await?;
                }
            }
            Attempt::NotParked => self.hold(&work, "nothing of it is parked").await,
            Attempt::Failed { place, error } => {
                let (class, why) = (error.cause().class, error.to_string());
                self.judge(&work, (place, class, &why), Some(&error), lost).await?;
            }
            Attempt::Panicked(message) => {
                let why = format!("the handler panicked: {message}");
                self.judge(&work, (Place::Statement, Class::Bug, &why), None, lost).await?;
            }
            // Who holds the lock is to blame, and no letter.
            Attempt::TimedOut(Some(_)) => {
                self.hold(&work, "it waited for another session's lock for too long").await
            }
            Attempt::TimedOut(None) => {
                let why = "it took longer than max_processing_time and was cancelled";
                self.judge(&work, (Place::Statement, Class::OwnTimeout, why), None, lost).await?;
            }
            Attempt::Crowded => {
                self.redrives
                    .stop(request, "too many handlers that were given up block their threads")
                    .await?;
            }
            Attempt::Smuggled => {
                let why = format!(
                    "the handler has ended the transaction that it was given: rows of {batch:?} may be durable though their dead \
                     letters are open; remove them, and fix the handler"
                );
                self.redrives.stop(request, &why).await?;
            }
        }
        Ok(())
    }

    /// As lanes have it judged; what would halt a partition leaves the letter open, with one attempt more.
    async fn judge(
        &mut self,
        work: &Work<'_>,
        (place, class, why): (Place, Class, &str),
        error: Option<&HandlerError>,
        lost: u64,
    ) -> Result<(), DbError> {
        if matches!(place, Place::Connect | Place::Begin) {
            self.hold(work, why).await;
            return Ok(());
        }
        let Some(part) = work.batch.parts.first() else { return Ok(()) };
        let (from, records) = (part.from.get(), work.batch.len());
        let letters = work.batch.redriven().map(|redriven| &redriven.letters);
        let named = error.and_then(HandlerError::record).map(|record| record.offset);
        let named = named.filter(|offset| letters.is_some_and(|letters| letters.contains_key(offset)));
        let mut seen = Seen {
            partitions: 1,
            records,
            times: 1,
            singles: 0,
            narrowed: false,
            named: named.is_some(),
            suspected: error.is_some_and(HandlerError::is_suspicion),
            alone: true,
            limit: self.single_record_timeouts,
        };
        if class == Class::Lost {
            tokio::time::sleep(NOTICE).await;
            seen.alone = self.db.lost_sessions() <= lost + 1;
        }
        let memory = &mut self.standing(&part.key, Instant::now()).memory;
        memory.failed(from, class, &mut seen);
        let mut act = judge(place, class, &seen).act;
        if act == Act::Name && class == Class::OwnTimeout && !self.answers_quickly().await {
            act = Act::Wait;
        }
        let memory = &mut self.standing(&part.key, Instant::now()).memory;
        match act {
            Act::Name => return self.again(work, named.unwrap_or(from), why, error).await,
            Act::Halve => {
                memory.halve(records);
                self.tell(work, &format!("fewer at a time: {why}")).await;
            }
            Act::Isolate => {
                let before = part.records().take_while(|record| Some(record.offset()) < named).count();
                memory.isolate(before);
            }
            Act::Halt => self.redrives.stop(&work.request, why).await?,
            _ => self.hold(work, why).await,
        }
        Ok(())
    }

    /// The letter at `offset` is open again, with one attempt more.
    async fn again(
        &mut self,
        work: &Work<'_>,
        offset: i64,
        why: &str,
        error: Option<&HandlerError>,
    ) -> Result<(), DbError> {
        let handler = self.commit.policies().handler(&work.buffer.key.topic);
        let rejection = match error {
            Some(error) => Rejection::of(handler, error),
            None => Rejection::of(handler, &HandlerError::fatal(why)),
        };
        self.open_again(work, offset, &rejection).await
    }

    async fn open_again(&mut self, work: &Work<'_>, offset: i64, why: &Rejection) -> Result<(), DbError> {
        let key = &work.buffer.key;
        let letters = work.batch.redriven().map(|redriven| &redriven.letters);
        let Some(&letter) = letters.and_then(|letters| letters.get(&offset)) else { return Ok(()) };
        let commit = Arc::clone(&self.commit);
        let handler = commit.policies().handler(&key.topic);
        let request = work.request.id;
        let failed = FailedAgain { request, letter, key, claim: work.buffer.claim, handler, why };
        let client = self.db.control().await?;
        let told = client.within(commit.redrive().failed(&***client.raw(), &failed)).await??;
        if told {
            commit.meter().redrove(0, 1);
            let reason = &why.reason;
            tracing::warn!(redrive = request, partition = %key, offset, letter, reason, "a dead letter was rejected again");
        }
        self.standing(key, Instant::now()).memory.found();
        self.goes_on(&work.request, key).await;
        self.redrives.conclude(&work.request).await
    }

    async fn hold(&mut self, work: &Work<'_>, why: &str) {
        let now = Instant::now();
        let standing = self.standing(&work.buffer.key, now);
        standing.memory.separate();
        let wait = standing.memory.wait();
        standing.until = now + wait;
        tracing::warn!(redrive = work.request.id, batch = ?work.batch, why, retry_in = ?wait,
            "dead letters were not redriven; trying again");
        self.tell(work, why).await;
    }

    /// Says in the database what holds it up. Where it cannot be said, it is in the log.
    async fn tell(&self, work: &Work<'_>, why: &str) {
        if let Err(error) = self.redrives.held_up(&work.request, work.buffer, why).await {
            tracing::debug!(%error, "could not say why a redrive does not get on");
        }
    }

    /// That nothing holds it up in this partition any more, if it is said: by this worker, or one before it.
    async fn goes_on(&self, request: &Request, key: &PartitionKey) {
        if request.is_held_up(key)
            && let Err(error) = self.redrives.goes_on(request, key).await
        {
            tracing::debug!(%error, "could not say that a redrive goes on");
        }
    }

    async fn answers_quickly(&self) -> bool {
        let answer = async {
            let client = self.db.control().await.ok()?;
            client.simple_query("SELECT 1").await.ok()
        };
        matches!(tokio::time::timeout(QUICK_ANSWER, answer).await, Ok(Some(_)))
    }
}

/// How many of them may be held in memory at a time; one may be of any size.
fn within(max_bytes: usize, waiting: &[Waiting]) -> usize {
    let mut bytes = 0_usize;
    let fit = waiting.iter().take_while(|waiting| {
        bytes = bytes.saturating_add(waiting.bytes);
        bytes <= max_bytes
    });
    fit.count().max(1).min(waiting.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_as_many_bytes_as_any_other_and_one_letter_at_least() {
        let waiting: Vec<Waiting> =
            [5, 6, 7, 100].map(|bytes| Waiting { letter: 0, offset: 0, passed: None, bytes }).into();
        for (max, fit) in [(0, 1), (5, 1), (11, 2), (17, 2), (18, 3), (usize::MAX, 4)] {
            assert_eq!(within(max, &waiting), fit, "{max}");
        }
        assert_eq!(within(10, &[]), 0);
    }
}
