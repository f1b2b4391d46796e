//! Values and keys with schemas, of a registry and of files.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use apache_avro::Schema;
use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use highwater::testing::wait_until;

use crate::support::{PATIENCE, TestResult, World};

/// As much of a schema registry as is asked for: what it answers to a path.
pub(super) struct Registry {
    pub(super) url: String,
    answers: Arc<Mutex<HashMap<String, (u16, String)>>>,
    /// A path of which it thinks for longer than a batch waits.
    slow: Arc<Mutex<String>>,
}

impl Registry {
    pub(super) fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let url = format!("http://{}/api", listener.local_addr()?);
        let answers: Arc<Mutex<HashMap<String, (u16, String)>>> = Arc::default();
        let slow = Arc::<Mutex<String>>::default();
        let (known, thinking) = (Arc::clone(&answers), Arc::clone(&slow));
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (mut read, mut some) = (Vec::new(), [0; 4096]);
                while !read.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut some) {
                        Ok(count) if count > 0 => read.extend_from_slice(&some[..count]),
                        _ => break,
                    }
                }
                let text = String::from_utf8_lossy(&read);
                let path = text.split(' ').nth(1).unwrap_or_default().trim_start_matches("/api").to_owned();
                if *thinking.lock().expect("no holder panics") == path {
                    std::thread::sleep(Duration::from_secs(3));
                }
                let unknown = (404, r#"{"error_code":40403,"message":"not here"}"#.to_owned());
                let (status, body) =
                    known.lock().expect("no holder panics").get(&path).cloned().unwrap_or(unknown);
                let head = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n", body.len());
                let _ = stream.write_all((head + &body).as_bytes());
            }
        });
        Ok(Self { url, answers, slow })
    }

    pub(super) fn has(&self, path: &str, kind: &str, schema: &str, references: &serde_json::Value) {
        let body = serde_json::json!({ "schema": schema, "schemaType": kind, "references": references });
        self.answers.lock().expect("no holder panics").insert(path.to_owned(), (200, body.to_string()));
    }
}

pub(super) fn datum(schema: &str, value: Avro) -> Vec<u8> {
    let schema = Schema::parse_str(schema).expect("a schema");
    GenericDatumWriter::builder(&schema)
        .build()
        .expect("a writer")
        .write_value_to_vec(value)
        .expect("a value of it")
}

pub(super) fn framed(id: u32, payload: &[u8]) -> Vec<u8> {
    [&[0][..], &id.to_be_bytes(), payload].concat()
}

const TABLES: &str = "\
    CREATE TABLE orders (id bigint PRIMARY KEY, amount numeric, placed_at timestamptz, note text, raw bytea, tags text[],
        body jsonb);
    CREATE TABLE events (name text, cents bigint, at timestamptz, state text, counts jsonb, source_partition int,
        source_offset bigint);
    CREATE TABLE documents (n int, text text, source_partition int, source_offset bigint);
    CREATE TABLE bare (n int, day date);";

const SINKS: &str = "\
    [[sink]]
    topic = 'TOPIC-avro'
    table = 'orders'
    mode = 'upsert'
    key_format = 'avro'
    value = 'avro'
    columns = ['id', 'amount', 'placed_at', 'note', 'raw', 'tags']
    rest = 'body'
    on_bad_record = 'dead_letter'

    [[sink]]
    topic = 'TOPIC-protobuf'
    table = 'events'
    value = 'protobuf'
    columns = ['name', 'cents', 'at', 'state', 'counts']
    provenance = { partition = 'source_partition', offset = 'source_offset' }

    [[sink]]
    topic = 'TOPIC-json'
    table = 'documents'
    value = 'json_schema'
    columns = ['n', 'text']
    provenance = { partition = 'source_partition', offset = 'source_offset' }

    [[sink]]
    topic = 'TOPIC-bare'
    table = 'bare'
    value = 'avro'
    schema = { file = 'bare.avsc' }
    columns = ['n', 'day']
";

pub(super) const FIRST: &str = r#"{"type":"record","name":"Order","fields":[
    {"name":"id","type":"int"},
    {"name":"amount","type":{"type":"bytes","logicalType":"decimal","precision":20,"scale":2}},
    {"name":"placed_at","type":{"type":"long","logicalType":"timestamp-micros"}},
    {"name":"raw","type":"bytes"}]}"#;
/// One wider, one renamed out of the table's sight, two added, another order.
const SECOND: &str = r#"{"type":"record","name":"Order","fields":[
    {"name":"note","type":["null","string"],"default":null},
    {"name":"id","type":"long"},
    {"name":"amount","type":{"type":"bytes","logicalType":"decimal","precision":20,"scale":2}},
    {"name":"placed","aliases":["placed_at"],"type":{"type":"long","logicalType":"timestamp-micros"}},
    {"name":"tags","type":{"type":"array","items":"string"},"default":[]}]}"#;
const PROTO: &str = r#"syntax = "proto3"; package shop; import "shop/state.proto"; import "google/protobuf/timestamp.proto";
    message Other { int32 x = 1; }
    message Event { string name = 1; int64 cents = 2; google.protobuf.Timestamp at = 3; State state = 4; map<string, int32> counts = 5; }"#;
const STATE: &str = r#"syntax = "proto3"; package shop; enum State { NEW = 0; PAID = 1; }"#;

/// Every kind of schema, by ids and by GUIDs, with references; old and new schemas beside each other; deletions by keys; a
/// schema that the registry learns of later; bytes that are none.
#[tokio::test]
async fn core_values_and_keys_with_schemas() -> TestResult {
    let world = World::with_tables("schemas", 1, TABLES).await?;
    let registry = Registry::start()?;
    let none = serde_json::json!([]);
    registry.has("/schemas/ids/1", "AVRO", r#""long""#, &none);
    registry.has("/schemas/ids/2", "AVRO", FIRST, &none);
    registry.has(
        "/schemas/ids/4",
        "PROTOBUF",
        PROTO,
        &serde_json::json!([{ "name": "shop/state.proto", "subject": "state/proto", "version": 3 }]),
    );
    registry.has("/subjects/state%2Fproto/versions/3", "PROTOBUF", STATE, &none);
    registry.has("/schemas/guids/30313233-3435-3637-3839-616263646566", "JSON", "{}", &none);
    let topics = ["avro", "protobuf", "json", "bare"].map(|kind| format!("{}-{kind}", world.topic));
    for topic in &topics {
        world.another_topic((topic, 1)).await?;
    }
    let [avro, protobuf, json, bare] = &topics;
    let to = |topic: &str| highwater::testing::Message::to(topic).partition(0);
    let key = |id: i64| framed(1, &datum(r#""long""#, Avro::Long(id)));
    let order = |id: i32, cents: i16| {
        let fields = [
            ("id", Avro::Int(id)),
            ("amount", Avro::Decimal(cents.to_be_bytes().to_vec().into())),
            ("placed_at", Avro::TimestampMicros(1_790_000_000_123_456)),
            ("raw", Avro::Bytes(vec![0, 255])),
        ];
        framed(2, &datum(FIRST, Avro::Record(fields.map(|(name, value)| (name.to_owned(), value)).into())))
    };
    let second = |id: i64| {
        let fields = [
            ("note", Avro::Union(1, Box::new(Avro::String("n\"ü".to_owned())))),
            ("id", Avro::Long(id)),
            ("amount", Avro::Decimal((-123_i16).to_be_bytes().to_vec().into())),
            ("placed", Avro::TimestampMicros(0)),
            ("tags", Avro::Array(vec![Avro::String("a".to_owned()), Avro::String("b c".to_owned())])),
        ];
        framed(3, &datum(SECOND, Avro::Record(fields.map(|(name, value)| (name.to_owned(), value)).into())))
    };
    for id in [1, 2, 3] {
        world.producer.send(to(avro).key(key(id)).value(order(i32::try_from(id)?, 1_000)))?;
    }
    world.producer.send(to(avro).key(key(2)))?;
    world.producer.send(to(avro).key(key(4)).value("no Avro"))?;
    world.producer.send(to(avro).key(key(5)).value(framed(2, b"\x02")))?;
    // Its schema is not known yet.
    world.producer.send(to(avro).key(key(1)).value(second(1)))?;
    // The second message of the file: name, cents, at, state, counts.
    let event =
        b"\x0a\x01e\x10\xd2\x09\x1a\x08\x08\x80\xf7\xc4\xd5\x06\x10\x00\x20\x01\x2a\x05\x0a\x01k\x10\x05";
    world.producer.send(to(protobuf).value(framed(4, &[&b"\x02\x02"[..], event].concat())))?;
    let guid = *b"\x010123456789abcdef";
    world
        .producer
        .send(to(json).value(r#"{"n":1,"text":"by a header"}"#).header("__value_schema_id", guid))?;
    world.producer.send(to(json).value([&guid[..], br#"{"n":2}"#].concat()))?;
    world.producer.send(to(bare).value(b"\x0e\xda\xc3\x02".to_vec()))?;
    world.producer.flush().await?;

    let settings = format!("registry = {{ url = ['http://127.0.0.1:1', '{}'] }}\n\n", registry.url);
    let file = world.pipeline_file(&format!("{settings}{SINKS}"))?;
    let schema = r#"{"type":"record","name":"Bare","fields":[{"name":"n","type":"int"},{"name":"day","type":{"type":"int","logicalType":"date"}}]}"#;
    std::fs::write(file.with_file_name("bare.avsc"), schema)?;
    let process = world.run("schemas", &file).await?;
    let line = process.wait_for_line(|text| text.contains("does not know schema 3 yet"), PATIENCE).await?;
    assert!(!line.contains("halted"), "{line}");
    registry.has("/schemas/ids/3", "AVRO", SECOND, &none);
    let applied = "SELECT coalesce(sum(next_offset), 0)::int8 FROM highwater.consumer_offset";
    wait_until("all are applied", PATIENCE, async || Ok((world.number(applied).await? == 11).then_some(())))
        .await?;
    for (sql, rows) in [
        (
            "SELECT concat_ws('|', id, amount, placed_at AT TIME ZONE 'UTC', note, raw, tags, body) FROM orders ORDER BY id",
            vec![
                r#"1|-1.23|n"ü|{a,"b c"}|{"placed": "1970-01-01T00:00:00Z"}"#,
                r"3|10.00|2026-09-21 14:13:20.123456|\x00ff|{}",
            ],
        ),
        (
            "SELECT concat_ws('|', name, cents, at AT TIME ZONE 'UTC', state, counts, source_offset) FROM events",
            vec![r#"e|1234|2026-09-21 14:13:20|PAID|{"k": 5}|0"#],
        ),
        (
            "SELECT concat_ws('|', n, text, source_offset) FROM documents ORDER BY n",
            vec!["1|by a header|0", "2|1"],
        ),
        ("SELECT concat_ws('|', n, day) FROM bare", vec!["7|2026-09-21"]),
        (
            "SELECT concat_ws('|', record_offset, reason) FROM highwater.dead_letter ORDER BY record_offset",
            vec![
                "4|table orders: value: it names no schema of a registry (its first byte is neither 0 nor 1, or it is too short)",
                "5|table orders: value: not of its Avro schema: a number that is cut off, or too long",
            ],
        ),
    ] {
        let found: Vec<String> = world.database.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect();
        assert_eq!(found, rows, "{sql}");
    }
    process.term()?;
    assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");
    Ok(())
}

/// What the registry does not know for longer than it is waited for halts, and makes no dead letter; once it knows it, a
/// retry goes on.
#[tokio::test]
async fn a_schema_that_never_comes_halts_and_says_so() -> TestResult {
    const SINK: &str = "\
        [[sink]]
        topic = 'TOPIC'
        table = 'documents'
        value = 'json_schema'
        columns = ['n', 'text']
        provenance = { partition = 'source_partition', offset = 'source_offset' }
        on_bad_record = 'dead_letter'
    ";
    let world = World::with_tables("no-schema", 1, TABLES).await?;
    let registry = Registry::start()?;
    world.producer.send(world.message(0).value(framed(9, br#"{"n":1}"#)))?;
    world.producer.flush().await?;
    let settings = format!("registry = {{ url = '{}', schema_wait = '1s' }}\n\n", registry.url);
    let process = world.run("no-schema", &world.pipeline_file(&format!("{settings}{SINK}"))?).await?;
    let line = process.wait_for_line(|text| text.contains("has not for 1s"), PATIENCE).await?;
    assert!(line.contains("schema 9"), "{line}");
    assert!(world.reported_halt(0).await?.contains("schema 9"));
    assert_eq!(world.number("SELECT count(*) FROM highwater.dead_letter").await?, 0);
    registry.has("/schemas/ids/9", "JSON", "{}", &serde_json::json!([]));
    process.term()?;
    assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");
    let process = world.run("known", &world.pipeline_file(&format!("{settings}{SINK}"))?).await?;
    world.caught_up().await?;
    let client = world.database.client().await?;
    let rows = "SELECT source_partition, source_offset FROM documents";
    highwater::testing::Oracle::new(world.producer.ledger(), &world.topic)
        .compare(&client, rows)
        .await?
        .assert_exact();
    process.term()?;
    assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");
    Ok(())
}

/// A sink that lists no columns takes those of its values' schema, and makes more of them while two processes work and
/// newer schemas come, whose records stand between those of older ones.
#[tokio::test]
async fn core_a_table_is_made_and_grows_with_the_schemas_of_its_records() -> TestResult {
    const EACH: usize = 60;
    const SINK: &str = "\
        [[sink]]
        topic = 'TOPIC'
        table = 'goods'
        value = 'avro'
        key_format = 'avro'
        evolve = 'add_columns'
        provenance = { partition = 'source_partition', offset = 'source_offset' }
    ";
    let schema = |fields: &str| {
        format!(
            r#"{{"type":"record","name":"Good","fields":[{{"name":"id","type":"long"}},{{"name":"Name","type":"string"}}{fields}]}}"#
        )
    };
    let note = r#",{"name":"note","type":["null","string"],"default":null}"#;
    let price = r#",{"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":12,"scale":2},"default":"\u0000"}"#;
    let schemas = [schema(""), schema(note), schema(&format!("{note}{price}"))];
    let world = World::new("growing", 3).await?;
    let owner = world.owner().await?;
    let registry = Registry::start()?;
    let none = serde_json::json!([]);
    registry.has(&format!("/subjects/{}-value/versions/latest", world.topic), "AVRO", &schemas[0], &none);
    for (id, schema) in schemas.iter().enumerate() {
        registry.has(&format!("/schemas/ids/{id}"), "AVRO", schema, &none);
    }
    // What is asked for in vain comes all the same, and what it adds is noticed.
    *registry.slow.lock().expect("no holder panics") = "/schemas/ids/1".to_owned();
    // A key's fields are no columns.
    let key = r#"{"type":"record","name":"Key","fields":[{"name":"good","type":"long"}]}"#;
    registry.has("/schemas/ids/9", "AVRO", key, &none);
    // Records of the newest schema that there may be, and of older ones between them.
    let fill = async |newest: usize| -> TestResult {
        for n in 0..EACH {
            for partition in 0..3 {
                let version = n % (newest + 1);
                let id = i64::try_from(n)?;
                let mut fields = vec![("id", Avro::Long(id)), ("Name", Avro::String(format!("n{n}")))];
                if version > 0 {
                    fields.push(("note", Avro::Union(1, Box::new(Avro::String(format!("v{version}"))))));
                }
                if version > 1 {
                    fields.push(("price", Avro::Decimal(vec![1, 0].into())));
                }
                let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
                let value = framed(u32::try_from(version)?, &datum(&schemas[version], Avro::Record(fields)));
                world.producer.send(world.message(partition).value(value))?;
            }
        }
        Ok(world.producer.flush().await?)
    };
    let settings =
        format!("registry.url = '{}'\nbatch_max_records = 20\nbatch_target_records = 20\n\n", registry.url);
    let file = world.pipeline_file(&format!("{settings}{SINK}"))?;
    let (one, two) = (world.begin_as("one", &file, &owner)?, world.begin_as("two", &file, &owner)?);
    for process in [&one, &two] {
        process.wait_for_line(|text| text.contains("claimed partition="), PATIENCE).await?;
    }
    for newest in 0..3 {
        fill(newest).await?;
        world.caught_up().await?;
    }
    world.assert_ledger_gapless().await?;
    let client = world.database.client().await?;
    let rows = "SELECT source_partition, source_offset FROM goods";
    highwater::testing::Oracle::new(world.producer.ledger(), &world.topic)
        .compare(&client, rows)
        .await?
        .assert_exact();
    let found = world
        .database
        .query(
            "SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attname) FROM pg_attribute \
             WHERE attrelid = 'goods'::regclass AND attnum > 0",
            &[],
        )
        .await?;
    assert_eq!(
        found[0].get::<_, &str>(0),
        "Name text, id bigint, note text, price numeric(12,2), source_offset bigint, source_partition integer"
    );
    let wrong = "SELECT count(*) FROM goods WHERE \"Name\" IS DISTINCT FROM 'n' || id OR \
                 (price IS NOT NULL) <> (note IS NOT DISTINCT FROM 'v2') OR price <> 2.56";
    assert_eq!(world.number(wrong).await?, 0);
    let notes = "SELECT count(note) FROM goods";
    assert_eq!(world.number(notes).await?, i64::try_from(3 * (EACH / 2 + 2 * EACH / 3))?);
    for process in [one, two] {
        process.term()?;
        assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");
    }
    Ok(())
}
