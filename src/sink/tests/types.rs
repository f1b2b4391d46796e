//! What we encode is what the server makes of the literal.

use std::time::{Duration, SystemTime};

use super::*;
use crate::HandlerErrorKind;
use crate::sink::{Json, Nul, Sql, ToColumn};
use serde_json::value::RawValue;

/// Writes `value` into a column of this type, and gives what the server makes of it.
async fn written(
    place: &Place,
    sql_type: &str,
    value: impl ToColumn + Clone + Send + Sync + 'static,
) -> Option<String> {
    all_written(place, sql_type, vec![value]).await.remove(0)
}

async fn all_written(
    place: &Place,
    sql_type: &str,
    values: Vec<impl ToColumn + Clone + Send + Sync + 'static>,
) -> Vec<Option<String>> {
    let create = format!("DROP TABLE IF EXISTS v; CREATE TABLE v (n int, v {sql_type})");
    place.database.execute(&create).await.expect(sql_type);
    let rows: Vec<_> = (0_i32..).zip(values).collect();
    let sink = constant(Table::append("v", ["n", "v"]), rows);
    place.apply(&sink, &one_record()).await.unwrap_or_else(|error| panic!("{sql_type}: {error:?}"));
    place.texts("SELECT v::text FROM v ORDER BY n").await
}

/// What the server makes of text, or JSON's, as a literal of this type.
async fn literal(place: &Place, sql_type: &str, text: &str) -> Option<String> {
    place.texts(&format!("SELECT ($q${text}$q$::{sql_type})::text")).await.remove(0)
}

/// Writes `value`; it must be what the literal `text` is.
async fn same(
    place: &Place,
    sql_type: &str,
    value: impl ToColumn + Clone + Send + Sync + 'static,
    text: &str,
) {
    assert_eq!(
        written(place, sql_type, value).await,
        literal(place, sql_type, text).await,
        "{sql_type} {text}"
    );
}

#[tokio::test]
async fn every_type_is_what_its_literal_is() {
    let place = Place::new(
        "CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE DOMAIN cents AS bigint CHECK (value >= 0)",
    )
    .await;
    let p = &place;
    same(p, "boolean", true, "true").await;
    same(p, "smallint", -32_768_i64, "-32768").await;
    same(p, "integer", 2_147_483_647_i32, "2147483647").await;
    same(p, "bigint", i64::MIN, "-9223372036854775808").await;
    same(p, "bigint", 7_u32, "7").await;
    same(p, "numeric", u64::MAX, "18446744073709551615").await;
    same(p, "cents", 12_i64, "12").await;
    same(p, "real", 1.1_f32, "1.1").await;
    same(p, "double precision", -1.1e-300_f64, "-1.1e-300").await;
    same(p, "double precision", 9_007_199_254_740_992_i64, "9007199254740992").await;
    same(p, "numeric", 0.1_f64, "0.1").await;
    same(p, "numeric", f64::NEG_INFINITY, "-Infinity").await;
    same(p, "numeric", f64::NAN, "NaN").await;
    same(p, "numeric(10,2)", "1234.565", "1234.565").await;
    same(p, "text", "grüße", "grüße").await;
    same(p, "varchar(3)", "abc", "abc").await;
    same(p, "char(5)", String::from("ab"), "ab").await;
    same(p, "name", "n", "n").await;
    same(p, "mood", "glad", "glad").await;
    same(p, "bytea", vec![0_u8, 255], "\\x00ff").await;
    same(p, "text", b"bytes".to_vec(), "bytes").await;
    same(p, "jsonb", br#"{"a": 1.50}"#.to_vec(), r#"{"a": 1.50}"#).await;
    same(p, "uuid", Uuid::from_u128(7), "00000000-0000-0000-0000-000000000007").await;
    same(p, "uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11").await;
    same(p, "inet", "192.0.2.1/24", "192.0.2.1/24").await;
    same(p, "inet", "2001:db8::1".parse::<std::net::IpAddr>().unwrap(), "2001:db8::1").await;
    same(p, "cidr", "10.0.0.0/8", "10.0.0.0/8").await;
    same(p, "json", "{\"a\":  1}", "{\"a\":  1}").await;
    same(p, "jsonb", serde_json::json!({"a": [1, null]}), "{\"a\": [1, null]}").await;
    same(p, "jsonb", Json([1, 2]), "[1, 2]").await;
    same(
        p,
        "timestamptz",
        SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456),
        "2023-11-14T22:13:20.123456Z",
    )
    .await;
    same(p, "timestamp", SystemTime::UNIX_EPOCH - Duration::from_secs(1), "1969-12-31 23:59:59").await;
    same(p, "timestamptz", 1_700_000_000_123_i64, "2023-11-14T22:13:20.123Z").await;
    same(p, "interval", Duration::from_millis(90_061_001), "25:01:01.001").await;
    same(p, "text[]", vec![Some("a"), None, Some("{\"")], r#"{a,NULL,"{\""}"#).await;
    same(p, "bigint[]", Vec::<i64>::new(), "{}").await;
    same(p, "numeric[]", vec!["1.50", "-2"], "{1.50,-2}").await;
    same(p, "mood[]", vec!["sad"], "{sad}").await;
    assert_eq!(written(p, "text", None::<&str>).await, None);
    assert_eq!(written(p, "text[]", None::<Vec<&str>>).await, None);
}

/// What only the driver knows goes through `Sql`.
#[tokio::test]
async fn other_types_go_through_the_driver() {
    let place = Place::new("CREATE TABLE bits (b oid, r bigint)").await;
    let bits = || Table::append("bits", ["b", "r"]).binary("b");
    let sink = constant(bits(), vec![(Sql(7_u32), Sql(Some(8_i64)))]);
    place.apply(&sink, &one_record()).await.unwrap();
    assert_eq!(place.texts("SELECT b::text || r FROM bits").await, [Some("78".to_owned())]);
    let sink = constant(bits(), vec![(Sql("seven"), Sql(Some(8_i64)))]);
    let error = place.apply(&sink, &one_record()).await.unwrap_err();
    assert_eq!(error.kind(), HandlerErrorKind::Fatal);
    let text = error.to_string();
    assert!(text.contains("table bits, column b: the SQL type is oid") && text.contains("&str"), "{text}");
    let unnamed = constant(Table::append("bits", ["b", "r"]), vec![(Sql(7_u32), Sql(Some(8_i64)))]);
    let error = place.apply(&unnamed, &one_record()).await.unwrap_err();
    assert_eq!(error.kind(), HandlerErrorKind::Fatal);
    assert!(
        error.to_string().contains("table bits, column b") && error.to_string().contains("Table::binary"),
        "{error}"
    );
}

/// Many texts at once: ours must be what the server reads in them.
async fn all_same(sql_type: &str, texts: Vec<String>) {
    let place = Place::new("SELECT 1").await;
    let sql = format!(
        "SELECT (v::{sql_type})::text FROM unnest($1::text[]) WITH ORDINALITY AS u (v, n) ORDER BY n"
    );
    let expected =
        place.database.query(&sql, &[&texts]).await.unwrap_or_else(|error| panic!("{sql_type}: {error:?}"));
    let found = all_written(&place, sql_type, texts.clone()).await;
    assert_eq!(found.len(), texts.len());
    for ((text, found), expected) in texts.iter().zip(found).zip(expected) {
        assert_eq!(found, expected.get(0), "{sql_type}: {text}");
    }
}

#[tokio::test]
async fn numerics_are_read_as_the_server_reads_them() {
    let mut random = fastrand::Rng::with_seed(6);
    let mut digits = |most: usize| -> String {
        let length = random.usize(..=most);
        let zeros = random.bool();
        let digit = |_| if zeros && random.u8(..3) > 0 { '0' } else { random.digit(10) };
        (0..length).map(digit).collect()
    };
    let mut texts: Vec<String> = (0..3_000)
        .map(|n| {
            let (integer, fraction) = (digits(1 + n % 40), digits(n % 30));
            let sign = ["", "-", "+"][n % 3];
            let number = match (integer.as_str(), fraction.as_str()) {
                ("", "") => "0".to_owned(),
                (integer, "") if n % 2 == 0 => format!("{integer}."),
                (integer, "") => integer.to_owned(),
                (integer, fraction) => format!("{integer}.{fraction}"),
            };
            match n % 5 {
                0 => format!("{sign}{number}e{}", n % 90),
                1 => format!("{sign}{number}E-{}", n % 90),
                _ => format!("{sign}{number}"),
            }
        })
        .collect();
    let edges = [
        "0",
        "-0.000",
        "10000",
        "9999",
        "0.0001",
        "0.00001",
        "100000000",
        "1e131071",
        "NaN",
        "inf",
        "-Infinity",
    ];
    texts.extend(edges.map(str::to_owned));
    texts.push(format!("0.{}1", "0".repeat(16_382)));
    texts.push("9".repeat(131_072));
    all_same("numeric", texts).await;
}

#[tokio::test]
async fn numerics_that_are_none_reject_their_record() {
    let place = Place::new("CREATE TABLE v (v numeric)").await;
    for text in
        ["", "-", ".", "1e", "1e+", "1.2.3", "0x1", "1e999999999999", "1e200000", "--1", "1,5", "nan1"]
    {
        let sink = constant(Table::append("v", ["v"]), vec![(text,)]);
        let error = place.apply(&sink, &one_record()).await.expect_err(text);
        assert_eq!(error.kind(), HandlerErrorKind::Reject, "{text}: {error:?}");
        assert_eq!(error.record().map(|record| record.offset), Some(100));
        assert!(!error.to_string().contains("1e2"), "never the value: {error}");
    }
}

fn random_dates(count: usize) -> Vec<String> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut dates: Vec<String> = (0..count)
        .map(|_| format!("{:04}-{:02}-{:02}", random.u16(1..=9999), random.u8(1..=12), random.u8(1..=28)))
        .collect();
    dates.extend(["2000-02-29", "1900-02-28", "0001-01-01", "9999-12-31", "1999-12-31"].map(str::to_owned));
    dates
}

#[tokio::test]
async fn dates_and_times_are_read_as_the_server_reads_them() {
    let mut dates = random_dates(500);
    dates.extend(["infinity", "-infinity"].map(str::to_owned));
    all_same("date", dates).await;

    let mut random = fastrand::Rng::with_seed(8);
    let mut time = move || {
        let whole = format!("{:02}:{:02}:{:02}", random.u8(..24), random.u8(..60), random.u8(..60));
        match random.u8(..4) {
            0 => whole[..5].to_owned(),
            1 => whole,
            _ => format!("{whole}.{}", &format!("{:09}", random.u32(..1_000_000_000))[..random.usize(1..=9)]),
        }
    };
    let mut times: Vec<String> = (0..500).map(|_| time()).collect();
    times.extend(["24:00:00", "23:59:60", "23:59:59.9999999"].map(str::to_owned));
    all_same("time", times).await;

    let offsets = ["Z", "+00:00", "+02:00", "-11:30", "+05:45", "z", "-0800", "+14"];
    let stamps: Vec<String> = random_dates(800)
        .iter()
        .enumerate()
        .map(|(n, date)| format!("{date}{}{}{}", ["T", " "][n % 2], time(), offsets[n % offsets.len()]))
        .collect();
    all_same("timestamptz", stamps).await;
    let stamps = random_dates(300).iter().map(|date| format!("{date}T{}{}", time(), "")).collect();
    all_same("timestamp", stamps).await;
    let spans = ["P1Y2M3DT4H5M6.789S", "PT0.000001S", "P2W", "P1M", "PT36H", "P0D"].map(str::to_owned);
    all_same("interval", spans.into()).await;
}

#[tokio::test]
async fn times_that_would_have_to_be_guessed_reject_their_record() {
    let place = Place::new("CREATE TABLE v (z timestamptz, l timestamp, d date, t time, i interval)").await;
    for (column, text, why) in [
        ("z", "2026-11-25T10:00:00", "offset from UTC"),
        ("l", "2026-11-25T10:00:00+02:00", "which of the two"),
        ("z", "2026-02-30T10:00:00Z", "RFC 3339"),
        ("z", "2026-11-25", "RFC 3339"),
        ("z", "2026-11-25T10:00:00.Z", "RFC 3339"),
        ("d", "2026-13-01", "not a date"),
        ("d", "0000-01-01", "not a date"),
        ("d", "2026-11-25T10:00:00Z", "not a date"),
        ("t", "24:00:01", "not a time"),
        ("t", "10:60", "not a time"),
        ("i", "P", "not an interval"),
        ("i", "P1D2Y", "not an interval"),
        ("i", "-P5Y4M3D", "not an interval"),
        ("i", "P1.5Y", "no exact length"),
        ("i", "-1 day 02:00:00", "give every part its sign"),
    ] {
        let sink = constant(Table::append("v", [column]), vec![(text,)]);
        let error = place.apply(&sink, &one_record()).await.expect_err(text);
        assert_eq!(error.kind(), HandlerErrorKind::Reject, "{text}: {error:?}");
        assert!(error.to_string().contains(why), "{text}: {error}");
    }
}

#[tokio::test]
async fn json_values_become_what_their_columns_are() {
    let place = Place::new("CREATE TYPE mood AS ENUM ('sad', 'glad')").await;
    for (sql_type, json, text) in [
        ("bigint", "12", "12"),
        ("bigint", "\"12\"", "12"),
        ("smallint", "-3", "-3"),
        ("double precision", "1.5e3", "1500"),
        ("real", "0.1", "0.1"),
        ("numeric", "12345678901234567890.10", "12345678901234567890.10"),
        ("numeric", "\"0.10\"", "0.10"),
        ("boolean", "true", "true"),
        ("boolean", "\"false\"", "false"),
        ("text", "\"a\\u00e9\\n\"", "aé\n"),
        ("text", "7.50", "7.50"),
        ("mood", "\"sad\"", "sad"),
        ("bytea", "\"\\\\x00Ff\"", "\\x00ff"),
        ("uuid", "\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\"", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("timestamptz", "\"2026-11-25T10:00:00+02:00\"", "2026-11-25T08:00:00Z"),
        ("timestamptz", "1700000000123", "2023-11-14T22:13:20.123Z"),
        ("date", "\"2026-11-25\"", "2026-11-25"),
        ("jsonb", "{\"a\": [1, \"x\"]}", "{\"a\": [1, \"x\"]}"),
        ("jsonb", "\"x\"", "\"x\""),
        ("bigint[]", "[1, null, 3]", "{1,NULL,3}"),
        ("text[]", "[\"a\", \"b c\"]", "{a,b c}"),
        ("inet", "\"192.0.2.7\"", "192.0.2.7"),
    ] {
        let raw = RawValue::from_string(json.to_owned()).unwrap();
        assert_eq!(
            written(&place, sql_type, raw).await,
            literal(&place, sql_type, text).await,
            "{sql_type} {json}"
        );
    }
    let null = RawValue::from_string("null".to_owned()).unwrap();
    assert_eq!(written(&place, "jsonb", null).await, None);
    for (sql_type, json) in [
        ("bigint", "1.5"),
        ("bigint", "99999999999999999999"),
        ("smallint", "40000"),
        ("boolean", "1"),
        ("text", "{}"),
        ("text", "[1]"),
        ("bigint[]", "[[1]]"),
        ("bigint", "true"),
        ("real", "1e300"),
        ("double precision", "1e400"),
        ("date", "7"),
        ("bytea", "\"zz\""),
    ] {
        place
            .database
            .execute(&format!("DROP TABLE IF EXISTS v; CREATE TABLE v (v {sql_type})"))
            .await
            .unwrap();
        let raw = RawValue::from_string(json.to_owned()).unwrap();
        let error = place.apply(&constant(Table::append("v", ["v"]), vec![(raw,)]), &one_record()).await;
        let error = error.expect_err(json);
        assert_eq!(error.kind(), HandlerErrorKind::Reject, "{sql_type} {json}: {error:?}");
        assert!(error.to_string().contains(&format!("column v ({sql_type})")), "{error}");
    }
}

#[tokio::test]
async fn nul_is_rejected_stripped_or_bytes() {
    let place = Place::new("CREATE TABLE v (t text, j jsonb, b bytea)").await;
    let table = || Table::append("v", ["t", "j", "b"]);
    let escaped = r#"["a\u0000b", "\\u0000", "c\u00001"]"#;
    let rejected = |nul: Nul, row: (&'static str, &'static str, &'static [u8])| {
        let (place, sink) = (&place, constant(table().nul(nul), vec![row]));
        async move {
            let error = place.apply(&sink, &one_record()).await.unwrap_err();
            assert_eq!(error.kind(), HandlerErrorKind::Reject, "{error:?}");
            assert!(error.to_string().contains("U+0000"), "{error}");
        }
    };
    rejected(Nul::Reject, ("a\0b", "1", b"")).await;
    rejected(Nul::Reject, ("", escaped, b"")).await;
    rejected(Nul::Bytes, ("a\0b", "1", b"")).await;
    // Only an escape counts, and bytes may be anything.
    let harmless = ("", r#""\\u0000""#, b"\0".as_slice());
    place.apply(&constant(table(), vec![harmless]), &one_record()).await.unwrap();
    let stripped = ("\0a\0\0b", escaped, b"\0".as_slice());
    place.apply(&constant(table().nul(Nul::Strip), vec![stripped]), &one_record()).await.unwrap();
    let found = place.texts("SELECT t || j::text FROM v WHERE t <> ''").await;
    assert_eq!(found, [Some(r#"ab["ab", "\\u0000", "c1"]"#.to_owned())]);
    let bytes = constant(Table::append("v", ["b"]).nul(Nul::Bytes), vec![("x\0y",)]);
    place.apply(&bytes, &one_record()).await.unwrap();
    assert_eq!(place.texts("SELECT b::text FROM v WHERE t IS NULL").await, [Some("\\x780079".to_owned())]);
}
