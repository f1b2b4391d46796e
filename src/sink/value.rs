//! Rust values into columns.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZero;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio_postgres::types::{IsNull, ToSql, WrongType};
use uuid::Uuid;

use super::buffer::KEPT;
use super::target::{Defect, Kind, Put, Target, Written};
use super::{array, json, number, sent, text, time};

/// A value that goes into a column.
///
/// | Rust | SQL |
/// |---|---|
/// | `bool` | `boolean` |
/// | integers of 8 to 128 bits, `NonZero` | `smallint`, `integer`, `bigint` (a value that does not fit rejects its record), `numeric`, floats where exact; `timestamp`s: milliseconds since 1970-01-01T00:00:00Z |
/// | `f32`, `f64` | `real`, `double precision`, `numeric`: as the shortest decimal that is this float |
/// | `&str`, `String`, `char` | any type but arrays, as the server reads a literal: see docs/table-sink.md, "Types"; into `json` and `jsonb` the text *is* JSON |
/// | `&[u8]`, `Vec<u8>`, `[u8; N]`, `Bytes` | `bytea`; text and JSON, if it is UTF-8 |
/// | `Uuid` | `uuid` |
/// | `SystemTime`, `Duration` | `timestamp`, `timestamptz`; `interval` |
/// | `IpAddr`, `Ipv4Addr`, `Ipv6Addr` | `inet`, `cidr` |
/// | `serde_json::Value`, [`Json`] | `json`, `jsonb` |
/// | `&RawValue`, `serde_json::Number` | any type, from its JSON value |
/// | `Vec<T>`, `[T]`, `[T; N]` | arrays of one dimension |
/// | `Option<T>` | `NULL` for `None` |
/// | `&T`, `Box<T>`, `Rc<T>`, `Arc<T>`, `Cow<T>` | as `T` |
/// | [`Keep`] | any column but the key's, of an upsert: what the table has stays |
/// | [`Sql`]`(value)` | whatever its [`ToSql`] accepts; for types that are otherwise written as text, the column is named in [`Table::binary`](super::Table::binary) |
///
/// A `serde_json::Value` that was read from a record has lost digits: its numbers are floats, unless they are integers
/// of 64 bits. `&RawValue` keeps them as they came.
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

    /// As an array; `u8`s are bytes.
    #[doc(hidden)]
    fn put_all(values: &[Self], target: &Target, out: &mut BytesMut) -> Put
    where
        Self: Sized,
    {
        array::put(values.iter(), target, out)
    }
}

/// A value that tokio-postgres can encode: the way to column types that [`ToColumn`] does not know.
#[derive(Debug, Clone, Copy)]
pub struct Sql<T>(pub T);

/// In place of a value: the column keeps what the row of the key has. For a change that does not say all of its row.
///
/// In a [`Table::upsert`](super::Table::upsert), if the row is not there (or was deleted before, in the same batch or another)
/// the record is rejected: neither `NULL` nor the default is what was meant. In a [`Table::update`](super::Table::update), and
/// by [`Rows::update`](super::Rows::update), nothing is changed then. A batch with such rows is written row by row (docs/table-sink.md, "Any cut gives the same").
///
/// ```
/// use highwater::sink::ToColumn;
/// use highwater::{Keep, Table, TableSink};
///
/// let sink = TableSink::new(Table::upsert("articles", ["id", "title", "body"]), |record, rows| {
///     let (id, title, body): (i64, &str, Option<&str>) = record.json()?;
///     let body: &dyn ToColumn = match &body {
///         Some(body) => body,
///         None => &Keep,
///     };
///     rows.push((id, title, body))
/// });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keep;

/// A value that is written as JSON.
#[derive(Debug, Clone, Copy)]
pub struct Json<T>(pub T);

impl<T: ToSql> ToColumn for Sql<T> {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        if target.kind == Kind::Input {
            return Err(Defect::Binary(std::any::type_name::<T>()));
        }
        let start = out.len();
        match self.0.to_sql_checked(&target.ty, out) {
            Ok(IsNull::Yes) => Ok(Written::Null),
            Ok(IsNull::No) => sent::check(target.kind, &out[start..]).map(|()| Written::Value),
            Err(error) if error.is::<WrongType>() => Err(Defect::Mismatch(std::any::type_name::<T>())),
            Err(_) => Err(Defect::Invalid("a value that its Rust type cannot encode")),
        }
    }
}

impl ToColumn for Keep {
    fn put(&self, _: &Target, _: &mut BytesMut) -> Put {
        Ok(Written::Kept)
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
        match target.kind {
            Kind::Bool => out.put_u8(u8::from(*self)),
            Kind::Input if target.element.is_none() => out.put_slice(if *self { b"true" } else { b"false" }),
            _ => return Err(Defect::Mismatch("bool")),
        }
        Ok(Written::Value)
    }
}

/// Each with its `NonZero`.
macro_rules! integers {
    ($($int:ty: $convert:ident),*) => {$(
        impl ToColumn for $int {
            fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
                integers!($convert *self, target, out, stringify!($int))
            }
        }
        integers!(nonzero $int);
    )*};
    (nonzero $int:ty) => {
        impl ToColumn for NonZero<$int> {
            fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
                self.get().put(target, out)
            }
        }
    };
    (from $value:expr, $target:ident, $out:ident, $name:expr) => {
        number::put_int(i64::from($value), $target, $out, $name)
    };
    (try_from $value:expr, $target:ident, $out:ident, $name:expr) => {
        match i64::try_from($value) {
            Ok(value) => number::put_int(value, $target, $out, $name),
            Err(_) => number::put_large($value, $target, $out, $name),
        }
    };
}

integers!(
    i8: from,
    i16: from,
    u16: from,
    i32: from,
    u32: from,
    i64: from,
    u64: try_from,
    isize: try_from,
    usize: try_from,
    i128: try_from,
    u128: try_from
);
integers!(nonzero u8);

impl ToColumn for u8 {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        number::put_int(i64::from(*self), target, out, "u8")
    }

    fn put_all(values: &[Self], target: &Target, out: &mut BytesMut) -> Put {
        match target.kind {
            Kind::Bytea => {
                out.put_slice(values);
                Ok(Written::Value)
            }
            Kind::Text | Kind::Json | Kind::Jsonb | Kind::Input => {
                let text = std::str::from_utf8(values).map_err(|_| Defect::Invalid("not UTF-8"))?;
                text::put_text(text, target, out)
            }
            Kind::Array => array::put(values.iter(), target, out),
            _ => Err(Defect::Mismatch("&[u8]")),
        }
    }
}

impl ToColumn for f64 {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        number::put_float(*self, target, out)
    }
}

impl ToColumn for f32 {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        number::put_float4(*self, target, out)
    }
}

impl ToColumn for serde_json::Number {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        json::put(&self.to_string(), target, out)
    }
}

impl ToColumn for char {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        text::put_text(self.encode_utf8(&mut [0; 4]), target, out)
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

impl ToColumn for Bytes {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        u8::put_all(self, target, out)
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

impl ToColumn for Ipv4Addr {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        IpAddr::V4(*self).put(target, out)
    }
}

impl ToColumn for Ipv6Addr {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        IpAddr::V6(*self).put(target, out)
    }
}

impl<T: ToColumn> ToColumn for [T] {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        T::put_all(self, target, out)
    }
}

impl<T: ToColumn, const N: usize> ToColumn for [T; N] {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        T::put_all(self, target, out)
    }
}

impl<T: ToColumn> ToColumn for Vec<T> {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        T::put_all(self, target, out)
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

macro_rules! pointers {
    ($($pointer:ty),*) => {$(
        impl<T: ToColumn + ?Sized> ToColumn for $pointer {
            fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
                T::put(self, target, out)
            }
        }
    )*};
}

pointers!(&T, Box<T>, Rc<T>, Arc<T>);

impl<T: ToColumn + ToOwned + ?Sized> ToColumn for Cow<'_, T> {
    fn put(&self, target: &Target, out: &mut BytesMut) -> Put {
        T::put(self, target, out)
    }
}

/// A value behind its length, which is -1 for NULL, and [`KEPT`] where there is none.
pub(super) fn put_field<T: ToColumn + ?Sized>(value: &T, target: &Target, out: &mut BytesMut) -> Put {
    let at = out.len();
    out.put_i32(-1);
    let written = value.put(target, out)?;
    let start = at + 4;
    match written {
        Written::Null => out.truncate(start),
        Written::Kept => {
            out.truncate(start);
            out[at..start].copy_from_slice(&KEPT.to_be_bytes());
        }
        Written::Value => {
            let length =
                i32::try_from(out.len() - start).map_err(|_| Defect::Invalid("longer than 2 GiB"))?;
            out[at..start].copy_from_slice(&length.to_be_bytes());
        }
    }
    Ok(written)
}
