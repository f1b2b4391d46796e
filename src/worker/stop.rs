//! The soft stop: a revoke of everything, then the mirror, then out of the group (DESIGN 3.10).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio_util::task::AbortOnDropHandle;

use super::control::{Chore, Control};
use super::launch::CLOSE_LIMIT;
use super::pulse::Finding;
use crate::consumer::PartitionBuffer;
use crate::consumer::poll::{Command, Notice};
use crate::error::{Error, ErrorKind, Result};

/// Beyond the drain deadline: for cancelling what did not finish, and for the releases.
const GRACE: Duration = Duration::from_secs(5);
/// How long Kafka may take to acknowledge the last mirror.
const MIRROR_LIMIT: Duration = Duration::from_secs(5);

impl Control {
    /// A lane or the poll thread that has died (a panic is the only way) would leave its partitions standing still
    /// with nobody to say so, and without a heartbeat any successor may take them for a dead process's: better the
    /// whole worker ends, and is started again. Without the vigil no record would be handed out after its next pause.
    pub(super) fn check_parts(&mut self, tasks: &[(&str, &AbortOnDropHandle<()>)]) -> Result<()> {
        let lane = self.lanes.tasks.iter().any(|task| task.is_finished()).then_some("a lane");
        let poller = self.poller.as_ref().filter(|poller| poller.has_ended()).map(|_| "the poll thread");
        let task = tasks.iter().find(|(_, task)| task.is_finished()).map(|(name, _)| *name);
        let turns = self.poller.is_some().then(|| self.board.poll.turns.load(Ordering::Relaxed));
        let finding = self.pulse.look(turns, Instant::now());
        self.board.set_poll_moves(!self.pulse.is_slow());
        match finding {
            Finding::Moves => {}
            Finding::Slow(still) => {
                tracing::error!(
                    ?still,
                    "the poll thread does not move: nothing is fetched, and no rebalance answered"
                );
            }
            Finding::Hangs(still) => {
                let text = format!(
                    "the poll thread has hung for {still:?} in a call of the Kafka client: nothing is lost; restart the \
                     worker, and report it with the log above"
                );
                return Err(Error::new(ErrorKind::Internal, text));
            }
        }
        match lane.or(poller).or(task) {
            None => Ok(()),
            Some(part) => Err(Error::new(
                ErrorKind::Internal,
                format!(
                    "{part} has panicked, which is a bug in Highwater: nothing is lost; restart the worker, and report \
                     the panic message above"
                ),
            )),
        }
    }

    pub(super) async fn stop(&mut self) {
        let began = Instant::now();
        let buffers: Vec<Arc<PartitionBuffer>> =
            self.entries.values().filter_map(|entry| entry.buffer.clone()).collect();
        // First nothing new is handed out or claimed, then what is out may finish.
        self.revoke_all();
        let until = tokio::time::Instant::now() + self.config.drain_deadline + GRACE;
        if tokio::time::timeout_at(until, self.drained()).await.is_err() {
            tracing::warn!(
                partitions = self.entries.len(),
                "not everything drained in time; successors wait for the heartbeat's age"
            );
        }
        for (lane, task) in self.lanes.shared.iter().zip(&self.lanes.tasks) {
            lane.stop();
            if tokio::time::Instant::now() >= until {
                task.abort();
            }
        }
        // Read only now: the batches that were still out have added to it.
        let mirror = match self.config.mirror_interval {
            None => Vec::new(),
            Some(_) => buffers.iter().filter_map(|buffer| self.mirror_entry(buffer)).collect(),
        };
        if let Some(poller) = self.poller.take() {
            poller.send(Command::Stop { mirror, mirror_limit: MIRROR_LIMIT });
            if !poller.join(MIRROR_LIMIT + CLOSE_LIMIT).await {
                tracing::warn!(
                    "the Kafka client did not close in time; the group waits for the session time-out"
                );
            }
        }
        // One that had failed before: it knows its own limit.
        while self.closing.join_next().await.is_some() {}
        tracing::info!(elapsed = ?began.elapsed(), "stopped");
    }

    /// Until no batch is out and every release is done. A claim whose answer comes even later stays in the name of a
    /// process that has said farewell: nobody waits for it.
    async fn drained(&mut self) {
        loop {
            if self.entries.is_empty() && self.chores.is_empty() {
                return;
            }
            tokio::select! {
                Some(report) = self.inboxes.reports.recv() => self.on_report(report),
                Some(outcome) = self.inboxes.outcomes.recv() => self.on_outcome(outcome),
                Some(done) = self.chores.join_next(), if !self.chores.is_empty() => {
                    self.on_chore(done.unwrap_or(Chore::Nothing));
                }
                Some(notice) = self.heard.recv() => {
                    // The client still answers rebalances; nothing of it is acted upon any more.
                    if let Notice::Assigned(assigned) = notice {
                        tracing::debug!(partitions = assigned.len(), "assigned while stopping; not claimed");
                    }
                }
            }
        }
    }
}
