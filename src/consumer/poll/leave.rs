//! Leaving the group before the client is closed, where closing alone would not.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;

use super::PollLoop;
use crate::consumer::ffi::{Event, EventKind, EventQueue};

/// How long a client may take to hear that it is a member: what it has asked for is as good as granted, but until the
/// answer is here it cannot leave.
const JOIN_LIMIT: Duration = Duration::from_secs(1);
/// How long a rebalance that is under way may take to let us go.
const LEAVE_LIMIT: Duration = Duration::from_secs(4);
/// How often the client is asked: it tells nobody.
const ASK: Duration = Duration::from_millis(20);

/// How the client is a member of its group; known from the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Membership {
    /// Rebalances name what changes, and not whole lists.
    pub(crate) cooperative: bool,
    /// Kafka's older protocol, in which members join and synchronize (not KIP-848).
    pub(crate) classic: bool,
    /// It leaves the group when it ends: not one that has a name (KIP-345), nor one that is in none.
    pub(crate) leaves: bool,
}

impl PollLoop {
    /// Leaves if it has been given nothing: one that has partitions leaves when it is closed. Takes a few milliseconds, and
    /// five seconds at most.
    ///
    /// A client that is closed in the middle of joining sends no LeaveGroup (librdkafka 2.12, `rd_kafka_cgrp_terminate0`):
    /// the group, and every successor, would wait for this member until its session time-out. Without a subscription it
    /// leaves, but only if it knows already that it is a member, and only when the rebalance that is under way is over
    /// (`rd_kafka_cgrp_subscribe` postpones it). For both it must be served.
    pub(super) fn leave_without_partitions(&mut self, queue: &EventQueue) {
        if !self.membership.leaves || !self.assignment.is_empty() {
            return;
        }
        // One that has not heard of it in time may have asked nobody: Kafka is away, or it waits for topics.
        if !self.serve_until(queue, JOIN_LIMIT, true) {
            tracing::debug!(
                "no member of the group yet; if Kafka has taken it for one, that ends with its session"
            );
        }
        queue.client().unsubscribe();
        if !self.serve_until(queue, LEAVE_LIMIT, false) {
            tracing::warn!(
                "the rebalance that was under way did not end; the group waits for the session time-out"
            );
        }
    }

    /// Serves the client until it is a member or is none; `false` if `limit` was over first.
    fn serve_until(&mut self, queue: &EventQueue, limit: Duration, member: bool) -> bool {
        let deadline = Instant::now() + limit;
        while queue.is_member(self.membership.classic) != member {
            if Instant::now() >= deadline {
                return false;
            }
            match queue.poll(ASK).as_ref().map(Event::kind) {
                None | Some(EventKind::Record(_)) => {}
                Some(other) => self.on_event(other),
            }
        }
        true
    }
}
