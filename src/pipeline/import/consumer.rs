//! `consumer.override.*`: Java's consumer properties as librdkafka's, or as settings.

use super::connector::{Source, is_reference, split};
use super::findings::Findings;
use super::options::REFERENCE;
use super::write::{list, text};
use crate::config::suggest;

pub(super) const PREFIX: &str = "consumer.override.";

/// What becomes of a property. The texts are sentences' ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Override {
    /// The same under `[kafka]`.
    Same,
    /// Under another name in `[kafka]`.
    Renamed(&'static str),
    /// A setting that takes a text.
    Setting(&'static str),
    /// A setting that takes a list.
    List(&'static str),
    /// A setting that takes a duration; Kafka's is in milliseconds.
    Duration(&'static str),
    /// It replaces the group's name.
    Group,
    NotNeeded(&'static str),
    /// Not copied; what to do instead.
    ByHand(&'static str),
    Refused(&'static str),
}

use Override::{ByHand, Duration, Group, List, NotNeeded, Refused, Renamed, Same, Setting};

const JKS: &str = "Java's key stores are not read: give a file in PEM by `ssl.ca.location`, `ssl.certificate.location` and \
                   `ssl.key.location` under `[kafka]`";
const POSITIONS: &str = "positions are in Postgres";
const BATCHES: &str = "batches find their size: see `batch_target_records`";

/// By the name behind `consumer.override.`.
pub(super) const OVERRIDES: &[(&str, Override)] = &[
    ("bootstrap.servers", List("brokers")),
    ("group.id", Group),
    (
        "group.instance.id",
        Refused(
            "one name cannot be that of several processes: set `instance_id` for each, and \
                                   leave it out here",
        ),
    ),
    ("group.protocol", Setting("group_protocol")),
    ("group.remote.assignor", Setting("assignor")),
    ("partition.assignment.strategy", NotNeeded("it is `cooperative-sticky`: see `assignor`")),
    ("client.id", NotNeeded("it tells the members of the group apart")),
    ("client.rack", Same),
    ("client.dns.lookup", Same),
    ("isolation.level", Setting("isolation")),
    ("session.timeout.ms", Duration("session_timeout")),
    ("heartbeat.interval.ms", Duration("heartbeat_interval")),
    ("max.poll.interval.ms", NotNeeded("a batch is bounded by `max_processing_time`")),
    ("max.poll.records", NotNeeded(BATCHES)),
    (
        "auto.offset.reset",
        NotNeeded("the group begins where the connector has stopped; see `on_offset_lost`"),
    ),
    ("enable.auto.commit", NotNeeded(POSITIONS)),
    ("auto.commit.interval.ms", NotNeeded(POSITIONS)),
    ("check.crcs", NotNeeded("they are always checked")),
    ("allow.auto.create.topics", NotNeeded("topics are never created")),
    ("exclude.internal.topics", NotNeeded("they never match a pattern")),
    ("key.deserializer", NotNeeded("bytes are read")),
    ("value.deserializer", NotNeeded("bytes are read")),
    ("interceptor.classes", Refused("classes are not run: leave it out")),
    ("fetch.min.bytes", Same),
    ("fetch.max.bytes", Same),
    ("fetch.max.wait.ms", Renamed("fetch.wait.max.ms")),
    ("max.partition.fetch.bytes", Same),
    ("receive.buffer.bytes", Renamed("socket.receive.buffer.bytes")),
    ("send.buffer.bytes", Renamed("socket.send.buffer.bytes")),
    ("metadata.max.age.ms", Same),
    ("connections.max.idle.ms", Same),
    ("reconnect.backoff.ms", Same),
    ("reconnect.backoff.max.ms", Same),
    ("retry.backoff.ms", Same),
    ("retry.backoff.max.ms", Same),
    ("request.timeout.ms", NotNeeded("the client's own bounds hold (`socket.timeout.ms`)")),
    ("default.api.timeout.ms", NotNeeded("the client's own bounds hold (`socket.timeout.ms`)")),
    ("security.protocol", Same),
    ("sasl.mechanism", Renamed("sasl.mechanisms")),
    ("sasl.kerberos.service.name", Same),
    (
        "sasl.jaas.config",
        ByHand(
            "is not copied, since it holds a password: write `\"sasl.username\"` under `[kafka]`, \
                                 and give the password by `kafka_password_file`; with OAUTHBEARER, see \
                                 `kafka_token_url`",
        ),
    ),
    ("sasl.login.callback.handler.class", ByHand("classes are not run: see `kafka_token_command`")),
    ("sasl.client.callback.handler.class", ByHand("classes are not run: see `kafka_token_command`")),
    ("sasl.oauthbearer.token.endpoint.url", Setting("kafka_token_url")),
    ("ssl.endpoint.identification.algorithm", Same),
    ("ssl.truststore.location", ByHand(JKS)),
    ("ssl.truststore.password", ByHand("is not copied: a file in PEM needs none")),
    ("ssl.truststore.type", NotNeeded("certificates are read in PEM")),
    (
        "ssl.truststore.certificates",
        ByHand("write them to a file, and name it by `ssl.ca.location` under `[kafka]`"),
    ),
    ("ssl.keystore.location", ByHand(JKS)),
    ("ssl.keystore.password", ByHand("is not copied: see `kafka_key_password_file`")),
    ("ssl.keystore.type", NotNeeded("certificates are read in PEM")),
    (
        "ssl.keystore.key",
        ByHand("is not copied: write it to a file, and name it by `ssl.key.location` under `[kafka]`"),
    ),
    (
        "ssl.keystore.certificate.chain",
        ByHand(
            "write it to a file, and name it by `ssl.certificate.location` under \
                                               `[kafka]`",
        ),
    ),
    ("ssl.key.password", ByHand("is not copied: see `kafka_key_password_file`")),
    ("ssl.protocol", NotNeeded("OpenSSL chooses the newest that both sides speak")),
    ("ssl.enabled.protocols", NotNeeded("OpenSSL chooses the newest that both sides speak")),
    ("ssl.provider", NotNeeded("it is Java's")),
];

/// What the overrides say.
#[derive(Debug, Default)]
pub(super) struct Overrides {
    /// Lines of the file's head: key and value in TOML.
    pub(super) settings: Vec<(&'static str, String)>,
    /// Properties of librdkafka.
    pub(super) kafka: Vec<(&'static str, String)>,
    pub(super) group: Option<String>,
}

impl Overrides {
    pub(super) fn of(source: &Source, findings: &mut Findings) -> Self {
        let mut this = Self::default();
        for (option, value) in source.iter().filter(|(_, value)| !value.is_empty()) {
            if let Some(name) = option.strip_prefix(PREFIX) {
                this.take(option, name, value, findings);
            }
        }
        this
    }

    fn take(&mut self, option: &str, name: &str, value: &str, findings: &mut Findings) {
        let Some((name, fate)) = OVERRIDES.iter().find(|(known, _)| *known == name) else {
            let hint = match suggest(name, OVERRIDES.iter().map(|(known, _)| *known)) {
                Some(near) => format!("did you mean `{PREFIX}{near}`?"),
                None => "leave it out, and write what librdkafka calls it under `[kafka]`".to_owned(),
            };
            findings.refuse(option, format!("is not known as a property of Kafka's consumer: {hint}"));
            return;
        };
        match fate {
            NotNeeded(_) => {}
            ByHand(what) => findings.note(option, *what),
            Refused(why) => findings.refuse(option, *why),
            _ if is_reference(value) => findings.refuse(option, REFERENCE),
            Same => self.kafka.push((name, text(value))),
            Renamed(other) => self.kafka.push((other, text(value))),
            Setting(setting) => {
                // Java's are written in any case.
                let value =
                    if *setting == "kafka_token_url" { value.to_owned() } else { value.to_lowercase() };
                self.settings.push((setting, text(&value)));
            }
            List(setting) => self.settings.push((setting, list(&split(value)))),
            Duration(setting) => match value.parse::<u64>() {
                Ok(ms) => self.settings.push((setting, text(&format!("{ms}ms")))),
                Err(_) => findings.refuse(option, "is no number of milliseconds"),
            },
            Group => self.group = Some(value.to_owned()),
        }
    }
}
