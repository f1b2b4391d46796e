//! Types that we cannot encode: their text, for the server's input functions.

use bytes::BytesMut;
use tokio_postgres::types::Type;

use super::*;
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
