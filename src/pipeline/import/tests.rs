//! Configurations as they are found, what becomes of them, and each refusal.

mod refusals;
mod schemas;

use std::path::Path;

use serde_json::{Map, Value, json};

use super::consumer::{OVERRIDES, Override};
use super::{Imported, import};
use crate::ErrorKind;
use crate::pipeline::Pipeline;

const CONFLUENT: &str = include_str!("tests/confluent.json");
const AIVEN: &str = include_str!("tests/aiven.json");
const DEBEZIUM: &str = include_str!("tests/debezium.json");

/// The least that Confluent's needs, with `changes`; null takes an option out.
fn with(changes: &Value) -> String {
    changed(
        &json!({
            "name": "t",
            "connector.class": "io.confluent.connect.jdbc.JdbcSinkConnector",
            "topics": "t",
            "connection.url": "jdbc:postgresql://db/app",
            "value.converter": "org.apache.kafka.connect.json.JsonConverter",
            "value.converter.schemas.enable": "false",
            "fields.whitelist": "a,b",
        }),
        changes,
    )
}

fn changed(base: &Value, changes: &Value) -> String {
    let mut all: Map<String, Value> = base.as_object().unwrap().clone();
    all.extend(changes.as_object().unwrap().clone());
    Value::Object(all).to_string()
}

fn taken(changes: &Value) -> Imported {
    import(&with(changes)).unwrap_or_else(|error| panic!("{changes}: {error}"))
}

/// The lines of the refusal.
fn refused(json: &str) -> Vec<String> {
    let error = import(json).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    error.to_string().lines().skip(1).map(|line| line.trim().to_owned()).collect()
}

/// That a pipeline can be made of it.
fn check(imported: &Imported) {
    Pipeline::parse(&imported.toml, Path::new("pipeline.toml"))
        .unwrap_or_else(|error| panic!("{}\n{}", error.report(), imported.toml));
}

fn golden(name: &str, imported: &Imported) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/pipeline/import/tests").join(name);
    let notes: String = imported.notes.iter().map(|note| format!("## {note}\n")).collect();
    let made = format!("{}\n{notes}", imported.toml);
    if std::env::var_os("HIGHWATER_TEST_BLESS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == made, "{name} is stale; HIGHWATER_TEST_BLESS=1 writes it. It would be:\n{made}");
}

#[test]
fn confluents_connector_is_taken_over() {
    let imported = import(CONFLUENT).unwrap();
    check(&imported);
    golden("confluent.toml", &imported);
}

#[test]
fn aivens_connector_is_taken_over() {
    let imported = import(AIVEN).unwrap();
    check(&imported);
    golden("aiven.toml", &imported);
}

#[test]
fn debeziums_connector_is_taken_over_and_the_file_is_refused_until_its_columns_are_listed() {
    let imported = import(DEBEZIUM).unwrap();
    toml::from_str::<toml::Table>(&imported.toml).unwrap();
    let error = Pipeline::parse(&imported.toml, Path::new("pipeline.toml")).unwrap_err();
    assert!(error.to_string().contains("columns"), "{}", error.report());
    golden("debezium.toml", &imported);
    let listed =
        imported.toml.replace("# columns.id", "columns.id").replace("# columns.COLUMN", "columns.name");
    check(&Imported { toml: listed, notes: Vec::new() });
}

#[test]
fn no_secret_gets_out() {
    for json in [CONFLUENT, AIVEN, DEBEZIUM] {
        let imported = import(json).unwrap();
        assert!(!format!("{imported:?}").contains("s3cret"), "{}", imported.toml);
    }
    let spoiled = with(&json!({
        "connection.url": "jdbc:postgresql://me:s3cret@db/app?password=s3cret&s3cretx=s3cret&sslfactory=s3cret",
        "connection.password": "s3cret",
        "consumer.override.sasl.password": "s3cret",
        "consumer.override.ssl.keystore.password": "s3cret",
        "consumer.override.session.timeout.ms": "s3cret",
        "transforms": "a",
        "transforms.a.password": "s3cret",
        "hibernate.connection.password": "s3cret",
        "value.converter.basic.auth.user.info": "u:s3cret",
        "jdbc.credentials.provider.class": "s3cret",
        "pk.mode": "s3cret",
        "insert.mode": "s3cret",
    }));
    let said = import(&spoiled).unwrap_err().report();
    assert!(!said.contains("s3cret"), "{said}");
}

#[test]
fn texts_go_into_one_column() {
    let imported = taken(&json!({
        "value.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter.schemas.enable": null,
        "fields.whitelist": null,
        "string.output.value.column.name": "line",
    }));
    check(&imported);
    assert!(imported.toml.contains("value = \"string\"\n"), "{}", imported.toml);
    assert!(imported.toml.contains("columns.line = \"value\"\n"), "{}", imported.toml);
}

#[test]
fn tables_are_named_as_the_connector_names_them() {
    for (changes, table) in [
        (json!({}), "public.t"),
        (json!({"topics": "sales.Orders"}), "sales.\"Orders\""),
        (json!({"topics": "sales.Orders", "quote.sql.identifiers": "never"}), "sales.orders"),
        (json!({"table.name.format": "app.sales.kafka_${topic}"}), "sales.kafka_t"),
        (json!({"table.name.format": "\"a.b\".c"}), "\"a.b\".c"),
        (json!({"topics": "a,b", "table.name.format": "both"}), "public.both"),
        (json!({"connection.url": "jdbc:postgresql://db/app?currentSchema=sales"}), "sales.t"),
    ] {
        let imported = taken(&changes);
        check(&imported);
        let line = format!("\ntable = {}\n", toml::Value::from(table));
        assert!(imported.toml.contains(&line), "{changes}: {}", imported.toml);
    }
}

#[test]
fn addresses_lose_their_passwords_and_keep_the_rest() {
    for (jdbc, url) in [
        ("jdbc:postgresql://db/app", "postgres://db/app"),
        ("jdbc:postgresql:app", "postgres://localhost/app"),
        (
            "jdbc:postgresql://db:5433/app?user=me&password=x&ssl=true",
            "postgres://me@db:5433/app?sslmode=verify-full",
        ),
        (
            "jdbc:postgresql://a,b:5433/app?loadBalanceHosts=true&loginTimeout=5",
            "postgres://a,b:5433/app?load_balance_hosts=random",
        ),
        (
            "jdbc:postgresql://[::1]:5432/app?ssl=true&sslmode=require",
            "postgres://[::1]:5432/app?sslmode=require",
        ),
        ("jdbc:postgresql://me:x@db/app", "postgres://db/app"),
    ] {
        let imported = taken(&json!({"connection.url": jdbc}));
        assert!(imported.toml.contains(&format!("postgres_url = \"{url}\"\n")), "{jdbc}: {}", imported.toml);
    }
    let elsewhere = taken(&json!({"connection.url": "jdbc:postgresql://${env:HOST}/app"}));
    check(&elsewhere);
    assert!(!elsewhere.toml.contains("\npostgres_url"), "{}", elsewhere.toml);
}

#[test]
fn patterns_are_anchored() {
    for (regex, pattern) in
        [("shop\\.(a|b)", "^(shop\\.(a|b))$"), ("^shop\\..*", "^shop\\..*$"), ("a|b", "^(a|b)$")]
    {
        let imported = taken(&json!({"topics": null, "topics.regex": regex, "table.name.format": "x"}));
        check(&imported);
        let line = format!("topic = {}\n", toml::Value::from(pattern));
        assert!(imported.toml.contains(&line), "{regex}: {}", imported.toml);
    }
}

#[test]
fn deletes_are_those_of_the_connector() {
    let keyed = json!({
        "insert.mode": "upsert", "pk.mode": "record_key", "pk.fields": "id",
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
    });
    let set = |deletes: &str| {
        taken(&serde_json::from_str(&changed(&keyed, &json!({"delete.enabled": deletes}))).unwrap())
    };
    assert!(set("true").toml.contains("\ndeletes = \"apply\"\n"));
    assert!(set("false").toml.contains("\ndeletes = \"reject\"\n"), "Confluent's fails on a tombstone");
    check(&set("true"));
}

#[test]
fn rows_that_are_there_are_updated() {
    let imported = taken(&json!({
        "insert.mode": "update", "pk.mode": "record_key", "pk.fields": "id", "delete.enabled": "true",
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
    }));
    assert!(imported.toml.contains("\nmode = \"update\"\nkey = [\"id\"]\n"), "{}", imported.toml);
    assert!(imported.toml.contains("\ndeletes = \"apply\"\n"), "{}", imported.toml);
    check(&imported);
}

#[test]
fn the_groups_name_may_be_overridden() {
    let imported =
        taken(&json!({"consumer.override.group.id": "mine", "consumer.override.session.timeout.ms": 30_000}));
    check(&imported);
    assert!(imported.toml.contains("\ngroup = \"mine\"\n"), "{}", imported.toml);
    assert!(imported.toml.contains("\nsession_timeout = \"30000ms\"\n"), "{}", imported.toml);
}

#[test]
fn empty_options_are_none() {
    let imported = taken(&json!({"transforms": "", "pk.fields": "", "predicates": " ", "auto.create": ""}));
    check(&imported);
}

#[test]
fn what_is_never_copied_may_be_a_reference() {
    let imported = taken(&json!({
        "connection.password": "${file:/etc/db:password}",
        "consumer.override.sasl.jaas.config": "${file:/etc/kafka:jaas}",
    }));
    check(&imported);
    assert!(!imported.toml.contains("/etc/kafka"), "{}", imported.toml);
    let lines = refused(&with(&json!({"consumer.override.client.rack": "${env:RACK}"})));
    assert!(lines.iter().any(|line| line.contains("config providers")), "{lines:#?}");
}

#[test]
fn names_cannot_break_out_of_a_comment() {
    for name in ["a\ngroup = 'x'", "a\u{7f}\"\\b"] {
        for changes in [
            json!({"name": name, "fields.whitelist": name, "table.name.format": name}),
            json!({"fields.whitelist": null, "timestamp.fields.list": name, "pk.mode": "record_value", "pk.fields": name}),
        ] {
            let imported = taken(&changes);
            let file: toml::Table = toml::from_str(&imported.toml).unwrap_or_else(|error| panic!("{error}"));
            assert!(file["group"].as_str().unwrap().starts_with("connect-"), "{}", imported.toml);
        }
    }
}

#[test]
fn coordinates_are_the_columns_that_the_connector_says() {
    let imported = taken(&json!({"pk.mode": "kafka", "pk.fields": "t,p,o", "insert.mode": "upsert"}));
    check(&imported);
    let wanted = "provenance = { topic = \"t\", partition = \"p\", offset = \"o\" }\n";
    assert!(imported.toml.contains(wanted), "{}", imported.toml);
    assert!(imported.toml.contains("mode = \"insert_ignore\"\n"), "{}", imported.toml);
}

#[test]
fn what_is_passed_through_is_known_to_librdkafka() {
    for (name, fate) in OVERRIDES {
        let (Override::Same | Override::Renamed(_)) = fate else { continue };
        let property = if let Override::Renamed(other) = fate { other } else { name };
        let value = match *name {
            "client.dns.lookup" => "use_all_dns_ips",
            "security.protocol" => "SASL_SSL",
            "sasl.mechanism" => "SCRAM-SHA-512",
            "ssl.endpoint.identification.algorithm" => "https",
            "client.rack" | "sasl.kerberos.service.name" => "kafka",
            _ => "1000",
        };
        let client = rdkafka::ClientConfig::new().set(*property, value).clone();
        client.create_native_config().unwrap_or_else(|error| panic!("{name}: {error}"));
        let imported = taken(&json!({format!("consumer.override.{name}"): value}));
        check(&imported);
        assert!(imported.toml.contains(&format!("\"{property}\" = \"{value}\"\n")), "{}", imported.toml);
    }
}

#[test]
fn settings_are_taken_as_the_settings_take_them() {
    let imported = taken(&json!({
        "consumer.override.bootstrap.servers": "kafka-1:9092, kafka-2:9092",
        "consumer.override.group.protocol": "CLASSIC",
        "consumer.override.isolation.level": "read_uncommitted",
        "consumer.override.session.timeout.ms": "30000",
        "consumer.override.heartbeat.interval.ms": "3000",
        "connection.user": "a@b:c/d",
        "connection.url": "jdbc:postgresql://db-1:5432,db-2:5433/app?connectTimeout=5&ApplicationName=sink%20one&ssl=false",
    }));
    let pipeline = Pipeline::parse(&imported.toml, Path::new("pipeline.toml"))
        .unwrap_or_else(|error| panic!("{}\n{}", error.report(), imported.toml));
    if let Err(error) = pipeline.worker(crate::PartialConfig::default()) {
        panic!("{}\n{}", error.report(), imported.toml);
    }
}

#[test]
fn unwrapping_is_an_envelope() {
    let imported = taken(&json!({
        "insert.mode": "upsert", "pk.mode": "record_key", "pk.fields": "id", "delete.enabled": "true",
        "key.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": null,
        "transforms": "unwrap",
        "transforms.unwrap.type": "io.debezium.transforms.ExtractNewRecordState",
        "transforms.unwrap.drop.tombstones": "false",
    }));
    check(&imported);
    for line in [
        "envelope = \"debezium\"",
        "columns.id = \"key.id\"",
        "columns.a = \"value.a\"",
        "deletes = \"apply\"",
    ] {
        assert!(imported.toml.contains(&format!("\n{line}\n")), "{line}: {}", imported.toml);
    }
}

/// Who made and changed the tables goes on doing so.
#[test]
fn tables_go_on_growing() {
    for (changes, evolve) in [
        (json!({"auto.create": true}), Some("create")),
        (json!({"auto.evolve": "TRUE"}), Some("add_columns")),
        (json!({"auto.create": "true", "auto.evolve": "true"}), Some("add_columns")),
        (json!({"auto.create": "false", "auto.evolve": "false"}), None),
    ] {
        let imported = taken(&changes);
        check(&imported);
        let line = evolve.map(|evolve| format!("\nevolve = \"{evolve}\"\n"));
        match &line {
            Some(line) => assert!(imported.toml.contains(line), "{changes}: {}", imported.toml),
            None => assert!(!imported.toml.contains("evolve"), "{changes}: {}", imported.toml),
        }
        assert_eq!(
            imported.notes.iter().any(|note| note.text.contains("`evolve`")),
            line.is_some(),
            "{changes}"
        );
    }
    let base: Value = serde_json::from_str(DEBEZIUM).unwrap();
    for (evolution, line) in
        [("basic", "\nevolve = \"add_columns\"\n"), ("validate-only", "\nevolve = \"validate\"\n")]
    {
        let imported =
            import(&changed(&base["config"], &json!({"name": "c", "schema.evolution": evolution}))).unwrap();
        assert!(imported.toml.contains(line), "{evolution}: {}", imported.toml);
    }
}
