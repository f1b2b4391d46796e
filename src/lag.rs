//! How far partitions are behind that no live process holds, and what else Kafka tells of lag.

mod retention;
mod survey;
mod tail;

pub(crate) use retention::Retention;
pub(crate) use survey::{Surveyor, Whose, whose_turn};
pub(crate) use tail::Tail;

use crate::batch::REPRESENTABLE_MS;

/// A time in ms since 1970 as Postgres reads it; past what the tables can hold it is never.
pub(crate) fn instant(ms: f64) -> String {
    #[allow(clippy::cast_possible_truncation)] // a cast saturates
    let whole = ms as i64;
    if ms.is_finite() && REPRESENTABLE_MS.contains(&whole) {
        let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(whole.unsigned_abs());
        crate::config::show_instant(at)
    } else {
        "infinity".to_owned()
    }
}
