//! What a lane shares with the worker and the poll thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::consumer::{PartitionBuffer, Signals};

/// A lane's buffers and signals.
#[derive(Debug, Default)]
pub(crate) struct LaneShared {
    buffers: Mutex<Vec<Arc<PartitionBuffer>>>,
    pub(crate) signals: Arc<Signals>,
    stopping: AtomicBool,
}

impl LaneShared {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<PartitionBuffer>>> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, buffer: Arc<PartitionBuffer>) {
        buffer.move_in(&self.signals);
        self.lock().push(buffer);
        // It may have been closed, or have got something, while it was on its way.
        self.signals.data.notify_one();
    }

    /// Gives a buffer, of which nothing is out, to another lane.
    pub(super) fn give(&self, buffer: &Arc<PartitionBuffer>, other: &Self) {
        other.add(Arc::clone(buffer));
        self.remove(buffer);
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

    /// The lane ends once its buffers, all closed before, are idle.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.signals.notify_closed();
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

/// How many partitions may be looked at apart at the same time, each with a connection of its own.
const ASIDE: usize = 4;

/// A worker's lanes.
#[derive(Debug)]
pub(crate) struct Lanes {
    main: Vec<Arc<LaneShared>>,
    /// Where partitions go whose batches have failed: their further tries, each of which may wait for a lock or a
    /// time-out, cost nobody else anything.
    aside: Vec<Arc<LaneShared>>,
}

impl Lanes {
    pub(crate) fn new(main: usize) -> Self {
        let lanes = |count: usize| (0..count).map(|_| Arc::default()).collect();
        Self { main: lanes(main), aside: lanes(ASIDE) }
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<LaneShared>> {
        self.main.iter().chain(&self.aside)
    }

    /// The one with the fewest partitions, for one whose batches go well.
    pub(crate) fn emptiest(&self) -> &Arc<LaneShared> {
        emptiest(&self.main)
    }

    /// The same, for one that is looked at apart.
    pub(crate) fn emptiest_aside(&self) -> &Arc<LaneShared> {
        emptiest(&self.aside)
    }

    pub(super) fn is_aside(&self, lane: &Arc<LaneShared>) -> bool {
        self.aside.iter().any(|aside| Arc::ptr_eq(aside, lane))
    }
}

fn emptiest(lanes: &[Arc<LaneShared>]) -> &Arc<LaneShared> {
    lanes.iter().min_by_key(|lane| lane.len()).expect("there is a lane of each kind")
}
