//! Text into columns: as it is, or read as the column's type.

use std::net::IpAddr;

use bytes::{BufMut, BytesMut};
use memchr::{memchr, memmem};
use uuid::Uuid;

use super::target::{Defect, Kind, Nul, Put, Target, Written};
use super::{numeric, time};

/// The only escape that `jsonb` cannot hold.
const NUL_ESCAPE: &[u8] = b"\\u0000";

/// What a literal of this text would mean. Numbers and booleans are not read from text: see
/// [`put_loose_text`].
pub(crate) fn put_text(text: &str, target: &Target, out: &mut BytesMut) -> Put {
    match target.kind {
        Kind::Text => put_plain(text.as_bytes(), target.nul, out),
        Kind::Json | Kind::Jsonb => put_json_text(text, target, out),
        Kind::Numeric => numeric::put_text(text, out),
        Kind::Timestamptz => time::put_timestamp(text, true, out),
        Kind::Timestamp => time::put_timestamp(text, false, out),
        Kind::Date => time::put_date(text, out),
        Kind::Time => time::put_time(text, out),
        Kind::Interval => time::put_interval(text, out),
        Kind::Uuid => {
            let uuid = Uuid::try_parse(text).map_err(|_| Defect::Invalid("not a UUID"))?;
            out.put_slice(uuid.as_bytes());
            Ok(Written::Value)
        }
        Kind::Inet | Kind::Cidr => put_network(text, target.kind, out),
        Kind::Bytea if target.nul == Nul::Bytes => {
            out.put_slice(text.as_bytes());
            Ok(Written::Value)
        }
        _ => Err(Defect::Mismatch("&str")),
    }
}

/// As [`put_text`], but also numbers, booleans and `\x` bytes are read: in JSON they often come as strings.
pub(crate) fn put_loose_text(text: &str, target: &Target, out: &mut BytesMut) -> Put {
    let integer = || text.parse::<i64>().map_err(|_| Defect::Invalid("not an integer"));
    let float = || text.parse::<f64>().map_err(|_| Defect::Invalid("not a number"));
    match target.kind {
        Kind::Int2 | Kind::Int4 | Kind::Int8 => put_int(integer()?, target, out, "text"),
        Kind::Float4 | Kind::Float8 => put_float(float()?, target, out),
        Kind::Bool => {
            out.put_u8(match text {
                "true" => 1,
                "false" => 0,
                _ => return Err(Defect::Invalid("neither true nor false")),
            });
            Ok(Written::Value)
        }
        Kind::Bytea if target.nul != Nul::Bytes => put_hex(text, out),
        Kind::Array | Kind::Other => Err(Defect::Json("a string")),
        _ => put_text(text, target, out),
    }
}

/// Text as it is, unless it holds U+0000.
pub(crate) fn put_plain(text: &[u8], nul: Nul, out: &mut BytesMut) -> Put {
    if memchr(0, text).is_none() {
        out.put_slice(text);
    } else if nul == Nul::Strip {
        text.split(|byte| *byte == 0).for_each(|part| out.put_slice(part));
    } else {
        return Err(Defect::Nul);
    }
    Ok(Written::Value)
}

/// JSON text into `json` or `jsonb`; that it is JSON is for the server to say.
pub(crate) fn put_json_text(text: &str, target: &Target, out: &mut BytesMut) -> Put {
    if target.kind == Kind::Json {
        return put_plain(text.as_bytes(), target.nul, out);
    }
    out.put_u8(1); // the version of jsonb's binary format
    let bytes = text.as_bytes();
    if memmem::find(bytes, NUL_ESCAPE).is_none() {
        return put_plain(bytes, target.nul, out);
    }
    let mut rest = bytes;
    while let Some(at) = memchr(b'\\', rest) {
        let (before, escape) = rest.split_at(at);
        let is_nul = escape.starts_with(NUL_ESCAPE);
        if is_nul && target.nul != Nul::Strip {
            return Err(Defect::Nul);
        }
        put_plain(before, target.nul, out)?;
        // Two bytes at least: the second may be a backslash that is itself escaped.
        let (escape, after) = escape.split_at(escape.len().min(if is_nul { NUL_ESCAPE.len() } else { 2 }));
        if !is_nul {
            put_plain(escape, target.nul, out)?;
        }
        rest = after;
    }
    put_plain(rest, target.nul, out)
}

/// `\x` and pairs of hexadecimal digits.
fn put_hex(text: &str, out: &mut BytesMut) -> Put {
    const BAD_HEX: Defect = Defect::Invalid("not bytes in hexadecimal (\\x00ff)");
    let digits = text.strip_prefix("\\x").ok_or(BAD_HEX)?.as_bytes();
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let (pairs, rest) = digits.as_chunks::<2>();
    for [high, low] in pairs {
        out.put_u8(value(*high).ok_or(BAD_HEX)? << 4 | value(*low).ok_or(BAD_HEX)?);
    }
    if rest.is_empty() { Ok(Written::Value) } else { Err(BAD_HEX) }
}

fn put_network(text: &str, kind: Kind, out: &mut BytesMut) -> Put {
    const BAD_ADDRESS: Defect = Defect::Invalid("not an IP address (192.0.2.1/24)");
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| BAD_ADDRESS)?)),
        None => (text, None),
    };
    let address = address.parse().map_err(|_| BAD_ADDRESS)?;
    put_address(address, bits, kind, out)
}

pub(crate) fn put_address(address: IpAddr, bits: Option<u8>, kind: Kind, out: &mut BytesMut) -> Put {
    let (family, most) = if address.is_ipv4() { (2, 32) } else { (3, 128) };
    let bits = bits.unwrap_or(most);
    if bits > most {
        return Err(Defect::Invalid("too many bits for a network"));
    }
    out.put_slice(&[family, bits, u8::from(kind == Kind::Cidr), most / 8]);
    match address {
        IpAddr::V4(address) => out.put_slice(&address.octets()),
        IpAddr::V6(address) => out.put_slice(&address.octets()),
    }
    Ok(Written::Value)
}

pub(crate) fn put_int(value: i64, target: &Target, out: &mut BytesMut, rust: &'static str) -> Put {
    const OUT_OF_RANGE: Defect = Defect::Invalid("out of the range of its type");
    const INEXACT: Defect = Defect::Invalid("too large to be a float exactly");
    match target.kind {
        Kind::Int8 => out.put_i64(value),
        Kind::Int4 => out.put_i32(i32::try_from(value).map_err(|_| OUT_OF_RANGE)?),
        Kind::Int2 => out.put_i16(i16::try_from(value).map_err(|_| OUT_OF_RANGE)?),
        Kind::Numeric => return numeric::put_int(value, out),
        Kind::Float8 if value.unsigned_abs() <= 1 << 53 => out.put_f64(value as f64),
        Kind::Float4 if value.unsigned_abs() <= 1 << 24 => out.put_f32(value as f32),
        Kind::Float8 | Kind::Float4 => return Err(INEXACT),
        Kind::Timestamp | Kind::Timestamptz => return time::put_timestamp_ms(value, out),
        _ => return Err(Defect::Mismatch(rust)),
    }
    Ok(Written::Value)
}

pub(crate) fn put_float(value: f64, target: &Target, out: &mut BytesMut) -> Put {
    match target.kind {
        Kind::Float8 => out.put_f64(value),
        Kind::Float4 => {
            #[expect(clippy::cast_possible_truncation, reason = "the nearest float4, as the server rounds")]
            let narrow = value as f32;
            if narrow.is_infinite() != value.is_infinite() {
                return Err(Defect::Invalid("out of the range of real"));
            }
            out.put_f32(narrow);
        }
        Kind::Numeric => return numeric::put_float(value, out),
        _ => return Err(Defect::Mismatch("f64")),
    }
    Ok(Written::Value)
}
