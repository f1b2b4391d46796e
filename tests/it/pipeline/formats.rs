//! The formats of key and value, and the modes, each at least once; change events.

use std::time::SystemTime;

use highwater::testing::Oracle;

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
            let row = |field: &str| {
                format!(
                    r#"{{"type":"struct","fields":[{{"type":"int32","optional":false,"field":"id"}},{{"type":"string","optional":true,"field":"name"}},{{"type":"int32","optional":true,"name":"io.debezium.time.Date","version":1,"field":"born"}},{{"type":"string","optional":true,"name":"io.debezium.data.Json","version":1,"field":"doc"}}],"optional":true,"name":"customers.Value","field":"{field}"}}"#
                )
            };
            let rows = [row("before"), row("after")].join(",");
            let schema = format!(
                r#"{{"type":"struct","fields":[{rows},{{"type":"struct","fields":[{{"type":"int64","field":"lsn"}}],"field":"source"}},{{"type":"string","field":"op"}},{{"type":"int64","field":"ts_ms"}}],"name":"customers.Envelope"}}"#
            );
            format!(r#"{{"schema":{schema},"payload":{payload}}}"#)
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

/// A column, its type in Postgres; its schema's type, name and the rest of the schema; the payload; and the literal that
/// Postgres reads.
type Typed =
    (&'static str, &'static str, &'static str, &'static str, &'static str, &'static str, &'static str);

const TYPED: &[Typed] = &[
    ("a", "smallint", "int8", "", "", "-128", "-128"),
    ("b", "smallint", "int16", "", "", "32767", "32767"),
    ("c", "integer", "int32", "", "", "-2147483648", "-2147483648"),
    ("d", "bigint", "int64", "", "", "9223372036854775807", "9223372036854775807"),
    ("e", "real", "float", "", "", "0.1", "0.1"),
    ("f", "double precision", "double", "", "", "1.7976931348623157E308", "1.7976931348623157e308"),
    ("g", "double precision", "double", "", "", "\"NaN\"", "NaN"),
    ("h", "boolean", "boolean", "", "", "true", "true"),
    ("i", "text", "string", "", "", "\"a\\nü\"", "a\nü"),
    ("j", "bytea", "bytes", "", "", "\"Cv8=\"", "\\x0aff"),
    (
        "k",
        "numeric(12,2)",
        "bytes",
        "org.apache.kafka.connect.data.Decimal",
        ",\"parameters\":{\"scale\":\"2\"}",
        "\"/CI=\"",
        "-9.90",
    ),
    (
        "l",
        "numeric",
        "bytes",
        "org.apache.kafka.connect.data.Decimal",
        ",\"parameters\":{\"scale\":\"39\"}",
        "\"AQAAAAAAAAAAAAAAAAAAAAA=\"",
        "0.340282366920938463463374607431768211456",
    ),
    (
        "m",
        "numeric",
        "bytes",
        "org.apache.kafka.connect.data.Decimal",
        ",\"parameters\":{\"scale\":\"-3\"}",
        "\"BQ==\"",
        "5000",
    ),
    ("n", "date", "int32", "org.apache.kafka.connect.data.Date", "", "20717", "2026-09-21"),
    ("o", "time", "int32", "org.apache.kafka.connect.data.Time", "", "51200123", "14:13:20.123"),
    (
        "p",
        "timestamptz",
        "int64",
        "org.apache.kafka.connect.data.Timestamp",
        "",
        "1790000000123",
        "2026-09-21T14:13:20.123Z",
    ),
    (
        "q",
        "timestamp",
        "int64",
        "org.apache.kafka.connect.data.Timestamp",
        "",
        "1790000000123",
        "2026-09-21T14:13:20.123",
    ),
    ("r", "date", "int32", "io.debezium.time.Date", "", "-719163", "0001-12-31 BC"),
    ("s", "date", "int32", "io.debezium.time.Date", "", "2145042905", "5874897-12-31"),
    ("t", "time", "int64", "io.debezium.time.MicroTime", "", "86400000000", "24:00:00"),
    ("u", "time", "int64", "io.debezium.time.NanoTime", "", "51200123456789", "14:13:20.123456"),
    (
        "v",
        "timestamp",
        "int64",
        "io.debezium.time.Timestamp",
        "",
        "9224318015999999",
        "294276-12-31 23:59:59.999",
    ),
    (
        "w",
        "timestamp",
        "int64",
        "io.debezium.time.MicroTimestamp",
        "",
        "-62135596800000001",
        "0001-12-31 23:59:59.999999 BC",
    ),
    ("x", "timestamp", "int64", "io.debezium.time.MicroTimestamp", "", "9223372036825200000", "infinity"),
    ("y", "timestamp", "int64", "io.debezium.time.NanoTimestamp", "", "-1", "1969-12-31 23:59:59.999999"),
    (
        "z",
        "timestamptz",
        "string",
        "io.debezium.time.ZonedTimestamp",
        "",
        "\"2026-09-21T14:13:20.1Z\"",
        "2026-09-21 14:13:20.1+00",
    ),
    ("aa", "timetz", "string", "io.debezium.time.ZonedTime", "", "\"14:13:20.1Z\"", "14:13:20.1+00"),
    ("ab", "date", "string", "io.debezium.time.IsoDate", "", "\"2026-09-21Z\"", "2026-09-21"),
    ("ac", "time", "string", "io.debezium.time.IsoTime", "", "\"14:13:20Z\"", "14:13:20"),
    (
        "ad",
        "timestamp",
        "string",
        "io.debezium.time.IsoTimestamp",
        "",
        "\"2026-09-21T14:13:20Z\"",
        "2026-09-21 14:13:20",
    ),
    ("ae", "interval", "int64", "io.debezium.time.MicroDuration", "", "-90061500000", "-25:01:01.5"),
    (
        "af",
        "interval",
        "string",
        "io.debezium.time.Interval",
        "",
        "\"P1Y2M3DT4H5M6.78S\"",
        "1 year 2 mons 3 days 04:05:06.78",
    ),
    ("ag", "integer", "int32", "io.debezium.time.Year", "", "2026", "2026"),
    ("ah", "jsonb", "string", "io.debezium.data.Json", "", "\"{\\\"n\\\": 1.10}\"", "{\"n\": 1.10}"),
    ("ai", "jsonb", "string", "io.debezium.data.Json", "", "\"\\\"text\\\"\"", "\"text\""),
    (
        "aj",
        "uuid",
        "string",
        "io.debezium.data.Uuid",
        "",
        "\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\"",
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    ),
    (
        "ak",
        "bit(5)",
        "bytes",
        "io.debezium.data.Bits",
        ",\"parameters\":{\"length\":\"5\"}",
        "\"Cg==\"",
        "01010",
    ),
    ("al", "text[]", "string", "io.debezium.data.EnumSet", "", "\"a,b\"", "{a,b}"),
    (
        "am",
        "numeric",
        "struct",
        "io.debezium.data.VariableScaleDecimal",
        ",\"fields\":[]",
        "{\"scale\":3,\"value\":\"Cv8=\"}",
        "2.815",
    ),
    (
        "an",
        "date[]",
        "array",
        "",
        ",\"items\":{\"type\":\"int32\",\"name\":\"io.debezium.time.Date\"}",
        "[0,null]",
        "{1970-01-01,NULL}",
    ),
    (
        "ao",
        "jsonb",
        "map",
        "",
        ",\"keys\":{\"type\":\"int32\"},\"values\":{\"type\":\"bytes\"}",
        "[[1,\"Cg==\"]]",
        "{\"1\": \"\\\\x0a\"}",
    ),
    ("ap", "text", "string", "io.debezium.data.Enum", "", "\"small\"", "small"),
];

/// Each value of Connect's JSON is what Postgres makes of the literal; a null, and what is absent, is NULL.
#[tokio::test]
async fn core_connect_json_is_what_postgres_reads() -> TestResult {
    let columns: Vec<String> = TYPED.iter().map(|(column, kind, ..)| format!("{column} {kind}")).collect();
    let table = format!(
        "CREATE TABLE typed (id int, source_partition int, source_offset bigint, at_utc timestamptz, {})",
        columns.join(", ")
    );
    let world = World::with_tables("connect", 2, &table).await?;
    let names: Vec<String> =
        TYPED.iter().map(|(column, ..)| format!("{column} = 'value.{column}'")).collect();
    let sink = format!(
        "[[sink]]\ntopic = 'TOPIC'\ntable = 'typed'\nenvelope = 'connect_json'\nkey_format = 'json'\n\
         provenance = {{ partition = 'source_partition', offset = 'source_offset' }}\n\
         columns = {{ id = 'key.id', at_utc = {{ from = 'value.y', unit = 'ns' }}, {} }}\n",
        names.join(", ")
    );
    let fields: Vec<String> = TYPED
        .iter()
        .map(|(column, _, kind, name, more, ..)| {
            let name =
                if name.is_empty() { String::new() } else { format!(r#","name":"{name}","version":1"#) };
            format!(r#"{{"type":"{kind}","optional":true{name}{more},"field":"{column}"}}"#)
        })
        .collect();
    let schema = format!(r#"{{"type":"struct","fields":[{}],"optional":false}}"#, fields.join(","));
    let payload = |value: &dyn Fn(&Typed) -> &'static str| {
        let fields: Vec<String> =
            TYPED.iter().map(|typed| format!("\"{}\":{}", typed.0, value(typed))).collect();
        format!("{{{}}}", fields.join(","))
    };
    for (id, payload) in
        [payload(&|typed| typed.5), payload(&|_| "null"), r#"{"a":null}"#.to_owned()].iter().enumerate()
    {
        for partition in 0..2 {
            let key = format!(
                r#"{{"schema":{{"type":"struct","fields":[{{"type":"int32","field":"id"}}]}},"payload":{{"id":{id}}}}}"#
            );
            let value = format!(r#"{{"schema":{schema},"payload":{payload}}}"#);
            world.producer.send(world.message(partition).key(key).value(value))?;
        }
    }
    world.producer.flush().await?;
    let process = world.run("connect", &world.pipeline_file(&sink)?).await?;
    world.caught_up().await?;
    let client = world.database.client().await?;
    for (column, kind, _, name, _, _, literal) in TYPED {
        let literal = literal.replace('\'', "''");
        let sql = format!("SELECT count(*) FROM typed WHERE id = 0 AND {column} = '{literal}'::{kind}");
        let found = format!("SELECT {column}::text FROM typed WHERE id = 0 LIMIT 1");
        let found: Option<String> = client.query_one(&found, &[]).await?.get(0);
        assert_eq!(world.number(&sql).await?, 2, "{column} {kind} {name}: {found:?} is not {literal}");
        let nulls = format!("SELECT count(*) FROM typed WHERE id > 0 AND {column} IS NULL");
        assert_eq!(world.number(&nulls).await?, 4, "{column}");
    }
    let utc = "SELECT count(*) FROM typed WHERE at_utc = '1969-12-31 23:59:59.999999Z'";
    assert_eq!(world.number(utc).await?, 2);
    let rows = "SELECT source_partition, source_offset FROM typed";
    Oracle::new(world.producer.ledger(), &world.topic).compare(&client, rows).await?.assert_exact();
    // What is not in the envelope stands still, and is told.
    world.producer.send(world.message(0).key("{}").value("{\"a\":1}"))?;
    world.producer.flush().await?;
    process.wait_for_line(|text| text.contains("schemas.enable = false"), PATIENCE).await?;
    process.term()?;
    assert_eq!(process.wait(PATIENCE).await?, 0, "{process}");
    Ok(())
}
