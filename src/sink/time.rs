//! Dates, times and intervals: RFC 3339, ISO 8601, and milliseconds since 1970. No time zone is ever guessed.

use std::time::{Duration, SystemTime};

use bytes::{BufMut, BytesMut};

use super::target::{Defect, Put, Written};

/// Days from 1970-01-01 to 2000-01-01, from which Postgres counts.
const EPOCH_DAYS: i64 = 10_957;
const DAY_US: i64 = 86_400_000_000;
const EPOCH_US: i64 = EPOCH_DAYS * DAY_US;

const BAD_DATE: Defect = Defect::Invalid("not a date (2026-11-25)");
const BAD_TIME: Defect = Defect::Invalid("not a time (23:59:59.5)");
const BAD_TIMESTAMP: Defect = Defect::Invalid("not an RFC 3339 time (2026-11-25T23:59:59.5Z)");
const NO_OFFSET: Defect =
    Defect::Invalid("a time without its offset from UTC (add Z, or +02:00): no time zone is guessed");
const FOREIGN_OFFSET: Defect = Defect::Invalid(
    "a time with an offset from UTC for a column without time zone: which of the two times is meant?",
);
const BAD_INTERVAL: Defect = Defect::Invalid("not an ISO 8601 duration (P1DT12H)");
const OUT_OF_RANGE: Defect = Defect::Invalid("out of the range of its type");

pub(crate) fn put_timestamp_ms(ms: i64, out: &mut BytesMut) -> Put {
    let us = ms.checked_mul(1_000).and_then(|us| us.checked_sub(EPOCH_US)).ok_or(OUT_OF_RANGE)?;
    out.put_i64(us);
    Ok(Written::Value)
}

pub(crate) fn put_system_time(time: SystemTime, out: &mut BytesMut) -> Put {
    let micros = |duration: Duration| i64::try_from(duration.as_micros()).map_err(|_| OUT_OF_RANGE);
    let us = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => micros(after)?,
        Err(before) => -micros(before.duration())?,
    };
    out.put_i64(us.checked_sub(EPOCH_US).ok_or(OUT_OF_RANGE)?);
    Ok(Written::Value)
}

pub(crate) fn put_duration(duration: Duration, out: &mut BytesMut) -> Put {
    out.put_i64(i64::try_from(duration.as_micros()).map_err(|_| OUT_OF_RANGE)?);
    out.put_i64(0);
    Ok(Written::Value)
}

/// -1 for `-infinity`, 1 for `infinity`.
fn infinity(text: &str) -> Option<i8> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    text.eq_ignore_ascii_case("infinity").then_some(sign)
}

pub(crate) fn put_date(text: &str, out: &mut BytesMut) -> Put {
    let days = match infinity(text) {
        Some(1) => i32::MAX,
        Some(_) => i32::MIN,
        None => {
            let (days, rest) = date(text.as_bytes()).ok_or(BAD_DATE)?;
            if !rest.is_empty() {
                return Err(BAD_DATE);
            }
            i32::try_from(days).map_err(|_| OUT_OF_RANGE)?
        }
    };
    out.put_i32(days);
    Ok(Written::Value)
}

pub(crate) fn put_time(text: &str, out: &mut BytesMut) -> Put {
    match time(text.as_bytes()) {
        Some((us, b"")) if us <= DAY_US => out.put_i64(us),
        _ => return Err(BAD_TIME),
    }
    Ok(Written::Value)
}

/// `with_zone`: the text must say its offset; else it must not, or say UTC.
pub(crate) fn put_timestamp(text: &str, with_zone: bool, out: &mut BytesMut) -> Put {
    match infinity(text) {
        Some(1) => out.put_i64(i64::MAX),
        Some(_) => out.put_i64(i64::MIN),
        None => {
            let (days, rest) = date(text.as_bytes()).ok_or(BAD_TIMESTAMP)?;
            let [b'T' | b't' | b' ', rest @ ..] = rest else { return Err(BAD_TIMESTAMP) };
            let (us, rest) = time(rest).ok_or(BAD_TIMESTAMP)?;
            let offset = offset(rest).ok_or(BAD_TIMESTAMP)?;
            match (with_zone, offset) {
                (true, None) => return Err(NO_OFFSET),
                (false, Some(seconds)) if seconds != 0 => return Err(FOREIGN_OFFSET),
                _ => {}
            }
            out.put_i64(days * DAY_US + us - offset.unwrap_or(0) * 1_000_000);
        }
    }
    Ok(Written::Value)
}

fn number(bytes: &[u8], digits: usize) -> Option<(i64, &[u8])> {
    let (number, rest) = bytes.split_at_checked(digits)?;
    let mut value = 0;
    for byte in number {
        value = value * 10 + i64::from(byte.checked_sub(b'0').filter(|digit| *digit < 10)?);
    }
    Some((value, rest))
}

/// `YYYY-MM-DD` to days since 2000-01-01.
fn date(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (year, rest) = number(bytes, 4)?;
    let (month, rest) = number(rest.strip_prefix(b"-")?, 2)?;
    let (day, rest) = number(rest.strip_prefix(b"-")?, 2)?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => return None,
    };
    if year == 0 || day == 0 || day > days_in_month {
        return None;
    }
    // Howard Hinnant's days_from_civil: years begin in March, so that the leap day is the last.
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let of_era = shifted.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some((days - EPOCH_DAYS, rest))
}

/// `HH:MM[:SS[.fraction]]` to microseconds. A leap second and 24:00 count on, as for the server.
fn time(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (hours, rest) = number(bytes, 2)?;
    let (minutes, rest) = number(rest.strip_prefix(b":")?, 2)?;
    let (mut seconds, mut micros, mut rest) = (0, 0, rest);
    if let Some(after) = rest.strip_prefix(b":") {
        (seconds, rest) = number(after, 2)?;
        if let Some(after) = rest.strip_prefix(b".") {
            let digits = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
            (micros, rest) = (fraction_us(&after[..digits])?, &after[digits..]);
        }
    }
    let midnight = hours == 24 && minutes == 0 && seconds == 0 && micros == 0;
    if hours > 23 && !midnight || minutes > 59 || seconds > 60 {
        return None;
    }
    Some((((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + micros, rest))
}

/// Rounded to microseconds.
fn fraction_us(digits: &[u8]) -> Option<i64> {
    if digits.is_empty() {
        return None;
    }
    let mut us = 0;
    for place in 0..6 {
        us = us * 10 + i64::from(digits.get(place).map_or(0, |digit| digit - b'0'));
    }
    // Half a microsecond goes to the even one.
    let up = match digits.get(6..) {
        None | Some([]) => false,
        Some([first, rest @ ..]) => match first {
            b'0'..=b'4' => false,
            b'5' if rest.iter().all(|digit| *digit == b'0') => us % 2 == 1,
            _ => true,
        },
    };
    Some(us + i64::from(up))
}

/// Seconds east of UTC; `Some(None)` if nothing is said.
fn offset(bytes: &[u8]) -> Option<Option<i64>> {
    let (sign, rest) = match bytes {
        [] => return Some(None),
        b"Z" | b"z" => return Some(Some(0)),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, rest) = number(rest, 2)?;
    let (minutes, rest) = match rest {
        [] => (0, rest),
        _ => number(rest.strip_prefix(b":").unwrap_or(rest), 2)?,
    };
    (rest.is_empty() && hours <= 15 && minutes <= 59).then_some(Some(sign * (hours * 3_600 + minutes * 60)))
}

/// `P[nY][nM][nW][nD][T[nH][nM][n[.f]S]]`, the whole with a sign or without.
pub(crate) fn put_interval(text: &str, out: &mut BytesMut) -> Put {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let rest = rest.strip_prefix('P').ok_or(BAD_INTERVAL)?;
    let (dates, times) = match rest.split_once('T') {
        Some((dates, times)) if !times.is_empty() => (dates, times),
        Some(_) => return Err(BAD_INTERVAL),
        None if rest.is_empty() => return Err(BAD_INTERVAL),
        None => (rest, ""),
    };
    let (mut months, mut days, mut us) = (0_i64, 0_i64, 0_i64);
    parts(dates, "YMWD", |unit, value, fraction| {
        if fraction != 0 {
            return Err(BAD_INTERVAL);
        }
        let (total, factor) = match unit {
            b'Y' => (&mut months, 12),
            b'M' => (&mut months, 1),
            b'W' => (&mut days, 7),
            _ => (&mut days, 1),
        };
        *total = value.checked_mul(factor).and_then(|part| total.checked_add(part)).ok_or(OUT_OF_RANGE)?;
        Ok(())
    })?;
    parts(times, "HMS", |unit, value, fraction| {
        let factor = match unit {
            b'H' => 3_600_000_000,
            b'M' => 60_000_000,
            _ => 1_000_000,
        };
        if fraction != 0 && unit != b'S' {
            return Err(BAD_INTERVAL);
        }
        let part = value.checked_mul(factor).and_then(|part| part.checked_add(fraction));
        us = part.and_then(|part| us.checked_add(part)).ok_or(OUT_OF_RANGE)?;
        Ok(())
    })?;
    out.put_i64(sign * us);
    out.put_i32(i32::try_from(sign * days).map_err(|_| OUT_OF_RANGE)?);
    out.put_i32(i32::try_from(sign * months).map_err(|_| OUT_OF_RANGE)?);
    Ok(Written::Value)
}

/// Numbers with their units, in the order of `units`, each at most once.
fn parts(
    mut text: &str,
    mut units: &str,
    mut add: impl FnMut(u8, i64, i64) -> Result<(), Defect>,
) -> Result<(), Defect> {
    while !text.is_empty() {
        let at = text.find(|c: char| c.is_ascii_uppercase()).ok_or(BAD_INTERVAL)?;
        let unit = text.as_bytes()[at];
        let place = units.bytes().position(|other| other == unit).ok_or(BAD_INTERVAL)?;
        units = &units[place + 1..];
        let (whole, fraction) = text[..at].split_once('.').map_or((&text[..at], None), |(a, b)| (a, Some(b)));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !fraction.is_none_or(digits) {
            return Err(BAD_INTERVAL);
        }
        let fraction = fraction.map_or(Some(0), |digits| fraction_us(digits.as_bytes()));
        add(unit, whole.parse().map_err(|_| OUT_OF_RANGE)?, fraction.ok_or(BAD_INTERVAL)?)?;
        text = &text[at + 1..];
    }
    Ok(())
}
