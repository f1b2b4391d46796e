//! Instants as people write them: RFC 3339, or milliseconds since 1970 as Kafka has them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY_MS: i64 = 86_400_000;
/// 9999-12-31T23:59:59.999Z: what RFC 3339 can write.
const LAST_MS: i64 = 253_402_300_799_999;

/// Reads `2026-04-25T03:00:00Z`, with any offset from UTC, or `1777086000000`.
pub(super) fn parse_instant(text: &str) -> Result<SystemTime, String> {
    let wrong = || {
        format!(
            "`{text}` is not an instant from 1970 on: write it as 2026-04-25T03:00:00Z, with an offset as in \
             2026-04-25T05:00:00+02:00, or in milliseconds since 1970"
        )
    };
    let digits_only = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let ms = if digits_only { text.parse().ok() } else { rfc_3339_ms(text) };
    let ms = ms.filter(|ms| (0..=LAST_MS).contains(ms)).ok_or_else(wrong)?;
    Ok(UNIX_EPOCH + Duration::from_millis(ms.unsigned_abs()))
}

/// Writes what [`parse_instant`] reads, to the millisecond.
pub(crate) fn show_instant(instant: SystemTime) -> String {
    let ms = epoch_ms(instant);
    let (year, month, day) = civil(ms.div_euclid(DAY_MS));
    let of_day = ms.rem_euclid(DAY_MS);
    let (hour, minute, second) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1_000 % 60);
    let fraction = match of_day % 1_000 {
        0 => String::new(),
        ms => format!(".{ms:03}"),
    };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

/// Milliseconds since 1970, rounded up: a record that is a fraction older than the instant is before it.
pub(crate) fn epoch_ms(instant: SystemTime) -> i64 {
    let since = instant.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX).min(LAST_MS)
}

fn rfc_3339_ms(text: &str) -> Option<i64> {
    let (date, rest) = text.split_at_checked(10)?;
    let (year, month, day) = (number(date, 0, 4)?, number(date, 5, 2)?, number(date, 8, 2)?);
    let separators = (date.as_bytes().get(4)?, date.as_bytes().get(7)?);
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (time, rest) = rest.split_at_checked(8)?;
    let (hour, minute, second) = (number(time, 0, 2)?, number(time, 3, 2)?, number(time, 6, 2)?);
    let colons = (time.as_bytes().get(2)?, time.as_bytes().get(5)?);
    if separators != (&b'-', &b'-') || colons != (&b':', &b':') {
        return None;
    }
    // A leap second is the second after it.
    if !(1..=12).contains(&month)
        || day < 1
        || day > days_of(year, month)
        || hour > 23
        || minute > 59
        || second > 60
    {
        return None;
    }
    let (fraction_ms, zone) = fraction(rest)?;
    let seconds = (hour * 60 + minute) * 60 + second;
    Some(days(year, month, day) * DAY_MS + seconds * 1_000 + fraction_ms - offset_ms(zone)?)
}

/// Milliseconds of `.123456`, if there is one, rounded up as in [`epoch_ms`]; and what follows.
fn fraction(text: &str) -> Option<(i64, &str)> {
    let Some(rest) = text.strip_prefix('.') else { return Some((0, text)) };
    let end = rest.find(|c: char| !c.is_ascii_digit())?;
    let (digits, zone) = rest.split_at(end);
    let (ms, finer) = digits.split_at(digits.len().min(3));
    if ms.is_empty() {
        return None;
    }
    let ms: i64 = format!("{ms:0<3}").parse().ok()?;
    Some((ms + i64::from(finer.bytes().any(|digit| digit != b'0')), zone))
}

/// Milliseconds that `+02:00` is ahead of UTC.
fn offset_ms(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let offset = zone.strip_prefix(['+', '-'])?;
    let (hours, minutes) = (number(offset, 0, 2)?, number(offset, 3, 2)?);
    (offset.len() == 5 && offset.as_bytes()[2] == b':' && hours <= 23 && minutes <= 59)
        .then_some(sign * (hours * 60 + minutes) * 60_000)
}

fn number(text: &str, from: usize, len: usize) -> Option<i64> {
    let digits = text.get(from..from + len)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01. Years begin in March, so that the leap day is the last one.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The inverse of [`days`].
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let march_month = (5 * of_year + 2) / 153;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_read_in_either_spelling() {
        for (text, ms, shown) in [
            ("2026-04-25T03:00:00Z", 1_777_086_000_000, "2026-04-25T03:00:00Z"),
            ("2026-04-25t05:00:00.5+02:00", 1_777_086_000_500, "2026-04-25T03:00:00.500Z"),
            ("2026-04-24 21:30:00-05:30", 1_777_086_000_000, "2026-04-25T03:00:00Z"),
            ("1777086000000", 1_777_086_000_000, "2026-04-25T03:00:00Z"),
            ("1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00Z"),
            ("2000-02-29T23:59:60Z", 951_868_800_000, "2000-03-01T00:00:00Z"),
            ("2026-04-25T03:00:00.0001Z", 1_777_086_000_001, "2026-04-25T03:00:00.001Z"),
            ("9999-12-31T23:59:59.999Z", LAST_MS, "9999-12-31T23:59:59.999Z"),
        ] {
            let instant = parse_instant(text).unwrap();
            assert_eq!((epoch_ms(instant), show_instant(instant).as_str()), (ms, shown), "{text}");
            assert_eq!(parse_instant(shown), Ok(instant));
        }
    }

    #[test]
    fn what_is_no_instant_is_refused() {
        for text in [
            "",
            "yesterday",
            "2026-04-25",
            "2026-04-25T03:00:00",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-04-25T24:00:00Z",
            "2026-04-25T03:00:00+2:00",
            "2026-04-25T03:00:00.Z",
            "1969-12-31T23:59:59Z",
            "2026/04/25T03:00:00Z",
            "-1",
            "99999999999999999999",
            "2026-04-25T03:00:0éZ",
            "+026-04-25T03:00:00Z",
        ] {
            assert!(parse_instant(text).unwrap_err().contains("2026-04-25T03:00:00Z"), "{text}");
        }
    }

    #[test]
    fn every_day_is_its_own_and_back() {
        for day in (0..LAST_MS / DAY_MS).step_by(97) {
            let (year, month, date) = civil(day);
            assert_eq!(days(year, month, date), day);
            assert!((1..=12).contains(&month) && (1..=days_of(year, month)).contains(&date));
        }
    }
}
