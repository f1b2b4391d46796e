//! The one integration-test binary: real Kafka, real Postgres.

mod harness;
