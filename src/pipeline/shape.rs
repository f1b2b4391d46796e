//! The columns that a schema's fields would be.

use prost_reflect::{Cardinality, FieldDescriptor, Kind, MessageDescriptor};

use super::semantic::Semantic;

/// A field of a row, as a column of a table that is made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: String,
    /// As SQL writes it.
    pub(crate) sql_type: String,
    /// Whether each value of the schema says it.
    pub(crate) not_null: bool,
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
pub(crate) fn of_message(message: &MessageDescriptor) -> Vec<Field> {
    let field = |field: FieldDescriptor| Field {
        name: field.name().to_owned(),
        sql_type: of_field(&field),
        not_null: !field.supports_presence(),
    };
    message.fields().map(field).collect()
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
