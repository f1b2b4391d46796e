//! What Kafka assigned, what is really assigned to the client, and the answers to rebalances.
//!
//! Under a cooperative protocol (classic cooperative-sticky, KIP-848) partitions are added to the client and taken
//! out of it one by one. Under an eager one the client takes nothing but whole lists: what claims add and what halts
//! take away is collected for one turn of the loop and becomes one list. A whole list restarts the partitions that
//! run, and throws their prefetched records away; each is therefore listed at the end of its own buffer, and goes on
//! under its unchanged claim.

mod list;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaResult;

use self::list::WholeList;
use super::{Client, Fetching, Notice, Place, PollLoop};
use crate::batch::{Assigned, AssignmentId, PartitionKey};
use crate::consumer::PartitionBuffer;
use crate::partition::Halt;

/// Of the process, not of the client: a claim made for an assignment of a client that is gone must match none of its
/// successor's.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// The assignment, as Kafka gave it and as the client has it.
pub(super) struct Assignment {
    client: Arc<Client>,
    /// Given to us by the group.
    granted: BTreeMap<PartitionKey, AssignmentId>,
    /// Given to the client, with an explicit offset each: what is being fetched, and into what.
    fetched: BTreeMap<PartitionKey, Arc<PartitionBuffer>>,
    /// Under an eager protocol only. From configuration: asking the client hangs once it is closed (PITFALLS 6).
    whole: Option<WholeList>,
}

impl Assignment {
    pub(super) fn new(client: Arc<Client>, cooperative: bool) -> Self {
        let whole = (!cooperative).then(WholeList::default);
        Self { client, granted: BTreeMap::new(), fetched: BTreeMap::new(), whole }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn is_assigned(&self, key: &PartitionKey) -> bool {
        self.granted.contains_key(key)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.granted.is_empty()
    }

    pub(super) fn is_current(&self, key: &PartitionKey, id: AssignmentId) -> bool {
        self.granted.get(key) == Some(&id)
    }

    /// Records what Kafka granted and answers with nothing: fetching begins when the claim says where.
    fn grant(&mut self, keys: Vec<PartitionKey>) -> (KafkaResult<()>, Vec<Assigned>) {
        let answer = match &mut self.whole {
            None => self.client.incremental_assign(&TopicPartitionList::new()),
            // An eager group revokes everything first, so that this list is empty, too.
            Some(whole) => whole.assign(&self.client, &mut self.fetched),
        };
        let assigned = keys
            .into_iter()
            .map(|key| {
                let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
                self.granted.insert(key.clone(), id);
                Assigned { key, id }
            })
            .collect();
        (answer, assigned)
    }

    /// What a revoke takes away: what it lists; under an eager protocol all that there is, whatever it lists, for so
    /// does the client.
    fn taken_away(&self, listed: Vec<PartitionKey>) -> Vec<PartitionKey> {
        if self.whole.is_none() {
            return listed;
        }
        let unlisted = self.granted.keys().filter(|key| !listed.contains(key)).cloned();
        let unlisted: Vec<_> = unlisted.collect();
        [listed, unlisted].concat()
    }

    /// Answers a revoke: unassigns what of it is really assigned, be it nothing (PITFALLS 5).
    fn revoke(&mut self, keys: &[PartitionKey]) -> KafkaResult<()> {
        for key in keys {
            self.granted.remove(key);
        }
        if let Some(whole) = &mut self.whole {
            self.fetched.clear();
            return whole.unassign(&self.client);
        }
        let list = self.take_fetched(keys);
        self.client.incremental_unassign(&list)
    }

    fn take_fetched(&mut self, keys: &[PartitionKey]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for key in keys {
            if self.fetched.remove(key).is_some() {
                list.add_partition(&key.topic, key.partition);
            }
        }
        list
    }

    /// Begins to fetch at the end of a buffer; under an eager protocol with the next [`settle`](Self::settle). Always
    /// through the assignment, never by seek: after a lost position the fetch state is dead for a seek (PITFALLS 7).
    pub(super) fn fetch(&mut self, buffer: &Arc<PartitionBuffer>) -> KafkaResult<()> {
        self.stop_fetching(std::slice::from_ref(&buffer.key));
        if let Some(whole) = &mut self.whole {
            self.fetched.insert(buffer.key.clone(), Arc::clone(buffer));
            whole.has_changed();
            return Ok(());
        }
        let list = list::of(std::iter::once(buffer))?;
        self.client.incremental_assign(&list)?;
        // Only now: a revoke that lists what is not really assigned is refused as a whole (PITFALLS 5).
        self.fetched.insert(buffer.key.clone(), Arc::clone(buffer));
        if buffer.is_paused() {
            return Ok(()); // by the budget, and fetched anew: it stays so
        }
        // A pause by the application survives revoke and re-assign (PITFALLS 10).
        self.client.resume(&list)
    }

    /// Takes partitions out of the client's assignment, not out of the group's.
    pub(super) fn stop_fetching(&mut self, keys: &[PartitionKey]) {
        let list = self.take_fetched(keys);
        if list.count() == 0 {
            return;
        }
        if let Some(whole) = &mut self.whole {
            whole.has_changed();
        } else if let Err(error) = self.client.incremental_unassign(&list) {
            // Harmless: without a buffer its records are dropped.
            tracing::debug!(%error, "the client did not stop fetching");
        }
    }

    /// Ends a turn of commands: under an eager protocol, gives the client one list of what they came to. `true` if it
    /// did: then every fetch has begun anew.
    pub(super) fn settle(&mut self) -> KafkaResult<bool> {
        match &mut self.whole {
            Some(whole) if whole.is_stale() => whole.assign(&self.client, &mut self.fetched).map(|()| true),
            _ => Ok(false),
        }
    }

    /// Before the client is closed.
    pub(super) fn clear(&mut self) {
        let keys: Vec<_> = self.fetched.keys().cloned().collect();
        self.stop_fetching(&keys);
        self.granted.clear();
        if let Err(error) = self.settle() {
            tracing::debug!(%error, "the client did not stop fetching");
        }
    }
}

impl PollLoop {
    /// Lets the client know what the commands of this turn came to.
    pub(super) fn settle(&mut self) {
        let error = match self.assignment.settle() {
            Ok(false) => return,
            Ok(true) => {
                let all = self.buffers.values().flat_map(HashMap::values);
                let all: Vec<_> = all.map(|fetching| Arc::clone(&fetching.buffer)).collect();
                return all.iter().for_each(|buffer| self.begin(buffer));
            }
            Err(error) => error,
        };
        // Whatever was listed is not being fetched any more.
        for Fetching { buffer, .. } in self.buffers.values().flat_map(HashMap::values) {
            buffer.fail(Halt::client(&buffer.key, "start fetching", &error));
            buffer.home().data.notify_one();
        }
    }

    pub(super) fn on_assign(&mut self, places: &[Place]) {
        let began = Instant::now();
        let (answer, assigned) = self.assignment.grant(keys(places));
        self.counters.rebalances.fetch_add(1, Ordering::Relaxed);
        self.counters.assigned.fetch_add(1, Ordering::Relaxed);
        match answer {
            Ok(()) => tracing::info!(partitions = assigned.len(), answered_in = ?began.elapsed(), "assigned"),
            // Refused only when the client is fatally broken or closing; either ends this assignment.
            Err(error) => {
                tracing::warn!(partitions = assigned.len(), %error, "the client refused the assignment")
            }
        }
        self.notify(Notice::Assigned(assigned));
    }

    /// What a rebalance would have said, where there is none.
    pub(super) fn assign_by_hand(&mut self, keys: Vec<PartitionKey>) {
        let (_, assigned) = self.assignment.grant(keys);
        tracing::info!(partitions = assigned.len(), "assigned by hand; no group is joined");
        self.notify(Notice::Assigned(assigned));
    }

    pub(super) fn on_revoke(&mut self, places: &[Place]) {
        let began = Instant::now();
        // To be asked before it is answered: the answer ends it.
        let lost = self.assignment.client().assignment_lost();
        let keys = self.assignment.taken_away(keys(places));
        for key in &keys {
            self.forget(key, None);
        }
        let answer = self.assignment.revoke(&keys);
        self.counters.rebalances.fetch_add(1, Ordering::Relaxed);
        let kind = if lost { &self.counters.lost } else { &self.counters.revoked };
        kind.fetch_add(1, Ordering::Relaxed);
        match answer {
            Ok(()) => tracing::info!(partitions = keys.len(), answered_in = ?began.elapsed(), "revoked"),
            Err(error) => {
                tracing::warn!(partitions = keys.len(), %error, "the client refused the revocation")
            }
        }
        self.notify(Notice::Revoked(keys));
    }
}

fn keys(places: &[Place]) -> Vec<PartitionKey> {
    places
        .iter()
        .map(|place| PartitionKey { topic: Arc::from(place.topic.as_str()), partition: place.partition })
        .collect()
}
