//! A record into a row, by a compiled sink.

use serde_json::value::RawValue;

use super::cell::Cell;
use super::condition::Literal;
use super::connect::{Buffers, Unwrapped};
use super::debezium::{Change, Event};
use super::extract::{Misfit, Raw, Rest};
use super::file::{Deletes, Envelope, Extra, Format, KeyFormat, Missing, Unit};
use super::path::Root;
use super::semantic;
use super::sink::{Column, Sink, Source};
use super::unchanged::Unchanged;
use crate::Record;
use crate::record::json::describe;

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
    slots: Vec<Option<Raw<'a>>>,
    rest: Rest<'a>,
    pub(crate) outcome: Outcome,
    /// A deletion says what the row was.
    has_before: bool,
    /// For what has a schema.
    buffers: &'a Buffers,
    /// Without its envelope; `None`: it was not needed yet.
    key: Option<Unwrapped<'a>>,
    value_has_schema: bool,
    /// A value of a schema without a single field.
    is_blank: bool,
}

impl<'a> Mapped<'a> {
    /// Whether a record is not meant, whatever its value is.
    pub(crate) fn is_excluded(sink: &'a Sink, input: Input<'a>, buffers: &'a Buffers) -> bool {
        let excluded = Self::of_key(sink, input, buffers)
            .and_then(|mapped| mapped.is_meant(|root| !matches!(root, Root::Value | Root::Event)));
        excluded == Ok(false)
    }

    fn of_key(sink: &'a Sink, input: Input<'a>, buffers: &'a Buffers) -> Result<Self, String> {
        let mut mapped = Self {
            sink,
            input,
            slots: vec![None; sink.slots],
            rest: Rest::new(),
            outcome: Outcome::Row,
            has_before: false,
            buffers,
            key: input
                .key
                .filter(|_| sink.key_codec.is_canonical())
                .map(|document| Unwrapped { document, has_schema: true }),
            value_has_schema: sink.value_codec.is_canonical(),
            is_blank: false,
        };
        if !sink.key_tree.is_empty()
            && let Some(key) = mapped.key()?
        {
            sink.key_tree.fill(key, &mut mapped.slots, None).map_err(|misfit| explain("key", &misfit))?;
        }
        Ok(mapped)
    }

    /// # Errors
    /// Why the record is rejected, without a value of it.
    pub(crate) fn new(sink: &'a Sink, input: Input<'a>, buffers: &'a Buffers) -> Result<Self, String> {
        let mut mapped = Self::of_key(sink, input, buffers)?;
        // What a JSON null says is that there is none.
        let value = input.value.filter(|value| sink.value != Format::Json || value.trim_ascii() != b"null");
        mapped.outcome = match value {
            // What is not meant is not looked at.
            _ if !mapped.is_meant(|root| !matches!(root, Root::Value | Root::Event))? => Outcome::Nothing,
            // It follows the event that tells of the deletion, for the sake of compaction.
            None if sink.envelope == Envelope::Debezium => Outcome::Nothing,
            None => mapped.tombstone()?,
            Some(value) if sink.envelope == Envelope::Debezium => mapped.event(value)?,
            Some(value) if sink.envelope == Envelope::ConnectJson => {
                let unwrapped = sink.envelopes.unwrap("value", value, &buffers.value)?;
                mapped.value_has_schema = unwrapped.has_schema;
                if unwrapped.document == b"null" {
                    mapped.tombstone()?
                } else {
                    mapped.row(unwrapped.document)?
                }
            }
            Some(value) if sink.value == Format::Json => mapped.row(value)?,
            Some(_) => mapped.meant_row(None)?,
        };
        Ok(mapped)
    }

    fn row(&mut self, document: &'a [u8]) -> Result<Outcome, String> {
        self.is_blank = self.value_has_schema && document == b"{}";
        let rest = self.sink.collects_rest.then_some(&mut self.rest);
        match self.sink.value_tree.fill(document, &mut self.slots, rest) {
            Ok(()) => self.meant_row(None),
            Err(misfit @ Misfit::Inside(_)) => self.meant_row(Some(&misfit)),
            Err(misfit) => Err(explain("value", &misfit)),
        }
    }

    /// A row, if it is meant; what does not fit in it is of interest only then.
    fn meant_row(&self, misfit: Option<&Misfit>) -> Result<Outcome, String> {
        if !self.is_meant(|_| true)? {
            return Ok(Outcome::Nothing);
        }
        if let Some(misfit) = misfit {
            return Err(explain("value", misfit));
        }
        self.check()?;
        if let Some(unchanged) = &self.sink.unchanged {
            self.check_said(unchanged)?;
        }
        Ok(Outcome::Row)
    }

    fn event(&mut self, value: &'a [u8]) -> Result<Outcome, String> {
        let sink = self.sink;
        let Event { change, is_taken } = match sink.parts.plain(value, &mut self.slots) {
            Some(event) => event?,
            None => {
                let Unwrapped { document, has_schema } =
                    sink.envelopes.unwrap_if("value", value, &self.buffers.value)?;
                self.value_has_schema |= has_schema;
                let event = sink.parts.read(document, &mut self.slots)?;
                if !event.is_taken && !sink.event_tree.is_empty() {
                    let filled = sink.event_tree.fill(document, &mut self.slots, None);
                    filled.map_err(|misfit| explain("value", &misfit))?;
                }
                event
            }
        };
        match change {
            Change::Message => Ok(Outcome::Nothing),
            Change::Written(_) if is_taken && sink.takes_rows_with_events => self.meant_row(None),
            Change::Written(row) => self.row(row.get().as_bytes()),
            Change::Deleted(row) => {
                // Of a row that is there no more, `after` says nothing.
                sink.value_tree.clear(&mut self.slots);
                self.has_before = row.is_some();
                match row {
                    Some(row) => match sink.value_tree.fill(row.get().as_bytes(), &mut self.slots, None) {
                        // Of a row that was, only the key is of interest.
                        Ok(()) | Err(Misfit::Inside(_)) => {}
                        Err(misfit) => return Err(explain("value", &misfit)),
                    },
                    None => self.look_into_key()?,
                }
                if !self.is_meant(|root| *root != Root::Value)? {
                    return Ok(Outcome::Nothing);
                }
                match &sink.deletes {
                    Deletes::Ignore => Ok(Outcome::Nothing),
                    Deletes::Reject => Err("a deletion, and the sink does not apply them".to_owned()),
                    Deletes::Apply | Deletes::Soft(_) => Ok(Outcome::Delete),
                }
            }
        }
    }

    fn tombstone(&mut self) -> Result<Outcome, String> {
        match &self.sink.deletes {
            Deletes::Ignore => return Ok(Outcome::Nothing),
            Deletes::Reject => {
                return Err(
                    "the value is null (a tombstone), and the sink does not apply deletions".to_owned()
                );
            }
            Deletes::Apply | Deletes::Soft(_) => {}
        }
        if self.key()?.is_none() {
            return Err("key and value are null".to_owned());
        }
        self.look_into_key()?;
        Ok(Outcome::Delete)
    }

    /// For what a key says of columns whose values are in the value otherwise.
    fn look_into_key(&mut self) -> Result<(), String> {
        if self.sink.key_format == KeyFormat::Json
            && let Some(key) = self.key()?
            && is_object(key)
        {
            let filled = self.sink.deletion_tree.fill(key, &mut self.slots, None);
            filled.map_err(|misfit| explain("key", &misfit))?;
        }
        Ok(())
    }

    /// The record's key; JSON without Connect's envelope, where there may be one.
    fn key(&mut self) -> Result<Option<&'a [u8]>, String> {
        let Some(key) = self.input.key else { return Ok(None) };
        let may_have_one = self.sink.key_format == KeyFormat::Json && self.sink.envelope != Envelope::None;
        if self.key.is_none() && !may_have_one {
            return Ok(Some(key));
        }
        if self.key.is_none() {
            self.key = Some(self.sink.envelopes.unwrap_if("key", key, &self.buffers.key)?);
        }
        Ok(self.key.map(|key| key.document))
    }

    /// A value of the key or the value, for a column.
    fn json(&self, raw: Raw<'a>, unit: Option<Unit>) -> Result<Cell<'a>, String> {
        let documents = [self.buffers.value.get(), self.buffers.key.get()];
        if let Some(what) = documents.into_iter().flatten().find_map(|document| document.failure(raw)) {
            return Err(what.to_owned());
        }
        let has_schema = match self.key {
            Some(key) if is_within(raw, key.document) => key.has_schema,
            _ => self.value_has_schema,
        };
        Ok(match unit {
            _ if has_schema && raw.get().starts_with('"') => Cell::OfSchema(raw, unit.is_some()),
            None if !has_schema && self.sink.envelope == Envelope::Debezium => Cell::OfEvent(raw),
            unit => Cell::Json(raw, unit),
        })
    }

    /// Whether `where` holds, as far as it is about `known` parts of the record.
    fn is_meant(&self, known: fn(&Root) -> bool) -> Result<bool, String> {
        for (source, comparison) in self.sink.condition.iter().filter(|(_, one)| known(&one.path.root)) {
            let cell = self.cell_of(source).map_err(|what| format!("{}: {what}", comparison.path))?;
            if self.is_unsaid(source) && comparison.literal != Literal::Null {
                return Err(format!(
                    "where: {} is a large value that has not changed, and is not in the event",
                    comparison.path
                ));
            }
            if cell.equals(&comparison.literal) != comparison.equal {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn check(&self) -> Result<(), String> {
        let absent = |column: &Column| match &column.source {
            Source::Slot(slot, _) => self.slots[*slot].is_none(),
            Source::Rest | Source::Mark => false,
            source => matches!(self.cell_of(source), Ok(Cell::Null)),
        };
        if self.sink.missing == Some(Missing::Reject)
            && let Some(Column { name, path: Some(path), .. }) =
                self.sink.columns.iter().find(|column| absent(column))
        {
            return Err(format!("column {name}: there is no {path}"));
        }
        // An envelope, or names that are spelled in another way, would be rows of NULLs over good ones.
        let of_value = |column: &&Column| column.path.as_ref().is_some_and(|path| path.root == Root::Value);
        let of_value = || self.sink.columns.iter().filter(of_value);
        // A message may have no field that is there.
        let may_be_blank = self.is_blank && self.sink.takes_all;
        if self.sink.missing.is_none()
            && !may_be_blank
            && of_value().next().is_some()
            && of_value().all(absent)
        {
            let names: Vec<&str> = of_value().map(|column| column.name.as_str()).collect();
            return Err(format!(
                "the value has none of the columns {}: is the row inside an envelope, or are its fields named in another way \
                 (camelCase)? If NULLs are meant, missing = \"null\"",
                names.join(", ")
            ));
        }
        if self.sink.extra == Extra::Reject && !self.rest.is_empty() {
            return Err("the value has a field that no column takes".to_owned());
        }
        Ok(())
    }

    /// Large values that have not changed are left out, and something says so in their place. A column can keep such a
    /// value, but not a part of one.
    fn check_said(&self, unchanged: &Unchanged) -> Result<(), String> {
        let is_key = |name: &String| self.sink.table.key.as_ref().is_some_and(|key| key.contains(name));
        let missing = |column: &&Column| match column.source {
            Source::Slot(slot, _) => self.slots[slot].is_some_and(|raw| {
                let keeps = self.sink.keeps && !is_key(&column.name);
                unchanged.is_in(raw) && !(keeps && unchanged.is(raw))
            }),
            _ => false,
        };
        if let Some(Column { name, .. }) = self.sink.columns.iter().find(missing) {
            return Err(format!(
                "column {name}: a large value that has not changed is not in the event: ALTER TABLE … REPLICA IDENTITY FULL at \
                 the source, or leave the column out"
            ));
        }
        if self.rest.iter().any(|(_, raw)| unchanged.is_in(*raw)) {
            return Err(
                "a large value that has not changed is not in the event, and would go into `rest`".to_owned()
            );
        }
        Ok(())
    }

    /// The value for a column.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn cell(&self, column: usize) -> Result<Cell<'a>, String> {
        let source = &self.sink.columns[column].source;
        if self.is_unsaid(source) { Ok(Cell::Keep) } else { self.cell_of(source) }
    }

    /// The version of a deletion, for its column.
    ///
    /// # Errors
    /// If the record does not say it.
    pub(crate) fn version(&self, column: usize) -> Result<Cell<'a>, String> {
        let cell = self.cell(column)?;
        if cell.is_null() {
            let name = &self.sink.columns[column].name;
            return Err(format!("column {name}: the deletion does not say its version"));
        }
        Ok(cell)
    }

    /// The value for a column, beside the key's, of a row that is marked as gone.
    pub(crate) fn mark(&self, column: usize) -> Result<Cell<'a>, String> {
        match &self.sink.columns[column].source {
            source @ Source::Mark => self.cell_of(source),
            _ => Ok(Cell::Keep),
        }
    }

    /// Whether something stands for the value because it has not changed.
    fn is_unsaid(&self, source: &Source) -> bool {
        match (source, &self.sink.unchanged) {
            (Source::Slot(slot, _), Some(unchanged)) => {
                self.slots[*slot].is_some_and(|raw| unchanged.is(raw))
            }
            _ => false,
        }
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
        let (in_row, unit) = match source {
            Source::Slot(slot, unit) => (self.slots[*slot], *unit),
            _ => (None, None),
        };
        // An event's row says it, or the key.
        if let Some(raw) = in_row.or_else(|| in_key.and_then(|slot| self.slots[slot])) {
            if self.sink.unchanged.as_ref().is_some_and(|unchanged| unchanged.is_in(raw)) {
                return Err(format!("column {name}: the event does not say it"));
            }
            return self.json(raw, unit);
        }
        let key = self.key.map(|key| key.document).or(self.input.key).unwrap_or_default();
        let object = self.sink.key_format == KeyFormat::Json && is_object(key);
        if !alone || object || self.has_before || self.sink.key_format == KeyFormat::None {
            return Err(format!("the key does not say which row to delete: nothing in it is column {name}"));
        }
        match self.sink.key_format {
            KeyFormat::Json => {
                let raw: &RawValue =
                    serde_json::from_slice(key).map_err(|error| format!("key: {}", describe(&error)))?;
                self.json(raw.into(), unit)
            }
            _ => self.cell_of(&Source::Key),
        }
    }

    fn cell_of(&self, source: &Source) -> Result<Cell<'a>, String> {
        Ok(match source {
            Source::Slot(slot, unit) => match (self.slots[*slot], unit, self.sink.envelope) {
                (None, _, _) => Cell::Null,
                (Some(raw), Some(unit), Envelope::Debezium) => match infinity(raw, *unit) {
                    Some(text) => Cell::Text(text),
                    None => self.json(raw, Some(*unit))?,
                },
                (Some(raw), unit, _) => self.json(raw, *unit)?,
            },
            Source::Value => Cell::whole(self.input.value, self.sink.value == Format::String, "value")?,
            Source::Key => Cell::whole(self.input.key, self.sink.key_format == KeyFormat::String, "key")?,
            Source::Header(name) => Cell::whole(self.input.headers.last(name), true, "a header")?,
            Source::Topic => Cell::Text(self.input.topic),
            Source::Partition => Cell::Number(self.input.partition.into()),
            Source::Offset => Cell::Number(self.input.offset),
            Source::Timestamp => self.input.timestamp_ms.map_or(Cell::Null, Cell::Instant),
            Source::Rest => {
                for (_, raw) in &self.rest {
                    self.json(*raw, None)?;
                }
                Cell::Object(object(&self.rest))
            }
            // The record's time, so that a redrive, or another cut, marks it with the same.
            Source::Mark if self.outcome == Outcome::Delete => Cell::Gone(self.input.timestamp_ms),
            Source::Mark => Cell::There,
        })
    }
}

fn is_within(raw: Raw<'_>, document: &[u8]) -> bool {
    let start = document.as_ptr().addr();
    (start..start + document.len()).contains(&raw.get().as_ptr().addr())
}

/// A number of an event that is none.
fn infinity(raw: Raw<'_>, unit: Unit) -> Option<&'static str> {
    semantic::infinity(raw.get().parse().ok()?, unit)
}

fn is_object(text: &[u8]) -> bool {
    text.trim_ascii_start().first() == Some(&b'{')
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

pub(crate) fn explain(part: &str, misfit: &Misfit) -> String {
    match misfit {
        Misfit::Json(error) => format!("{part}: {}", describe(error)),
        Misfit::Inside(wanted) => format!("{part}: a path wants {wanted}, and something else is there"),
    }
}
