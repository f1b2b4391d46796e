//! The one table of the options of converters with a schema registry, and what becomes of each. `docs/from-connect.md` is
//! made from it, too.
//!
//! Read from `AbstractKafkaSchemaSerDeConfig.java`, `AvroDataConfig.java`, `ProtobufDataConfig.java` and
//! `JsonSchemaDataConfig.java` of Confluent (8.x), and from Apicurio's `SerdeConfig.java` (2.x and 3.x).

use super::connector::Source;
use super::findings::Findings;
use super::options::Fate::{ByHand, NotNeeded, Only, Refused, Taken};
use super::options::{Fate, begins, give};
use crate::config::suggest;

/// Converters whose records name their schemas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Avro,
    Protobuf,
    JsonSchema,
    Apicurio,
}

use Family::{Apicurio, Avro, JsonSchema, Protobuf};

const CONFLUENTS: &[Family] = &[Avro, Protobuf, JsonSchema];
const AVRO: &[Family] = &[Avro];
const EITHER_AVRO: &[Family] = &[Avro, Apicurio];
const PROTOBUF: &[Family] = &[Protobuf];
const JSON: &[Family] = &[JsonSchema];
const APICURIO: &[Family] = &[Apicurio];
const ALL: &[Family] = &[Avro, Protobuf, JsonSchema, Apicurio];

impl Family {
    /// Whose converter it is, as its class's last name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Avro => "AvroConverter",
            Protobuf => "ProtobufConverter",
            JsonSchema => "JsonSchemaConverter",
            Apicurio => "Apicurio's AvroConverter",
        }
    }

    /// As `value` and `key_format` write it.
    pub(super) fn format(self) -> &'static str {
        match self {
            Avro | Apicurio => "avro",
            Protobuf => "protobuf",
            JsonSchema => "json_schema",
        }
    }
}

const WRITING: &str = "it is about writing";
const KEPT: &str = "schemas are kept as long as they come";
const AS_WRITTEN: &str = "a value is read by the schema that it was written with";
const NULLS: &str = "null stays null, whatever the schema has as a default";
const RETRIED: &str = "a registry that is away is waited for; each question has five seconds";
const OWN_CLIENT: &str = "it is about Java's client";
const TLS: &str = "the newest that both sides speak is chosen";
const CA: &str = "Java's trust stores are not read: name a file in PEM by `registry.ca`";
const NO_CERTIFICATE: &str = "a registry is shown `user` and `password`, or a `token`, and no certificate: leave it out, \
                              if the registry does not insist";
const ISSUER: &str = "tokens are not asked for at an issuer: leave bearer.auth.* out, import, and write `registry.token = { command = \"…\" }`";
const UNION: &str = "the value of a union stands here without its branch's name, and a field of a `oneof` by its own: leave it \
                     out, import, and see to `columns`";
const RULES: &str =
    "rules on data (encryption, migrations) are not run: leave it out, if the schemas have none";
const SECRET: &str = "`registry.user`; the secret is not copied: `registry.password` names a file for it";
const ELSEWHERE: &str = "the schema would not be where the record says";
const AS_CONFLUENT: &str = "that schemas are named as Confluent does, by four bytes";
const ARTIFACT: &str = "`columns` must be listed: their schema's subject is not TOPIC-value";

/// By the name behind `value.converter.` and `key.converter.`.
pub(super) const CONVERTERS: &[(&str, &[Family], Fate)] = &[
    ("schemas.enable", ALL, NotNeeded("these converters do not read it")),
    // Where the schemas are.
    ("schema.registry.url", CONFLUENTS, Taken("`registry.url`")),
    (
        "basic.auth.credentials.source",
        CONFLUENTS,
        Taken("`USER_INFO` and `URL` (the default); SASL_INHERIT is refused"),
    ),
    ("basic.auth.user.info", CONFLUENTS, Taken(SECRET)),
    ("schema.registry.basic.auth.user.info", CONFLUENTS, Taken(SECRET)),
    ("bearer.auth.credentials.source", CONFLUENTS, Taken("`STATIC_TOKEN` (the default); others are refused")),
    ("bearer.auth.token", CONFLUENTS, Taken("`registry.token` names a file for it; it is not copied")),
    ("bearer.auth.*", CONFLUENTS, Refused(ISSUER)),
    ("schema.registry.ssl.truststore.location", CONFLUENTS, ByHand(CA)),
    (
        "schema.registry.ssl.truststore.password",
        CONFLUENTS,
        ByHand("is not copied: a file in PEM needs none"),
    ),
    ("schema.registry.ssl.truststore.type", CONFLUENTS, NotNeeded("certificates are read in PEM")),
    (
        "schema.registry.ssl.truststore.certificates",
        CONFLUENTS,
        ByHand("write them to a file, and name it by `registry.ca`"),
    ),
    ("schema.registry.ssl.keystore.*", CONFLUENTS, Refused(NO_CERTIFICATE)),
    ("schema.registry.ssl.key.password", CONFLUENTS, Refused(NO_CERTIFICATE)),
    (
        "schema.registry.ssl.endpoint.identification.algorithm",
        CONFLUENTS,
        Only(&["https"], "the name in a certificate is always looked at: leave it out"),
    ),
    ("schema.registry.ssl.*", CONFLUENTS, NotNeeded(TLS)),
    (
        "proxy.*",
        CONFLUENTS,
        Refused("no proxy is gone through: leave it out, if the registry can be reached without"),
    ),
    (
        "request.header.*",
        CONFLUENTS,
        Refused("only `user` and `password`, or a `token`, are shown: leave it out"),
    ),
    (
        "context.name.strategy",
        CONFLUENTS,
        Only(
            &["io.confluent.kafka.serializers.context.NullContextNameStrategy"],
            "contexts of the registry are not asked for: leave it out, if the ids are those of the default context",
        ),
    ),
    ("http.connect.timeout.ms", CONFLUENTS, NotNeeded(RETRIED)),
    ("http.read.timeout.ms", CONFLUENTS, NotNeeded(RETRIED)),
    ("max.retries", CONFLUENTS, NotNeeded(RETRIED)),
    ("retries.wait.ms", CONFLUENTS, NotNeeded(RETRIED)),
    ("retries.max.wait.ms", CONFLUENTS, NotNeeded(RETRIED)),
    // Which schema.
    (
        "value.subject.name.strategy",
        CONFLUENTS,
        Taken(
            "another one than TopicNameStrategy: `columns` must be listed, for TOPIC-value is asked for those left out; \
               the values name their schemas themselves",
        ),
    ),
    ("key.subject.name.strategy", CONFLUENTS, NotNeeded("keys name their schemas themselves")),
    (
        "value.schema.id.deserializer",
        CONFLUENTS,
        Only(
            ID_DESERIALIZERS,
            "schemas are named in front of the bytes, or in a header: classes are not run",
        ),
    ),
    (
        "key.schema.id.deserializer",
        CONFLUENTS,
        Only(
            ID_DESERIALIZERS,
            "schemas are named in front of the bytes, or in a header: classes are not run",
        ),
    ),
    ("value.schema.id.serializer", CONFLUENTS, NotNeeded(WRITING)),
    ("key.schema.id.serializer", CONFLUENTS, NotNeeded(WRITING)),
    ("use.latest.version", CONFLUENTS, NotNeeded(AS_WRITTEN)),
    (
        "use.latest.with.metadata",
        CONFLUENTS,
        Refused("a value is read by the schema that it was written with: leave it out"),
    ),
    ("latest.compatibility.strict", CONFLUENTS, NotNeeded(AS_WRITTEN)),
    ("latest.cache.size", CONFLUENTS, NotNeeded(KEPT)),
    ("latest.cache.ttl.sec", CONFLUENTS, NotNeeded(KEPT)),
    ("max.schemas.per.subject", CONFLUENTS, NotNeeded(KEPT)),
    ("schemas.cache.config", ALL, NotNeeded(KEPT)),
    ("schemas.cache.size", ALL, NotNeeded(KEPT)),
    ("auto.register.schemas", CONFLUENTS, NotNeeded(WRITING)),
    ("normalize.schemas", CONFLUENTS, NotNeeded(WRITING)),
    ("propagate.schema.tags", CONFLUENTS, NotNeeded(WRITING)),
    ("use.schema.id", CONFLUENTS, NotNeeded(WRITING)),
    ("id.compatibility.strict", CONFLUENTS, NotNeeded(WRITING)),
    ("schema.format", CONFLUENTS, NotNeeded("schemas are asked for as they are")),
    ("schema.reflection", CONFLUENTS, NotNeeded(OWN_CLIENT)),
    ("rule.service.loader.enable", CONFLUENTS, NotNeeded(OWN_CLIENT)),
    ("rule.*", CONFLUENTS, Refused(RULES)),
    // What becomes of a value.
    ("ignore.default.for.nullables", CONFLUENTS, NotNeeded(NULLS)),
    ("replace.null.with.default", CONFLUENTS, NotNeeded(NULLS)),
    ("generalized.sum.type.support", CONFLUENTS, Only(&["false"], UNION)),
    ("scrub.invalid.names", CONFLUENTS, NotNeeded(WRITING)),
    (
        "enhanced.avro.schema.support",
        EITHER_AVRO,
        NotNeeded("an enum is its text, and names of packages are not looked at"),
    ),
    (
        "connect.meta.data",
        EITHER_AVRO,
        NotNeeded("it is about writing; Connect's names in the schemas are read"),
    ),
    ("allow.optional.map.keys", AVRO, NotNeeded(WRITING)),
    ("discard.type.doc.default", AVRO, NotNeeded("neither documentation nor defaults are looked at")),
    ("avro.use.logical.type.converters", AVRO, NotNeeded("Avro's logical types are always read")),
    ("avro.reflection.allow.null", AVRO, NotNeeded(WRITING)),
    ("avro.remove.java.properties", AVRO, NotNeeded(WRITING)),
    ("specific.avro.reader", AVRO, NotNeeded(OWN_CLIENT)),
    ("enhanced.protobuf.schema.support", PROTOBUF, NotNeeded("names of packages are not looked at")),
    ("optional.for.nullables", PROTOBUF, NotNeeded("a field with presence that is not there is NULL")),
    ("optional.for.proto2", PROTOBUF, NotNeeded("a field with presence that is not there is NULL")),
    ("wrapper.for.nullables", PROTOBUF, NotNeeded("a wrapper is what it holds, or NULL")),
    (
        "wrapper.for.raw.primitives",
        PROTOBUF,
        Only(&["true"], "a wrapper is always what it holds: leave it out, if no key or value is one"),
    ),
    (
        "generate.index.for.unions",
        PROTOBUF,
        ByHand(
            "a field of a `oneof` stands here by its own name, and not inside NAME_0 or NAME: see to `columns`",
        ),
    ),
    ("generate.struct.for.nulls", PROTOBUF, NotNeeded(WRITING)),
    ("flatten.unions", PROTOBUF, NotNeeded("a field of a `oneof` always stands by its own name")),
    ("flatten.singleton.unions", &[Avro, JsonSchema], NotNeeded("a union's value stands without its branch")),
    (
        "int.for.enums",
        PROTOBUF,
        Only(&["false"], "an enum is its name here: leave it out, import, and see to the column's type"),
    ),
    ("reference.subject.name.strategy", PROTOBUF, NotNeeded(WRITING)),
    ("reference.lookup.only", PROTOBUF, NotNeeded(WRITING)),
    ("skip.known.types", PROTOBUF, NotNeeded(WRITING)),
    ("decimal.format", JSON, NotNeeded(WRITING)),
    ("object.additional.properties", JSON, NotNeeded("fields that no column takes are left; see `extra`")),
    ("use.optional.for.nonrequired", JSON, NotNeeded("a field that is not there is NULL; see `missing`")),
    ("ignore.modern.dialects", JSON, NotNeeded("the JSON Schema itself is not looked at")),
    (
        "json.fail.invalid.schema",
        JSON,
        ByHand(
            "JSON is not checked against its schema: types, NOT NULL and CHECK of the table say what gets in",
        ),
    ),
    ("json.fail.unknown.properties", JSON, NotNeeded("fields that no column takes are left; see `extra`")),
    ("json.*", JSON, NotNeeded(WRITING)),
    // Apicurio's.
    (
        "apicurio.registry.url",
        APICURIO,
        Taken(
            "`registry.url`: of …/apis/registry/v2 (or v3) the path with Confluent's API, …/apis/ccompat/v7",
        ),
    ),
    ("apicurio.registry.url.version", APICURIO, NotNeeded("Confluent's API is asked")),
    ("apicurio.registry.as-confluent", APICURIO, Taken(AS_CONFLUENT)),
    (
        "apicurio.registry.id-handler",
        APICURIO,
        Taken("the same by Legacy4ByteIdHandler or Default4ByteIdHandler; others are refused"),
    ),
    (
        "apicurio.registry.use-id",
        APICURIO,
        Taken("`contentId`: Confluent's API finds schemas by it; `globalId` is refused"),
    ),
    (
        "apicurio.registry.headers.enabled",
        APICURIO,
        Only(
            &["false"],
            "Apicurio's headers are not read: only values that name their schema by their first bytes are",
        ),
    ),
    ("apicurio.registry.headers.*", APICURIO, NotNeeded("Apicurio's headers are not read")),
    ("apicurio.registry.avro.encoding", APICURIO, Only(&["BINARY"], "Avro as JSON is not read")),
    ("apicurio.registry.artifact-resolver-strategy", APICURIO, Taken(ARTIFACT)),
    ("apicurio.registry.artifact.group-id", APICURIO, Taken(ARTIFACT)),
    ("apicurio.registry.artifact.artifact-id", APICURIO, Taken(ARTIFACT)),
    ("apicurio.registry.fallback.*", APICURIO, Refused(ELSEWHERE)),
    ("apicurio.registry.schema-resolver", APICURIO, Refused("classes are not run: leave it out")),
    ("apicurio.registry.converter.deserializer", APICURIO, Refused("classes are not run: leave it out")),
    ("apicurio.registry.auth.username", APICURIO, Taken("`registry.user`")),
    ("apicurio.auth.username", APICURIO, Taken("`registry.user`")),
    (
        "apicurio.registry.auth.password",
        APICURIO,
        ByHand("is not copied: put it into the file that `registry.password` names"),
    ),
    (
        "apicurio.auth.password",
        APICURIO,
        ByHand("is not copied: put it into the file that `registry.password` names"),
    ),
    (
        "apicurio.registry.auth.*",
        APICURIO,
        Refused(
            "tokens are not asked for at an issuer: leave it out, import, and write `registry.token = { command = \"…\" }`",
        ),
    ),
    (
        "apicurio.auth.*",
        APICURIO,
        Refused(
            "tokens are not asked for at an issuer: leave it out, import, and write `registry.token = { command = \"…\" }`",
        ),
    ),
    (
        "apicurio.registry.request.*",
        APICURIO,
        Refused(
            "headers and key stores of your own are not shown to a registry: leave it out; see `registry.ca`",
        ),
    ),
    ("apicurio.registry.*", APICURIO, NotNeeded("it is about writing, or about Java's client")),
];

/// What reads a frame as it is read here.
const ID_DESERIALIZERS: &[&str] = &[
    "io.confluent.kafka.serializers.schema.id.DualSchemaIdDeserializer",
    "io.confluent.kafka.serializers.schema.id.PrefixSchemaIdDeserializer",
    "io.confluent.kafka.serializers.schema.id.HeaderSchemaIdDeserializer",
];

/// Values that may be kept elsewhere: those that are never copied are looked at where they are used.
const SECRETS: &[&str] =
    &["basic.auth.user.info", "schema.registry.basic.auth.user.info", "bearer.auth.token"];

/// Gives each option of a side its due, but for those that are taken: these are read elsewhere.
pub(super) fn check(source: &Source, side: &str, family: Family, findings: &mut Findings) {
    for (option, value) in source.iter().filter(|(_, value)| !value.is_empty()) {
        let Some(own) = option.strip_prefix(side).and_then(|rest| rest.strip_prefix('.')) else { continue };
        match find(own, family) {
            Some(fate) => give(option, value, fate, SECRETS.contains(&own), findings),
            None => {
                let known =
                    CONVERTERS.iter().filter(|(_, of, _)| of.contains(&family)).map(|(name, ..)| *name);
                let hint = match suggest(own, known) {
                    Some(near) => format!("did you mean `{side}.{near}`?"),
                    None => "remove it".to_owned(),
                };
                findings.refuse(option, format!("is not known as an option of {}: {hint}", family.name()));
            }
        }
    }
}

fn find(name: &str, family: Family) -> Option<Fate> {
    let mine = || CONVERTERS.iter().filter(|(_, of, _)| of.contains(&family));
    mine()
        .find(|(known, ..)| *known == name)
        .or_else(|| mine().filter(|(known, ..)| begins(name, known)).max_by_key(|(known, ..)| known.len()))
        .map(|(_, _, fate)| *fate)
}
