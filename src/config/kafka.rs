//! From [`Config`] to the properties of librdkafka: what Highwater sets, and what a user may change.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;

use super::group::GroupProtocol;
use super::settings::Config;

/// The start of every Highwater member's `client.id`; the rest is the owner. Tells our members from others in a
/// group.
pub const CLIENT_ID_PREFIX: &str = "highwater/";

/// What Highwater chooses unless the user does: none of these can break an invariant.
///
/// | property | why |
/// |---|---|
/// | `fetch.queue.backoff.ms` | 1000 by default: a partition would stall a second whenever the local queue is full |
/// | `queued.max.messages.kbytes`, `fetch.max.bytes` | the buffers and their budget are ours; the client's own queue only has to cover one round trip, and its memory comes on top of the budget |
/// | `queued.min.messages` | 100,000 by default: they would sit in the client, outside the budget, and whenever the budget pauses a partition, those of it would be thrown away and fetched again |
/// | `fetch.wait.max.ms` | a partition added or resumed waits for the fetch under way, so this is part of every hand-over |
/// | `topic.metadata.refresh.interval.ms` | 5 minutes by default: for that long added partitions would not be read |
/// | `reconnect.backoff.max.ms` | a broker that is back should be noticed well within the session |
/// | `socket.keepalive.enable` | a connection that a firewall dropped is found by the kernel |
const TUNABLE: &[(&str, &str)] = &[
    ("fetch.max.bytes", "8388608"),
    ("fetch.queue.backoff.ms", "5"),
    ("fetch.wait.max.ms", "100"),
    ("queued.max.messages.kbytes", "16384"),
    ("queued.min.messages", "1000"),
    ("reconnect.backoff.max.ms", "2000"),
    ("socket.keepalive.enable", "true"),
    ("topic.metadata.refresh.interval.ms", "10000"),
];

const FETCH_MAX_BYTES: u64 = 8 * 1024 * 1024;

/// What an invariant rests on: the same for everybody, and not to be overridden. The reasons are in `properties/refused.rs`.
const FIXED: &[(&str, &str)] = &[
    ("allow.auto.create.topics", "false"),
    ("auto.offset.reset", "error"),
    ("check.crcs", "true"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "true"),
    ("fetch.error.backoff.ms", "500"),
    ("metadata.recovery.strategy", "none"),
    ("topic.blacklist", "^__consumer_offsets$,^__transaction_state$,^__share_group_state$"),
];

/// By how much `max.poll.interval.ms` exceeds the drain deadline; it must not be below the session time-out either. The
/// polling thread never stops polling, so this ends the membership of a worker whose poll thread is dead. It is also how
/// long the broker waits in a rebalance: for members to give partitions back, which takes them the drain deadline, and, under
/// the classic protocol, for one that asked to join and was not heard of again, as when it was killed just before the broker
/// was: with librdkafka's default of five minutes a group stood still for as long.
const BEYOND_DRAINING: Duration = Duration::from_secs(20);
/// librdkafka's own `session.timeout.ms`, which it compares with, and which cannot be set under KIP-848.
const DEFAULT_SESSION: Duration = Duration::from_secs(45);

/// The complete configuration of a worker's consumer, for `rdkafka::ClientConfig`.
///
/// `owner` is the random id of this process start. The pairs may hold secrets: don't log them.
///
/// Properties of [`Config::kafka`] override Highwater's choices where no invariant is at stake.
///
/// ```
/// use highwater::PartialConfig;
/// use highwater::config::client_properties;
///
/// let config = PartialConfig::default()
///     .brokers(vec!["localhost:9092".to_owned()])
///     .postgres_url("postgres://localhost/app")
///     .group("fraud-rules-v2")
///     .topics(vec!["payments.tx_events".to_owned()])
///     .finish()?;
/// let mut client = rdkafka::ClientConfig::new();
/// client.extend(client_properties(&config, uuid::Uuid::new_v4()));
/// assert_eq!(client.get("auto.offset.reset"), Some("error"));
/// # Ok::<(), highwater::Error>(())
/// ```
#[must_use]
pub fn client_properties(config: &Config, owner: Uuid) -> Vec<(String, String)> {
    let mut properties: BTreeMap<String, String> = BTreeMap::new();
    let mut set = |name: &str, value: &str| properties.insert(name.to_owned(), value.to_owned());
    for (name, value) in TUNABLE {
        set(name, value);
    }
    for (name, value) in config.kafka.iter() {
        set(name, value);
    }
    // The client refuses to fetch less at once than the largest message may be.
    let largest = config.kafka.get("message.max.bytes").and_then(|bytes| bytes.parse::<u64>().ok());
    if let Some(largest) = largest.filter(|largest| *largest > FETCH_MAX_BYTES)
        && config.kafka.get("fetch.max.bytes").is_none()
    {
        set("fetch.max.bytes", &largest.to_string());
    }
    // Last, so that they win even over a `Config` that somebody changed after `finish`.
    for (name, value) in FIXED {
        set(name, value);
    }
    set("bootstrap.servers", &config.brokers.join(","));
    set("client.id", &format!("{CLIENT_ID_PREFIX}{owner}"));
    set("group.id", &config.group);
    if let Some(instance_id) = &config.instance_id {
        set("group.instance.id", instance_id);
    }
    set("isolation.level", config.isolation.as_str());
    for (name, value) in group_properties(config) {
        set(name, &value);
    }
    properties.into_iter().collect()
}

/// What the group's protocol asks for: each refuses, or would ignore, what belongs to the other.
fn group_properties(config: &Config) -> Vec<(&'static str, String)> {
    let mut properties = vec![("group.protocol", config.group_protocol.as_str().to_owned())];
    let ms = |duration: Duration| duration.as_millis().to_string();
    let max_poll_interval = config.drain_deadline + BEYOND_DRAINING;
    let assignor = config.effective_assignor().map(|assignor| assignor.as_str().to_owned());
    match config.group_protocol {
        GroupProtocol::Classic => {
            let session_timeout = config.effective_session_timeout();
            properties.extend(assignor.map(|assignor| ("partition.assignment.strategy", assignor)));
            properties.push(("session.timeout.ms", ms(session_timeout)));
            properties.push(("heartbeat.interval.ms", ms(config.effective_heartbeat_interval())));
            properties.push(("max.poll.interval.ms", ms(session_timeout.max(max_poll_interval))));
        }
        GroupProtocol::Consumer => {
            properties.extend(assignor.map(|assignor| ("group.remote.assignor", assignor)));
            properties.push(("max.poll.interval.ms", ms(max_poll_interval.max(DEFAULT_SESSION))));
        }
    }
    properties
}

#[cfg(test)]
mod tests {
    use rdkafka::ClientConfig;
    use rdkafka::consumer::BaseConsumer;

    use super::*;
    use crate::PartialConfig;
    use crate::config::properties::{KafkaProperties, REFUSED, check_property, env_name};
    use crate::config::tests;

    fn partial() -> PartialConfig {
        tests::partial().brokers(vec!["127.0.0.1:1".to_owned(), "127.0.0.1:2".to_owned()])
    }

    fn native(config: &Config) -> BTreeMap<String, String> {
        let properties = client_properties(config, Uuid::nil());
        let mut client = ClientConfig::new();
        client.extend(properties.clone());
        let native = client.create_native_config().expect("librdkafka takes every property");
        for (name, value) in &properties {
            assert_eq!(native.get(name).unwrap().trim_end_matches('\0'), value, "{name}");
        }
        properties.into_iter().collect()
    }

    #[test]
    fn librdkafka_takes_the_whole_configuration() {
        let dynamic = native(&partial().finish().unwrap());
        assert_eq!(dynamic["client.id"], "highwater/00000000-0000-0000-0000-000000000000");
        assert_eq!(dynamic["bootstrap.servers"], "127.0.0.1:1,127.0.0.1:2");
        assert_eq!(dynamic["session.timeout.ms"], "10000");
        assert_eq!(dynamic["heartbeat.interval.ms"], "300");
        assert!(!dynamic.contains_key("group.instance.id"));

        let fixed = native(&partial().instance_id("pod-0".to_owned()).finish().unwrap());
        assert_eq!(fixed["group.instance.id"], "pod-0");
        assert_eq!(fixed["session.timeout.ms"], "60000");
        assert_eq!(fixed["heartbeat.interval.ms"], "1000");

        // The checks across properties run only when a client is made; no broker is needed for it.
        let long = partial().session_timeout(Duration::from_secs(600)).finish().unwrap();
        let mut client = ClientConfig::new();
        client.extend(client_properties(&long, Uuid::nil()));
        let _consumer: BaseConsumer = client.create().expect("no property contradicts another");
    }

    /// A consumer is made of each: the checks across properties run only then.
    #[test]
    fn each_protocol_gets_its_own_properties_and_none_of_the_other() {
        use crate::config::{Assignor, GroupProtocol};

        const CLASSIC: &[&str] =
            &["heartbeat.interval.ms", "partition.assignment.strategy", "session.timeout.ms"];
        let classic = |assignor| partial().assignor(assignor);
        let consumer = |assignor| classic(assignor).group_protocol(GroupProtocol::Consumer);
        for (settings, cooperative, expected) in [
            (classic(None), true, ("partition.assignment.strategy", "cooperative-sticky")),
            (classic(Some(Assignor::Range)), false, ("partition.assignment.strategy", "range")),
            (classic(Some(Assignor::RoundRobin)), false, ("partition.assignment.strategy", "roundrobin")),
            (consumer(None), true, ("group.protocol", "consumer")),
            (consumer(Some(Assignor::Uniform)), true, ("group.remote.assignor", "uniform")),
            (consumer(Some(Assignor::Range)), true, ("group.remote.assignor", "range")),
        ] {
            for settings in [settings.clone(), settings.instance_id("pod-0".to_owned())] {
                let config = settings.finish().unwrap();
                assert_eq!(config.is_cooperative(), cooperative, "{expected:?}");
                let properties = native(&config);
                assert_eq!(properties[expected.0], expected.1);
                let classic = config.group_protocol == GroupProtocol::Classic;
                for property in CLASSIC {
                    assert_eq!(properties.contains_key(*property), classic, "{property} with {expected:?}");
                }
                assert_eq!(
                    properties.contains_key("group.remote.assignor"),
                    !classic && config.assignor.is_some()
                );
                let mut client = ClientConfig::new();
                client.extend(properties);
                let _consumer: BaseConsumer = client.create().expect("no property contradicts another");
            }
        }
    }

    #[test]
    fn what_the_invariants_rest_on_can_not_be_changed_behind_finish() {
        let mut config = partial().finish().unwrap();
        config.kafka = FIXED.iter().map(|(name, _)| ((*name).to_owned(), "x".to_owned())).collect();
        let properties = native(&config);
        for (name, value) in FIXED {
            assert_eq!(properties[*name], *value);
        }
    }

    #[test]
    fn every_refused_property_is_refused_with_its_reason() {
        for (property, reason) in REFUSED {
            let error = partial().kafka(*property, "1").finish().expect_err(property);
            assert!(error.is_configuration());
            let text = error.to_string();
            assert!(text.contains(property) && text.contains(reason), "{text}");
            // The same through the environment.
            let env = [(env_name(property), "1".to_owned())];
            let error = PartialConfig::from_sources(None, env.into_iter()).unwrap().or(partial()).finish();
            let text = error.expect_err(property).to_string();
            assert!(text.contains(reason) && text.contains(&env_name(property)), "{text}");
        }
    }

    #[test]
    fn whatever_highwater_fixes_is_refused_from_others() {
        let config = partial().instance_id("x".to_owned()).finish().unwrap();
        for (property, _) in client_properties(&config, Uuid::nil()) {
            let tunable = TUNABLE.iter().any(|(name, _)| *name == property);
            assert_ne!(tunable, REFUSED.iter().any(|(name, _)| *name == property), "{property}");
        }
    }

    #[test]
    fn harmless_properties_pass_and_override() {
        for (property, value) in [
            ("fetch.wait.max.ms", "10"),
            ("queued.min.messages", "1"),
            ("client.rack", "a"),
            ("debug", "cgrp,fetch"),
            ("log_level", "7"),
            ("statistics.interval.ms", "1000"),
            ("security.protocol", "plaintext"),
        ] {
            let config = partial().kafka(property, value).finish().expect(property);
            assert_eq!(native(&config)[property], value);
        }
        let config = partial().kafka("message.max.bytes", "16777216").finish().unwrap();
        assert_eq!(native(&config)["fetch.max.bytes"], "16777216");
        let config = partial().kafka("message.max.bytes", "1000000").finish().unwrap();
        assert_eq!(native(&config)["fetch.max.bytes"], FETCH_MAX_BYTES.to_string());
        let config = partial().kafka("max.partition.fetch.bytes", "5").finish().unwrap();
        assert_eq!(native(&config)["fetch.message.max.bytes"], "5");
    }

    #[test]
    fn librdkafka_judges_the_rest() {
        for (property, value) in
            [("fetch.mim.bytes", "1"), ("fetch.min.bytes", "many"), ("rebalance_cb", "x")]
        {
            let error = partial().kafka(property, value).finish().expect_err(property);
            assert!(error.to_string().contains(property), "{error}");
        }
    }

    #[test]
    fn secrets_stay_out_of_debug_and_errors() {
        let layer = partial().kafka("sasl.password", "s3cret").kafka("ssl.key.pem", "s3cret");
        assert!(!format!("{layer:?}").contains("s3cret"));
        let properties: KafkaProperties =
            [("sasl.password", "s3cret"), ("client.rack", "r1"), ("ssl.key.password", "s3cret")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into_iter()
                .collect();
        let text = format!("{properties:?}");
        assert!(text.contains("r1") && text.contains("sasl.password") && !text.contains("s3cret"), "{text}");
        let error = check_property("sasl.oauthbearer.client.secrets", "s3cret").unwrap_err();
        assert!(!error.contains("s3cret"), "{error}");
    }
}
