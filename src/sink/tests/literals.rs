//! Text, and whatever is near it: what we take is what the server makes of the literal; the rest is rejected.

mod texts;

use bytes::BytesMut;

use super::*;
use crate::HandlerErrorKind;
use crate::sink::target::{Conversion, Kind, Target};
use crate::sink::{json, text};

/// So many near misses of each list.
const MUTANTS: usize = 500;

/// The server's answer for a literal; NULL where it refuses it.
pub(super) const LITERAL: &str = "CREATE FUNCTION literal(v text, t text) RETURNS text LANGUAGE plpgsql AS $$ \
     DECLARE r text; BEGIN EXECUTE format('SELECT (%L::%s)::text', v, t) INTO r; RETURN r; \
     EXCEPTION WHEN OTHERS THEN RETURN NULL; END $$";

/// The texts, and what is one or two characters away from them.
fn with_mutants(literals: &texts::Literals, seed: u64) -> Vec<String> {
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
    for (seed, literals) in (0..).zip(texts::literals()) {
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
