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
    // Aliases of aliases.
    let mut bomb = format!("{head}    columns: [id]\na0: &a0 [x, x]\n");
    for n in 0..40 {
        bomb += &format!("a{0}: &a{0} [*a{n}, *a{n}]\n", n + 1);
    }
    let began = std::time::Instant::now();
    Pipeline::parse(&bomb, Path::new("shop.yml")).unwrap_err();
    assert!(began.elapsed() < std::time::Duration::from_secs(20));
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
    assert_eq!((&*payments.table, payments.columns), ("payments", 1));
    assert_eq!((&*orders.table, orders.columns), ("shop.orders", 3));
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
        ("columns.id = \"event.id\"", 4, "no event without an envelope"),
        ("columns.id = \"value\"\nvalue = \"bytes\"\nenvelope = \"debezium\"", 4, "an envelope is JSON"),
        (
            "columns = { a = \"value.a.id\", b = \"value.b.id\" }\nmode = \"upsert\"\nkey_format = \"json\"",
            4,
            "a deletion's key has one id",
        ),
        ("columns = [\"id\"]\nwhere = \"partition == '0'\"", 4, "partition is a number"),
        ("columns = [\"id\", \"\"]", 4, "have names"),
        (
            "columns = [\"id\"]\n[[sink]]\ntopic = \"ord.*\"\ntable = \"o\"\ncolumns = [\"id\"]",
            8,
            "a pattern begins with ^",
        ),
        ("columns = [\"id\"]\nkey = []", 4, "`key` names the columns"),
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
        let in_connects =
            format!("{{\"schema\":{{\"type\":\"struct\"}},\"payload\":{}}}", event(op, "null", row));
        assert_eq!(tested(keys, &test(&in_connects, written)), [""; 0], "{op}");
    }
    let by_key = format!("key_format = \"json\"\n{keys}");
    let key = "key = '{\"schema\":{},\"payload\":{\"id\":5}}'\ndeletes.payments = [{ id = 5 }]";
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
    for (page, expected) in [("docs/pipeline.md", 3), ("README.md", 1)] {
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
