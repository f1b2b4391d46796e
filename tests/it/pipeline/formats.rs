//! The formats of key and value, and the modes, each at least once; change events.

use std::time::SystemTime;

use crate::support::{PATIENCE, TestResult, World};

const TABLES: &str = "\
    CREATE TABLE lines (line text NOT NULL, who text, at timestamptz, source_topic text, source_partition int,
        source_offset bigint, source_timestamp bigint);
    CREATE TABLE blobs (hash bytea PRIMARY KEY, blob bytea);
    CREATE TABLE customers (region text, id int, name text, big numeric, PRIMARY KEY (region, id));
    CREATE TABLE firsts (id int PRIMARY KEY, name text);";

const SINKS: &str = "\
    [[sink]]
    topic = 'TOPIC-text'
    table = 'lines'
    value = 'string'
    key_format = 'string'
    columns = { line = 'value', who = 'key', at = 'timestamp' }
    provenance = { topic = 'source_topic', partition = 'source_partition', offset = 'source_offset', timestamp = 'source_timestamp' }
    where = \"value != 'skip me' && key != null\"

    [[sink]]
    topic = 'TOPIC-bytes'
    table = 'blobs'
    mode = 'upsert'
    value = 'bytes'
    key_format = 'bytes'
    deletes = 'ignore'
    columns = { hash = 'key', blob = 'value' }

    [[sink]]
    topic = 'TOPIC-json'
    table = 'customers'
    mode = 'upsert'
    key_format = 'json'
    columns = ['region', 'id', 'name', 'big']

    [[sink]]
    topic = 'TOPIC-json'
    table = 'firsts'
    mode = 'insert_ignore'
    key_format = 'json'
    deletes = 'ignore'
    columns = { id = 'key.id', name = 'value.name' }
";

#[tokio::test]
async fn core_each_format_and_mode() -> TestResult {
    let world = World::with_tables("formats", 1, TABLES).await?;
    let [text, bytes, json] = ["text", "bytes", "json"].map(|kind| format!("{}-{kind}", world.topic));
    for topic in [&text, &bytes, &json] {
        world.another_topic((topic, 1)).await?;
    }
    // Not of long ago: retention would take them away.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis();
    let now = i64::try_from(now)?;
    let to = |topic: &str| highwater::testing::Message::to(topic).partition(0);
    for (key, value) in
        [(Some("ana"), "one"), (Some("ana"), "skip me"), (None, "nobody's"), (Some("b"), "zwei ü")]
    {
        let message = to(&text).value(value).timestamp_ms(now);
        world.producer.send(if let Some(key) = key { message.key(key) } else { message })?;
    }
    let raw: [(&[u8], Option<&[u8]>); 4] =
        [(b"\x00\xff", Some(b"\xfe")), (b"k", Some(b"old")), (b"k", Some(b"\x00")), (b"k", None)];
    for (key, value) in raw {
        let message = to(&bytes).key(key);
        world.producer.send(if let Some(value) = value { message.value(value) } else { message })?;
    }
    for (id, value) in [
        (1, Some(r#"{"region":"eu","id":1,"name":"Ana","big":12345678901234567890.123456789}"#)),
        (2, Some(r#"{"region":"eu","id":2,"name":"Ben","big":null}"#)),
        (1, Some(r#"{"region":"eu","id":1,"name":"Ana-Maria"}"#)),
        (2, None),
        (3, Some(r#"{"region":"eu","id":3,"name":"Cem","big":"1e3"}"#)),
    ] {
        let message = to(&json).key(format!(r#"{{"region":"eu","id":{id}}}"#));
        world.producer.send(if let Some(value) = value { message.value(value) } else { message })?;
    }
    world.producer.flush().await?;
    let process = world.run("formats", &world.pipeline_file(SINKS)?).await?;
    let applied = "SELECT coalesce(sum(next_offset), 0)::int8 FROM highwater.consumer_offset";
    highwater::testing::wait_until("all are applied", PATIENCE, async || {
        Ok((world.number(applied).await? == 13).then_some(()))
    })
    .await?;
    for (sql, rows) in [
        (
            "SELECT concat_ws('|', line, who, at = to_timestamp(source_timestamp / 1000.0), source_topic, \
             source_partition, source_offset, source_timestamp) FROM lines ORDER BY source_offset",
            vec![format!("one|ana|t|{text}|0|0|{now}"), format!("zwei ü|b|t|{text}|0|3|{now}")],
        ),
        (
            "SELECT hash::text || blob::text FROM blobs ORDER BY 1",
            vec!["\\x00ff\\xfe".into(), "\\x6b\\x00".into()],
        ),
        (
            "SELECT concat_ws('|', region, id, name, big) FROM customers ORDER BY id",
            vec!["eu|1|Ana-Maria".into(), "eu|3|Cem|1000".into()],
        ),
        (
            "SELECT concat_ws('|', id, name) FROM firsts ORDER BY id",
            vec!["1|Ana".into(), "2|Ben".into(), "3|Cem".into()],
        ),
    ] {
        let found: Vec<String> = world.database.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect();
        assert_eq!(found, rows, "{sql}");
    }
    process.term()?;
    assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");
    Ok(())
}

/// A table of another database, by its changes: inserts, updates, a changed key, deletions with their tombstones, twice
/// the same snapshot row. (Events as Debezium's PostgreSQL connector writes them; no connector runs here.)
#[tokio::test]
async fn core_debezium_events_make_the_table_what_it_is_at_the_source() -> TestResult {
    const TABLE: &str = "CREATE TABLE customers (id int PRIMARY KEY, name text, born date, changed_at timestamptz, lsn bigint, doc jsonb, \
         doc_text text);";
    const SINK: &str = "\
        [[sink]]
        topic = 'TOPIC'
        table = 'customers'
        envelope = 'debezium'
        mode = 'upsert'
        columns.id = 'value.id'
        columns.name = 'value.name'
        columns.born = { from = 'value.born', unit = 'd' }
        columns.changed_at = { from = 'event.ts_ms', unit = 'ms' }
        columns.lsn = 'event.source.lsn'
        columns.doc = 'value.doc'
        columns.doc_text = 'value.doc'
    ";
    let world = World::with_tables("debezium", 1, TABLE).await?;
    let row = |id: i32, name: &str| {
        format!(r#"{{"id":{id},"name":"{name}","born":{},"doc":"{{\"n\": 1.10}}"}}"#, 10_000 + id)
    };
    let event = |op: &str, before: &str, after: &str, lsn: i32| {
        let payload = format!(
            r#"{{"before":{before},"after":{after},"source":{{"connector":"postgresql","lsn":{lsn}}},"op":"{op}","ts_ms":1790000000000}}"#
        );
        // With and without Connect's schema.
        if lsn % 2 == 0 {
            format!(r#"{{"schema":{{"type":"struct"}},"payload":{payload}}}"#)
        } else {
            payload
        }
    };
    let key_only = |id: i32| format!(r#"{{"id":{id},"name":null,"born":null}}"#);
    let changes = [
        (1, Some(event("r", "null", &row(1, "Ana"), 1))),
        (1, Some(event("r", "null", &row(1, "Ana"), 2))),
        (2, Some(event("c", "null", &row(2, "Ben"), 3))),
        (2, Some(event("u", "null", &row(2, "Benedikt"), 4))),
        // UPDATE … SET id = 3 WHERE id = 1
        (1, Some(event("d", &key_only(1), "null", 5))),
        (1, None),
        (3, Some(event("c", "null", &row(3, "Ana"), 6))),
        (4, Some(event("c", "null", &row(4, "Cem"), 7))),
        (4, Some(event("d", &key_only(4), "null", 8))),
        (4, None),
    ];
    for (id, value) in &changes {
        let message = world.message(0).key(format!(r#"{{"id":{id}}}"#));
        world.producer.send(if let Some(value) = value { message.value(value.as_str()) } else { message })?;
    }
    world.producer.flush().await?;
    let process = world.run("debezium", &world.pipeline_file(SINK)?).await?;
    world.caught_up().await?;
    let sql = "SELECT concat_ws('|', id, name, born, changed_at AT TIME ZONE 'UTC', lsn, doc ->> 'n', doc_text) FROM customers ORDER BY id";
    let found: Vec<String> = world.database.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect();
    let at = "2026-09-21 14:13:20";
    assert_eq!(
        found,
        [
            format!("2|Benedikt|1997-05-21|{at}|4|1.10|{{\"n\": 1.10}}"),
            format!("3|Ana|1997-05-22|{at}|6|1.10|{{\"n\": 1.10}}")
        ]
    );
    // What cannot be done is said, and stands still.
    world.producer.send(world.message(0).key("{}").value(event("t", "null", "null", 9)))?;
    world.producer.flush().await?;
    let line = process.wait_for_line(|text| text.contains("was truncated"), PATIENCE).await?;
    assert!(line.contains("operator's task"), "{line}");
    process.term()?;
    assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");
    Ok(())
}
