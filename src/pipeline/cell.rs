//! A value on its way from a record into a column.

use std::time::{Duration, SystemTime};

use bytes::BytesMut;

use super::condition::Literal;
use super::extract::Raw;
use super::file::Unit;
use crate::sink::{Defect, Keep, Kind, Put, Target, ToColumn, Written, put_json, unquoted};

/// A value on its way into a column.
#[derive(Debug)]
pub(crate) enum Cell<'a> {
    Null,
    Json(Raw<'a>, Option<Unit>),
    /// As Debezium writes it: JSON documents are text.
    OfEvent(Raw<'a>),
    /// A string of a value that has a schema; `true`: the file says that times in it are in UTC.
    OfSchema(Raw<'a>, bool),
    Text(&'a str),
    Bytes(&'a [u8]),
    Number(i64),
    /// Milliseconds.
    Instant(i64),
    Object(String),
    /// What the table has.
    Keep,
    /// Of the column that marks rows that have gone: this one is there.
    There,
    /// It has gone, since when (milliseconds).
    Gone(Option<i64>),
}

impl<'a> Cell<'a> {
    /// Bytes of a record as they are; `text`: they are UTF-8.
    pub(crate) fn whole(bytes: Option<&'a [u8]>, text: bool, what: &str) -> Result<Self, String> {
        match bytes {
            None => Ok(Self::Null),
            Some(bytes) if text => {
                std::str::from_utf8(bytes).map(Self::Text).map_err(|_| format!("{what} is not UTF-8"))
            }
            Some(bytes) => Ok(Self::Bytes(bytes)),
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        match self {
            Self::Null | Self::There => true,
            Self::Json(raw, _) | Self::OfEvent(raw) | Self::OfSchema(raw, _) => raw.get() == "null",
            _ => false,
        }
    }

    /// Numbers as they are spelled.
    pub(crate) fn equals(&self, literal: &Literal) -> bool {
        match (self, literal) {
            (_, Literal::Null) => self.is_null(),
            (Self::Json(raw, _) | Self::OfEvent(raw) | Self::OfSchema(raw, _), Literal::Plain(plain)) => {
                raw.get() == plain
            }
            (Self::Json(raw, _) | Self::OfEvent(raw) | Self::OfSchema(raw, _), Literal::Text(text)) => {
                unquoted(raw.get()).is_ok_and(|value| raw.get().starts_with('"') && value == text.as_str())
            }
            (Self::Text(value), Literal::Text(text) | Literal::Plain(text)) => value == text,
            (Self::Bytes(value), Literal::Text(text) | Literal::Plain(text)) => *value == text.as_bytes(),
            (Self::Number(value) | Self::Instant(value), Literal::Plain(plain)) => {
                value.to_string() == *plain
            }
            _ => false,
        }
    }
}

impl ToColumn for Cell<'_> {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        let is_time = matches!(target.kind, Kind::Timestamp | Kind::Timestamptz);
        let is_document = matches!(target.kind, Kind::Json | Kind::Jsonb);
        match self {
            Self::Null => Ok(Written::Null),
            Self::Keep => Keep.put(target, out),
            Self::There | Self::Gone(_) if target.kind == Kind::Bool => {
                matches!(self, Self::Gone(_)).put(target, out)
            }
            Self::There if is_time => Ok(Written::Null),
            Self::Gone(since) if is_time => {
                let since =
                    since.ok_or(Defect::Invalid("the record has no timestamp to mark its row with"))?;
                let since = at(since, Unit::Milliseconds);
                since.ok_or(Defect::Invalid("out of the range of instants"))?.put(target, out)
            }
            Self::There | Self::Gone(_) => Err(Defect::Setup(
                "`soft` marks a row in a column of type timestamp with time zone, timestamp or boolean",
            )),
            Self::Json(raw, Some(Unit::Days)) => match date(raw.get())? {
                None => Ok(Written::Null),
                Some(_) if target.kind != Kind::Date => {
                    Err(Defect::Setup("the unit d is for columns of type date"))
                }
                Some(date) => date.to_string().put(target, out),
            },
            Self::Json(raw, Some(unit)) => match instant(raw.get(), *unit)? {
                None => Ok(Written::Null),
                Some(_) if !is_time => Err(Defect::Setup(
                    "a unit is for columns of type timestamp or timestamp with time zone (d: date)",
                )),
                Some(instant) => instant.put(target, out),
            },
            Self::OfEvent(raw) if is_document && raw.get().starts_with('"') => {
                unquoted(raw.get())?.put(target, out)
            }
            // The schema has said the unit; what the file's adds is that this is UTC.
            Self::OfSchema(raw, true) if target.kind == Kind::Timestamptz => match without_zone(raw.get()) {
                Some((text, era)) => format!("{text}Z{era}").put(target, out),
                None => put_json(raw.get(), target, out),
            },
            // Whatever the file says of text that is bytes: the schema has said so, too.
            Self::OfSchema(raw, _) if target.kind == Kind::Bytea => match of_hex(&unquoted(raw.get())?) {
                Some(bytes) => bytes.as_slice().put(target, out),
                None => put_json(raw.get(), target, out),
            },
            Self::OfSchema(raw, _) => put_json(raw.get(), target, out),
            Self::OfEvent(raw) | Self::Json(raw, None) => match raw.get().bytes().next() {
                Some(b'-' | b'0'..=b'9') if is_time => Err(Defect::Invalid(
                    "a number, and the file does not say in which `unit` (s, ms, us, ns)",
                )),
                // Objects and arrays may go into text.
                Some(b'{' | b'[') if target.kind == Kind::Text => raw.get().put(target, out),
                _ => put_json(raw.get(), target, out),
            },
            Self::Text(text) => text.put(target, out),
            Self::Bytes(bytes) => bytes.put(target, out),
            Self::Number(number) => number.put(target, out),
            Self::Instant(ms) if target.kind == Kind::Int8 => ms.put(target, out),
            Self::Instant(ms) => match at(*ms, Unit::Milliseconds) {
                Some(instant) if is_time => instant.put(target, out),
                _ => Err(Defect::Setup(
                    "a record's timestamp goes into columns of type timestamp, timestamp with time zone or bigint",
                )),
            },
            Self::Object(text) if is_document || target.kind == Kind::Text => text.put(target, out),
            Self::Object(_) => Err(Defect::Setup("`rest` goes into columns of type jsonb, json or text")),
        }
    }
}

/// A timestamp that does not say its zone, in two parts between which the zone goes.
fn without_zone(raw: &str) -> Option<(&str, &str)> {
    let text = raw.strip_prefix('"')?.strip_suffix('"')?;
    let (text, era) = text.strip_suffix(" BC").map_or((text, ""), |text| (text, " BC"));
    let (_, clock) = text.split_once('T')?;
    clock.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b':' | b'.')).then_some((text, era))
}

/// Bytes as a schema's values have them.
fn of_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("\\x")?.as_bytes();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    if digits.len() % 2 == 0 { digits.chunks(2).map(pair).collect() } else { None }
}

/// The day that a JSON number is, counted from 1970-01-01; `None` for `null`.
pub(crate) fn date(raw: &str) -> Result<Option<jiff::civil::Date>, Defect> {
    if raw == "null" {
        return Ok(None);
    }
    let days: i32 =
        raw.parse().map_err(|_| Defect::Invalid("not an integer, and the file says that it counts days"))?;
    let out_of_range = Defect::Invalid("out of the range of dates");
    let days = jiff::Span::new().try_days(days).map_err(|_| out_of_range)?;
    jiff::civil::date(1970, 1, 1).checked_add(days).map(Some).map_err(|_| out_of_range)
}

/// The instant that a JSON number is in this unit; `None` for `null`.
pub(crate) fn instant(raw: &str, unit: Unit) -> Result<Option<SystemTime>, Defect> {
    if raw == "null" {
        return Ok(None);
    }
    let number: i64 = raw
        .parse()
        .map_err(|_| Defect::Invalid("not an integer, and the file says in which `unit` it is"))?;
    at(number, unit).map(Some).ok_or(Defect::Invalid("out of the range of instants"))
}

fn at(number: i64, unit: Unit) -> Option<SystemTime> {
    let length = number.unsigned_abs();
    let length = match unit {
        Unit::Days => Duration::from_secs(length.checked_mul(86_400)?),
        Unit::Seconds => Duration::from_secs(length),
        Unit::Milliseconds => Duration::from_millis(length),
        Unit::Microseconds => Duration::from_micros(length),
        // Postgres has microseconds: cut towards the past, so that order stays.
        Unit::Nanoseconds if number < 0 => Duration::from_micros(length.div_ceil(1_000)),
        Unit::Nanoseconds => Duration::from_micros(length / 1_000),
    };
    if number < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(length)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(length)
    }
}
