//! Numbers into columns. One that its column does not hold is rejected: out of range, or an integer that a float would
//! round.

use std::fmt::{Display, Write as _};
use std::str::FromStr;

use bytes::{BufMut, BytesMut};
use serde::Serialize;

use super::numeric::{self, Stack};
use super::target::{Defect, Kind, Put, Target, Written};
use super::time;

const NOT_AN_INTEGER: Defect = Defect::Invalid("not an integer in decimal digits");
const NOT_A_NUMBER: Defect = Defect::Invalid("not a decimal number");
const OUT_OF_RANGE: Defect = Defect::Invalid("out of the range of its type");
const INEXACT: Defect = Defect::Invalid("an integer that this float does not hold exactly");

/// Integers of so many digits are floats exactly.
const EXACT_FLOAT4: usize = 7;
const EXACT_FLOAT8: usize = 15;

pub(crate) fn put_int(value: i64, target: &Target, out: &mut BytesMut, rust: &'static str) -> Put {
    match target.kind {
        Kind::Int8 => out.put_i64(value),
        Kind::Int4 => out.put_i32(i32::try_from(value).map_err(|_| OUT_OF_RANGE)?),
        Kind::Int2 => out.put_i16(i16::try_from(value).map_err(|_| OUT_OF_RANGE)?),
        Kind::Numeric => return numeric::put_int(value, out),
        Kind::Float8 if value.unsigned_abs() <= 1 << 53 => out.put_f64(value as f64),
        Kind::Float4 if value.unsigned_abs() <= 1 << 24 => out.put_f32(value as f32),
        Kind::Timestamp | Kind::Timestamptz => return time::put_timestamp_ms(value, out),
        _ => return put_large(value, target, out, rust),
    }
    Ok(Written::Value)
}

/// Integers that are wider than any integer type of Postgres, or may be.
pub(crate) fn put_large<I: Display + Copy>(
    value: I,
    target: &Target,
    out: &mut BytesMut,
    rust: &'static str,
) -> Put {
    let mut text = Stack::default();
    write!(text, "{value}").map_err(|_| OUT_OF_RANGE)?;
    match target.kind {
        Kind::Int2 | Kind::Int4 | Kind::Int8 | Kind::Timestamp | Kind::Timestamptz => Err(OUT_OF_RANGE),
        Kind::Numeric => numeric::put_text(text.as_str(), out),
        Kind::Float4 | Kind::Float8 => put_float_text(text.as_str(), target, out),
        Kind::Input if target.element.is_none() => {
            out.put_slice(text.as_str().as_bytes());
            Ok(Written::Value)
        }
        _ => Err(Defect::Mismatch(rust)),
    }
}

/// Decimal digits, signed or not, between blanks or not.
pub(crate) fn put_int_text(text: &str, target: &Target, out: &mut BytesMut) -> Put {
    let text = text.trim_ascii();
    let value: i64 = text.parse().map_err(|_| {
        let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
        let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if all_digits { OUT_OF_RANGE } else { NOT_AN_INTEGER }
    })?;
    put_int(value, target, out, "text")
}

pub(crate) fn put_float(value: f64, target: &Target, out: &mut BytesMut) -> Put {
    match target.kind {
        Kind::Float8 => out.put_f64(value),
        Kind::Float4 if value.is_finite() => {
            out.put_f32(read(Stack::shortest(value)?.as_str(), EXACT_FLOAT4)?);
        }
        #[expect(clippy::cast_possible_truncation, reason = "an infinity, or no number")]
        Kind::Float4 => out.put_f32(value as f32),
        Kind::Numeric => return numeric::put_float(value, out),
        _ => return put_float_input(value, value.is_finite(), target, out, "f64"),
    }
    Ok(Written::Value)
}

/// As its shortest decimal, wherever it goes: that is also what `serde` writes.
pub(crate) fn put_float4(value: f32, target: &Target, out: &mut BytesMut) -> Put {
    match target.kind {
        Kind::Float4 => out.put_f32(value),
        Kind::Float8 if value.is_finite() => {
            out.put_f64(read(Stack::shortest(value)?.as_str(), EXACT_FLOAT8)?);
        }
        Kind::Float8 => out.put_f64(value.into()),
        Kind::Numeric => return numeric::put_float4(value, out),
        _ => return put_float_input(value, value.is_finite(), target, out, "f32"),
    }
    Ok(Written::Value)
}

/// `1.5`, `1e300`, `inf`, `NaN`: for the server's input function.
fn put_float_input<F: Serialize + Display + Copy>(
    value: F,
    finite: bool,
    target: &Target,
    out: &mut BytesMut,
    rust: &'static str,
) -> Put {
    if target.kind != Kind::Input || target.element.is_some() {
        return Err(Defect::Mismatch(rust));
    }
    if finite {
        out.put_slice(Stack::shortest(value)?.as_str().as_bytes());
    } else {
        write!(out, "{value}").map_err(|_| NOT_A_NUMBER)?;
    }
    Ok(Written::Value)
}

/// What the server reads in decimal, between blanks or not: digits, `Infinity`, `inf`, `NaN`, in any case.
pub(crate) fn put_float_text(text: &str, target: &Target, out: &mut BytesMut) -> Put {
    let text = text.trim_ascii();
    match target.kind {
        Kind::Float4 => out.put_f32(read(text, EXACT_FLOAT4)?),
        _ => out.put_f64(read(text, EXACT_FLOAT8)?),
    }
    Ok(Written::Value)
}

/// The nearest float, rounded once. What is too large for it, or so small that nothing is left, is out of range, as it is
/// for the server. Digits without point and exponent are an integer, which is not rounded.
fn read<F: FromStr + Into<f64> + Display + Copy>(text: &str, exact: usize) -> Result<F, Defect> {
    let value: F = text.parse().map_err(|_| NOT_A_NUMBER)?;
    let wide: f64 = value.into();
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if !unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        let signed_nan = wide.is_nan() && unsigned.len() < text.len();
        return if signed_nan { Err(NOT_A_NUMBER) } else { Ok(value) };
    }
    let mut mantissa = unsigned.bytes().take_while(|byte| !matches!(byte, b'e' | b'E'));
    if wide.is_infinite() || wide == 0.0 && mantissa.any(|byte| matches!(byte, b'1'..=b'9')) {
        return Err(OUT_OF_RANGE);
    }
    if unsigned.len() > exact && unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        let held = format!("{value:.0}");
        if held.trim_start_matches('-') != unsigned.trim_start_matches('0') {
            return Err(INEXACT);
        }
    }
    Ok(value)
}
