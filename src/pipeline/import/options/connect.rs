//! What Kafka Connect itself reads of a sink connector's configuration.

use super::Fate::{NotNeeded, Only, Refused, Taken, With};
use super::{EVERY, Entry, RETRIED, entry};

const ELSEWHERE: &str =
    "stored with its reason in the table `dead_letter`, in the transaction that steps over it";
const LOGGED: &str = "each rejected record is told of; payloads are never logged";
const DEFAULTS: &str = "null stays null: what an envelope's schema has as a default is not read";

pub(in super::super) const CONNECT: &[Entry] = &[
    entry("name", EVERY, Taken("`group = \"connect-NAME\"`")),
    entry("connector.class", EVERY, Taken("how the other options are read")),
    entry("connector.plugin.version", EVERY, NotNeeded("there is no plugin")),
    entry("tasks.max", EVERY, NotNeeded("start as many processes as you like; each has `lanes`")),
    entry("tasks.max.enforce", EVERY, NotNeeded("there are no tasks")),
    entry(
        "config.action.reload",
        EVERY,
        NotNeeded("restart the process: partitions change hands in a moment"),
    ),
    entry("topics", EVERY, Taken("`topic`")),
    entry("topics.regex", EVERY, Taken("`topic = \"^pattern$\"`")),
    entry(
        "value.converter",
        EVERY,
        Taken(
            "`value` (JsonConverter, StringConverter; with a registry, see below: AvroConverter, ProtobufConverter, JsonSchemaConverter)",
        ),
    ),
    entry(
        "value.converter.schemas.enable",
        EVERY,
        Taken("`true` (Connect's default): `envelope = \"connect_json\"`"),
    ),
    entry(
        "value.converter.schema.content",
        EVERY,
        Taken("no envelope: records have none then, and this schema is not read"),
    ),
    entry("value.converter.schemas.cache.size", EVERY, NotNeeded("schemas are kept as long as they come")),
    entry(
        "value.converter.decimal.format",
        EVERY,
        NotNeeded("it is about writing; numbers are read digit by digit"),
    ),
    entry("value.converter.replace.null.with.default", EVERY, NotNeeded(DEFAULTS)),
    entry(
        "value.converter.encoding",
        EVERY,
        Only(&["UTF-8", "UTF8"], "only UTF-8 is read: not yet another one"),
    ),
    entry("value.converter.*", EVERY, With("value.converter")),
    entry(
        "key.converter",
        EVERY,
        Taken("`key_format`, where the key is read (the same, and ByteArrayConverter)"),
    ),
    entry(
        "key.converter.schemas.enable",
        EVERY,
        Taken(
            "`true` (Connect's default): read in an envelope, with the value's; paths through `payload`, if the value has none",
        ),
    ),
    entry("key.converter.schema.content", EVERY, Taken("no envelope")),
    entry("key.converter.schemas.cache.size", EVERY, NotNeeded("schemas are kept as long as they come")),
    entry("key.converter.decimal.format", EVERY, NotNeeded("it is about writing")),
    entry("key.converter.replace.null.with.default", EVERY, NotNeeded(DEFAULTS)),
    entry(
        "key.converter.encoding",
        EVERY,
        Only(&["UTF-8", "UTF8"], "only UTF-8 is read: not yet another one"),
    ),
    entry("key.converter.*", EVERY, With("key.converter")),
    entry("header.converter", EVERY, NotNeeded("a header that is not written need not be read")),
    entry("header.converter.*", EVERY, With("header.converter")),
    entry(
        "transforms",
        EVERY,
        Taken("`envelope = \"debezium\"` by ExtractNewRecordState, `flatten` by Flatten; others are refused"),
    ),
    entry("transforms.*", EVERY, With("transforms")),
    entry(
        "predicates",
        EVERY,
        Refused("conditions for transforms are not supported yet: write them as `where`"),
    ),
    entry("predicates.*", EVERY, With("predicates")),
    entry("errors.tolerance", EVERY, Taken("`on_bad_record`: `none` is `halt`, `all` is `dead_letter`")),
    entry("errors.deadletterqueue.topic.name", EVERY, NotNeeded(ELSEWHERE)),
    entry("errors.deadletterqueue.topic.replication.factor", EVERY, NotNeeded(ELSEWHERE)),
    entry("errors.deadletterqueue.context.headers.enable", EVERY, NotNeeded(ELSEWHERE)),
    entry("errors.retry.timeout", EVERY, NotNeeded(RETRIED)),
    entry("errors.retry.delay.max.ms", EVERY, NotNeeded(RETRIED)),
    entry("errors.log.enable", EVERY, NotNeeded(LOGGED)),
    entry("errors.log.include.messages", EVERY, NotNeeded(LOGGED)),
    entry("consumer.override.*", EVERY, Taken("`[kafka]` or a setting: see the next table")),
    entry("producer.override.*", EVERY, NotNeeded("nothing is produced: dead letters are in Postgres")),
    entry("admin.override.*", EVERY, NotNeeded("no topics are created: dead letters are in Postgres")),
];
