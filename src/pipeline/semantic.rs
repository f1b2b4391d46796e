//! What plain values stand for by the names of their schemas, and each as canonical JSON: the one form in which values with
//! a schema go on to the paths.
//!
//! Numbers have every digit; `NaN` and infinities are strings; bytes are `"\\x0aff"`; dates and times are as ISO 8601 and
//! Postgres have them, with `Z` where an instant is meant.

use super::file::Unit;
use super::unchanged::DEBEZIUM;

/// What a plain value stands for: Connect's logical types and Debezium's semantic types, by the schema's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Semantic {
    /// Days since 1970-01-01.
    Date,
    /// Since midnight.
    Time(Unit),
    /// Since 1970-01-01T00:00:00, without a zone.
    Timestamp(Unit),
    /// Since 1970-01-01T00:00:00Z.
    Instant(Unit),
    /// Big-endian two's complement, and the scale.
    Decimal(i32),
    /// A struct of `scale` and `value`.
    VariableScaleDecimal,
    /// Text that is a JSON document.
    Json,
    /// Bytes, the last bits first, and how many bits.
    Bits(Option<u32>),
    /// Text, with commas between the members.
    EnumSet,
    MicroDuration,
    NanoDuration,
    Year,
    /// As it is: UUIDs, enums, XML, times with their zones, intervals.
    Text,
    /// The same with a `Z` behind it that stands for nothing: dates and times of day by `time.precision.mode = isostring`.
    TextBeforeZ,
    /// By this name, it is refused.
    Refused(&'static str),
}

/// Of the JSON that a value may become: items may take few bytes, or none, and become many.
const LONGEST: usize = 64 << 20;
/// Longer decimals are refused: what work one takes is bounded.
const LONGEST_DECIMAL: usize = 16 * 1_024;
/// What `numeric` has: digits before the point, and behind it.
const SCALES: std::ops::RangeInclusive<i32> = -131_072..=16_383;

/// Postgres': from 4714-11-24 BC to the end of the year 5874897, of timestamps the year 294276; in days since 1970-01-01.
const DATES: std::ops::Range<i64> = -2_440_588..2_145_042_906;
const DAYS_OF_TIMESTAMPS: std::ops::Range<i64> = -2_440_588..106_762_940;

/// Microseconds that Debezium writes for Postgres' `infinity` and `-infinity` (those of the JDBC driver, `PGStatement`).
const INFINITY_US: i64 = 9_223_372_036_825_200_000;
const NEGATIVE_INFINITY_US: i64 = -9_223_372_036_832_400_000;

const DAY_US: i64 = 86_400_000_000;
const OTHER_TYPE: &str = "not of the type that its schema's name goes with";

/// Whether what was written so far may be so long.
pub(crate) fn within(out: &[u8]) -> Result<(), &'static str> {
    if out.len() > LONGEST { Err("it becomes more than 64 MiB") } else { Ok(()) }
}

impl Semantic {
    /// By the name of a schema and its parameters; `None`: the name says nothing of how a value is written.
    pub(crate) fn of(name: &str, parameter: &dyn Fn(&str) -> Option<String>) -> Option<Self> {
        if let Some(name) = name.strip_prefix("org.apache.kafka.connect.data.") {
            return Some(match name {
                "Date" => Self::Date,
                "Time" => Self::Time(Unit::Milliseconds),
                "Timestamp" => Self::Instant(Unit::Milliseconds),
                "Decimal" => match parameter("scale").map(|scale| scale.trim().parse()) {
                    Some(Ok(scale)) => Self::Decimal(scale),
                    _ => Self::Refused("a decimal without its scale"),
                },
                _ => return None,
            });
        }
        if let Some(name) = name.strip_prefix("io.debezium.time.") {
            return Some(match name {
                "Date" => Self::Date,
                "Time" => Self::Time(Unit::Milliseconds),
                "MicroTime" => Self::Time(Unit::Microseconds),
                "NanoTime" => Self::Time(Unit::Nanoseconds),
                "Timestamp" => Self::Timestamp(Unit::Milliseconds),
                "MicroTimestamp" => Self::Timestamp(Unit::Microseconds),
                "NanoTimestamp" => Self::Timestamp(Unit::Nanoseconds),
                "MicroDuration" => Self::MicroDuration,
                "NanoDuration" => Self::NanoDuration,
                "Year" => Self::Year,
                "ZonedTimestamp" | "ZonedTime" | "IsoTimestamp" | "Interval" => Self::Text,
                "IsoDate" | "IsoTime" => Self::TextBeforeZ,
                _ => return None,
            });
        }
        let name = name.strip_prefix("io.debezium.data.")?;
        Some(match name {
            "Json" => Self::Json,
            "Bits" => Self::Bits(parameter("length").and_then(|length| length.trim().parse().ok())),
            "EnumSet" => Self::EnumSet,
            "VariableScaleDecimal" => Self::VariableScaleDecimal,
            "Uuid" | "Enum" | "Xml" | "Ltree" | "TsVector" => Self::Text,
            "geometry.Geometry" | "geometry.Geography" | "geometry.Point" => Self::Refused("geometry"),
            _ => return None,
        })
    }

    /// Whether integers are written as something else.
    pub(crate) fn counts(&self) -> bool {
        use Semantic::{Date, Instant, MicroDuration, NanoDuration, Time, Timestamp};
        matches!(self, Date | Time(_) | Timestamp(_) | Instant(_) | MicroDuration | NanoDuration)
    }

    /// An integer that stands for something.
    pub(crate) fn write_integer(&self, value: i64, out: &mut Vec<u8>) -> Result<(), &'static str> {
        match self {
            Self::Date => date(value, out),
            Self::Time(unit) => time(value, *unit, out),
            Self::Timestamp(unit) => timestamp(value, *unit, false, out),
            Self::Instant(unit) => timestamp(value, *unit, true, out),
            Self::MicroDuration => {
                micro_duration(value, out);
                Ok(())
            }
            Self::NanoDuration => {
                micro_duration(value.div_euclid(1_000), out);
                Ok(())
            }
            Self::Year => {
                integer(value, out);
                Ok(())
            }
            Self::Refused(what) => Err(what),
            _ => Err(OTHER_TYPE),
        }
    }

    /// Bytes that stand for something.
    pub(crate) fn write_bytes(&self, value: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
        match self {
            Self::Decimal(scale) => decimal(value, *scale, out),
            Self::Bits(length) => {
                bits(value, *length, out);
                Ok(())
            }
            Self::Refused(what) => Err(what),
            _ => Err(OTHER_TYPE),
        }
    }

    /// Text that stands for something.
    pub(crate) fn write_text(&self, value: &str, out: &mut Vec<u8>) -> Result<(), &'static str> {
        match self {
            Self::Json => return document(value, out),
            Self::EnumSet => {
                out.push(b'[');
                for (at, member) in value.split(',').enumerate().filter(|_| !value.is_empty()) {
                    if at > 0 {
                        out.push(b',');
                    }
                    string(member, out);
                }
                out.push(b']');
            }
            Self::Text => string(value, out),
            Self::TextBeforeZ => string(value.strip_suffix('Z').unwrap_or(value), out),
            Self::Refused(what) => return Err(what),
            _ => return Err(OTHER_TYPE),
        }
        Ok(())
    }
}

/// A date, of days since 1970-01-01.
pub(crate) fn date(days: i64, out: &mut Vec<u8>) -> Result<(), &'static str> {
    if !DATES.contains(&days) {
        return Err("out of the range of dates");
    }
    out.push(b'"');
    let is_before_christ = civil(days, out);
    end(is_before_christ, out);
    Ok(())
}

/// A time of day, of what has gone since midnight.
pub(crate) fn time(count: i64, unit: Unit, out: &mut Vec<u8>) -> Result<(), &'static str> {
    let us = match unit {
        Unit::Days => count.checked_mul(DAY_US),
        Unit::Seconds => count.checked_mul(1_000_000),
        Unit::Milliseconds => count.checked_mul(1_000),
        Unit::Microseconds => Some(count),
        Unit::Nanoseconds => Some(count.div_euclid(1_000)),
    };
    // Postgres has 24:00:00, too.
    let us = us.filter(|us| (0..=DAY_US).contains(us)).ok_or("out of the range of times of day")?;
    out.push(b'"');
    clock(us, out);
    out.push(b'"');
    Ok(())
}

/// `infinity` and `-infinity` of a `timestamp`, for which Debezium's connector for PostgreSQL writes numbers: dates in the
/// year 294247, and out of range.
pub(crate) fn infinity(count: i64, unit: Unit) -> Option<&'static str> {
    let per_unit = match unit {
        Unit::Microseconds => 1,
        Unit::Milliseconds => 1_000,
        Unit::Days | Unit::Seconds | Unit::Nanoseconds => return None,
    };
    match count {
        _ if count == INFINITY_US / per_unit => Some("infinity"),
        _ if count == NEGATIVE_INFINITY_US / per_unit => Some("-infinity"),
        _ => None,
    }
}

/// A timestamp, of what has gone since 1970-01-01T00:00:00; `zoned`: it is an instant.
pub(crate) fn timestamp(count: i64, unit: Unit, zoned: bool, out: &mut Vec<u8>) -> Result<(), &'static str> {
    if let Some(word) = infinity(count, unit) {
        string(word, out);
        return Ok(());
    }
    // Postgres goes beyond what 64 bits of microseconds since 1970 hold.
    let split = |per_day: i64| (count.div_euclid(per_day), count.rem_euclid(per_day));
    let (days, us) = match unit {
        Unit::Days => (count, 0),
        Unit::Seconds => {
            let (days, rest) = split(DAY_US / 1_000_000);
            (days, rest * 1_000_000)
        }
        Unit::Milliseconds => {
            let (days, rest) = split(DAY_US / 1_000);
            (days, rest * 1_000)
        }
        Unit::Microseconds => split(DAY_US),
        Unit::Nanoseconds => {
            let (days, rest) = split(DAY_US * 1_000);
            (days, rest / 1_000)
        }
    };
    if !DAYS_OF_TIMESTAMPS.contains(&days) {
        return Err("out of the range of timestamps");
    }
    out.push(b'"');
    let is_before_christ = civil(days, out);
    out.push(b'T');
    clock(us, out);
    if zoned {
        out.push(b'Z');
    }
    end(is_before_christ, out);
    Ok(())
}

fn end(is_before_christ: bool, out: &mut Vec<u8>) {
    if is_before_christ {
        out.extend_from_slice(b" BC");
    }
    out.push(b'"');
}

/// `YYYY-MM-DD` of days since 1970-01-01, of a range that was checked; whether it is before Christ.
fn civil(days: i64, out: &mut Vec<u8>) -> bool {
    // Howard Hinnant's civil_from_days: years begin in March, so that the leap day is the last.
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    // There is no year 0: before the year 1 is the first before Christ.
    let shown = if year > 0 { year } else { 1 - year };
    if shown < 10_000 {
        two(shown / 100, out);
        two(shown % 100, out);
    } else {
        integer(shown, out);
    }
    out.push(b'-');
    two(month, out);
    out.push(b'-');
    two(day, out);
    year <= 0
}

/// `HH:MM:SS`, and the fraction that there is.
fn clock(us: i64, out: &mut Vec<u8>) {
    let seconds = us / 1_000_000;
    two(seconds / 3_600, out);
    out.push(b':');
    two(seconds / 60 % 60, out);
    out.push(b':');
    two(seconds % 60, out);
    fraction(us % 1_000_000, out);
}

/// Behind a point, without zeros at its end; nothing of zero.
fn fraction(us: i64, out: &mut Vec<u8>) {
    if us == 0 {
        return;
    }
    out.push(b'.');
    two(us / 10_000, out);
    two(us / 100 % 100, out);
    two(us % 100, out);
    while out.last() == Some(&b'0') {
        out.pop();
    }
}

fn two(number: i64, out: &mut Vec<u8>) {
    out.extend([digit(number / 10), digit(number)]);
}

/// The last one of a number that is not negative.
fn digit(number: i64) -> u8 {
    b'0' + u8::try_from(number % 10).unwrap_or_default()
}

/// An integer as a number.
pub(crate) fn integer(value: i64, out: &mut Vec<u8>) {
    let mut buffer = [0; DIGITS];
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(digits(value.unsigned_abs().into(), &mut buffer));
}

/// Of `u128::MAX`.
const DIGITS: usize = 39;

fn digits(mut value: u128, buffer: &mut [u8; DIGITS]) -> &[u8] {
    const HALF: u128 = 10_u128.pow(19);
    let mut at = DIGITS;
    loop {
        // Most of it in 64 bits, which are much faster to divide.
        let (above, below) = (value / HALF, value % HALF);
        let mut low = u64::try_from(below).unwrap_or_default();
        let first = if above > 0 { at - 19 } else { 0 };
        while low > 0 || (above > 0 && at > first) {
            at -= 1;
            buffer[at] = b'0' + u8::try_from(low % 10).unwrap_or_default();
            low /= 10;
        }
        if above == 0 {
            break;
        }
        value = above;
    }
    if at == DIGITS {
        at -= 1;
        buffer[at] = b'0';
    }
    &buffer[at..]
}

/// A decimal number with every digit, of its unscaled value's bytes.
pub(crate) fn decimal(unscaled: &[u8], scale: i32, out: &mut Vec<u8>) -> Result<(), &'static str> {
    if unscaled.is_empty() {
        return Err("a decimal without bytes");
    }
    if unscaled.len() > LONGEST_DECIMAL {
        return Err("a decimal of more than 16 KiB");
    }
    if !SCALES.contains(&scale) {
        return Err("a decimal with a scale that numeric does not have");
    }
    let is_negative = unscaled[0] & 0x80 != 0;
    if unscaled.len() <= 16 {
        let mut wide = [if is_negative { 0xff } else { 0 }; 16];
        wide[16 - unscaled.len()..].copy_from_slice(unscaled);
        let mut buffer = [0; DIGITS];
        let digits = digits(i128::from_be_bytes(wide).unsigned_abs(), &mut buffer);
        with_point(is_negative, digits, scale, out);
    } else {
        with_point(is_negative, &long_digits(unscaled, is_negative), scale, out);
    }
    Ok(())
}

/// Digits of more than 16 bytes.
fn long_digits(unscaled: &[u8], is_negative: bool) -> Vec<u8> {
    const BILLION: u64 = 1_000_000_000;
    // The magnitude in words of 32 bits, the highest first.
    let mut words: Vec<u32> = Vec::with_capacity(unscaled.len() / 4 + 1);
    let (head, rest) = unscaled.split_at(unscaled.len() % 4);
    let sign = if is_negative { 0xff } else { 0 };
    let mut first = [sign; 4];
    first[4 - head.len()..].copy_from_slice(head);
    words.push(u32::from_be_bytes(first));
    words.extend(rest.chunks_exact(4).map(|word| u32::from_be_bytes([word[0], word[1], word[2], word[3]])));
    if is_negative {
        let mut carry = true;
        for word in words.iter_mut().rev() {
            (*word, carry) = (!*word).overflowing_add(carry.into());
        }
    }
    // Nine digits at a time, the last ones first.
    let mut digits = Vec::with_capacity(unscaled.len() * 5 / 2 + 9);
    let mut words = words.as_mut_slice();
    loop {
        let zeros = words.iter().take_while(|word| **word == 0).count();
        words = &mut words[zeros..];
        if words.is_empty() {
            break;
        }
        let mut rest = 0;
        for word in words.iter_mut() {
            let value = rest << 32 | u64::from(*word);
            *word = u32::try_from(value / BILLION).unwrap_or_default();
            rest = value % BILLION;
        }
        for _ in 0..9 {
            digits.push(b'0' + u8::try_from(rest % 10).unwrap_or_default());
            rest /= 10;
        }
    }
    while digits.last() == Some(&b'0') {
        digits.pop();
    }
    if digits.is_empty() {
        digits.push(b'0');
    }
    digits.reverse();
    digits
}

fn with_point(is_negative: bool, digits: &[u8], scale: i32, out: &mut Vec<u8>) {
    if is_negative {
        out.push(b'-');
    }
    let places = usize::try_from(scale.unsigned_abs()).unwrap_or_default();
    if scale <= 0 {
        out.extend_from_slice(digits);
        if digits != b"0" {
            out.resize(out.len() + places, b'0');
        }
    } else if let Some(before) = digits.len().checked_sub(places).filter(|before| *before > 0) {
        out.extend_from_slice(&digits[..before]);
        out.push(b'.');
        out.extend_from_slice(&digits[before..]);
    } else {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + places - digits.len(), b'0');
        out.extend_from_slice(digits);
    }
}

/// `"\\x0aff"`, as Postgres writes bytes.
pub(crate) fn bytes(value: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.reserve(value.len() * 2 + 5);
    out.extend_from_slice(b"\"\\\\x");
    out.extend(value.iter().flat_map(|byte| [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]));
    out.push(b'"');
}

/// A string, with the escapes that it needs.
pub(crate) fn string(value: &str, out: &mut Vec<u8>) {
    written(&serde_json::to_writer(out, value));
}

/// The shortest decimal that is this float; `NaN` and infinities are strings.
pub(crate) fn float(value: f64, out: &mut Vec<u8>) {
    if value.is_finite() {
        written(&serde_json::to_writer(out, &value));
    } else {
        special(value.is_nan(), value > 0.0, out);
    }
}

/// As [`float`], of 32 bits.
pub(crate) fn float32(value: f32, out: &mut Vec<u8>) {
    if value.is_finite() {
        written(&serde_json::to_writer(out, &value));
    } else {
        special(value.is_nan(), value > 0.0, out);
    }
}

fn special(is_nan: bool, is_positive: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(match (is_nan, is_positive) {
        (true, _) => b"\"NaN\"",
        (false, true) => b"\"Infinity\"",
        (false, false) => b"\"-Infinity\"",
    });
}

/// Neither writing to memory nor text, nor finite numbers, can fail.
fn written(result: &serde_json::Result<()>) {
    debug_assert!(result.is_ok(), "JSON of text or a number");
}

/// An interval.
pub(crate) fn micro_duration(us: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"PT");
    if us < 0 {
        out.push(b'-');
    }
    let us = us.unsigned_abs();
    let mut buffer = [0; DIGITS];
    out.extend_from_slice(digits((us / 1_000_000).into(), &mut buffer));
    fraction(i64::try_from(us % 1_000_000).unwrap_or_default(), out);
    out.extend_from_slice(b"S\"");
}

/// The JSON that a text is, as it is.
pub(crate) fn document(text: &str, out: &mut Vec<u8>) -> Result<(), &'static str> {
    if text == DEBEZIUM {
        string(text, out);
        return Ok(());
    }
    let document: &serde_json::value::RawValue =
        serde_json::from_str(text).map_err(|_| "text that is no JSON where a document is")?;
    out.extend_from_slice(document.get().as_bytes());
    Ok(())
}

/// 0 and 1, the highest bit first. A `length` beyond the bytes is that of `bit varying`, of which only the highest bit that
/// is set is known.
pub(crate) fn bits(value: &[u8], length: Option<u32>, out: &mut Vec<u8>) {
    let is_set = |at: usize| value[at / 8] >> (at % 8) & 1 == 1;
    let all = value.len() * 8;
    let length = length.and_then(|length| usize::try_from(length).ok()).filter(|length| *length <= all);
    let count = length.unwrap_or_else(|| (0..all).rev().find(|at| is_set(*at)).map_or(0, |at| at + 1));
    out.push(b'"');
    out.extend((0..count).rev().map(|at| if is_set(at) { b'1' } else { b'0' }));
    out.push(b'"');
}

#[cfg(test)]
mod tests;
