//! The file: what it may say, what is refused and where, and what comes of records by its own tests.

use std::path::Path;

use super::*;

const HEAD: &str = "brokers = [\"k:9092\"]\npostgres_url = \"postgres://db/app\"\ngroup = \"g\"\n";
const SINK: &str = "[[sink]]\ntopic = \"payments\"\ntable = \"payments\"\n";

/// What can be read in TOML is the same in YAML, and what is refused there is refused here.
fn parse(text: &str) -> Result<Pipeline> {
    let read = Pipeline::parse(text, Path::new("shop.toml"));
    if let Ok(table) = toml::from_str::<toml::Table>(text) {
        let yaml = serde_json::to_string_pretty(&as_json(toml::Value::Table(table))).unwrap();
        let again = Pipeline::parse(&yaml, Path::new("shop.yaml"));
        let passed = |pipeline: &Pipeline| -> Vec<bool> {
            pipeline.test().iter().map(|result| result.differences.is_empty()).collect()
        };
        match (&read, again) {
            (Ok(read), Ok(again)) => {
                assert_eq!((again.summary(), passed(&again)), (read.summary(), passed(read)), "{yaml}");
            }
            (Ok(_), Err(error)) => panic!("{yaml}: {error}"),
            (Err(_), again) => drop(again.expect_err(&yaml)),
        }
    }
    read
}

/// JSON is YAML. Dates are text there.
fn as_json(value: toml::Value) -> serde_json::Value {
    match value {
        toml::Value::Datetime(at) => at.to_string().into(),
        toml::Value::Array(items) => items.into_iter().map(as_json).collect(),
        toml::Value::Table(table) => table.into_iter().map(|(key, value)| (key, as_json(value))).collect(),
        other => serde_json::to_value(other).unwrap(),
    }
}

#[test]
fn yaml_is_refused_with_the_line() {
    let head = "group: g\nsink:\n  - topic: payments\n    table: no\n";
    for (keys, line, why) in [
        ("    colums: [id]\n", 5, "unknown key `colums`: did you mean `columns`?"),
        ("    columns: [id]\n    mode: insert\n", 6, "unknown variant `insert`"),
        (
            "    columns: { id: { from: value.id, units: ms } }\n",
            5,
            "unknown key `units`: did you mean `unit`?",
        ),
        ("    columns: { id: id }\n", 3, "[[sink]] into table no: column id: `id` is no path"),
        ("    columns: [id\n", 5, "unclosed"),
        ("    columns: [id]\n    table: b\n", 6, "duplicate mapping key"),
        ("    columns: [id]\n---\nsink: []\n", 7, "multiple YAML documents"),
        (
            "    columns: [id]\ntest:\n  - name: a\n    nothing: true\n    values: x\n",
            9,
            "did you mean `value`?",
        ),
    ] {
        let refused = Pipeline::parse(&format!("{head}{keys}"), Path::new("shop.yml")).unwrap_err();
        let said = refused.to_string();
        assert!(refused.is_configuration() && said.contains(why), "{keys}: {said}");
        assert!(
            said.contains(&format!("shop.yml, line {line}: ")) && !said.contains(" at line "),
            "{keys}: {said}"
        );
    }
    let read = Pipeline::parse(&format!("{head}    columns: [on]\n"), Path::new("shop.yml")).unwrap();
    assert_eq!(read.summary()[0].table, "no", "a word, and no boolean");
    // Aliases of aliases: of these nobody would see the end.
    let mut bomb = format!("{head}    columns: [id]\na0: &a0 [x, x]\n");
    for n in 0..40 {
        bomb += &format!("a{0}: &a{0} [*a{n}, *a{n}]\n", n + 1);
    }
    let refused = Pipeline::parse(&bomb, Path::new("shop.yml")).unwrap_err().to_string();
    assert!(refused.contains("budget breached: Nodes"), "{refused}");
}

/// A sink of these keys.
fn sink(keys: &str) -> Result<Pipeline> {
    parse(&format!("{HEAD}{SINK}{keys}\n"))
}

/// What the tests of a file say, of a sink with these keys.
fn tested(keys: &str, tests: &str) -> Vec<String> {
    let pipeline = sink(&format!("{keys}\n{tests}")).unwrap_or_else(|error| panic!("{}", error.report()));
    pipeline.test().into_iter().flat_map(|result| result.differences).collect()
}

#[test]
fn a_file_is_settings_and_sinks() {
    let text = format!(
        "{HEAD}linger = \"50ms\"\n[kafka]\n\"client.rack\" = \"a\"\n{SINK}columns = [\"id\"]\n\
         [[sink]]\ntopic = [\"orders\", '^audit\\.[a-z]+$', \"payments\"]\ntable = \"shop.orders\"\ncolumns.id = \"key\"\n\
         key_format = \"string\"\nprovenance = {{ partition = \"p\", offset = \"o\" }}\n"
    );
    let pipeline = parse(&text).unwrap();
    let [payments, orders] = &pipeline.summary()[..] else { panic!("two sinks") };
    assert_eq!((&*payments.table, payments.columns), ("payments", Some(1)));
    assert_eq!((&*orders.table, orders.columns), ("shop.orders", Some(3)));
    assert_eq!(pipeline.topics(), ["payments", "orders", r"^audit\.[a-z]+$"]);
    let worker = pipeline.worker(PartialConfig::default()).unwrap();
    assert_eq!(worker.config().program, "shop");
    assert_eq!(worker.config().topics, pipeline.topics());
    // What is stronger than the file.
    let worker = pipeline.worker(PartialConfig::default().group("other").program("x")).unwrap();
    assert_eq!((&*worker.config().group, &*worker.config().program), ("other", "x"));
    let refused = pipeline.worker(PartialConfig::default().topics(vec!["x".to_owned()])).unwrap_err();
    assert!(refused.to_string().contains("those of its sinks"), "{refused}");
}

#[test]
fn what_cannot_be_is_refused_with_the_line() {
    for (keys, line, why) in [
        ("colums = [\"id\"]", 7, "unknown key `colums`: did you mean `columns`?"),
        ("columns = [\"id\"]\nmode = \"insert\"", 8, "unknown variant `insert`"),
        ("columns = { id = 5 }", 7, "a path such as"),
        ("columns = { id = { from = \"value.id\", units = \"ms\" } }", 7, "did you mean `unit`?"),
        ("columns.id = \"id\"", 4, "column id: `id` is no path"),
        ("columns = []", 4, "`columns` is empty"),
        ("columns = [\"id\"]\nrest = \"id\"", 4, "column id is named twice"),
        ("columns = [\"id\"]\nprovenance.offset = \"id\"", 4, "column id is named twice"),
        ("columns.id = \"key\"", 4, "nothing is said of the record's key"),
        ("columns.id = \"key.id\"\nkey_format = \"string\"", 4, "key_format is not \"json\""),
        ("columns = [\"id\"]\nvalue = \"string\"", 4, "value is not \"json\""),
        ("columns.id = \"value\"\nvalue = \"string\"\nrest = \"r\"", 4, "value = \"json\""),
        ("columns.id = { from = \"offset\", unit = \"ms\" }", 4, "`unit` is about a number in JSON"),
        ("columns = [\"id\"]\nmode = \"upsert\"\nkey = [\"x\"]", 4, "`key` names x"),
        ("columns = [\"id\"]\ndeletes = \"apply\"", 4, "needs mode = \"upsert\""),
        ("columns = [\"id\"]\nmode = \"upsert\"\ndeletes = \"apply\"", 4, "needs the record's key"),
        ("columns.id = \"event.id\"", 4, "no event without its envelope"),
        ("columns.id = \"value\"\nvalue = \"bytes\"\nenvelope = \"debezium\"", 4, "an envelope is JSON"),
        ("columns.id = \"event.id\"\nenvelope = \"connect_json\"", 4, "no event without its envelope"),
        (
            "columns = { a = \"value.a.id\", b = \"value.b.id\" }\nmode = \"upsert\"\nkey_format = \"json\"",
            4,
            "a deletion's key has one id",
        ),
        ("columns = [\"id\"]\nunchanged = \"__not_said__\"", 4, "`unchanged` needs mode = \"upsert\""),
        ("columns = [\"id\"]\nmode = \"upsert\"\nunchanged = \"-\"", 4, "at least 8 letters"),
        ("columns = [\"id\"]\nwhere = \"partition == '0'\"", 4, "partition is a number"),
        ("columns = [\"id\", \"\"]", 4, "have names"),
        (
            "columns = [\"id\"]\n[[sink]]\ntopic = \"ord.*\"\ntable = \"o\"\ncolumns = [\"id\"]",
            8,
            "a pattern begins with ^",
        ),
        ("columns = [\"id\"]\nkey = []", 4, "`key` names the columns"),
        ("columns = [\"id\", \"n\"]\nversion = \"n\"", 4, "`version` needs mode = \"upsert\""),
        ("columns = [\"id\", \"n\"]\nmode = \"upsert\"\nversion = \"x\"", 4, "`version` names x"),
        (
            "columns = [\"id\", \"n\"]\nmode = \"update\"\nkey = [\"id\"]\nversion = \"id\"",
            4,
            "a column of the key",
        ),
        (
            "columns = [\"id\", \"n\"]\nmode = \"upsert\"\nkey_format = \"json\"\nversion = \"n\"",
            4,
            "a deletion has no value, and so no value.n",
        ),
        (
            "columns = [\"id\"]\n[[sink]]\ntopic = \"o\"\ntable = \"public.Payments\"\ncolumns = [\"id\"]",
            8,
            "in one sink",
        ),
        ("columns = [\"id\"]\nwhere = \"value.a\"", 4, "where: `value.a` is no condition"),
        ("columns = [\"id\"]\nwhere = \"key == 'a'\"", 4, "where: nothing is said of the record's key"),
        (
            "columns = [\"id\"]\n[[sink]]\ntopic = \"o\"\ntable = \"payments\"\ncolumns = [\"id\"]",
            8,
            "in one sink",
        ),
        (
            "columns = [\"id\"]\n[[sink]]\ntopic = \"^*\"\ntable = \"o\"\ncolumns = [\"id\"]",
            8,
            "pattern `^*`",
        ),
        ("columns = [\"id\"]\nvalue = \"avro\"", 4, "its schemas are in a registry"),
        ("columns = [\"id\"]\nkey_format = \"protobuf\"", 4, "key_format: its schemas are in a registry"),
        ("columns = [\"id\"]\nschema = { file = \"x.avsc\" }", 4, "a schema is for"),
        (
            "columns = [\"id\"]\nvalue = \"avro\"\nschema = { file = \"nowhere.avsc\" }",
            4,
            "nowhere.avsc cannot be read",
        ),
        ("columns = [\"id\"]\nvalue = \"avro\"\nschema = { message = \"A\" }", 4, "a schema is {"),
        (
            "columns = [\"id\"]\nvalue = \"avro\"\nschema = { subject = \"a\" }",
            4,
            "its schemas are in a registry",
        ),
        (
            "columns.id = { from = \"value.id\", type = \"int\" }",
            4,
            "column id: `type` is for a column that is made",
        ),
        (
            "columns.id = { from = \"value.id\", type = \"int); DROP TABLE a\" }\nevolve = \"create\"",
            4,
            "column id: `type` is the name of a type",
        ),
        ("columns = [\"id\"]\nevolve = \"basic\"", 8, "unknown variant `basic`"),
        ("columns = [\"id\"]\n= ", 8, ""),
    ] {
        let refused = sink(keys).unwrap_err();
        let said = refused.to_string();
        assert!(refused.is_configuration() && said.contains(why), "{keys}: {said}");
        assert!(said.contains(&format!("shop.toml, line {line}:")), "{keys}: {said}");
    }
    for (text, why) in [
        (
            format!(
                "{SINK}columns = [\"id\"]\non_bad_record = \"dead_letter\"\n[[sink]]\ntopic = \"^pay.*\"\ntable = \"o\"\n\
                 columns = [\"id\"]\non_bad_record = \"halt\"\n"
            ),
            "^pay.* says otherwise of `on_bad_record` for topic payments",
        ),
        (String::new(), "has no [[sink]]"),
        (format!("groop = \"g\"\n{SINK}columns = [\"id\"]"), "did you mean `group`?"),
        (format!("sinks = 1\n{SINK}columns = [\"id\"]"), "did you mean `sink`?"),
        (format!("{SINK}columns = [\"id\"]\n[[test]]\nname = \"t\""), "it expects nothing"),
        (format!("{SINK}columns = [\"id\"]\n[[test]]\nname = \"t\"\nrows.x = []"), "no sink has a table x"),
        (
            format!("{SINK}columns = [\"id\"]\n[[test]]\nname = \"t\"\nrows.payments = [{{ x = 1 }}]"),
            "has no column x",
        ),
        (
            format!("{SINK}columns = [\"id\"]\n[[test]]\nname = \"t\"\nnothing = true\ntopic = \"x\""),
            "no sink takes topic x",
        ),
    ] {
        let said = parse(&text).unwrap_err().to_string();
        assert!(said.contains(why), "{text}: {said}");
    }
}

#[test]
fn a_files_tests_see_what_goes_into_each_column() {
    let keys = "columns = { id = \"key\", amount = \"value.a.amount\", at = { from = \"value.ts\", unit = \"us\" }, \
                h = \"header.trace\", list = \"value.l\" }\nkey_format = \"string\"\nrest = \"body\"\n\
                where = \"value.status != 'test'\"";
    let test = "[[test]]\nname = \"t\"\nkey = \"k-1\"\nheaders.trace = \"x\"\n\
                value = '{\"a\": {\"amount\": 9.90}, \"ts\": 1790000000000001, \"l\": [1, 2], \"more\": {\"x\": null}}'\n";
    let rows = "rows.payments = [{ id = \"k-1\", amount = \"9.90\", at = 2026-09-21T14:13:20.000001Z, h = \"x\", \
                list = [1, 2], body = '{\"more\": {\"x\": null}}' }]\n";
    assert_eq!(tested(keys, &format!("{test}{rows}")), [""; 0]);
    let wrong = tested(
        keys,
        &format!("{test}rows.payments = [{{ id = \"k-2\", amount = 9.9, list = [1], h = \"x\" }}]"),
    );
    assert_eq!(
        wrong,
        [
            "table payments, column at: 2026-09-21T14:13:20.000001Z instead of NULL",
            "table payments, column id: \"k-1\" instead of \"k-2\"",
            "table payments, column list: [1, 2] instead of [1]",
            "table payments, column body: {\"more\":{\"x\": null}} instead of NULL",
        ]
    );
    let nothing = "[[test]]\nname = \"t\"\nnothing = true\nvalue = '{\"status\": \"test\"}'\n";
    assert_eq!(tested(keys, nothing), [""; 0]);
    for (value, words) in [
        ("value = '{\"a\": 5}'", "a path wants an object with a field amount"),
        ("value = '[]'", "a path wants an object with a field"),
        ("value = 'no'", "value: invalid JSON"),
        ("", "the value is null (a tombstone)"),
    ] {
        assert_eq!(
            tested(keys, &format!("[[test]]\nname = \"t\"\n{value}\nrejects = \"{words}\"\n")),
            [""; 0],
            "{value}"
        );
    }
    let taken = tested(keys, &format!("{test}rejects = \"x\"\n"));
    assert_eq!(taken, ["it is taken, and should be rejected"]);
}

#[test]
fn what_is_missing_or_too_much_is_rejected_where_the_file_says_so() {
    let test = |value: &str, rejects: &str| {
        format!("[[test]]\nname = \"t\"\nvalue = '{value}'\nrejects = \"{rejects}\"\n")
    };
    let columns = "columns = [\"id\", \"note\"]\n";
    let missing = format!("{columns}missing = \"reject\"");
    assert_eq!(tested(&missing, &test("{\"id\": 1}", "column note: there is no value.note")), [""; 0]);
    let extra = format!("{columns}extra = \"reject\"");
    assert_eq!(tested(&extra, &test("{\"id\": 1, \"x\": 1}", "a field that no column takes")), [""; 0]);
    assert_eq!(tested(columns, &test("{\"Id\": 1}", "the value has none of the columns id, note")), [""; 0]);
    let keyed = "columns = { k = \"key\", note = \"value.note\" }\nkey_format = \"string\"\n";
    let none = test("{\"payload\": {\"note\": 1}}", "the value has none of the columns note");
    assert_eq!(tested(keyed, &none), [""; 0]);
    let meant = "[[test]]\nname = \"t\"\nkey = \"k\"\nvalue = '{}'\nrows.payments = [{ k = \"k\" }]\n";
    assert_eq!(tested(&format!("{keyed}missing = \"null\""), meant), [""; 0]);
    // A null is a value that was said.
    let null =
        "[[test]]\nname = \"t\"\nvalue = '{\"id\": 1, \"note\": null}'\nrows.payments = [{ id = 1 }]\n";
    assert_eq!(tested(&missing, null), [""; 0]);
}

#[test]
fn a_tombstone_deletes_the_row_of_its_key() {
    let deleted =
        |key: &str, row: &str| format!("[[test]]\nname = \"t\"\nkey = '{key}'\ndeletes.payments = [{row}]\n");
    let upsert = |key: &str, more: &str| {
        format!("columns = [\"id\", \"part\", \"x\"]\nmode = \"upsert\"\nkey = [{key}]\n{more}\n")
    };
    let text = upsert("\"id\"", "key_format = \"string\"");
    assert_eq!(tested(&text, &deleted("k-1", "{ id = \"k-1\" }")), [""; 0]);
    let json = upsert("\"id\"", "key_format = \"json\"");
    assert_eq!(tested(&json, &deleted("5", "{ id = 5 }")), [""; 0]);
    assert_eq!(tested(&json, &deleted("{\"id\": 5, \"z\": 1}", "{ id = 5 }")), [""; 0]);
    let two = upsert("\"id\", \"part\"", "key_format = \"json\"");
    assert_eq!(tested(&two, &deleted("{\"id\": 5, \"part\": \"a\"}", "{ id = 5, part = \"a\" }")), [""; 0]);
    let rejected =
        |key: &str| format!("[[test]]\nname = \"t\"\nkey = '{key}'\nrejects = \"which row to delete\"\n");
    assert_eq!(tested(&two, &rejected("{\"id\": 5}")), [""; 0]);
    assert_eq!(tested(&two, &rejected("5")), [""; 0]);
    let ignored = upsert("\"id\"", "deletes = \"ignore\"");
    assert_eq!(tested(&ignored, "[[test]]\nname = \"t\"\nnothing = true\n"), [""; 0]);
}

#[test]
fn an_events_row_is_the_row() {
    let keys = "envelope = \"debezium\"\nmode = \"upsert\"\nkey = [\"id\"]\nrest = \"body\"\n\
                columns = { id = \"value.id\", day = { from = \"value.day\", unit = \"d\" }, lsn = \"event.source.lsn\" }\n";
    let test = |value: &str, wanted: &str| format!("[[test]]\nname = \"t\"\nvalue = '{value}'\n{wanted}\n");
    let event = |op: &str, before: &str, after: &str| {
        format!("{{\"op\":\"{op}\",\"before\":{before},\"after\":{after},\"source\":{{\"lsn\":77}}}}")
    };
    let row = "{\"id\":5,\"day\":-1,\"x\":null}";
    let written = "rows.payments = [{ id = 5, day = 1969-12-31, lsn = 77, body = '{\"x\":null}' }]";
    for op in ["c", "r", "u"] {
        assert_eq!(tested(keys, &test(&event(op, "null", row), written)), [""; 0], "{op}");
        let in_connects = format!("{{\"schema\":{},\"payload\":{}}}", event_schema(), event(op, "null", row));
        assert_eq!(tested(keys, &test(&in_connects, written)), [""; 0], "{op}");
    }
    let by_key = format!("key_format = \"json\"\n{keys}");
    let key = "key = '{\"schema\":{\"type\":\"struct\",\"fields\":[]},\"payload\":{\"id\":5}}'\ndeletes.payments = [{ id = 5 }]";
    assert_eq!(tested(&by_key, &test(&event("d", "null", "null"), key)), [""; 0]);
    let deleted = test(&event("d", "{\"id\":5,\"day\":null}", "null"), "deletes.payments = [{ id = 5 }]");
    assert_eq!(tested(keys, &deleted), [""; 0]);
    assert_eq!(tested(keys, &test("{\"op\":\"m\",\"message\":{}}", "nothing = true")), [""; 0]);
    assert_eq!(tested(keys, "[[test]]\nname = \"a tombstone\"\nnothing = true\n"), [""; 0]);
    let large = "{\"id\":5,\"day\":1,\"x\":\"__debezium_unavailable_value\"}";
    for (value, words) in [
        (event("u", "null", large), "would go into `rest`"),
        (
            event("u", "null", &large.replace("5,", "\"__debezium_unavailable_value\",")),
            "column id: a large value",
        ),
        (event("t", "null", "null"), "truncated"),
        (event("c", "null", "{\"id\":5,\"x\":[\"__debezium_unavailable_value\"]}"), "would go into `rest`"),
        (event("d", "{\"id\":\"__debezium_unavailable_value\"}", "null"), "the event does not say it"),
        (event("d", "null", "null"), "which row to delete"),
        (event("c", "null", "null"), "without `after`"),
        (event("z", "null", "null"), "none of c, r, u, d, t, m"),
        ("{\"ddl\":\"ALTER TABLE\"}".to_owned(), "it has no `op`"),
        ("5".to_owned(), "a path wants an object"),
    ] {
        assert_eq!(tested(keys, &test(&value, &format!("rejects = \"{words}\""))), [""; 0], "{value}");
    }
}

/// Of an event with a row of `id`, `day`, and `x`.
fn event_schema() -> String {
    let row = |field: &str| {
        format!(
            "{{\"type\":\"struct\",\"fields\":[{{\"type\":\"int32\",\"optional\":false,\"field\":\"id\"}},\
             {{\"type\":\"int32\",\"optional\":true,\"name\":\"io.debezium.time.Date\",\"version\":1,\"field\":\"day\"}},\
             {{\"type\":\"bytes\",\"optional\":true,\"field\":\"x\"}}],\"optional\":true,\"field\":\"{field}\"}}"
        )
    };
    format!(
        "{{\"type\":\"struct\",\"fields\":[{},{},{{\"type\":\"string\",\"optional\":false,\"field\":\"op\"}}],\
         \"optional\":false,\"name\":\"dbz.Envelope\"}}",
        row("before"),
        row("after")
    )
}

#[test]
fn an_events_schema_says_what_its_values_are() {
    let keys =
        "envelope = \"debezium\"\nmode = \"upsert\"\nkey = [\"id\"]\ncolumns = [\"id\", \"day\", \"x\"]\n";
    let test = |payload: &str, wanted: &str| {
        let schema = event_schema();
        format!("[[test]]\nname = \"t\"\nvalue = '{{\"schema\":{schema},\"payload\":{payload}}}'\n{wanted}\n")
    };
    for (payload, wanted) in [
        (
            "{\"op\":\"c\",\"before\":null,\"after\":{\"id\":5,\"day\":-1,\"x\":\"Cv8=\"}}",
            "rows.payments = [{ id = 5, day = 1969-12-31, x = '\\x0aff' }]",
        ),
        (
            "{\"op\":\"d\",\"before\":{\"id\":5,\"day\":-1,\"x\":null},\"after\":null}",
            "deletes.payments = [{ id = 5 }]",
        ),
        // The placeholder's bytes.
        (
            "{\"op\":\"u\",\"before\":null,\"after\":{\"id\":5,\"day\":-1,\"x\":\"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==\"}}",
            "rows.payments = [{ id = 5, day = 1969-12-31, x = { keep = true } }]",
        ),
        // What was is of no interest but for its key.
        (
            "{\"op\":\"u\",\"before\":{\"day\":2147483647},\"after\":{\"id\":5}}",
            "rows.payments = [{ id = 5 }]",
        ),
        (
            "{\"op\":\"u\",\"before\":null,\"after\":{\"id\":5,\"day\":2147483647}}",
            "rejects = \"field after.day: out of the range of dates\"",
        ),
    ] {
        assert_eq!(tested(keys, &test(payload, wanted)), [""; 0], "{payload}");
    }
}

#[test]
fn connects_envelope_is_read_with_its_schema() {
    let schema = "{\"type\":\"struct\",\"fields\":[{\"type\":\"int32\",\"field\":\"id\"},\
                  {\"type\":\"bytes\",\"optional\":true,\"name\":\"org.apache.kafka.connect.data.Decimal\",\
                  \"parameters\":{\"scale\":\"2\"},\"field\":\"amount\"},{\"type\":\"int64\",\
                  \"name\":\"io.debezium.time.MicroTimestamp\",\"field\":\"at\"},{\"type\":\"int64\",\"field\":\"ms\"},\
                  {\"type\":\"string\",\"name\":\"io.debezium.data.Json\",\"field\":\"doc\"}]}";
    let enveloped = |payload: &str| format!("{{\"schema\":{schema},\"payload\":{payload}}}");
    let test = |key: &str, value: &str, wanted: &str| {
        format!("[[test]]\nname = \"t\"\nkey = '{key}'\n{value}\n{wanted}\n")
    };
    let of = |payload: &str| format!("value = '{}'", enveloped(payload));
    let base = "envelope = \"connect_json\"\nkey_format = \"json\"\nmode = \"upsert\"\nkey = [\"id\"]\n";
    let keys = format!(
        "{base}rest = \"body\"\nwhere = \"value.amount != null\"\n\
         columns = {{ id = \"key.id\", amount = \"value.amount\", at = {{ from = \"value.at\", unit = \"ms\" }}, \
         ms = {{ from = \"value.ms\", unit = \"ms\" }} }}\n"
    );
    let key = "{\"schema\":{\"type\":\"struct\",\"fields\":[{\"type\":\"int32\",\"field\":\"id\"}]},\"payload\":{\"id\":5}}";
    let payload = "{\"id\":5,\"amount\":\"A94=\",\"at\":1790000000000001,\"ms\":1790000000000,\"doc\":\"{\\\"n\\\": 1.10}\"}";
    for (value, wanted) in [
        (
            of(payload),
            "rows.payments = [{ id = 5, amount = \"9.90\", at = 2026-09-21T14:13:20.000001, \
             ms = 2026-09-21T14:13:20Z, body = '{\"id\":5,\"doc\":{\"n\": 1.10}}' }]",
        ),
        // Of a condition that cannot be judged, nothing is said.
        (of("{\"amount\":\"%\"}"), "rejects = \"field amount: not base64\""),
        (of("{\"amount\":null}"), "nothing = true"),
        (
            of("{\"amount\":\"AA==\",\"at\":null,\"ms\":null,\"doc\":\"{\"}"),
            "rejects = \"field doc: text that is no JSON\"",
        ),
        (of("null"), "deletes.payments = [{ id = 5 }]"),
        (String::new(), "deletes.payments = [{ id = 5 }]"),
        ("value = 'null'".to_owned(), "deletes.payments = [{ id = 5 }]"),
        (format!("value = '{payload}'"), "rejects = \"schemas.enable = false?\""),
    ] {
        assert_eq!(tested(&keys, &test(key, &value, wanted)), [""; 0], "{value}");
    }
    // A plain key, and one that is one value.
    let plain = test("{\"id\":6}", &of(payload), "rows.payments = [{ id = 6, amount = \"9.90\" }]");
    let columns = "columns = { id = \"key.id\", amount = \"value.amount\" }";
    assert_eq!(tested(&format!("{base}{columns}"), &plain), [""; 0]);
    let number = "{\"schema\":{\"type\":\"int32\",\"optional\":false},\"payload\":7}";
    let whole = format!("{base}columns = {{ id = \"key\", amount = \"value.amount\" }}");
    let row = test(number, &of(payload), "rows.payments = [{ id = 7, amount = \"9.90\" }]");
    assert_eq!(tested(&whole, &row), [""; 0]);
    let by_name = format!("{base}columns = [\"id\", \"amount\"]");
    assert_eq!(tested(&by_name, &test(number, "", "deletes.payments = [{ id = 7 }]")), [""; 0]);
    assert_eq!(tested(&by_name, &test(key, "", "deletes.payments = [{ id = 5 }]")), [""; 0]);
}

/// A large value that has not changed is not in the event: the column keeps what the table has.
#[test]
fn what_is_not_said_is_kept_as_a_whole_or_not_at_all() {
    let test = |value: &str, wanted: &str| format!("[[test]]\nname = \"t\"\nvalue = '{value}'\n{wanted}\n");
    let event = |doc: &str| format!("{{\"op\":\"u\",\"after\":{{\"id\":5,\"doc\":{doc}}}}}");
    let large = "\"__debezium_unavailable_value\"";
    let kept = "rows.payments = [{ id = 5, doc = { keep = true } }]";
    let columns = "columns = [\"id\", \"doc\"]\n";
    let upsert = format!("envelope = \"debezium\"\nmode = \"upsert\"\n{columns}");
    assert_eq!(tested(&upsert, &test(&event(large), kept)), [""; 0]);
    assert_eq!(tested(&upsert, &test(&event("\"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==\""), kept)), [""; 0]);
    let differs = |value: &str, wanted: &str| tested(&upsert, &test(value, wanted)).join("");
    let none = "rows.payments = [{ id = 5 }]";
    assert!(differs(&event(large), none).contains("column doc: kept instead of NULL"));
    assert!(differs(&event("\"x\""), kept).contains("instead of"));
    let rejects = "rejects = \"column doc: a large value\"";
    assert_eq!(tested(&upsert, &test(&event(&format!("[{large}]")), rejects)), [""; 0]);
    let condition = format!("{upsert}where = \"value.doc != 'x'\"\n");
    let rejects_condition = "rejects = \"where: value.doc is a large value\"";
    assert_eq!(tested(&condition, &test(&event(large), rejects_condition)), [""; 0]);
    let is_there = format!("{upsert}where = \"value.doc != null\"\n");
    assert_eq!(tested(&is_there, &test(&event(large), kept)), [""; 0]);
    let append = format!("envelope = \"debezium\"\n{columns}");
    assert_eq!(tested(&append, &test(&event(large), rejects)), [""; 0]);
    // Another placeholder; and without an envelope only what the file says.
    let other = format!("unchanged = \"-not said-\"\n{upsert}");
    assert_eq!(tested(&other, &test(&event("\"-not said-\""), kept)), [""; 0]);
    let said = format!("rows.payments = [{{ id = 5, doc = {large} }}]");
    assert_eq!(tested(&other, &test(&event(large), &said)), [""; 0]);
    let flat = |doc: &str| format!("{{\"id\":5,\"doc\":{doc}}}");
    let plain = format!("mode = \"upsert\"\n{columns}");
    assert_eq!(tested(&plain, &test(&flat(large), &said)), [""; 0]);
    let plain = format!("unchanged = {large}\n{plain}");
    assert_eq!(tested(&plain, &test(&flat(large), kept)), [""; 0]);
}

#[test]
fn a_row_that_has_gone_may_stay_and_be_marked() {
    let soft = "mode = \"upsert\"\nkey = [\"id\"]\nkey_format = \"string\"\ndeletes = { soft = \"gone\" }\n\
                columns = { id = \"key\", x = \"value.x\" }\n";
    let test =
        |value: &str, wanted: &str| format!("[[test]]\nname = \"t\"\nkey = \"k\"\n{value}\n{wanted}\n");
    let row = |gone: &str| format!("rows.payments = [{{ id = \"k\", x = 1{gone} }}]");
    let value = "value = '{\"x\": 1}'";
    assert_eq!(tested(soft, &test(value, &row(""))), [""; 0], "as NULL");
    assert_eq!(tested(soft, &test(value, &row(", gone = false"))), [""; 0]);
    assert!(tested(soft, &test(value, &row(", gone = true")))[0].contains("column gone"));
    assert_eq!(tested(soft, &test("", "deletes.payments = [{ id = \"k\" }]")), [""; 0]);
    let update = soft.replace("upsert", "update");
    assert_eq!(tested(&update, &test("", "deletes.payments = [{ id = \"k\" }]")), [""; 0]);
    assert_eq!(sink(soft).unwrap().summary()[0].columns, Some(3));
    for (keys, why) in [
        ("columns = [\"id\"]\ndeletes = { soft = \"gone\" }", "needs mode = \"upsert\" or \"update\""),
        ("columns = [\"id\"]\nmode = \"upsert\"\ndeletes = { soft = \"gone\" }", "needs the record's key"),
        (
            "columns = [\"id\"]\nmode = \"upsert\"\nkey_format = \"json\"\ndeletes = { soft = \"id\" }",
            "column id is named twice",
        ),
        ("columns = [\"id\"]\ndeletes = { hard = \"gone\" }", "unknown variant `hard`"),
    ] {
        let said = sink(keys).unwrap_err().to_string();
        assert!(said.contains(why), "{keys}: {said}");
    }
}

#[test]
fn a_deletion_says_its_version() {
    let test =
        |value: &str, wanted: &str| format!("[[test]]\nname = \"t\"\nkey = \"5\"\n{value}\n{wanted}\n");
    let event = |lsn: &str| {
        format!(r#"value = '{{"op": "d", "before": {{"id": 5}}, "after": null, "source": {{{lsn}}}}}'"#)
    };
    let events = "envelope = \"debezium\"\nmode = \"upsert\"\nversion = \"lsn\"\n\
                  columns = { id = \"value.id\", lsn = \"event.source.lsn\" }\n";
    let unsaid = "rejects = \"column lsn: the deletion does not say its version\"";
    for key in ["", "key = [\"id\"]\n", "deletes = { soft = \"gone\" }\nkey = [\"id\"]\n"] {
        let events = format!("{events}{key}");
        let deleted = "deletes.payments = [{ id = 5, lsn = 7 }]";
        assert_eq!(tested(&events, &test(&event("\"lsn\": 7"), deleted)), [""; 0], "{key}");
        let wrong = tested(&events, &test(&event("\"lsn\": 8"), deleted));
        assert!(wrong.len() == 1 && wrong[0].contains("column lsn: 8 instead of 7"), "{key}: {wrong:?}");
        assert_eq!(tested(&events, &test(&event(""), unsaid)), [""; 0], "{key}");
    }
    // Of a tombstone, the record itself says it.
    let tombstones = "mode = \"upsert\"\nkey = [\"id\"]\nkey_format = \"string\"\nversion = \"n\"\n\
                      columns = { id = \"key\", n = \"header.n\" }\n";
    let headers = "headers = { n = \"7\" }";
    assert_eq!(tested(tombstones, &test(headers, "deletes.payments = [{ id = \"5\", n = \"7\" }]")), [""; 0]);
    assert_eq!(tested(tombstones, &test("", &unsaid.replace("lsn", "n"))), [""; 0]);
}

/// Whether the row that was is all there, or only its key with zeros around it, no event says.
#[test]
fn a_version_of_an_events_row_is_not_one_of_its_deletion() {
    let keys = "envelope = \"debezium\"\nmode = \"upsert\"\nkey = [\"id\"]\nversion = \"n\"\ncolumns = [\"id\", \"n\"]\n";
    for deletes in ["", "deletes = \"apply\"", "deletes = { soft = \"gone\" }"] {
        let said = sink(&format!("{keys}{deletes}")).unwrap_err().to_string();
        assert!(said.contains("REPLICA IDENTITY") && said.contains("value.n"), "{deletes}: {said}");
    }
    for fits in ["deletes = \"ignore\"", "deletes = \"reject\""] {
        sink(&format!("{keys}{fits}")).unwrap();
    }
    sink(&keys.replace("[\"id\", \"n\"]", "{ id = \"value.id\", n = \"event.ts_ms\" }")).unwrap();
}

#[test]
fn names_that_postgres_would_cut_are_refused() {
    let long = "é".repeat(32);
    let keys = [
        format!("columns = [\"id\", \"{long}\"]"),
        format!("columns = [\"id\"]\nrest = \"{long}\""),
        format!("columns = [\"id\"]\nprovenance.offset = \"{long}\""),
    ];
    for keys in keys {
        let said = sink(&keys).unwrap_err().to_string();
        assert!(said.contains("63 bytes") && said.contains(&long), "{keys}: {said}");
        sink(&keys.replace(&long, &long[2..])).unwrap();
    }
    let many: Vec<String> = (0..1_601).map(|at| format!("\"c{at}\"")).collect();
    let said = sink(&format!("columns = [{}]", many.join(", "))).unwrap_err().to_string();
    assert!(said.contains("1600"), "{said}");
}

#[test]
fn a_table_may_be_named_by_its_topic() {
    let sinks = |topics: &str, more: &str| {
        format!("{HEAD}[[sink]]\ntopic = {topics}\ntable = \"shop.{{topic[1]}}\"\ncolumns = [\"id\"]\n{more}")
    };
    let tables = |text: &str| -> Vec<(String, String)> {
        let pipeline = parse(text).unwrap_or_else(|error| panic!("{}", error.report()));
        pipeline.summary().into_iter().map(|sink| (sink.table, sink.topics.join(" "))).collect()
    };
    let of = |table: &str, topics: &str| (table.to_owned(), topics.to_owned());
    let listed = sinks("[\"a.x\", \"a.y\", \"b.x\"]", "");
    assert_eq!(tables(&listed), [of("shop.x", "a.x b.x"), of("shop.y", "a.y")]);
    let test =
        "[[test]]\nname = \"t\"\ntopic = \"a.z\"\nvalue = '{\"id\": 5}'\nrows.\"shop.z\" = [{ id = 5 }]\n";
    let pattern = sinks("[\"b.x\", '^a\\.[a-z]+$']", test);
    let open = of("shop.{topic[1]}", "b.x ^a\\.[a-z]+$");
    assert_eq!(tables(&pattern), [of("shop.x", "b.x"), of("shop.z", "a.z"), open]);
    let mut pipeline = parse(&pattern).unwrap();
    assert_eq!(pipeline.test()[0].differences, [""; 0]);
    let worker = pipeline.worker(PartialConfig::default()).unwrap();
    assert_eq!(worker.config().topics, ["b.x", r"^a\.[a-z]+$"], "whatever is known of it");
    // What Kafka has, and no other.
    pipeline.expand(&["a.n", "a.m", "a.z.z", "c.n", "a.N"].map(str::to_owned));
    pipeline.compile().unwrap();
    let known: Vec<_> = pipeline.sinks.iter().map(|sink| &*sink.table.name).collect();
    assert_eq!(known, ["shop.m", "shop.n", "shop.x"]);
    let another = format!("{pattern}[[sink]]\ntopic = \"o\"\ntable = \"shop.m\"\ncolumns = [\"id\"]\n");
    let mut pipeline = parse(&another).unwrap();
    // That topic halts, and no other.
    pipeline.expand(&["a.m", "a.n"].map(str::to_owned));
    pipeline.compile().unwrap();
    let known: Vec<_> = pipeline.sinks.iter().map(|sink| &*sink.table.name).collect();
    assert_eq!(known, ["shop.n", "shop.x", "shop.m"]);
    assert!(pipeline.templates[0].is_new("a.m"));
    let left = pipeline.templates[0].left("a.m").unwrap();
    assert!(left.is_final && left.why.contains("in one sink"), "{}", left.why);
    // A topic that another sink names is not the pattern's.
    let own = format!("{pattern}[[sink]]\ntopic = \"a.m\"\ntable = \"shop.own\"\ncolumns = [\"id\"]\n");
    let mut pipeline = parse(&own).unwrap();
    pipeline.expand(&["a.m", "a.n", "a.m.m"].map(str::to_owned));
    pipeline.compile().unwrap();
    let known: Vec<_> =
        pipeline.sinks.iter().map(|sink| (&*sink.table.name, sink.topics.join(" "))).collect();
    let of = |table, topic: &str| (table, topic.to_owned());
    assert_eq!(known, [of("shop.n", "a.n"), of("shop.x", "b.x"), of("shop.own", "a.m")]);
    assert!(!pipeline.templates[0].is_new("a.m"));
    for (text, why) in [
        (sinks("\"a\"", ""), "line 4: [[sink]] into table shop.{topic[1]}: topic a has no part 1"),
        (sinks("\"^a.*\"", "").replace("shop.", ""), "a schema that is written out"),
        (sinks("\"^a.*\"", "key = [\"n\"]"), "`key` names n, which is not among `columns`"),
        (sinks("\"^*\"", ""), "pattern `^*`"),
        (
            sinks(
                "\"^a.*\"",
                "on_bad_record = \"halt\"\n[[sink]]\ntopic = \"ab\"\ntable = \"o\"\ncolumns = [\"id\"]\n\
                                on_bad_record = \"dead_letter\"",
            ),
            "^a.* says otherwise of `on_bad_record` for topic ab",
        ),
    ] {
        let said = parse(&text).unwrap_err().to_string();
        assert!(said.contains(why), "{text}: {said}");
    }
}

#[test]
fn two_names_may_mean_one_table() {
    for (one, other) in [
        ("shop.orders", "\"shop\".orders"),
        ("SHOP.Orders", "shop.\"orders\""),
        ("orders", "public.\"orders\""),
        ("\"a.b\".c", "\"a.b\".\"c\""),
    ] {
        assert_eq!(plain(one), plain(other), "{one} {other}");
    }
    for (one, other) in [
        ("shop.orders", "shop.\"Orders\""),
        ("\"a.b\".c", "a.\"b.c\""),
        ("a.b", "\"a.b\""),
        ("shop.orders", "orders"),
    ] {
        assert_ne!(plain(one), plain(other), "{one} {other}");
    }
}

/// Where the schema and the reader part, an editor says what is not true.
#[test]
fn the_json_schema_knows_the_keys_that_are_read() {
    let schema = json_schema();
    let of = |path: &str| -> Vec<String> {
        let mut names: Vec<_> = schema.pointer(path).unwrap().as_object().unwrap().keys().cloned().collect();
        names.sort();
        names
    };
    let known = |text: &str| -> Vec<String> {
        let error = toml::from_str::<File>(text).unwrap_err();
        let mut names: Vec<_> = error.message().split('`').skip(3).step_by(2).map(str::to_owned).collect();
        names.sort();
        names
    };
    assert_eq!(of("/properties/sink/items/properties"), known("[[sink]]\nnope = 1"));
    assert_eq!(of("/properties/test/items/properties"), known("[[test]]\nnope = 1"));
    let provenance = "/properties/sink/items/properties/provenance/properties";
    assert_eq!(of(provenance), known("[[sink]]\nprovenance.nope = 1"));
    let parts = [("schema", "[[sink]]\nschema.nope = 1"), ("key_schema", "[[sink]]\nkey_schema.nope = 1")];
    for (key, text) in parts {
        assert_eq!(of(&format!("/properties/sink/items/properties/{key}/properties")), known(text));
    }
    assert_eq!(of("/properties/registry/properties"), known("registry.nope = 1"));
    assert_eq!(of("/properties/registry/properties/token/properties"), known("registry.token.nope = 1"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pipeline.schema.json");
    let text = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
    if std::env::var_os("HIGHWATER_TEST_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(path).unwrap_or_default(),
        text,
        "HIGHWATER_TEST_BLESS=1 writes it anew"
    );
}

/// What is not meant is stepped over, whatever it is; what is meant and does not fit is rejected.
#[test]
fn records_that_are_not_meant_are_not_looked_at() {
    let keys = "columns.id = \"value.data.id\"\nwhere = \"header.kind == 'p' && value.type == 'p'\"\nrest = \"body\"\n";
    let test = |kind: &str, value: &str, wanted: &str| {
        format!("[[test]]\nname = \"t\"\nheaders.kind = \"{kind}\"\nvalue = '{value}'\n{wanted}\n")
    };
    assert_eq!(tested(keys, &test("q", "no JSON", "nothing = true")), [""; 0]);
    assert_eq!(tested(keys, &test("p", "{\"type\":\"q\",\"data\":5}", "nothing = true")), [""; 0]);
    let rejects = "rejects = \"a path wants an object with a field id\"";
    assert_eq!(tested(keys, &test("p", "{\"type\":\"p\",\"data\":5}", rejects)), [""; 0]);
    // What a condition looks at is nobody's, and so it is of the rest.
    let row = "rows.payments = [{ id = 1, body = '{\"type\":\"p\"}' }]";
    assert_eq!(tested(keys, &test("p", "{\"type\":\"p\",\"data\":{\"id\":1}}", row)), [""; 0]);
    let event = "envelope = \"debezium\"\ncolumns = [\"id\"]\nwhere = \"header.kind == 'p'\"\n";
    assert_eq!(tested(event, &test("q", "{\"op\":\"t\"}", "nothing = true")), [""; 0]);
    // A JSON null is no value.
    let null =
        "[[test]]\nname = \"t\"\nkey = \"k\"\nvalue = \" null\"\ndeletes.payments = [{ id = \"k\" }]\n";
    let upsert = "columns = { id = \"key\", x = \"value.x\" }\nmode = \"upsert\"\nkey = [\"id\"]\nkey_format = \"string\"\n";
    assert_eq!(tested(upsert, null), [""; 0]);
}

/// A test that cannot fail is none.
/// As Debezium 3.5 writes `timestamp`s of Postgres.
#[test]
fn infinite_timestamps_of_events_stay_infinite() {
    let keys = "envelope = \"debezium\"\ncolumns = { us = { from = \"value.us\", unit = \"us\" }, \
                ms = { from = \"value.ms\", unit = \"ms\" } }\n";
    for (us, ms, expected) in [
        ("9223372036825200000", "9223372036825200", "us = \"infinity\", ms = \"infinity\""),
        ("-9223372036832400000", "-9223372036832400", "us = \"-infinity\", ms = \"-infinity\""),
        ("1790000000000000", "null", "us = 2026-09-21T14:13:20Z"),
    ] {
        let value = format!("{{\"op\":\"c\",\"after\":{{\"us\":{us},\"ms\":{ms}}}}}");
        let test = format!("[[test]]\nname = \"t\"\nvalue = '{value}'\nrows.payments = [{{ {expected} }}]");
        assert_eq!(tested(keys, &test), [""; 0], "{value}");
    }
}

#[test]
fn what_a_test_expects_is_looked_for() {
    let upsert = "columns = [\"id\", \"x\"]\nmode = \"upsert\"\nenvelope = \"debezium\"\n";
    let deleted = "[[test]]\nname = \"t\"\nvalue = '{\"op\": \"d\", \"before\": {\"y\": 1}}'\ndeletes.payments = [{ id = 7 }]\n";
    assert_eq!(tested(upsert, deleted), ["deleted from table payments, column id: the key does not say it"]);
    let other = format!(
        "{HEAD}{SINK}columns = [\"id\"]\n[[sink]]\ntopic = \"orders\"\ntable = \"orders\"\ncolumns = [\"id\"]\n\
         [[test]]\nname = \"t\"\ntopic = \"orders\"\n"
    );
    for (expected, why) in [
        ("rows.payments = []", "do not go into table payments"),
        ("rows.orders = []\nnothing = true", "it can expect one of these"),
        ("rejects = \" \"", "says some words"),
    ] {
        let said = parse(&format!("{other}{expected}\n")).unwrap_err().to_string();
        assert!(said.contains(why), "{expected}: {said}");
    }
    let row = "[[test]]\nname = \"t\"\nvalue = '{\"id\": 1}'\n";
    assert_eq!(
        tested("columns = [\"id\"]", &format!("{row}nothing = true\n")),
        ["table payments: a row that is not expected"]
    );
    assert_eq!(
        tested("columns = [\"id\"]", &format!("{row}rows.payments = [{{ id = 2 }}]\n")),
        ["table payments, column id: 1 instead of 2"]
    );
}

/// What the pages show is what is read, and their own tests hold.
#[test]
fn the_pages_files_are_read_and_their_tests_hold() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/pipeline.md")).unwrap();
    let yaml = page.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let pipeline = Pipeline::parse(yaml, Path::new("shop.yaml")).unwrap();
    pipeline.worker(PartialConfig::default()).unwrap();
    let passed: Vec<bool> = pipeline.test().iter().map(|result| result.differences.is_empty()).collect();
    assert_eq!(passed, [true]);
    for (page, expected) in [("docs/pipeline.md", 10), ("README.md", 1)] {
        let text = std::fs::read_to_string(root.join(page)).unwrap();
        let blocks: Vec<&str> =
            text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
        let files: Vec<&&str> = blocks.iter().filter(|block| block.contains("[[sink]]")).collect();
        assert_eq!(files.len(), expected, "{page}");
        for file in files {
            let pipeline = parse(file).unwrap_or_else(|error| panic!("{page}: {}", error.report()));
            pipeline
                .worker(PartialConfig::default())
                .unwrap_or_else(|error| panic!("{page}: {}", error.report()));
            let differences: Vec<_> =
                pipeline.test().into_iter().flat_map(|result| result.differences).collect();
            assert_eq!(differences, [""; 0], "{page}");
        }
    }
}

/// Every key of the file stands in the page's tables, and the other way round.
#[test]
fn the_page_has_every_key() {
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pipeline.md")).unwrap();
    let table = page.split("| key | what it says | default |").nth(1).unwrap().split("\n\n").next().unwrap();
    let mut told: Vec<&str> =
        table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
    told.sort_unstable();
    let schema = json_schema();
    let keys = schema.pointer("/properties/sink/items/properties").unwrap().as_object().unwrap();
    let mut keys: Vec<&str> = keys.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(told, keys);
}

#[test]
fn a_registry_is_what_can_be_asked() {
    let with = |registry: &str| {
        let text = format!(
            "group = \"g\"\n{registry}\n[[sink]]\ntopic = \"t\"\ntable = \"t\"\ncolumns = [\"id\"]\nvalue = \"avro\"\n"
        );
        Pipeline::parse(&text, Path::new("shop.toml")).map(|_| ())
    };
    for registry in [
        "registry.url = \"http://localhost:8081\"",
        "registry = { url = [\"https://a:1/apis/ccompat/v7\", \"https://b\"], user = \"u\", password = { file = \"/p\" } }",
        "registry = { url = \"https://a\", token = { command = \"cat t\" }, ca = \"/ca.pem\", schema_wait = \"30s\" }",
    ] {
        with(registry).unwrap();
    }
    for (registry, why) in [
        ("registry.url = \"registry:8081\"", "neither https:// nor http://"),
        ("registry.url = []", "`url` is empty"),
        ("registry = { url = \"https://a\", user = \"u\" }", "`user` and `password`"),
        (
            "registry = { url = \"https://a\", user = \"u\", password = \"secret\" }",
            "a secret does not stand in the file",
        ),
        (
            "registry = { url = \"https://a\", token = { env = \"HIGHWATER_TEST_NO_SUCH\" } }",
            "HIGHWATER_TEST_NO_SUCH",
        ),
        ("registry = { url = \"https://a\", token = { env = \"A\", file = \"b\" } }", "a secret is one of"),
        ("registry = { url = \"http://far\", token = { file = \"b\" } }", "is not TLS"),
        ("registry = { url = \"https://a\", schema_wait = \"5\" }", "schema_wait"),
        ("registry = { urls = \"https://a\" }", "did you mean `url`?"),
    ] {
        let said = with(registry).unwrap_err().to_string();
        assert!(said.contains(why) && said.contains("line 2"), "{registry}: {said}");
        assert!(!said.contains("secret\""), "{said}");
    }
}

/// Without `columns` they are the fields of the schema, if there is one that has any.
#[test]
fn columns_may_be_those_of_a_schema() {
    let folder = tempfile::tempdir().unwrap();
    let schema = r#"{"type":"record","name":"R","fields":[{"name":"id","type":"long"},{"name":"a name","type":"string"}]}"#;
    std::fs::write(folder.path().join("r.avsc"), schema).unwrap();
    std::fs::write(folder.path().join("text.avsc"), "\"string\"").unwrap();
    let with = |keys: &str| {
        let text = format!(
            "group = \"g\"\nregistry.url = \"http://localhost:1\"\n\n[[sink]]\ntable = \"t\"\n{keys}\n"
        );
        Pipeline::parse(&text, &folder.path().join("shop.toml"))
    };
    let file = "topic = \"t\"\nvalue = \"avro\"\nschema = { file = \"r.avsc\" }\n";
    let test = "[[test]]\nname = \"t\"\nvalue = '{\"id\": 1, \"a name\": \"x\"}'\nrows.t = [{ id = 1, \"a name\" = \"x\" }]";
    let pipeline = with(&format!("{file}{test}")).unwrap();
    assert_eq!(pipeline.test()[0].differences, [""; 0]);
    let typed: Vec<_> =
        pipeline.sinks[0].job.wanted.columns.iter().map(|column| column.sql_type.clone()).collect();
    assert_eq!(typed, [Some("bigint".to_owned()), Some("text".to_owned())]);
    with("topic = \"t\"\nvalue = \"avro\"\nmode = \"upsert\"\nkey = [\"id\"]").unwrap();
    // Objects in objects, by their paths; a key's field is looked for as it is called at the end of its own.
    let schema = r#"{"type":"record","name":"R","fields":[{"name":"id","type":"long"},{"name":"of","type":["null",
        {"type":"record","name":"O","fields":[{"name":"id","type":"string"},{"name":"b-c","type":["null","int"]}]}]}]}"#;
    std::fs::write(folder.path().join("o.avsc"), schema).unwrap();
    let nested = file.replace("r.avsc", "o.avsc") + "flatten = \"_\"\n";
    let tests = "[[test]]\nname = \"a\"\nvalue = '{\"id\": 1, \"of\": {\"id\": \"x\", \"b-c\": 2}}'\n\
                 rows.t = [{ id = 1, of_id = \"x\", of_b-c = 2 }]\n\
                 [[test]]\nname = \"b\"\nvalue = '{\"id\": 1, \"of\": null}'\nrows.t = [{ id = 1 }]\n";
    let gone = "[[test]]\nname = \"c\"\nkey = '{\"id\": 7}'\ndeletes.t = [{ id = 7 }]\n";
    let upsert = "mode = \"upsert\"\nkey_format = \"json\"\n";
    for more in
        [tests.to_owned(), format!("{upsert}{gone}{tests}"), format!("{upsert}key = [\"id\"]\n{gone}{tests}")]
    {
        for result in with(&format!("{nested}{more}")).unwrap().test() {
            assert_eq!(result.differences, [""; 0], "{}: {more}", result.name);
        }
    }
    let typed = with(&nested).unwrap();
    let typed =
        typed.sinks[0].job.wanted.columns.iter().map(|column| column.sql_type.as_deref().unwrap_or_default());
    assert_eq!(typed.collect::<Vec<_>>(), ["bigint", "text", "integer"]);
    let both = schema.replace("\"name\":\"id\",\"type\":\"long\"", "\"name\":\"of_id\",\"type\":\"long\"");
    std::fs::write(folder.path().join("both.avsc"), both).unwrap();
    for (keys, why) in [
        (format!("{file}key = [\"nope\"]\nmode = \"upsert\""), "`key` names nope"),
        (file.replace("r.avsc", "text.avsc"), "its schema says none"),
        ("topic = \"t\"\nvalue = \"json_schema\"".to_owned(), "its schema says none"),
        ("topic = \"^t.*\"\nvalue = \"avro\"".to_owned(), "name the topics, or list the columns"),
        ("topic = \"t\"".to_owned(), "list the table's columns"),
        (nested.replace("o.avsc", "both.avsc"), "column of_id is named twice"),
        (nested.replace("\"_\"", "\"\""), "`flatten` is what stands between the names"),
        (nested.replace("\"_\"", "\"'\""), "`flatten` is what stands between the names"),
        (format!("{nested}columns = [\"id\"]"), "a path goes inside"),
    ] {
        let said = with(&keys).unwrap_err().to_string();
        assert!(said.contains(why), "{keys}: {said}");
    }
}

/// What a newer schema puts into an object, or in its place, has no columns yet.
#[test]
fn flattened_objects_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let of = r#"{"name":"of","type":["null",{"type":"record","name":"O","fields":[{"name":"id","type":"string"},
        {"name":"in","type":["null",{"type":"record","name":"I","fields":[{"name":"n","type":"int"}]}]}]}]}"#;
    let schema = |fields: &str| format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#);
    let files = [
        ("r.avsc", schema(&format!(r#"{{"name":"id","type":"long"}},{of}"#))),
        ("of.avsc", schema(of)),
        ("r.proto", "syntax = \"proto3\"; message R { message O { int32 n = 1; } O of = 1; }".to_owned()),
    ];
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let differences = |file: &str, keys: &str, value: &str, wanted: &str| -> Vec<String> {
        let kind = if file.ends_with(".proto") { "protobuf" } else { "avro" };
        let text = format!(
            "group = \"g\"\n[[sink]]\ntopic = \"t\"\ntable = \"t\"\nflatten = \"_\"\nvalue = \"{kind}\"\n\
             schema = {{ file = \"{file}\" }}\n{keys}\n[[test]]\nname = \"t\"\nvalue = '{value}'\n{wanted}\n"
        );
        let pipeline = Pipeline::parse(&text, &folder.path().join("shop.toml"))
            .unwrap_or_else(|error| panic!("{}", error.report()));
        pipeline.test().into_iter().flat_map(|result| result.differences).collect()
    };
    let more = r#"{"id": 1, "of": {"id": "x", "new": [1], "in": {"n": 2, "m": null}, "k": {"a": 3}}}"#;
    let body = r#"{"of_new": [1], "of_in_m": null, "of_k": {"a": 3}}"#;
    let rest = "rest = \"body\"";
    let rejected = "rejects = \"a field that no column takes\"";
    let mut wrong = Vec::new();
    for (file, keys, value, wanted) in [
        (
            "r.avsc",
            rest,
            more,
            format!("rows.t = [{{ id = 1, of_id = \"x\", of_in_n = 2, body = '{body}' }}]"),
        ),
        ("r.avsc", "", more, "rows.t = [{ id = 1, of_id = \"x\", of_in_n = 2 }]".to_owned()),
        ("r.avsc", "extra = \"reject\"", more, rejected.to_owned()),
        // Something else in its place.
        (
            "r.avsc",
            rest,
            r#"{"id": 1, "of": "x"}"#,
            "rows.t = [{ id = 1, body = '{\"of\": \"x\"}' }]".to_owned(),
        ),
        ("r.avsc", "", r#"{"id": 1, "of": [5]}"#, "rows.t = [{ id = 1 }]".to_owned()),
        (
            "r.avsc",
            "",
            r#"{"id": 1, "of": {"id": "x", "in": 7}}"#,
            "rows.t = [{ id = 1, of_id = \"x\" }]".to_owned(),
        ),
        ("r.avsc", "extra = \"reject\"", r#"{"id": 1, "of": 5}"#, rejected.to_owned()),
        (
            "r.avsc",
            "where = \"value.of.kind != 'x'\"",
            r#"{"id": 1, "of": 5}"#,
            "rows.t = [{ id = 1 }]".to_owned(),
        ),
        (
            "r.avsc",
            "missing = \"reject\"",
            r#"{"id": 1, "of": 5}"#,
            "rejects = \"something else is there\"".to_owned(),
        ),
        (
            "r.avsc",
            "missing = \"reject\"",
            r#"{"id": 1, "of": null}"#,
            "rejects = \"there is no value.of.id\"".to_owned(),
        ),
        // Nothing at all.
        ("r.avsc", "extra = \"reject\"", r#"{"id": 1, "of": null}"#, "rows.t = [{ id = 1 }]".to_owned()),
        ("of.avsc", "", r#"{"of": null}"#, "rows.t = [{ }]".to_owned()),
        ("of.avsc", "", r#"{"of": "x"}"#, "rows.t = [{ }]".to_owned()),
        ("r.proto", "", "{}", "rows.t = [{ }]".to_owned()),
        ("of.avsc", "", r#"{"id": 1}"#, "rejects = \"none of the columns\"".to_owned()),
    ] {
        for difference in differences(file, keys, value, &wanted) {
            wrong.push(format!("{file}: {keys}: {value}: {difference}"));
        }
    }
    assert_eq!(wrong, [""; 0]);
}
