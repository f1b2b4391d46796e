//! Debezium's change events: which row an event is about, and what has happened to it.
//!
//! <https://debezium.io/documentation/reference/stable/connectors/postgresql.html>, "Data change events".

use std::sync::LazyLock;

use super::extract::{Raw, Tree, of_fields};
use super::path::Step;

/// An event, taken apart.
#[derive(Debug)]
pub(crate) struct Event<'a> {
    pub(crate) change: Change<'a>,
    /// Whether the sink's slots have what it takes of the event, and of the row if that is written.
    pub(crate) is_taken: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change<'a> {
    /// The row as it is now.
    Written(Raw<'a>),
    /// What is known of the row as it was: its key, at least.
    Deleted(Option<Raw<'a>>),
    /// A logical message: about no row.
    Message,
}

/// An event and what a sink takes of it, in one walk.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    tree: Tree,
    /// The slots of [`NAMES`] begin here, behind the sink's own.
    first: usize,
}

/// The parts of an event, and those of an envelope.
const NAMES: [&str; 5] = ["op", "before", "after", "schema", "payload"];

static PARTS: LazyLock<Tree> = LazyLock::new(|| of_fields(["op", "before", "after"]));

impl Parts {
    /// `row`, `event`: what is taken, into the slots before `first`.
    pub(crate) fn new(row: Option<&Tree>, event: &Tree, first: usize) -> Self {
        let mut tree = Tree::default();
        for (name, slot) in NAMES.into_iter().zip(first..) {
            tree.add(&[Step::Field(name.to_owned())], slot, true);
        }
        if let Some(row) = row {
            tree.field("after").join(row);
        }
        tree.join(event);
        Self { tree, first }
    }

    /// How many slots there are, with the sink's own.
    pub(crate) fn slots(&self) -> usize {
        self.first + NAMES.len()
    }

    /// An event without an envelope around it. `None`: there may be one; the slots are as they were.
    pub(crate) fn plain<'a>(
        &self,
        value: &'a [u8],
        slots: &mut [Option<Raw<'a>>],
    ) -> Option<Result<Event<'a>, String>> {
        if value.starts_with(b"{\"schema\":") {
            return None;
        }
        self.tree.skim(value, slots, None)?;
        let [op, before, after, schema, payload] = self.taken(slots)?;
        if schema.or(payload).is_some() {
            self.tree.clear(slots);
            return None;
        }
        Some(Event::of([op, before, after], true))
    }

    /// Of a value without Connect's envelope.
    ///
    /// # Errors
    /// Why it is none, or none that a row can be made of.
    pub(crate) fn read<'a>(
        &self,
        value: &'a [u8],
        slots: &mut [Option<Raw<'a>>],
    ) -> Result<Event<'a>, String> {
        if self.tree.skim(value, slots, None).is_some()
            && let Some([op, before, after, ..]) = self.taken(slots)
        {
            return Event::of([op, before, after], true);
        }
        let mut parts = [None; 3];
        PARTS.fill(value, &mut parts, None).map_err(|misfit| super::map::explain("value", &misfit))?;
        Event::of(parts, false)
    }

    fn taken<'a>(&self, slots: &[Option<Raw<'a>>]) -> Option<[Option<Raw<'a>>; NAMES.len()]> {
        slots.get(self.first..)?.try_into().ok()
    }
}

impl<'a> Event<'a> {
    fn of([op, before, after]: [Option<Raw<'a>>; 3], is_taken: bool) -> Result<Self, String> {
        let row = |row: Option<Raw<'a>>| row.filter(|row| row.get().starts_with('{'));
        let change = match op.map(Raw::get) {
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
        Ok(Self { change, is_taken })
    }
}

#[cfg(test)]
mod tests;
