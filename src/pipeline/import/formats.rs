//! Converters as `value` and `key_format`, and what paths begin with.

use super::connector::Source;
use super::findings::Findings;
use crate::pipeline::path::{Path, Root, Step};

/// How one side of a record is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    /// As `value` and `key_format` write it.
    pub(super) name: &'static str,
    /// Inside Connect's envelope.
    pub(super) payload: bool,
}

impl Format {
    /// Where a field is.
    pub(super) fn path(self, root: Root, field: &str) -> String {
        let mut steps = Vec::new();
        if self.payload {
            steps.push(Step::Field("payload".to_owned()));
        }
        if self.name == "json" {
            steps.push(Step::Field(field.to_owned()));
        }
        Path { root, steps }.to_string()
    }
}

const JSON: &str = "org.apache.kafka.connect.json.JsonConverter";
const STRING: &str = "org.apache.kafka.connect.storage.StringConverter";
const BYTES: &str = "org.apache.kafka.connect.converters.ByteArrayConverter";

/// Those that are known and not taken, and what they are.
const NOT_YET: &[(&str, &str)] = &[
    ("io.confluent.connect.avro.AvroConverter", "Avro"),
    ("io.confluent.connect.protobuf.ProtobufConverter", "Protobuf"),
    ("io.confluent.connect.json.JsonSchemaConverter", "JSON behind the five bytes of a schema registry"),
    ("io.apicurio.registry.utils.converter.AvroConverter", "Avro"),
    ("io.apicurio.registry.utils.converter.ProtobufConverter", "Protobuf"),
    ("io.apicurio.registry.utils.converter.ExtJsonConverter", "JSON behind the bytes of a schema registry"),
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

/// The converter's format. `side` is `value.converter` or `key.converter`.
pub(super) fn read(source: &Source, side: &'static str, findings: &mut Findings) -> Format {
    let json = Format { name: "json", payload: false };
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
            Format { name: "json", payload }
        }
        STRING => {
            options_of(source, side, &["encoding"], findings);
            Format { name: "string", payload: false }
        }
        BYTES if side == "key.converter" => Format { name: "bytes", payload: false },
        other => {
            match NOT_YET.iter().find(|(known, _)| *known == other) {
                Some((_, what)) => findings.refuse(
                    side,
                    format!("{what} is not read yet; JsonConverter and StringConverter can be taken over"),
                ),
                None => findings.refuse(
                    side,
                    "is none of the converters that can be taken over: JsonConverter, StringConverter and, for keys, \
                     ByteArrayConverter",
                ),
            }
            json
        }
    }
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
