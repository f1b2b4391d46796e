//! What a column wants: the SQL types that we encode ourselves; of the rest the server reads the text.

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

/// What text means in a `bytea` column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Bytea {
    /// `\x` and pairs of hexadecimal digits, as Postgres prints it.
    #[default]
    Hex,
    /// Base64 in the standard or the URL-safe alphabet, padded or not, in one line: what Kafka Connect's and most other
    /// JSON serializers make of bytes.
    Base64,
    /// The bytes are those of the text, in UTF-8.
    Utf8,
}

/// How a column's values are to be taken, as its table says.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Conversion {
    pub(crate) nul: Nul,
    pub(crate) bytea: Bytea,
    /// By [`Sql`](super::Sql) alone, if we have no encoding for its type.
    pub(crate) binary: bool,
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
    /// Everything else, and arrays of it: the text, for the server's own input function. Also `xml`, whose binary format
    /// would be read in the encoding that the document declares, and arrays and domains of `name`, whose binary format the
    /// server refuses as if the program were at fault where the text is too long.
    Input,
    /// What would be [`Input`](Self::Input), if [`Table::binary`](super::Table::binary) names the column: only through
    /// [`Sql`](super::Sql).
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
            Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME => return Self::Text,
            Type::NAME_ARRAY => return Self::Input,
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
            PgKind::Domain(base) if *base == Type::NAME => Self::Input,
            PgKind::Domain(base) => Self::of(base),
            PgKind::Array(_) if is_vector(ty) => Self::Input,
            PgKind::Array(element) if Self::of(element) == Self::Input => Self::Input,
            PgKind::Array(_) => Self::Array,
            _ if ty.name() == "citext" => Self::Text,
            _ => Self::Input,
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

fn is_vector(ty: &Type) -> bool {
    matches!(*ty, Type::INT2_VECTOR | Type::OID_VECTOR)
}

/// How a column's values are encoded.
#[derive(Debug, Clone)]
pub struct Target {
    pub(crate) kind: Kind,
    pub(crate) ty: Type,
    pub(crate) nul: Nul,
    pub(crate) bytea: Bytea,
    /// Of an array.
    pub(crate) element: Option<Box<Target>>,
    /// What stands between its elements where they are text.
    pub(crate) delimiter: u8,
}

impl Target {
    pub(crate) fn new(ty: Type, how: Conversion) -> Self {
        let mut base = &ty;
        while let PgKind::Domain(inner) = base.kind() {
            base = inner;
        }
        let element = match base.kind() {
            // Arrays to the catalogue, but not to their input functions.
            PgKind::Array(_) if is_vector(base) => None,
            PgKind::Array(element) => Some(Box::new(Self::new(element.clone(), how))),
            _ => None,
        };
        let kind = match Kind::of(&ty) {
            Kind::Input if how.binary && element.is_some() => Kind::Array,
            Kind::Input if how.binary => Kind::Other,
            kind => kind,
        };
        let is_box = element.as_ref().is_some_and(|element| element.ty == Type::BOX);
        let delimiter = if is_box { b';' } else { b',' };
        Self { kind, ty, nul: how.nul, bytea: how.bytea, element, delimiter }
    }
}

/// What was written after the length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    Value,
    Null,
    /// What the table has stays: [`Keep`](super::Keep).
    Kept,
}

/// Why a value does not go into a column. Never holds the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// This Rust type never goes into a column of that type: the program's fault.
    Mismatch(&'static str),
    /// A value that the driver encodes, of this type, for a column that takes text.
    Binary(&'static str),
    /// No value of this kind does, as somebody has set it up: the program's fault, in these words.
    Setup(&'static str),
    /// This value does not: the record's.
    Invalid(&'static str),
    /// A JSON value of this kind does not: the record's, too.
    Json(&'static str),
    Nul,
    NullKey,
    NotNull,
}

pub(crate) type Put = Result<Written, Defect>;
