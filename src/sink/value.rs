//! Rust values into columns.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio_postgres::types::{IsNull, ToSql, WrongType};
use uuid::Uuid;

use super::target::{Defect, Kind, Put, Target, Written};
use super::{json, numeric, text, time};

/// A value that goes into a column.
///
/// | Rust | SQL |
/// |---|---|
/// | `bool` | `boolean` |
/// | `i16`, `i32`, `i64`, `u32`, `u64` | `smallint`, `integer`, `bigint` (a value that does not fit rejects its record), `numeric`, floats where exact; `timestamp`s: milliseconds since 1970-01-01T00:00:00Z |
/// | `f32`, `f64` | `real`, `double precision`, `numeric` |
/// | `&str`, `String` | `text`, `varchar`, `char`, `name`, `citext`, enums; `numeric`, `uuid`, `inet`, `cidr`; dates and times (RFC 3339); `interval` (ISO 8601); `json`, `jsonb` (the text *is* JSON) |
/// | `&[u8]`, `Vec<u8>`, `Bytes` | `bytea`; text and JSON, if it is UTF-8 |
/// | `Uuid` | `uuid` |
/// | `SystemTime`, `Duration` | `timestamp`, `timestamptz`; `interval` |
/// | `IpAddr` | `inet`, `cidr` |
/// | `serde_json::Value`, [`Json`] | `json`, `jsonb` |
/// | `&RawValue` | any type, from its JSON value |
/// | `Vec<T>`, `[T]` | arrays of one dimension |
/// | `Option<T>` | `NULL` for `None` |
/// | [`Sql`]`(value)` | whatever its [`ToSql`] accepts |
///
/// A type that does not go into the column's is a [fatal](crate::HandlerError::fatal) error, which names both; a value
/// that does not rejects its record.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not go into a column",
    note = "wrap it as `Sql(value)` if it implements tokio-postgres's `ToSql`, or as `Json(value)` for a JSON column"
)]
pub trait ToColumn {
    #[doc(hidden)]
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put;
}

/// A value that tokio-postgres can encode: the way to column types that [`ToColumn`] does not know.
#[derive(Debug, Clone, Copy)]
pub struct Sql<T>(pub T);

/// A value that is written as JSON.
#[derive(Debug, Clone, Copy)]
pub struct Json<T>(pub T);

impl<T: ToSql> ToColumn for Sql<T> {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        match self.0.to_sql_checked(&target.ty, out) {
            Ok(IsNull::Yes) => Ok(Written::Null),
            Ok(IsNull::No) => Ok(Written::Value),
            Err(error) if error.is::<WrongType>() => Err(Defect::Mismatch(std::any::type_name::<T>())),
            Err(_) => Err(Defect::Invalid("a value that its Rust type cannot encode")),
        }
    }
}

impl<T: Serialize> ToColumn for Json<T> {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        if !matches!(target.kind, Kind::Json | Kind::Jsonb) {
            return Err(Defect::Mismatch("Json<…>"));
        }
        let text =
            serde_json::to_string(&self.0).map_err(|_| Defect::Invalid("cannot be written as JSON"))?;
        text::put_json_text(&text, target, out)
    }
}

impl ToColumn for serde_json::Value {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        match Json(self).put(target, out) {
            Err(Defect::Mismatch(_)) => Err(Defect::Mismatch("serde_json::Value")),
            put => put,
        }
    }
}

impl ToColumn for RawValue {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        json::put(self.get(), target, out)
    }
}

impl ToColumn for bool {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        if target.kind != Kind::Bool {
            return Err(Defect::Mismatch("bool"));
        }
        out.put_u8(u8::from(*self));
        Ok(Written::Value)
    }
}

macro_rules! integers {
    ($($int:ty),*) => {$(
        impl ToColumn for $int {
            fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
                text::put_int(i64::from(*self), target, out, stringify!($int))
            }
        }
    )*};
}

integers!(i16, i32, i64, u32);

impl ToColumn for u64 {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        match i64::try_from(*self) {
            Ok(value) => text::put_int(value, target, out, "u64"),
            Err(_) if target.kind == Kind::Numeric => numeric::put_int(*self, out),
            Err(_) => Err(Defect::Invalid("out of the range of its type")),
        }
    }
}

impl ToColumn for f64 {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        text::put_float(*self, target, out)
    }
}

impl ToColumn for f32 {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        match target.kind {
            Kind::Float4 => out.put_f32(*self),
            Kind::Float8 => out.put_f64(f64::from(*self)),
            Kind::Numeric => return numeric::put_float4(*self, out),
            _ => return Err(Defect::Mismatch("f32")),
        }
        Ok(Written::Value)
    }
}

impl ToColumn for str {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        text::put_text(self, target, out)
    }
}

impl ToColumn for String {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        text::put_text(self, target, out)
    }
}

impl ToColumn for [u8] {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        match target.kind {
            Kind::Bytea => {
                out.put_slice(self);
                Ok(Written::Value)
            }
            Kind::Text | Kind::Json | Kind::Jsonb => {
                let text = std::str::from_utf8(self).map_err(|_| Defect::Invalid("not UTF-8"))?;
                text::put_text(text, target, out)
            }
            _ => Err(Defect::Mismatch("&[u8]")),
        }
    }
}

impl ToColumn for Vec<u8> {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        self.as_slice().put(target, out)
    }
}

impl ToColumn for Bytes {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        self.as_ref().put(target, out)
    }
}

impl ToColumn for Uuid {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        if target.kind != Kind::Uuid {
            return Err(Defect::Mismatch("Uuid"));
        }
        out.put_slice(self.as_bytes());
        Ok(Written::Value)
    }
}

impl ToColumn for SystemTime {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        match target.kind {
            Kind::Timestamp | Kind::Timestamptz => time::put_system_time(*self, out),
            _ => Err(Defect::Mismatch("SystemTime")),
        }
    }
}

impl ToColumn for Duration {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        match target.kind {
            Kind::Interval => time::put_duration(*self, out),
            _ => Err(Defect::Mismatch("Duration")),
        }
    }
}

impl ToColumn for IpAddr {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        match target.kind {
            Kind::Inet | Kind::Cidr => text::put_address(*self, None, target.kind, out),
            _ => Err(Defect::Mismatch("IpAddr")),
        }
    }
}

impl<T: ToColumn> ToColumn for [T] {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        put_array(self.iter(), target, out)
    }
}

impl<T: ToColumn> ToColumn for Vec<T> {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        put_array(self.iter(), target, out)
    }
}

impl<T: ToColumn> ToColumn for Option<T> {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        match self {
            Some(value) => value.put(target, out),
            None => Ok(Written::Null),
        }
    }
}

impl<T: ToColumn + ?Sized> ToColumn for &T {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        T::put(self, target, out)
    }
}

impl<T: ToColumn + ?Sized> ToColumn for Box<T> {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        T::put(self, target, out)
    }
}

impl<T: ToColumn + ToOwned + ?Sized> ToColumn for Cow<'_, T> {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        T::put(self, target, out)
    }
}

/// An array of one dimension, whose first index is 1.
pub(super) fn put_array<T: ToColumn>(
    values: impl ExactSizeIterator<Item = T>,
    target: &Target,
    out: &mut BytesMut,
) -> Put {
    let Some(element) = &target.element else { return Err(Defect::Mismatch("an array")) };
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
        if put_field(&value, element, out)? == Written::Null {
            out[has_null..has_null + 4].copy_from_slice(&1_i32.to_be_bytes());
        }
    }
    Ok(Written::Value)
}

/// A value behind its length, which is -1 for NULL.
pub(super) fn put_field<T: ToColumn + ?Sized>(value: &T, target: &Target, out: &mut BytesMut) -> Put {
    let at = out.len();
    out.put_i32(-1);
    let written = value.put(target, out)?;
    let start = at + 4;
    match written {
        Written::Null => out.truncate(start),
        Written::Value => {
            let length =
                i32::try_from(out.len() - start).map_err(|_| Defect::Invalid("longer than 2 GiB"))?;
            out[at..start].copy_from_slice(&length.to_be_bytes());
        }
    }
    Ok(written)
}
