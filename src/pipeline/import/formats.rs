//! Converters as `value` and `key_format`, and what paths begin with.

use super::connector::Source;
use super::converters::{self, Family};
use super::findings::Findings;
use crate::pipeline::path::{Path, Root, Step};

/// How one side of a record is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    /// As `value` and `key_format` write it.
    pub(super) name: &'static str,
    /// Inside Connect's envelope.
    pub(super) payload: bool,
    /// Of converters with a registry.
    pub(super) family: Option<Family>,
    /// Whether the registry has the schema as TOPIC-value.
    pub(super) by_topic: bool,
}

impl Format {
    fn plain(name: &'static str) -> Self {
        Self { name, payload: false, family: None, by_topic: false }
    }

    /// Whether it has fields: JSON, and what is read as JSON.
    pub(super) fn has_fields(self) -> bool {
        self.name == "json" || self.family.is_some()
    }

    /// Whether its schema says which columns there are, and of which types.
    pub(super) fn has_types(self) -> bool {
        self.by_topic && self.family.is_some_and(|family| family != Family::JsonSchema)
    }

    /// Where a field is.
    pub(super) fn path(self, root: Root, field: &str) -> String {
        let mut steps = Vec::new();
        if self.payload {
            steps.push(Step::Field("payload".to_owned()));
        }
        if self.has_fields() {
            steps.push(Step::Field(field.to_owned()));
        }
        Path { root, steps }.to_string()
    }
}

const JSON: &str = "org.apache.kafka.connect.json.JsonConverter";
const STRING: &str = "org.apache.kafka.connect.storage.StringConverter";
const BYTES: &str = "org.apache.kafka.connect.converters.ByteArrayConverter";

const REGISTERED: &[(&str, Family)] = &[
    ("io.confluent.connect.avro.AvroConverter", Family::Avro),
    ("io.confluent.connect.protobuf.ProtobufConverter", Family::Protobuf),
    ("io.confluent.connect.json.JsonSchemaConverter", Family::JsonSchema),
    ("io.apicurio.registry.utils.converter.AvroConverter", Family::Apicurio),
];

/// Those that are known and not taken, and what they are.
const NOT_YET: &[(&str, &str)] = &[
    ("io.apicurio.registry.utils.converter.ProtobufConverter", "Protobuf in Apicurio's own frame"),
    ("io.apicurio.registry.utils.converter.ExtJsonConverter", "JSON in Apicurio's own frame"),
    ("com.amazonaws.services.schemaregistry.kafkaconnect.AWSKafkaAvroConverter", "Avro"),
    ("com.blueapron.connect.protobuf.ProtobufConverter", "Protobuf"),
    ("io.debezium.converters.CloudEventsConverter", "CloudEvents"),
    ("org.apache.kafka.connect.converters.IntegerConverter", "a number in four bytes"),
    ("org.apache.kafka.connect.converters.LongConverter", "a number in eight bytes"),
    ("org.apache.kafka.connect.converters.ShortConverter", "a number in two bytes"),
    ("org.apache.kafka.connect.converters.FloatConverter", "a number in four bytes"),
    ("org.apache.kafka.connect.converters.DoubleConverter", "a number in eight bytes"),
    ("org.apache.kafka.connect.converters.BooleanConverter", "a truth value in a byte"),
];

const TAKEN: &str = "JsonConverter, StringConverter, AvroConverter, ProtobufConverter, JsonSchemaConverter";

/// The converter's format. `side` is `value.converter` or `key.converter`.
pub(super) fn read(source: &Source, side: &'static str, findings: &mut Findings) -> Format {
    let json = Format::plain("json");
    let Some(class) = source.get(side) else {
        findings.refuse(
            side,
            "is missing, so that the Connect worker's own holds: add it from the worker's configuration, with its \
             schemas.enable",
        );
        return json;
    };
    match class {
        JSON => {
            let static_schema = source.get(&format!("{side}.schema.content")).is_some();
            let payload = source.is(&format!("{side}.schemas.enable"), true) && !static_schema;
            options_of(
                source,
                side,
                &[
                    "schemas.enable",
                    "schema.content",
                    "schemas.cache.size",
                    "decimal.format",
                    "replace.null.with.default",
                ],
                findings,
            );
            Format { payload, ..json }
        }
        STRING => {
            options_of(source, side, &["encoding"], findings);
            Format::plain("string")
        }
        BYTES if side == "key.converter" => Format::plain("bytes"),
        other => {
            if let Some((_, family)) = REGISTERED.iter().find(|(known, _)| *known == other) {
                return registered(source, side, *family, findings);
            }
            match NOT_YET.iter().find(|(known, _)| *known == other) {
                Some((_, what)) => findings.refuse(
                    side,
                    format!("{what} is not read yet; {TAKEN} can be taken over"),
                ),
                None => findings.refuse(
                    side,
                    format!("is none of the converters that can be taken over: {TAKEN} and, for keys, ByteArrayConverter"),
                ),
            }
            json
        }
    }
}

fn registered(source: &Source, side: &str, family: Family, findings: &mut Findings) -> Format {
    converters::check(source, side, family, findings);
    if family == Family::JsonSchema {
        findings.note(
            side,
            "the JSON Schema itself is not looked at: a number in a time column needs its `unit`, and a decimal or bytes that \
             Connect wrote in base64 fits no column",
        );
    }
    let of = |own: &str| source.get(&format!("{side}.{own}"));
    let ends_with =
        |own: &str, class: &str| of(own).is_none_or(|given| given.rsplit('.').next() == Some(class));
    let by_topic = ends_with("value.subject.name.strategy", "TopicNameStrategy")
        && ends_with("apicurio.registry.artifact-resolver-strategy", "TopicIdStrategy")
        && of("apicurio.registry.artifact.group-id").is_none()
        && of("apicurio.registry.artifact.artifact-id").is_none();
    if !by_topic && side == "value.converter" {
        findings.note(
            side,
            "the schema's subject is not TOPIC-value, which is asked for columns and types: list `columns`, and with `evolve` \
             the `type` of each",
        );
    }
    Format { name: family.format(), payload: false, family: Some(family), by_topic }
}

/// Refuses what a converter does not read.
fn options_of(source: &Source, side: &str, known: &[&str], findings: &mut Findings) {
    for (option, value) in source.iter() {
        let Some(own) = option.strip_prefix(side).and_then(|rest| rest.strip_prefix('.')) else { continue };
        if !value.is_empty() && !known.contains(&own) {
            let hint = match crate::config::suggest(own, known.iter().copied()) {
                Some(near) => format!("did you mean `{side}.{near}`?"),
                None => "remove it".to_owned(),
            };
            findings.refuse(option, format!("is not known as an option of this converter: {hint}"));
        }
    }
}
