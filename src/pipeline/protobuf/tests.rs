use std::collections::HashMap;

use prost_reflect::prost::Message as _;
use prost_reflect::{DynamicMessage, MapKey, ReflectMessage as _, Value};

use super::Schema;

const ORDER: &str = r#"
    syntax = "proto3";
    package shop;
    import "google/protobuf/timestamp.proto";
    import "google/protobuf/duration.proto";
    import "google/protobuf/wrappers.proto";
    import "google/protobuf/struct.proto";
    message Order {
        string order_id = 1;
        int64 cents = 2;
        uint64 big = 3;
        optional string note = 4;
        bytes raw = 5;
        State state = 6;
        google.protobuf.Timestamp paid_at = 7;
        google.protobuf.Duration took = 8;
        google.protobuf.StringValue wrapped = 9;
        google.protobuf.Value any = 10;
        repeated Line lines = 11;
        map<string, int32> counts = 12;
        oneof payment { string card = 13; Line voucher = 14; }
        double rate = 15;
        enum State { NEW = 0; PAID = 1; }
        message Line { string sku = 1; sint32 n = 2; }
    }
    message Other { int32 x = 1; message Inner { int32 y = 1; } }
"#;

fn order() -> Schema {
    Schema::new(ORDER, HashMap::new()).unwrap()
}

fn json(schema: &Schema, message: &DynamicMessage) -> String {
    let mut out = Vec::new();
    schema.read(&[], &message.encode_to_vec(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn each_type_is_what_it_says() {
    let schema = order();
    let mut order = DynamicMessage::new(schema.message("shop.Order").unwrap());
    let part = |name: &str, fields: &[(u32, Value)]| {
        let kind = order.descriptor().get_field_by_name(name).unwrap().kind();
        let mut part = DynamicMessage::new(kind.as_message().unwrap().clone());
        for (number, value) in fields {
            part.set_field_by_number(*number, value.clone());
        }
        Value::Message(part)
    };
    let paid_at = part("paid_at", &[(1, Value::I64(1_790_000_000)), (2, Value::I32(123_456_789))]);
    let took = part("took", &[(1, Value::I64(90)), (2, Value::I32(500_000_000))]);
    let wrapped = part("wrapped", &[(1, Value::String("w".to_owned()))]);
    let any = part("any", &[(2, Value::F64(0.5))]);
    let line = part("lines", &[(1, Value::String("s".to_owned())), (2, Value::I32(-3))]);
    for (name, value) in [
        ("order_id", Value::String("o\"1".to_owned())),
        ("cents", Value::I64(i64::MIN)),
        ("big", Value::U64(u64::MAX)),
        ("raw", Value::Bytes(vec![0, 255].into())),
        ("state", Value::EnumNumber(1)),
        ("paid_at", paid_at),
        ("took", took),
        ("wrapped", wrapped),
        ("any", any),
        ("lines", Value::List(vec![line])),
        (
            "counts",
            Value::Map(
                [("b", 2), ("a", 1)].map(|(key, n)| (MapKey::String(key.to_owned()), Value::I32(n))).into(),
            ),
        ),
        ("card", Value::String("c".to_owned())),
        ("rate", Value::F64(f64::NAN)),
    ] {
        order.set_field_by_name(name, value);
    }
    let mut took = Vec::new();
    super::semantic::micro_duration(90_500_000, &mut took);
    let took = String::from_utf8(took).unwrap();
    // Without `note` and `voucher`, which are not there.
    let expected = format!(
        r#"{{"order_id":"o\"1","cents":-9223372036854775808,"big":18446744073709551615,"raw":"\\x00ff","state":"PAID","paid_at":"2026-09-21T14:13:20.123456Z","took":{took},"wrapped":"w","any":0.5,"lines":[{{"sku":"s","n":-3}}],"counts":{{"a":1,"b":2}},"card":"c","rate":"NaN"}}"#
    );
    assert_eq!(json(&schema, &order), expected);
}

#[test]
fn what_is_not_there_has_a_default_or_is_not_there() {
    let schema = order();
    let mut empty = DynamicMessage::new(schema.message("Order").unwrap());
    let expected =
        r#"{"order_id":"","cents":0,"big":0,"raw":"\\x","state":"NEW","lines":[],"counts":{},"rate":0.0}"#;
    let normal = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(normal(&json(&schema, &empty)), normal(expected));
    // A state of a newer schema; a field with presence that is there, and is its default.
    empty.set_field_by_name("state", Value::EnumNumber(9));
    empty.set_field_by_name("note", Value::String(String::new()));
    let found = normal(&json(&schema, &empty));
    assert_eq!((&found["state"], &found["note"]), (&serde_json::json!(9), &serde_json::json!("")));
}

#[test]
fn messages_are_found_by_their_numbers() {
    let schema = order();
    let read = |indexes: &[usize], bytes: &[u8]| {
        let mut out = Vec::new();
        schema.read(indexes, bytes, &mut out).map(|()| String::from_utf8(out).unwrap())
    };
    assert_eq!(read(&[1], b"\x08\x07").as_deref(), Ok(r#"{"x":7}"#));
    assert_eq!(read(&[1, 0], b"\x08\x07").as_deref(), Ok(r#"{"y":7}"#));
    // The map's entry does not count.
    assert_eq!(read(&[0, 0], b"\x0a\x01s").as_deref(), Ok(r#"{"sku":"s","n":0}"#));
    assert!(read(&[0, 1], b"").unwrap_err().contains("does not have"));
    assert!(read(&[7], b"").unwrap_err().contains("does not have"));
    assert!(read(&[1], b"\x08").unwrap_err().contains("not of its Protobuf schema"));
    assert!(schema.message("Nobody").is_err());
}

#[test]
fn files_that_are_imported_come_from_the_registry() {
    let text = r#"syntax = "proto3"; import "shop/line.proto"; message Order { shop.Line line = 1; }"#;
    let line = r#"syntax = "proto3"; package shop; message Line { int32 n = 1; }"#;
    let schema = Schema::new(text, HashMap::from([("shop/line.proto".to_owned(), line.to_owned())])).unwrap();
    let mut out = Vec::new();
    schema.read(&[], b"\x0a\x02\x08\x05", &mut out).unwrap();
    assert_eq!(out, br#"{"line":{"n":5}}"#);
    assert!(Schema::new(text, HashMap::new()).unwrap_err().contains("line.proto"));
    for wrong in ["", "message", "syntax = \"proto3\";", "syntax = \"proto3\"; message A { B b = 1; }"] {
        assert!(Schema::new(wrong, HashMap::new()).is_err(), "{wrong:?}");
    }
}

#[test]
fn fields_are_columns() {
    assert!(order().only().is_none(), "which of its messages a record is, the record says");
    let fields = crate::pipeline::shape::of_message(&order().message("Order").unwrap(), None);
    let text = |field: &crate::pipeline::shape::Field| {
        format!("{} {}{}", field.name, field.sql_type, if field.not_null { " NOT NULL" } else { "" })
    };
    let columns = "order_id text NOT NULL, cents bigint NOT NULL, big numeric(20) NOT NULL, note text, raw bytea NOT NULL, \
                   state text NOT NULL, paid_at timestamptz, took interval, wrapped text, any jsonb, lines jsonb NOT NULL, \
                   counts jsonb NOT NULL, card text, voucher jsonb, rate double precision NOT NULL";
    assert_eq!(fields.iter().map(text).collect::<Vec<_>>().join(", "), columns);
}

#[test]
fn fields_of_messages_are_columns_where_they_are_flattened() {
    let text = r#"syntax = "proto3"; import "google/protobuf/timestamp.proto";
        message T { int32 id = 1; Who who = 2; repeated Who all = 3; map<string, Who> by = 4; T next = 5;
            google.protobuf.Timestamp at = 6; }
        message Who { string name = 1; optional string zip = 2; T of = 3; }"#;
    let schema = Schema::new(text, HashMap::new()).unwrap();
    let fields = crate::pipeline::shape::of_message(&schema.message("T").unwrap(), Some("."));
    let text = |field: &crate::pipeline::shape::Field| {
        format!(
            "{} {} {}{}",
            field.name,
            field.path,
            field.sql_type,
            if field.not_null { " NOT NULL" } else { "" }
        )
    };
    let columns = "id value.id integer NOT NULL, who.name value.who.name text, who.zip value.who.zip text, \
                   who.of value.who.of jsonb, all value.all jsonb NOT NULL, by value.by jsonb NOT NULL, next value.next jsonb, \
                   at value.at timestamptz";
    assert_eq!(fields.iter().map(text).collect::<Vec<_>>().join(", "), columns);
}

#[test]
fn nesting_is_bounded() {
    let text = r#"syntax = "proto3"; message T { T t = 1; }"#;
    let schema = Schema::new(text, HashMap::new()).unwrap();
    let mut bytes = Vec::new();
    for _ in 0..2_000 {
        let mut length = bytes.len();
        let mut head = vec![0x0a];
        while length >= 0x80 {
            head.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
            length >>= 7;
        }
        head.push(u8::try_from(length).unwrap());
        bytes.splice(0..0, head);
    }
    assert!(schema.read(&[], &bytes, &mut Vec::new()).is_err());
}

crate::fuzz::fuzz!(
    /// Bytes of nobody: an error, or JSON.
    any_bytes_are_protobuf_or_refused,
    &["\u{0a}\u{01}s", "\u{10}\u{01}", "\u{08}", "\u{3a}\u{02}\u{08}\u{01}", "\u{5a}\u{00}", "\u{62}", "\u{52}\u{02}\u{2a}\u{00}"],
    |bytes| {
        static SCHEMA: std::sync::LazyLock<Schema> = std::sync::LazyLock::new(order);
        let mut out = Vec::new();
        if SCHEMA.read(&[], bytes, &mut out).is_ok() {
            serde_json::from_slice::<serde_json::Value>(&out).unwrap();
        }
        same(&SCHEMA, bytes);
    }
);

/// A message without a tree of its values is the same message; gives what it is, if the fast way took it.
fn same(schema: &Schema, bytes: &[u8]) -> Option<String> {
    let (mut fast, mut slow) = (Vec::new(), Vec::new());
    schema.first.flat.as_ref()?.write(bytes, &mut fast)?;
    super::read(&schema.first.descriptor, bytes, &mut slow).unwrap();
    assert_eq!(String::from_utf8(fast), String::from_utf8(slow.clone()));
    String::from_utf8(slow).ok()
}

/// All plain types, with presence and without; and what is not plain between them.
const PLAIN: &str = r#"
    syntax = "proto3";
    message Plain {
        double d = 1; float f = 2; int32 i = 3; int64 l = 4; uint32 u = 5; uint64 ul = 6; sint32 si = 7; sint64 sl = 8;
        fixed32 fi = 9; fixed64 fl = 10; sfixed32 sfi = 11; sfixed64 sfl = 12; bool b = 13; string s = 14; bytes y = 15;
        E e = 16; optional string os = 17; optional int32 oi = 1000;
        repeated int32 many = 18; Plain inner = 19; oneof one { string x = 20; int32 z = 21; }
        enum E { NONE = 0; SOME = 7; }
    }
"#;

#[test]
fn plain_fields_are_read_without_a_tree() {
    let schema = Schema::new(PLAIN, HashMap::new()).unwrap();
    let mut message = DynamicMessage::new(schema.first.descriptor.clone());
    let defaults = same(&schema, b"").unwrap();
    assert!(defaults.starts_with(r#"{"d":0.0,"f":0.0,"i":0,"#) && !defaults.contains("oi"), "{defaults}");
    for (name, value) in [
        ("d", Value::F64(-0.1)),
        ("f", Value::F32(f32::INFINITY)),
        ("i", Value::I32(-1)),
        ("l", Value::I64(i64::MIN)),
        ("u", Value::U32(u32::MAX)),
        ("ul", Value::U64(u64::MAX)),
        ("si", Value::I32(i32::MIN)),
        ("sl", Value::I64(i64::MIN + 1)),
        ("fi", Value::U32(5)),
        ("fl", Value::U64(6)),
        ("sfi", Value::I32(-7)),
        ("sfl", Value::I64(-8)),
        ("b", Value::Bool(true)),
        ("s", Value::String("a\"b\u{1}é".to_owned())),
        ("y", Value::Bytes(vec![0, 255].into())),
        ("e", Value::EnumNumber(7)),
        ("os", Value::String(String::new())),
        ("oi", Value::I32(0)),
        ("many", Value::List(vec![Value::I32(1), Value::I32(-2)])),
        ("z", Value::I32(3)),
    ] {
        message.set_field_by_name(name, value);
        assert!(same(&schema, &message.encode_to_vec()).is_some(), "{name}");
    }
    let mut outer = message.clone();
    outer.set_field_by_name("inner", Value::Message(message.clone()));
    outer.set_field_by_name("e", Value::EnumNumber(8));
    let all = same(&schema, &outer.encode_to_vec()).unwrap();
    for part in [
        r#""d":-0.1,"f":"Infinity","i":-1,"l":-9223372036854775808,"u":4294967295,"ul":18446744073709551615,"#,
        r#""si":-2147483648,"sl":-9223372036854775807,"fi":5,"fl":6,"sfi":-7,"sfl":-8,"b":true,"#,
        r#""y":"\\x00ff","e":8,"os":"","many":[1,-2],"inner":{"d":-0.1,"#,
        r#""z":3,"oi":0}"#,
    ] {
        assert!(all.contains(part), "{part}: {all}");
    }
    // A newer schema's fields, and varints that are longer than they need to be.
    assert!(same(&schema, b"\xa8\x46\x01\xb2\x46\x01x\x18\x85\x80\x00").unwrap().contains("\"i\":5"));
    // Of those that exclude each other, the last one.
    let last = same(&schema, b"\xa2\x01\x01a\xa8\x01\x05").unwrap();
    assert!(last.contains("\"z\":5") && !last.contains("\"x\""), "{last}");
    for (bytes, why) in [
        (&b"\x18\x01\x18\x02"[..], "twice"),
        (b"\x18", "cut off"),
        (b"\x72\x02a", "cut off, too"),
        (b"\x72\x01\xff", "no text"),
        (b"\x1a\x01\x01", "of another wire type"),
        (b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", "more than 64 bits"),
        (b"\x00\x00", "no field"),
        (b"\x1b\x1c", "a group"),
        (b"\xf8\xff\xff\xff\xff\x01\x00", "a number of more than 32 bits"),
    ] {
        assert_eq!(same(&schema, bytes), None, "{why}");
    }
}

crate::fuzz::fuzz!(
    /// Bytes that are nearly a message of plain fields.
    any_bytes_are_the_same_with_a_tree_and_without,
    &[
        "\u{08}", "\u{18}\u{01}", "\u{18}", "\u{38}\u{03}", "\u{72}\u{01}s", "\u{72}", "\u{7a}\u{00}", "\u{68}\u{02}", "\u{4d}abcd",
        "\u{51}abcdefgh", "\u{12}", "\u{7f}", "é", "\u{10}",
    ],
    |bytes| {
        static SCHEMA: std::sync::LazyLock<Schema> =
            std::sync::LazyLock::new(|| Schema::new(PLAIN, HashMap::new()).unwrap());
        same(&SCHEMA, bytes);
    }
);

crate::fuzz::fuzz!(
    /// Texts of nobody: an error, or a schema.
    any_text_is_a_protobuf_file_or_refused,
    &[
        "syntax = \"proto3\";", "message A {", "}", "int32", " a = 1;", "repeated ", "map<string, A>", "enum E {", "X = 0;",
        "oneof o {", "import \"google/protobuf/any.proto\";", "package p;", "optional ", "A.B", "reserved 1 to max;",
    ],
    |bytes| {
        let _ = Schema::new(&String::from_utf8_lossy(bytes), HashMap::new());
    }
);
