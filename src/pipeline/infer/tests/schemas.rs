//! Records that name their schemas in a registry.

use apache_avro::Schema;
use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;

use super::super::schemas::decode;
use super::*;
use crate::pipeline::registry::tests::serve;

const FIRST: &str = r#"{"type":"record","name":"Order","fields":[{"name":"id","type":"int"},
    {"name":"amount","type":{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}},
    {"name":"placedAt","type":{"type":"long","logicalType":"timestamp-millis"}}]}"#;
const SECOND: &str = r#"{"type":"record","name":"Order","fields":[{"name":"id","type":"long"},
    {"name":"amount","type":{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}},
    {"name":"placedAt","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"note","type":["null","string"],"default":null}]}"#;
const EVENT: &str = r#"{"type":"record","name":"Envelope","fields":[
    {"name":"before","type":["null",{"type":"record","name":"Row","fields":[{"name":"id","type":"int"},
        {"name":"name","type":["null","string"]}]}]},
    {"name":"after","type":["null","Row"]},{"name":"op","type":"string"}]}"#;
const KEY: &str = r#"{"type":"record","name":"Key","fields":[{"name":"id","type":"int"}]}"#;
const PROTO: &str =
    r#"syntax = "proto3"; message Event { string name = 1; uint64 cents = 2; optional string note = 3; }"#;

fn answer(path: &str) -> (u16, &'static str) {
    static BODIES: std::sync::LazyLock<Vec<String>> = std::sync::LazyLock::new(|| {
        let body = |kind: &str, schema: &str| {
            serde_json::json!({ "schemaType": kind, "schema": schema }).to_string()
        };
        let avro = [FIRST, SECOND, "\"long\"", EVENT, KEY].map(|schema| body("AVRO", schema));
        avro.into_iter().chain([body("PROTOBUF", PROTO), body("JSON", "{}")]).collect()
    });
    let id = path.strip_prefix("/schemas/ids/").and_then(|id| id.parse::<usize>().ok());
    match id.and_then(|id| BODIES.get(id.checked_sub(1)?)) {
        Some(body) => (200, body),
        None => (404, r#"{"error_code":40403}"#),
    }
}

fn framed(id: u32, payload: &[u8]) -> Vec<u8> {
    [&[0][..], &id.to_be_bytes(), payload].concat()
}

fn avro(id: u32, schema: &str, value: Avro) -> Vec<u8> {
    let schema = Schema::parse_str(schema).unwrap();
    framed(id, &GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(value).unwrap())
}

fn record(fields: &[(&str, Avro)]) -> Avro {
    Avro::Record(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
}

/// A record's key and value.
type Pair = (Option<Vec<u8>>, Option<Vec<u8>>);

async fn file_of(these: Vec<Pair>) -> Result<String> {
    let mut records = records(&vec![(None, None); these.len()]);
    for (record, (key, value)) in records.iter_mut().zip(these) {
        (record.key, record.value) = (key, value);
    }
    let registry = InferRegistry { url: serve(answer), ..InferRegistry::default() };
    let known = decode(&mut records, &registry).await?;
    let url = registry.url.clone();
    let options = InferOptions::new("shop.orders").registry(Some(registry)).with_test(true);
    let file = draft(&["k:9092".to_owned()], &records, &known, &options)?;
    let pipeline =
        Pipeline::parse(&file, Path::new("f.toml")).unwrap_or_else(|error| panic!("{file}\n{error}"));
    pipeline.worker(PartialConfig::default()).unwrap_or_else(|error| panic!("{file}\n{error}"));
    for record in records.iter().filter(|record| record.value.is_some()) {
        let batch = batch(&[record]);
        let read = batch.records().next().unwrap();
        let buffers = Buffers::default();
        let outcome = outcome(&pipeline.sinks[0], Input::of(&read), &buffers);
        assert!(outcome.is_ok(), "{file}\n{outcome:?}");
    }
    has(
        &file,
        &[
            &format!("registry = {{ url = \"{url}\" }}"),
            "# (No [[test]] is made of records that name their schemas.)",
        ],
    );
    Ok(file)
}

#[tokio::test]
async fn avro_says_types_and_what_is_never_null() {
    let order = |id: Avro, more: &[(&str, Avro)]| {
        let all = [
            ("id", id),
            ("amount", Avro::Decimal(vec![1, 0].into())),
            ("placedAt", Avro::TimestampMillis(0)),
        ];
        record(&[&all[..], more].concat())
    };
    let note = Avro::Union(1, Box::new(Avro::String("n".to_owned())));
    let key = |id| Some(avro(3, "\"long\"", Avro::Long(id)));
    let file = file_of(vec![
        (key(1), Some(avro(1, FIRST, order(Avro::Int(1), &[])))),
        (key(2), Some(avro(2, SECOND, order(Avro::Long(2), &[("note", note)])))),
        (key(1), None),
    ])
    .await
    .unwrap();
    has(
        &file,
        &[
            "# Made by `highwater infer` from 3 records of topic \"shop.orders\". Types and names are those of their schemas:",
            "#   id bigint NOT NULL, -- in 2 of 2",
            "#   amount numeric(12,2) NOT NULL, -- in 2 of 2",
            "#   placed_at timestamptz NOT NULL, -- in 2 of 2",
            "#   note text, -- in 1 of 2",
            "value = \"avro\"",
            "key_format = \"avro\"",
            "deletes = \"ignore\"",
            "columns.placed_at = \"value.placedAt\"",
            "# columns.record_key = \"key\"",
        ],
    );
}

#[tokio::test]
async fn change_events_are_upserted_by_their_keys() {
    let row = record(&[("id", Avro::Int(1)), ("name", Avro::Union(0, Box::new(Avro::Null)))]);
    let event = record(&[
        ("before", Avro::Union(0, Box::new(Avro::Null))),
        ("after", Avro::Union(1, Box::new(row))),
        ("op", Avro::String("c".to_owned())),
    ]);
    let key = avro(5, KEY, record(&[("id", Avro::Int(1))]));
    let file = file_of(vec![(Some(key), Some(avro(4, EVENT, event)))]).await.unwrap();
    has(
        &file,
        &[
            "#   id integer NOT NULL, -- in 1 of 1",
            // Null in all records: only its schema knows.
            "#   name text, -- in 0 of 1",
            "#   PRIMARY KEY (id)",
            "value = \"avro\"",
            "envelope = \"debezium\"",
            "key_format = \"avro\"",
            "mode = \"upsert\"",
            "key = [\"id\"]",
        ],
    );
}

#[tokio::test]
async fn protobuf_and_json_schema_are_read_too() {
    // The first message of its file; a name, and cents.
    let value = framed(6, b"\x00\x0a\x01e\x10\xd2\x09");
    let file = file_of(vec![(Some(b"k".to_vec()), Some(value))]).await.unwrap();
    has(
        &file,
        &[
            "#   name text NOT NULL, -- in 1 of 1",
            "#   cents numeric(20) NOT NULL, -- in 1 of 1",
            "#   note text, -- in 0 of 1",
            "value = \"protobuf\"",
            "key_format = \"string\"",
        ],
    );
    let file = file_of(vec![(None, Some(framed(7, br#"{"n":1}"#)))]).await.unwrap();
    has(&file, &["#   n bigint, -- in 1 of 1", "value = \"json_schema\"", "columns.n = \"value.n\""]);
    assert!(file.contains("guessed from these"), "{file}");
}

#[tokio::test]
async fn what_is_not_known_is_told_with_its_place_and_keys_may_be_numbers() {
    let error = file_of(vec![(None, Some(framed(99, b"x")))]).await.unwrap_err().to_string();
    assert!(
        error.contains("the record of partition 0 at offset 0") && error.contains("schema 99"),
        "{error}"
    );
    let mixed = vec![(None, Some(framed(7, b"{}"))), (None, Some(framed(3, b"\x02")))];
    let error = file_of(mixed).await.unwrap_err().to_string();
    assert!(error.contains("of another kind"), "{error}");
    // 8 bytes of a long, which begin as schema 0 would.
    let file =
        file_of(vec![(Some(9_i64.to_be_bytes().to_vec()), Some(framed(7, br#"{"n":1}"#)))]).await.unwrap();
    assert!(!file.contains("key_format = \"json_schema\""), "{file}");
}
