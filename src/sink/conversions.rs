//! The table of conversions in docs/table-sink.md: which column takes what, through which door. The words are here; which
//! Rust types and which JSON go into a kind of column is asked of the code.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::target::{Conversion, Defect, Kind, Target};
use super::{Sql, ToColumn, json};

/// A line of the table: kinds of columns that take the same.
pub(crate) struct Line {
    pub(crate) kinds: &'static [Kind],
    /// As SQL spells them.
    types: &'static str,
    /// What a JSON number becomes; empty: it is rejected.
    number: &'static str,
    /// What text becomes, of Rust's or JSON's; empty: it is rejected.
    text: &'static str,
    notes: &'static str,
}

pub(crate) const LINES: &[Line] = &[
    Line {
        kinds: &[Kind::Bool],
        types: "`boolean`",
        number: "",
        text: "`true`, `yes`, `on`, `1`, `false`, `no`, `off`, `0`, and beginnings of a word that are no other's; in any case",
        notes: "of numbers, `2` would mean something in one place and nothing in another",
    },
    Line {
        kinds: &[Kind::Int2, Kind::Int4, Kind::Int8],
        types: "`smallint`, `integer`, `bigint`",
        number: "an integer in its range",
        text: "decimal digits, signed or not",
        notes: "`1.0`, `1e3`, `0x1F` and `1_000` are rejected",
    },
    Line {
        kinds: &[Kind::Float4, Kind::Float8],
        types: "`real`, `double precision`",
        number: "the nearest float",
        text: "the same; `Infinity`, `inf`, `NaN`",
        notes: "digits without point and exponent are an integer, which the float must hold exactly; too large, or so \
                small that nothing is left, is rejected; a Rust float is its shortest decimal, as `serde_json` writes it",
    },
    Line {
        kinds: &[Kind::Numeric],
        types: "`numeric`",
        number: "every digit as it came",
        text: "the same; `Infinity`, `inf`, `NaN`",
        notes: "`numeric(10,2)` rounds as it does a literal",
    },
    Line {
        kinds: &[Kind::Text],
        types: "`text`, `varchar`, `char(n)`, `name`, `citext`, enums",
        number: "its digits as they came",
        text: "as it is",
        notes: "U+0000: see `Table::nul`",
    },
    Line {
        kinds: &[Kind::Bytea],
        types: "`bytea`",
        number: "",
        text: "`\\x` and hexadecimal digits; with `Table::bytea`: base64, or the bytes of the text itself",
        notes: "a JSON array: numbers from 0 to 255, one per byte",
    },
    Line {
        kinds: &[Kind::Uuid],
        types: "`uuid`",
        number: "",
        text: "32 hexadecimal digits, in braces or not, a hyphen behind any four or none",
        notes: "",
    },
    Line {
        kinds: &[Kind::Date],
        types: "`date`",
        number: "",
        text: "`2026-11-25`; `infinity`, `-infinity`",
        notes: "no other order of day, month and year",
    },
    Line {
        kinds: &[Kind::Time],
        types: "`time`",
        number: "",
        text: "`23:59`, `23:59:59.5`",
        notes: "rounded to microseconds",
    },
    Line {
        kinds: &[Kind::Timestamptz],
        types: "`timestamptz`",
        number: "milliseconds since 1970-01-01T00:00:00Z",
        text: "RFC 3339, with its offset from UTC: `2026-11-25T23:59:59.5+01:00`; `infinity`, `-infinity`",
        notes: "text without an offset is rejected: no time zone is guessed",
    },
    Line {
        kinds: &[Kind::Timestamp],
        types: "`timestamp`",
        number: "milliseconds since 1970-01-01T00:00:00",
        text: "RFC 3339, without an offset, or `Z`; `infinity`, `-infinity`",
        notes: "another offset is rejected: which of the two times would be meant?",
    },
    Line {
        kinds: &[Kind::Interval],
        types: "`interval`",
        number: "",
        text: "ISO 8601: `P1Y2M3DT4H5M6.7S`, `PT-6H`, `P1.5D`; as Postgres prints it: `1 mon -2 days +02:00:00`",
        notes: "a sign before the `P`, and a fraction of a year or month, are rejected; \
                a Rust `Duration` is seconds",
    },
    Line {
        kinds: &[Kind::Inet, Kind::Cidr],
        types: "`inet`, `cidr`",
        number: "",
        text: "`192.0.2.1/24`, `2001:db8::1`",
        notes: "all four numbers of an IPv4 address",
    },
    Line {
        kinds: &[Kind::Json, Kind::Jsonb],
        types: "`json`, `jsonb`",
        number: "the number, every digit as it came",
        text: "of Rust: the JSON that it is; of JSON: that string",
        notes: "JSON's `null` is NULL",
    },
    Line {
        kinds: &[Kind::Array],
        types: "arrays of the above",
        number: "",
        text: "",
        notes: "one dimension; each element as a column of its type",
    },
    Line {
        kinds: &[Kind::Input],
        types: "all others: ranges, `hstore`, `vector`, `tsvector`, `xml`, `timetz`, `money`, `bit`, `macaddr`, `oid`, `pg_lsn`, \
                geometric ones, PostGIS', composite ones …; arrays of them",
        number: "its digits as they came",
        text: "what the type's input function reads, called by the server",
        notes: "of an array: the literal (`{…}`), or a JSON array or `Vec` of its elements",
    },
    Line {
        kinds: &[Kind::Other],
        types: "the same, named in `Table::binary`",
        number: "",
        text: "",
        notes: "what the driver can encode",
    },
];

/// A column of this kind.
pub(crate) fn target(kind: Kind) -> Target {
    let ty = match kind {
        Kind::Bool => Type::BOOL,
        Kind::Int2 => Type::INT2,
        Kind::Int4 => Type::INT4,
        Kind::Int8 => Type::INT8,
        Kind::Float4 => Type::FLOAT4,
        Kind::Float8 => Type::FLOAT8,
        Kind::Numeric => Type::NUMERIC,
        Kind::Text => Type::TEXT,
        Kind::Bytea => Type::BYTEA,
        Kind::Uuid => Type::UUID,
        Kind::Date => Type::DATE,
        Kind::Time => Type::TIME,
        Kind::Timestamp => Type::TIMESTAMP,
        Kind::Timestamptz => Type::TIMESTAMPTZ,
        Kind::Interval => Type::INTERVAL,
        Kind::Json => Type::JSON,
        Kind::Jsonb => Type::JSONB,
        Kind::Inet => Type::INET,
        Kind::Cidr => Type::CIDR,
        Kind::Array => Type::INT8_ARRAY,
        Kind::Input | Kind::Other => Type::OID,
    };
    let target = Target::new(ty, Conversion { binary: kind == Kind::Other, ..Conversion::default() });
    assert_eq!(target.kind, kind);
    target
}

/// Whether such a value ever goes into such a column.
fn goes(value: &dyn ToColumn, target: &Target) -> bool {
    !matches!(value.put(target, &mut BytesMut::new()), Err(Defect::Mismatch(_) | Defect::Binary(_)))
}

/// Whether JSON of this kind ever does.
fn json_goes(raw: &str, target: &Target) -> bool {
    !matches!(json::put(raw, target, &mut BytesMut::new()), Err(Defect::Mismatch(_) | Defect::Json(_)))
}

/// A value of each kind of Rust type.
fn rust() -> Vec<(&'static str, Box<dyn ToColumn>)> {
    vec![
        ("`bool`", Box::new(true)),
        ("integers", Box::new(7_i64)),
        ("floats", Box::new(1.5)),
        ("text", Box::new("7")),
        ("bytes", Box::new(b"7".to_vec())),
        ("`Uuid`", Box::new(Uuid::nil())),
        ("`SystemTime`", Box::new(SystemTime::UNIX_EPOCH)),
        ("`Duration`", Box::new(Duration::ZERO)),
        ("`IpAddr`", Box::new(IpAddr::V4(Ipv4Addr::LOCALHOST))),
        ("`Json`, `Value`", Box::new(serde_json::Value::Null)),
        ("`Vec`", Box::new(vec![7_i64])),
        ("`Sql`", Box::new(Sql(None::<u32>))),
    ]
}

/// Markdown, between the marks of the page.
pub(crate) fn render() -> String {
    let mut page = String::from(
        "| column | Rust | JSON number | text: of Rust, of JSON, of a key | other JSON | |\n|---|---|---|---|---|---|\n",
    );
    for line in LINES {
        let target = target(line.kinds[0]);
        let rust: Vec<&str> =
            rust().into_iter().filter(|(_, value)| goes(&**value, &target)).map(|(name, _)| name).collect();
        let others = [("boolean", "true"), ("array", "[1]"), ("object", "{}")];
        let others: Vec<&str> =
            others.into_iter().filter(|(_, raw)| json_goes(raw, &target)).map(|(name, _)| name).collect();
        let cell = |text: &str| if text.is_empty() { "–".to_owned() } else { text.to_owned() };
        writeln!(
            page,
            "| {} | {} | {} | {} | {} | {} |",
            line.types,
            rust.join(", "),
            cell(line.number),
            cell(line.text),
            cell(&others.join(", ")),
            line.notes
        )
        .expect("a String takes everything");
    }
    page
}

#[test]
fn the_page_says_what_the_code_does() {
    crate::verdict::postgres::assert_documented_in("docs/table-sink.md", "conversions", &render());
}

/// The words beside what was asked of the code say the same; kinds of one line take the same.
#[test]
fn a_line_says_what_its_kinds_take() {
    for line in LINES {
        for kind in line.kinds {
            let target = target(*kind);
            assert_eq!(json_goes("1", &target), !line.number.is_empty(), "{kind:?}: a number");
            assert_eq!(json_goes("\"1\"", &target), !line.text.is_empty(), "{kind:?}: JSON text");
            assert_eq!(goes(&"1", &target), !line.text.is_empty(), "{kind:?}: text");
            let first = self::target(line.kinds[0]);
            for (name, value) in rust() {
                assert_eq!(goes(&*value, &target), goes(&*value, &first), "{kind:?}: {name}");
            }
        }
    }
}

/// Every type that the driver knows by name is of a kind that the table has.
#[test]
fn every_kind_has_its_line() {
    let lines = |kind: Kind| LINES.iter().filter(|line| line.kinds.contains(&kind)).count();
    for ty in (0..7_000).filter_map(Type::from_oid) {
        let kind = Target::new(ty.clone(), Conversion::default()).kind;
        assert_eq!(lines(kind), 1, "{ty}: {kind:?}");
    }
    assert_eq!(lines(Kind::Other), 1);
}

crate::fuzz::fuzz!(
    /// JSON of any shape goes into a column of any kind or is rejected, as text does; what is sent is a field whose length
    /// is its own. (That the server reads it as it reads the literal is asked of the server: `tests/literals.rs`.)
    any_json_and_text_is_encoded_or_rejected,
    &[
        "{", "}", "[", "]", ",", ":", "\"", "null", "true", "-", "0", "1", "9", ".", "e", "E", "+", "1e400", "\\u0000", "\\ud800",
        "\\x", "NaN", "Infinity", "2026-11-25", "T", "23:59:60", "Z", "+01:00", "P1Y2M3DT4H5M6.7S", "1 mon", "days", "::1", "/24",
        "192.0.2.1", "99999999999999999999", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "=", "infinity", " BC",
    ],
    |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let json: Option<&serde_json::value::RawValue> = serde_json::from_str(&text).ok();
        for kind in LINES.iter().flat_map(|line| line.kinds).filter(|kind| **kind != Kind::Other) {
            let target = target(*kind);
            let mut out = BytesMut::new();
            let _ = super::value::put_field(&*text, &target, &mut out);
            if let Some(json) = json {
                let mut out = BytesMut::new();
                if json::put(json.get(), &target, &mut out).is_ok() {
                    // A number takes 2 bytes for each 4 digits, and a head; an exponent may stand for many of them.
                    assert!(out.len() <= 64 * 1024 + 4 * text.len(), "{kind:?}: {} bytes of {text}", out.len());
                }
            }
        }
    }
);
