//! The JSON Schema of a pipeline file, for editors.

use serde_json::{Value, json};

use crate::config::described_settings;

/// As JSON Schema, draft 2020-12: `docs/pipeline.schema.json`.
#[must_use]
pub fn json_schema() -> Value {
    let mut properties = serde_json::Map::new();
    // The topics are those of the sinks.
    for (name, doc) in described_settings().filter(|(name, _)| *name != "topics") {
        let kinds = ["string", "integer", "boolean", "array"];
        properties.insert(
            name.to_owned(),
            json!({ "description": doc, "type": kinds, "items": { "type": "string" } }),
        );
    }
    properties.insert(
        "kafka".to_owned(),
        json!({ "description": "Properties of librdkafka, such as \"fetch.min.bytes\" = 1", "type": "object" }),
    );
    let sinks = json!({ "description": "Topics into a table; tables are written in this order", "type": "array",
                        "minItems": 1, "items": sink() });
    properties.insert("sink".to_owned(), sinks);
    let tests = json!({ "description": "Records, and what is to become of them: highwater test", "type": "array",
                        "items": test() });
    properties.insert("test".to_owned(), tests);
    properties.insert("registry".to_owned(), registry());
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Highwater pipeline",
        "type": "object",
        "additionalProperties": false,
        "required": ["sink"],
        "properties": properties,
    })
}

fn sink() -> Value {
    let text = |description: &str| json!({ "description": description, "type": "string" });
    let one_of = |description: &str, values: &[&str]| json!({ "description": description, "enum": values });
    let names = json!({ "type": "array", "items": { "type": "string" } });
    let column = json!({ "anyOf": [
        { "type": "string" },
        { "type": "object", "additionalProperties": false, "required": ["from"], "properties": {
            "from": text("A path, such as value.paid_at"),
            "unit": one_of("What a number in it counts, since 1970-01-01T00:00:00Z", &["d", "s", "ms", "us", "ns"]),
            "type": text("The column's type in SQL, such as numeric(12,2), where `evolve` may make or compare it"),
        } },
    ] });
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["topic", "table"],
        "properties": {
            "topic": { "description": "A topic, a ^pattern, or a list of them",
                       "anyOf": [{ "type": "string" }, names] },
            "table": text("The table, as SQL names it; or shop.{topic[n]}, one of each topic's, named by its n-th part"),
            "columns": { "description": "A list of columns that have their fields' names, or column = \"value.path\". Default: the fields of the values' schema",
                         "anyOf": [names, { "type": "object", "additionalProperties": column }] },
            "flatten": text("Without columns: objects in the values' schema become columns, too, with this between the names: _"),
            "key_format": one_of("What a record's key is. Default: none, it is not looked at",
                                 &["none", "string", "json", "bytes", "avro", "protobuf", "json_schema"]),
            "value": one_of("What a record's value is. Default: json",
                            &["json", "string", "bytes", "avro", "protobuf", "json_schema"]),
            "schema": schema("Of values that name none"),
            "key_schema": schema("Of keys that name none"),
            "envelope": one_of("What is around the row in a value. Default: none", &["none", "connect_json", "debezium"]),
            "mode": one_of("How rows get into the table. Default: append", &["append", "insert_ignore", "upsert", "update"]),
            "key": { "description": "The table's columns by which an upsert finds a row. Default: its primary key",
                     "type": "array", "items": { "type": "string" } },
            "version": text("The column by which the newer row of a key stays, however late the older one comes"),
            "rest": text("A json or jsonb column for the value's fields that no path names"),
            "missing": one_of("A path for which a record has nothing. Default: null, but not for all of them", &["null", "reject"]),
            "extra": one_of("A field that no path names. Default: ignore", &["ignore", "reject"]),
            "unchanged": text("What stands for a large value that has not changed: in an upsert, the column keeps what the table has. Default: with envelope = debezium, __debezium_unavailable_value"),
            "deletes": {
                "description": "A record without a value. Default: apply in an upsert that knows the key, else reject",
                "anyOf": [
                    { "enum": ["apply", "ignore", "reject"] },
                    { "type": "object", "additionalProperties": false, "required": ["soft"], "properties": {
                        "soft": text("The row stays, and is marked in this column: a timestamptz, timestamp or boolean"),
                    } },
                ],
            },
            "where": text("Which records are meant: value.status != 'test' && key.id == 5"),
            "nul": one_of("U+0000, which Postgres cannot hold. Default: reject", &["reject", "strip"]),
            "bytea": one_of("What text means in bytea columns. Default: hex", &["hex", "base64", "utf8"]),
            "provenance": {
                "description": "Columns for where a record has come from",
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "topic": text("A text column"),
                    "partition": text("An integer column"),
                    "offset": text("A bigint column"),
                    "timestamp": text("A timestamptz, timestamp or bigint column"),
                },
            },
            "on_bad_record": one_of("A record that is rejected. Default: the setting on_rejected",
                                    &["halt", "dead_letter", "park_key"]),
            "evolve": one_of("A table that is not what is written. Default: none, it is not looked at before the first record",
                             &["none", "validate", "print", "create", "add_columns"]),
        },
    })
}

/// Of a file, or of a registry.
fn schema(description: &str) -> Value {
    let text = |description: &str| json!({ "description": description, "type": "string" });
    json!({
        "description": description,
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "file": text("A file, beside the pipeline's: .avsc, .proto"),
            "message": text("Which message of a .proto file. Default: its first"),
            "subject": text("A subject of the registry"),
            "version": { "description": "Its version. Default: the latest when the process starts", "type": "integer" },
        },
    })
}

fn registry() -> Value {
    let text = |description: &str| json!({ "description": description, "type": "string" });
    let secret = |description: &str| {
        json!({ "description": description, "type": "object", "additionalProperties": false,
                "properties": { "file": text("A file"), "env": text("A variable of the environment"),
                                "command": text("A shell command that prints it") } })
    };
    json!({
        "description": "The schema registry of records that name their schemas",
        "type": "object",
        "additionalProperties": false,
        "required": ["url"],
        "properties": {
            "url": { "description": "Its address, or several", "anyOf": [
                { "type": "string" }, { "type": "array", "items": { "type": "string" } } ] },
            "user": text("For HTTP Basic"),
            "password": secret("For HTTP Basic"),
            "token": secret("Of a bearer"),
            "ca": text("Whom its certificate must come from: a file or folder. Default: system"),
            "schema_wait": text("How long a schema is waited for that it does not know yet. Default: 5m"),
        },
    })
}

fn test() -> Value {
    let text = |description: &str| json!({ "description": description, "type": "string" });
    let rows = |description: &str| {
        json!({ "description": description, "type": "object",
                "additionalProperties": { "type": "array", "items": { "type": "object" } } })
    };
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["name"],
        "properties": {
            "name": text("What is tested"),
            "topic": text("The record's topic. Default: the only one"),
            "key": text("The record's key. Default: none"),
            "value": text("The record's value. Default: none, a tombstone"),
            "headers": { "description": "The record's headers", "type": "object",
                         "additionalProperties": { "type": "string" } },
            "rows": rows("By table, the rows that are written; columns that are left out are NULL"),
            "deletes": rows("By table, the keys that are deleted"),
            "rejects": text("It is rejected, for a reason with these words"),
            "nothing": { "description": "Nothing comes of it", "type": "boolean" },
        },
    })
}
