//! What can be told of a column's values from their encodings: whether two are equal, whether the server takes one.

use tokio_postgres::types::Type;

use crate::sink::plan::Column;
use crate::sink::target::Kind;

/// Whether two values are equal to the server if, and only if, their encodings are the same. A modifier may round what
/// is sent, a collation may call different texts equal.
pub(super) fn is_exact(column: &Column, deterministic: bool) -> bool {
    let (target, id) = (&column.target, column.type_id);
    // The driver names the type beneath a domain.
    let plain = target.ty.oid() == id.oid && target.ty.name() != "citext";
    let sent_as_it_is = if target.ty == Type::BPCHAR {
        column.length.is_some()
    } else {
        id.modifier == -1 || column.length.is_some()
    };
    target.kind.equal_as_bytes() && plain && sent_as_it_is && (target.kind != Kind::Text || deterministic)
}

/// Whether equal values can be told here, by what [`crate::sink::sort`] makes of them.
pub(super) fn is_comparable(column: &Column, deterministic: bool) -> bool {
    let is_numeric = column.target.ty == Type::NUMERIC
        && column.type_id.oid == Type::NUMERIC.oid()
        && column.type_id.modifier == -1;
    is_numeric || is_exact(column, deterministic)
}

/// Whether the server takes every value that was taken here: then one that is overwritten need not be sent. A database
/// that `is_utf8` has all characters.
pub(super) fn is_checked_here(column: &Column, is_utf8: bool) -> bool {
    let ty = &column.target.ty;
    let plain = ty.oid() == column.type_id.oid && (column.type_id.modifier == -1 || column.length.is_some());
    let text = is_utf8 && ([Type::TEXT, Type::VARCHAR].contains(ty) || column.length.is_some());
    let kind = matches!(
        column.target.kind,
        Kind::Bool
            | Kind::Int2
            | Kind::Int4
            | Kind::Int8
            | Kind::Float4
            | Kind::Float8
            | Kind::Numeric
            | Kind::Bytea
            | Kind::Uuid
            | Kind::Date
            | Kind::Time
            | Kind::Timestamp
            | Kind::Timestamptz
    );
    plain && (text || kind)
}

/// Whether a value may be too long for an index.
pub(super) fn is_long(column: &Column) -> bool {
    let kind = column.target.kind;
    let is_short = matches!(
        kind,
        Kind::Bool | Kind::Int2 | Kind::Int4 | Kind::Int8 | Kind::Float4 | Kind::Float8 | Kind::Uuid
    );
    !is_short && !kind.is_signed()
}
