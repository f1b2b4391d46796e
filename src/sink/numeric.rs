//! `numeric` in binary: groups of four decimal digits, aligned at the decimal point.

use std::fmt::Write as _;
use std::io;

use bytes::{BufMut, BytesMut};
use serde::Serialize;

use super::target::{Defect, Put, Written};

const POSITIVE: u16 = 0x0000;
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITY: u16 = 0xD000;
const MINUS_INFINITY: u16 = 0xF000;
/// Digits after the point.
const MAX_SCALE: i64 = 16_383;
/// Digits before the point.
const MAX_INTEGER: i64 = 131_072;

const MALFORMED: Defect = Defect::Invalid("not a decimal number");
const OUT_OF_RANGE: Defect = Defect::Invalid("out of the range of numeric");

fn put_header(out: &mut BytesMut, weight: i16, sign: u16, scale: u16) -> usize {
    let at = out.len();
    out.put_i16(0);
    out.put_i16(weight);
    out.put_u16(sign);
    out.put_u16(scale);
    at
}

pub(crate) fn put_float(value: f64, out: &mut BytesMut) -> Put {
    if !value.is_finite() {
        let sign = match () {
            () if value.is_nan() => NAN,
            () if value > 0.0 => INFINITY,
            () => MINUS_INFINITY,
        };
        put_header(out, 0, sign, 0);
        return Ok(Written::Value);
    }
    put_text(Stack::shortest(value)?.as_str(), out)
}

pub(crate) fn put_float4(value: f32, out: &mut BytesMut) -> Put {
    if !value.is_finite() {
        return put_float(value.into(), out);
    }
    put_text(Stack::shortest(value)?.as_str(), out)
}

pub(crate) fn put_int(value: impl std::fmt::Display, out: &mut BytesMut) -> Put {
    let mut text = Stack::default();
    write!(text, "{value}").map_err(|_| MALFORMED)?;
    put_text(text.as_str(), out)
}

/// `[+-]digits[.digits][e[+-]digits]`, `NaN`, `[+-]Infinity`; keeps the digits after the point, as the server does.
pub(crate) fn put_text(text: &str, out: &mut BytesMut) -> Put {
    let text = text.trim_ascii();
    let (sign, unsigned) = match text.as_bytes() {
        [b'-', ..] => (NEGATIVE, &text[1..]),
        [b'+', ..] => (POSITIVE, &text[1..]),
        _ => (POSITIVE, text),
    };
    if !unsigned.as_bytes().first().is_some_and(|byte| byte.is_ascii_digit() || *byte == b'.') {
        return put_special(text, sign, unsigned, out);
    }
    let (mantissa, exponent) = match unsigned.bytes().position(|byte| matches!(byte, b'e' | b'E')) {
        Some(at) => (&unsigned[..at], parse_exponent(&unsigned[at + 1..])?),
        None => (unsigned, 0),
    };
    let (integer, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if integer.is_empty() && fraction.is_empty() || !all_digits(integer) || !all_digits(fraction) {
        return Err(MALFORMED);
    }
    let length = |part: &str| i64::try_from(part.len()).map_err(|_| OUT_OF_RANGE);
    let scale = (length(fraction)? - exponent).max(0);
    if scale > MAX_SCALE {
        return Err(OUT_OF_RANGE);
    }
    let scale = u16::try_from(scale).map_err(|_| OUT_OF_RANGE)?;

    let digits = || integer.bytes().chain(fraction.bytes());
    let leading = digits().take_while(|byte| *byte == b'0').count();
    let significant = integer.len() + fraction.len() - leading;
    if significant == 0 {
        put_header(out, 0, POSITIVE, scale);
        return Ok(Written::Value);
    }
    // Digits before the point, counted from the first that is not 0; negative if zeros follow the point.
    let point = length(integer)? + exponent - i64::try_from(leading).map_err(|_| OUT_OF_RANGE)?;
    if point > MAX_INTEGER {
        return Err(OUT_OF_RANGE);
    }
    let weight = (point - 1).div_euclid(4);
    let at = put_header(out, i16::try_from(weight).map_err(|_| OUT_OF_RANGE)?, sign, scale);
    // The first group may begin with zeros.
    let mut in_group = 3 - (point - 1).rem_euclid(4);
    let (mut group, mut groups, mut kept) = (0_u16, 0_u16, 0_u16);
    let mut end = out.len();
    let mut put_group = |group: u16, out: &mut BytesMut| {
        out.put_u16(group);
        groups += 1;
        if group != 0 {
            // Zero groups at the end are left out.
            (kept, end) = (groups, out.len());
        }
    };
    for digit in digits().skip(leading) {
        group = group * 10 + u16::from(digit - b'0');
        in_group += 1;
        if in_group == 4 {
            put_group(group, out);
            (group, in_group) = (0, 0);
        }
    }
    if in_group > 0 {
        for _ in in_group..4 {
            group *= 10;
        }
        put_group(group, out);
    }
    out.truncate(end);
    out[at..at + 2].copy_from_slice(&kept.to_be_bytes());
    Ok(Written::Value)
}

fn parse_exponent(text: &str) -> Result<i64, Defect> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(MALFORMED);
    }
    text.parse().ok().filter(|exponent: &i64| exponent.abs() <= 1_000_000).ok_or(OUT_OF_RANGE)
}

fn put_special(text: &str, sign: u16, unsigned: &str, out: &mut BytesMut) -> Put {
    let is = |name: &str| unsigned.eq_ignore_ascii_case(name);
    let special = match sign {
        POSITIVE if is("nan") && text == unsigned => NAN,
        POSITIVE if is("infinity") || is("inf") => INFINITY,
        NEGATIVE if is("infinity") || is("inf") => MINUS_INFINITY,
        _ => return Err(MALFORMED),
    };
    put_header(out, 0, special, 0);
    Ok(Written::Value)
}

/// A short text without an allocation.
pub(crate) struct Stack {
    bytes: [u8; 48],
    len: usize,
}

impl Default for Stack {
    fn default() -> Self {
        Self { bytes: [0; 48], len: 0 }
    }
}

impl Stack {
    /// The shortest decimal that is this float, which must be finite; of several the one that `serde_json` writes.
    pub(crate) fn shortest(float: impl Serialize + Copy) -> Result<Self, Defect> {
        let mut text = Self::default();
        serde_json::to_writer(&mut text, &float).map_err(|_| MALFORMED)?;
        Ok(text)
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl std::fmt::Write for Stack {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

impl io::Write for Stack {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let end = self.len + bytes.len();
        self.bytes.get_mut(self.len..end).ok_or(io::ErrorKind::WriteZero)?.copy_from_slice(bytes);
        self.len = end;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
