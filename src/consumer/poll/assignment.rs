//! What Kafka assigned, what is really assigned to the client, and the answers to rebalances.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};

use super::{Client, Notice, Place, PollLoop};
use crate::NextOffset;
use crate::batch::PartitionKey;

/// Numbers the times that partitions were assigned to this process.
pub(crate) type AssignmentId = u64;

/// Of the process, not of the client: a claim made for an assignment of a client that is gone must match none of its
/// successor's.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A partition that Kafka assigned.
#[derive(Debug, Clone)]
pub(crate) struct Assigned {
    pub(crate) key: PartitionKey,
    pub(crate) id: AssignmentId,
}

/// The assignment, as Kafka gave it and as the client has it.
pub(super) struct Assignment {
    client: Arc<Client>,
    /// From configuration: asking the client hangs once it is closed (PITFALLS 6).
    cooperative: bool,
    /// Given to us by the group.
    granted: BTreeMap<PartitionKey, AssignmentId>,
    /// Given to the client, with an explicit offset each: what is being fetched.
    fetched: BTreeSet<PartitionKey>,
}

impl Assignment {
    pub(super) fn new(client: Arc<Client>, cooperative: bool) -> Self {
        Self { client, cooperative, granted: BTreeMap::new(), fetched: BTreeSet::new() }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn is_assigned(&self, key: &PartitionKey) -> bool {
        self.granted.contains_key(key)
    }

    pub(super) fn is_current(&self, key: &PartitionKey, id: AssignmentId) -> bool {
        self.granted.get(key) == Some(&id)
    }

    /// Records what Kafka granted and answers with nothing: fetching begins when the claim says where.
    fn grant(&mut self, keys: Vec<PartitionKey>) -> (KafkaResult<()>, Vec<Assigned>) {
        let nothing = TopicPartitionList::new();
        let answer = if self.cooperative {
            self.client.incremental_assign(&nothing)
        } else {
            self.client.assign(&nothing)
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

    /// Answers a revoke: unassigns what of it is really assigned, be it nothing (PITFALLS 5).
    fn revoke(&mut self, keys: &[PartitionKey]) -> KafkaResult<()> {
        for key in keys {
            self.granted.remove(key);
        }
        if !self.cooperative {
            self.fetched.clear();
            return self.client.unassign();
        }
        let list = self.take_fetched(keys);
        self.client.incremental_unassign(&list)
    }

    fn take_fetched(&mut self, keys: &[PartitionKey]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for key in keys {
            if self.fetched.remove(key) {
                list.add_partition(&key.topic, key.partition);
            }
        }
        list
    }

    /// Begins to fetch at `from`. Always through the assignment, never by seek: after a lost position the
    /// fetch state is dead for a seek (PITFALLS 7).
    pub(super) fn fetch_from(&mut self, key: &PartitionKey, from: NextOffset) -> KafkaResult<()> {
        self.stop_fetching(std::slice::from_ref(key));
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&key.topic, key.partition, Offset::Offset(from.get()))?;
        self.client.incremental_assign(&list)?;
        self.fetched.insert(key.clone());
        // A pause by the application survives revoke and re-assign (PITFALLS 10).
        self.client.resume(&list)
    }

    /// Takes partitions out of the client's assignment, not out of the group's.
    pub(super) fn stop_fetching(&mut self, keys: &[PartitionKey]) {
        let list = self.take_fetched(keys);
        if list.count() > 0
            && let Err(error) = self.client.incremental_unassign(&list)
        {
            // Harmless: without a buffer its records are dropped.
            tracing::debug!(%error, "the client did not stop fetching");
        }
    }

    /// Before the client is closed.
    pub(super) fn clear(&mut self) {
        let keys: Vec<_> = self.fetched.iter().cloned().collect();
        self.stop_fetching(&keys);
        self.granted.clear();
    }
}

impl PollLoop {
    pub(super) fn on_assign(&mut self, places: &[Place]) {
        let began = Instant::now();
        let (answer, assigned) = self.assignment.grant(keys(places));
        self.counters.rebalances.fetch_add(1, Ordering::Relaxed);
        match answer {
            Ok(()) => tracing::info!(partitions = assigned.len(), answered_in = ?began.elapsed(), "assigned"),
            // Refused only when the client is fatally broken or closing; either ends this assignment.
            Err(error) => {
                tracing::warn!(partitions = assigned.len(), %error, "the client refused the assignment")
            }
        }
        self.notify(Notice::Assigned(assigned));
    }

    pub(super) fn on_revoke(&mut self, places: &[Place]) {
        let began = Instant::now();
        let keys = keys(places);
        for key in &keys {
            self.forget(key, None);
        }
        let answer = self.assignment.revoke(&keys);
        self.counters.rebalances.fetch_add(1, Ordering::Relaxed);
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
