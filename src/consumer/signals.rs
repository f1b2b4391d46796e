//! How the poll thread and the worker wake a lane.

use tokio::sync::Notify;

/// A lane's signals.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// Something arrived, or a buffer was added or closed.
    pub(crate) data: Notify,
    /// A buffer was closed, or the lane is to stop.
    pub(crate) closing: Notify,
}

impl Signals {
    /// After a buffer was closed.
    pub(crate) fn notify_closed(&self) {
        self.closing.notify_one();
        self.data.notify_one();
    }
}
