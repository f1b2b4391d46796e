//! Exactly-once Kafka-to-Postgres sink framework: rows and offsets in one transaction, fenced.

mod batch;
mod handler;
mod offset;
mod record;
mod sqlstate;
mod tx;

pub use batch::{Batch, PartitionRecords};
pub use handler::{Handler, HandlerError, HandlerErrorKind, HandlerFn, HandlerFuture, handler_fn};
pub use offset::NextOffset;
pub use record::{Record, RecordId};
pub use tx::{Prepared, Savepoint, Statement, Tx};

/// The driver whose types appear in [`Tx`]'s methods, in the version they need.
pub use tokio_postgres;
