//! From "Kafka assigned it" to "Postgres granted it": the tasks that obtain claims.
//!
//! A claim's statement is never cancelled: it may have been carried out. Its answer is always passed on, and a
//! claim that came too late is released by its token.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};
use uuid::Uuid;

use super::guard::{Unanswered, Verdict};
use super::lost_answer::LostAnswers;
use super::mark::Marks;
use super::start::{Added, Start};
use super::{Claimed, Claims, Guard, Waiting};
use crate::NextOffset;
use crate::backoff::Backoff;
use crate::batch::PartitionKey;
use crate::batch::{Assigned, AssignmentId};
use crate::config::OnOffsetLost;
use crate::consumer::buffer::Seen;
use crate::consumer::catalog::Available;
use crate::db::DbError;
use crate::due::{Trouble, span};
use crate::partition::Halt;

/// Claims that may wait for a lock at the same time; half of the control connections, so that releases and
/// reads always find one.
const WAITING_CLAIMS: usize = 4;
/// How often a row is looked at that its draining owner will release any moment.
const DRAINING_POLL: Duration = Duration::from_millis(25);
/// First and longest wait before Kafka is asked again where a partition without a row begins.
const UNANSWERED_WAIT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How often a row is looked at that another live process holds, where nobody arbitrates.
const HELD_POLL: Duration = Duration::from_millis(250);
/// How often a row is looked at that an operator has paused.
const PAUSED_POLL: Duration = Duration::from_secs(1);

/// What became of a claim.
#[derive(Debug)]
pub(crate) struct ClaimOutcome {
    pub(crate) assigned: Assigned,
    /// Granted and guarded; or refused for good, with the claim if the row was claimed before.
    pub(crate) result: Result<Claimed, (Option<Claimed>, Halt)>,
}

/// Which assignments are current, shared with the tasks that claim for them, and what those are waiting for.
#[derive(Debug, Default)]
pub(crate) struct StillAssigned(Mutex<HashMap<PartitionKey, (AssignmentId, Option<Waiting>)>>);

impl StillAssigned {
    pub(crate) fn set(&self, key: &PartitionKey, id: Option<AssignmentId>) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match id {
            Some(id) => current.insert(key.clone(), (id, None)),
            None => current.remove(key),
        };
    }

    /// Nothing is assigned any more: what is not claimed yet never will be.
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn is_current(&self, assigned: &Assigned) -> bool {
        let current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        current.get(&assigned.key).is_some_and(|(id, _)| *id == assigned.id)
    }

    /// What the claim of a partition is waiting for, if that is worth telling.
    pub(crate) fn waiting_for(&self, key: &PartitionKey) -> Option<Waiting> {
        let current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        current.get(key).and_then(|(_, what)| what.clone())
    }

    /// Notes what is waited for; `true` if that is news.
    fn note(&self, assigned: &Assigned, what: Option<Waiting>) -> bool {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match current.get_mut(&assigned.key) {
            Some((id, noted)) if *id == assigned.id && *noted != what => {
                *noted = what;
                true
            }
            _ => false,
        }
    }
}

/// Obtains claims in the background.
#[derive(Debug, Clone)]
pub(crate) struct Obtain {
    pub(crate) claims: Arc<Claims>,
    pub(crate) guard: Guard,
    pub(crate) start: Arc<Start>,
    pub(crate) marks: Arc<Marks>,
    pub(crate) still: Arc<StillAssigned>,
    pub(crate) backoff: Backoff,
    on_lost: OnOffsetLost,
    waiting: Arc<Semaphore>,
    outcomes: mpsc::UnboundedSender<ClaimOutcome>,
}

impl Obtain {
    /// `outcomes` is unbounded because it must never hold up a claim; there is at most one per assignment.
    pub(crate) fn new(
        claims: Arc<Claims>,
        guard: Guard,
        start: Arc<Start>,
        marks: Arc<Marks>,
        backoff: Backoff,
        on_lost: OnOffsetLost,
        outcomes: mpsc::UnboundedSender<ClaimOutcome>,
    ) -> Self {
        let still = Arc::default();
        Self {
            claims,
            guard,
            start,
            marks,
            still,
            backoff,
            on_lost,
            waiting: Arc::new(Semaphore::new(WAITING_CLAIMS)),
            outcomes,
        }
    }

    /// Claims in the background; one outcome per element follows, except for what is revoked meanwhile.
    pub(crate) fn claim(&self, assigned: Vec<Assigned>) {
        let this = self.clone();
        tokio::spawn(async move { this.claim_all(assigned).await });
    }

    /// After a while, so that two that claim in turn leave each other time.
    fn claim_later(&self, assigned: Assigned) {
        let this = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(this.backoff.clone().next()).await;
            this.claim_all(vec![assigned]).await;
        });
    }

    /// First all free rows in one statement, then each of the rest on its own, so that one bad row delays only
    /// itself.
    async fn claim_all(self, mut assigned: Vec<Assigned>) {
        let mut backoff = self.backoff.clone();
        let (mut lost, mut trouble) = (LostAnswers::default(), None::<Trouble>);
        loop {
            // Only what is assigned at the moment of sending.
            assigned.retain(|assigned| {
                let current = self.still.is_current(assigned);
                if !current {
                    lost.give_back(&self.claims, &assigned.key);
                }
                current
            });
            if assigned.is_empty() {
                return;
            }
            let keys: Vec<_> = assigned.iter().map(|assigned| assigned.key.clone()).collect();
            let tokens: Vec<_> = keys.iter().map(|_| Uuid::new_v4()).collect();
            match self.claims.claim_free(&keys, &tokens).await {
                Ok(claimed) => {
                    let mut held = Vec::with_capacity(claimed.len());
                    for claimed in claimed {
                        let Some(index) = assigned.iter().position(|assigned| assigned.key == claimed.key)
                        else {
                            continue;
                        };
                        held.push((assigned.swap_remove(index), claimed));
                    }
                    let this = self.clone();
                    tokio::spawn(async move { this.granted(held).await });
                    break;
                }
                Err(error) => {
                    lost.note(&error, &keys, &tokens);
                    self.wait_after(&error, &mut backoff, &mut trouble, &assigned).await;
                }
            }
        }
        for assigned in assigned {
            let (this, lost) = (self.clone(), lost.of(&assigned.key));
            tokio::spawn(async move { this.claim_one(assigned, lost).await });
        }
    }

    /// `lost`: of earlier claims for the same assignment.
    async fn claim_one(self, assigned: Assigned, mut lost: LostAnswers) {
        let (mut backoff, mut trouble) = (self.backoff.clone(), None::<Trouble>);
        let mut unanswered = Backoff::new(UNANSWERED_WAIT.0, UNANSWERED_WAIT.1);
        while self.still.is_current(&assigned) {
            let token = Uuid::new_v4();
            match self.try_one(&assigned, token).await {
                Ok(Step::Claimed(claimed)) => {
                    self.still.note(&assigned, None);
                    if let Some(words) = trouble {
                        let lasted = span(words.lasted(Instant::now()));
                        let (topic, partition) = (&claimed.key.topic, claimed.key.partition);
                        tracing::info!("partition {topic}:{partition} is claimed after {lasted}");
                    }
                    return self.granted(vec![(assigned, claimed)]).await;
                }
                Ok(Step::Refused(why)) => return self.send(assigned, Err((None, why))),
                Ok(Step::Wait(pause)) => tokio::time::sleep(pause).await,
                Ok(Step::Unanswered(why)) => {
                    let wait = unanswered.next();
                    if self.still.note(&assigned, Some(Waiting::on_answer(why.clone()))) {
                        tracing::warn!(partition = %assigned.key, "{why}");
                    }
                    tokio::time::sleep(wait).await;
                }
                Err(error) => {
                    lost.note(&error, std::slice::from_ref(&assigned.key), &[token]);
                    self.wait_after(&error, &mut backoff, &mut trouble, std::slice::from_ref(&assigned))
                        .await;
                }
            }
        }
        lost.give_back(&self.claims, &assigned.key);
    }

    async fn try_one(&self, assigned: &Assigned, token: Uuid) -> Result<Step, DbError> {
        let key = &assigned.key;
        let row = self.claims.rows(std::slice::from_ref(key)).await?.pop();
        let Some(row) = row else {
            return Ok(match self.start.added_partition(key).await? {
                Ok(Added::Recorded) => Step::Wait(Duration::ZERO),
                Ok(Added::Unanswered(why)) => Step::Unanswered(why),
                Err(why) => Step::Refused(why),
            });
        };
        if let Some(reason) = &row.paused_reason {
            if row.halted {
                return Ok(Step::Refused(Halt::by_operator(key, reason)));
            }
            if self.still.note(assigned, Some(Waiting::on_operator(reason))) {
                tracing::info!(partition = %key, reason, "paused by an operator; waiting");
            }
            return Ok(Step::Wait(PAUSED_POLL));
        }
        let held = self.claims.held_by_another(&row).await?;
        if self.still.note(assigned, held.clone().map(Waiting::on_process))
            && let Some(why) = &held
        {
            tracing::warn!(partition = %key, "{why}");
        }
        if held.is_some() {
            return Ok(Step::Wait(HELD_POLL));
        }
        if row.draining {
            return Ok(Step::Wait(DRAINING_POLL));
        }
        let _permit = self.waiting.acquire().await;
        if !self.still.is_current(assigned) {
            return Ok(Step::Wait(Duration::ZERO));
        }
        // No row: it was paused, began to drain or vanished since. The next look says which.
        Ok(self.claims.claim_waiting(&row, token).await?.map_or(Step::Wait(DRAINING_POLL), Step::Claimed))
    }

    /// Guards what was claimed, all of it together, for as long as Kafka takes to answer.
    async fn granted(self, mut held: Vec<(Assigned, Claimed)>) {
        let mut backoff = self.backoff.clone();
        // Found beyond the end once.
        let mut beyond = HashSet::new();
        loop {
            let (current, revoked): (Vec<_>, Vec<_>) =
                held.into_iter().partition(|(assigned, _)| self.still.is_current(assigned));
            for (assigned, claimed) in revoked {
                // The state machine releases it.
                self.send(assigned, Ok(claimed));
            }
            if current.is_empty() {
                return;
            }
            held = match self.guarded(&current).await {
                Ok((verdicts, mut waiting)) => {
                    for (assigned, _) in &current {
                        self.still.note(assigned, waiting.remove(&assigned.key));
                    }
                    self.conclude(current, verdicts, &mut beyond).await
                }
                Err(error) => {
                    tracing::debug!(partitions = current.len(), %error, "no answer to the guard; trying again");
                    let text = format!("claimed; waits for an answer to the guard's questions ({error})");
                    for (assigned, _) in &current {
                        self.still.note(assigned, Some(Waiting::on_answer(text.clone())));
                    }
                    current
                }
            };
            if !held.is_empty() {
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }

    async fn guarded(
        &self,
        held: &[(Assigned, Claimed)],
    ) -> Result<(Vec<(Verdict, Seen)>, HashMap<PartitionKey, Waiting>), Unanswered> {
        let claimed: Vec<Claimed> = held.iter().map(|(_, claimed)| claimed.clone()).collect();
        self.guard.check(&claimed).await
    }

    /// Reports what is decided; gives back what must be asked again.
    async fn conclude(
        &self,
        held: Vec<(Assigned, Claimed)>,
        verdicts: Vec<(Verdict, Seen)>,
        beyond: &mut HashSet<PartitionKey>,
    ) -> Vec<(Assigned, Claimed)> {
        let mut again = Vec::new();
        for ((assigned, mut claimed), (verdict, seen)) in held.into_iter().zip(verdicts) {
            match verdict {
                Verdict::Passed { identity, available } => {
                    self.claims.heard_of(&identity);
                    claimed.identity = identity;
                    claimed.seen = seen;
                    // Retention took the record itself, but not the position after it: nothing to compare with.
                    claimed.mark = claimed.mark.filter(|mark| mark.at >= available.low);
                    self.hand_over(assigned, claimed);
                }
                Verdict::Lost { why, .. } if self.on_lost == OnOffsetLost::Halt => {
                    self.send(assigned, Err((Some(claimed), why)));
                }
                Verdict::Lost { available, .. } => match self.step_over(&claimed, available).await {
                    // Guarded once more from there: retention may have gone on.
                    Ok(Some(to)) => {
                        again.push((assigned, Claimed { next_offset: to, mark: None, ..claimed }));
                    }
                    // Somebody else has claimed or moved it.
                    Ok(None) => self.claim_later(assigned),
                    Err(error) => {
                        tracing::warn!(partition = %claimed.key, %error, "a lost range was not recorded; claiming again");
                        self.claim_later(assigned);
                    }
                },
                Verdict::Beyond(_) if beyond.insert(claimed.key.clone()) => again.push((assigned, claimed)),
                Verdict::Beyond(why) | Verdict::Halted(why) => {
                    self.send(assigned, Err((Some(claimed), why)));
                }
                Verdict::Unanswered => again.push((assigned, claimed)),
            }
        }
        again
    }

    async fn step_over(
        &self,
        claimed: &Claimed,
        available: Available,
    ) -> Result<Option<NextOffset>, Unanswered> {
        let to = match self.on_lost {
            OnOffsetLost::Latest => self.guard.readable_end(&claimed.key).await?.max(available.low),
            OnOffsetLost::Earliest | OnOffsetLost::Halt => available.low,
        };
        let moved = self.claims.step_over_lost(claimed, to, available, self.on_lost).await;
        if !moved.map_err(Unanswered::Db)? {
            return Ok(None);
        }
        tracing::error!(partition = %claimed.key, from = %claimed.next_offset, %to, policy = self.on_lost.as_str(),
            "records were lost before they were applied; stepped over them, as configured, and recorded the range");
        Ok(Some(to))
    }

    /// Reports a claim that may be read under, as soon as its topic is marked in Kafka.
    fn hand_over(&self, assigned: Assigned, claimed: Claimed) {
        let this = self.clone();
        tokio::spawn(async move {
            this.marks.hold(&claimed, || this.still.is_current(&assigned)).await;
            // If it was revoked meanwhile, the state machine releases it.
            this.send(assigned, Ok(claimed));
        });
    }

    fn send(&self, assigned: Assigned, result: Result<Claimed, (Option<Claimed>, Halt)>) {
        // The worker is gone only when the process ends; the row is then taken over by its heartbeat's age.
        let _ = self.outcomes.send(ClaimOutcome { assigned, result });
    }

    /// `trouble`: since when that is so, and when it was last said.
    async fn wait_after(
        &self,
        error: &DbError,
        backoff: &mut Backoff,
        trouble: &mut Option<Trouble>,
        assigned: &[Assigned],
    ) {
        self.claims.db().heed(error);
        for assigned in assigned {
            self.still
                .note(assigned, Some(Waiting::on_answer(format!("could not claim ({error}); trying again"))));
        }
        let (wait, now) = (backoff.next(), Instant::now());
        let partitions = assigned.len();
        if trouble.get_or_insert_with(|| Trouble::new(now)).is_due(now) {
            tracing::warn!(partitions, %error, retry_in = ?wait, "could not claim; trying again");
        } else {
            tracing::debug!(partitions, %error, retry_in = ?wait, "could not claim; trying again");
        }
        tokio::time::sleep(wait).await;
    }
}

enum Step {
    Claimed(Claimed),
    Refused(Halt),
    Wait(Duration),
    /// Kafka does not say where a partition without a row begins.
    Unanswered(String),
}
