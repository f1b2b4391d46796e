//! From "Kafka assigned it" to "Postgres granted it": the tasks that obtain claims.
//!
//! A claim's statement is never cancelled: it may have been carried out. Its answer is always passed on, and a
//! claim that came too late is released by its token.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};

use super::start::Start;
use super::{Claimed, Claims, DbError, Guard};
use crate::backoff::Backoff;
use crate::batch::PartitionKey;
use crate::consumer::poll::{Assigned, AssignmentId};
use crate::partition::Halt;

/// Claims that may wait for a lock at the same time; half of the control connections, so that releases and
/// reads always find one.
const WAITING_CLAIMS: usize = 4;
/// How often a row is looked at that its draining owner will release any moment.
const DRAINING_POLL: Duration = Duration::from_millis(25);
/// How often a row is looked at that an operator has paused.
const PAUSED_POLL: Duration = Duration::from_secs(1);

/// What became of a claim.
#[derive(Debug)]
pub(crate) struct ClaimOutcome {
    pub(crate) assigned: Assigned,
    /// Granted and guarded; or refused for good, with the claim if the row was claimed before.
    pub(crate) result: Result<Claimed, (Option<Claimed>, Halt)>,
}

/// Which assignments are current, shared with the tasks that claim for them.
#[derive(Debug, Default)]
pub(crate) struct StillAssigned(Mutex<HashMap<PartitionKey, AssignmentId>>);

impl StillAssigned {
    pub(crate) fn set(&self, key: &PartitionKey, id: Option<AssignmentId>) {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match id {
            Some(id) => current.insert(key.clone(), id),
            None => current.remove(key),
        };
    }

    /// Nothing is assigned any more: what is not claimed yet never will be.
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn is_current(&self, assigned: &Assigned) -> bool {
        let current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        current.get(&assigned.key) == Some(&assigned.id)
    }
}

/// Obtains claims in the background.
#[derive(Debug, Clone)]
pub(crate) struct Obtain {
    pub(crate) claims: Arc<Claims>,
    pub(crate) guard: Guard,
    pub(crate) start: Arc<Start>,
    pub(crate) still: Arc<StillAssigned>,
    pub(crate) backoff: Backoff,
    waiting: Arc<Semaphore>,
    outcomes: mpsc::UnboundedSender<ClaimOutcome>,
}

impl Obtain {
    /// `outcomes` is unbounded because it must never hold up a claim; there is at most one per assignment.
    pub(crate) fn new(
        claims: Arc<Claims>,
        guard: Guard,
        start: Arc<Start>,
        backoff: Backoff,
        outcomes: mpsc::UnboundedSender<ClaimOutcome>,
    ) -> Self {
        let still = Arc::default();
        Self {
            claims,
            guard,
            start,
            still,
            backoff,
            waiting: Arc::new(Semaphore::new(WAITING_CLAIMS)),
            outcomes,
        }
    }

    /// Claims in the background; one outcome per element follows, except for what is revoked meanwhile.
    pub(crate) fn claim(&self, assigned: Vec<Assigned>) {
        let this = self.clone();
        tokio::spawn(async move { this.claim_all(assigned).await });
    }

    /// First all free rows in one statement, then each of the rest on its own, so that one bad row delays only
    /// itself.
    async fn claim_all(self, mut assigned: Vec<Assigned>) {
        let mut backoff = self.backoff.clone();
        loop {
            // Only what is assigned at the moment of sending.
            assigned.retain(|assigned| self.still.is_current(assigned));
            if assigned.is_empty() {
                return;
            }
            let keys: Vec<_> = assigned.iter().map(|assigned| assigned.key.clone()).collect();
            match self.claims.claim_free(&keys).await {
                Ok(claimed) => {
                    for claimed in claimed {
                        let Some(index) = assigned.iter().position(|assigned| assigned.key == claimed.key)
                        else {
                            continue;
                        };
                        let assigned = assigned.swap_remove(index);
                        let this = self.clone();
                        tokio::spawn(async move { this.granted(assigned, claimed).await });
                    }
                    break;
                }
                Err(error) => self.wait_after(&error, &mut backoff, assigned.len()).await,
            }
        }
        for assigned in assigned {
            let this = self.clone();
            tokio::spawn(async move { this.claim_one(assigned).await });
        }
    }

    async fn claim_one(self, assigned: Assigned) {
        let mut backoff = self.backoff.clone();
        while self.still.is_current(&assigned) {
            match self.try_one(&assigned).await {
                Ok(Step::Claimed(claimed)) => return self.granted(assigned, claimed).await,
                Ok(Step::Refused(why)) => return self.send(assigned, Err((None, why))),
                Ok(Step::Wait(pause)) => tokio::time::sleep(pause).await,
                Err(error) => self.wait_after(&error, &mut backoff, 1).await,
            }
        }
    }

    async fn try_one(&self, assigned: &Assigned) -> Result<Step, DbError> {
        let key = &assigned.key;
        let row = self.claims.rows(std::slice::from_ref(key)).await?.pop();
        let Some(row) = row else {
            return match self.start.added_partition(key).await? {
                Ok(()) => Ok(Step::Wait(DRAINING_POLL)),
                Err(why) => Ok(Step::Refused(why)),
            };
        };
        if let Some(reason) = row.paused_reason {
            tracing::info!(partition = %key, reason, "paused by an operator; waiting");
            return Ok(Step::Wait(PAUSED_POLL));
        }
        if row.draining {
            return Ok(Step::Wait(DRAINING_POLL));
        }
        let _permit = self.waiting.acquire().await;
        if !self.still.is_current(assigned) {
            return Ok(Step::Wait(Duration::ZERO));
        }
        // No row: it was paused, began to drain or vanished since. The next look says which.
        Ok(self.claims.claim_waiting(key).await?.map_or(Step::Wait(DRAINING_POLL), Step::Claimed))
    }

    /// Guards what was claimed, for as long as Kafka takes to answer.
    async fn granted(self, assigned: Assigned, claimed: Claimed) {
        let mut backoff = self.backoff.clone();
        while self.still.is_current(&assigned) {
            match self.guard.check(&claimed.key, claimed.next_offset).await {
                Ok(Ok(())) => break,
                Ok(Err(why)) => return self.send(assigned, Err((Some(claimed), why))),
                Err(error) => {
                    tracing::debug!(partition = %claimed.key, %error, "Kafka did not answer the guard; trying again");
                    tokio::time::sleep(backoff.next()).await;
                }
            }
        }
        // If it was revoked meanwhile, the state machine releases it.
        self.send(assigned, Ok(claimed));
    }

    fn send(&self, assigned: Assigned, result: Result<Claimed, (Option<Claimed>, Halt)>) {
        // The worker is gone only when the process ends; the row is then taken over by its heartbeat's age.
        let _ = self.outcomes.send(ClaimOutcome { assigned, result });
    }

    async fn wait_after(&self, error: &DbError, backoff: &mut Backoff, partitions: usize) {
        let wait = backoff.next();
        tracing::warn!(partitions, %error, retry_in = ?wait, "could not claim; trying again");
        tokio::time::sleep(wait).await;
    }
}

enum Step {
    Claimed(Claimed),
    Refused(Halt),
    Wait(Duration),
}
