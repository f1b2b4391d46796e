//! Text, and whatever is near it: what we take is what the server makes of the literal; the rest is rejected.

use bytes::BytesMut;
use tokio_postgres::types::Type;

use super::*;
use crate::HandlerErrorKind;
use crate::sink::target::{Conversion, Kind, Target};
use crate::sink::{json, text};

/// So many near misses of each list.
const MUTANTS: usize = 1_000;

/// The server's answer for a literal; NULL where it refuses it.
const LITERAL: &str = "CREATE FUNCTION literal(v text, t text) RETURNS text LANGUAGE plpgsql AS $$ \
     DECLARE r text; BEGIN EXECUTE format('SELECT (%L::%s)::text', v, t) INTO r; RETURN r; \
     EXCEPTION WHEN OTHERS THEN RETURN NULL; END $$";

/// Texts of a type that must be taken, and others, of which some are none to the server either.
struct Literals {
    sql_type: &'static str,
    ty: Type,
    taken: &'static [&'static str],
    others: &'static [&'static str],
}

const FLOATS: &[&str] = &[
    "0",
    "-0",
    "1.5",
    "-1.5e10",
    ".5",
    "5.",
    "+2",
    "0.1",
    "1e-30",
    "123456.789",
    " 1\t",
    "inf",
    "-inf",
    "+inf",
    "Infinity",
    "-INFINITY",
    "NaN",
    "nan",
    "16777216",
    "1.000000059604644775390625",
    "1.0000000596046448",
    "0e999999",
    "1E+5",
    "3.4028235e38",
];
const NO_FLOATS: &[&str] = &[
    "1e400",
    "-1e400",
    "1e-400",
    "1e-50",
    "1e-45",
    "1.4e-45",
    "7e-46",
    "3.4028236e38",
    "1e39",
    "4.9e-324",
    "2e-324",
    "1.7976931348623157e308",
    "1.7976931348623159e308",
    "9007199254740992",
    "9007199254740993",
    "9007199254740994",
    "16777217",
    "33554433",
    "10000000000000000000000",
    "1000000000000000000000000000000",
    ".",
    "e5",
    "1e",
    "-nan",
    "+nan",
    "infinit",
    "0x1p3",
    "0x10",
    "1_000",
    "1 2",
    "",
    " ",
    "1.5f",
    "1,5",
    "--1",
];
const INTEGERS: &[&str] = &["0", "-0", "+7", "007", "32767", "-32768", " 12 ", "\n5"];
const NO_INTEGERS: &[&str] = &[
    "32768",
    "-32769",
    "2147483647",
    "-2147483648",
    "2147483648",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "99999999999999999999999",
    "0x1F",
    "0o17",
    "0b11",
    "1_000",
    "1 2",
    "1.0",
    "1e3",
    "",
    "+",
    "- 1",
    "--1",
    "٣",
    "1\u{a0}",
];

fn literals() -> Vec<Literals> {
    let l = |sql_type, ty, taken, others| Literals { sql_type, ty, taken, others };
    vec![
        l(
            "boolean",
            Type::BOOL,
            &[
                "true", "false", "t", "f", "yes", "no", "on", "off", "y", "n", "1", "0", "TRUE", " tru ",
                "of", "fal",
            ],
            &["o", "2", "", "truee", "yess", "01", "-1", "wahr", "nö", "t t"],
        ),
        l("smallint", Type::INT2, INTEGERS, NO_INTEGERS),
        l("integer", Type::INT4, INTEGERS, NO_INTEGERS),
        l("bigint", Type::INT8, INTEGERS, NO_INTEGERS),
        l("real", Type::FLOAT4, FLOATS, NO_FLOATS),
        l("double precision", Type::FLOAT8, FLOATS, NO_FLOATS),
        l(
            "numeric",
            Type::NUMERIC,
            &["0", "-0.00", "1.50", "1e5", "1.5e-3", " 7 ", "NaN", "inf", "-Infinity", ".5", "5."],
            NO_FLOATS,
        ),
        l(
            "uuid",
            Type::UUID,
            &[
                "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
                "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
                "a0eebc999c0b4ef8bb6d6bb9bd380a11",
                "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
                "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
            ],
            &[
                "urn:uuid:a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
                "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1",
                "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11-",
                "-a0eebc999c0b4ef8bb6d6bb9bd380a11",
                "{a0eebc999c0b4ef8bb6d6bb9bd380a11",
                "a0eebc999c0b4ef8bb6d6bb9bd380a11}",
                "a0e-ebc999c0b4ef8bb6d6bb9bd380a11",
                "a0ee--bc999c0b4ef8bb6d6bb9bd380a11",
                " a0eebc999c0b4ef8bb6d6bb9bd380a11",
                "",
            ],
        ),
        l(
            "date",
            Type::DATE,
            &[
                "2026-11-25",
                "2024-02-29",
                "0001-01-01",
                "9999-12-31",
                "infinity",
                "-Infinity",
                " 2026-11-25 ",
            ],
            &[
                "2026-02-30",
                "0000-01-01",
                "2026-1-5",
                "20261125",
                "25.11.2026",
                "2026-11-25 BC",
                "12026-11-25",
                "today",
                "+infinity",
            ],
        ),
        l(
            "time",
            Type::TIME,
            &[
                "00:00",
                "23:59:59.5",
                "24:00:00",
                "23:59:60",
                "10:00:60.5",
                "12:34:56.1234567",
                "12:34:56.0000005",
                "12:34:56.0000015",
            ],
            &[
                "24:00:01",
                "10:60",
                "23:59:60.5",
                "1:2:3",
                "10:00 PM",
                "10:00+02",
                "240000",
                "noon",
                "10:00:00.",
                "10:00:61",
            ],
        ),
        l(
            "timestamptz",
            Type::TIMESTAMPTZ,
            &[
                "2026-11-25T10:00:00Z",
                "2026-11-25 10:00:00+02:00",
                "2026-11-25T10:00:00.1234565+0530",
                "2026-11-25T10:00-11",
                "0001-01-01T00:00:00Z",
                "9999-12-31T23:59:59.999999Z",
                "infinity",
                "-infinity",
                "2026-11-25t24:00:00z",
                " 2026-11-25T23:59:60Z",
                "2026-11-25T10:00:00.9999995Z",
            ],
            &[
                "2026-11-25T10:00:00",
                "2026-11-25",
                "2026-02-30T10:00:00Z",
                "2026-11-25T23:59:60.5Z",
                "2026-11-25T10:00:00+16",
                "2026-11-25T10:00:00 Europe/Vienna",
                "2026-11-25T10:00:00+02:60",
                "1700000000",
                "now",
                "2026-11-25T10:00:00+1",
            ],
        ),
        l(
            "timestamp",
            Type::TIMESTAMP,
            &[
                "2026-11-25T10:00:00",
                "2026-11-25 10:00:00.5",
                "2026-11-25T10:00:00Z",
                "2026-11-25T10:00:00+00:00",
                "infinity",
            ],
            &["2026-11-25T10:00:00+02:00", "2026-11-25", "now", "epoch", "2026-11-25T23:59:60.5"],
        ),
        l(
            "interval",
            Type::INTERVAL,
            &[
                "P1Y2M3DT4H5M6.789S",
                "PT0.000001S",
                "P2W",
                "P1M",
                "PT36H",
                "P0D",
                "PT-6H",
                "P-1Y-2M3DT-4H",
                "P1.5D",
                "P1.5W",
                "P-1.5D",
                "PT1.5H",
                "PT0.1M",
                "PT-0.5S",
                "PT0.0000005S",
                "PT0.0000015S",
                "PT1.123456789S",
                "PT8H6M12.345S",
                "PT-1M-30S",
                "P178956970Y7M",
                "P-178956970Y-8M",
                "P2147483647D",
                "P-2147483648D",
                "PT2562047788H54.775807S",
                "PT-2562047788H-54.775808S",
                "PT123456789.123456S",
                "1 day 02:00:00",
                "1 year 2 mons -3 days +04:05:06.789",
                "-1 years -2 mons +3 days -04:05:06",
                "00:00:00",
                "-00:00:00.5",
                "2 days",
                "1 month",
                " 1 day  25:00:00 ",
                "100000:00:00",
            ],
            &[
                "P",
                "PT",
                "P1DT",
                "P1D2Y",
                "P1D1D",
                "-P5Y4M3D",
                "-PT6H",
                "+P1D",
                "P+1D",
                "P1.5Y",
                "P1.5M",
                "p1d",
                " P1D",
                "P1D ",
                "P1e3D",
                "P.5D",
                "P1.D",
                "P178956970Y8M",
                "P2147483648D",
                "P400000000W-800000000D",
                "PT2562047788H55S",
                "PT1e400S",
                "P00021015T103020",
                "P0002-10-15T10:30:20",
                "1 day ago",
                "@ 1 day",
                "-1 day 02:00:00",
                "1 day 2",
                "02:00",
                "1:2:3",
                "1 day 02:60:00",
                "infinity",
                "-infinity",
                "1",
                "",
                "1 days 1 day",
                "1-2",
                "P-2147483648Y",
                "day",
                "+ 1 day",
                "1 mon 1 year",
                "P1H",
                "PT1D",
                "02:00:00 1 day",
                "99999999999:00:00",
                "P-178956970Y-8M-2147483648DT-2562047788H-54.775808S",
            ],
        ),
        l(
            "inet",
            Type::INET,
            &[
                "192.0.2.1",
                "192.0.2.1/24",
                "192.0.2.1/0",
                "2001:db8::1",
                "2001:db8::1/64",
                "::ffff:192.0.2.1",
                "::",
            ],
            &[
                "192.0.2",
                "192.0.2.1/33",
                "192.0.2.1/+8",
                "192.0.2.1/08",
                "192.000.2.1",
                "::1/129",
                "fe80::1%eth0",
                " 192.0.2.1",
                "",
                "/8",
                "192.0.2.1/",
                "1:2:3:4:5:6:7::",
                "1::2::3",
            ],
        ),
        l(
            "cidr",
            Type::CIDR,
            &["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"],
            &["10.0.0.1/8", "10", "10/8", "10.0.0.0/008"],
        ),
        l(
            "bytea",
            Type::BYTEA,
            &["\\x", "\\x00fF"],
            &["\\x0", "\\xzz", "abc", "\\X00", "\\000", "\\x00 ff", ""],
        ),
        // What a modifier rounds and cuts.
        l(
            "numeric(10,2)",
            Type::NUMERIC,
            &["0.005", "1234.565", "-1.115", "99999999.994", "NaN", "1e7"],
            &["99999999.995", "1e8", "inf", "1,5"],
        ),
        l(
            "timestamp(0)",
            Type::TIMESTAMP,
            &["2026-11-25T10:00:00.5", "2026-11-25T10:00:01.5", "2026-12-31T23:59:59.9999996"],
            &["2026-11-25"],
        ),
        l(
            "timestamptz(3)",
            Type::TIMESTAMPTZ,
            &["2026-11-25T10:00:00.0005Z", "1999-12-31 23:59:59.9995-01"],
            &[],
        ),
        l("time(2)", Type::TIME, &["12:34:56.125", "23:59:59.999", "12:34:56.115"], &[]),
        l("interval(1)", Type::INTERVAL, &["PT0.05S", "PT0.15S", "P1.5D", "-00:00:00.25"], &[]),
        l(
            "interval day to minute",
            Type::INTERVAL,
            &["1 day 02:03:59", "P1DT2H3M59.9S", "P1M"],
            &["02:03", "5"],
        ),
    ]
}

/// The texts, and what is one or two characters away from them.
fn with_mutants(literals: &Literals, seed: u64) -> Vec<String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let texts: Vec<&str> = literals.taken.iter().chain(literals.others).copied().collect();
    let alphabet: Vec<char> =
        texts.iter().flat_map(|text| text.chars()).chain(" \t+-.:eE0159_PTYMDWHS".chars()).collect();
    let mut all: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
    for n in 0..MUTANTS {
        let mut text: Vec<char> = texts[n % texts.len()].chars().collect();
        for _ in 0..random.usize(1..=2) {
            let at = random.usize(..=text.len());
            match random.u8(..3) {
                0 => text.insert(at, alphabet[random.usize(..alphabet.len())]),
                1 if at < text.len() => drop(text.remove(at)),
                _ if at < text.len() => text[at] = alphabet[random.usize(..alphabet.len())],
                _ => {}
            }
        }
        all.push(text.into_iter().collect());
    }
    all
}

/// The bytes that we would send; `None` if the record is rejected.
fn ours(put: impl FnOnce(&mut BytesMut) -> crate::sink::target::Put) -> Option<BytesMut> {
    let mut out = BytesMut::new();
    put(&mut out).ok().map(|_| out)
}

impl Place {
    /// What is in the column afterwards; `None` where the server refuses what we send.
    async fn taken(&self, sql_type: &str, texts: &[String]) -> Vec<Option<String>> {
        let create = format!("DROP TABLE IF EXISTS v; CREATE TABLE v (n int, v {sql_type})");
        self.database.execute(&create).await.expect(sql_type);
        let sink = TableSink::new(Table::append("v", ["n", "v"]).unsorted(), |record, rows| {
            let text = |bytes: Option<&'_ [u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
            rows.push((text(record.key()), text(record.value())))
        });
        let mut live: Vec<usize> = (0..texts.len()).collect();
        loop {
            let numbers: Vec<String> = live.iter().map(usize::to_string).collect();
            let records: Vec<KeyValue<'_>> = live
                .iter()
                .zip(&numbers)
                .map(|(&at, n)| (Some(n.as_str()), Some(texts[at].as_str())))
                .collect();
            match self.apply(&sink, &batch(&records)).await {
                Ok(()) => break,
                Err(error) => {
                    assert_eq!(error.kind(), HandlerErrorKind::Reject, "{sql_type}: {error:?}");
                    let offset = error.record().unwrap_or_else(|| panic!("{sql_type}: {error:?}")).offset;
                    live.remove(usize::try_from(offset - 100).unwrap());
                }
            }
        }
        let mut found = vec![None; texts.len()];
        for row in self.database.query("SELECT n, v::text FROM v", &[]).await.unwrap() {
            found[usize::try_from(row.get::<_, i32>(0)).unwrap()] = Some(row.get(1));
        }
        found
    }
}

#[tokio::test]
async fn whatever_is_taken_is_what_the_server_reads() {
    let place = Place::new(LITERAL).await;
    for (seed, literals) in (0..).zip(literals()) {
        let sql_type = literals.sql_type;
        let target = Target::new(literals.ty.clone(), Conversion::default());
        let texts = with_mutants(&literals, seed);
        let (mut taken, mut rejected) = (Vec::new(), 0);
        for (n, text) in texts.into_iter().enumerate() {
            let bytes = ours(|out| text::put_text(&text, &target, out));
            // A JSON string is no other door; neither is a JSON number, where numbers are text.
            let quoted = serde_json::to_string(&text).unwrap();
            assert_eq!(bytes, ours(|out| json::put(&quoted, &target, out)), "{sql_type}: {quoted}");
            let is_number = serde_json::from_str::<serde_json::Number>(&text).is_ok();
            let is_time = matches!(target.kind, Kind::Timestamp | Kind::Timestamptz);
            if is_number && !is_time && target.kind != Kind::Bool {
                assert_eq!(bytes, ours(|out| json::put(&text, &target, out)), "{sql_type}: {text}");
            }
            match bytes {
                Some(_) => taken.push(text),
                None if n < literals.taken.len() => panic!("{sql_type}: {text} is to be taken"),
                None => rejected += 1,
            }
        }
        let found = place.taken(sql_type, &taken).await;
        let sql = format!(
            "SELECT literal(v, '{sql_type}') FROM unnest($1::text[]) WITH ORDINALITY AS u (v, n) ORDER BY n"
        );
        let expected = place.database.query(&sql, &[&taken]).await.unwrap();
        for ((text, found), expected) in taken.iter().zip(found).zip(expected) {
            // What the server refuses in binary, it names: a range, the bits behind a mask.
            if found.is_some() || literals.taken.contains(&text.as_str()) {
                assert_eq!(found, expected.get::<_, Option<String>>(0), "{sql_type}: {text:?}");
            }
        }
        assert!(rejected > 0, "{sql_type}: nothing was rejected");
    }
}
