//! JSON values into columns, by the column's type. Whatever does not fit is the record's fault.

use std::borrow::Cow;

use bytes::BytesMut;
use serde_json::value::RawValue;

use super::target::{Defect, Kind, Put, Target, Written};
use super::{array, bytea, number, text};

/// `raw`: one JSON value, as it stands in the record.
pub(crate) fn put(raw: &str, target: &Target, out: &mut BytesMut) -> Put {
    let raw = raw.trim_ascii();
    let first = raw.bytes().next().unwrap_or(b'n');
    if first == b'n' {
        return Ok(Written::Null);
    }
    match (target.kind, first) {
        (Kind::Other, _) => Err(Defect::Mismatch("JSON")),
        (Kind::Json | Kind::Jsonb, _) => text::put_json_text(raw, target, out),
        (_, b'"') => text::put_text(&unquoted(raw)?, target, out).map_err(|defect| match defect {
            Defect::Mismatch(_) => Defect::Json("a string"),
            defect => defect,
        }),
        (Kind::Array | Kind::Input, b'[') if target.element.is_some() => {
            let values: Vec<&RawValue> =
                serde_json::from_str(raw).map_err(|_| Defect::Json("a malformed array"))?;
            array::put(values.into_iter(), target, out)
        }
        (Kind::Input, _) => text::put_plain(raw.as_bytes(), target.nul, out),
        (Kind::Bytea, b'[') => bytea::put_json(raw, out),
        (_, b'{') => Err(Defect::Json("an object")),
        (_, b'[') => Err(Defect::Json("an array")),
        (Kind::Text, _) => text::put_plain(raw.as_bytes(), target.nul, out),
        (Kind::Bool, b't' | b'f') => text::put_text(raw, target, out),
        (_, b't' | b'f') => Err(Defect::Json("a boolean")),
        (Kind::Numeric | Kind::Float4 | Kind::Float8 | Kind::Int2 | Kind::Int4 | Kind::Int8, _) => {
            text::put_text(raw, target, out)
        }
        (Kind::Timestamp | Kind::Timestamptz, _) => number::put_int_text(raw, target, out),
        _ => Err(Defect::Json("a number")),
    }
}

/// A string's text; borrowed, unless there is an escape in it.
pub(crate) fn unquoted(raw: &str) -> Result<Cow<'_, str>, Defect> {
    let inner = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match inner {
        Some(inner) if memchr::memchr(b'\\', inner.as_bytes()).is_none() => Ok(Cow::Borrowed(inner)),
        _ => serde_json::from_str(raw).map(Cow::Owned).map_err(|_| Defect::Json("a malformed string")),
    }
}
