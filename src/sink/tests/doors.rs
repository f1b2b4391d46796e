//! One value, through every door: a tuple, JSON, a struct, a tombstone's key. It is what the literal is, or is rejected.

use std::num::NonZero;
use std::rc::Rc;
use std::sync::Arc;

use base64::Engine as _;
use serde_json::value::RawValue;

use super::*;
use crate::HandlerErrorKind;
use crate::sink::conversions::LINES;
use crate::sink::target::Kind;
use crate::sink::{Bytea, ToColumn};

/// A literal of a column type, and the JSON that means the same.
struct Value {
    kind: Kind,
    sql_type: &'static str,
    literal: &'static str,
    /// As a JSON string the literal means the same to most types.
    json: &'static [&'static str],
}

fn values() -> Vec<Value> {
    let v = |kind, sql_type, literal, json| Value { kind, sql_type, literal, json };
    vec![
        v(Kind::Bool, "boolean", "t", &["true", "\"on\""]),
        v(Kind::Int2, "smallint", "-32768", &["-32768"]),
        v(Kind::Int4, "integer", "2147483647", &["2147483647"]),
        v(Kind::Int8, "bigint", "-9223372036854775808", &["-9223372036854775808"]),
        v(Kind::Float4, "real", "1.1", &["1.1", "1.10", "11e-1"]),
        v(Kind::Float8, "double precision", "-1.1e-300", &["-1.1e-300"]),
        v(Kind::Float8, "double precision", "Infinity", &["\"inf\""]),
        v(
            Kind::Numeric,
            "numeric",
            "123456789012345678901234567890.10",
            &["123456789012345678901234567890.10"],
        ),
        v(Kind::Numeric, "numeric(10,2)", "1234.565", &["1234.565"]),
        v(Kind::Text, "text", "7.50", &["7.50"]),
        v(Kind::Text, "varchar(3)", "abc", &[]),
        v(Kind::Text, "char(5)", "ab", &[]),
        v(Kind::Text, "mood", "sad", &[]),
        v(Kind::Bytea, "bytea", "\\x00ff", &["[0,255]", "[0, 255]"]),
        v(Kind::Uuid, "uuid", "{A0EEBC99-9c0b4ef8-bb6d6bb9-bd380a11}", &[]),
        v(Kind::Date, "date", "2026-11-25", &[]),
        v(Kind::Time, "time", "23:59:59.5", &[]),
        v(Kind::Timestamptz, "timestamptz", "2023-11-14T22:13:20.123Z", &["1700000000123"]),
        v(Kind::Timestamp, "timestamp", "2023-11-14T22:13:20.123", &["1700000000123"]),
        v(Kind::Interval, "interval", "P-1Y-2M3DT-4H", &["\"-1 years -2 mons +3 days -04:00:00\""]),
        v(Kind::Inet, "inet", "192.0.2.1/24", &[]),
        v(Kind::Cidr, "cidr", "10.0.0.0/8", &[]),
    ]
}

/// Every line of the table whose columns are written as they are, but JSON and arrays, whose text is another thing in
/// JSON than in Rust.
#[tokio::test]
async fn every_line_of_the_table_through_every_door() {
    #[derive(serde::Serialize)]
    struct Fields<'a> {
        n: i32,
        v: &'a str,
    }
    let place = Place::new("CREATE TYPE mood AS ENUM ('sad', 'glad')").await;
    for value in values() {
        let Value { sql_type, literal, json, .. } = value;
        let create = format!("DROP TABLE IF EXISTS v; CREATE TABLE v (n int, v {sql_type})");
        place.database.execute(&create).await.unwrap();
        let sink = TableSink::new(Table::append("v", ["n", "v"]), move |_, rows| {
            rows.push((0_i32, literal))?;
            rows.push((Some(1_i32), Arc::<str>::from(literal)))?;
            rows.push((2_i32, Rc::new(String::from(literal))))?;
            rows.push_fields(&Fields { n: 3, v: literal })?;
            for (n, raw) in (4_i32..).zip(json) {
                rows.push_json(format!("{{\"v\":{raw},\"n\":{n}}}").as_bytes())?;
                rows.push((n, RawValue::from_string((*raw).to_owned()).unwrap()))?;
            }
            Ok(())
        });
        place.apply(&sink, &one_record()).await.unwrap_or_else(|error| panic!("{sql_type}: {error:?}"));
        let sql = format!(
            "SELECT v::text FROM v WHERE v::text IS DISTINCT FROM ($q${literal}$q$::{sql_type})::text"
        );
        assert_eq!(place.texts(&sql).await, [], "{sql_type} {literal}");
        let rows = place.texts("SELECT count(*)::text FROM v").await;
        assert_eq!(rows, [Some((4 + 2 * json.len()).to_string())], "{sql_type} {literal}");
    }
    let driven = |kind: &Kind| values().iter().any(|value| value.kind == *kind);
    // Of these, text is another thing in JSON than in Rust: the next test, and `input.rs`. `Other` is the driver's.
    let others = [Kind::Json, Kind::Jsonb, Kind::Array, Kind::Input, Kind::Other];
    for kind in LINES.iter().flat_map(|line| line.kinds) {
        assert!(driven(kind) || others.contains(kind), "{kind:?} has no example");
    }
}

#[tokio::test]
async fn json_and_arrays_through_every_door() {
    #[derive(serde::Serialize)]
    struct Fields {
        j: &'static RawValue,
        b: &'static RawValue,
        a: [&'static str; 2],
        n: Vec<Option<i64>>,
    }
    let place = Place::new("CREATE TABLE v (j json, b jsonb, a text[], n numeric[])").await;
    let sink = TableSink::new(Table::append("v", ["j", "b", "a", "n"]), |_, rows| {
        let text = r#"{"wei": 123456789012345678901234567890, "s": "\u00e9"}"#;
        let raw: &'static RawValue = serde_json::from_str(text).unwrap();
        let (a, n) = (["a\"b", "c"], vec![Some(1), None]);
        rows.push((text, text.as_bytes(), a, n.as_slice()))?;
        rows.push((raw, crate::sink::Json(raw), Vec::from(a), [Some("1"), None]))?;
        rows.push_json(format!(r#"{{"n":["1",null],"a":["a\"b","c"],"b":{text},"j":{text}}}"#).as_bytes())?;
        rows.push_fields(&Fields { j: raw, b: raw, a, n })
    });
    place.apply(&sink, &one_record()).await.unwrap();
    let found = place.texts("SELECT j || ' ' || b || ' ' || a::text || n::text FROM v").await;
    let expected = r#"{"wei": 123456789012345678901234567890, "s": "\u00e9"} {"s": "é", "wei": 123456789012345678901234567890} {"a\"b",c}{1,NULL}"#;
    assert_eq!(found, vec![Some(expected.to_owned()); 4]);
}

/// A key as text, as a JSON string, in an object: the same row, or a rejection.
#[tokio::test]
async fn a_tombstone_finds_the_row_however_its_key_is_written() {
    for (sql_type, literal, keys) in [
        ("text", "k1", &["k1", "\"k1\"", r#"{"id":"k1"}"#, r#"{"id": "\u006b1", "x": 1}"#] as &[&str]),
        ("bigint", "7", &["7", "\"7\"", "{\"id\":7}", "{\"id\":\"7\"}", " 7"]),
        ("numeric", "1.50", &["1.5", "1.500", "\"1.5\"", "{\"id\":1.5}"]),
        (
            "uuid",
            "00000000-0000-0000-0000-000000000007",
            &["{\"id\":\"00000000000000000000000000000007\"}", "\"00000000-0000-0000-0000-000000000007\""],
        ),
        (
            "timestamptz",
            "2026-11-25T10:00:00Z",
            &["2026-11-25T10:00:00Z", "\"2026-11-25T11:00:00+01:00\"", "{\"id\":1795600800000}"],
        ),
        ("boolean", "true", &["true", "\"t\"", "{\"id\":true}"]),
        ("bytea", "\\x01", &["\\x01", "\"\\\\x01\"", "{\"id\":[1]}"]),
    ] {
        let place = Place::new(&format!("CREATE TABLE t (id {sql_type} PRIMARY KEY, v int)")).await;
        let sink = TableSink::json(Table::upsert("t", ["id", "v"]));
        for key in keys {
            place.database.execute(&format!("INSERT INTO t VALUES ('{literal}')")).await.unwrap();
            place.apply(&sink, &batch(&[(Some(key), None)])).await.unwrap_or_else(|e| panic!("{key}: {e:?}"));
            assert_eq!(place.texts("SELECT id::text FROM t").await, [], "{sql_type}: {key}");
        }
    }
    let place = Place::new("CREATE TABLE t (id text PRIMARY KEY, v int)").await;
    let sink = TableSink::json(Table::upsert("t", ["id", "v"]));
    for (key, why) in [
        ("\"secret", "the key begins as a JSON string"),
        ("\"secret\" 1", "the key begins as a JSON string"),
        ("{\"secret\":1}", "none of the columns id is among the object's fields"),
        ("{\"id\":null}", "the key is NULL"),
    ] {
        let error = place.apply(&sink, &batch(&[(Some(key), None)])).await.expect_err(key);
        assert_eq!(error.kind(), HandlerErrorKind::Reject, "{error:?}");
        assert!(error.to_string().contains(why) && !error.to_string().contains("secret"), "{error}");
    }
}

/// Rust's numbers, in a tuple and in a struct.
#[tokio::test]
async fn rust_numbers_are_the_same_in_a_tuple_and_in_a_struct() {
    #[derive(serde::Serialize)]
    struct Fields<T> {
        n: i32,
        v: T,
    }
    async fn same<T>(place: &Place, sql_type: &str, value: T, literal: Option<&str>)
    where
        T: ToColumn + serde::Serialize + Clone + Send + Sync + 'static,
    {
        let create = format!("DROP TABLE IF EXISTS v; CREATE TABLE v (n int, v {sql_type})");
        place.database.execute(&create).await.unwrap();
        let (one, other) = (value.clone(), value);
        let tuple = TableSink::new(Table::append("v", ["n", "v"]), move |_, rows| rows.push((1_i32, &one)));
        let fields = TableSink::new(Table::append("v", ["n", "v"]), move |_, rows| {
            rows.push_fields(&Fields { n: 2, v: &other })
        });
        for sink in [tuple, fields] {
            let done = place.apply(&sink, &one_record()).await;
            match (done, literal) {
                (Ok(()), Some(_)) => {}
                (Err(error), None) => assert_eq!(error.kind(), HandlerErrorKind::Reject, "{error:?}"),
                (done, _) => panic!("{sql_type} {literal:?}: {done:?}"),
            }
        }
        let found = place.texts("SELECT v::text FROM v").await;
        let expected: Vec<Option<String>> = match literal {
            Some(text) => {
                vec![place.texts(&format!("SELECT ('{text}'::{sql_type})::text")).await.remove(0); 2]
            }
            None => Vec::new(),
        };
        assert_eq!(found, expected, "{sql_type} {literal:?}");
    }
    let place = Place::new("SELECT 1").await;
    let p = &place;
    same(p, "double precision", 1.1_f32, Some("1.1")).await;
    same(p, "real", 1.1_f64, Some("1.1")).await;
    // In the middle between two: the decimal decides.
    same(p, "real", 1.000_000_059_604_644_8_f64, Some("1.0000000596046448")).await;
    same(p, "real", 1e-50_f64, None).await;
    same(p, "real", 1e300_f64, None).await;
    same(p, "numeric", 0.1_f32, Some("0.1")).await;
    same(p, "numeric", 1e22_f64, Some("1e22")).await;
    same(p, "double precision", 9_007_199_254_740_994_i64, Some("9007199254740994")).await;
    same(p, "double precision", 9_007_199_254_740_993_i64, None).await;
    same(p, "double precision", u64::MAX, None).await;
    same(p, "double precision", 1_i128 << 100, Some("1267650600228229401496703205376")).await;
    same(p, "real", 16_777_217_i32, None).await;
    same(p, "real", 33_554_432_i32, Some("33554432")).await;
    same(p, "numeric", u128::MAX, Some("340282366920938463463374607431768211455")).await;
    same(p, "numeric", i128::MIN, Some("-170141183460469231731687303715884105728")).await;
    same(p, "bigint", u64::MAX, None).await;
    same(p, "bigint", 7_i128, Some("7")).await;
    same(p, "bigint", usize::MAX >> 1, Some("9223372036854775807")).await;
    same(p, "smallint", 200_u8, Some("200")).await;
    same(p, "smallint", -128_i8, Some("-128")).await;
    same(p, "smallint", u16::MAX, None).await;
    same(p, "integer", u16::MAX, Some("65535")).await;
    same(p, "integer", NonZero::new(7_u32).unwrap(), Some("7")).await;
    same(p, "numeric", serde_json::Number::from(7), Some("7")).await;
    same(p, "text", 'ß', Some("ß")).await;
    same(p, "bytea", vec![1_u8, 255], Some("\\x01ff")).await;
    same(p, "bytea", [1_u8, 255], Some("\\x01ff")).await;
    same(p, "smallint[]", vec![1_u8, 255], Some("{1,255}")).await;
    same(p, "bigint[]", [1_i64, 2], Some("{1,2}")).await;
    same(p, "inet", std::net::Ipv4Addr::LOCALHOST, Some("127.0.0.1")).await;
    same(p, "cidr", std::net::Ipv6Addr::LOCALHOST, Some("::1")).await;
}

/// `serde_json` writes `null` for them.
#[tokio::test]
async fn a_float_that_json_cannot_say_is_not_null() {
    #[derive(serde::Serialize)]
    struct Fields {
        v: Option<Vec<f64>>,
    }
    let place = Place::new("CREATE TABLE v (v float8[])").await;
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let fields = TableSink::new(Table::append("v", ["v"]), move |_, rows| {
            rows.push_fields(&Fields { v: Some(vec![1.5, value]) })
        });
        let error = place.apply(&fields, &one_record()).await.unwrap_err();
        assert_eq!(error.kind(), HandlerErrorKind::Reject, "{error:?}");
        let tuple = TableSink::new(Table::append("v", ["v"]), move |_, rows| rows.push(([value],)));
        place.apply(&tuple, &one_record()).await.unwrap();
    }
    let found = place.texts("SELECT string_agg(v::text, ' ') FROM v").await;
    assert_eq!(found, [Some("{NaN} {Infinity} {-Infinity}".to_owned())]);
}

/// What goes beyond microseconds is rounded, as in text.
#[tokio::test]
async fn nanoseconds_are_rounded() {
    use std::time::{Duration, SystemTime};
    let place = Place::new("CREATE TABLE v (t timestamptz, i interval)").await;
    let after = |nanos| SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos);
    let times =
        [after(1_501), after(1_500), after(2_500), SystemTime::UNIX_EPOCH - Duration::from_nanos(1_501)];
    let sink = TableSink::new(Table::append("v", ["t", "i"]), move |_, rows| {
        times.iter().try_for_each(|time| rows.push((*time, Duration::from_nanos(1_501))))
    });
    place.apply(&sink, &one_record()).await.unwrap();
    let found = place.texts("SELECT (extract(epoch FROM t) * 1000000)::int || ' ' || i FROM v").await;
    let expected = ["2", "2", "2", "-2"].map(|us| Some(format!("{us} 00:00:00.000002")));
    assert_eq!(found, expected);
}

#[tokio::test]
async fn bytes_come_as_the_table_says() {
    let place = Place::new("CREATE TABLE v (v bytea)").await;
    let bytes: Vec<u8> = (0..=255).chain([251, 255]).collect();
    let engines = [
        base64::engine::general_purpose::STANDARD,
        base64::engine::general_purpose::STANDARD_NO_PAD,
        base64::engine::general_purpose::URL_SAFE,
        base64::engine::general_purpose::URL_SAFE_NO_PAD,
    ];
    let texts: Vec<String> = engines.iter().map(|engine| engine.encode(&bytes)).collect();
    let base64 = || Table::append("v", ["v"]).bytea(Bytea::Base64);
    let sink = TableSink::new(base64(), move |_, rows| {
        for text in &texts {
            rows.push((text,))?;
            rows.push_json(format!("{{\"v\":\"{text}\"}}").as_bytes())?;
        }
        Ok(())
    });
    place.apply(&sink, &one_record()).await.unwrap();
    let found = place.database.query("SELECT v FROM v", &[]).await.unwrap();
    assert_eq!(found.len(), 8);
    assert!(found.iter().all(|row| row.get::<_, Vec<u8>>(0) == bytes));
    for text in ["-_+/", "A", "AB=C", "AA\nAA", "AB", " AAAA", "AAA=="] {
        let error = place.apply(&constant(base64(), vec![(text,)]), &one_record()).await.expect_err(text);
        assert_eq!(error.kind(), HandlerErrorKind::Reject, "{error:?}");
        assert!(error.to_string().contains("not bytes in base64"), "{error}");
    }
    place.database.execute("TRUNCATE v").await.unwrap();
    let text = constant(Table::append("v", ["v"]).bytea(Bytea::Utf8), vec![("\\xß\0",)]);
    place.apply(&text, &one_record()).await.unwrap();
    assert_eq!(place.texts("SELECT v::text FROM v").await, [Some("\\x5c78c39f00".to_owned())]);
    for raw in ["[256]", "[-1]", "[\"a\"]", "{}"] {
        let raw = RawValue::from_string(raw.to_owned()).unwrap();
        let sink = constant(Table::append("v", ["v"]), vec![(raw,)]);
        let error = place.apply(&sink, &one_record()).await.unwrap_err();
        assert_eq!(error.kind(), HandlerErrorKind::Reject, "{error:?}");
    }
}
