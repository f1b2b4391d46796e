//! Dead letters that wait, where a group's partitions stand.

use crate::dead_letter::WAITS;
use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use tokio_postgres::Row;

use super::healths::readable;
use super::{Offsets, utc};

/// Dead letters of one partition, or of several, that wait for somebody.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct WaitingLetters {
    /// How many, by state: `open`, `parked`, `queued`. None: none.
    pub states: BTreeMap<String, i64>,
    /// Since when the one that has waited longest is in its state, in UTC.
    pub since: Option<String>,
    /// How long that is.
    pub seconds: Option<f64>,
}

impl WaitingLetters {
    /// How many wait in all.
    #[must_use]
    pub fn count(&self) -> i64 {
        self.states.values().sum()
    }

    /// These, too.
    pub(super) fn add(&mut self, other: &Self) {
        for (state, count) in &other.states {
            *self.states.entry(state.clone()).or_default() += count;
        }
        if other.seconds > self.seconds {
            (self.since, self.seconds) = (other.since.clone(), other.seconds);
        }
    }
}

pub(super) type OfPartitions = HashMap<(String, i32), WaitingLetters>;

impl Offsets {
    /// By topic and partition; `None` where this role may not read it.
    pub(super) async fn waiting_letters(
        &self,
        group: &str,
    ) -> Result<Option<OfPartitions>, tokio_postgres::Error> {
        let sql = format!(
            "SELECT topic, partition, state, count(*), {since}, \
               extract(epoch FROM clock_timestamp() - min(state_changed_at))::float8 \
             FROM {} WHERE group_id = $1 AND {WAITS} GROUP BY 1, 2, 3",
            self.schema().qualified("dead_letter"),
            since = utc("min(state_changed_at)"),
        );
        let found = readable(self.client.query(&sql, &[&group]).await)?;
        Ok(found.map(|rows| {
            let mut partitions = OfPartitions::new();
            for row in &rows {
                partitions.entry((row.get(0), row.get(1))).or_default().add(&of_state(row));
            }
            partitions
        }))
    }
}

fn of_state(row: &Row) -> WaitingLetters {
    WaitingLetters { states: [(row.get(2), row.get(3))].into(), since: row.get(4), seconds: row.get(5) }
}
