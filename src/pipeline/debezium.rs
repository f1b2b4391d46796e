//! Debezium's change events: which row an event is about, and what has happened to it.
//!
//! <https://debezium.io/documentation/reference/stable/connectors/postgresql.html>, "Data change events".

use std::sync::LazyLock;

use serde_json::value::RawValue;

use super::extract::{Misfit, Tree, of_fields};

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
