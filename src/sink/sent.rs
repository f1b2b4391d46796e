//! What a driver's encoder has made, as far as the server would refuse it for its value: the sink leaves out values that are
//! overwritten only because it has seen that they are good.

use super::target::{Defect, Kind};
use super::time::{OUT_OF_RANGE, RANGE_DAYS, RANGE_US};

/// # Errors
/// What is wrong with it.
pub(super) fn check(kind: Kind, bytes: &[u8]) -> Result<(), Defect> {
    let number = || <[u8; 8]>::try_from(bytes).map(i64::from_be_bytes);
    // Both ends are dates, and times, too.
    let is_infinite = |number: i64, min: i64, max: i64| number == min || number == max;
    let is_good = match kind {
        Kind::Text if bytes.contains(&0) => return Err(Defect::Nul),
        Kind::Text if std::str::from_utf8(bytes).is_err() => return Err(Defect::Invalid("not UTF-8")),
        Kind::Timestamp | Kind::Timestamptz => {
            number().map_or(true, |us| RANGE_US.contains(&us) || is_infinite(us, i64::MIN, i64::MAX))
        }
        Kind::Date => <[u8; 4]>::try_from(bytes).map(i32::from_be_bytes).map_or(true, |days| {
            let days = i64::from(days);
            RANGE_DAYS.contains(&days) || is_infinite(days, i32::MIN.into(), i32::MAX.into())
        }),
        Kind::Time => number().map_or(true, |us| (0..=super::time::DAY_US).contains(&us)),
        _ => true,
    };
    if is_good { Ok(()) } else { Err(OUT_OF_RANGE) }
}
