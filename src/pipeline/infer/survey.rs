//! What records look like: formats of keys and values, envelopes, fields.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::kind::Kinds;
use crate::offsets::ReadRecord;
use crate::pipeline::extract::{Raw, Tree};

/// Fields beyond these are not looked at.
const MAX_FIELDS: usize = 300;

/// What is around the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Around {
    Nothing,
    /// Connect's `{"schema": …, "payload": …}`.
    Payload,
    /// Debezium's event, with Connect's schema or without.
    Event,
}

/// What values, or keys, are for the most part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Objects,
    Json,
    Text,
    Bytes,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) kinds: Kinds,
    /// The last record in which it was counted: of a name that is there twice the first counts.
    last: Option<usize>,
}

/// Of keys or of values: how many there are of each shape.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Shapes {
    pub(super) nulls: usize,
    objects: usize,
    json: usize,
    text: usize,
    bytes: usize,
    /// They begin as those that refer to a schema registry do.
    pub(super) framed: usize,
}

impl Shapes {
    fn note(&mut self, bytes: Option<&[u8]>) {
        let Some(bytes) = bytes else {
            self.nulls += 1;
            return;
        };
        self.framed += usize::from(bytes.len() > 5 && bytes[0] == 0);
        if fields(bytes).is_some() {
            self.objects += 1;
        } else if serde_json::from_slice::<&RawValue>(bytes).is_ok() {
            self.json += 1;
        } else if std::str::from_utf8(bytes).is_ok_and(|text| !text.contains('\0')) {
            self.text += 1;
        } else {
            self.bytes += 1;
        }
    }

    pub(super) fn there(&self) -> usize {
        self.objects + self.json + self.text + self.bytes
    }

    /// What most are: the rest is `.1` of them. For keys, a number or a quoted text is as good as any other text.
    pub(super) fn most(&self) -> (Shape, usize) {
        let all = self.there();
        if self.objects > 0 && 2 * self.objects >= all {
            (Shape::Objects, all - self.objects)
        } else if self.bytes > 0 {
            (Shape::Bytes, 0)
        } else if self.text > 0 {
            (Shape::Text, 0)
        } else {
            (Shape::Json, 0)
        }
    }
}

/// All that is known.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) records: usize,
    pub(super) keys: Shapes,
    pub(super) values: Shapes,
    pub(super) around: Around,
    /// Of the rows, in the order of their coming.
    pub(super) fields: Vec<Field>,
    /// How many rows there were.
    pub(super) rows: usize,
    /// Of the key's object, without what is around it; empty unless all keys are objects of these fields.
    pub(super) key_fields: Vec<String>,
    /// Keys are in Connect's envelope.
    pub(super) key_payload: bool,
    /// Events that tell of deletions.
    pub(super) deletions: usize,
    pub(super) tombstones: usize,
}

impl Survey {
    pub(super) fn of(records: &[ReadRecord]) -> Self {
        let (mut keys, mut values) = (Shapes::default(), Shapes::default());
        let is_null = |value: &[u8]| value.trim_ascii() == b"null";
        for record in records {
            keys.note(record.key.as_deref());
            values.note(record.value.as_deref().filter(|value| !is_null(value)));
        }
        let objects: Vec<Vec<Name<'_>>> =
            records.iter().filter_map(|record| fields(record.value.as_deref()?)).collect();
        let around = around(&objects);
        let mut survey = Self {
            records: records.len(),
            tombstones: values.nulls,
            keys,
            values,
            around,
            fields: Vec::new(),
            rows: 0,
            key_fields: Vec::new(),
            key_payload: false,
            deletions: 0,
        };
        for object in objects {
            survey.note(object);
        }
        survey.look_at_keys(records);
        survey
    }

    /// Fields that no record has, too.
    pub(super) fn take_names<'a>(&mut self, names: impl Iterator<Item = &'a String>) {
        for name in names {
            if self.fields.len() < MAX_FIELDS && !self.fields.iter().any(|field| field.name == *name) {
                self.fields.push(Field { name: name.clone(), ..Field::default() });
            }
        }
    }

    fn note(&mut self, object: Vec<Name<'_>>) {
        let row = match self.around {
            Around::Nothing => Some(object),
            Around::Payload => inside(&object, "payload"),
            Around::Event => {
                let event = inside(&object, "payload").unwrap_or(object);
                let is_deletion = event.iter().any(|(name, raw)| name == "op" && raw.get() == "\"d\"");
                self.deletions += usize::from(is_deletion);
                // What is left of a deleted row may be its key alone.
                if is_deletion { None } else { inside(&event, "after") }
            }
        };
        let Some(row) = row else { return };
        self.rows += 1;
        for (name, raw) in row {
            let at = match self.fields.iter().position(|field| *field.name == *name) {
                Some(at) => at,
                None if self.fields.len() == MAX_FIELDS => continue,
                None => {
                    self.fields.push(Field { name: name.into_owned(), ..Field::default() });
                    self.fields.len() - 1
                }
            };
            let field = &mut self.fields[at];
            if field.last != Some(self.rows) {
                field.last = Some(self.rows);
                field.kinds.note(raw);
            }
        }
    }

    fn look_at_keys(&mut self, records: &[ReadRecord]) {
        let mut all: Option<Vec<String>> = None;
        for key in records.iter().filter_map(|record| record.key.as_deref()) {
            let Some(object) = fields(key) else { return };
            let payload =
                inside(&object, "payload").filter(|_| object.iter().any(|(name, _)| name == "schema"));
            self.key_payload |= payload.is_some();
            let object = payload.unwrap_or(object);
            let mut names: Vec<String> = object.into_iter().map(|(name, _)| name.into_owned()).collect();
            names.dedup();
            if all.get_or_insert_with(|| names.clone()) != &names {
                return;
            }
        }
        self.key_fields = all.unwrap_or_default();
    }
}

type Name<'a> = (Cow<'a, str>, Raw<'a>);

/// The fields of a JSON object, in their order; none: it is no object.
fn fields(document: &[u8]) -> Option<Vec<Name<'_>>> {
    if document.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    let mut fields = Vec::new();
    Tree::default().fill(document, &mut [], Some(&mut fields)).ok()?;
    Some(fields)
}

/// The fields of the object that a field holds.
fn inside<'a>(object: &[Name<'a>], field: &str) -> Option<Vec<Name<'a>>> {
    let (_, raw) = object.iter().find(|(name, _)| name == field)?;
    fields(raw.get().as_bytes())
}

/// What is around most of them.
fn around(objects: &[Vec<Name<'_>>]) -> Around {
    let has = |object: &[Name<'_>], field: &str| object.iter().any(|(name, _)| name == field);
    let is_event = |object: &[Name<'_>]| has(object, "op") && (has(object, "after") || has(object, "before"));
    let (mut events, mut payloads) = (0, 0);
    for object in objects {
        let payload = inside(object, "payload").filter(|_| has(object, "schema") && object.len() == 2);
        match payload {
            Some(payload) if is_event(&payload) => events += 1,
            Some(_) => payloads += 1,
            None => events += usize::from(is_event(object)),
        }
    }
    match objects.len() {
        0 => Around::Nothing,
        all if 2 * events >= all => Around::Event,
        all if 2 * payloads >= all => Around::Payload,
        _ => Around::Nothing,
    }
}
