//! Exactly-once Kafka-to-Postgres sink framework: rows and offsets in one transaction, fenced.
//!
//! A [`Worker`] joins a Kafka consumer group, hands batches of records to your [`Handler`], and commits what the
//! handler writes *together with* the consumed offsets in one Postgres transaction. It starts from the offset that is
//! stored there, never from Kafka's, and a fencing claim keeps a zombie that wakes up after a rebalance from writing
//! anything twice.
//!
//! ```no_run
//! use highwater::tokio_postgres::types::Json;
//! use highwater::{Batch, Handler, HandlerError, Tx, Worker};
//! use serde_json::value::RawValue;
//!
//! struct Payments;
//!
//! impl Handler for Payments {
//!     async fn handle(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
//!         for record in batch.records() {
//!             let body: &RawValue = record.json()?; // every digit as it came
//!             tx.execute("INSERT INTO payments (body) VALUES ($1)", &[&Json(body)]).await?;
//!         }
//!         Ok(())
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> highwater::Result<()> {
//!     // Brokers, database and topics come from the environment: HIGHWATER_BROKERS, HIGHWATER_POSTGRES_URL, …
//!     Worker::builder().group("payments-v1").build(Payments)?.run().await
//! }
//! ```
//!
//! The pages in `docs/` say more: `guarantees.md` what is promised and what is not, `handlers.md` how to write a
//! handler, `configuration.md` every setting, `operations.md` what to do at 3 a.m.

#[cfg(feature = "admin")]
pub mod admin;
mod backoff;
mod batch;
mod claim;
mod commit;
pub mod config;
mod consumer;
mod control;
#[cfg(feature = "admin")]
pub mod dashboard;
mod db;
mod dead_letter;
pub mod doctor;
mod due;
pub mod error;
#[cfg(feature = "admin")]
pub mod exporter;
mod failpoint;
pub mod fleet;
#[cfg(test)]
mod fuzz;
mod handler;
pub mod health;
mod http;
mod invariants;
mod lag;
mod lane;
#[cfg(any(feature = "cli", feature = "otel", feature = "testing"))]
pub mod log;
pub mod metrics;
pub mod migrate;
mod offset;
pub mod offsets;
#[cfg(feature = "otel")]
pub mod otel;
mod partition;
#[cfg(feature = "cli")]
pub mod pipeline;
mod record;
pub mod report;
pub mod schema;
mod secret;
#[cfg(feature = "admin")]
mod server;
pub mod sink;
mod telling;
#[cfg(feature = "testing")]
pub mod testing;
mod token;
mod trace;
mod tx;
mod verdict;
mod worker;

pub use batch::{Batch, PartitionRecords};
pub use config::{Config, PartialConfig};
pub use dead_letter::RejectPolicy;
pub use error::{Error, ErrorKind, Result};
pub use handler::{Handler, HandlerError, HandlerErrorKind, HandlerFn, HandlerFuture, handler_fn};
pub use offset::NextOffset;
pub use record::{Record, RecordId};
pub use schema::SchemaName;
pub use sink::{Keep, Table, TableSink};
pub use token::{KafkaToken, TokenError, TokenSource};
pub use tx::{BinaryCopy, Prepared, Savepoint, Statement, Tx};
pub use worker::{
    Counters, Monitor, PartitionState, PartitionStatus, Phase, Worker, WorkerBuilder, WorkerHandle,
    WorkerStatus,
};

/// The driver whose types appear in [`Tx`]'s methods, in the version they need.
pub use tokio_postgres;

/// The README's worker compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
