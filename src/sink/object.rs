//! Rows from JSON objects: a field goes into the column of its name.

use std::fmt;

use serde::Serialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::plan::Column;
use super::row::{Failure, Fields};
use super::rows::Rows;
use super::target::{Put, Target};
use super::text;
use super::value::ToColumn;
use crate::HandlerError;

/// Tables of more columns cost an allocation per record.
const FEW: usize = 32;

impl Rows<'_> {
    /// Adds a row from a JSON object to the sink's (first) table: each column takes the field of its name, or `NULL` if
    /// there is none. Other fields are ignored; `null` is `NULL`, also in a JSON column.
    ///
    /// A value is converted to its column's type: numbers, text and booleans as one would expect, numbers also from
    /// text; times from RFC 3339 text or milliseconds since 1970; `bytea` from `\x` and hexadecimal digits; arrays; and
    /// whatever it is into `json` and `jsonb`. What does not fit rejects the record.
    ///
    /// # Errors
    /// As [`push`](Self::push); a rejection if it is no JSON object.
    pub fn push_json(&mut self, object: &[u8]) -> Result<(), HandlerError> {
        self.json_to(0, object, false)
    }

    /// Adds a row from whatever serializes as a JSON object (a struct, a map), as [`push_json`](Self::push_json) does.
    /// Slower than [`push`](Self::push), since it takes the way through JSON.
    ///
    /// # Errors
    /// As [`push_json`](Self::push_json).
    pub fn push_fields<T: Serialize>(&mut self, fields: &T) -> Result<(), HandlerError> {
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
        if !self.is_upsert(0) {
            return Err(HandlerError::reject(&record, "the value is null"));
        }
        match record.key() {
            Some(key @ [b'{', ..]) => self.json_to(0, key, true),
            Some(key) => {
                let key = std::str::from_utf8(key);
                let key = key.map_err(|_| HandlerError::reject(&record, "the key is not UTF-8"))?;
                self.delete_from(0, |fields| fields.put(&Loose(key)))
            }
            None => Err(HandlerError::reject(&record, "key and value are null")),
        }
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
            self.delete_from(table, |fields| key.iter().try_for_each(|&at| put(slots[at], fields)))
        } else {
            self.push_to(table, |fields| {
                let given = fields.wanted();
                slots[..given].iter().try_for_each(|slot| put(*slot, fields))
            })
        }
    }
}

fn put(value: Option<&RawValue>, fields: &mut Fields<'_>) -> Result<(), Failure> {
    fields.put(&value)
}

/// Text that is read as whatever its column is.
struct Loose<'a>(&'a str);

impl ToColumn for Loose<'_> {
    fn put(&self, target: &Target, out: &mut bytes::BytesMut) -> Put {
        text::put_loose_text(self.0, target, out)
    }
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
