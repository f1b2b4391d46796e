//! Reads from the catalogue what the tables look like, and checks that the sink fits them.

mod build;
mod check;
mod equal;
pub(crate) mod facts;
mod found;
mod key;
pub(crate) mod lookers;
pub(crate) mod mark;
pub(crate) mod numbers;
mod published;
pub(crate) mod relatives;

use std::future::Future;
use std::pin::Pin;

use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::parents;
use super::plan::{Plan, TablePlan, TypeId, quoted};
use super::table::Table;
use super::together;
use crate::{HandlerError, Tx};
use facts::Facts;
use found::{COLUMNS, Found, Relation};
use mark::Kin;

/// Reads all tables of a sink: a few round trips, at first use and after a change.
///
/// # Errors
/// [Fatal](HandlerError::fatal) if a table cannot take what the sink writes.
pub(crate) async fn read(tables: &[Table], sink: u64, tx: &Tx) -> Result<Plan, HandlerError> {
    let mut plans = Vec::with_capacity(tables.len());
    let mut facts = Vec::with_capacity(tables.len());
    for (place, table) in tables.iter().enumerate() {
        let (plan, known) = read_table(table, &format!("{sink}-{place}"), tx).await?;
        plans.push(plan);
        facts.push(known);
    }
    let parents = parents::find(&mut plans, &facts);
    let together = together::find(&plans, &facts);
    for pair in &together {
        tracing::info!(why = pair.why, "rows of these tables in one batch are written row by row");
    }
    for plan in &plans {
        let names: Vec<&str> = plan.columns.iter().map(|column| column.name.as_str()).collect();
        if let Some(way) = plan.care.describe(&names) {
            tracing::info!(table = plan.sql_name, way, "the rows of this table are written with care");
        }
    }
    Ok(Plan { tables: plans, parents, together })
}

/// What the answer to [`Kin::question`] says.
pub(crate) struct Now<'a> {
    pub(crate) types: Vec<(&'a str, TypeId)>,
    pub(crate) hides_rows: bool,
    pub(crate) relation: Option<u32>,
    pub(crate) mark: Option<i64>,
    /// Of what is below it, if that was asked.
    pub(crate) mark_below: Option<i64>,
}

/// Reads the answer to [`Kin::question`].
pub(crate) fn now(rows: &[Row]) -> Now<'_> {
    let type_id = |row: &Row| TypeId { oid: row.get(1), modifier: row.get(2), collation: row.get(3) };
    Now {
        types: rows.iter().map(|row| (row.get(0), type_id(row))).collect(),
        hides_rows: rows.iter().any(|row| row.get(4)),
        relation: rows.first().map(|row| row.get(5)),
        mark: rows.first().and_then(|row| row.get(6)),
        mark_below: rows.first().and_then(|row| row.get(7)),
    }
}

/// All that the catalogue says of a table.
struct Seen {
    relation: Relation,
    columns: Vec<Found>,
    facts: Facts,
    kin: Kin,
    mark: Option<i64>,
    mark_below: Option<i64>,
}

type Answers = Result<Option<Seen>, HandlerError>;

/// `writer`: what of all that writes to the table, in this process.
async fn read_table(table: &Table, writer: &str, tx: &Tx) -> Result<(TablePlan, Facts), HandlerError> {
    let misfit = |what: String| HandlerError::fatal(format!("table {}: {what}", table.name));
    let Some(seen) = see(table, tx).await? else {
        return Err(misfit("there is no such table, or this role may not use its schema".to_owned()));
    };
    let names = table.written();
    check::kind(&seen.relation.kind, seen.relation.hides_rows, &seen.facts).map_err(misfit)?;
    check::columns(table, &names, &seen.columns).map_err(misfit)?;
    check::facts(table, &seen.facts).map_err(misfit)?;
    let types = types(&seen.relation.sql_name, &names, tx).await?;
    build::plan(table, writer, seen, types).map_err(misfit)
}

/// Asks all questions; `None` if there is no such table. Boxed: so many questions at once make a large future, which would
/// be part of every sink's.
fn see<'a>(table: &'a Table, tx: &'a Tx) -> Pin<Box<dyn Future<Output = Answers> + Send + 'a>> {
    Box::pin(ask(table, tx))
}

async fn ask(table: &Table, tx: &Tx) -> Answers {
    let name: [&(dyn ToSql + Sync); 1] = [&table.name];
    let kin = Kin::read(&table.name, tx).await?;
    let question = kin.all_parameters(&table.name);
    let question = question.as_sql();
    // The marks first: what changes after them is noticed.
    let (marked, rows, mut facts, nameless, numbers, kin_now) = tokio::try_join!(
        tx.query(kin.question(), &question),
        tx.query(COLUMNS, &name),
        facts::read(&table.name, tx),
        published::nameless(&kin, tx),
        numbers::read(&table.name, &kin, tx),
        Kin::read(&table.name, tx),
    )?;
    if kin != kin_now {
        return Err(HandlerError::table_changed(&table.name));
    }
    (facts.nameless, facts.numbers) = (nameless, numbers);
    facts.kin = kin.all().collect();
    let Now { mark, mark_below, .. } = now(&marked);
    let Some(relation) = rows.first().map(Relation::of) else { return Ok(None) };
    let columns = rows.iter().map(Found::of).collect();
    Ok(Some(Seen { relation, columns, facts, kin, mark, mark_below }))
}

/// The columns' types: the driver finds out about those of the user's own (enums, domains, arrays of them). Not from the
/// cache of statements, which may be older than the columns.
async fn types(sql_name: &str, names: &[&str], tx: &Tx) -> Result<Vec<Type>, HandlerError> {
    let statement = format!("SELECT {} FROM {sql_name}", quoted(names.iter().copied()));
    let statement = tx.raw().prepare(&statement).await?;
    Ok(statement.columns().iter().map(|column| column.type_().clone()).collect())
}
