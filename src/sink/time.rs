//! Dates and times: RFC 3339, and milliseconds since 1970. No time zone is ever guessed.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use bytes::{BufMut, BytesMut};

use super::target::{Defect, Put, Written};

/// From 4714-11-24 BC to the end of the year 5874897, in days since 2000 (`DATETIME_MIN_JULIAN`, `DATE_END_JULIAN`).
pub(super) const RANGE_DAYS: Range<i64> = -2_451_545..2_145_031_949;

/// Days from 1970-01-01 to 2000-01-01, from which Postgres counts.
const EPOCH_DAYS: i64 = 10_957;
pub(crate) const DAY_US: i64 = 86_400_000_000;
const EPOCH_US: i64 = EPOCH_DAYS * DAY_US;

const BAD_DATE: Defect = Defect::Invalid("not a date (2026-11-25)");
const BAD_TIME: Defect = Defect::Invalid("not a time (23:59:59.5)");
const BAD_TIMESTAMP: Defect = Defect::Invalid("not an RFC 3339 time (2026-11-25T23:59:59.5Z)");
const NO_OFFSET: Defect =
    Defect::Invalid("a time without its offset from UTC (add Z, or +02:00): no time zone is guessed");
const FOREIGN_OFFSET: Defect = Defect::Invalid(
    "a time with an offset from UTC for a column without time zone: which of the two times is meant?",
);
pub(super) const OUT_OF_RANGE: Defect = Defect::Invalid("out of the range of its type");

/// From 4714-11-24 BC to the end of the year 294276, in microseconds since 2000 (`MIN_TIMESTAMP`, `END_TIMESTAMP` in
/// PostgreSQL's `timestamp.h`).
pub(super) const RANGE_US: Range<i64> = -211_813_488_000_000_000..9_223_371_331_200_000_000;

pub(crate) fn put_timestamp_ms(ms: i64, out: &mut BytesMut) -> Put {
    let us = ms.checked_mul(1_000).and_then(|us| us.checked_sub(EPOCH_US));
    out.put_i64(us.filter(|us| RANGE_US.contains(us)).ok_or(OUT_OF_RANGE)?);
    Ok(Written::Value)
}

pub(crate) fn put_system_time(time: SystemTime, out: &mut BytesMut) -> Put {
    let us = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => micros(after)?,
        Err(before) => -micros(before.duration())?,
    };
    let us = us.checked_sub(EPOCH_US).filter(|us| RANGE_US.contains(us));
    out.put_i64(us.ok_or(OUT_OF_RANGE)?);
    Ok(Written::Value)
}

/// The nearest, as of text with nanoseconds; half a microsecond goes to the even one.
fn micros(duration: Duration) -> Result<i64, Defect> {
    let us = i64::try_from(duration.as_micros()).map_err(|_| OUT_OF_RANGE)?;
    let up = match duration.subsec_nanos() % 1_000 {
        500 => us % 2,
        rest => i64::from(rest > 500),
    };
    us.checked_add(up).ok_or(OUT_OF_RANGE)
}

pub(crate) fn put_duration(duration: Duration, out: &mut BytesMut) -> Put {
    out.put_i64(micros(duration)?);
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
    let text = text.trim_ascii();
    let days = match infinity(text) {
        Some(1) => i32::MAX,
        Some(_) => i32::MIN,
        None => {
            let (text, is_before_christ) = era(text);
            let (days, rest) = date(text.as_bytes(), is_before_christ).ok_or(BAD_DATE)?;
            if !rest.is_empty() {
                return Err(BAD_DATE);
            }
            let days = i32::try_from(days).ok().filter(|_| RANGE_DAYS.contains(&days));
            days.ok_or(OUT_OF_RANGE)?
        }
    };
    out.put_i32(days);
    Ok(Written::Value)
}

pub(crate) fn put_time(text: &str, out: &mut BytesMut) -> Put {
    match time(text.trim_ascii().as_bytes()) {
        Some((us, b"")) => out.put_i64(us),
        _ => return Err(BAD_TIME),
    }
    Ok(Written::Value)
}

/// `with_zone`: the text must say its offset; else it must not, or say UTC.
pub(crate) fn put_timestamp(text: &str, with_zone: bool, out: &mut BytesMut) -> Put {
    let text = text.trim_ascii();
    match infinity(text) {
        Some(1) => out.put_i64(i64::MAX),
        Some(_) => out.put_i64(i64::MIN),
        None => {
            let (text, is_before_christ) = era(text);
            let (days, rest) = date(text.as_bytes(), is_before_christ).ok_or(BAD_TIMESTAMP)?;
            let [b'T' | b't' | b' ', rest @ ..] = rest else { return Err(BAD_TIMESTAMP) };
            let (us, rest) = time(rest).ok_or(BAD_TIMESTAMP)?;
            let offset = offset(rest).ok_or(BAD_TIMESTAMP)?;
            match (with_zone, offset) {
                (true, None) => return Err(NO_OFFSET),
                (false, Some(seconds)) if seconds != 0 => return Err(FOREIGN_OFFSET),
                _ => {}
            }
            let us = days.checked_mul(DAY_US).and_then(|day_us| day_us.checked_add(us));
            let us = us.and_then(|us| us.checked_sub(offset.unwrap_or(0) * 1_000_000));
            out.put_i64(us.filter(|us| RANGE_US.contains(us)).ok_or(OUT_OF_RANGE)?);
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

/// As Postgres prints the years before Christ.
fn era(text: &str) -> (&str, bool) {
    text.strip_suffix(" BC").map_or((text, false), |text| (text, true))
}

/// `YYYY-MM-DD`, with more digits of the year if it has them, to days since 2000-01-01.
fn date(bytes: &[u8], is_before_christ: bool) -> Option<(i64, &[u8])> {
    let digits = bytes.iter().take(7).take_while(|byte| byte.is_ascii_digit()).count();
    let (shown, rest) = number(bytes, digits.max(4))?;
    // Before the year 1 is the first before Christ.
    let year = if is_before_christ { 1 - shown } else { shown };
    let (month, rest) = number(rest.strip_prefix(b"-")?, 2)?;
    let (day, rest) = number(rest.strip_prefix(b"-")?, 2)?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_in_month = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        _ => return None,
    };
    if shown == 0 || day == 0 || day > days_in_month {
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
        (micros, rest) = fraction_us(rest)?;
    }
    let us = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + micros;
    (us <= DAY_US && minutes <= 59 && seconds <= 60).then_some((us, rest))
}

/// A point and digits, if there is a point: in microseconds, rounded as the server does it, in floating point.
pub(crate) fn fraction_us(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let Some(after) = bytes.strip_prefix(b".") else { return Some((0, bytes)) };
    let count = after.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = after.split_at(count);
    if (1..=6).contains(&count) {
        let us = digits.iter().fold(0, |us, digit| us * 10 + i64::from(digit - b'0'));
        return Some((us * 10_i64.pow(6 - u32::try_from(count).ok()?), rest));
    }
    let fraction: f64 = std::str::from_utf8(&bytes[..=count]).ok()?.parse().ok()?;
    #[expect(clippy::cast_possible_truncation, reason = "a million at most")]
    let us = (fraction * 1e6).round_ties_even() as i64;
    Some((us, rest))
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
