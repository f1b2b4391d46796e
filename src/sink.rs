//! The ready-made handler: rows by binary `COPY`.

mod absent;
mod array;
mod buffer;
mod bytea;
mod care;
mod catalog;
#[cfg(test)]
mod conversions;
mod doubt;
mod each;
mod encode;
mod finite;
mod interval;
mod json;
mod length;
mod number;
mod numeric;
mod object;
mod parents;
mod plan;
mod row;
mod rows;
mod send;
mod sort;
mod stage;
mod statements;
mod straight;
mod table;
mod tail;
mod target;
mod text;
mod time;
mod together;
#[cfg(feature = "cli")]
mod trial;
mod value;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

#[cfg(feature = "cli")]
pub(crate) use json::{put as put_json, unquoted};
#[cfg(feature = "cli")]
pub(crate) use plan::{quote, quoted};
#[cfg(feature = "cli")]
pub(crate) use row::Failure;
pub use row::Row;
pub use rows::{Rows, TableRows};
pub(crate) use table::{Mode, Source};
pub use table::{Table, Tables};
pub use target::{Bytea, Nul};
#[cfg(feature = "cli")]
pub(crate) use target::{Defect, Kind, Put, Target, Written};
#[cfg(feature = "cli")]
pub(crate) use time::{put_date, put_timestamp};
#[cfg(feature = "cli")]
pub(crate) use trial::Made;
pub use value::{Json, Keep, Sql, ToColumn};

use crate::verdict::Class;
use crate::{Batch, Handler, HandlerError, Record, Tx};
use buffer::Pool;
use doubt::Doubts;
use encode::{Encoded, Mapping, encode};
use plan::{Plan, TablePlan};
use send::Form;
use stage::{Sessions, Stage};
use straight::Straight;

#[doc = include_str!("../docs/table-sink.md")]
pub struct TableSink {
    /// Tells its stages from those of another sink that writes to the same table in the same session.
    number: u64,
    tables: Vec<Table>,
    mapping: Box<Mapping>,
    /// As the catalogue was when it was last read; `None` before the first batch, and after a change.
    plan: Mutex<Option<Arc<Plan>>>,
    pool: Pool,
    sessions: Sessions,
    doubts: Doubts,
}

/// A batch's rows, encoded by a plan: ahead, or when the batch's turn has come.
struct EncodedBatch {
    plan: Arc<Plan>,
    encoded: Vec<Encoded>,
    /// Somebody could tell the batch from its records one by one: each row is written by a statement of its own.
    row_by_row: bool,
    /// Of records that become dead letters, if their columns are still what they were.
    rejected: Vec<HandlerError>,
}

impl EncodedBatch {
    /// Whether writing the rows shows that all tables are what they were when they were encoded.
    fn will_be_compared(&self) -> bool {
        self.encoded.iter().all(|table| !table.rows.is_empty())
    }
}

impl TableSink {
    /// A sink that writes to one [`Table`], or to several (an array of them), the rows that `mapping` makes of each
    /// record.
    ///
    /// The mapping is called for every record once or more often (a batch that is rolled back is applied again, and
    /// batches are encoded ahead), from several threads; it should depend on nothing but the record.
    pub fn new<T, F>(tables: T, mapping: F) -> Self
    where
        T: Tables,
        F: Fn(&Record<'_>, &mut Rows<'_>) -> Result<(), HandlerError> + Send + Sync + 'static,
    {
        static SINKS: AtomicU64 = AtomicU64::new(0);
        Self {
            number: SINKS.fetch_add(1, Ordering::Relaxed),
            tables: tables.into_tables(),
            mapping: Box::new(mapping),
            plan: Mutex::default(),
            pool: Pool::default(),
            sessions: Sessions::default(),
            doubts: Doubts::default(),
        }
    }

    /// A sink for records whose values are JSON objects: each column takes the field of its name; see
    /// [`Rows::push_json`].
    ///
    /// A tombstone deletes from a [`Table::upsert`] the row of the record's key. A key that begins with `{` is a JSON
    /// object with the key's columns; if that is one column, a key that begins with `"` is a JSON string, and any other is
    /// the value's text as it is. To the other modes a tombstone is a bad record.
    ///
    /// ```
    /// use highwater::{Table, TableSink};
    ///
    /// let sink = TableSink::json(Table::append("payments", ["merchant_id", "tx_id", "amount"]));
    /// ```
    pub fn json(table: Table) -> Self {
        Self::new(table, |_, rows| rows.push_record())
    }

    fn known(&self) -> Option<Arc<Plan>> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn read(&self, tx: &Tx) -> Result<Arc<Plan>, HandlerError> {
        let plan = Arc::new(catalog::read(&self.tables, self.number, tx).await?);
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&plan));
        Ok(plan)
    }

    /// What is not the plan any more is not forgotten: another lane may have read it anew.
    fn forget(&self, plan: &Arc<Plan>) {
        let mut known = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref().is_some_and(|known| Arc::ptr_eq(known, plan)) {
            *known = None;
        }
    }

    fn encode(&self, plan: &Arc<Plan>, batch: &Batch) -> Result<EncodedBatch, HandlerError> {
        if plan.tables.is_empty() {
            return Err(HandlerError::fatal("a table sink was given no table"));
        }
        let (encoded, rejected) = encode(plan, &self.pool, &*self.mapping, batch)?;
        let row_by_row = encoded.iter().any(|rows| rows.row_by_row && !rows.rows.is_empty())
            || together::meet(plan, &encoded)
            || parents::come_late(plan, &encoded);
        Ok(EncodedBatch { plan: Arc::clone(plan), encoded, row_by_row, rejected })
    }

    /// The batch's rows, and whether the catalogue was read for them just now.
    async fn rows(&self, batch: &Batch, tx: &Tx) -> Result<(EncodedBatch, bool), HandlerError> {
        if let Some(plan) = self.known() {
            let prepared = batch.take_kept::<EncodedBatch>().filter(|kept| Arc::ptr_eq(&kept.plan, &plan));
            match prepared.map_or_else(|| self.encode(&plan, batch), Ok) {
                Ok(prepared) if prepared.rejected.is_empty() || prepared.will_be_compared() => {
                    return Ok((prepared, false));
                }
                Ok(_) => tracing::debug!("reading the catalogue again before records are rejected"),
                // Before a record is rejected: would it fit the columns as they are now?
                Err(error) => {
                    tracing::debug!(%error, "reading the catalogue again before a record is rejected")
                }
            }
        }
        let plan = self.read(tx).await?;
        Ok((self.encode(&plan, batch)?, true))
    }

    async fn write(&self, rows: &EncodedBatch, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        if rows.row_by_row || self.doubts.concern(batch) {
            return each::write(&rows.plan, &rows.encoded, batch, tx).await;
        }
        let used: Vec<(&TablePlan, &Encoded)> =
            rows.plan.tables.iter().zip(&rows.encoded).filter(|(_, rows)| !rows.rows.is_empty()).collect();
        let straight: Vec<Option<&Straight>> = used
            .iter()
            .map(|(plan, rows)| plan.straight.as_ref().filter(|straight| straight.may_do(rows)))
            .collect();
        for ((plan, rows), straight) in used.iter().zip(&straight) {
            if let (Some(stage), None) = (&plan.stage, straight) {
                self.stage(stage, plan, rows, batch, tx).await?;
            }
        }
        // What refers to a row goes before the row.
        for (plan, rows) in used.iter().rev() {
            if let Some(stage) = plan.stage.as_ref().filter(|_| rows.deletes) {
                stage.delete(tx).await?;
            }
        }
        for ((plan, rows), straight) in used.iter().zip(straight) {
            let Some(stage) = &plan.stage else {
                send::copy(plan, rows, Form::Planned, &self.pool, batch, tx).await?;
                continue;
            };
            if let Some(straight) = straight {
                if straight::copy(plan, straight, rows, &self.pool, batch, tx).await? {
                    continue;
                }
                self.stage(stage, plan, rows, batch, tx).await?;
            }
            stage.insert(tx).await?;
        }
        Ok(())
    }

    async fn stage(
        &self,
        stage: &Stage,
        plan: &TablePlan,
        rows: &Encoded,
        batch: &Batch,
        tx: &mut Tx,
    ) -> Result<(), HandlerError> {
        self.sessions.ensure(stage, tx).await?;
        send::copy(plan, rows, Form::Planned, &self.pool, batch, tx).await
    }
}

impl Handler for TableSink {
    /// # Cancel safety
    /// A dropped future leaves the transaction unusable: the batch is rolled back.
    async fn handle(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        // After a part that was dropped half-way nothing may clear the mark of it.
        tx.usable()?;
        let (rows, fresh) = self.rows(batch, tx).await?;
        tx.begin_part();
        match self.write(&rows, batch, tx).await {
            Ok(()) => {
                tx.end_part();
                send::give_back(rows.encoded, &self.pool);
                rows.rejected.into_iter().try_for_each(|error| tx.set_aside(error))
            }
            Err(error) => {
                if error.sqlstate().is_some() {
                    if error.record().is_none() && matches!(error.cause().class, Class::Reject | Class::Bug) {
                        self.doubts.note(batch);
                    }
                    // The server refuses what follows; no need to refuse it here, and a savepoint may undo it.
                    tx.end_part();
                }
                if !error.is_of_the_schema() {
                    return Err(error);
                }
                self.forget(&rows.plan);
                // The catalogue may say by now what is wrong, better than this error.
                Err(if fresh { error } else { error.worth_another_try() })
            }
        }
    }

    fn prepare(&self, batch: &Batch) {
        if let Some(plan) = self.known()
            && let Ok(prepared) = self.encode(&plan, batch)
        {
            batch.keep(prepared);
        }
    }

    fn writes(&self) -> Vec<Table> {
        self.tables.clone()
    }
}

impl fmt::Debug for TableSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableSink").field("tables", &self.tables).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
