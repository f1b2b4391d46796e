//! The one integration-test binary: real Kafka, real Postgres.

mod clean;
mod harness;
mod migrate;
mod operator;
mod support;
