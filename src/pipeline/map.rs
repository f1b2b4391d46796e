//! A record into a row, by a compiled sink.

use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use serde_json::value::RawValue;

use super::condition::Literal;
use super::debezium::{Change, Event, is_unavailable};
use super::extract::{Misfit, Rest, Tree};
use super::file::{Deletes, Envelope, Extra, Format, KeyFormat, Missing, Unit};
use super::path::Root;
use super::sink::{Column, Sink, Source};
use crate::Record;
use crate::record::json::describe;
use crate::sink::{Defect, Kind, Put, Target, ToColumn, Written};

/// What a mapping sees of a record.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) timestamp_ms: Option<i64>,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: &'a dyn Headers,
}

/// The last header of a name.
pub(crate) trait Headers {
    fn last(&self, name: &str) -> Option<&[u8]>;
}

impl Headers for Record<'_> {
    fn last(&self, name: &str) -> Option<&[u8]> {
        self.headers().filter(|(known, _)| *known == name).last().and_then(|(_, value)| value)
    }
}

impl<'a> Input<'a> {
    pub(crate) fn of(record: &'a Record<'_>) -> Self {
        Self {
            topic: record.topic(),
            partition: record.partition(),
            offset: record.offset(),
            timestamp_ms: record.timestamp_ms(),
            key: record.key(),
            value: record.value(),
            headers: record,
        }
    }
}

/// What comes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Row,
    /// Of the key.
    Delete,
    /// It is not meant.
    Nothing,
}

/// A record's values, by the paths of a sink.
pub(crate) struct Mapped<'a> {
    sink: &'a Sink,
    input: Input<'a>,
    slots: Vec<Option<&'a RawValue>>,
    rest: Rest<'a>,
    pub(crate) outcome: Outcome,
}

/// A value on its way into a column.
#[derive(Debug)]
pub(crate) enum Cell<'a> {
    Null,
    Json(&'a RawValue, Option<Unit>),
    Text(&'a str),
    Bytes(&'a [u8]),
    Number(i64),
    /// Milliseconds.
    Instant(i64),
    Object(String),
}

impl<'a> Mapped<'a> {
    /// # Errors
    /// Why the record is rejected, without a value of it.
    pub(crate) fn new(sink: &'a Sink, input: Input<'a>) -> Result<Self, String> {
        let mut mapped =
            Self { sink, input, slots: vec![None; sink.slots], rest: Rest::new(), outcome: Outcome::Row };
        if let Some(key) = input.key.filter(|_| !sink.key_tree.is_empty()) {
            sink.key_tree.fill(key, &mut mapped.slots, None).map_err(|misfit| explain("key", &misfit))?;
        }
        match input.value {
            // It follows the event that tells of the deletion, for the sake of compaction.
            None if sink.envelope == Envelope::Debezium => mapped.outcome = Outcome::Nothing,
            None => mapped.outcome = mapped.tombstone()?,
            Some(value) if sink.envelope == Envelope::Debezium => mapped.outcome = mapped.event(value)?,
            Some(value) => {
                if sink.value == Format::Json {
                    let rest = sink.has_rest.then_some(&mut mapped.rest);
                    let filled = sink.value_tree.fill(value, &mut mapped.slots, rest);
                    filled.map_err(|misfit| explain("value", &misfit))?;
                }
                if mapped.is_meant(false)? {
                    mapped.check()?;
                } else {
                    mapped.outcome = Outcome::Nothing;
                }
            }
        }
        Ok(mapped)
    }

    fn event(&mut self, value: &'a [u8]) -> Result<Outcome, String> {
        let sink = self.sink;
        let Event { change, whole } = Event::read(value)?;
        let fill = |tree: &'a Tree, raw: &'a RawValue, slots: &mut _, rest: Option<&mut Rest<'a>>| {
            tree.fill(raw.get().as_bytes(), slots, rest).map_err(|misfit| explain("value", &misfit))
        };
        if !sink.event_tree.is_empty() {
            fill(&sink.event_tree, whole, &mut self.slots, None)?;
        }
        match change {
            Change::Message => Ok(Outcome::Nothing),
            Change::Written(row) => {
                fill(&sink.value_tree, row, &mut self.slots, sink.has_rest.then_some(&mut self.rest))?;
                if !self.is_meant(false)? {
                    return Ok(Outcome::Nothing);
                }
                self.check()?;
                Ok(Outcome::Row)
            }
            Change::Deleted(row) => {
                match (row, self.input.key) {
                    (Some(row), _) => fill(&sink.value_tree, row, &mut self.slots, None)?,
                    (None, Some(key)) => self.look_into(key)?,
                    (None, None) => {}
                }
                match sink.deletes {
                    _ if !self.is_meant(true)? => Ok(Outcome::Nothing),
                    Deletes::Ignore => Ok(Outcome::Nothing),
                    Deletes::Reject => Err("a deletion, and the sink does not apply them".to_owned()),
                    Deletes::Apply => Ok(Outcome::Delete),
                }
            }
        }
    }

    fn tombstone(&mut self) -> Result<Outcome, String> {
        match self.sink.deletes {
            _ if !self.is_meant(true)? => return Ok(Outcome::Nothing),
            Deletes::Ignore => return Ok(Outcome::Nothing),
            Deletes::Reject => {
                return Err(
                    "the value is null (a tombstone), and the sink does not apply deletions".to_owned()
                );
            }
            Deletes::Apply => {}
        }
        let Some(key) = self.input.key else { return Err("key and value are null".to_owned()) };
        self.look_into(key)?;
        Ok(Outcome::Delete)
    }

    /// For what a key says of columns whose values are in the value otherwise.
    fn look_into(&mut self, key: &'a [u8]) -> Result<(), String> {
        if self.sink.key_format == KeyFormat::Json && key.trim_ascii_start().first() == Some(&b'{') {
            let filled = self.sink.tombstone_tree.fill(key, &mut self.slots, None);
            filled.map_err(|misfit| explain("key", &misfit))?;
        }
        Ok(())
    }

    /// Whether `where` holds; of a tombstone what it says of the value is left out.
    fn is_meant(&self, tombstone: bool) -> Result<bool, String> {
        for (source, comparison) in &self.sink.condition {
            if tombstone && comparison.path.root == Root::Value {
                continue;
            }
            let cell = self.cell_of(source).map_err(|what| format!("{}: {what}", comparison.path))?;
            if equals(&cell, &comparison.literal) != comparison.equal {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn check(&self) -> Result<(), String> {
        let absent = |column: &Column| match column.source {
            Source::Slot(slot, _) => self.slots[slot].is_none(),
            _ => false,
        };
        if self.sink.missing == Missing::Reject
            && let Some(Column { name, path: Some(path), .. }) =
                self.sink.columns.iter().find(|column| absent(column))
        {
            return Err(format!("column {name}: there is no {path}"));
        }
        if self.sink.columns.iter().all(absent) {
            let names: Vec<&str> = self.sink.columns.iter().map(|column| column.name.as_str()).collect();
            return Err(format!(
                "there is a value for none of the columns {}: is the row inside an envelope, or are its fields named in \
                 another way (camelCase)?",
                names.join(", ")
            ));
        }
        let unavailable = |raw: Option<&RawValue>| raw.is_some_and(is_unavailable);
        if self.sink.envelope == Envelope::Debezium {
            let missing = |column: &&Column| match column.source {
                Source::Slot(slot, _) => unavailable(self.slots[slot]),
                _ => false,
            };
            if let Some(Column { name, .. }) = self.sink.columns.iter().find(missing) {
                return Err(format!(
                    "column {name}: a large value that has not changed is not in the event: ALTER TABLE … REPLICA IDENTITY \
                     FULL at the source, or leave the column out"
                ));
            }
            if self.rest.iter().any(|(_, raw)| is_unavailable(raw)) {
                return Err(
                    "a large value that has not changed is not in the event, and would go into `rest`"
                        .to_owned(),
                );
            }
        }
        if self.sink.extra == Extra::Reject && !self.rest.is_empty() {
            return Err("the value has a field that no column takes".to_owned());
        }
        Ok(())
    }

    /// The value for a column.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn cell(&self, column: usize) -> Result<Cell<'a>, String> {
        self.cell_of(&self.sink.columns[column].source)
    }

    /// The value for a column of the key, of a record without a value.
    ///
    /// # Errors
    /// Why the key does not say it.
    pub(crate) fn key_cell(&self, column: usize, alone: bool) -> Result<Cell<'a>, String> {
        let Column { name, source, path, in_key } = &self.sink.columns[column];
        if path.as_ref().is_none_or(|path| path.root != Root::Value) {
            return self.cell_of(source);
        }
        // An event's row says it.
        if let Source::Slot(slot, unit) = source
            && let Some(raw) = self.slots[*slot]
        {
            return Ok(Cell::Json(raw, *unit));
        }
        if let Some(raw) = in_key.and_then(|slot| self.slots[slot]) {
            let unit = if let Source::Slot(_, unit) = source { *unit } else { None };
            return Ok(Cell::Json(raw, unit));
        }
        let key = self.input.key.unwrap_or_default();
        let object = self.sink.key_format == KeyFormat::Json && key.trim_ascii_start().first() == Some(&b'{');
        if !alone || object || self.sink.key_format == KeyFormat::None {
            return Err(format!("the key does not say which row to delete: nothing in it is column {name}"));
        }
        match self.sink.key_format {
            KeyFormat::Json => {
                let raw =
                    serde_json::from_slice(key).map_err(|error| format!("key: {}", describe(&error)))?;
                Ok(Cell::Json(raw, None))
            }
            _ => self.cell_of(&Source::Key),
        }
    }

    fn cell_of(&self, source: &Source) -> Result<Cell<'a>, String> {
        Ok(match source {
            Source::Slot(slot, unit) => self.slots[*slot].map_or(Cell::Null, |raw| Cell::Json(raw, *unit)),
            Source::Value => whole(self.input.value, self.sink.value == Format::String, "value")?,
            Source::Key => whole(self.input.key, self.sink.key_format == KeyFormat::String, "key")?,
            Source::Header(name) => whole(self.input.headers.last(name), true, "a header")?,
            Source::Topic => Cell::Text(self.input.topic),
            Source::Partition => Cell::Number(self.input.partition.into()),
            Source::Offset => Cell::Number(self.input.offset),
            Source::Timestamp => self.input.timestamp_ms.map_or(Cell::Null, Cell::Instant),
            Source::Rest => Cell::Object(object(&self.rest)),
        })
    }
}

fn whole<'a>(bytes: Option<&'a [u8]>, text: bool, what: &str) -> Result<Cell<'a>, String> {
    match bytes {
        None => Ok(Cell::Null),
        Some(bytes) if text => {
            std::str::from_utf8(bytes).map(Cell::Text).map_err(|_| format!("{what} is not UTF-8"))
        }
        Some(bytes) => Ok(Cell::Bytes(bytes)),
    }
}

fn object(rest: &Rest<'_>) -> String {
    let mut text = String::from("{");
    for (name, raw) in rest {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&serde_json::Value::from(&**name).to_string());
        text.push(':');
        text.push_str(raw.get());
    }
    text.push('}');
    text
}

fn equals(cell: &Cell<'_>, literal: &Literal) -> bool {
    let is_null = match cell {
        Cell::Null => true,
        Cell::Json(raw, _) => raw.get() == "null",
        _ => false,
    };
    match (cell, literal) {
        (_, Literal::Null) => is_null,
        (Cell::Json(raw, _), Literal::Plain(plain)) => raw.get() == plain,
        (Cell::Json(raw, _), Literal::Text(text)) => {
            serde_json::from_str::<String>(raw.get()).is_ok_and(|value| value == *text)
        }
        (Cell::Text(value), Literal::Text(text) | Literal::Plain(text)) => value == text,
        (Cell::Bytes(value), Literal::Text(text)) => *value == text.as_bytes(),
        (Cell::Number(value) | Cell::Instant(value), Literal::Plain(plain)) => value.to_string() == *plain,
        _ => false,
    }
}

pub(crate) fn explain(part: &str, misfit: &Misfit) -> String {
    match misfit {
        Misfit::Json(error) => format!("{part}: {}", describe(error)),
        Misfit::Inside(wanted) => format!("{part}: a path wants {wanted}, and something else is there"),
    }
}

impl ToColumn for Cell<'_> {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        let is_time = matches!(target.kind, Kind::Timestamp | Kind::Timestamptz);
        match self {
            Self::Null => Ok(Written::Null),
            Self::Json(raw, Some(Unit::Days)) => match date(raw.get())? {
                None => Ok(Written::Null),
                Some(_) if target.kind != Kind::Date => {
                    Err(Defect::Invalid("`unit` d is for columns of type date"))
                }
                Some(date) => date.to_string().put(target, out),
            },
            Self::Json(raw, Some(unit)) => match instant(raw.get(), *unit)? {
                None => Ok(Written::Null),
                Some(_) if !is_time => Err(Defect::Invalid(
                    "a `unit` is for columns of type timestamp or timestamp with time zone",
                )),
                Some(instant) => instant.put(target, out),
            },
            Self::Json(raw, None)
                if is_time
                    && raw.get().starts_with(['-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) =>
            {
                Err(Defect::Invalid("a number, and the file does not say in which `unit` (s, ms, us, ns)"))
            }
            Self::Json(raw, None) => raw.put(target, out),
            Self::Text(text) => text.put(target, out),
            Self::Bytes(bytes) => bytes.put(target, out),
            Self::Number(number) => number.put(target, out),
            Self::Instant(ms) if target.kind == Kind::Int8 => ms.put(target, out),
            Self::Instant(ms) => match at(*ms, Unit::Milliseconds) {
                Some(instant) if is_time => instant.put(target, out),
                _ => Err(Defect::Invalid("a timestamp, for a column of another type")),
            },
            Self::Object(text) => text.put(target, out),
        }
    }
}

/// The day that a JSON number is, counted from 1970-01-01; `None` for `null`.
pub(crate) fn date(raw: &str) -> Result<Option<jiff::civil::Date>, Defect> {
    if raw == "null" {
        return Ok(None);
    }
    let days: i32 =
        raw.parse().map_err(|_| Defect::Invalid("no integer, and the file says that it counts days"))?;
    let out_of_range = Defect::Invalid("out of the range of dates");
    let days = jiff::Span::new().try_days(days).map_err(|_| out_of_range)?;
    jiff::civil::date(1970, 1, 1).checked_add(days).map(Some).map_err(|_| out_of_range)
}

/// The instant that a JSON number is in this unit; `None` for `null`.
pub(crate) fn instant(raw: &str, unit: Unit) -> Result<Option<SystemTime>, Defect> {
    if raw == "null" {
        return Ok(None);
    }
    let number: i64 =
        raw.parse().map_err(|_| Defect::Invalid("no integer, and the file says in which `unit` it is"))?;
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
