use std::time::Instant;

use apache_avro::Schema;
use apache_avro::types::Value as Known;
use apache_avro::writer::datum::GenericDatumWriter;
use proptest::prelude::*;

use super::Plan;
use crate::pipeline::extract::Raw;

fn to_avro_datum(schema: &Schema, value: Known) -> Vec<u8> {
    GenericDatumWriter::builder(schema).build().unwrap().write_value_to_vec(value).unwrap()
}

/// A value as JSON, of the bytes that the crate `apache-avro` makes of it.
fn read(schema: &str, value: Known) -> String {
    let known = Schema::parse_str(schema).unwrap();
    let bytes = to_avro_datum(&known, value);
    of_bytes(schema, &bytes).unwrap()
}

fn of_bytes(schema: &str, bytes: &[u8]) -> Result<String, String> {
    let mut out = Vec::new();
    Plan::new(schema, &[]).unwrap().read(bytes, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn each_type_is_what_it_says() {
    let logical = |kind: &str, logical: &str| format!(r#"{{"type":"{kind}","logicalType":"{logical}"}}"#);
    let fixed = |size: usize, logical: &str| {
        format!(r#"{{"type":"fixed","name":"F","size":{size},"logicalType":"{logical}"}}"#)
    };
    for (schema, value, json) in [
        (r#""null""#.to_owned(), Known::Null, "null"),
        (r#""boolean""#.to_owned(), Known::Boolean(true), "true"),
        (r#""int""#.to_owned(), Known::Int(i32::MIN), "-2147483648"),
        (r#""long""#.to_owned(), Known::Long(i64::MAX), "9223372036854775807"),
        (r#""double""#.to_owned(), Known::Double(0.1), "0.1"),
        (r#""double""#.to_owned(), Known::Double(f64::NEG_INFINITY), r#""-Infinity""#),
        (r#""bytes""#.to_owned(), Known::Bytes(vec![0, 255]), r#""\\x00ff""#),
        (r#""string""#.to_owned(), Known::String("a\"ü\u{1}".to_owned()), r#""a\"ü\u0001""#),
        (
            r#"{"type":"enum","name":"E","symbols":["A","B"]}"#.to_owned(),
            Known::Enum(1, "B".to_owned()),
            r#""B""#,
        ),
        (
            r#"["null",{"type":"array","items":"int"}]"#.to_owned(),
            Known::Union(1, Box::new(Known::Array(vec![Known::Int(1), Known::Int(-1)]))),
            "[1,-1]",
        ),
        (logical("int", "date"), Known::Date(20_717), r#""2026-09-21""#),
        (logical("int", "time-millis"), Known::TimeMillis(51_260_123), r#""14:14:20.123""#),
        (logical("long", "time-micros"), Known::TimeMicros(51_260_123_456), r#""14:14:20.123456""#),
        (
            logical("long", "timestamp-millis"),
            Known::TimestampMillis(1_790_000_000_123),
            r#""2026-09-21T14:13:20.123Z""#,
        ),
        (
            logical("long", "timestamp-micros"),
            Known::TimestampMicros(1_790_000_000_123_456),
            r#""2026-09-21T14:13:20.123456Z""#,
        ),
        (
            logical("long", "timestamp-nanos"),
            Known::TimestampNanos(1_790_000_000_123_456_789),
            r#""2026-09-21T14:13:20.123456Z""#,
        ),
        (
            logical("long", "local-timestamp-micros"),
            Known::LocalTimestampMicros(1_790_000_000_123_456),
            r#""2026-09-21T14:13:20.123456""#,
        ),
        (
            r#"{"type":"bytes","logicalType":"decimal","precision":20,"scale":2}"#.to_owned(),
            Known::Decimal(vec![0xff, 0x85].into()),
            "-1.23",
        ),
        (
            r#"{"type":"fixed","name":"D","size":4,"logicalType":"decimal","precision":9,"scale":3}"#
                .to_owned(),
            Known::Fixed(4, vec![0, 0, 0x30, 0x39]),
            "12.345",
        ),
        (
            fixed(12, "duration"),
            Known::Fixed(12, [1_u32, 2, 3_004].iter().flat_map(|part| part.to_le_bytes()).collect()),
            r#""1 mons 2 days 3.004 secs""#,
        ),
        // What is no logical type, or none of this type, is the type alone.
        (logical("long", "date"), Known::Long(7), "7"),
        (logical("string", "something"), Known::String("x".to_owned()), r#""x""#),
    ] {
        // Some of these the crate takes for its own logical types, and then wants its own values: bytes are the same.
        let plain = schema.replace(r#""logicalType":"decimal","precision":9,"scale":3"#, r#""x":1"#);
        let plain = if plain.contains("duration") || plain.contains(r#""long","logicalType":"date""#) {
            plain.replace("logicalType", "x")
        } else {
            plain
        };
        let bytes = to_avro_datum(&Schema::parse_str(&plain).unwrap(), value);
        assert_eq!(of_bytes(&schema, &bytes).as_deref(), Ok(json), "{schema}");
    }
}

#[test]
fn what_kafka_connect_writes_is_what_its_names_say() {
    let of = |kind: &str, name: &str, more: &str| {
        format!(r#"{{"type":"{kind}","connect.version":1,"connect.name":"{name}"{more}}}"#)
    };
    let long = |value: i64| to_avro_datum(&Schema::Long, Known::Long(value));
    let text = |value: &str| to_avro_datum(&Schema::String, Known::String(value.to_owned()));
    for (schema, bytes, json) in [
        (
            of("long", "io.debezium.time.MicroTimestamp", ""),
            long(1_790_000_000_123_456),
            r#""2026-09-21T14:13:20.123456""#,
        ),
        (of("int", "io.debezium.time.Date", ""), long(20_717), r#""2026-09-21""#),
        (
            of("long", "org.apache.kafka.connect.data.Timestamp", r#","logicalType":"timestamp-millis""#),
            long(1_790_000_000_000),
            r#""2026-09-21T14:13:20Z""#,
        ),
        (of("string", "io.debezium.data.Json", ""), text(r#"{"a": 1.10}"#), r#"{"a": 1.10}"#),
        (of("string", "io.debezium.data.Uuid", ""), text("x"), r#""x""#),
        (
            of(
                "bytes",
                "org.apache.kafka.connect.data.Decimal",
                r#","scale":2,"precision":64,"connect.parameters":{"scale":"2"},"logicalType":"decimal""#,
            ),
            vec![4, 0x30, 0x39],
            "123.45",
        ),
        (
            r#"{"type":"record","name":"VariableScaleDecimal","namespace":"io.debezium.data","fields":[
                {"name":"scale","type":"int"},{"name":"value","type":"bytes"}],
                "connect.name":"io.debezium.data.VariableScaleDecimal"}"#
                .to_owned(),
            vec![6, 4, 0x30, 0x39],
            "12.345",
        ),
    ] {
        assert_eq!(of_bytes(&schema, &bytes).as_deref(), Ok(json), "{schema}");
    }
}

#[test]
fn types_are_found_by_their_names() {
    let schema = r#"{"type":"record","name":"Order","namespace":"shop","fields":[
        {"name":"id","type":{"type":"record","name":"Id","fields":[{"name":"n","type":"int"}]}},
        {"name":"other","type":["null","Id"]},
        {"name":"again","type":["null","shop.Id"],"default":null},
        {"name":"next","type":["null","Order"]}]}"#;
    // n = 1; null; n = 2; an order whose parts are n = 3 and nulls.
    let bytes = [2, 0, 2, 4, 2, 6, 0, 0, 0];
    let json = r#"{"id":{"n":1},"other":null,"again":{"n":2},"next":{"id":{"n":3},"other":null,"again":null,"next":null}}"#;
    assert_eq!(of_bytes(schema, &bytes).as_deref(), Ok(json));

    let amount = r#"{"type":"record","name":"shop.Amount","fields":[{"name":"cents","type":"long"}]}"#;
    let user = r#"{"type":"record","name":"User","fields":[{"name":"owes","type":"shop.Amount"}]}"#;
    let mut out = Vec::new();
    Plan::new(user, &[amount.to_owned()]).unwrap().read(&[20], &mut out).unwrap();
    assert_eq!(out, br#"{"owes":{"cents":10}}"#);
    assert!(Plan::new(user, &[]).unwrap_err().contains("names a type shop.Amount"));
    // A name goes before another type's alias.
    let named = r#"{"type":"record","name":"R","fields":[
        {"name":"a","type":{"type":"record","name":"A","aliases":["B"],"fields":[{"name":"x","type":"int"}]}},
        {"name":"b","type":{"type":"enum","name":"B","symbols":["S"]}},{"name":"c","type":"B"}]}"#;
    assert_eq!(of_bytes(named, &[2, 0, 0]).as_deref(), Ok(r#"{"a":{"x":1},"b":"S","c":"S"}"#));
    // As registries have them.
    assert!(Plan::new("string", &[]).is_ok() && Plan::new("\"string\"", &[]).is_ok());
}

/// As Debezium writes them into an Avro event.
#[test]
fn what_is_not_in_an_event_is_no_date_and_no_number() {
    let word = crate::pipeline::unchanged::DEBEZIUM;
    let date = r#"{"type":"int","connect.name":"io.debezium.time.Date"}"#;
    let numbers = |branch: Option<usize>| {
        let items = word.bytes().map(|byte| Known::Int(byte.into()));
        let item = |item| match branch {
            Some(branch) => Known::Union(u32::try_from(branch).unwrap(), Box::new(item)),
            None => item,
        };
        Known::Array(items.map(item).collect())
    };
    let plain = |items: &str| format!(r#"{{"type":"array","items":{items}}}"#);
    for (schema, plain, value) in [
        (plain(date), plain(r#""int""#), numbers(None)),
        (plain(&format!(r#"["null",{date}]"#)), plain(r#"["null","int"]"#), numbers(Some(1))),
    ] {
        let bytes = to_avro_datum(&Schema::parse_str(&plain).unwrap(), value);
        let json = of_bytes(&schema, &bytes).unwrap();
        assert!(crate::pipeline::unchanged::UNAVAILABLE.is_in(Raw::of(&json)), "{json}");
    }
    let decimal = r#"{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}"#;
    let bytes = to_avro_datum(&Schema::Bytes, Known::Bytes(word.as_bytes().to_vec()));
    let json = of_bytes(decimal, &bytes).unwrap();
    assert!(crate::pipeline::unchanged::UNAVAILABLE.is(Raw::of(&json)), "{json}");
    // A few days are days.
    let bytes =
        to_avro_datum(&Schema::parse_str(&plain(r#""int""#)).unwrap(), Known::Array(vec![Known::Int(95)]));
    assert_eq!(of_bytes(&plain(date), &bytes).as_deref(), Ok(r#"["1970-04-06"]"#));
}

#[test]
fn fields_are_columns() {
    let shape = |schema: &str, is_event| {
        let fields = Plan::new(schema, &[]).unwrap().shape(is_event, None)?;
        let text = |field: crate::pipeline::shape::Field| {
            format!("{} {}{}", field.name, field.sql_type, if field.not_null { " NOT NULL" } else { "" })
        };
        Some(fields.into_iter().map(text).collect::<Vec<_>>().join(", "))
    };
    let row = r#"{"type":"record","name":"R","fields":[
        {"name":"a","type":"int"},{"name":"b","type":["null","long"]},
        {"name":"c","type":{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}},
        {"name":"d","type":[{"type":"long","connect.name":"io.debezium.time.MicroTimestamp"},"null"]},
        {"name":"e","type":{"type":"array","items":["null","string"]}},{"name":"f","type":{"type":"map","values":"int"}},
        {"name":"g","type":{"type":"string","logicalType":"uuid"}},{"name":"h","type":["null","int","string"]},
        {"name":"i","type":{"type":"array","items":{"type":"array","items":"int"}}}]}"#;
    let columns = "a integer NOT NULL, b bigint, c numeric(12,2) NOT NULL, d timestamp, e text[] NOT NULL, f jsonb NOT NULL, \
                   g uuid NOT NULL, h jsonb, i jsonb NOT NULL";
    assert_eq!(shape(row, false).as_deref(), Some(columns));
    let event = format!(
        r#"{{"type":"record","name":"Envelope","fields":[{{"name":"before","type":["null",{row}]}},{{"name":"after","type":["null","R"]}}]}}"#
    );
    assert_eq!(shape(&event, true).as_deref(), Some(columns));
    assert_eq!((shape(row, true), shape(r#""int""#, false)), (None, None));
}

#[test]
fn fields_of_objects_are_columns_where_they_are_flattened() {
    let shape = |schema: &str| {
        let fields = Plan::new(schema, &[]).unwrap().shape(false, Some("_")).unwrap();
        let text = |field: &crate::pipeline::shape::Field| {
            let null = if field.not_null { " NOT NULL" } else { "" };
            format!("{} {} {}{null}", field.name, field.path, field.sql_type)
        };
        let text: Vec<String> = fields.iter().map(text).collect();
        (text.join(", "), crate::pipeline::shape::twice(&fields))
    };
    let row = r#"{"type":"record","name":"R","fields":[{"name":"id","type":"int"},
        {"name":"who","type":["null",{"type":"record","name":"W","fields":[
            {"name":"name","type":"string"},{"name":"at","type":{"type":"record","name":"A","fields":[
                {"name":"zip","type":["null","string"]}]}}]}]},
        {"name":"also","type":{"type":"array","items":"A"}},{"name":"bill","type":"A"},
        {"name":"map","type":{"type":"map","values":"A"}},{"name":"either","type":["A","W"]}]}"#;
    let columns = "id value.id integer NOT NULL, who_name value.who.name text, who_at_zip value.who.at.zip text, \
                   also value.also jsonb NOT NULL, bill_zip value.bill.zip text, map value.map jsonb NOT NULL, \
                   either value.either jsonb NOT NULL";
    assert_eq!(shape(row), (columns.to_owned(), None));
    // One inside of itself; and few lines that would be many columns.
    let chain = r#"{"type":"record","name":"C","fields":[{"name":"n","type":"int"},{"name":"next","type":["null","C"]}]}"#;
    assert_eq!(shape(chain).0, "n value.n integer NOT NULL, next value.next jsonb");
    let record = |name: usize, inner: &str| {
        let field =
            |n: usize| format!(r#"{{"name":"f{n}","type":{}}}"#, if n == 0 { inner } else { "\"X\"" });
        let more: Vec<String> = (0..9).map(|n| field(n).replace('X', &format!("R{}", name + 1))).collect();
        format!(r#"{{"type":"record","name":"R{name}","fields":[{}]}}"#, more.join(","))
    };
    let deepest = r#"{"type":"record","name":"R6","fields":[{"name":"v","type":"int"}]}"#;
    let bomb = (0..6).rev().fold(deepest.to_owned(), |inner, name| record(name, &inner));
    let many = shape(&bomb).0.split(", ").count();
    assert!((1_600..1_700).contains(&many), "{many}");
    let twice = r#"{"type":"record","name":"T","fields":[{"name":"a_b","type":"int"},
        {"name":"a","type":{"type":"record","name":"I","fields":[{"name":"b","type":"int"}]}}]}"#;
    assert_eq!(shape(twice).1.as_deref(), Some("value.a_b and value.a.b are both column a_b"));
}

#[test]
fn what_is_no_schema_is_refused() {
    for schema in [
        "",
        "{",
        "7",
        r#""str""#,
        r#"{"type":"record","name":"R"}"#,
        r#"{"type":"record","fields":[]}"#,
        r#"{"type":"record","name":"R","fields":[{"name":"a"}]}"#,
        r#"{"type":"array"}"#,
        r#"{"type":"fixed","name":"F","size":-1}"#,
        r#"{"type":"enum","name":"E"}"#,
        r#"{"name":"R"}"#,
        &"[".repeat(100_000),
    ] {
        assert!(Plan::new(schema, &[]).is_err(), "{}", &schema[..schema.len().min(80)]);
    }
    let deep = format!("{}\"int\"{}", r#"{"type":"array","items":"#.repeat(120), "}".repeat(120));
    assert!(Plan::new(&deep, &[]).unwrap_err().contains("nested"));
    let wide = format!("[{}]", vec![r#"{"type":"array","items":"int"}"#; 20_000].join(","));
    assert!(Plan::new(&wide, &[]).unwrap_err().contains("more than"));
}

#[test]
fn what_is_not_of_the_schema_is_refused() {
    let list = r#"{"type":"array","items":"null"}"#;
    let tree = r#"{"type":"record","name":"T","fields":[{"name":"t","type":["null","T"]}]}"#;
    for (schema, bytes, why) in [
        (r#""int""#, &b""[..], "cut off"),
        (r#""int""#, b"\xfe\xff\xff\xff\x1f", "an int that is none"),
        (r#""string""#, b"\x06ab", "ends before its end"),
        (r#""string""#, b"\x01", "negative"),
        (r#""string""#, b"\x02\xff", "UTF-8"),
        (r#""boolean""#, b"\x02", "neither 0 nor 1"),
        (r#"["null"]"#, b"\x02", "a branch"),
        (r#""int""#, b"\x02\x02", "left over"),
        // 2^40 items that take no byte.
        (list, b"\x80\x80\x80\x80\x80\x80\x01", "64 MiB"),
        (list, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00", "too many items"),
        (tree, &[2; 1_000], "64 deep"),
    ] {
        let began = Instant::now();
        let refused = of_bytes(schema, bytes).unwrap_err();
        assert!(refused.contains(why), "{schema}: {refused}");
        assert!(began.elapsed().as_secs() < 20, "{schema}: {:?}", began.elapsed());
    }
}

/// A schema, a value of it, and the JSON that this is.
#[derive(Debug, Clone)]
struct Sample {
    schema: serde_json::Value,
    value: Known,
    json: serde_json::Value,
}

fn sample() -> impl Strategy<Value = Sample> {
    use serde_json::json;
    let leaf = prop_oneof![
        Just(Sample { schema: json!("null"), value: Known::Null, json: json!(null) }),
        any::<bool>().prop_map(|it| Sample {
            schema: json!("boolean"),
            value: Known::Boolean(it),
            json: json!(it)
        }),
        any::<i32>().prop_map(|it| Sample { schema: json!("int"), value: Known::Int(it), json: json!(it) }),
        any::<i64>().prop_map(|it| Sample { schema: json!("long"), value: Known::Long(it), json: json!(it) }),
        // serde_json reads these exactly.
        any::<i32>().prop_map(|it| {
            let it = f64::from(it) / 8.0;
            Sample { schema: json!("double"), value: Known::Double(it), json: json!(it) }
        }),
        ".*".prop_map(|it| Sample { schema: json!("string"), json: json!(it), value: Known::String(it) }),
        any::<Vec<u8>>().prop_map(|it| {
            let hex: String = it.iter().map(|byte| format!("{byte:02x}")).collect();
            Sample { schema: json!("bytes"), json: json!(format!("\\x{hex}")), value: Known::Bytes(it) }
        }),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            (inner.clone(), 0_usize..4).prop_map(|(item, count)| Sample {
                schema: json!({"type": "array", "items": item.schema}),
                value: Known::Array(vec![item.value; count]),
                json: json!(vec![item.json; count]),
            }),
            (inner.clone(), proptest::collection::hash_set("[a-z\"]*", 0..3)).prop_map(|(item, keys)| {
                Sample {
                    schema: json!({"type": "map", "values": item.schema}),
                    value: Known::Map(keys.iter().map(|key| (key.clone(), item.value.clone())).collect()),
                    json: keys
                        .iter()
                        .map(|key| (key.clone(), item.json.clone()))
                        .collect::<serde_json::Map<_, _>>()
                        .into(),
                }
            }),
            (proptest::collection::vec(inner, 0..5), any::<u32>()).prop_map(|(fields, number)| {
                let named = || fields.iter().enumerate().map(|(at, field)| (format!("f{at}"), field));
                let schema: Vec<_> =
                    named().map(|(name, field)| json!({"name": name, "type": field.schema})).collect();
                Sample {
                    schema: json!({"type": "record", "name": format!("R{number}"), "fields": schema}),
                    value: Known::Record(named().map(|(name, field)| (name, field.value.clone())).collect()),
                    json: named()
                        .map(|(name, field)| (name, field.json.clone()))
                        .collect::<serde_json::Map<_, _>>()
                        .into(),
                }
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// What `apache-avro` writes is read as what it was.
    #[test]
    fn random_values_of_random_schemas_come_out_as_they_were(sample in sample()) {
        // A name may be given once: a schema that has one twice is none.
        let text = sample.schema.to_string();
        prop_assume!(Schema::parse_str(&text).is_ok());
        let json: serde_json::Value = serde_json::from_str(&read(&text, sample.value)).unwrap();
        prop_assert_eq!(json, sample.json);
    }
}

crate::fuzz::fuzz!(
    /// Bytes of nobody: an error, or JSON.
    any_bytes_are_avro_or_refused,
    &["\u{0}", "\u{2}", "\u{4}abcd", "\u{1}", "\u{6}", "\u{7f}"],
    |bytes| {
        let schema = r#"{"type":"record","name":"R","fields":[
            {"name":"a","type":["null","R","string",{"type":"map","values":"long"}]},
            {"name":"b","type":{"type":"array","items":["null","double",{"type":"bytes","logicalType":"decimal","scale":2}]}},
            {"name":"c","type":{"type":"long","logicalType":"timestamp-micros"}},
            {"name":"d","type":{"type":"bytes","logicalType":"big-decimal"}},
            {"name":"e","type":{"type":"int","logicalType":"date"}}]}"#;
        let mut out = Vec::new();
        if Plan::new(schema, &[]).unwrap().read(bytes, &mut out).is_ok() {
            serde_json::from_slice::<serde_json::Value>(&out).unwrap();
        }
    }
);

crate::fuzz::fuzz!(
    /// Texts of nobody: an error, or a plan.
    any_text_is_an_avro_schema_or_refused,
    &[
        "{", "}", "[", "]", ",", ":", "\"type\"", "\"record\"", "\"name\"", "\"fields\"", "\"R\"", "\"int\"", "\"array\"",
        "\"items\"", "\"fixed\"", "\"size\"", "9", "\"logicalType\"", "\"decimal\"", "\"scale\"", "\"connect.name\"",
        "\"io.debezium.data.Bits\"", "\"null\"", "\"aliases\"", "\"namespace\"", "\"a.b\"",
    ],
    |bytes| {
        if let Ok(plan) = Plan::new(&String::from_utf8_lossy(bytes), &[]) {
            let _ = plan.read(b"\0\0\0\0", &mut Vec::new());
        }
    }
);
