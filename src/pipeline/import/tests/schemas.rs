//! Converters with a schema registry.

use serde_json::{Value, json};

use super::super::import;
use super::super::{Imported, converters};
use super::{DEBEZIUM, changed, check, golden, refused, with};

const AVRO: &str = include_str!("avro.json");
const PROTOBUF: &str = include_str!("protobuf.json");

/// The least of a connector that reads Avro, with `changes`.
fn avro(changes: &Value) -> String {
    let base = json!({
        "value.converter": "io.confluent.connect.avro.AvroConverter",
        "value.converter.schemas.enable": null,
        "value.converter.schema.registry.url": "https://registry:8081",
    });
    with(&serde_json::from_str(&changed(&base, changes)).unwrap())
}

/// The same by Apicurio's.
fn apicurio(changes: &Value) -> String {
    let base = json!({
        "value.converter": "io.apicurio.registry.utils.converter.AvroConverter",
        "value.converter.schema.registry.url": null,
        "value.converter.apicurio.registry.url": "https://apicurio/apis/registry/v2",
        "value.converter.apicurio.registry.as-confluent": "true",
        "value.converter.apicurio.registry.use-id": "contentId",
    });
    avro(&serde_json::from_str(&changed(&base, changes)).unwrap())
}

/// A key by Avro, of an upsert.
fn keyed(changes: &Value) -> Value {
    let base = json!({
        "insert.mode": "upsert", "pk.mode": "record_key", "pk.fields": "id",
        "key.converter": "io.confluent.connect.avro.AvroConverter",
        "key.converter.schema.registry.url": "https://registry:8081",
    });
    serde_json::from_str(&changed(&base, changes)).unwrap()
}

fn taken(json: &str) -> Imported {
    let imported = import(json).unwrap_or_else(|error| panic!("{json}: {error}"));
    check(&imported);
    imported
}

fn assert_lines(imported: &Imported, lines: &[&str]) {
    for line in lines {
        assert!(imported.toml.contains(&format!("\n{line}\n")), "{line}: {}", imported.toml);
    }
}

#[test]
fn avro_with_a_registry_is_taken_over() {
    let imported = taken(AVRO);
    golden("avro.toml", &imported);
}

#[test]
fn debeziums_sink_of_protobuf_is_taken_over() {
    let imported = taken(PROTOBUF);
    golden("protobuf.toml", &imported);
}

#[test]
fn no_secret_of_a_registry_gets_out() {
    let with_secrets = [
        AVRO.to_owned(),
        avro(&json!({"value.converter.schema.registry.url": "https://u:s3cret@a,https://u:s3cret@b"})),
        avro(&json!({"value.converter.bearer.auth.token": "s3cret"})),
        apicurio(&json!({
            "value.converter.apicurio.registry.auth.username": "u",
            "value.converter.apicurio.registry.auth.password": "s3cret",
        })),
    ];
    for json in with_secrets {
        let imported = taken(&json);
        assert!(!format!("{imported:?}").contains("s3cret"), "{}", imported.toml);
    }
    for changes in [
        json!({"value.converter.basic.auth.user.info": "u:s3cret"}),
        json!({"value.converter.basic.auth.user.info": "s3cret",
               "value.converter.basic.auth.credentials.source": "USER_INFO"}),
        json!({"value.converter.schema.registry.url": "https://u:s3cret@a b"}),
        json!({"value.converter.schema.registry.url": "http://u:s3cret@a"}),
        json!({"value.converter.schema.registry.url": "u:s3cret@a"}),
        json!({"value.converter.bearer.auth.client.secret": "s3cret"}),
        json!({"value.converter.request.header.Authorization": "s3cret"}),
        json!({"value.converter.schema.registry.ssl.keystore.password": "s3cret"}),
    ] {
        let said = import(&avro(&changes)).unwrap_err().report();
        assert!(!said.contains("s3cret"), "{said}");
    }
}

#[test]
fn formats_are_those_of_the_converters() {
    for (class, format) in [
        ("io.confluent.connect.avro.AvroConverter", "avro"),
        ("io.confluent.connect.protobuf.ProtobufConverter", "protobuf"),
        ("io.confluent.connect.json.JsonSchemaConverter", "json_schema"),
    ] {
        let imported = taken(&avro(&keyed(&json!({"value.converter": class, "key.converter": class}))));
        let (key, value) = (format!("key_format = \"{format}\""), format!("value = \"{format}\""));
        let id = "columns.id = \"key.id\"";
        assert_lines(
            &imported,
            &[&key, &value, id, "columns.a = \"value.a\"", "registry.url = \"https://registry:8081\""],
        );
        assert!(
            !imported.toml.contains("\nmissing"),
            "a field need not be in each schema: {}",
            imported.toml
        );
    }
    let only_the_key = keyed(&json!({
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "false",
        "value.converter.schema.registry.url": null,
    }));
    let imported = taken(&avro(&only_the_key));
    assert_lines(
        &imported,
        &["key_format = \"avro\"", "value = \"json\"", "registry.url = \"https://registry:8081\""],
    );
}

#[test]
fn credentials_become_their_places() {
    let password = "registry.password = { file = \"/etc/highwater/registry-password\" }";
    for (changes, lines) in [
        (
            json!({"value.converter.schema.registry.url": "https://a%40b:x@r-1:8081/p,https://a%40b:x@r-2:8081/p"}),
            vec![
                "registry.url = [\"https://r-1:8081/p\", \"https://r-2:8081/p\"]",
                "registry.user = \"a@b\"",
                password,
            ],
        ),
        (
            json!({"value.converter.basic.auth.credentials.source": "USER_INFO",
                   "value.converter.schema.registry.basic.auth.user.info": "me:${env:PASSWORD}"}),
            vec!["registry.user = \"me\"", password],
        ),
        (
            json!({"value.converter.bearer.auth.credentials.source": "STATIC_TOKEN",
                   "value.converter.bearer.auth.token": "${env:TOKEN}"}),
            vec!["registry.token = { file = \"/etc/highwater/registry-token\" }"],
        ),
        (
            json!({"value.converter.schema.registry.url": "http://registry:8081"}),
            vec!["registry.url = \"http://registry:8081\""],
        ),
    ] {
        assert_lines(&taken(&avro(&changes)), &lines);
    }
}

#[test]
fn columns_are_left_out_where_the_schema_has_them() {
    let all = json!({"fields.whitelist": null});
    for (changes, by_schema) in [
        (json!({}), true),
        (json!({"pk.mode": "record_value", "pk.fields": "id", "insert.mode": "upsert"}), true),
        (json!({"pk.mode": "kafka"}), true),
        (keyed(&json!({})), true),
        (keyed(&json!({"delete.enabled": "true"})), true),
        (keyed(&json!({"pk.fields": null})), true),
        (json!({"value.converter": "io.confluent.connect.protobuf.ProtobufConverter"}), true),
        (
            json!({"value.converter.value.subject.name.strategy": "io.confluent.kafka.serializers.subject.TopicNameStrategy"}),
            true,
        ),
        (
            json!({"value.converter.value.subject.name.strategy": "io.confluent.kafka.serializers.subject.RecordNameStrategy"}),
            false,
        ),
        (json!({"value.converter": "io.confluent.connect.json.JsonSchemaConverter"}), false),
        (json!({"topics": null, "topics.regex": "a.*", "table.name.format": "t"}), false),
        (json!({"timestamp.fields.list": "at"}), false),
        (
            keyed(&json!({"key.converter": "org.apache.kafka.connect.storage.StringConverter",
                          "key.converter.schema.registry.url": null, "delete.enabled": "true"})),
            true,
        ),
        (
            keyed(&json!({"key.converter": "org.apache.kafka.connect.converters.ByteArrayConverter",
                          "key.converter.schema.registry.url": null})),
            false,
        ),
        // The key's columns are not in the value perhaps, and an append would not miss them.
        (keyed(&json!({"insert.mode": "insert"})), false),
        (
            keyed(&json!({"key.converter": "org.apache.kafka.connect.json.JsonConverter",
                       "key.converter.schema.registry.url": null})),
            false,
        ),
        (keyed(&json!({"pk.fields": "Id", "quote.sql.identifiers": "never"})), false),
    ] {
        let changes: Value = serde_json::from_str(&changed(&all, &changes)).unwrap();
        let imported = import(&avro(&changes)).unwrap_or_else(|error| panic!("{changes}: {error}"));
        assert!(!imported.toml.contains("\ncolumns"), "{changes}: {}", imported.toml);
        assert_eq!(imported.toml.contains("# columns.COLUMN"), !by_schema, "{changes}: {}", imported.toml);
        if by_schema {
            check(&imported);
        }
    }
    let imported = taken(&avro(&keyed(&json!({"fields.whitelist": null, "delete.enabled": "true"}))));
    assert_lines(&imported, &["key = [\"id\"]", "key_format = \"avro\"", "deletes = \"apply\""]);
    let imported = taken(&avro(&keyed(&json!({"fields.whitelist": null}))));
    assert!(!imported.toml.contains("\nkey_format"), "nothing is looked for in it: {}", imported.toml);
}

#[test]
fn change_events_may_be_in_avro() {
    let imported = taken(&avro(&keyed(&json!({
        "fields.whitelist": null, "delete.enabled": "true",
        "transforms": "unwrap", "transforms.unwrap.type": "io.debezium.transforms.ExtractNewRecordState",
    }))));
    assert_lines(
        &imported,
        &["value = \"avro\"", "envelope = \"debezium\"", "key = [\"id\"]", "deletes = \"apply\""],
    );
}

#[test]
fn nested_records_may_be_flattened() {
    let flatten =
        json!({"transforms": "f", "transforms.f.type": "org.apache.kafka.connect.transforms.Flatten$Value"});
    let both = json!({"transforms": "unwrap,f", "transforms.f.delimiter": "_",
                      "transforms.unwrap.type": "io.debezium.transforms.ExtractNewRecordState"});
    let columns = json!({"fields.whitelist": null});
    let with = |changes: &[&Value]| -> Value {
        let add = |all: Value, changes: &&Value| serde_json::from_str(&changed(&all, changes)).unwrap();
        changes.iter().fold(json!({}), add)
    };
    assert_lines(&taken(&avro(&with(&[&columns, &flatten]))), &["flatten = \".\""]);
    let imported = taken(&avro(&with(&[&columns, &flatten, &both])));
    assert_lines(&imported, &["envelope = \"debezium\"", "flatten = \"_\""]);
    let predicate = json!({"transforms.f.predicate": "p"});
    let key = json!({"transforms.f.type": "org.apache.kafka.connect.transforms.Flatten$Key"});
    let turned = json!({"transforms": "f,unwrap"});
    for (changes, option, why) in [
        (with(&[&flatten]), "transforms.f", "columns.a_b"),
        (with(&[&columns, &flatten, &predicate]), "transforms.f.predicate", "not taken over yet"),
        (with(&[&columns, &flatten, &key]), "transforms.f", "columns.a_b"),
        (with(&[&columns, &flatten, &both, &turned]), "transforms.unwrap", "Flatten comes behind it"),
    ] {
        let lines = refused(&avro(&changes));
        let wanted = format!("`{option}`: ");
        assert!(
            lines.iter().any(|line| line.starts_with(&wanted) && line.contains(why)),
            "{changes}: {lines:?}"
        );
    }
}

#[test]
fn tables_grow_by_the_schema_unless_names_would_be_others() {
    for (changes, evolve, is_noted) in [
        (json!({"auto.evolve": "true"}), "add_columns", false),
        (json!({"auto.create": "true"}), "create", false),
        (json!({"auto.evolve": "true", "fields.whitelist": "a"}), "add_columns", false),
        (json!({"auto.evolve": "true", "quote.sql.identifiers": "never"}), "validate", false),
        (
            json!({"auto.evolve": "true", "fields.whitelist": "a",
                   "value.converter": "io.confluent.connect.json.JsonSchemaConverter"}),
            "add_columns",
            true,
        ),
    ] {
        let changes: Value =
            serde_json::from_str(&changed(&json!({"fields.whitelist": null}), &changes)).unwrap();
        let imported = taken(&avro(&changes));
        assert_lines(&imported, &[&format!("evolve = \"{evolve}\"")]);
        let noted = imported.notes.iter().any(|note| note.text.contains("`type`"));
        assert_eq!(noted, is_noted, "{changes}: {:#?}", imported.notes);
    }
    let base: Value = serde_json::from_str(DEBEZIUM).unwrap();
    let debezium = |changes: &Value| {
        let avro = json!({
            "name": "c", "value.converter": "io.confluent.connect.avro.AvroConverter",
            "value.converter.schema.registry.url": "http://registry:8081", "primary.key.fields": "id",
            "field.exclude.list": null,
        });
        let changes = serde_json::from_str(&changed(&avro, changes)).unwrap();
        import(&changed(&base["config"], &changes)).unwrap()
    };
    assert!(debezium(&json!({"field.exclude.list": "secret"})).toml.contains("# columns.COLUMN"));
}

#[test]
fn apicurio_is_asked_by_confluents_api() {
    let url = "registry.url = \"https://apicurio/apis/ccompat/v7\"";
    assert_lines(&taken(&apicurio(&json!({}))), &["value = \"avro\"", url]);
    let new = json!({
        "value.converter.apicurio.registry.url": "https://apicurio/apis/registry/v3/",
        "value.converter.apicurio.registry.as-confluent": null,
        "value.converter.apicurio.registry.use-id": null,
        "value.converter.apicurio.registry.auth.username": "me",
    });
    assert_lines(&taken(&apicurio(&new)), &[url, "registry.user = \"me\""]);
    let other = json!({"fields.whitelist": null, "value.converter.apicurio.registry.artifact.group-id": "g"});
    assert!(import(&apicurio(&other)).unwrap().toml.contains("# columns.COLUMN"));
}

#[test]
fn what_a_registry_cannot_be_is_refused_by_name() {
    let value = |own: &str, given: &str| avro(&json!({format!("value.converter.{own}"): given}));
    let apicurios = |own: &str, given: Value| {
        (
            apicurio(&json!({format!("value.converter.apicurio.registry.{own}"): given})),
            format!("value.converter.apicurio.registry.{own}"),
        )
    };
    let strings = |(json, option): (String, String), why: &'static str| (json, option, why);
    let of_value = |own: &str, given: &str, why: &'static str| {
        (value(own, given), format!("value.converter.{own}"), why)
    };
    for (json, option, why) in [
        of_value("schema.registry.url", "", "is missing"),
        of_value("schema.registry.url", "mock://a", "https://"),
        of_value("schema.registry.url", "${env:URL}", "config providers"),
        of_value("schema.registry.url", "https://a:x@r,https://b:x@q", "several users"),
        of_value("schema.registry.url", "http://a:x@registry", "not TLS"),
        of_value("basic.auth.user.info", "a:b", "USER_INFO"),
        of_value("basic.auth.credentials.source", "USER_INFO", "user.info"),
        of_value("basic.auth.credentials.source", "SASL_INHERIT", "`USER_INFO`"),
        of_value("bearer.auth.credentials.source", "OAUTHBEARER", "command"),
        of_value("bearer.auth.issuer.endpoint.url", "https://i", "command"),
        of_value("schema.registry.ssl.keystore.location", "/a.jks", "no certificate"),
        of_value("proxy.host", "p", "proxy"),
        of_value("rule.executors", "e", "rules"),
        of_value("context.name.strategy", "a.B", "default context"),
        of_value("generalized.sum.type.support", "true", "branch"),
        of_value("wrapper.for.nullables", "true", "not known as an option of AvroConverter"),
        of_value(
            "enhanced.avro.schema.suport",
            "true",
            "did you mean `value.converter.enhanced.avro.schema.support`?",
        ),
        (
            avro(&json!({"value.converter": "io.confluent.connect.protobuf.ProtobufConverter",
                         "value.converter.int.for.enums": "true"})),
            "value.converter.int.for.enums".to_owned(),
            "its name",
        ),
        (
            avro(&json!({"value.converter.basic.auth.credentials.source": "USER_INFO",
                         "value.converter.basic.auth.user.info": "${file:/a:b}"})),
            "value.converter.basic.auth.user.info".to_owned(),
            "says no user",
        ),
        (
            avro(&keyed(&json!({
                "fields.whitelist": null, "delete.enabled": "true", "key.converter.schema.registry.url": null,
                "key.converter": "org.apache.kafka.connect.converters.ByteArrayConverter",
            }))),
            "delete.enabled".to_owned(),
            "names no row",
        ),
        (
            avro(&keyed(&json!({
                "fields.whitelist": null, "pk.fields": "a,b", "key.converter.schema.registry.url": null,
                "key.converter": "org.apache.kafka.connect.storage.StringConverter",
            }))),
            "pk.fields".to_owned(),
            "several fields",
        ),
        (
            avro(&keyed(&json!({"key.converter.schema.registry.url": "https://other"}))),
            "key.converter".to_owned(),
            "one registry",
        ),
        (
            avro(&keyed(&json!({
                "key.converter.basic.auth.credentials.source": "USER_INFO",
                "key.converter.basic.auth.user.info": "a:1",
                "value.converter.basic.auth.credentials.source": "USER_INFO",
                "value.converter.basic.auth.user.info": "a:2",
            }))),
            "key.converter".to_owned(),
            "one registry",
        ),
        strings(apicurios("as-confluent", json!("false")), "eight bytes"),
        strings(apicurios("as-confluent", json!(null)), "eight bytes"),
        strings(apicurios("use-id", json!("globalId")), "contentId"),
        strings(apicurios("use-id", json!(null)), "contentId"),
        strings(apicurios("headers.enabled", json!("true")), "headers"),
        strings(apicurios("url", json!("https://a/api")), "/apis/registry/v2"),
        strings(apicurios("auth.client.id", json!("c")), "command"),
        (
            avro(&json!({"value.converter": "io.apicurio.registry.utils.converter.ProtobufConverter"})),
            "value.converter".to_owned(),
            "own frame",
        ),
    ] {
        let lines = refused(&json);
        let beginning = format!("`{option}`: ");
        assert!(
            lines.iter().any(|line| line.starts_with(&beginning) && line.contains(why)),
            "{json}: {lines:#?}"
        );
    }
    // A key that is not read needs no registry.
    taken(&avro(
        &json!({"key.converter": "io.confluent.connect.avro.AvroConverter", "key.converter.anything": "x"}),
    ));
}

#[test]
fn a_converters_option_has_one_entry() {
    for (at, (name, of, _)) in converters::CONVERTERS.iter().enumerate() {
        let again = converters::CONVERTERS[..at]
            .iter()
            .any(|(other, theirs, _)| other == name && theirs.iter().any(|one| of.contains(one)));
        assert!(!again, "{name}");
    }
}

#[test]
fn short_names_of_classes_are_told_apart_by_options() {
    let short = |changes: &Value| {
        with(&serde_json::from_str(&changed(&json!({"connector.class": "JdbcSink"}), changes)).unwrap())
    };
    for (changes, owner) in [
        (json!({}), "Confluent"),
        (json!({"connector.class": "JdbcSinkConnector", "date.timezone": "UTC"}), "Confluent"),
        (json!({"sql.quote.identifiers": "true"}), "Aiven"),
        (
            json!({"fields.whitelist": null, "field.include.list": "a,b", "connection.username": "u"}),
            "Debezium",
        ),
    ] {
        let imported = taken(&short(&changes));
        assert!(imported.toml.contains(&format!("from {owner}'s JDBC sink")), "{changes}: {}", imported.toml);
        assert!(imported.notes.iter().any(|note| note.text.contains("short name")), "{:#?}", imported.notes);
    }
    for changes in [json!({"fields.whitelist": null}), json!({"connection.username": "u"})] {
        let said = import(&short(&changes)).unwrap_err().to_string();
        assert!(said.contains("write the whole class"), "{changes}: {said}");
    }
}
