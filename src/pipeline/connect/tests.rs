//! Values as `JsonConverter` writes them (Kafka, connect/json) by the schemas that Connect and Debezium give them.

use proptest::prelude::*;

use super::*;

/// What becomes of a payload, and what is wrong with it.
fn canonical(schema: &str, payload: &str) -> Result<(String, Vec<String>), String> {
    let schemas = KnownSchemas::default();
    let document = format!("{{\"schema\":{schema},\"payload\":{payload}}}");
    let once = |document: &str| {
        let buffer = OnceCell::new();
        let unwrapped = schemas.unwrap("value", document.as_bytes(), &buffer)?;
        let text = String::from_utf8(unwrapped.document.to_vec()).unwrap();
        let failures = buffer.get().map_or_else(Vec::new, |canonical: &Canonical| canonical.failures.clone());
        Ok((text, failures.into_iter().map(|(_, what)| what).collect()))
    };
    let first = once(&document);
    // The second time its schema is known; and it is the same in another spelling.
    assert_eq!(once(&document), first);
    let spelled = format!(" {{ \"payload\" : {payload} , \"\\u0073chema\" : {schema} }} ");
    assert_eq!(once(&spelled), first);
    first
}

fn text(schema: &str, payload: &str) -> String {
    let (text, failures) = canonical(schema, payload).unwrap();
    assert_eq!(failures, [""; 0], "{schema}");
    serde_json::from_str::<serde::de::IgnoredAny>(&text).unwrap();
    text
}

fn failure(schema: &str, payload: &str) -> String {
    let (text, failures) = canonical(schema, payload).unwrap();
    serde_json::from_str::<serde::de::IgnoredAny>(&text).unwrap();
    failures.join("; ")
}

/// A schema of this type and name, as the converter writes it.
fn named(kind: &str, name: &str) -> String {
    format!(r#"{{"type":"{kind}","optional":true,"name":"{name}","version":1,"default":1}}"#)
}

#[test]
fn plain_types_are_as_they_are() {
    for (kind, payload) in [
        ("int8", "-128"),
        ("int16", "32767"),
        ("int32", "7"),
        ("int64", "9223372036854775807"),
        ("float", "0.1"),
        ("double", "1.7976931348623157E308"),
        ("double", r#""NaN""#),
        ("boolean", "true"),
        ("string", r#""a\"ü""#),
        ("int32", "null"),
    ] {
        let schema = format!(r#"{{"type":"{kind}","optional":true,"default":5}}"#);
        assert_eq!(text(&schema, payload), payload);
    }
    assert_eq!(text(r#"{"type":"bytes","optional":false}"#, r#""Cv8=""#), r#""\\x0aff""#);
    assert_eq!(text(r#"{"type":"bytes","optional":false}"#, "null"), "null");
    assert_eq!(text(r#"{"type":"bytes","optional":false}"#, r#""""#), r#""\\x""#);
}

#[test]
fn logical_and_semantic_types_are_written_out() {
    let decimal = r#"{"type":"bytes","optional":true,"name":"org.apache.kafka.connect.data.Decimal","version":1,"parameters":{"scale":"2","connect.decimal.precision":"12"}}"#;
    for (payload, expected) in [
        (r#""A94=""#, "9.90"),
        (r#""/CI=""#, "-9.90"),
        (r#""AA==""#, "0.00"),
        (r#""Aw==""#, "0.03"),
        // decimal.format = NUMERIC
        ("9.90", "9.90"),
        ("12345678901234567890.10", "12345678901234567890.10"),
        ("null", "null"),
    ] {
        assert_eq!(text(decimal, payload), expected);
    }
    for (kind, name, payload, expected) in [
        ("int32", "org.apache.kafka.connect.data.Date", "20717", r#""2026-09-21""#),
        ("int32", "org.apache.kafka.connect.data.Time", "51200123", r#""14:13:20.123""#),
        (
            "int64",
            "org.apache.kafka.connect.data.Timestamp",
            "1790000000123",
            r#""2026-09-21T14:13:20.123Z""#,
        ),
        ("int32", "io.debezium.time.Date", "-1", r#""1969-12-31""#),
        ("int32", "io.debezium.time.Time", "51200123", r#""14:13:20.123""#),
        ("int64", "io.debezium.time.MicroTime", "51200123456", r#""14:13:20.123456""#),
        ("int64", "io.debezium.time.NanoTime", "51200123456789", r#""14:13:20.123456""#),
        ("int64", "io.debezium.time.Timestamp", "1790000000123", r#""2026-09-21T14:13:20.123""#),
        ("int64", "io.debezium.time.MicroTimestamp", "1790000000123456", r#""2026-09-21T14:13:20.123456""#),
        ("int64", "io.debezium.time.NanoTimestamp", "1790000000123456789", r#""2026-09-21T14:13:20.123456""#),
        ("int64", "io.debezium.time.MicroTimestamp", "9223372036825200000", r#""infinity""#),
        ("int64", "io.debezium.time.MicroDuration", "-1500000", r#""PT-1.5S""#),
        ("int64", "io.debezium.time.NanoDuration", "1500", r#""PT0.000001S""#),
        ("int32", "io.debezium.time.Year", "2026", "2026"),
        (
            "string",
            "io.debezium.time.ZonedTimestamp",
            r#""2026-09-21T14:13:20.1Z""#,
            r#""2026-09-21T14:13:20.1Z""#,
        ),
        ("string", "io.debezium.time.Interval", r#""P1Y2M3DT4H5M6.78S""#, r#""P1Y2M3DT4H5M6.78S""#),
        ("string", "io.debezium.time.IsoDate", r#""2026-09-21Z""#, r#""2026-09-21""#),
        ("string", "io.debezium.time.IsoTime", r#""14:13:20Z""#, r#""14:13:20""#),
        ("string", "io.debezium.data.Json", r#""{\"n\": 1.10}""#, r#"{"n": 1.10}"#),
        (
            "string",
            "io.debezium.data.Uuid",
            r#""a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11""#,
            r#""a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11""#,
        ),
        ("string", "io.debezium.data.Enum", r#""a""#, r#""a""#),
        ("string", "io.debezium.data.EnumSet", r#""a,b""#, r#"["a","b"]"#),
        ("string", "io.debezium.data.Xml", r#""<a/>""#, r#""<a/>""#),
        ("string", "a.name.of.their.own", r#""x""#, r#""x""#),
        ("int32", "io.debezium.time.Date", "null", "null"),
    ] {
        assert_eq!(text(&named(kind, name), payload), expected, "{name}");
    }
    let bits = r#"{"type":"bytes","optional":true,"name":"io.debezium.data.Bits","version":1,"parameters":{"length":"5"}}"#;
    assert_eq!(text(bits, r#""Cg==""#), r#""01010""#);
    let variable = r#"{"type":"struct","fields":[{"type":"int32","optional":false,"field":"scale"},{"type":"bytes","optional":false,"field":"value"}],"optional":true,"name":"io.debezium.data.VariableScaleDecimal","version":1}"#;
    assert_eq!(text(variable, r#"{"scale":3,"value":"Cv8="}"#), "2.815");
    assert_eq!(text(variable, "null"), "null");
}

#[test]
fn containers_are_walked_into() {
    let date = named("int32", "io.debezium.time.Date");
    let array = format!(r#"{{"type":"array","items":{date},"optional":true}}"#);
    assert_eq!(text(&array, "[0, null ,1]"), r#"["1970-01-01",null,"1970-01-02"]"#);
    assert_eq!(text(&array, "[ ]"), "[]");
    let map = format!(r#"{{"type":"map","keys":{{"type":"string"}},"values":{date}}}"#);
    assert_eq!(text(&map, r#"{"a":0,"b\"":1}"#), r#"{"a":"1970-01-01","b\"":"1970-01-02"}"#);
    let pairs = format!(r#"{{"type":"map","keys":{{"type":"int32"}},"values":{date}}}"#);
    assert_eq!(text(&pairs, "[[5,0],[6,null]]"), r#"{"5":"1970-01-01","6":null}"#);
    let dates = format!(r#"{{"type":"map","keys":{date},"values":{{"type":"int32"}}}}"#);
    assert_eq!(text(&dates, "[[0,5]]"), r#"{"1970-01-01":5}"#);
    let inner = format!(
        r#"{{"type":"struct","fields":[{},{{"type":"string","field":"s"}}],"field":"in"}}"#,
        date.replace("\"optional\"", "\"field\":\"d\",\"optional\"")
    );
    let outer = format!(r#"{{"type":"struct","fields":[{inner},{{"type":"int64","field":"n"}}]}}"#);
    assert_eq!(
        text(&outer, r#"{"in":{"d":0,"s":"x"},"n":1,"not named":{"a":[1]}}"#),
        r#"{"in":{"d":"1970-01-01","s":"x"},"n":1,"not named":{"a":[1]}}"#
    );
    // In another order; absent, null and a default are three things.
    assert_eq!(
        text(&outer, r#"{"n":12345678901234567890,"in":{"s":null,"\u0064":0}}"#),
        r#"{"n":12345678901234567890,"in":{"s":null,"d":"1970-01-01"}}"#
    );
    assert_eq!(text(&outer, r#"{"in":null}"#), r#"{"in":null}"#);
    assert_eq!(text(&outer, "null"), "null");
}

#[test]
fn what_cannot_be_written_is_a_failure_with_its_field() {
    let date =
        named("int32", "io.debezium.time.Date").replace("\"optional\"", "\"field\":\"d\",\"optional\"");
    let schema = format!(
        r#"{{"type":"struct","fields":[{{"type":"struct","fields":[{date}],"field":"in"}},{{"type":"bytes","field":"b"}}]}}"#
    );
    for (payload, said) in [
        (r#"{"in":{"d":2147483647}}"#, "field in.d: out of the range of dates"),
        (r#"{"in":{"d":1.5}}"#, "field in.d: not an integer of 64 bits"),
        (r#"{"in":{"d":"x"}}"#, "field in.d: not of the type that its schema's name goes with"),
        (r#"{"in":{"d":{}}}"#, "field in.d: not of the kind that its schema says"),
        (r#"{"in":5}"#, "field in: not of the kind that its schema says"),
        (r#"{"b":"%"}"#, "field b: not base64, in which Connect writes bytes"),
        (r#"{"b":5}"#, "field b: not base64, in which Connect writes bytes"),
        ("[]", "not of the kind that its schema says"),
    ] {
        assert_eq!(failure(&schema, payload), said, "{payload}");
    }
    for (kind, name, payload, said) in [
        ("struct", "io.debezium.data.geometry.Geometry", r#"{"wkb":"","srid":null}"#, "geometry"),
        ("int32", "org.apache.kafka.connect.data.Time", "-1", "out of the range of times of day"),
        ("bytes", "org.apache.kafka.connect.data.Decimal", r#""AA==""#, "a decimal without its scale"),
        ("string", "io.debezium.data.Json", r#""{""#, "text that is no JSON where a document is"),
    ] {
        assert_eq!(failure(&named(kind, name), payload), said, "{name}");
    }
    // Only who takes it is concerned.
    let buffer = OnceCell::new();
    let document = format!(r#"{{"schema":{schema},"payload":{{"in":{{"d":2147483647}},"b":"AA=="}}}}"#);
    let schemas = KnownSchemas::default();
    let unwrapped = schemas.unwrap("value", document.as_bytes(), &buffer).unwrap();
    let mut slots = [None; 3];
    super::super::extract::of_fields(["in", "b", "none"]).fill(unwrapped.document, &mut slots, None).unwrap();
    let canonical = buffer.get().unwrap();
    assert_eq!(canonical.failure(slots[0].unwrap()), Some("field in.d: out of the range of dates"));
    assert_eq!(canonical.failure(slots[1].unwrap()), None);
    assert_eq!(canonical.failure(Raw::of("null")), None);
}

#[test]
fn what_is_not_in_an_event_is_seen_behind_its_schema() {
    let seen = |schema: &str, payload: &str| {
        let text = text(schema, payload);
        super::super::unchanged::UNAVAILABLE.is_in(Raw::of(&text))
    };
    // The placeholder's bytes.
    let base64 = r#""X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==""#;
    let numbers = format!(
        "[{}]",
        "__debezium_unavailable_value".bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(",")
    );
    let word = r#""__debezium_unavailable_value""#;
    assert!(seen(r#"{"type":"bytes"}"#, base64));
    assert!(seen(r#"{"type":"string"}"#, word));
    assert!(seen(&named("string", "io.debezium.data.Json"), word));
    let decimal =
        r#"{"type":"bytes","name":"org.apache.kafka.connect.data.Decimal","parameters":{"scale":"2"}}"#;
    assert!(seen(decimal, base64));
    for items in [
        r#"{"type":"int32"}"#.to_owned(),
        named("int32", "io.debezium.time.Date"),
        named("int64", "io.debezium.time.MicroTimestamp"),
    ] {
        assert!(seen(&format!(r#"{{"type":"array","items":{items}}}"#), &numbers), "{items}");
    }
    assert!(seen(r#"{"type":"array","items":{"type":"bytes"}}"#, &format!("[{base64}]")));
    assert!(!seen(r#"{"type":"bytes"}"#, r#""AAAA""#));
}

#[test]
fn envelopes_are_told_from_other_documents() {
    let schemas = KnownSchemas::default();
    let buffer = OnceCell::new();
    for document in [
        r#"{"id":5}"#,
        r#"{"schema":{"type":"int32"},"payload":1,"more":2}"#,
        r#"{"schema":{"type":"int32"}}"#,
        r#"{"payload":1}"#,
        "5",
        "[1]",
        r#""text""#,
    ] {
        let refused = schemas.unwrap("value", document.as_bytes(), &buffer).unwrap_err();
        assert!(refused.contains("schemas.enable = false"), "{document}: {refused}");
        let plain = schemas.unwrap_if("key", document.as_bytes(), &buffer).unwrap();
        assert_eq!((plain.document, plain.has_schema), (document.as_bytes(), false));
    }
    let bare = br#"{"payload":{"id":5}}"#;
    assert_eq!(schemas.unwrap_if("value", bare, &buffer).unwrap().document, br#"{"id":5}"#);
    let without = br#"{"schema":null,"payload":{"id":5}}"#;
    let unwrapped = schemas.unwrap("value", without, &buffer).unwrap();
    assert_eq!((unwrapped.document, unwrapped.has_schema), (&br#"{"id":5}"#[..], false));
    let key = br#"{"schema":{"type":"int32","optional":false},"payload":7}"#;
    let unwrapped = schemas.unwrap_if("key", key, &buffer).unwrap();
    assert_eq!((unwrapped.document, unwrapped.has_schema), (&b"7"[..], true));
    for (document, said) in [
        ("{", "invalid JSON"),
        (r#"{"schema":{"type":"int32"},"payload":1,}"#, "invalid JSON"),
        (r#"{"schema":{"type":"int32"},"payload":1} x"#, "invalid JSON"),
        (r#"{"schema":{},"payload":1}"#, "its schema: it has no type"),
        (r#"{"schema":5,"payload":1}"#, "its schema: it has no type"),
        (r#"{"schema":{"type":"int128"},"payload":1}"#, "there is no type int128"),
        (r#"{"schema":{"type":"array"},"payload":1}"#, "array without the type of its items"),
        (r#"{"schema":{"type":"map"},"payload":1}"#, "map without the type of its keys"),
        (r#"{"schema":{"type":"struct"},"payload":1}"#, "struct without its fields"),
        (r#"{"schema":{"type":"struct","fields":[{"type":"int32"}]},"payload":1}"#, "a field without a name"),
    ] {
        // Whether or not a schema like it is known.
        for _ in 0..2 {
            let refused = schemas.unwrap("value", document.as_bytes(), &buffer).unwrap_err();
            assert!(refused.contains(said), "{document}: {refused}");
        }
    }
    let deep = |depth: usize| {
        let (open, close) = (r#"{"type":"array","items":"#.repeat(depth), "}".repeat(depth));
        let bytes = r#"{"type":"bytes"}"#;
        let payload = format!("{}\"AA==\"{}", "[".repeat(depth), "]".repeat(depth));
        format!("{{\"schema\":{open}{bytes}{close},\"payload\":{payload}}}")
    };
    assert!(schemas.unwrap("value", deep(100).as_bytes(), &buffer).is_ok());
    let refused = schemas.unwrap("value", deep(100_000).as_bytes(), &buffer).unwrap_err();
    assert!(refused.contains("recursion"), "{refused}");
}

/// Any JSON, of some depth.
fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        any::<f32>().prop_filter("finite", |value| value.is_finite()).prop_map(|value| format!("{value:e}")),
        ".{0,8}".prop_map(|text| serde_json::Value::from(text).to_string()),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| format!(
            "\"{}\"",
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes)
        )),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::vec(("[a-c]", inner), 0..4).prop_map(|fields| {
                let fields: Vec<_> =
                    fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
                format!("{{{}}}", fields.join(","))
            }),
        ]
    })
}

fn any_schema() -> impl Strategy<Value = String> {
    let names = [
        "org.apache.kafka.connect.data.Date",
        "org.apache.kafka.connect.data.Decimal",
        "org.apache.kafka.connect.data.Timestamp",
        "io.debezium.time.MicroTime",
        "io.debezium.time.NanoTimestamp",
        "io.debezium.time.MicroDuration",
        "io.debezium.data.Json",
        "io.debezium.data.Bits",
        "io.debezium.data.EnumSet",
        "io.debezium.data.VariableScaleDecimal",
        "io.debezium.data.geometry.Point",
        "x",
    ];
    let kinds = ["int32", "int64", "double", "boolean", "string", "bytes"];
    let leaf = (prop::sample::select(kinds.to_vec()), prop::sample::select(names.to_vec())).prop_map(
        |(kind, name)| {
            format!(r#"{{"type":"{kind}","name":"{name}","parameters":{{"scale":"3","length":"11"}}}}"#)
        },
    );
    leaf.prop_recursive(4, 16, 4, |inner| {
        let field =
            |(name, schema): (String, String)| schema.replacen('{', &format!("{{\"field\":\"{name}\","), 1);
        prop_oneof![
            inner.clone().prop_map(|items| format!(r#"{{"type":"array","items":{items}}}"#)),
            (inner.clone(), inner.clone())
                .prop_map(|(keys, values)| format!(r#"{{"type":"map","keys":{keys},"values":{values}}}"#)),
            proptest::collection::vec(("[a-c]", inner).prop_map(field), 0..4)
                .prop_map(|fields| format!(r#"{{"type":"struct","fields":[{}]}}"#, fields.join(","))),
        ]
    })
}

proptest! {
    /// Whatever it is, it becomes JSON, or is refused.
    #[test]
    fn any_payload_of_any_schema_is_json(schema in any_schema(), payload in any_json()) {
        if let Ok((text, _)) = canonical(&schema, &payload) {
            serde_json::from_str::<serde::de::IgnoredAny>(&text).unwrap();
        }
    }

    #[test]
    fn any_json_is_a_schema_or_none(schema in any_json(), payload in any_json()) {
        let _ = canonical(&schema, &payload);
    }
}

crate::fuzz::fuzz!(
    any_envelope,
    &[
        "{\"schema\":",
        ",\"payload\":",
        "}",
        "{\"type\":\"struct\",\"fields\":[",
        "]",
        "{\"type\":\"bytes\"",
        ",\"field\":\"a\"",
        ",\"name\":\"org.apache.kafka.connect.data.Decimal\"",
        "{\"type\":\"int64\"",
        ",\"name\":\"io.debezium.time.MicroTimestamp\"",
        ",\"parameters\":{\"scale\":\"2\"}",
        "{\"a\":",
        "\"AA==\"",
        "1790000000000000",
        "null",
        ",",
        "[",
        "{\"type\":\"array\",\"items\":",
    ],
    |bytes| {
        let schemas = KnownSchemas::default();
        for _ in 0..2 {
            let buffer = OnceCell::new();
            if let Ok(unwrapped) = schemas.unwrap("value", bytes, &buffer) {
                serde_json::from_slice::<serde::de::IgnoredAny>(unwrapped.document).unwrap();
            }
            let buffer = OnceCell::new();
            let _ = schemas.unwrap_if("key", bytes, &buffer);
        }
    }
);
