//! The one integration-test binary: real Kafka, real Postgres.

mod adopt;
mod ahead;
mod assign;
mod budget;
mod clean;
mod crash;
mod faults;
mod guard;
mod handler;
mod harness;
mod hosts;
mod migrate;
mod operator;
mod outage;
mod protocol;
mod quickstart;
mod rebalance;
mod records;
mod routing;
mod start_policy;
mod subscription;
mod support;
mod table_sink;
mod tls;
mod went_back;
mod zombie;
