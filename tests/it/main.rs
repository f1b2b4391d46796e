//! The one integration-test binary: real Kafka, real Postgres.

mod budget;
mod clean;
mod handler;
mod harness;
mod migrate;
mod outage;
mod records;
mod start;
mod support;
