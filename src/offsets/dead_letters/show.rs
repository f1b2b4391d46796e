//! One dead letter, with all that is known of it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use tokio_postgres::Row;

use super::super::{Offsets, utc};
use super::{COLUMNS, DeadLetter, columns};
use crate::error::{Error, ErrorKind, Result};

/// A dead letter, what became of each attempt, and, where it was asked for, its record's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ShownDeadLetter {
    /// The facts.
    #[serde(flatten)]
    pub letter: DeadLetter,
    /// What was done with it, oldest first.
    pub attempts_made: Vec<DeadLetterAttempt>,
    /// Whether its content is there.
    pub content: PayloadState,
    /// Bytes of the key; none: it is null, or the content is not there.
    pub key_bytes: Option<i32>,
    /// Bytes of the value; none: it is null, or the content is not there.
    pub value_bytes: Option<i32>,
    /// How many headers it has; none: the content is not there.
    pub headers: Option<i32>,
    /// When the content will be deleted, whatever becomes of the dead letter, in UTC; none: with it.
    pub expires_at: Option<String>,
    /// Its content; none where that was not asked for, or is gone.
    pub payload: Option<DeadLetterPayload>,
}

/// Whether a dead letter's content is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum PayloadState {
    /// It is.
    Kept,
    /// It was too large to be stored: see [`omitted_bytes`](DeadLetter::omitted_bytes).
    Omitted,
    /// It was, and has expired.
    Gone,
    /// This role may not read it.
    Hidden,
}

/// What was done with a dead letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DeadLetterAttempt {
    /// When, in UTC.
    pub at: String,
    /// `reject`, `skip`, `redrive`, `discard`.
    pub kind: String,
    /// What came of it, or who did it and why.
    pub error: Option<String>,
    /// The process that did it; none: a person.
    pub worker: Option<String>,
}

/// A record's content, byte for byte. In JSON keys, values and headers are in base64.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DeadLetterPayload {
    /// None: it is null.
    #[serde(rename = "key_base64", serialize_with = "base64_or_null")]
    pub key: Option<Vec<u8>>,
    /// None: it is null, a tombstone's.
    #[serde(rename = "value_base64", serialize_with = "base64_or_null")]
    pub value: Option<Vec<u8>>,
    /// In the record's order.
    pub headers: Vec<DeadLetterHeader>,
    /// Milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    /// `CreateTime` or `LogAppendTime`.
    pub timestamp_type: Option<&'static str>,
}

/// A header of a record.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DeadLetterHeader {
    /// Its name; UTF-8 with most producers.
    #[serde(rename = "name_base64", serialize_with = "in_base64")]
    pub name: Vec<u8>,
    /// None: it is null.
    #[serde(rename = "value_base64", serialize_with = "base64_or_null")]
    pub value: Option<Vec<u8>>,
}

/// Never the content.
impl std::fmt::Debug for DeadLetterPayload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeadLetterPayload").finish_non_exhaustive()
    }
}

/// Never the content.
impl std::fmt::Debug for DeadLetterHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeadLetterHeader").finish_non_exhaustive()
    }
}

#[expect(clippy::ref_option, reason = "serde's signature")]
fn base64_or_null<S: serde::Serializer>(bytes: &Option<Vec<u8>>, to: S) -> Result<S::Ok, S::Error> {
    bytes.as_ref().map(|bytes| STANDARD.encode(bytes)).serialize(to)
}

fn in_base64<S: serde::Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    STANDARD.encode(bytes).serialize(to)
}

/// The columns of a [`DeadLetterPayload`], of `p`.
pub(super) const CONTENT: &str =
    "p.record_key, p.record_value, p.header_names, p.header_values, p.timestamp_ms, p.timestamp_type";

impl DeadLetterPayload {
    /// From the column at `first` on; none: the content is gone.
    pub(super) fn of(row: &Row, first: usize) -> Option<Self> {
        let names: Option<Vec<Vec<u8>>> = row.get(first + 2);
        let values: Option<Vec<Option<Vec<u8>>>> = row.get(first + 3);
        let headers = names?.into_iter().zip(values?);
        let timestamp_type = row.get::<_, Option<i16>>(first + 5);
        Some(Self {
            key: row.get(first),
            value: row.get(first + 1),
            headers: headers.map(|(name, value)| DeadLetterHeader { name, value }).collect(),
            timestamp_ms: row.get(first + 4),
            timestamp_type: timestamp_type.map(|kind| if kind == 0 { "CreateTime" } else { "LogAppendTime" }),
        })
    }
}

/// Why a content is not shown.
pub(super) const MAY_NOT_READ: &str = "this role may not read what is in rejected records: facts and counts are open to it \
    (leave out --payload); the right comes with `highwater migrate --print-grants --operator --payload`";

impl Offsets {
    /// One dead letter; its record's content only with `payload`. Of the content a role that may not read it is told
    /// nothing.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or there is none of this number; with `payload`, if this role may not read contents
    /// ([`Privilege`](ErrorKind::Privilege)).
    pub async fn dead_letter(&mut self, id: i64, payload: bool) -> Result<ShownDeadLetter> {
        self.reconnect().await?;
        let failed = |source| Error::postgres(format!("read dead letter {id}"), source);
        let schema = self.schema();
        let may_read = self.may_read_payloads().await?;
        if payload && !may_read {
            return Err(Error::new(ErrorKind::Privilege, MAY_NOT_READ));
        }
        let content = if payload { format!(", {CONTENT}") } else { String::new() };
        let sizes = match may_read {
            true => format!(
                "p.dead_letter_id IS NOT NULL, length(p.record_key), length(p.record_value), cardinality(p.header_names), {}",
                utc("p.expires_at")
            ),
            false => "false, NULL::int4, NULL::int4, NULL::int4, NULL::text".to_owned(),
        };
        let payloads = match may_read {
            true => format!("LEFT JOIN {} p USING (dead_letter_id)", schema.qualified("dead_letter_payload")),
            false => String::new(),
        };
        let sql = format!(
            "SELECT {}, {sizes}{content} FROM {} d {payloads} WHERE d.dead_letter_id = $1",
            columns(schema),
            schema.qualified("dead_letter"),
        );
        let made = format!(
            "SELECT {}, kind, error, owner::text FROM {} WHERE dead_letter_id = $1 ORDER BY attempt_id",
            utc("attempted_at"),
            schema.qualified("dead_letter_attempt"),
        );
        let row = self.client.query_opt(&sql, &[&id]).await.map_err(failed)?;
        let row = row.ok_or_else(|| {
            let text =
                format!("there is no dead letter {id}: `highwater dead-letters list` shows their numbers");
            Error::new(ErrorKind::Configuration, text)
        })?;
        let made = self.client.query(&made, &[&id]).await.map_err(failed)?;
        let attempt = |row: &Row| DeadLetterAttempt {
            at: row.get(0),
            kind: row.get(1),
            error: row.get(2),
            worker: row.get(3),
        };
        let letter = DeadLetter::of(&row);
        let state = match (letter.omitted_bytes, may_read, row.get(COLUMNS)) {
            (Some(_), ..) => PayloadState::Omitted,
            (None, false, _) => PayloadState::Hidden,
            (None, true, true) => PayloadState::Kept,
            (None, true, false) => PayloadState::Gone,
        };
        Ok(ShownDeadLetter {
            letter,
            attempts_made: made.iter().map(attempt).collect(),
            content: state,
            key_bytes: row.get(COLUMNS + 1),
            value_bytes: row.get(COLUMNS + 2),
            headers: row.get(COLUMNS + 3),
            expires_at: row.get(COLUMNS + 4),
            payload: if payload { DeadLetterPayload::of(&row, COLUMNS + 5) } else { None },
        })
    }

    /// Whether this role may read what is in rejected records.
    pub(super) async fn may_read_payloads(&self) -> Result<bool> {
        let table = self.schema().qualified("dead_letter_payload");
        let sql = "SELECT pg_catalog.has_table_privilege($1::text, 'SELECT')";
        let row = self.client.query_one(sql, &[&table]).await;
        row.map(|row| row.get(0)).map_err(|source| Error::postgres("ask what this role may read", source))
    }
}
