//! Schemas of a real registry, which evolve while workers are killed.

mod broken;
mod encode;

use std::collections::BTreeMap;

use highwater::testing::{Message, Oracle, Result, SchemaRegistry, wait_until};
use serde_json::{Value, json};

use self::encode::{avro, framed, protobuf};
use super::PARTITIONS;
use crate::support::{PATIENCE, TestResult, World};

const SMALL: &str = "batch_target_records = 10\nbatch_max_records = 10\nlinger = '1ms'\n";

const TABLES: &str = "\
    CREATE TABLE by_avro (n bigint NOT NULL, label text, title text, amount numeric, units bigint, note text, at timestamptz,
        body jsonb, source_partition int NOT NULL, source_offset bigint NOT NULL);
    CREATE TABLE by_protobuf (LIKE by_avro INCLUDING ALL);
    CREATE TABLE by_json (LIKE by_avro INCLUDING ALL);";

const SINKS: [(&str, &str, &str); 3] =
    [("by_avro", "avro", "avro"), ("by_protobuf", "proto", "protobuf"), ("by_json", "json", "json_schema")];

/// The kind by which a test's records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Avro,
    Protobuf,
    Json,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Avro, Self::Protobuf, Self::Json];

    fn topic(self, world: &World<'_>) -> String {
        format!("{}-{}", world.topic, SINKS[self as usize].1)
    }

    fn table(self) -> &'static str {
        SINKS[self as usize].0
    }

    fn name(self) -> &'static str {
        ["AVRO", "PROTOBUF", "JSON"][self as usize]
    }
}

/// By which Apicurio knows that a schema is one.
const JSON_SCHEMA: &str = "http://json-schema.org/draft-07/schema#";

/// What is referred to: of two versions, the second with one more field.
const MONEY: [(&str, &str); 2] = [
    (
        r#"{"type":"record","name":"Money","namespace":"shop","fields":[{"name":"units","type":"int"}]}"#,
        r#"syntax = "proto3"; package shop; message Money { int32 units = 1; }"#,
    ),
    (
        r#"{"type":"record","name":"Money","namespace":"shop","fields":[{"name":"currency","type":"string","default":"EUR"},
            {"name":"units","type":"long"}]}"#,
        r#"syntax = "proto3"; package shop; message Money { string currency = 2; int64 units = 1; }"#,
    ),
];

/// Version by version: which Money it refers to, and the fields; each way in which schemas evolve and stay compatible.
const FIELDS: [(usize, &str, &str); 8] = [
    (
        0,
        r#"{"name":"n","type":"int"}, {"name":"label","type":"string"}, {"name":"gone","type":"string"}, {"name":"money","type":"shop.Money"}"#,
        "int32 n = 1; string label = 2; string gone = 3; shop.Money money = 4;",
    ),
    // Another version of what it refers to.
    (
        1,
        r#"{"name":"n","type":"int"}, {"name":"label","type":"string"}, {"name":"gone","type":"string"}, {"name":"money","type":"shop.Money"}"#,
        "int32 n = 1; string label = 2; string gone = 3; shop.Money money = 4;",
    ),
    // Two added, one with a default.
    (
        1,
        r#"{"name":"n","type":"int"}, {"name":"label","type":"string"}, {"name":"gone","type":"string"}, {"name":"money","type":"shop.Money"},
           {"name":"amount","type":{"type":"bytes","logicalType":"decimal","precision":12,"scale":2},"default":"\u0000"}"#,
        "int32 n = 1; string label = 2; string gone = 3; shop.Money money = 4; string amount = 5;",
    ),
    // One removed.
    (
        1,
        r#"{"name":"n","type":"int"}, {"name":"label","type":"string"}, {"name":"money","type":"shop.Money"},
           {"name":"amount","type":{"type":"bytes","logicalType":"decimal","precision":12,"scale":2},"default":"\u0000"}"#,
        "reserved 3; int32 n = 1; string label = 2; shop.Money money = 4; string amount = 5;",
    ),
    // One widened.
    (
        1,
        r#"{"name":"n","type":"long"}, {"name":"label","type":"string"}, {"name":"money","type":"shop.Money"},
           {"name":"amount","type":{"type":"bytes","logicalType":"decimal","precision":12,"scale":2},"default":"\u0000"}"#,
        "reserved 3; int64 n = 1; string label = 2; shop.Money money = 4; string amount = 5;",
    ),
    // One renamed.
    (
        1,
        r#"{"name":"n","type":"long"}, {"name":"title","type":"string","aliases":["label"]}, {"name":"money","type":"shop.Money"},
           {"name":"amount","type":{"type":"bytes","logicalType":"decimal","precision":12,"scale":2},"default":"\u0000"}"#,
        "reserved 3; int64 n = 1; string title = 2; shop.Money money = 4; string amount = 5;",
    ),
    // In another order.
    (
        1,
        r#"{"name":"amount","type":{"type":"bytes","logicalType":"decimal","precision":12,"scale":2},"default":"\u0000"},
           {"name":"money","type":"shop.Money"}, {"name":"title","type":"string","aliases":["label"]}, {"name":"n","type":"long"}"#,
        "string amount = 5; shop.Money money = 4; string title = 2; int64 n = 1;",
    ),
    // Optional ones.
    (
        1,
        r#"{"name":"amount","type":{"type":"bytes","logicalType":"decimal","precision":12,"scale":2},"default":"\u0000"},
           {"name":"note","type":["null","string"],"default":null}, {"name":"at","type":["null",{"type":"long","logicalType":"timestamp-micros"}],"default":null},
           {"name":"money","type":"shop.Money"}, {"name":"title","type":"string","aliases":["label"]}, {"name":"n","type":"long"}"#,
        "string amount = 5; optional string note = 6; google.protobuf.Timestamp at = 7; shop.Money money = 4; string title = 2; int64 n = 1;",
    ),
];

/// The message is the first of its file, or the second, or lies in another.
fn protobuf_file(version: usize) -> (String, &'static str) {
    let fields = FIELDS[version].2;
    let head = "syntax = \"proto3\"; package shop; import \"shop/money.proto\"; import \"google/protobuf/timestamp.proto\";";
    match version {
        0..=3 => (format!("{head} message Payment {{ {fields} }}"), "shop.Payment"),
        4..=5 => (
            format!("{head} message Refund {{ string id = 1; }} message Payment {{ {fields} }}"),
            "shop.Payment",
        ),
        _ => (
            format!(
                "{head} message Refund {{ map<string, string> tags = 1; }} message Event {{ map<string, string> tags = 1; \
                     message Header {{ string id = 1; }} message Payment {{ {fields} }} }}"
            ),
            "shop.Event.Payment",
        ),
    }
}

fn avro_schema(version: usize) -> String {
    format!(r#"{{"type":"record","name":"Payment","namespace":"shop","fields":[{}]}}"#, FIELDS[version].1)
}

/// What is in a record, as the sink has it: the literal that Postgres is asked about.
fn literal(kind: Kind, version: usize, partition: i32, n: usize) -> Value {
    // Beyond 32 bits as soon as a version has room for it.
    let wide = if version >= 4 { 5_000_000_000 } else { 0 };
    let n = wide + i64::from(partition) * 100_000 + i64::try_from(n).expect("few");
    let mut money = json!({ "units": n % 1000 - 500 });
    if FIELDS[version].0 == 1 {
        money["currency"] = json!(["EUR", "USD", ""][usize::try_from(n % 3).expect("few")]);
        money["units"] = json!(n % 1000 - 500 + wide);
    }
    let mut record = json!({ "n": n, "money": money });
    record[if version >= 5 { "title" } else { "label" }] = json!(format!("l\"{n} ü\n"));
    if version <= 2 {
        record["gone"] = json!(format!("g{n}"));
    }
    if version >= 2 {
        let amount = format!("{}.{:02}", n % 977, n % 100);
        record["amount"] = if kind == Kind::Avro { amount.parse().expect("a number") } else { json!(amount) };
    }
    if version >= 7 && n % 2 == 0 {
        record["note"] = json!(if n % 4 == 0 { "" } else { "noted" });
        record["at"] = json!(
            jiff::Timestamp::from_microsecond(1_790_000_000_000_000 + n).expect("in range").to_string()
        );
    } else if version >= 7 && kind == Kind::Avro {
        // A null is one, in Avro.
        record["note"] = Value::Null;
        record["at"] = Value::Null;
    }
    record
}

/// A record's bytes.
fn encoded(kind: Kind, id: u32, version: usize, literal: &Value) -> Vec<u8> {
    let money = MONEY[FIELDS[version].0];
    let payload = match kind {
        Kind::Avro => avro(&avro_schema(version), &[money.0], literal),
        Kind::Protobuf => {
            let (file, message) = protobuf_file(version);
            protobuf(&file, &[("shop/money.proto", money.1)], message, literal)
        }
        Kind::Json => literal.to_string().into_bytes(),
    };
    framed(id, &payload)
}

/// Registers a version; gives its id.
async fn register(registry: &SchemaRegistry, kind: Kind, topic: &str, version: usize) -> Result<u32> {
    let subject = format!("{topic}-value");
    let money = format!("{topic}-money");
    let refers = u32::try_from(FIELDS[version].0 + 1).expect("few");
    match kind {
        Kind::Avro => {
            registry
                .register(&subject, kind.name(), &avro_schema(version), &[("shop.Money", &money, refers)])
                .await
        }
        Kind::Protobuf => {
            let (file, _) = protobuf_file(version);
            registry.register(&subject, kind.name(), &file, &[("shop/money.proto", &money, refers)]).await
        }
        Kind::Json => {
            let schema = json!({ "$schema": JSON_SCHEMA, "type": "object", "title": format!("version {version}"), "required": ["n"] });
            registry.register(&subject, kind.name(), &schema.to_string(), &[]).await
        }
    }
}

impl World<'_> {
    async fn sinks_by_kind(&self, registry: &SchemaRegistry, sink: &str) -> Result<std::path::PathBuf> {
        let mut text = format!("{SMALL}registry = {{ url = '{}' }}\n", registry.url());
        for (table, suffix, format) in SINKS {
            self.another_topic((&format!("{}-{suffix}", self.topic), PARTITIONS)).await?;
            let sink = sink.replace("TABLE", table).replace("FORMAT", format);
            text += &sink.replace("TOPIC", &format!("TOPIC-{suffix}"));
        }
        self.pipeline_file(&text)
    }

    /// Each topic is applied to its end, without a gap.
    async fn all_caught_up(&mut self) -> Result<()> {
        for kind in Kind::ALL {
            let topic = kind.topic(self);
            self.at((&topic, PARTITIONS), async |world| {
                world.caught_up().await?;
                world.assert_ledger_gapless().await
            })
            .await?;
        }
        Ok(())
    }

    /// Waits until there are more rows than `before` in a kind's table.
    async fn more_than(&self, kind: Kind, before: i64) -> Result<()> {
        let rows = format!("SELECT count(*) FROM {}", kind.table());
        wait_until("some of them are applied", PATIENCE, async || {
            Ok((self.number(&rows).await? > before).then_some(()))
        })
        .await
    }
}

#[tokio::test]
async fn schemas_evolve_under_load_and_a_kill() -> TestResult {
    const EACH: usize = 25;
    const SINK: &str = "\
        [[sink]]
        topic = 'TOPIC'
        table = 'TABLE'
        value = 'FORMAT'
        on_bad_record = 'dead_letter'
        columns = { n = 'value.n', label = 'value.label', title = 'value.title', amount = 'value.amount', \
                    units = 'value.money.units', note = 'value.note', at = 'value.at', body = 'value' }
        provenance = { partition = 'source_partition', offset = 'source_offset' }
    ";
    let registry = SchemaRegistry::shared().await?;
    let mut world = World::with_tables("evolve", 1, TABLES).await?;
    let file = world.sinks_by_kind(registry, SINK).await?;
    for (kind, money) in
        [(Kind::Avro, MONEY.map(|money| money.0)), (Kind::Protobuf, MONEY.map(|money| money.1))]
    {
        for version in money {
            registry.register(&format!("{}-money", kind.topic(&world)), kind.name(), version, &[]).await?;
        }
    }
    // Apicurio has its own mind of which Protobuf files go together: int32 to int64, for instance, do not.
    registry.demand(&format!("{}-value", Kind::Avro.topic(&world)), "BACKWARD").await?;

    let mut older = world.run("process-0", &file).await?;
    let mut younger = world.begin("process-1", &file)?;
    let mut literals: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut ids: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    // At the end those who write older versions are still there.
    for round in 0..=FIELDS.len() {
        let before = world.number("SELECT count(*) FROM by_protobuf").await?;
        for kind in Kind::ALL {
            let topic = kind.topic(&world);
            let ids = ids.entry(kind.table()).or_default();
            if round < FIELDS.len() {
                ids.push(register(registry, kind, &topic, round).await?);
            }
            for partition in 0..PARTITIONS {
                for n in 0..EACH {
                    let version = if round < FIELDS.len() { round } else { n % FIELDS.len() };
                    let literal = literal(kind, version, partition, round * EACH + n);
                    let value = encoded(kind, ids[version], version, &literal);
                    world.producer.send(Message::to(&topic).partition(partition).value(value))?;
                    literals.entry(kind.table()).or_default().push(literal.to_string());
                }
            }
        }
        world.producer.flush().await?;
        if round == FIELDS.len() / 2 {
            world.more_than(Kind::Protobuf, before).await?;
            older.kill()?;
            older = std::mem::replace(&mut younger, world.begin("process-2", &file)?);
        }
    }
    world.all_caught_up().await?;
    assert_eq!(world.number("SELECT count(*) FROM highwater.dead_letter").await?, 0);
    let client = world.database.client().await?;
    for kind in Kind::ALL {
        let table = kind.table();
        let rows = format!("SELECT source_partition, source_offset FROM {table}");
        Oracle::new(world.producer.ledger(), &kind.topic(&world))
            .compare(&client, &rows)
            .await?
            .assert_exact();
        // By Postgres itself, from the text of what was written.
        let wrong = format!(
            "SELECT coalesce(l::text, 'nothing') || ' became ' || coalesce(to_jsonb(r)::text, 'nothing') \
             FROM (SELECT l::jsonb AS l FROM unnest($1::text[]) AS l) w FULL JOIN {table} r ON r.n = (l ->> 'n')::bigint \
             WHERE (r.label, r.title, r.amount, r.units, r.note, r.at, r.body - 'at') IS DISTINCT FROM \
             (l ->> 'label', l ->> 'title', (l ->> 'amount')::numeric, (l #>> '{{money,units}}')::bigint, l ->> 'note', \
             (l ->> 'at')::timestamptz, l - 'at') LIMIT 3"
        );
        let wrong: Vec<String> =
            client.query(&wrong, &[&literals[table]]).await?.iter().map(|row| row.get(0)).collect();
        assert_eq!(wrong, [] as [String; 0], "{table}");
        assert_eq!(literals[table].len(), (FIELDS.len() + 1) * EACH * PARTITIONS.unsigned_abs() as usize);
    }
    for process in [older, younger] {
        process.term()?;
        assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");
    }
    Ok(())
}

/// Keys of two versions, which are the same keys all the same.
#[tokio::test]
async fn keys_by_schema_upsert_and_delete_under_a_kill() -> TestResult {
    const CUSTOMERS: usize = 12;
    const ROUNDS: usize = 40;
    const TABLES: &str = "\
        CREATE TABLE by_avro (region text, id bigint, name text NOT NULL, PRIMARY KEY (region, id));
        CREATE TABLE by_protobuf (LIKE by_avro INCLUDING ALL);
        CREATE TABLE by_json (LIKE by_avro INCLUDING ALL);";
    const SINK: &str = "\
        [[sink]]
        topic = 'TOPIC'
        table = 'TABLE'
        value = 'FORMAT'
        key_format = 'FORMAT'
        mode = 'upsert'
        on_bad_record = 'dead_letter'
        columns = { region = 'key.region', id = 'key.id', name = 'value.name' }
    ";
    const KEYS: [(&str, &str); 2] = [
        (
            r#"{"type":"record","name":"K","fields":[{"name":"region","type":"string"},{"name":"id","type":"int"}]}"#,
            r#"syntax = "proto3"; message K { string region = 1; int32 id = 2; }"#,
        ),
        (
            r#"{"type":"record","name":"K","fields":[{"name":"id","type":"long"},{"name":"shard","type":["null","int"],"default":null},
                {"name":"region","type":"string"}]}"#,
            r#"syntax = "proto3"; message Other { string x = 1; } message K { int64 id = 2; optional int32 shard = 3; string region = 1; }"#,
        ),
    ];
    const VALUE: (&str, &str) = (
        r#"{"type":"record","name":"V","fields":[{"name":"name","type":"string"}]}"#,
        r#"syntax = "proto3"; message V { string name = 1; }"#,
    );
    let registry = SchemaRegistry::shared().await?;
    let mut world = World::with_tables("keys", 1, TABLES).await?;
    let file = world.sinks_by_kind(registry, SINK).await?;
    let of = |kind: Kind, schemas: (&'static str, &'static str)| match kind {
        Kind::Avro => schemas.0,
        Kind::Protobuf => schemas.1,
        Kind::Json => r#"{"$schema":"http://json-schema.org/draft-07/schema#","type":"object"}"#,
    };
    let mut ids = BTreeMap::new();
    for kind in Kind::ALL {
        let topic = kind.topic(&world);
        let mut own = Vec::new();
        for (subject, schema) in [("key", KEYS[0]), ("key", KEYS[1]), ("value", VALUE)] {
            own.push(
                registry.register(&format!("{topic}-{subject}"), kind.name(), of(kind, schema), &[]).await?,
            );
        }
        ids.insert(kind.table(), own);
    }
    let bytes = |kind: Kind, schemas: (&'static str, &'static str), message: &str, id: u32, of: Value| {
        let payload = match kind {
            Kind::Avro => avro(schemas.0, &[], &of),
            Kind::Protobuf => protobuf(schemas.1, &[], message, &of),
            Kind::Json => of.to_string().into_bytes(),
        };
        framed(id, &payload)
    };

    let mut older = world.run("process-0", &file).await?;
    let mut younger = world.begin("process-1", &file)?;
    let mut expected: BTreeMap<(String, i64), String> = BTreeMap::new();
    for round in 0..ROUNDS {
        for customer in 0..CUSTOMERS {
            let id = i64::try_from(customer).expect("few");
            let region = ["eu", "us-ü"][customer % 2];
            // Each customer goes at other times.
            let name = ((round + customer) % 5 != 3).then(|| format!("c{customer}-{round}"));
            for kind in Kind::ALL {
                let own = &ids[kind.table()];
                let version = (round + customer) % 2;
                let key =
                    bytes(kind, KEYS[version], "K", own[version], json!({ "region": region, "id": id }));
                let partition = i32::try_from(customer).expect("few") % PARTITIONS;
                let message = Message::to(&kind.topic(&world)).partition(partition).key(key);
                world.producer.send(match &name {
                    Some(name) => message.value(bytes(kind, VALUE, "V", own[2], json!({ "name": name }))),
                    None => message,
                })?;
            }
            match name {
                Some(name) => drop(expected.insert((region.to_owned(), id), name)),
                None => drop(expected.remove(&(region.to_owned(), id))),
            }
        }
        world.producer.flush().await?;
        if round == ROUNDS / 2 {
            world.more_than(Kind::Avro, 0).await?;
            older.kill()?;
            older = std::mem::replace(&mut younger, world.begin("process-2", &file)?);
        }
    }
    world.all_caught_up().await?;
    assert_eq!(world.number("SELECT count(*) FROM highwater.dead_letter").await?, 0);
    assert!(expected.len() < CUSTOMERS && !expected.is_empty(), "some have gone at last, and some not");
    for kind in Kind::ALL {
        let rows = format!("SELECT region, id, name FROM {}", kind.table());
        let rows = world.database.query(&rows, &[]).await?;
        let found: BTreeMap<(String, i64), String> =
            rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect();
        assert_eq!(found, expected, "{kind:?}");
    }
    for process in [older, younger] {
        process.term()?;
        assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");
    }
    Ok(())
}
