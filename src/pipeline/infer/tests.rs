//! Files of records that are written down: each is read again, and takes the records that it was made of.

mod schemas;

use super::names::{snake_case, table, unique};
use super::*;

fn records(records: &[(Option<&str>, Option<&str>)]) -> Vec<ReadRecord> {
    let record = |(offset, (key, value)): (i64, &(Option<&str>, Option<&str>))| ReadRecord {
        topic: "shop.paymentEvents".into(),
        partition: 0,
        offset,
        timestamp_ms: None,
        timestamp_type: None,
        key_len: key.map(str::len),
        value_len: value.map(str::len),
        key: key.map(Into::into),
        value: value.map(Into::into),
        headers: Vec::new(),
    };
    (0..).zip(records).map(record).collect()
}

/// The file; it is read again, takes all the records but so many, and its test holds.
fn inferred(these: &[(Option<&str>, Option<&str>)], rejected: usize) -> String {
    let (records, options) = (records(these), InferOptions::new("shop.paymentEvents"));
    let brokers = ["k:9092".to_owned()];
    let file = draft(&brokers, &records, &Known::default(), &options).unwrap();
    let pipeline =
        Pipeline::parse(&file, Path::new("f.toml")).unwrap_or_else(|error| panic!("{file}\n{error}"));
    pipeline.worker(PartialConfig::default()).unwrap_or_else(|error| panic!("{file}\n{error}"));
    let sink = &pipeline.sinks[0];
    let refused = records.iter().filter(|record| {
        let batch = batch(&[record]);
        outcome(sink, Input::of(&batch.records().next().unwrap()), &Default::default()).is_err()
    });
    assert_eq!(refused.count(), rejected, "{file}");
    assert!(!file.contains("[[test]]"), "data is shown only where it is asked for");
    let with_test = draft(&brokers, &records, &Known::default(), &options.with_test(true)).unwrap();
    let pipeline = Pipeline::parse(&with_test, Path::new("f.toml"))
        .unwrap_or_else(|error| panic!("{with_test}\n{error}"));
    let results = pipeline.test();
    assert!(results.iter().all(|result| result.differences.is_empty()), "{with_test}\n{results:?}");
    file
}

fn has(file: &str, lines: &[&str]) {
    for line in lines {
        assert!(file.lines().any(|known| known == *line), "{line}\n\n{file}");
    }
}

#[test]
fn fields_become_columns_with_types() {
    let file = inferred(
        &[
            (
                Some("a"),
                Some(
                    r#"{"txId":"t1","amount":9.90,"count":1,"ok":true,"ts":1790000000000,"at":"2026-09-21T14:13:20Z","tags":["x"],"user":{"id":1},"big":12345678901234567890,"born":"1997-05-19","mix":1,"none":null,"a name.x":1,"unitless":1790000000}"#,
                ),
            ),
            (
                Some("b"),
                Some(
                    r#"{"txId":"t2","amount":9,"count":2,"ok":false,"ts":1790000000001,"at":"2026-09-21T14:13:20+02:00","tags":[],"user":null,"mix":"y","offset":7}"#,
                ),
            ),
        ],
        0,
    );
    has(
        &file,
        &[
            "# CREATE TABLE payment_events (",
            "#   tx_id text, -- in 2 of 2",
            "#   amount numeric, -- in 2 of 2",
            "#   count bigint, -- in 2 of 2",
            "#   ok boolean, -- in 2 of 2",
            "#   ts bigint, -- in 2 of 2",
            "#   at timestamptz, -- in 2 of 2",
            "#   tags jsonb, -- in 2 of 2",
            "#   \"user\" jsonb, -- in 1 of 2",
            "#   big numeric, -- in 1 of 2",
            "#   born date, -- in 1 of 2",
            "#   mix jsonb, -- in 2 of 2; of several kinds",
            "#   none jsonb, -- in 0 of 2; only null so far",
            "#   \"offset\" bigint, -- in 1 of 2",
            "#   source_offset bigint NOT NULL",
            "columns.tx_id = \"value.txId\"",
            "columns.a_name_x = 'value.\"a name.x\"'",
            "# columns.ts = { from = \"value.ts\", unit = \"ms\" }",
            "columns.ts = \"value.ts\"",
            "key_format = \"string\"",
            "# columns.record_key = \"key\"",
            "group = \"payment-events-v1\"",
        ],
    );
    assert!(!file.contains("deletes") && !file.contains("unit = \"s\""), "{file}");
    assert!(!file.contains("t1") && !file.contains("9.90"), "no value is shown: {file}");
}

#[test]
fn tombstones_are_stepped_over_and_an_upsert_is_named() {
    let file = inferred(
        &[
            (Some(r#"{"id":1}"#), Some(r#"{"id":1,"n":"a"}"#)),
            (Some(r#"{"id":1}"#), None),
            (Some(r#"{"id":2}"#), Some("null")),
        ],
        0,
    );
    has(
        &file,
        &[
            "key_format = \"json\"",
            "deletes = \"ignore\"",
            "# mode = \"upsert\"",
            "# columns.key_id = \"key.id\"",
        ],
    );
    assert!(file.contains("# 2 records have no value (tombstones)"), "{file}");
}

#[test]
fn envelopes_are_recognised() {
    let event = r#"{"payload":{"op":"c","before":null,"after":{"id":7,"Name":"Ana","doc":"{}"},"ts_ms":1790000000000},"schema":null}"#;
    let deleted = r#"{"op":"d","before":{"id":7},"after":null}"#;
    let key = r#"{"schema":null,"payload":{"id":7}}"#;
    let file = inferred(&[(Some(key), Some(event)), (Some(key), Some(deleted)), (Some(key), None)], 0);
    has(
        &file,
        &[
            "envelope = \"debezium\"",
            "mode = \"upsert\"",
            "key = [\"id\"]",
            "key_format = \"json\"",
            "columns.name = \"value.Name\"",
            "#   name text, -- in 1 of 1",
            "#   PRIMARY KEY (id)",
        ],
    );
    // Without keys no row is known.
    let file = inferred(&[(None, Some(event)), (None, Some(deleted))], 0);
    has(&file, &["envelope = \"debezium\"", "deletes = \"ignore\""]);
    let file = inferred(&[(Some(key), Some(r#"{"schema":{"type":"struct"},"payload":{"id":7}}"#))], 0);
    has(&file, &["columns.id = \"value.payload.id\"", "# columns.key_id = \"key.payload.id\""]);
}

#[test]
fn values_that_are_no_objects_go_into_one_column() {
    has(
        &inferred(&[(None, Some("a line")), (None, Some("5"))], 0),
        &["value = \"string\"", "#   record_value text,"],
    );
    has(
        &inferred(&[(None, Some("[1]")), (None, Some("5"))], 0),
        &["columns.record_value = \"value\"", "#   record_value jsonb,"],
    );
    let file = inferred(&[(None, Some("{\"a\":1}")), (None, Some("{\"a\":2}")), (None, Some("a line"))], 1);
    assert!(file.contains("# 1 of 3 values are no JSON objects"), "{file}");
    has(
        &inferred(&[(None, Some("\0\0\0\0\u{7}abc"))], 0),
        &[
            "value = \"bytes\"",
            "# 1 values begin as those that refer to a schema registry do: with --registry URL it is asked for their fields.",
        ],
    );
    has(&inferred(&[(None, Some("{}"))], 0), &["columns.record_value = \"value\""]);
    assert!(
        draft(&[], &[], &Known::default(), &InferOptions::new("t"))
            .unwrap_err()
            .to_string()
            .contains("no records")
    );
}

#[test]
fn names_are_sqls() {
    for (name, expected) in [
        ("createdAt", "created_at"),
        ("HTTPStatus", "http_status"),
        ("ID", "id"),
        ("a name-x", "a_name_x"),
        ("userID2", "user_id2"),
        ("1st", "n1st"),
        ("__op", "op"),
        ("ü", "field"),
        ("xmin", "xmin_field"),
    ] {
        assert_eq!(snake_case(name), expected, "{name}");
    }
    let mut taken = vec!["id".to_owned()];
    assert_eq!((unique("id", &mut taken), unique("id", &mut taken)), ("id_2".to_owned(), "id_3".to_owned()));
    assert_eq!((table("dbz.public.order"), table("a-b")), ("\"order\"".to_owned(), "a_b".to_owned()));
}

crate::fuzz::fuzz!(
    /// Whatever the records are, the file can be read again.
    any_records_make_a_file,
    &["{", "}", "\"", ":", ",", "\"a\":1", "\"payload\":", "\"schema\":", "\"op\":\"c\"", "\"after\":", "null", "\\u0000", "|", "."],
    |bytes| {
        let parts: Vec<&[u8]> = bytes.split(|byte| *byte == b'|').collect();
        let mut these = records(&vec![(None, None); parts.len().div_ceil(2)]);
        for (record, part) in these.iter_mut().zip(parts.chunks(2)) {
            record.value = Some(part[0].to_vec());
            record.key = part.get(1).map(|key| key.to_vec());
        }
        let file = draft(&["k:9092".to_owned()], &these, &Known::default(), &InferOptions::new("t").with_test(true)).unwrap();
        let pipeline = Pipeline::parse(&file, Path::new("f.toml")).unwrap_or_else(|error| panic!("{file}\n{error}"));
        assert!(pipeline.test().iter().all(|result| result.differences.is_empty()), "{file}");
    }
);
