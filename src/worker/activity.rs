//! What only the control loop sees of the partitions, for the metrics.

use std::sync::atomic::Ordering;

use super::control::Control;
use crate::config::Isolation;
use crate::partition::State;

impl Control {
    /// Notes it whenever the status is published.
    pub(super) fn note_activity(&self) {
        let (mut paused, mut pending) = (0, false);
        for entry in self.entries.values() {
            let (Some(buffer), State::Running { .. }) = (&entry.buffer, entry.machine.state()) else {
                continue;
            };
            paused += usize::from(buffer.is_paused());
            let end = buffer.seen().ends.map(|ends| match self.config.isolation {
                Isolation::ReadCommitted => ends.stable,
                Isolation::ReadUncommitted => ends.log,
            });
            pending |= buffer.held_bytes() > 0 || end.is_some_and(|end| buffer.committed() < end.get());
        }
        let now = self.board.lanes.batches.now();
        self.board.activity.found(paused, self.standing.stuck_partitions(), pending, now);
        self.board.activity.unassigned_partitions.store(self.unassigned_partitions(), Ordering::Relaxed);
    }
}
