//! What a column wants: the SQL types that we encode ourselves, and what the server says of the rest.

use tokio_postgres::types::{Kind as PgKind, Type};

/// What becomes of U+0000, which Postgres can hold neither in `text` nor in `jsonb`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Nul {
    /// The record is rejected.
    #[default]
    Reject,
    /// It is left out.
    Strip,
    /// Text may be written to `bytea` columns, as its UTF-8 bytes with every U+0000; in `text` and `jsonb` columns the
    /// record is rejected.
    Bytes,
}

/// The encodings that we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric,
    /// Whatever the server reads as text: also enums and `citext`.
    Text,
    Bytea,
    Uuid,
    Date,
    Time,
    Timestamp,
    Timestamptz,
    Interval,
    Json,
    Jsonb,
    Inet,
    Cidr,
    Array,
    /// Text, of which the server makes the value by its own input function.
    Input,
    /// Only through [`Sql`](super::Sql).
    Other,
}

impl Kind {
    fn of(ty: &Type) -> Self {
        match *ty {
            Type::BOOL => return Self::Bool,
            Type::INT2 => return Self::Int2,
            Type::INT4 => return Self::Int4,
            Type::INT8 => return Self::Int8,
            Type::FLOAT4 => return Self::Float4,
            Type::FLOAT8 => return Self::Float8,
            Type::NUMERIC => return Self::Numeric,
            Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::XML => return Self::Text,
            Type::BYTEA => return Self::Bytea,
            Type::UUID => return Self::Uuid,
            Type::DATE => return Self::Date,
            Type::TIME => return Self::Time,
            Type::TIMESTAMP => return Self::Timestamp,
            Type::TIMESTAMPTZ => return Self::Timestamptz,
            Type::INTERVAL => return Self::Interval,
            Type::JSON => return Self::Json,
            Type::JSONB => return Self::Jsonb,
            Type::INET => return Self::Inet,
            Type::CIDR => return Self::Cidr,
            _ => {}
        }
        match ty.kind() {
            PgKind::Enum(_) => Self::Text,
            PgKind::Domain(base) => Self::of(base),
            PgKind::Array(_) => Self::Array,
            _ if ty.name() == "citext" => Self::Text,
            _ => Self::Other,
        }
    }

    /// Two values are equal to the server if, and only if, their encodings are the same. For text that also takes a
    /// collation that thinks so.
    pub(crate) fn equal_as_bytes(self) -> bool {
        matches!(
            self,
            Self::Bool
                | Self::Int2
                | Self::Int4
                | Self::Int8
                | Self::Text
                | Self::Bytea
                | Self::Uuid
                | Self::Date
                | Self::Time
                | Self::Timestamp
                | Self::Timestamptz
        )
    }

    /// Whether the encoding is a number in two's complement.
    pub(crate) fn is_signed(self) -> bool {
        matches!(
            self,
            Self::Int2
                | Self::Int4
                | Self::Int8
                | Self::Date
                | Self::Time
                | Self::Timestamp
                | Self::Timestamptz
        )
    }
}

/// How a column's values are encoded.
#[derive(Debug, Clone)]
pub struct Target {
    pub(crate) kind: Kind,
    pub(crate) ty: Type,
    pub(crate) nul: Nul,
    /// Of an array.
    pub(crate) element: Option<Box<Target>>,
}

impl Target {
    pub(crate) fn new(ty: Type, nul: Nul) -> Self {
        let mut base = &ty;
        while let PgKind::Domain(inner) = base.kind() {
            base = inner;
        }
        let element = match base.kind() {
            PgKind::Array(element) => Some(Box::new(Self::new(element.clone(), nul))),
            _ => None,
        };
        Self { kind: Kind::of(&ty), ty, nul, element }
    }
}

/// What was written after the length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    Value,
    Null,
}

/// Why a value does not go into a column. Never holds the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// This Rust type never goes into a column of that type: the program's fault.
    Mismatch(&'static str),
    /// This value does not: the record's.
    Invalid(&'static str),
    /// A JSON value of this kind does not: the record's, too.
    Json(&'static str),
    Nul,
    NullKey,
    NotNull,
}

pub(crate) type Put = Result<Written, Defect>;
