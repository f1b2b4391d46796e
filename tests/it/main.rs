//! The one integration-test binary: real Kafka, real Postgres.

mod clean;
mod crash;
mod harness;
mod migrate;
mod operator;
mod rebalance;
mod support;
mod zombie;
