//! Exactly-once Kafka-to-Postgres sink framework.

pub mod config;
pub mod error;
pub mod migrate;
pub mod schema;

pub use config::{Config, PartialConfig};
pub use error::{Error, ErrorKind, Result};
pub use schema::SchemaName;
