//! Clients of the kit: quick to reconnect, and quiet.

use std::time::Duration;

use rdkafka::{
    ClientConfig, ClientContext, Statistics,
    admin::AdminClient,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    consumer::{BaseConsumer, ConsumerContext},
    error::KafkaError,
};

use crate::testing::error::Result;

/// How long a single request of the kit may take.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Keeps the client's log lines ("connection refused" while a broker starts) out of the tests' output.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", ?level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason);
    }

    fn stats(&self, _statistics: Statistics) {}
}

impl ConsumerContext for Quiet {}

/// A client configuration for these brokers: reconnects quickly, for tests take servers away and bring them back.
///
/// For clients that a test makes for itself.
#[must_use]
pub fn quiet_client_config(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("broker.address.family", "v4")
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "500")
        .set("topic.metadata.refresh.fast.interval.ms", "50")
        .set("log.connection.close", "false");
    config
}

pub(super) fn admin(bootstrap: &str) -> Result<AdminClient<Quiet>> {
    Ok(AdminClient::from_config_and_context(&quiet_client_config(bootstrap), Quiet)?)
}

/// A consumer that joins no group.
pub(super) fn consumer(bootstrap: &str, settings: &[(&str, &str)]) -> Result<BaseConsumer<Quiet>> {
    let mut config = quiet_client_config(bootstrap);
    config.set("enable.auto.commit", "false").set("group.id", "highwater-test-kit");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    Ok(config.create_with_context(Quiet)?)
}
