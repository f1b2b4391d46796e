//! The columns that a schema's fields would be.

use prost_reflect::{Cardinality, FieldDescriptor, Kind, MessageDescriptor};

use super::path::{Path, Root, Step};
use super::semantic::Semantic;

/// Objects in objects become columns so deep; what is deeper, or inside of itself, stays a document.
const DEEPEST: usize = 8;
/// Postgres has no more columns. A small schema can have any number of fields, by naming records twice.
pub(crate) const MOST: usize = 1_600;
/// And cuts names with more bytes.
pub(crate) const LONGEST_NAME: usize = 63;

/// A field of a row, as a column of a table that is made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: String,
    /// Where its value is.
    pub(crate) path: Path,
    /// As SQL writes it.
    pub(crate) sql_type: String,
    /// Whether each value of the schema says it.
    pub(crate) not_null: bool,
}

/// Takes a row's fields; those of objects in the objects' place, where there is a separator for their names.
#[derive(Debug, Default)]
pub(crate) struct Fields<'a> {
    separator: Option<&'a str>,
    /// The objects around.
    around: Vec<String>,
    /// How many of these may be missing.
    optional: usize,
    found: Vec<Field>,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(separator: Option<&'a str>) -> Self {
        Self { separator, ..Self::default() }
    }

    /// A field that is a column.
    pub(crate) fn push(&mut self, name: &str, sql_type: String, not_null: bool) {
        let names = self.around.iter().map(String::as_str).chain([name]);
        let steps = names.clone().map(|name| Step::Field(name.to_owned())).collect();
        let name = names.collect::<Vec<_>>().join(self.separator.unwrap_or_default());
        let not_null = not_null && self.optional == 0;
        self.found.push(Field { name, path: Path { root: Root::Value, steps }, sql_type, not_null });
    }

    /// Whether an object's fields may become columns.
    pub(crate) fn may_enter(&self) -> bool {
        self.separator.is_some() && self.around.len() < DEEPEST && self.found.len() < MOST
    }

    /// Takes the fields of an object, by `take`.
    pub(crate) fn enter<T>(&mut self, name: String, not_null: bool, take: impl FnOnce(&mut Self) -> T) -> T {
        self.around.push(name);
        self.optional += usize::from(!not_null);
        let taken = take(self);
        self.around.pop();
        self.optional -= usize::from(!not_null);
        taken
    }

    pub(crate) fn finish(self) -> Vec<Field> {
        self.found
    }
}

/// Two fields whose columns have one name, for messages.
pub(crate) fn twice(fields: &[Field]) -> Option<String> {
    let (at, field) = fields
        .iter()
        .enumerate()
        .find(|(at, field)| fields[..*at].iter().any(|other| other.name == field.name))?;
    let other = fields[..at].iter().find(|other| other.name == field.name)?;
    Some(format!("{} and {} are both column {}", other.path, field.path, field.name))
}

/// One whose column's name would be cut.
pub(crate) fn too_long(fields: &[Field]) -> Option<&Field> {
    fields.iter().find(|field| field.name.len() > LONGEST_NAME)
}

/// The type of a column for values that stand for something.
pub(crate) fn of_semantic(semantic: &Semantic) -> &'static str {
    match semantic {
        Semantic::Date => "date",
        Semantic::Time(_) => "time",
        Semantic::Timestamp(_) => "timestamp",
        Semantic::Instant(_) => "timestamptz",
        Semantic::Decimal(_) | Semantic::VariableScaleDecimal => "numeric",
        Semantic::Json => "jsonb",
        Semantic::Bits(_) => "varbit",
        Semantic::EnumSet => "text[]",
        Semantic::MicroDuration | Semantic::NanoDuration => "interval",
        Semantic::Year => "integer",
        Semantic::Text | Semantic::TextBeforeZ | Semantic::Refused(_) => "text",
    }
}

/// `numeric` with what a schema says of its digits, if Postgres has so many.
pub(crate) fn numeric(precision: Option<u32>, scale: i32) -> String {
    match precision {
        Some(precision @ 1..=1_000) if (-1_000..=1_000).contains(&scale) => {
            format!("numeric({precision},{scale})")
        }
        _ => "numeric".to_owned(),
    }
}

/// A message's fields.
pub(crate) fn of_message(message: &MessageDescriptor, separator: Option<&str>) -> Vec<Field> {
    let mut fields = Fields::new(separator);
    add_message(message, &mut fields, &mut vec![message.full_name().to_owned()]);
    fields.finish()
}

/// `within`: the messages around, by name.
fn add_message(message: &MessageDescriptor, fields: &mut Fields<'_>, within: &mut Vec<String>) {
    for field in message.fields() {
        let (name, not_null) = (field.name().to_owned(), !field.supports_presence());
        match object_of(&field) {
            Some(inner) if fields.may_enter() && !within.iter().any(|name| name == inner.full_name()) => {
                within.push(inner.full_name().to_owned());
                fields.enter(name, not_null, |fields| add_message(&inner, fields, within));
                within.pop();
            }
            _ => fields.push(&name, of_field(&field), not_null),
        }
    }
}

/// The message that a field is, if it has fields of its own.
fn object_of(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    if field.is_map() || field.cardinality() == Cardinality::Repeated {
        return None;
    }
    match field.kind() {
        Kind::Message(message) if !message.full_name().starts_with("google.protobuf.") => Some(message),
        _ => None,
    }
}

fn of_field(field: &FieldDescriptor) -> String {
    if field.is_map() {
        return "jsonb".to_owned();
    }
    let one = of_kind(&field.kind());
    match field.cardinality() {
        Cardinality::Repeated if one == "jsonb" => one.to_owned(),
        Cardinality::Repeated => format!("{one}[]"),
        _ => one.to_owned(),
    }
}

fn of_kind(kind: &Kind) -> &'static str {
    match kind {
        Kind::Double => "double precision",
        Kind::Float => "real",
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "integer",
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 | Kind::Uint32 | Kind::Fixed32 => "bigint",
        Kind::Uint64 | Kind::Fixed64 => "numeric(20)",
        Kind::Bool => "boolean",
        Kind::String | Kind::Enum(_) => "text",
        Kind::Bytes => "bytea",
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.Timestamp" => "timestamptz",
            "google.protobuf.Duration" => "interval",
            "google.protobuf.DoubleValue" => "double precision",
            "google.protobuf.FloatValue" => "real",
            "google.protobuf.Int32Value" => "integer",
            "google.protobuf.Int64Value" | "google.protobuf.UInt32Value" => "bigint",
            "google.protobuf.UInt64Value" => "numeric(20)",
            "google.protobuf.BoolValue" => "boolean",
            "google.protobuf.StringValue" => "text",
            "google.protobuf.BytesValue" => "bytea",
            _ => "jsonb",
        },
    }
}
