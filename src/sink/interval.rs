//! Intervals from text: ISO 8601, as Java and other servers print it, and Postgres' own style.
//!
//! A fraction of days and below is counted as the server counts it, in floating point. One of years or months has no
//! exact length, and versions of the server differ in it.

use bytes::{BufMut, BytesMut};

use super::target::{Defect, Put, Written};
use super::time::{DAY_US, fraction_us};

const BAD_INTERVAL: Defect = Defect::Invalid("not an interval (P1DT12H, PT-6H, 1 day 02:00:00)");
const FRACTION: Defect = Defect::Invalid("a fraction of a year or of a month, which has no exact length");
const UNSIGNED: Defect =
    Defect::Invalid("an interval that is negative first and without a sign then: give every part its sign");
const OUT_OF_RANGE: Defect = Defect::Invalid("out of the range of its type");

const HOUR_US: i64 = 3_600_000_000;
const MINUTE_US: i64 = 60_000_000;
const SECOND_US: i64 = 1_000_000;
/// What the server takes of one number.
const MOST: f64 = 1e15;

pub(crate) fn put_text(text: &str, out: &mut BytesMut) -> Put {
    // Before ISO 8601 the server skips no blanks.
    let parts = if text.starts_with('P') { iso(text)? } else { postgres(text.trim_ascii())? };
    parts.put(out)
}

#[derive(Default)]
struct Parts {
    months: i32,
    days: i32,
    us: i64,
}

impl Parts {
    fn put(&self, out: &mut BytesMut) -> Put {
        let extremes = [(i32::MIN, i32::MIN, i64::MIN), (i32::MAX, i32::MAX, i64::MAX)];
        if extremes.contains(&(self.months, self.days, self.us)) {
            // The infinities, since version 17.
            return Err(OUT_OF_RANGE);
        }
        out.put_i64(self.us);
        out.put_i32(self.days);
        out.put_i32(self.months);
        Ok(Written::Value)
    }

    fn add_months(&mut self, count: i64, months: i64) -> Result<(), Defect> {
        add(&mut self.months, count, months)
    }

    fn add_days(&mut self, count: i64, days: i64) -> Result<(), Defect> {
        add(&mut self.days, count, days)
    }

    fn add_us(&mut self, count: i64, unit_us: i64) -> Result<(), Defect> {
        let part = count.checked_mul(unit_us).and_then(|part| self.us.checked_add(part));
        self.us = part.ok_or(OUT_OF_RANGE)?;
        Ok(())
    }

    /// A part of a unit, smaller than one. Half a microsecond goes towards zero.
    fn add_fraction(&mut self, fraction: f64, unit_us: i64) -> Result<(), Defect> {
        let (us, rest) = split(fraction * unit_us as f64);
        self.add_us(us + i64::from(rest > 0.5) - i64::from(rest < -0.5), 1)
    }
}

fn add(total: &mut i32, count: i64, factor: i64) -> Result<(), Defect> {
    let part = count.checked_mul(factor).and_then(|part| i32::try_from(part).ok());
    *total = part.and_then(|part| total.checked_add(part)).ok_or(OUT_OF_RANGE)?;
    Ok(())
}

/// The whole and what is behind its point.
fn split(number: f64) -> (i64, f64) {
    #[expect(clippy::cast_possible_truncation, reason = "far below 2^63")]
    let whole = number.trunc() as i64;
    (whole, number.fract())
}

/// `P[nY][nM][nW][nD][T[nH][nM][nS]]`, each number with its sign and its fraction.
fn iso(text: &str) -> Result<Parts, Defect> {
    let rest = text.strip_prefix('P').ok_or(BAD_INTERVAL)?;
    let (dates, times) = match rest.split_once('T') {
        Some((dates, times)) if !times.is_empty() => (dates, times),
        Some(_) => return Err(BAD_INTERVAL),
        None if rest.is_empty() => return Err(BAD_INTERVAL),
        None => (rest, ""),
    };
    let mut parts = Parts::default();
    fields(dates, "YMWD", |unit, whole, fraction| match unit {
        b'Y' | b'M' if fraction != 0.0 => Err(FRACTION),
        b'Y' => parts.add_months(whole, 12),
        b'M' => parts.add_months(whole, 1),
        b'W' => {
            parts.add_days(whole, 7)?;
            let (days, rest) = split(fraction * 7.0);
            parts.add_days(days, 1)?;
            parts.add_fraction(rest, DAY_US)
        }
        _ => {
            parts.add_days(whole, 1)?;
            parts.add_fraction(fraction, DAY_US)
        }
    })?;
    fields(times, "HMS", |unit, whole, fraction| {
        let unit_us = match unit {
            b'H' => HOUR_US,
            b'M' => MINUTE_US,
            _ => SECOND_US,
        };
        parts.add_us(whole, unit_us)?;
        parts.add_fraction(fraction, unit_us)
    })?;
    Ok(parts)
}

/// Numbers with their units, in the order of `units`, each at most once.
fn fields(
    mut text: &str,
    mut units: &str,
    mut add: impl FnMut(u8, i64, f64) -> Result<(), Defect>,
) -> Result<(), Defect> {
    while !text.is_empty() {
        let at = text.find(|c: char| c.is_ascii_uppercase()).ok_or(BAD_INTERVAL)?;
        let unit = text.as_bytes()[at];
        let place = units.bytes().position(|other| other == unit).ok_or(BAD_INTERVAL)?;
        units = &units[place + 1..];
        let (whole, fraction) = number(&text[..at])?;
        add(unit, whole, fraction)?;
        text = &text[at + 1..];
    }
    Ok(())
}

/// `[-]digits[.digits]`.
fn number(text: &str) -> Result<(i64, f64), Defect> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').map_or((unsigned, None), |(a, b)| (a, Some(b)));
    if !digits(whole) || !fraction.is_none_or(digits) {
        return Err(BAD_INTERVAL);
    }
    let number: f64 = text.parse().map_err(|_| BAD_INTERVAL)?;
    if number.abs() > MOST {
        return Err(OUT_OF_RANGE);
    }
    Ok(split(number))
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `[±n years] [±n mons] [±n days] [±h:mm:ss[.f]]`, as the server prints it.
fn postgres(text: &str) -> Result<Parts, Defect> {
    const UNITS: [&[&str]; 3] = [&["year"], &["mon", "month"], &["day"]];
    let mut parts = Parts::default();
    let mut units = 0;
    let mut negative = false;
    let mut words = text.split_ascii_whitespace().peekable();
    if words.peek().is_none() {
        return Err(BAD_INTERVAL);
    }
    while let Some(word) = words.next() {
        let (sign, unsigned) = match word.as_bytes() {
            [b'-', ..] => (-1, &word[1..]),
            [b'+', ..] => (1, &word[1..]),
            // In the SQL standard's style the first sign would be everybody's.
            _ if negative => return Err(UNSIGNED),
            _ => (1, word),
        };
        negative |= sign < 0;
        if unsigned.contains(':') {
            let us = clock(unsigned)?;
            parts.add_us(us, sign)?;
            return if words.next().is_none() { Ok(parts) } else { Err(BAD_INTERVAL) };
        }
        if !digits(unsigned) {
            return Err(BAD_INTERVAL);
        }
        let count = sign * unsigned.parse::<i64>().map_err(|_| OUT_OF_RANGE)?;
        let unit = words.next().ok_or(BAD_INTERVAL)?;
        let unit = unit.strip_suffix('s').unwrap_or(unit);
        let place = UNITS[units..].iter().position(|names| names.contains(&unit)).ok_or(BAD_INTERVAL)?;
        units += place + 1;
        match units {
            1 => parts.add_months(count, 12)?,
            2 => parts.add_months(count, 1)?,
            _ => parts.add_days(count, 1)?,
        }
    }
    Ok(parts)
}

/// `h:mm:ss[.f]`, of any number of hours.
fn clock(text: &str) -> Result<i64, Defect> {
    let mut fields = text.splitn(3, ':');
    let (Some(hours), Some(minutes), Some(seconds)) = (fields.next(), fields.next(), fields.next()) else {
        return Err(BAD_INTERVAL);
    };
    let sixty = |field: &str| {
        let value = if field.len() == 2 && digits(field) { field.parse().ok() } else { None };
        value.filter(|value: &i64| *value < 60).ok_or(BAD_INTERVAL)
    };
    let (whole, point) = seconds.split_at_checked(2).ok_or(BAD_INTERVAL)?;
    let Some((us, [])) = fraction_us(point.as_bytes()) else { return Err(BAD_INTERVAL) };
    if !digits(hours) {
        return Err(BAD_INTERVAL);
    }
    let mut parts = Parts { us, ..Parts::default() };
    parts.add_us(hours.parse().map_err(|_| OUT_OF_RANGE)?, HOUR_US)?;
    parts.add_us(sixty(minutes)?, MINUTE_US)?;
    parts.add_us(sixty(whole)?, SECOND_US)?;
    Ok(parts.us)
}
