//! What is refused, and with which words.

use serde_json::{Value, json};

use super::super::import;
use super::{DEBEZIUM, changed, refused, with};

#[test]
fn what_cannot_be_said_yet_is_refused_by_name() {
    for (changes, option, why) in [
        (
            json!({"value.converter": "com.amazonaws.services.schemaregistry.kafkaconnect.AWSKafkaAvroConverter"}),
            "value.converter",
            "Avro is not read yet",
        ),
        (
            json!({"value.converter": "com.blueapron.connect.protobuf.ProtobufConverter"}),
            "value.converter",
            "Protobuf",
        ),
        (json!({"value.converter": "com.example.Mine"}), "value.converter", "none of the converters"),
        (json!({"value.converter": null}), "value.converter", "the Connect worker's own holds"),
        (json!({"pk.mode": "record_key"}), "key.converter", "the Connect worker's own holds"),
        (
            json!({"pk.mode": "record_key", "key.converter": "org.apache.kafka.connect.converters.LongConverter"}),
            "key.converter",
            "eight bytes",
        ),
        (json!({"insert.mode": "update"}), "insert.mode", "needs a key"),
        (json!({"insert.mode": "update", "pk.mode": "kafka"}), "insert.mode", "comes once"),
        (json!({"insert.mode": "upsert"}), "insert.mode", "needs a key"),
        (json!({"pk.mode": "record_header"}), "pk.mode", "headers"),
        (json!({"delete.enabled": "true"}), "delete.enabled", "record_key"),
        (json!({"topics": "a,b"}), "table.name.format", "several are read"),
        (json!({"topics": null, "topics.regex": "a.*"}), "table.name.format", "`topics.regex` matches"),
        (json!({"topics": null, "topics.regex": "a{2}", "table.name.format": "a"}), "topics.regex", "{"),
        (json!({"topics": null}), "topics", "nothing would be read"),
        (json!({"table.name.format": "${source.table}"}), "table.name.format", "more than `${topic}`"),
        (json!({"table.name.format": "a..b"}), "table.name.format", "no name of a table"),
        (json!({"db.timezone": "Europe/Berlin"}), "db.timezone", "only UTC"),
        (json!({"dialect.name": "MySqlDatabaseDialect"}), "dialect.name", "only PostgreSQL"),
        (json!({"connection.url": "jdbc:mysql://db/app"}), "connection.url", "only PostgreSQL"),
        (json!({"connection.url": null}), "connection.url", "is missing"),
        (
            json!({"connection.url": "jdbc:postgresql://db/a?sslmod=require"}),
            "connection.url",
            "did you mean `sslmode`?",
        ),
        (json!({"predicates": "p"}), "predicates", "`where`"),
        (
            json!({
                "transforms": "u,r",
                "transforms.u.type": "io.debezium.transforms.ExtractNewRecordState",
                "transforms.r.type": "org.apache.kafka.connect.transforms.RegexRouter",
            }),
            "transforms.u",
            "the only one",
        ),
        (
            json!({
                "transforms": "u",
                "transforms.u.type": "io.debezium.transforms.ExtractNewRecordState",
                "transforms.u.delete.handling.mode": "rewrite",
            }),
            "transforms.u.delete.handling.mode",
            "marked as deleted",
        ),
        (
            json!({
                "transforms": "u",
                "transforms.u.type": "io.debezium.transforms.ExtractNewRecordState",
                "transforms.u.add.fields": "op",
            }),
            "transforms.u.add.fields",
            "event.op",
        ),
        (
            json!({"transforms": "r", "transforms.r.type": "org.apache.kafka.connect.transforms.ReplaceField$Value"}),
            "transforms.r",
            "columns.new",
        ),
        (
            json!({"transforms": "m", "transforms.m.type": "com.example.Mine"}),
            "transforms.m",
            "not taken over yet",
        ),
        (
            json!({"consumer.override.fetch.min.byte": "1"}),
            "consumer.override.fetch.min.byte",
            "consumer.override.fetch.min.bytes`?",
        ),
        (
            json!({"consumer.override.group.instance.id": "a"}),
            "consumer.override.group.instance.id",
            "`instance_id`",
        ),
        (json!({"insert.mod": "insert"}), "insert.mod", "did you mean `insert.mode`?"),
        (json!({"what.is.this": "1"}), "what.is.this", "is not known"),
        (json!({"schema.evolution": "basic"}), "schema.evolution", "Debezium's connector"),
        (json!({"value.converter.schema.enable": "1"}), "value.converter.schema.enable", "schemas.enable`?"),
        (json!({"pk.fields": "${env:PK}"}), "pk.fields", "config providers"),
        (json!({"topics": ["t"]}), "topics", "Connect's options are texts"),
        (
            json!({"pk.mode": "record_key", "pk.fields": "a,b", "insert.mode": "upsert",
                   "key.converter": "org.apache.kafka.connect.storage.StringConverter"}),
            "pk.fields",
            "several fields",
        ),
    ] {
        let lines = refused(&with(&changes));
        let beginning = format!("`{option}`: ");
        assert!(
            lines.iter().any(|line| line.starts_with(&beginning) && line.contains(why)),
            "{changes}: {lines:#?}"
        );
    }
}

#[test]
fn debeziums_own_refusals() {
    let base: Value = serde_json::from_str(DEBEZIUM).unwrap();
    for (changes, option) in [
        (json!({"schema.evolution": "advanced"}), "schema.evolution"),
        (json!({"truncate.enabled": "true"}), "truncate.enabled"),
        (json!({"primary.key.mode": "record_header"}), "primary.key.mode"),
        (json!({"collection.naming.strategy": "com.example.Mine"}), "collection.naming.strategy"),
        (json!({"column.naming.prefix": "c_"}), "column.naming.prefix"),
        (json!({"collection.name.format": "${source.schema}_${source.table}"}), "collection.name.format"),
        (json!({"hibernate.dialect": "x"}), "hibernate.dialect"),
        (json!({"auto.evolve": "true"}), "auto.evolve"),
    ] {
        let lines = refused(&changed(&base["config"], &changed_name(&changes)));
        assert!(lines.iter().any(|line| line.starts_with(&format!("`{option}`: "))), "{changes}: {lines:#?}");
    }
}

fn changed_name(changes: &Value) -> Value {
    serde_json::from_str(&changed(changes, &json!({"name": "customers"}))).unwrap()
}

#[test]
fn all_refusals_are_told_at_once() {
    let lines = refused(&with(&json!({"db.timezone": "CET", "predicates": "p", "insert.mode": "update"})));
    assert_eq!(lines.len(), 3, "{lines:#?}");
}

#[test]
fn other_connectors_and_other_texts_are_refused() {
    for (json, why) in [
        ("{", "one JSON object"),
        ("[]", "one JSON object"),
        ("{}", "no `connector.class`"),
        (
            r#"{"connector.class": "io.confluent.connect.s3.S3SinkConnector"}"#,
            "S3SinkConnector` cannot be imported",
        ),
        (r#"{"connector.class": "io.aiven.connect.jdbc.JdbcSinkConnector"}"#, "has no `name`"),
    ] {
        let said = import(json).unwrap_err().to_string();
        assert!(said.contains(why), "{json}: {said}");
    }
}
