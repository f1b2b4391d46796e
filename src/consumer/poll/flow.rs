//! Flow control: pausing and resuming partitions as the byte budget says.

use std::sync::Arc;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;

use super::PollLoop;
use crate::consumer::PartitionBuffer;

impl PollLoop {
    pub(super) fn pause(&mut self, buffers: &[Arc<PartitionBuffer>]) {
        if let Err(error) = self.assignment.client().pause(&list(buffers)) {
            // Not paused is not wrong, only more memory; tried again with the next record.
            tracing::debug!(%error, "the client did not pause");
            return;
        }
        for buffer in buffers {
            tracing::trace!(partition = %buffer.key, held_bytes = buffer.held_bytes(), "paused by the budget");
            buffer.set_paused(true);
        }
    }

    /// Resumes what may go on, once per turn.
    pub(super) fn regulate(&mut self) {
        let resumable: Vec<_> = self
            .buffers
            .values()
            .flat_map(|partitions| partitions.values())
            .map(|fetching| &fetching.buffer)
            .filter(|buffer| buffer.is_paused() && self.budget.may_resume(buffer.held_bytes()))
            .cloned()
            .collect();
        if resumable.is_empty() {
            return;
        }
        // While it was paused nothing was fetched, and no pause would have shown.
        resumable.iter().for_each(|buffer| buffer.doubt_next());
        match self.assignment.client().resume(&list(&resumable)) {
            Ok(()) => resumable.iter().for_each(|buffer| buffer.set_paused(false)),
            Err(error) => tracing::debug!(%error, "the client did not resume"),
        }
    }
}

fn list(buffers: &[Arc<PartitionBuffer>]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(buffers.len());
    for buffer in buffers {
        list.add_partition(&buffer.key.topic, buffer.key.partition);
    }
    list
}
