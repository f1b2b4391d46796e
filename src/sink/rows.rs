//! What a mapping pushes its rows into.

use std::fmt;

use bytes::{BufMut, BytesMut};

use super::absent::Absent;
use super::buffer::{self, Buffer, Pool};
use super::plan::{Column, Plan, TablePlan};
use super::row::{Failure, Fields, Row};
use super::table::{Mode, Source};
use super::tail::Deed;
use super::target::Defect;
use crate::{HandlerError, Record};

const KEPT_KEY: Defect = Defect::Invalid("the key of a row must be said, and cannot be kept");
const NO_VERSION: Defect = Defect::Invalid("the version, which tells which row is newer, is not said");
const KEPT_OF_NOTHING: Defect = Defect::Setup(
    "Keep is for a table that is given as Table::upsert or Table::update: the others have no row to keep it of",
);

/// Takes the rows that follow from one record: none, one or many.
pub struct Rows<'a> {
    plan: &'a Plan,
    pool: &'a Pool,
    buffers: &'a mut [Buffer],
    record: Record<'a>,
    index: usize,
}

/// Takes rows for one of several tables; made by [`Rows::of`].
#[derive(Debug)]
pub struct TableRows<'r, 'a> {
    rows: &'r mut Rows<'a>,
    table: Result<usize, HandlerError>,
}

impl<'a> Rows<'a> {
    /// `index`: the record's place in its batch.
    pub(crate) fn new(
        plan: &'a Plan,
        pool: &'a Pool,
        buffers: &'a mut [Buffer],
        record: Record<'a>,
        index: usize,
    ) -> Self {
        Self { plan, pool, buffers, record, index }
    }

    /// Adds a row to the sink's (first) table.
    ///
    /// # Errors
    /// A rejection of the record if a value does not fit its column; [fatal](HandlerError::fatal) if a Rust type does
    /// not go into the column's type, or there are more or fewer values than columns.
    #[inline]
    pub fn push<R: Row>(&mut self, row: R) -> Result<(), HandlerError> {
        self.push_to(0, |fields| row.put(fields))
    }

    /// Changes the row of the key, if it is there; columns that are given as [`Keep`](crate::Keep) stay. If there is no such
    /// row, nothing is changed. For [`Table::upsert`](super::Table::upsert) and [`Table::update`](super::Table::update).
    ///
    /// A mark on what is gone, for instance: `rows.update((id, Keep, Keep, deleted_at))`. A batch with such rows is written row
    /// by row.
    ///
    /// # Errors
    /// As [`push`](Self::push); fatal if the table is none of these.
    pub fn update<R: Row>(&mut self, row: R) -> Result<(), HandlerError> {
        self.update_to(0, |fields| row.put(fields))
    }

    /// Deletes the row of this key, given as a row of the key's columns in their order; for
    /// [`Table::upsert`](super::Table::upsert) and [`Table::update`](super::Table::update). Of several writes and deletions of a key the last one counts. Where the
    /// table has a [`version`](super::Table::version), its value stands behind the key's.
    ///
    /// # Errors
    /// As [`push`](Self::push); fatal if the table is none of these.
    pub fn delete<R: Row>(&mut self, key: R) -> Result<(), HandlerError> {
        self.delete_from(0, |fields| key.put(fields))
    }

    /// The rows of one of several tables, by the name that was given to its [`Table`](super::Table). If there is none,
    /// pushing fails.
    pub fn of<'r>(&'r mut self, table: &str) -> TableRows<'r, 'a> {
        let found = self.plan.tables.iter().position(|plan| plan.name == table);
        let unknown = || HandlerError::fatal(format!("the sink was given no table of the name {table}"));
        TableRows { rows: self, table: found.ok_or_else(unknown) }
    }

    pub(crate) fn record(&self) -> &Record<'a> {
        &self.record
    }

    pub(crate) fn columns(&self, table: usize) -> &'a [Column] {
        &self.plan.tables[table].columns
    }

    pub(crate) fn key(&self, table: usize) -> &'a [usize] {
        &self.plan.tables[table].key
    }

    /// Which values a deletion says.
    pub(crate) fn deletion(&self, table: usize) -> Vec<usize> {
        self.plan.tables[table].deletion().collect()
    }

    /// How many of the columns are the user's; they come first.
    pub(crate) fn given(&self, table: usize) -> usize {
        self.plan.tables[table].given
    }

    pub(crate) fn table_name(&self, table: usize) -> &'a str {
        &self.plan.tables[table].name
    }

    pub(crate) fn absent(&self, table: usize) -> &'a Absent {
        &self.plan.tables[table].absent
    }

    pub(crate) fn is_keyed(&self, table: usize) -> bool {
        self.plan.tables[table].mode.is_keyed()
    }

    #[inline]
    pub(crate) fn push_to(
        &mut self,
        table: usize,
        put: impl FnOnce(&mut Fields<'_>) -> Result<(), Failure>,
    ) -> Result<(), HandlerError> {
        let plan = &self.plan.tables[table];
        self.push_as(table, |kept| deed(plan, kept), put)
    }

    /// As [`update`](Self::update).
    pub(crate) fn update_to(
        &mut self,
        table: usize,
        put: impl FnOnce(&mut Fields<'_>) -> Result<(), Failure>,
    ) -> Result<(), HandlerError> {
        let plan = &self.plan.tables[table];
        if !plan.mode.is_keyed() {
            return Err(HandlerError::fatal(format!(
                "table {}: rows are changed only in a table that is given as Table::upsert or Table::update",
                plan.name
            )));
        }
        self.push_as(table, |_| Ok(Deed::Touch), put)
    }

    /// `deed`: what becomes of the row, by the first column that keeps what the table has.
    #[inline]
    fn push_as(
        &mut self,
        table: usize,
        deed: impl FnOnce(Option<usize>) -> Result<Deed, Failure>,
        put: impl FnOnce(&mut Fields<'_>) -> Result<(), Failure>,
    ) -> Result<(), HandlerError> {
        let plan = &self.plan.tables[table];
        self.row(table, |record, out| {
            let mut fields = Fields::new(&plan.columns[..plan.given], out);
            put(&mut fields)?;
            fields.full()?;
            let deed = deed(fields.kept)?;
            if plan.sources.is_empty() {
                return Ok(deed);
            }
            let mut fields = Fields::new(&plan.columns[plan.given..], out);
            let put = plan.sources.iter().try_for_each(|source| put_source(*source, record, &mut fields));
            put.map(|()| deed).map_err(|failure| failure.behind(plan.given))
        })
    }

    pub(crate) fn delete_from(
        &mut self,
        table: usize,
        put: impl FnOnce(&mut Fields<'_>) -> Result<(), Failure>,
    ) -> Result<(), HandlerError> {
        let plan = &self.plan.tables[table];
        if !plan.mode.is_keyed() {
            return Err(HandlerError::fatal(format!(
                "table {}: rows are deleted only from a table that is given as Table::upsert or Table::update",
                plan.name
            )));
        }
        self.row(table, |_, out| {
            // The key's values come in the key's order, a row's in that of the columns.
            let mut scratch = BytesMut::new();
            scratch.put_i16(0);
            let said: Vec<usize> = plan.deletion().collect();
            let mut fields = Fields::new(&plan.columns, &mut scratch).only(&said);
            put(&mut fields)?;
            fields.full()?;
            if let Some(position) = fields.kept {
                return Err(Failure::Column(position, KEPT_KEY));
            }
            let values: Vec<Option<&[u8]>> = buffer::fields(&scratch).collect();
            for column in 0..plan.columns.len() {
                let place = said.iter().position(|&said| said == column);
                put_raw(place.and_then(|place| values[place]), out);
            }
            Ok(Deed::Delete)
        })
    }

    /// A row, whatever is in it. Nothing of it stays if it fails.
    #[inline]
    fn row(
        &mut self,
        table: usize,
        put: impl FnOnce(&Record<'_>, &mut BytesMut) -> Result<Deed, Failure>,
    ) -> Result<(), HandlerError> {
        let plan = &self.plan.tables[table];
        let buffer = &mut self.buffers[table];
        let start = buffer.begin(self.pool);
        let out = &mut buffer.current;
        out.put_i16(plan.fields);
        let mut done = put(&self.record, out).and_then(|deed| {
            if plan.mode.is_keyed() {
                check_keyed(plan, &out[start..])?;
            }
            plan.tail.put(deed, buffer.rows.len(), out);
            buffer.deletes |= deed == Deed::Delete;
            buffer.keeps |= matches!(deed, Deed::Merge | Deed::Touch);
            Ok(())
        });
        if done.is_ok() && buffer.end(start, self.index).is_none() {
            done = Err(Failure::TooLarge);
        }
        done.map_err(|failure| {
            buffer.current.truncate(start);
            explain(plan, &self.record, &failure)
        })
    }
}

impl TableRows<'_, '_> {
    fn table(&mut self) -> Result<usize, HandlerError> {
        std::mem::replace(&mut self.table, Err(HandlerError::fatal("the sink was given no such table")))
    }

    /// As [`Rows::push`], for this table.
    ///
    /// # Errors
    /// As [`Rows::push`]; fatal if the sink was given no table of that name.
    pub fn push<R: Row>(&mut self, row: R) -> Result<(), HandlerError> {
        let table = self.table()?;
        self.table = Ok(table);
        self.rows.push_to(table, |fields| row.put(fields))
    }

    /// As [`Rows::update`], for this table.
    ///
    /// # Errors
    /// As [`Rows::update`]; fatal if the sink was given no table of that name.
    pub fn update<R: Row>(&mut self, row: R) -> Result<(), HandlerError> {
        let table = self.table()?;
        self.table = Ok(table);
        self.rows.update_to(table, |fields| row.put(fields))
    }

    /// As [`Rows::delete`], for this table.
    ///
    /// # Errors
    /// As [`Rows::delete`]; fatal if the sink was given no table of that name.
    pub fn delete<R: Row>(&mut self, key: R) -> Result<(), HandlerError> {
        let table = self.table()?;
        self.table = Ok(table);
        self.rows.delete_from(table, |fields| key.put(fields))
    }
}

impl fmt::Debug for Rows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("record", &self.record).finish_non_exhaustive()
    }
}

fn put_raw(field: Option<&[u8]>, out: &mut BytesMut) {
    match field.and_then(|field| Some((i32::try_from(field.len()).ok()?, field))) {
        Some((length, field)) => {
            out.put_i32(length);
            out.put_slice(field);
        }
        None => out.put_i32(-1),
    }
}

fn put_source(source: Source, record: &Record<'_>, fields: &mut Fields<'_>) -> Result<(), Failure> {
    match source {
        Source::Topic => fields.put(record.topic()),
        Source::Partition => fields.put(&record.partition()),
        Source::Offset => fields.put(&record.offset()),
        Source::Timestamp => fields.put(&record.timestamp_ms()),
    }
}

/// What becomes of a row of which the column at a position is the first to keep what the table has.
fn deed(plan: &TablePlan, kept: Option<usize>) -> Result<Deed, Failure> {
    match kept {
        None => Ok(Deed::Write),
        Some(position) if !plan.mode.is_keyed() => Err(Failure::Column(position, KEPT_OF_NOTHING)),
        Some(_) if plan.mode == Mode::Update => Ok(Deed::Touch),
        Some(_) => Ok(Deed::Merge),
    }
}

/// That a row says its key and its version.
fn check_keyed(plan: &TablePlan, row: &[u8]) -> Result<(), Failure> {
    // A key with NULL equals no other: it could neither be found again nor be deleted.
    let null = buffer::fields(row)
        .take(plan.columns.len())
        .enumerate()
        .find(|(position, field)| field.is_none() && plan.key.contains(position));
    if let Some((position, _)) = null {
        let kept = buffer::kept(row).nth(position) == Some(true);
        return Err(Failure::Column(position, if kept { KEPT_KEY } else { Defect::NullKey }));
    }
    if let Some(at) = plan.version.filter(|&at| buffer::fields(row).nth(at).flatten().is_none()) {
        return Err(Failure::Column(at, NO_VERSION));
    }
    Ok(())
}

/// The error for a row that was not taken: never with the value.
#[cold]
fn explain(plan: &TablePlan, record: &Record<'_>, failure: &Failure) -> HandlerError {
    let table = &plan.name;
    let (position, defect) = match failure {
        Failure::Arity => {
            return HandlerError::fatal(format!(
                "table {table}: a row needs one value for each of its {} columns (a key, one for each of the key's)",
                plan.given
            ));
        }
        Failure::TooLarge => {
            return HandlerError::reject(record, format!("table {table}: the row is too large"));
        }
        Failure::Column(position, defect) => (*position, *defect),
    };
    let Some(column) = plan.columns.get(position) else {
        return HandlerError::fatal(format!("table {table}: a value without a column"));
    };
    let (name, sql_type) = (&column.name, &column.sql_type);
    let what = match defect {
        Defect::Mismatch(rust) => {
            return HandlerError::fatal(format!(
                "table {table}, column {name}: the SQL type is {sql_type}, into which a Rust value of type {rust} does \
                 not go"
            ));
        }
        Defect::Binary(rust) => {
            return HandlerError::fatal(format!(
                "table {table}, column {name}: values of type {sql_type} are written as text; for a Sql value of type \
                 {rust} name the column in Table::binary"
            ));
        }
        Defect::Setup(why) => {
            return HandlerError::fatal(format!("table {table}, column {name} ({sql_type}): {why}"));
        }
        Defect::Invalid(why) => why.to_owned(),
        Defect::Json(what) => format!("JSON has {what} here"),
        Defect::Nul => "U+0000, which Postgres cannot hold there".to_owned(),
        Defect::NotNull if plan.mode.is_keyed() && plan.key.contains(&position) => {
            "the key is NULL".to_owned()
        }
        Defect::NullKey => "the key is NULL".to_owned(),
        Defect::NotNull => "NULL, and the column is NOT NULL".to_owned(),
    };
    HandlerError::reject(record, format!("table {table}, column {name} ({sql_type}): {what}"))
}
