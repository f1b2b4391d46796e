//! From what the catalogue says of a table to how it is written. Asks nobody.

use std::sync::Arc;

use tokio_postgres::types::Type;

use super::Seen;
use super::check;
use super::equal::{is_checked_here, is_comparable, is_exact, is_long};
use super::facts::{Facts, Index};
use super::found::Found;
use super::key::{self, Key};
use crate::sink::care::{Care, Intent, Order};
use crate::sink::length::Length;
use crate::sink::plan::{self, Column, TablePlan, quoted};
use crate::sink::stage::Stage;
use crate::sink::statements::Statements;
use crate::sink::straight::Straight;
use crate::sink::table::{Mode, Table};
use crate::sink::tail::Tail;
use crate::sink::target::Target;

/// `types`: those of the columns that are written, in their order.
///
/// # Errors
/// In words, if the table cannot take what the sink writes.
pub(super) fn plan(
    table: &Table,
    writer: &str,
    seen: Seen,
    types: Vec<Type>,
) -> Result<(TablePlan, Facts), String> {
    let names = table.written();
    let Seen { relation, columns: found, facts, kin, mark, mark_below } = seen;
    let written: Vec<&Found> =
        names.iter().filter_map(|name| found.iter().find(|found| found.name == *name)).collect();
    let mut columns = columns(table, &written, types, &facts);

    let Key { positions: key, index } = key::find(table, &names, &facts.indexes)?;
    check::identity(table, &names, &key, &found)?;
    let index = index.map(|at| &facts.indexes[at]);
    if let Some(index) = index {
        compare_as(index, &mut columns);
    }
    let index_is_deterministic = index.is_none_or(|index| index.deterministic.iter().all(|one| *one));
    let deterministic = |at: usize| written[at].deterministic && index_is_deterministic;
    let exact: Vec<bool> =
        columns.iter().enumerate().map(|(at, column)| is_exact(column, deterministic(at))).collect();
    let key_is_comparable = key.iter().all(|&at| is_comparable(&columns[at], deterministic(at)));

    let is_set = |at: usize| plan::is_set(&key, &exact, at);
    let rights = check::Rights { names: &names, key: &key, is_set: &is_set, may_lock: relation.may_lock };
    rights.check(table, &found, &facts)?;
    let version = match &table.version {
        Some(column) => Some(check::version(table, column, &columns, &key)?),
        None => None,
    };
    let intent = Intent {
        relation: relation.oid,
        mode: table.mode,
        names: &names,
        key_index: index.map(|index| index.name.as_str()),
        key: &key,
        exact: &exact,
        is_domain: &|at| columns[at].target.ty.oid() != columns[at].type_id.oid,
        key_is_comparable,
        is_input: &|at| columns[at].is_read_by_the_server(),
        is_long: &|at| is_long(&columns[at]),
    };
    let mut care = Care::new(&intent, &facts);
    if let Some(at) = version {
        care.of_version(names[at], exact[at] && columns[at].target.kind.is_signed());
    }

    let reduced_here =
        key_is_comparable && columns.iter().all(|column| is_checked_here(column, relation.is_utf8));
    let has_input = columns.iter().any(Column::is_read_by_the_server);
    let tail = Tail::new(table.mode, reduced_here, care.order == Order::Records, has_input);
    let fields = i16::try_from(columns.len() + tail.columns().count());
    let fields = fields.map_err(|_| "too many columns".to_owned())?;
    if table.mode == Mode::Update && (0..columns.len()).all(|at| key.contains(&at)) {
        return Err("an update needs a column beside its key".to_owned());
    }
    let sql_name = relation.sql_name;
    let mut plan = TablePlan {
        name: table.name.clone(),
        relation: relation.oid,
        mark,
        mark_below,
        kin,
        copy: format!("COPY {sql_name} ({}) FROM STDIN (FORMAT binary)", quoted(names.iter().copied())),
        // The lock that writing takes anyway, a moment earlier.
        lock: format!("LOCK TABLE ONLY {sql_name} IN ROW EXCLUSIVE MODE"),
        sql_name,
        mode: table.mode,
        exact,
        columns,
        given: table.columns.len(),
        sources: table.sources.iter().map(|(source, _)| *source).collect(),
        key,
        version,
        key_is_comparable,
        reduced_here,
        care,
        stage: None,
        straight: None,
        statements: Statements::default(),
        tail,
        fields,
        absent: Arc::clone(&table.absent),
    };
    plan.statements = Statements::new(&plan);
    if table.mode != Mode::Append || has_input {
        let stage = Stage::new(&plan, writer);
        let copy = std::mem::replace(&mut plan.copy, stage.copy.clone());
        plan.stage = Some(stage);
        plan.straight = Straight::new(&plan, copy, table.straight_from);
    }
    Ok((plan, facts))
}

fn columns(table: &Table, written: &[&Found], types: Vec<Type>, facts: &Facts) -> Vec<Column> {
    // Before the table sees a NULL, a trigger may have put something in its place.
    let may_fill = facts.triggers.iter().any(|trigger| trigger.is_before_row());
    let column = |(found, ty): (&&Found, Type)| Column {
        equals: "=".to_owned(),
        at_most: found.at_most.clone(),
        name: found.name.clone(),
        sql_type: found.sql_type.clone(),
        bare_type: found.bare_type.clone(),
        type_id: found.type_id,
        collation: found.collation.clone(),
        length: Length::of(&ty, found.type_id),
        not_null: found.not_null && !may_fill,
        target: Target { delimiter: found.delimiter, ..Target::new(ty, table.conversion(&found.name)) },
    };
    written.iter().zip(types).map(column).collect()
}

/// Rows are found by the index: it says which keys are equal.
fn compare_as(index: &Index, columns: &mut [Column]) {
    for ((name, collation), equals) in index.columns.iter().zip(&index.collations).zip(&index.equals) {
        let Some(column) = columns.iter_mut().find(|column| column.name == *name) else { continue };
        if let Some(collation) = collation {
            column.collation = Some(collation.clone());
        }
        if let Some(equals) = equals {
            column.equals.clone_from(equals);
        }
    }
}
