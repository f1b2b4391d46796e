//! The worker: joins the group, claims what it is assigned, and applies it.

mod activity;
mod admin;
mod builder;
mod client;
pub(crate) mod contact;
mod control;
mod credentials;
mod effects;
mod halted;
mod handle;
mod heartbeat;
mod launch;
mod mapping;
mod members;
mod monitor;
mod orders;
mod progress;
mod prune;
mod pulse;
mod redriver;
mod registrar;
mod report;
mod sampling;
mod signals;
mod standing;
mod status;
mod stop;
mod surveying;
mod unassigned;
mod vigil;

use std::pin::Pin;
use std::sync::Arc;

pub use builder::WorkerBuilder;
pub use handle::WorkerHandle;
pub(crate) use mapping::Mapping;
pub use monitor::Monitor;
pub(crate) use signals::Signals;
pub use status::{Counters, PartitionState, PartitionStatus, Phase, WorkerStatus};
pub(crate) use unassigned::unassigned_topics;

use crate::config::Config;
use crate::dead_letter::Policies;
use crate::error::Result;
use crate::handler::ErasedHandler;
use crate::token::ErasedTokenSource;
use status::StatusBoard;

/// What is done once Postgres answers, before the group is joined; what it refuses ends the worker.
pub(crate) type Before =
    Box<dyn Fn(Config) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> + Send + Sync>;

/// A worker of a consumer group: built, not yet running.
///
/// ```no_run
/// # async fn run() -> highwater::Result<()> {
/// use highwater::tokio_postgres::types::Json;
/// use highwater::{HandlerError, Worker, handler_fn};
/// use serde_json::value::RawValue;
///
/// let handler = handler_fn(|batch, tx| {
///     Box::pin(async move {
///         for record in batch.records() {
///             let payment: &RawValue = record.json()?;
///             tx.execute("INSERT INTO payments (body) VALUES ($1)", &[&Json(payment)]).await?;
///         }
///         Ok::<(), HandlerError>(())
///     })
/// });
/// Worker::builder().group("payments-v1").topic("payments").build(handler)?.run().await
/// # }
/// ```
pub struct Worker {
    config: Config,
    handler: Arc<dyn ErasedHandler>,
    policies: Arc<Policies>,
    board: Arc<StatusBoard>,
    /// The program's own source of tokens for Kafka.
    tokens: Option<Arc<dyn ErasedTokenSource>>,
    pub(crate) before: Option<Before>,
    /// What decides its rows, where that is known: it is kept on record.
    pub(crate) mapping: Option<Mapping>,
}

impl Worker {
    /// Starts with the settings of the environment and of the file that `HIGHWATER_CONFIG` names, under what is
    /// set on the builder.
    pub fn builder() -> WorkerBuilder {
        WorkerBuilder::new()
    }

    #[cfg(all(test, feature = "cli"))]
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Runs until SIGTERM or SIGINT, then stops softly: finishes the batches in flight within the drain deadline,
    /// releases its claims, copies its positions to Kafka, leaves the group. A second signal, half a
    /// second later or more, stops hard.
    ///
    /// # Errors
    /// What ends a worker for good: wrong credentials, missing schema or privilege, a start policy that refuses, an
    /// unknown topic, a fenced instance id. A server that is away is none of these: it is waited for.
    pub async fn run(self) -> Result<()> {
        Signals::new()?.run(self, std::future::pending()).await.map(|_| ())
    }

    /// Runs until `shutdown` ends, then stops softly as [`run`](Self::run) does.
    ///
    /// # Errors
    /// See [`run`](Self::run).
    ///
    /// # Cancel safety
    /// Dropping the future stops hard: nothing is lost or repeated, but claims stay until the heartbeat is 3 s old.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<()> {
        launch::run(self, shutdown).await
    }

    /// Reads the worker's status and figures while it runs.
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        Monitor::new(Arc::clone(&self.board))
    }

    /// Runs on the current runtime, in the background.
    #[must_use]
    pub fn spawn(self) -> WorkerHandle {
        WorkerHandle::spawn(self)
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("config", &self.config).finish_non_exhaustive()
    }
}
