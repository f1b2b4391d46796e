//! Carrying out what the judge says of a batch that failed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Lane;
use super::fill::Taken;
use super::process::range;
use crate::batch::{Part, PartitionKey};
use crate::consumer::PartitionBuffer;
use crate::dead_letter::{PARKED, Rejection};
use crate::metrics::meter::Retry;
use crate::partition::{After, Halt};
use crate::verdict::{Act, Class, Place, Seen, Verdict, Who, judge, may_be_set_aside};
use crate::{ErrorKind, HandlerError, Record};

/// How long the ends of other sessions may take to be noticed, before it is concluded that there were none.
const NOTICE: Duration = Duration::from_millis(150);

/// A batch that was not applied, as far as is known.
pub(super) struct Failure<'a> {
    pub(super) place: Place,
    pub(super) class: Class,
    pub(super) error: Option<&'a HandlerError>,
    /// In words that hold no data.
    pub(super) why: String,
    /// It was waiting for somebody's lock when it was given up.
    pub(super) waited: bool,
}

impl Failure<'_> {
    /// How many records of a part it may be about. What is parked takes time, and is no handler's to stumble over.
    fn records(&self, part: &Part) -> usize {
        match self.class {
            Class::OwnTimeout | Class::Environment | Class::Lost => part.all(),
            _ => part.len(),
        }
    }

    /// Whether nothing of the batch was sent.
    fn is_of_no_batch(&self) -> bool {
        matches!(self.place, Place::Connect | Place::Begin)
    }

    /// Whether a new claim must say first where the partitions stand: a commit may have been carried out, or a handler
    /// that was given up still be at work.
    fn ends_claims(&self) -> bool {
        match self.place {
            Place::Commit => self.error.is_none(),
            _ => self.class == Class::OwnTimeout,
        }
    }
}

impl Lane {
    /// Lets the judge say what follows, for each partition that may be to blame. The others go on as they were.
    pub(super) async fn judge(&mut self, taken: &Taken, failure: &Failure<'_>) {
        self.parts.counters.retried(Retry::Class(failure.class));
        let suspects = suspects(taken, failure);
        let named = failure.error.and_then(|error| named(taken, error));
        let records = suspects.iter().map(|&at| failure.records(&taken.batch.parts[at])).sum();
        let mut seen = self.seen(suspects.len(), records);
        seen.named = named.is_some();
        seen.suspected = failure.error.is_some_and(HandlerError::is_suspicion);
        if failure.class == Class::Lost {
            seen.alone = self.lost_alone().await;
        }
        if !failure.is_of_no_batch() {
            // Of several, whoever has failed most often at its position.
            let counted = suspects.iter().map(|&at| {
                let mut one = seen;
                let from = taken.batch.parts[at].from.get();
                taken.buffers[at].memory().failed(from, failure.class, &mut one);
                one
            });
            seen = counted.max_by_key(|one| one.times).unwrap_or(seen);
        }
        let mut verdict = judge(failure.place, failure.class, &seen);
        // A lock that somebody holds makes any record slow, and so does a database that is slow itself.
        if verdict.act == Act::Name
            && failure.class == Class::OwnTimeout
            && (failure.waited || !self.answers_quickly().await)
        {
            verdict.act = Act::Wait;
        }
        self.parts.counters.batches.judged(verdict.act);
        Self::tell(taken, &suspects, failure, verdict);
        for &at in suspects.iter().filter(|_| !failure.is_of_no_batch()) {
            let from = taken.batch.parts[at].from.get();
            let text = format!("trying again: {}{}", failure.why, times(seen.times));
            taken.buffers[at].memory().is_in_trouble(from, text);
        }
        let shared = !seen.alone && suspects.len() > 1;
        if verdict.act == Act::Wait && (failure.is_of_no_batch() || shared) {
            // Not this batch's trouble: whatever the lane tries next would meet it, too.
            self.let_go(taken, failure, None);
            return self.pause(&failure.why).await;
        }
        if verdict.act == Act::Name
            && let Some((at, record)) = parked_beyond_limit(taken, failure, named)
            && self.key_moves(&taken.buffers[at], &record).await
        {
            return self.let_go(taken, failure, None);
        }
        let grant = match verdict {
            Verdict { act: Act::Name | Act::Halt, who: Who::Configuration } => self.grant(failure).await,
            _ => String::new(),
        };
        let halt = self.rule(taken, failure, &suspects, named, Ruling { verdict, grant: &grant });
        self.let_go(taken, failure, halt.as_ref());
        let concerned =
            named.filter(|_| verdict.act == Act::Isolate).map(|(at, _)| vec![at]).unwrap_or(suspects);
        for &at in &concerned {
            self.take_aside(&taken.buffers[at]);
        }
    }

    /// Notes on the suspects what is ruled; gives the part that halts at once, and why.
    fn rule(
        &self,
        taken: &Taken,
        failure: &Failure<'_>,
        suspects: &[usize],
        named: Option<(usize, i64)>,
        ruling: Ruling<'_>,
    ) -> Option<(usize, Halt)> {
        let (parts, verdict) = (&taken.batch.parts, ruling.verdict);
        match verdict.act {
            Act::Name => {
                let single = || {
                    let at = *suspects.first()?;
                    Some((at, parts[at].records().next().or_else(|| parts[at].every().next())?.offset()))
                };
                let kind = match (verdict.who, failure.place) {
                    (Who::Configuration, _) => ErrorKind::Privilege,
                    (_, Place::CompareAndSet) => ErrorKind::Schema,
                    _ => ErrorKind::Handler,
                };
                let Some((at, offset)) = named.or_else(single) else {
                    // No record at all: its offset alone cannot be moved.
                    let at = *suspects.first()?;
                    let mend = if ruling.grant.is_empty() { "mend that" } else { ruling.grant };
                    let why = format!("{}; {mend}, then `highwater partitions retry`", failure.why);
                    return Some((at, Halt::new(kind, range(&parts[at], &why))));
                };
                if let Some(why) = self.set_aside(&parts[at].key, failure, verdict) {
                    taken.buffers[at].set_aside(offset, why);
                    return None;
                }
                let halt = Halt::new(kind, blame(&parts[at], offset, ruling, failure));
                if failure.ends_claims() {
                    return Some((at, halt));
                }
                taken.buffers[at].stop_at(offset, halt);
                None
            }
            Act::Halt => {
                let at = *suspects.first()?;
                let why = format!("{}; mend that, then `highwater partitions retry`", failure.why);
                Some((at, Halt::new(ErrorKind::Handler, range(&parts[at], &why))))
            }
            Act::Halve => {
                for &at in suspects {
                    taken.buffers[at].memory().halve(parts[at].all());
                    self.note(&taken.buffers[at], &failure.why);
                }
                None
            }
            Act::Isolate => {
                if let Some((at, offset)) = named {
                    let before = parts[at].every().take_while(|record| record.offset() < offset).count();
                    taken.buffers[at].memory().isolate(before);
                    self.note(&taken.buffers[at], &failure.why);
                }
                None
            }
            Act::Apart => {
                for &at in suspects {
                    taken.buffers[at].memory().separate();
                    self.note(&taken.buffers[at], &failure.why);
                }
                None
            }
            _ => {
                for &at in suspects {
                    self.hold(&taken.buffers[at], &failure.why, Duration::ZERO);
                }
                None
            }
        }
    }

    /// Whether a record that would be parked beyond a limit is let through before long: its key waits no more, or a redrive
    /// is at it, for which its partition waits.
    async fn key_moves(&self, buffer: &PartitionBuffer, record: &Record<'_>) -> bool {
        let (commit, held) = (&self.parts.commit, [(buffer.key.clone(), buffer.claim)]);
        let Ok(mut found) = commit.waiting_keys(&held).await else { return false };
        let Some(keys) = found.remove(&buffer.key) else { return false };
        if keys.behind(record.key(), record.offset()).is_none() {
            buffer.know_keys(keys);
            return true;
        }
        let is_redriven = commit.is_redriven(&buffer.key).await;
        if is_redriven {
            let why = "a redrive is at what its key waits behind, and there would be too many dead letters";
            self.hold(buffer, why, Duration::ZERO);
        }
        is_redriven
    }

    /// Why the record that is named is to be stored and stepped over, if the policy of its route and the judge let it.
    fn set_aside(&self, key: &PartitionKey, failure: &Failure<'_>, verdict: Verdict) -> Option<Rejection> {
        let policies = self.parts.commit.policies();
        let error = failure.error.filter(|error| error.limit().is_none())?;
        let fits = may_be_set_aside(failure.place, failure.class, verdict, error.sqlstate());
        (fits && policies.sets_aside(&key.topic)).then(|| Rejection::of(policies.handler(&key.topic), error))
    }

    /// What would end a refusal by the server.
    async fn grant(&self, failure: &Failure<'_>) -> String {
        match failure.error.and_then(HandlerError::db_error) {
            Some(error) => self.parts.claims.db().way_to(error).await,
            None => "grant the worker's role what it lacks".to_owned(),
        }
    }

    /// Puts the parts back, or ends their claims.
    fn let_go(&self, taken: &Taken, failure: &Failure<'_>, halt: Option<&(usize, Halt)>) {
        for (at, (part, buffer)) in taken.pairs().enumerate() {
            match halt {
                Some((halts, why)) if *halts == at => {
                    buffer.abandoned(part);
                    self.end(buffer, After::Halt(why.clone()));
                }
                _ if failure.ends_claims() => {
                    buffer.abandoned(part);
                    self.end(buffer, After::Claim);
                }
                _ => buffer.put_back(part.clone()),
            }
        }
    }

    pub(super) fn seen(&self, partitions: usize, records: usize) -> Seen {
        Seen {
            partitions,
            records,
            times: 1,
            singles: 0,
            narrowed: false,
            named: false,
            suspected: false,
            alone: true,
            limit: self.parts.limits.single_record_timeouts,
        }
    }

    /// Has a partition wait by itself, for `least` at least; tells for how long.
    pub(super) fn hold(&self, buffer: &PartitionBuffer, why: &str, least: Duration) -> Duration {
        let mut memory = buffer.memory();
        memory.separate();
        let wait = memory.wait().max(least);
        drop(memory);
        buffer.hold_until(Instant::now() + wait);
        self.note(buffer, why);
        wait
    }

    fn note(&self, buffer: &PartitionBuffer, why: &str) {
        buffer.note(Some(format!("trying again: {why}")));
    }

    /// Gives a partition that gets batches of its own to a lane where its tries hold up nobody, if there is anybody.
    pub(super) fn take_aside(&self, buffer: &Arc<PartitionBuffer>) {
        let apart = buffer.memory().alone().is_some();
        if apart && !self.is_aside && self.shared.len() > 1 && !buffer.is_closed() && !buffer.in_flight() {
            self.shared.give(buffer, self.parts.lanes.emptiest_aside());
        }
    }

    /// Whether the session that this lane has just lost is the only one. Those that are lost together are lost for the
    /// server's sake, or the network's.
    async fn lost_alone(&self) -> bool {
        tokio::time::sleep(NOTICE).await;
        self.parts.claims.db().lost_sessions() <= self.lost_before + 1
    }
}

/// What is said of a failure, and what would end it where that is a right.
#[derive(Debug, Clone, Copy)]
struct Ruling<'a> {
    verdict: Verdict,
    grant: &'a str,
}

/// How often that has happened, where it is more than once.
fn times(times: u32) -> String {
    if times > 1 { format!(" ({times} times)") } else { String::new() }
}

/// Which parts may be to blame: those with records, of the handler that failed, if that is known.
fn suspects(taken: &Taken, failure: &Failure<'_>) -> Vec<usize> {
    let parts = &taken.batch.parts;
    let with = |fits: &dyn Fn(&Part) -> bool| -> Vec<usize> {
        (0..parts.len()).filter(|&at| fits(&parts[at])).collect()
    };
    let of_handler = |part: &Part| failure.error.is_none_or(|error| error.may_concern(&part.key.topic));
    let suspects = with(&|part| part.len() > 0 && of_handler(part));
    if !suspects.is_empty() {
        return suspects;
    }
    let suspects = with(&|part| part.len() > 0);
    if suspects.is_empty() { with(&|_| true) } else { suspects }
}

/// The record that the error names, if it is one of the batch's.
fn named(taken: &Taken, error: &HandlerError) -> Option<(usize, i64)> {
    let id = error.record()?;
    let parts = &taken.batch.parts;
    let at = parts.iter().position(|part| part.is_of(id))?;
    let found = parts[at].records().any(|record| record.offset() == id.offset);
    // The commit's own word of one that no handler is given (any more).
    let is_letter =
        || error.limit().is_some() && parts[at].every().any(|record| record.offset() == id.offset);
    (found || is_letter()).then_some((at, id.offset))
}

/// A record that would be parked and is one too many, and the part that it is of.
fn parked_beyond_limit<'a>(
    taken: &'a Taken,
    failure: &Failure<'_>,
    named: Option<(usize, i64)>,
) -> Option<(usize, Record<'a>)> {
    failure.error.and_then(HandlerError::limit)?;
    let (at, offset) = named?;
    let mut parked = taken.batch.parts[at].parked().map(|(record, _)| record);
    Some((at, parked.find(|record| record.offset() == offset)?))
}

/// The text of a halt at a record.
fn blame(part: &Part, offset: i64, ruling: Ruling<'_>, failure: &Failure<'_>) -> String {
    let (key, why) = (&part.key, &failure.why);
    // The error may name the record itself.
    let why = why.strip_prefix(&format!("record {key}@{offset} rejected: ")).unwrap_or(why);
    let applied = "the records before it are applied";
    let retry = "`highwater partitions retry`";
    let after = offset.saturating_add(1);
    let or_skip = format!("or step over it: `highwater partitions skip --to {after} --reason …`");
    match (ruling.verdict.who, failure.class) {
        (_, Class::OwnTimeout) => format!(
            "record {key}@{offset}: this single record takes longer than max_processing_time every time, though the \
             database answers quickly; {applied}; mend what takes so long, then {retry}, start the worker anew with a higher \
             limit, {or_skip}"
        ),
        (_, Class::Lost) => format!(
            "record {key}@{offset} loses its session with Postgres every time, though others keep theirs ({why}); \
             {applied}; correct the data, the handler or what the database does with it, then {retry}, {or_skip}"
        ),
        (Who::Configuration, _) => format!(
            "the worker's role may not do what is asked of it at {key}@{offset}: {why}; no record is to blame, and {applied}; \
             {grant}, then {retry}",
            grant = ruling.grant
        ),
        (Who::Record, _) => match failure.error.and_then(HandlerError::limit) {
            None => format!(
                "record {key}@{offset} was rejected: {why}; {applied}; correct the data or the handler, then {retry}, {or_skip}"
            ),
            Some(limit) => {
                let found = match why.strip_prefix(PARKED) {
                    Some(behind) => format!("waits for another: {behind}"),
                    None => format!("was rejected: {why}"),
                };
                format!(
                    "record {key}@{offset} {found}; it is not set aside, for {limit}; the records before it are applied, or \
                     are dead letters; see what they have in common with `highwater dead-letters stats`, mend that, then \
                     {retry}, or start the worker anew with a higher limit"
                )
            }
        },
        _ => format!(
            "record {key}@{offset} cannot be applied: {why}; {applied}; mend the handler or the tables, or correct the \
             data, then {retry}, {or_skip}"
        ),
    }
}
