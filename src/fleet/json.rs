//! How numbers leave: offsets and counts as text, for JavaScript rounds beyond 2^53; seconds as numbers, but for never.

use serde::{Serialize as _, Serializer};

/// An offset or a count.
#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
pub(super) fn text<S: Serializer>(value: &i64, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

/// One that may be unknown.
#[allow(clippy::ref_option, clippy::trivially_copy_pass_by_ref)]
pub(super) fn maybe_text<S: Serializer>(value: &Option<i64>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => to.collect_str(value),
        None => to.serialize_none(),
    }
}

/// To the millisecond; infinity, which JSON lacks, is `"never"`.
#[allow(clippy::ref_option, clippy::trivially_copy_pass_by_ref)]
pub(super) fn seconds<S: Serializer>(value: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) if value.is_finite() => ((value * 1_000.0).round() / 1_000.0).serialize(to),
        Some(_) => to.serialize_str("never"),
        None => to.serialize_none(),
    }
}
