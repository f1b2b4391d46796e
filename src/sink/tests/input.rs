//! Types that we cannot encode: their text, for the server's input functions.

use bytes::BytesMut;
use tokio_postgres::types::Type;

use super::*;
use crate::HandlerErrorKind;
use crate::sink::target::{Conversion, Defect, Kind, Target};
use crate::sink::{Sql, ToColumn, array, json};

fn input(ty: Type) -> Target {
    let target = Target::new(ty, Conversion::default());
    assert_eq!(target.kind, Kind::Input, "{}", target.ty);
    target
}

fn text_of(value: &dyn ToColumn, target: &Target) -> Result<String, Defect> {
    let mut out = BytesMut::new();
    value.put(target, &mut out)?;
    Ok(String::from_utf8(out.to_vec()).expect("text"))
}

fn text_of_json(raw: &str, target: &Target) -> Result<String, Defect> {
    let mut out = BytesMut::new();
    json::put(raw, target, &mut out)?;
    Ok(String::from_utf8(out.to_vec()).expect("text"))
}

/// Types that we cannot encode take the text that their input functions read.
#[test]
fn what_has_no_encoder_is_text() {
    for ty in [
        Type::INT4_RANGE,
        Type::TS_VECTOR,
        Type::TIMETZ,
        Type::MONEY,
        Type::POINT,
        Type::VARBIT,
        Type::MACADDR,
    ] {
        let target = input(ty);
        for (value, text) in [
            (&"[1,5)" as &dyn ToColumn, "[1,5)"),
            (&String::from("(1,2)"), "(1,2)"),
            (&b"10:00+02", "10:00+02"),
            (&7_i64, "7"),
            (&u128::MAX, "340282366920938463463374607431768211455"),
            (&1.5_f64, "1.5"),
            (&1e300_f64, "1e+300"),
            (&0.1_f32, "0.1"),
            (&true, "true"),
        ] {
            assert_eq!(text_of(value, &target).as_deref(), Ok(text));
        }
        for (raw, text) in [
            ("\"a \\u00e9\"", "a é"),
            ("12.50", "12.50"),
            ("false", "false"),
            ("[1, 2.50]", "[1, 2.50]"),
            ("{\"type\": \"Point\"}", "{\"type\": \"Point\"}"),
        ] {
            assert_eq!(text_of_json(raw, &target).as_deref(), Ok(text));
        }
        assert_eq!(text_of(&"a\0b", &target), Err(Defect::Nul));
        assert!(matches!(text_of(&Sql(7_i64), &target), Err(Defect::Binary(_))));
        assert!(matches!(text_of(&Uuid::nil(), &target), Err(Defect::Mismatch("Uuid"))));
    }
    let array = input(Type::INT4_RANGE_ARRAY);
    assert_eq!(text_of(&"{\"[1,5)\"}", &array).as_deref(), Ok("{\"[1,5)\"}"));
    assert_eq!(text_of(&vec![Some("[1,5)"), None], &array).as_deref(), Ok("{\"[1,5)\",NULL}"));
    assert_eq!(
        text_of_json("[\"[1,5)\", null, \"a\\\"\\\\\"]", &array).as_deref(),
        Ok(r#"{"[1,5)",NULL,"a\"\\"}"#)
    );
    assert_eq!(text_of_json("[]", &array).as_deref(), Ok("{}"));
    let boxes = input(Type::BOX_ARRAY);
    let two = ["(1,1),(0,0)", "(2,2),(0,0)"];
    assert_eq!(text_of(&two, &boxes).as_deref(), Ok("{\"(1,1),(0,0)\";\"(2,2),(0,0)\"}"));
    let none: [&str; 0] = [];
    assert!(array::put(none.iter(), &input(Type::OID), &mut BytesMut::new()).is_err());
}

/// What is written as text is what the server's input function makes of the literal.
#[tokio::test]
async fn text_for_input_functions_is_what_they_read() {
    let place = Place::new("CREATE TYPE pair AS (a int, b text)").await;
    for (ty, sql_type, literal, json) in [
        (Type::INT4_RANGE, "int4range", "[1,5)", "\"[1,5)\""),
        (Type::TS_VECTOR, "tsvector", "'a':1 'b':2", "\"'a':1 'b':2\""),
        (Type::TIMETZ, "timetz", "10:00:00+02", "\"10:00+02\""),
        (Type::MONEY, "money", "12.50", "12.50"),
        (Type::POINT, "point", "(1,2)", "\"1,2\""),
        (Type::VARBIT, "varbit", "101", "\"101\""),
        (Type::VARBIT, "varbit", "101", "101"),
        (Type::MACADDR, "macaddr", "08:00:2b:01:02:03", "\"08002b010203\""),
        (Type::PG_LSN, "pg_lsn", "16/B374D848", "\"16/B374D848\""),
        (Type::OID, "oid", "4294967295", "4294967295"),
        (Type::RECORD, "pair", "(1,\"a b\")", "\"(1,\\\"a b\\\")\""),
        (Type::INT4_RANGE_ARRAY, "int4range[]", "{\"[1,5)\",NULL,empty}", "[\"[1,5)\",null,\"empty\"]"),
        (Type::BOX_ARRAY, "box[]", "{(1,1),(0,0);(2,2),(0,0)}", "[\"(1,1),(0,0)\",\"(2,2),(0,0)\"]"),
        (Type::OID_ARRAY, "oid[]", "{1,2}", "[1,2]"),
    ] {
        let target = input(ty);
        for text in [text_of(&literal, &target).unwrap(), text_of_json(json, &target).unwrap()] {
            let sql = format!("SELECT ($t${text}$t$::{sql_type})::text");
            let expected = format!("SELECT ($t${literal}$t$::{sql_type})::text");
            assert_eq!(place.texts(&sql).await, place.texts(&expected).await, "{sql_type}: {json}");
        }
    }
}

/// Each with two values, and with text that it does not read.
const TYPES: [(&str, [&str; 2], &str); 19] = [
    ("int4range", ["[1,5)", "(,9]"], "none"),
    ("tsvector", ["'a':1 'b':2", "x"], "'"),
    ("timetz", ["10:00+02", "23:59:59.5-08"], "25:00"),
    ("point", ["(1,2)", "3,4"], "(1"),
    ("varbit", ["101", ""], "12"),
    ("bit(3)", ["101", "000"], "1011"),
    ("macaddr", ["08:00:2b:01:02:03", "08-00-2B-01-02-04"], "zz"),
    ("pg_lsn", ["16/B374D848", "0/0"], "16 B3"),
    ("xml", ["<a>1</a>", "<b/>"], "<a>"),
    ("int4range[]", ["{\"[1,5)\",\"[2,3)\"}", "{}"], "{"),
    ("span", ["[1,3)", "[2,9)"], "[5,1]"),
    ("oid", ["1234", "0"], "minus"),
    ("tsquery", ["'a' & 'b'", "x"], "'a' &"),
    ("jsonpath", ["$.a", "strict $[*]"], "$.."),
    ("regclass", ["pg_class", "pg_type"], "nowhere"),
    ("regtype", ["integer", "text"], "nothing"),
    ("regclass[]", ["{pg_class}", "{}"], "{nowhere}"),
    ("ltree", ["a.b", "c"], "a..b"),
    ("hstore", ["a=>1", ""], "a=>"),
];

/// Through all modes, as a whole batch and row by row, and as a key that is spelled in two ways.
#[tokio::test]
async fn the_server_reads_what_has_no_encoder() {
    let place = Place::new(
        "CREATE DOMAIN span AS int4range CHECK (NOT isempty(value)); CREATE EXTENSION ltree; CREATE EXTENSION hstore",
    )
    .await;
    for (at, (sql_type, [one, two], bad)) in TYPES.into_iter().enumerate() {
        // Row by row: the cast is the same for all.
        for trigger in [false, true].into_iter().take(if at < 2 { 2 } else { 1 }) {
            let mut create = format!(
                "DROP TABLE IF EXISTS v; DROP FUNCTION IF EXISTS nothing; CREATE TABLE v (id int PRIMARY KEY, v {sql_type}); \
                 CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
            );
            if trigger {
                create += "CREATE TRIGGER nothing AFTER INSERT ON v FOR EACH ROW EXECUTE FUNCTION nothing()";
            }
            place.database.execute(&create).await.expect(sql_type);
            let tables: [fn(&'static str, [&'static str; 2]) -> Table; 3] =
                [Table::append, Table::insert_ignore, Table::upsert];
            for table in tables {
                place.database.execute("DELETE FROM v").await.unwrap();
                let sink = TableSink::json(table("v", ["id", "v"]));
                let rows = [(1, one), (2, two), (3, "")].map(|(id, text)| match id {
                    3 => r#"{"id":3,"v":null}"#.to_owned(),
                    _ => serde_json::json!({"id": id, "v": text}).to_string(),
                });
                let rows: Vec<_> = rows.iter().map(|row| (None, Some(row.as_str()))).collect();
                place
                    .apply(&sink, &batch(&rows))
                    .await
                    .unwrap_or_else(|error| panic!("{sql_type}: {error:?}"));
                let found = place.texts("SELECT v::text FROM v ORDER BY id").await;
                for (found, text) in found.iter().zip([one, two]) {
                    let literal = format!("SELECT ($q${text}$q$::{sql_type})::text");
                    assert_eq!(*found, place.texts(&literal).await.remove(0), "{sql_type} {text}");
                }
                assert_eq!(found.len(), 3);
                let row = serde_json::json!({"id": 4, "v": bad}).to_string();
                let bad_batch = batch(&[(None, Some(row.as_str()))]);
                let mut error = place.apply(&sink, &bad_batch).await.expect_err(sql_type);
                if error.kind() == HandlerErrorKind::Retry {
                    // What might be a table's fault is looked at once more.
                    error = place.apply(&sink, &bad_batch).await.expect_err(sql_type);
                }
                assert!(
                    error.sqlstate().is_some() && !error.to_string().contains(bad),
                    "{sql_type}: {error}"
                );
                assert_eq!(error.kind(), HandlerErrorKind::Reject, "{sql_type}: {error}");
            }
        }
    }
}

/// What a text may answer, a table may, too: then nobody's text is to blame.
#[tokio::test]
async fn what_is_the_tables_fault_is_no_records() {
    for code in ["42601", "42P01", "3F000", "XX000"] {
        let place = Place::new(&format!(
            "CREATE TABLE v (id int PRIMARY KEY, v tsvector); \
             CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ \
             BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$; \
             CREATE TRIGGER refuse BEFORE INSERT ON v FOR EACH ROW EXECUTE FUNCTION refuse()"
        ))
        .await;
        let sink = TableSink::json(Table::append("v", ["id", "v"]));
        for _ in 0..4 {
            let rows = [(None, Some(r#"{"id":1,"v":"a"}"#)), (None, Some(r#"{"id":2,"v":"b"}"#))];
            for rows in [&rows[..], &rows[..1]] {
                let error = place.apply(&sink, &batch(rows)).await.unwrap_err();
                assert_ne!(error.kind(), HandlerErrorKind::Reject, "{code}: {error}");
                assert_eq!(error.sqlstate(), Some(code), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn a_key_that_the_server_reads_is_compared_by_it() {
    let place = Place::new("CREATE TABLE v (id macaddr PRIMARY KEY, n int)").await;
    let sink = TableSink::new(Table::upsert("v", ["id", "n"]), |record, rows| match record.value() {
        Some(value) => rows.push((record.key(), String::from_utf8_lossy(value).parse::<i32>().ok())),
        None => rows.delete((record.key(),)),
    });
    let records = [
        (Some("08:00:2b:01:02:03"), Some("1")),
        (Some("08-00-2B-01-02-03"), Some("2")),
        (Some("08:00:2b:01:02:04"), Some("3")),
    ];
    place.apply(&sink, &batch(&records)).await.unwrap();
    let rows = "SELECT id || ' ' || n FROM v ORDER BY id";
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(place.texts(rows).await, [text("08:00:2b:01:02:03 2"), text("08:00:2b:01:02:04 3")]);
    place.apply(&sink, &batch(&[(Some("0800.2b01.0203"), None)])).await.unwrap();
    assert_eq!(place.texts(rows).await, [text("08:00:2b:01:02:04 3")]);
}
