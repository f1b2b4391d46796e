//! Carrying out what the state machines say.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::control::{Chore, Control, Entry};
use crate::NextOffset;
use crate::backoff::Backoff;
use crate::batch::{Assigned, AssignmentId};
use crate::batch::{ClaimId, PartitionKey};
use crate::claim::Claims;
use crate::config::{Config, Isolation};
use crate::consumer::poll::{Command, StartFetch};
use crate::consumer::{PartitionBuffer, Watch};
use crate::partition::{Effect, Input, State};
use crate::verdict::Memory;

/// How often a fenced partition's row is looked at.
const FENCE_POLL: Duration = Duration::from_millis(250);
/// A release is tried for so long; after that the row is taken over by the heartbeat's age.
const RELEASE_LIMIT: Duration = Duration::from_secs(30);

impl Control {
    /// Feeds inputs and carries out the effects; claims of one turn are made together.
    pub(super) fn feed(&mut self, inputs: Vec<(PartitionKey, Input)>) {
        let mut to_claim = Vec::new();
        for (key, input) in inputs {
            let input = input.at(&self.config.group, &key);
            let entry = self.entries.entry(key.clone()).or_insert_with(|| Entry::new(memory(&self.config)));
            let before = entry.machine.state().clone();
            let effects = entry.machine.on(input);
            if let (State::Halted { why }, true) = (entry.machine.state(), before != *entry.machine.state()) {
                // A human must act: this partition stands still until then, the others go on.
                tracing::error!(partition = %key, reason = %why, "halted");
                // What is mended meanwhile is not suspected for its past.
                entry.memory = Arc::new(Mutex::new(memory(&self.config)));
            }
            self.changed = true;
            tracing::debug!(partition = %key, ?before, after = ?entry.machine.state(), "partition");
            for effect in effects {
                match effect {
                    Effect::Claim(id) => to_claim.push(Assigned { key: key.clone(), id }),
                    Effect::Fetch { assignment, claim, from } => self.fetch(&key, assignment, claim, from),
                    Effect::Close { claim, revoked } => self.close(&key, claim, revoked),
                    Effect::Release(claim) => self.release(&key, claim),
                    Effect::AwaitFence => self.await_fence(&key),
                }
            }
            if self.entries.get(&key).is_some_and(|entry| entry.machine.is_gone()) {
                self.entries.remove(&key);
            }
        }
        if to_claim.is_empty() {
            return;
        }
        let Some(why) = self.foreign.clone() else { return self.obtain.claim(to_claim) };
        let refused = |assigned: Assigned| {
            (assigned.key, Input::Refused { assignment: assigned.id, claim: None, why: why.clone() })
        };
        self.feed(to_claim.into_iter().map(refused).collect());
    }

    fn fetch(&mut self, key: &PartitionKey, assignment: AssignmentId, claim: ClaimId, from: NextOffset) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let Some(poller) = &self.poller else { return };
        let claimed = entry.claimed.take().filter(|claimed| claimed.claim == claim);
        let did_park = claimed.as_ref().is_some_and(|claimed| claimed.parking);
        let (mark, identity, seen) =
            claimed.map(|claimed| (claimed.mark, claimed.identity, claimed.seen)).unwrap_or_default();
        let watch = Watch { identity, wake: Arc::clone(&self.obtain.guard.wake) };
        // What a transaction has rolled back appears when uncommitted records are read: no contradiction.
        let gap_is_empty = self.config.isolation == Isolation::ReadCommitted;
        let buffer = PartitionBuffer::new(key.clone(), claim, from, Arc::clone(&self.budget));
        let buffer = buffer.parking(self.lanes.policies.parks(&key.topic), did_park);
        let buffer = buffer.watched(watch, mark, gap_is_empty).remembering(Arc::clone(&entry.memory));
        // Else its lag is not known before the vigil's next round.
        buffer.saw(seen);
        let buffer = Arc::new(buffer);
        entry.buffer = Some(Arc::clone(&buffer));
        entry.mirror_sent = -1;
        self.held.hold(Arc::clone(&buffer));
        let (lanes, apart) = (&self.lanes.shared, buffer.memory().alone().is_some());
        let lane = if apart { lanes.emptiest_aside() } else { lanes.emptiest() };
        lane.add(Arc::clone(&buffer));
        tracing::info!(partition = %key, next_offset = %from, epoch = claim.epoch, "claimed");
        poller.send(Command::Start(StartFetch { assignment, buffer }));
    }

    /// The vigil found nothing wrong with the log, and yet the client cannot go on.
    pub(super) fn restart(&self, key: &PartitionKey, claim: ClaimId) {
        let buffer = self.entries.get(key).and_then(|entry| entry.buffer.as_ref());
        if let (Some(poller), Some(buffer)) = (&self.poller, buffer.filter(|buffer| buffer.claim == claim)) {
            poller.send(Command::Restart(Arc::clone(buffer)));
        }
    }

    fn close(&mut self, key: &PartitionKey, claim: ClaimId, revoked: bool) {
        let Some(entry) = self.entries.get(key) else { return };
        let Some(buffer) = entry.buffer.clone() else { return };
        if let Some(poller) = &self.poller {
            poller.send(Command::Halt(Arc::clone(&buffer)));
        }
        let limit = self.config.drain_deadline;
        buffer.close(Instant::now() + limit);
        buffer.home().notify_closed();
        if revoked && buffer.in_flight() {
            let (claims, key) = (Arc::clone(&self.claims), key.clone());
            self.chores.spawn(async move {
                // Only a courtesy: without it a successor fences the batch, and nothing is lost.
                if let Err(error) = claims.mark_draining(&key, claim, limit).await {
                    tracing::debug!(partition = %key, %error, "could not ask successors to wait");
                }
                Chore::Nothing
            });
        }
    }

    fn release(&mut self, key: &PartitionKey, claim: ClaimId) {
        self.held.drop_if(key, claim);
        let buffer = self.entries.get_mut(key).and_then(|entry| {
            // The buffer of another claim stays.
            entry.buffer.take_if(|buffer| buffer.claim == claim)
        });
        let (claims, key) = (Arc::clone(&self.claims), key.clone());
        let backoff = self.obtain.backoff.clone();
        self.chores.spawn(async move {
            let taken_by_another = release(&claims, &key, claim, backoff).await;
            Chore::Released { key, buffer, taken_by_another }
        });
    }

    fn await_fence(&mut self, key: &PartitionKey) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let Some(assignment) = entry.machine.assignment() else { return };
        let wait = entry.fence_backoff.next();
        tracing::warn!(partition = %key, ?wait, "another live process holds the claim; waiting for it to let go");
        let (claims, key) = (Arc::clone(&self.claims), key.clone());
        self.chores.spawn(async move {
            let until = Instant::now() + wait;
            while Instant::now() < until {
                tokio::time::sleep(FENCE_POLL).await;
                let Ok(rows) = claims.rows(std::slice::from_ref(&key)).await else { continue };
                if rows.first().is_none_or(|row| row.owner.is_none() || !row.owner_live) {
                    break;
                }
            }
            Chore::FenceOver { key, assignment }
        });
    }
}

/// `true` if another process has claimed the row meanwhile.
async fn release(claims: &Claims, key: &PartitionKey, claim: ClaimId, mut backoff: Backoff) -> bool {
    let until = Instant::now() + RELEASE_LIMIT;
    loop {
        match claims.release(key, claim).await {
            Ok(true) => return false,
            // No longer under the claim: a successor's, or moved by an operator (who leaves no owner), or gone.
            Ok(false) => {
                let rows = claims.rows(std::slice::from_ref(key)).await.unwrap_or_default();
                let me = claims.db().identity.owner;
                return rows.first().and_then(|row| row.owner).is_some_and(|owner| owner != me);
            }
            Err(error) if Instant::now() < until => {
                claims.db().heed(&error);
                tracing::debug!(partition = %key, %error, "could not release yet");
                tokio::time::sleep(backoff.next()).await;
            }
            Err(error) => {
                tracing::warn!(partition = %key, %error, "not released; successors wait for this process's last heartbeat");
                return false;
            }
        }
    }
}

/// Of a partition that has not failed yet.
fn memory(config: &Config) -> Memory {
    Memory::new(config.batch_max_records, Backoff::new(config.retry_backoff_min, config.retry_backoff_max))
}
