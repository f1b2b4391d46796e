//! Arrays of one dimension.

use bytes::{BufMut, BytesMut};

use super::target::{Defect, Kind, Put, Target, Written};
use super::value::{ToColumn, put_field};

const KEPT_WITHIN: Defect = Defect::Setup("a column is kept as a whole: no Keep within an array");

pub(crate) fn put<T: ToColumn>(
    values: impl ExactSizeIterator<Item = T>,
    target: &Target,
    out: &mut BytesMut,
) -> Put {
    match &target.element {
        Some(element) if target.kind == Kind::Input => put_literal(values, element, target.delimiter, out),
        Some(element) => put_binary(values, element, out),
        None => Err(Defect::Mismatch("an array")),
    }
}

/// Its first index is 1.
fn put_binary<T: ToColumn>(
    values: impl ExactSizeIterator<Item = T>,
    element: &Target,
    out: &mut BytesMut,
) -> Put {
    let length = i32::try_from(values.len()).map_err(|_| Defect::Invalid("too long an array"))?;
    out.put_i32(i32::from(length > 0));
    let has_null = out.len();
    out.put_i32(0);
    out.put_u32(element.ty.oid());
    if length > 0 {
        out.put_i32(length);
        out.put_i32(1);
    }
    for value in values {
        match put_field(&value, element, out)? {
            Written::Value => {}
            Written::Null => out[has_null..has_null + 4].copy_from_slice(&1_i32.to_be_bytes()),
            Written::Kept => return Err(KEPT_WITHIN),
        }
    }
    Ok(Written::Value)
}

/// As the server's input function reads it, each element in quotes.
fn put_literal<T: ToColumn>(
    values: impl Iterator<Item = T>,
    element: &Target,
    delimiter: u8,
    out: &mut BytesMut,
) -> Put {
    let mut text = BytesMut::new();
    out.put_u8(b'{');
    for (place, value) in values.enumerate() {
        if place > 0 {
            out.put_u8(delimiter);
        }
        text.clear();
        match value.put(element, &mut text)? {
            Written::Value => {}
            Written::Null => {
                out.put_slice(b"NULL");
                continue;
            }
            Written::Kept => return Err(KEPT_WITHIN),
        }
        out.put_u8(b'"');
        for byte in &text {
            if matches!(byte, b'"' | b'\\') {
                out.put_u8(b'\\');
            }
            out.put_u8(*byte);
        }
        out.put_u8(b'"');
    }
    out.put_u8(b'}');
    Ok(Written::Value)
}
