//! Rows from JSON objects: a field goes into the column of its name.

use std::fmt;

use serde::Serialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::absent::LOOKED_AT;
use super::finite::{Finite, Stop};
use super::plan::Column;
use super::row::{Failure, Fields};
use super::rows::Rows;
use super::target::{Defect, Kind};
use super::value::ToColumn;
use crate::HandlerError;

const TEXT_FOR_ARRAY: Defect =
    Defect::Invalid("text, and it takes an array: the key must be a JSON object with a field of this name");

/// Tables of more columns cost an allocation per record.
const FEW: usize = 32;

impl Rows<'_> {
    /// Adds a row from a JSON object to the sink's (first) table: each column takes the field of its name, or `NULL` if
    /// there is none. Other fields are ignored; `null` is `NULL`, also in a JSON column.
    ///
    /// A value becomes what its column's type makes of it, as the table in docs/table-sink.md, "Types", says; what does
    /// not fit rejects the record. Columns for which none of the first 1,000 objects had a field are told at WARN, once.
    ///
    /// # Errors
    /// As [`push`](Self::push); a rejection if it is no JSON object, or one with a field for none of the columns.
    pub fn push_json(&mut self, object: &[u8]) -> Result<(), HandlerError> {
        self.json_to(0, object, false)
    }

    /// Adds a row from whatever serializes as a JSON object (a struct, a map), as [`push_json`](Self::push_json) does.
    /// Slower than [`push`](Self::push), since it takes the way through JSON.
    ///
    /// # Errors
    /// As [`push_json`](Self::push_json); a rejection of a float that JSON cannot say (NaN, infinite).
    pub fn push_fields<T: Serialize>(&mut self, fields: &T) -> Result<(), HandlerError> {
        if fields.serialize(Finite) == Err(Stop::NotFinite) {
            let what = "a row with a float that JSON cannot say (NaN or infinite): push a tuple, or text";
            return Err(HandlerError::reject(self.record(), what));
        }
        let object = serde_json::to_vec(fields).map_err(|error| {
            HandlerError::reject(self.record(), "a row that cannot be written as JSON").with_source(error)
        })?;
        self.push_json(&object)
    }

    /// For [`TableSink::json`](super::TableSink::json): a record's value is a row; a tombstone deletes that of its key.
    pub(crate) fn push_record(&mut self) -> Result<(), HandlerError> {
        let record = *self.record();
        if let Some(value) = record.value() {
            return self.push_json(value);
        }
        if !self.is_keyed(0) {
            return Err(HandlerError::reject(&record, "the value is null"));
        }
        match record.key() {
            Some(key @ [b'{', ..]) => self.json_to(0, key, true),
            Some(key @ [b'"', ..]) => {
                let key: &RawValue = serde_json::from_slice(key).map_err(|error| {
                    let what = crate::record::json::describe(&error);
                    HandlerError::reject(&record, format!("the key begins as a JSON string: {what}"))
                })?;
                self.delete_one(key)
            }
            Some(key) => {
                let key = std::str::from_utf8(key);
                let key = key.map_err(|_| HandlerError::reject(&record, "the key is not UTF-8"))?;
                self.delete_one(key)
            }
            None => Err(HandlerError::reject(&record, "key and value are null")),
        }
    }

    /// Deletes the row of a key that is one value. How many values a key has, and whether it is text, is the record's doing.
    fn delete_one<T: ToColumn + ?Sized>(&mut self, value: &T) -> Result<(), HandlerError> {
        let (columns, key) = (self.columns(0), self.key(0));
        let of_array = match key {
            [at] => columns[*at].target.kind == Kind::Array,
            _ => {
                let names: Vec<&str> = key.iter().map(|&at| columns[at].name.as_str()).collect();
                let what = format!(
                    "table {}: the key is ({}), and a tombstone's is one value: it must be a JSON object with these fields",
                    self.table_name(0),
                    names.join(", ")
                );
                return Err(HandlerError::reject(self.record(), what));
            }
        };
        self.delete_from(0, |fields| {
            fields.put(value).map_err(|failure| match failure {
                Failure::Column(at, Defect::Mismatch(_)) if of_array => Failure::Column(at, TEXT_FOR_ARRAY),
                failure => failure,
            })
        })
    }

    fn json_to(&mut self, table: usize, object: &[u8], delete: bool) -> Result<(), HandlerError> {
        let columns = self.columns(table);
        let (mut few, mut many);
        let slots: &mut [Option<&RawValue>] = if columns.len() <= FEW {
            few = [None; FEW];
            &mut few[..columns.len()]
        } else {
            many = vec![None; columns.len()];
            &mut many
        };
        let mut json = serde_json::Deserializer::from_slice(object);
        let read = Object { columns, slots: &mut *slots, next: 0 }.deserialize(&mut json);
        read.and_then(|()| json.end())
            .map_err(|error| HandlerError::reject(self.record(), crate::record::json::describe(&error)))?;
        if delete {
            let key: Vec<usize> = self.key(table).to_vec();
            if key.iter().all(|&at| slots[at].is_none()) {
                return Err(self.nothing_of(table, key.iter().map(|&at| &columns[at])));
            }
            self.delete_from(table, |fields| key.iter().try_for_each(|&at| put(slots[at], fields)))
        } else {
            let given = self.given(table);
            if slots[..given].iter().all(Option::is_none) {
                return Err(self.nothing_of(table, columns[..given].iter()));
            }
            self.note_absent(table, &slots[..given]);
            self.push_to(table, |fields| slots[..given].iter().try_for_each(|slot| put(*slot, fields)))
        }
    }

    /// A row of NULLs, or a key of them, is what nobody means. Fields' names belong to the record: they are not told.
    #[cold]
    fn nothing_of<'c>(&self, table: usize, columns: impl Iterator<Item = &'c Column>) -> HandlerError {
        let columns: Vec<&str> = columns.map(|column| column.name.as_str()).collect();
        let what = format!(
            "table {}: none of the columns {} is among the object's fields: is the row inside an envelope, or are its \
             fields named in another way (camelCase)?",
            self.table_name(table),
            columns.join(", ")
        );
        HandlerError::reject(self.record(), what)
    }

    fn note_absent(&self, table: usize, slots: &[Option<&RawValue>]) {
        let absent = self.absent(table).note(slots.iter().map(Option::is_some));
        if !absent.is_empty() {
            let columns: Vec<&str> =
                absent.iter().map(|&column| self.columns(table)[column].name.as_str()).collect();
            tracing::warn!(
                table = self.table_name(table),
                columns = columns.join(", "),
                "none of the first {LOOKED_AT} objects had a field for these columns: they are NULL in every row"
            );
        }
    }
}

fn put(value: Option<&RawValue>, fields: &mut Fields<'_>) -> Result<(), Failure> {
    fields.put(&value)
}

/// Finds the fields that are columns; nothing is copied.
struct Object<'s, 'de> {
    columns: &'s [Column],
    slots: &'s mut [Option<&'de RawValue>],
    /// Where the next field most likely goes: objects of a topic mostly have one order.
    next: usize,
}

/// Which column a field's name is.
struct Name<'s> {
    columns: &'s [Column],
    next: usize,
}

impl<'de> DeserializeSeed<'de> for Object<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object with a field per column")
    }

    fn visit_map<M: MapAccess<'de>>(mut self, mut map: M) -> Result<(), M::Error> {
        while let Some(column) = map.next_key_seed(Name { columns: self.columns, next: self.next })? {
            match column {
                Some(column) => {
                    self.slots[column] = Some(map.next_value()?);
                    self.next = column + 1;
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Option<usize>, E> {
        if self.columns.get(self.next).is_some_and(|column| column.name == name) {
            return Ok(Some(self.next));
        }
        Ok(self.columns.iter().position(|column| column.name == name))
    }
}
