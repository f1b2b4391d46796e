//! Undoing rows: what a move back is to take out of the sink with it, so that the replay ends with each record applied
//! once. Possible where rows say which record they are of, and nothing was overwritten.

mod tables;
mod walk;

use std::collections::BTreeSet;

use serde::Serialize;

use super::Offsets;
use super::apply::step_key;
use super::ends::survey;
use super::plan::{Plan, named_by};
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
        for table in self.undoable(plan).await? {
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

    /// The tables that the plan undoes, if nothing stands in its way.
    ///
    /// # Errors
    /// As [`undo`](Self::undo).
    async fn undoable(&self, plan: &Plan) -> Result<Vec<SinkTable>> {
        self.can_be_read_again(plan).await?;
        self.sink_tables(plan).await
    }

    /// Rows are deleted to be written again: what Kafka does not give any more must keep its rows.
    ///
    /// # Errors
    /// If it is not the topic that the group has read, or records after a target are gone, or compaction may have taken some.
    async fn can_be_read_again(&self, plan: &Plan) -> Result<()> {
        let open = || plan.steps.iter().filter(|step| step.outcome.is_none() && step.to < step.from);
        if open().next().is_none() {
            return Ok(());
        }
        let standing = self.standing(&plan.group, &named_by(&plan.positions())).await?;
        let catalog = self.kafka()?;
        let survey = survey(catalog, &standing).await?;
        for step in open() {
            let key = step_key(step);
            let low = survey.available[&key].low.get();
            if step.to < low {
                return Err(Error::new(
                    ErrorKind::Guard,
                    format!(
                        "Kafka has no records of {key} before {low} any more, so that rows from {} on would be deleted for good, and \
                         nothing more was moved: make a new plan",
                        step.to
                    ),
                ));
            }
        }
        let topics: BTreeSet<&str> = open().map(|step| step.topic.as_str()).collect();
        let topics: Vec<&str> = topics.into_iter().collect();
        match catalog.compacted(&topics).await {
            Ok(found) => {
                if let Some(topic) = topics.iter().find(|topic| found.get(**topic) == Some(&true)) {
                    return Err(Error::configuration(format!(
                        "topic {topic} is compacted: some of the records whose rows would be deleted may be gone from Kafka, and \
                         nothing was moved"
                    )));
                }
                for topic in topics.iter().filter(|topic| !found.contains_key(**topic)) {
                    tracing::warn!(
                        topic,
                        "whether it is compacted is not known (DESCRIBE_CONFIGS): then rows would not come back"
                    );
                }
            }
            Err(error) => tracing::warn!(%error, "whether the topics are compacted is not known"),
        }
        Ok(())
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
            "plan {} was stopped: somebody has resumed, held or moved {} while its rows were undone, and it goes on from where it \
             was then, exactly; the other partitions were moved. See `highwater offsets events`, and make a new plan",
            plan.id.unwrap_or_default(),
            taken.join(", ")
        ),
    )
}
