//! A worker that runs in the background.

use std::sync::Arc;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::{Monitor, StatusBoard, Worker, WorkerStatus};
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::MetricsSnapshot;

/// A running worker. Dropping the handle stops it softly, in the background.
#[derive(Debug)]
pub struct WorkerHandle {
    board: Arc<StatusBoard>,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<Result<()>>>,
}

impl WorkerHandle {
    pub(super) fn spawn(worker: Worker) -> Self {
        let board = Arc::clone(&worker.board);
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(worker.run_until(async {
            // Sent, or dropped with the handle: both mean stop.
            let _ = stopped.await;
        }));
        Self { board, stop: Some(stop), task: Some(task) }
    }

    /// The status now.
    #[must_use]
    pub fn status(&self) -> WorkerStatus {
        self.board.get()
    }

    /// Changes of phase, readiness and partitions. Counters alone do not wake a subscriber.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<WorkerStatus> {
        self.board.subscribe()
    }

    /// The figures now.
    #[must_use]
    pub fn metrics(&self) -> MetricsSnapshot {
        self.board.metrics()
    }

    /// Reads status and figures, also once this handle is gone.
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        Monitor::new(Arc::clone(&self.board))
    }

    /// Stops softly and waits for the end.
    ///
    /// # Errors
    /// See [`Worker::run`].
    pub async fn stop(mut self) -> Result<()> {
        drop(self.stop.take());
        self.join().await
    }

    /// Waits until the worker ends by itself: it only does so with an error.
    ///
    /// # Errors
    /// See [`Worker::run`].
    pub async fn wait(mut self) -> Result<()> {
        let _keep = self.stop.take();
        self.join().await
    }

    /// Stops hard: nothing is drained or released. What a crash would do, for tests.
    pub async fn abort(mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }

    async fn join(&mut self) -> Result<()> {
        let Some(task) = self.task.take() else { return Ok(()) };
        task.await.unwrap_or_else(|error| {
            Err(Error::new(ErrorKind::Internal, "the worker's task ended abnormally").with_source(error))
        })
    }
}
