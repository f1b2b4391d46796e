//! What the client calls back: its log, and the last rebalance while it is being closed.

use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaRespErr;

/// Passes the client's log on to `tracing`.
#[derive(Debug, Default)]
pub(crate) struct Context;

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // The client calls a lost connection an error and repeats it; here ERROR means that a human must act,
        // so its log stays at DEBUG and the worker says what follows from it.
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::warn!(target: "highwater::kafka", facility, "{message}");
            }
            _ => tracing::debug!(target: "highwater::kafka", facility, "{message}"),
        }
    }

    /// The poll loop takes them as they come; what comes while the client is being closed is nobody's, and long.
    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "highwater::kafka", %error, "{reason}");
    }
}

impl ConsumerContext for Context {
    /// Only reached while the client is being dropped: the poll loop answers every rebalance before that. By
    /// then nothing is fetched any more, so the answer is the same whatever the event: nothing is assigned.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, _: RDKafkaRespErr, _: &mut TopicPartitionList) {
        if let Err(error) = consumer.unassign() {
            tracing::debug!(target: "highwater::kafka", %error, "the closing client refused the last unassign");
        }
    }
}
