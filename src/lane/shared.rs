//! What a lane shares with the worker and the poll thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::consumer::PartitionBuffer;

/// A lane's buffers and signals.
#[derive(Debug, Default)]
pub(crate) struct LaneShared {
    buffers: Mutex<Vec<Arc<PartitionBuffer>>>,
    /// Something arrived, or a buffer was added or closed.
    pub(crate) data: Arc<Notify>,
    /// A buffer was closed, or the lane is to stop.
    pub(crate) closing: Notify,
    stopping: AtomicBool,
}

impl LaneShared {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<PartitionBuffer>>> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, buffer: Arc<PartitionBuffer>) {
        self.lock().push(buffer);
    }

    pub(super) fn remove(&self, buffer: &Arc<PartitionBuffer>) {
        self.lock().retain(|other| !Arc::ptr_eq(other, buffer));
    }

    pub(crate) fn buffers(&self) -> Vec<Arc<PartitionBuffer>> {
        self.lock().clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// After a buffer was closed.
    pub(crate) fn notify_closed(&self) {
        self.closing.notify_one();
        self.data.notify_one();
    }

    /// The lane ends once its buffers, all closed before, are idle.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.notify_closed();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}
