//! Undoing rows: what a move back is to take out of the sink with it, so that the replay ends with each record applied
//! once. Possible where rows say which record they are of, and nothing was overwritten.

mod tables;
mod walk;

use serde::Serialize;

use super::Offsets;
use super::plan::Plan;
use crate::error::{Error, ErrorKind, Result};

use tables::SinkTable;

/// What a plan would undo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Undo {
    /// One per table.
    pub tables: Vec<UndoTable>,
}

/// What a plan would undo in a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct UndoTable {
    /// Its name, qualified and quoted where it must be.
    pub table: String,
    /// As it was registered: `append` or `insert_ignore`.
    pub mode: String,
    /// How many rows lie at or past the targets; none: to count them would have taken too long.
    pub rows: Option<i64>,
    /// The index by which they are found.
    pub index: Option<String>,
    /// What makes one, where there is none: without it every portion reads the whole table.
    pub create_index: Option<String>,
}

/// How far an undo is in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Undoing {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Where it stood when the plan took it.
    pub from: i64,
    /// Where it stands now: exact, whatever happens next.
    pub reached: i64,
    /// Where it goes.
    pub to: i64,
    /// How many rows were undone in it so far.
    pub rows: i64,
}

impl Offsets {
    /// What a plan would undo, counted in the database.
    ///
    /// # Errors
    ///
    /// [`Configuration`](ErrorKind::Configuration) if a table of the group cannot be undone: an upsert has overwritten what
    /// was there before, or its rows do not say which record they are of; or if no table is registered.
    /// [`Privilege`](ErrorKind::Privilege) if this role may not delete there.
    pub async fn undo(&mut self, plan: &Plan) -> Result<Undo> {
        self.reconnect().await?;
        let mut tables = Vec::new();
        for table in self.sink_tables(plan).await? {
            let rows = self.count(&table, plan).await?;
            let index = self.index_of(&table).await?;
            let create_index = index.is_none().then(|| table.create_index());
            tables.push(UndoTable {
                table: table.name(),
                mode: table.mode.clone(),
                rows,
                index,
                create_index,
            });
        }
        Ok(Undo { tables })
    }

    async fn count(&self, table: &SinkTable, plan: &Plan) -> Result<Option<i64>> {
        let mut rows = 0_i64;
        for step in plan.steps.iter().filter(|step| table.holds(&step.topic)) {
            let counted = self.client.query_one(&table.count_from(step), &[]).await;
            match counted {
                Ok(row) => rows += row.get::<_, i64>(0),
                Err(error) if error.code() == Some(&tokio_postgres::error::SqlState::QUERY_CANCELED) => {
                    return Ok(None);
                }
                Err(source) => {
                    return Err(Error::postgres(format!("count the rows of {}", table.name()), source));
                }
            }
        }
        Ok(Some(rows))
    }
}

/// Somebody took partitions from the plan.
pub(super) fn stopped(plan: &Plan) -> Error {
    let taken: Vec<String> = plan
        .steps
        .iter()
        .filter(|step| step.outcome.as_deref() == Some("taken"))
        .map(|step| format!("{}:{}", step.topic, step.partition))
        .collect();
    Error::new(
        ErrorKind::Difference,
        format!(
            "plan {} was stopped: somebody has resumed or moved {} while its rows were undone, and it goes on from where it \
             was then, exactly; the other partitions were moved. See `highwater offsets events`, and make a new plan",
            plan.id.unwrap_or_default(),
            taken.join(", ")
        ),
    )
}
