//! Exactly-once Kafka-to-Postgres sink framework: rows and offsets in one transaction, fenced.

mod backoff;
mod batch;
mod claim;
mod commit;
pub mod config;
mod consumer;
mod db;
pub mod error;
mod failpoint;
mod handler;
mod lane;
pub mod migrate;
mod offset;
mod partition;
mod record;
pub mod schema;
mod sqlstate;
#[cfg(feature = "testing")]
pub mod testing;
mod tx;
mod worker;

pub use batch::{Batch, PartitionRecords};
pub use config::{Config, PartialConfig};
pub use error::{Error, ErrorKind, Result};
pub use handler::{Handler, HandlerError, HandlerErrorKind, HandlerFn, HandlerFuture, handler_fn};
pub use offset::NextOffset;
pub use record::{Record, RecordId};
pub use schema::SchemaName;
pub use tx::{Prepared, Savepoint, Statement, Tx};
pub use worker::{
    Counters, PartitionState, PartitionStatus, Phase, Worker, WorkerBuilder, WorkerHandle, WorkerStatus,
};

/// The driver whose types appear in [`Tx`]'s methods, in the version they need.
pub use tokio_postgres;
