//! Debezium's change events: which row an event is about, and what has happened to it.
//!
//! <https://debezium.io/documentation/reference/stable/connectors/postgresql.html>, "Data change events".

use std::sync::LazyLock;

use serde_json::value::RawValue;

use super::extract::{Misfit, Tree, of_fields};

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

static PARTS: LazyLock<Tree> = LazyLock::new(|| of_fields(["op", "before", "after"]));

impl<'a> Event<'a> {
    /// Of a value without Connect's envelope.
    ///
    /// # Errors
    /// Why it is none, or none that a row can be made of.
    pub(crate) fn read(value: &'a [u8]) -> Result<Self, String> {
        let explain = |misfit: Misfit| super::map::explain("value", &misfit);
        let mut parts = [None; 3];
        PARTS.fill(value, &mut parts, None).map_err(explain)?;
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
        Ok(Self { change })
    }
}

/// As [`is_placeholder`], of bytes.
pub(crate) fn is_placeholder_bytes(bytes: &[u8]) -> bool {
    bytes == UNAVAILABLE[0].as_bytes()
}

/// Whether a text stands for a value that is not in the event.
pub(crate) fn is_placeholder(text: &str) -> bool {
    text == UNAVAILABLE[0]
}

/// Whether a value is not in the event.
pub(crate) fn is_unavailable(raw: &RawValue) -> bool {
    let text = raw.get().as_bytes();
    text.len() > SHORTEST
        && UNAVAILABLE.iter().any(|placeholder| memchr::memmem::find(text, placeholder.as_bytes()).is_some())
}
