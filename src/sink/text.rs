//! Text into columns: as it is, or read as the column's type.

use std::net::IpAddr;

use bytes::{BufMut, BytesMut};
use memchr::{memchr, memmem};

use super::target::{Defect, Kind, Nul, Put, Target, Written};
use super::{bytea, interval, number, numeric, time};

/// The only escape that `jsonb` cannot hold.
const NUL_ESCAPE: &[u8] = b"\\u0000";

/// What a literal of this text means to the server, from whichever door it comes; where we do not read it as the server
/// does, it is rejected. Blanks around it are skipped where the server skips them.
pub(crate) fn put_text(text: &str, target: &Target, out: &mut BytesMut) -> Put {
    match target.kind {
        Kind::Text | Kind::Input => put_plain(text.as_bytes(), target.nul, out),
        Kind::Json | Kind::Jsonb => put_json_text(text, target, out),
        Kind::Bool => put_bool(text, out),
        Kind::Int2 | Kind::Int4 | Kind::Int8 => number::put_int_text(text, target, out),
        Kind::Float4 | Kind::Float8 => number::put_float_text(text, target, out),
        Kind::Numeric => numeric::put_text(text, out),
        Kind::Timestamptz => time::put_timestamp(text, true, out),
        Kind::Timestamp => time::put_timestamp(text, false, out),
        Kind::Date => time::put_date(text, out),
        Kind::Time => time::put_time(text, out),
        Kind::Interval => interval::put_text(text, out),
        Kind::Uuid => put_uuid(text, out),
        Kind::Inet | Kind::Cidr => put_network(text, target.kind, out),
        Kind::Bytea => bytea::put_text(text, target.bytea, out),
        Kind::Array | Kind::Other => Err(Defect::Mismatch("&str")),
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

/// Any beginning of `true`, `yes`, `on` and their opposites that is no other's, in any case; `1` and `0`.
fn put_bool(text: &str, out: &mut BytesMut) -> Put {
    let text = text.trim_ascii();
    let begins = |word: &str, least: usize| {
        text.len() >= least && word.get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text))
    };
    let value = match text {
        "1" => true,
        "0" => false,
        _ if begins("true", 1) || begins("yes", 1) || begins("on", 2) => true,
        _ if begins("false", 1) || begins("no", 1) || begins("off", 2) => false,
        _ => return Err(Defect::Invalid("neither true nor false")),
    };
    out.put_u8(u8::from(value));
    Ok(Written::Value)
}

/// 32 hexadecimal digits, in braces or not, with or without a hyphen behind any four.
fn put_uuid(text: &str, out: &mut BytesMut) -> Put {
    const BAD_UUID: Defect = Defect::Invalid("not a UUID");
    let inner = match text.strip_prefix('{') {
        Some(rest) => rest.strip_suffix('}').ok_or(BAD_UUID)?,
        None => text,
    };
    let value = |digit: Option<u8>| digit.and_then(|digit| char::from(digit).to_digit(16)).ok_or(BAD_UUID);
    let mut digits = inner.bytes().peekable();
    let mut uuid = 0_u128;
    for group in 0..8 {
        if group > 0 {
            digits.next_if_eq(&b'-');
        }
        for _ in 0..4 {
            uuid = uuid << 4 | u128::from(value(digits.next())?);
        }
    }
    if digits.next().is_some() {
        return Err(BAD_UUID);
    }
    out.put_u128(uuid);
    Ok(Written::Value)
}

fn put_network(text: &str, kind: Kind, out: &mut BytesMut) -> Put {
    const BAD_ADDRESS: Defect = Defect::Invalid("not an IP address (192.0.2.1/24)");
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => {
            let plain =
                bits.bytes().all(|byte| byte.is_ascii_digit()) && (bits == "0" || !bits.starts_with('0'));
            (address, Some(bits.parse::<u8>().ok().filter(|_| plain).ok_or(BAD_ADDRESS)?))
        }
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
    let behind_the_mask = match address {
        IpAddr::V4(address) => address.to_bits().checked_shl(bits.into()).unwrap_or(0) != 0,
        IpAddr::V6(address) => address.to_bits().checked_shl(bits.into()).unwrap_or(0) != 0,
    };
    if kind == Kind::Cidr && behind_the_mask {
        return Err(Defect::Invalid("an address with bits behind the mask of its network"));
    }
    out.put_slice(&[family, bits, u8::from(kind == Kind::Cidr), most / 8]);
    match address {
        IpAddr::V4(address) => out.put_slice(&address.octets()),
        IpAddr::V6(address) => out.put_slice(&address.octets()),
    }
    Ok(Written::Value)
}
