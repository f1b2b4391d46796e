//! Debezium's change events: which row an event is about, and what has happened to it.
//!
//! <https://debezium.io/documentation/reference/stable/connectors/postgresql.html>, "Data change events".

use std::sync::LazyLock;

use serde_json::value::RawValue;

use super::extract::{Misfit, Tree};
use super::file::Unit;
use super::path::Path;

/// What stands in a row, or in an array or a map of it, for a large value that has not changed, and so is not in the event
/// (Debezium's `unavailable.value.placeholder`): as text, in base64, in hexadecimal, and as the numbers of its bytes.
const UNAVAILABLE: [&str; 5] = [
    "__debezium_unavailable_value",
    "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ",
    "5f5f646562657a69756d5f756e617661696c61626c655f76616c7565",
    "95,95,100,101,98,101,122,105,117,109,95",
    "95, 95, 100, 101, 98, 101, 122, 105, 117, 109, 95",
];
/// Nothing shorter is one.
const SHORTEST: usize = UNAVAILABLE[0].len();

/// An event, taken apart.
#[derive(Debug)]
pub(crate) struct Event<'a> {
    pub(crate) change: Change<'a>,
    /// All of it, without Connect's schema.
    pub(crate) whole: &'a RawValue,
}

#[derive(Debug)]
pub(crate) enum Change<'a> {
    /// The row as it is now.
    Written(&'a RawValue),
    /// What is known of the row as it was: its key, at least.
    Deleted(Option<&'a RawValue>),
    /// A logical message: about no row.
    Message,
}

/// `op`, `before`, `after`.
static PARTS: LazyLock<Tree> = LazyLock::new(|| tree(["value.op", "value.before", "value.after"]));
/// With `schemas.enable`.
static PAYLOAD: LazyLock<Tree> = LazyLock::new(|| tree(["value", "value.payload"]));

fn tree<const N: usize>(paths: [&str; N]) -> Tree {
    let mut tree = Tree::default();
    for (slot, path) in paths.into_iter().enumerate() {
        let path: Path = path.parse().expect("a path");
        tree.add(&path.steps, slot, true);
    }
    tree
}

impl<'a> Event<'a> {
    /// # Errors
    /// Why it is none, or none that a row can be made of.
    pub(crate) fn read(value: &'a [u8]) -> Result<Self, String> {
        let explain = |misfit: Misfit| super::map::explain("value", &misfit);
        let mut outer = [None; 2];
        PAYLOAD.fill(value, &mut outer, None).map_err(explain)?;
        let whole = outer[1].filter(|payload| payload.get().starts_with('{')).or(outer[0]);
        let whole = whole.ok_or("value: no Debezium event")?;
        let mut parts = [None; 3];
        PARTS.fill(whole.get().as_bytes(), &mut parts, None).map_err(explain)?;
        let [op, before, after] = parts;
        let row = |row: Option<&'a RawValue>| row.filter(|row| row.get().starts_with('{'));
        let change = match op.map(RawValue::get) {
            Some("\"c\"" | "\"r\"" | "\"u\"") => Change::Written(
                row(after).ok_or("value: a Debezium event that writes a row, without `after`")?,
            ),
            Some("\"d\"") => Change::Deleted(row(before)),
            Some("\"m\"") => Change::Message,
            Some("\"t\"") => {
                return Err("value: the source table was truncated, and the sink does not do that: it is an operator's task".to_owned());
            }
            Some(_) => {
                return Err(
                    "value: a Debezium event with an `op` that is none of c, r, u, d, t, m".to_owned()
                );
            }
            None => {
                return Err("value: no Debezium event: it has no `op` (a schema change, a heartbeat, or a record that was unwrapped?)".to_owned());
            }
        };
        Ok(Self { change, whole })
    }
}

/// A key without Connect's schema.
///
/// # Errors
/// If it is no JSON.
pub(crate) fn unwrapped(key: &[u8]) -> Result<&[u8], String> {
    let mut outer = [None; 2];
    PAYLOAD.fill(key, &mut outer, None).map_err(|misfit| super::map::explain("key", &misfit))?;
    let inner = outer[1].filter(|payload| payload.get().starts_with('{'));
    Ok(inner.map_or(key, |payload| payload.get().as_bytes()))
}

/// Whether a value is not in the event.
pub(crate) fn is_unavailable(raw: &RawValue) -> bool {
    let text = raw.get().as_bytes();
    text.len() > SHORTEST
        && UNAVAILABLE.iter().any(|placeholder| memchr::memmem::find(text, placeholder.as_bytes()).is_some())
}

/// `infinity` and `-infinity` of a `timestamp`, for which Debezium's connector for PostgreSQL writes numbers: dates in the
/// year 294247, and out of range.
pub(crate) fn infinity(raw: &RawValue, unit: Unit) -> Option<&'static str> {
    match (unit, raw.get()) {
        (Unit::Microseconds, "9223372036825200000") | (Unit::Milliseconds, "9223372036825200") => {
            Some("infinity")
        }
        (Unit::Microseconds, "-9223372036832400000") | (Unit::Milliseconds, "-9223372036832400") => {
            Some("-infinity")
        }
        _ => None,
    }
}
