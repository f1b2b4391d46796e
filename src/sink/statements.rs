//! The texts for rows that are written one by one.

use tokio_postgres::types::{Kind, Type};

use super::length::Length;
use super::plan::{Column, TablePlan, quote};
use super::stage::{Texts, collate, identities, keys, newer, value};
use super::table::Mode;

/// One row each. The parameters have the columns' types; a text names these, too, so that a statement that was prepared for
/// other types is another one.
#[derive(Debug, Default)]
pub(crate) struct Statements {
    /// A row with all its values.
    pub(crate) write: String,
    /// Changes the row of a key, but for what is kept: for each column that is no key, a parameter behind those of all
    /// columns says whether it is.
    pub(crate) merge: String,
    pub(crate) delete: String,
}

impl Statements {
    pub(crate) fn new(plan: &TablePlan) -> Self {
        let of = identities(plan);
        let keyed = |text: &dyn Fn(&TablePlan) -> String| {
            if plan.key.is_empty() { String::new() } else { format!("{} -- {of}", text(plan)) }
        };
        Self {
            write: if plan.mode == Mode::Update {
                keyed(&update)
            } else {
                let Texts { into, on_conflict } = Texts::new(plan);
                let values: Vec<String> = numbered(plan).map(|(_, value)| value).collect();
                format!("{into} VALUES ({}){on_conflict} -- {of}", values.join(", "))
            },
            merge: keyed(&merge),
            delete: keyed(&|plan| {
                let version = and_newer(plan, plan.key.len() + 1);
                format!("DELETE FROM {} AS t WHERE {}{version}", plan.sql_name, same_key(plan, 1..))
            }),
        }
    }
}

/// A parameter as the column's value.
fn parameter(column: &Column, number: usize) -> String {
    let number = format!("${number}");
    if column.is_read_by_the_server() { value(column, &format!("{number}::text")) } else { number }
}

/// The same, asked for only where there is a row: planned for its values, a statement has the server make of a parameter what
/// it makes of a constant, though no row is found.
fn asked_late(column: &Column, number: usize) -> String {
    if column.is_read_by_the_server() {
        value(column, &format!("(SELECT ${number}::text)"))
    } else {
        parameter(column, number)
    }
}

/// The same where it is compared with one that is there: as the column makes it of what is sent (its scale, its precision).
fn compared(column: &Column, number: usize) -> String {
    let id = column.type_id;
    let is_domain = column.target.ty.oid() != id.oid;
    let keeps_all = id.modifier == -1 || column.length.is_some_and(Length::keeps_all);
    if column.is_read_by_the_server() || !is_domain && keeps_all {
        parameter(column, number)
    } else if !is_domain && is_cut(&column.target.ty) {
        // A cast would make another key of one that is too long. A field of JSON is read as a literal is, and refused.
        format!(
            "(SELECT s.k FROM pg_catalog.json_to_record(pg_catalog.json_build_object('k', ${number}::{})) AS s (k {}))",
            column.bare_type, column.sql_type
        )
    } else {
        format!("${number}::{}", column.sql_type)
    }
}

/// Whether a cast to the type, or to an array of it, cuts what is too long. A domain refuses it as a parameter already.
fn is_cut(ty: &Type) -> bool {
    match ty.kind() {
        Kind::Array(element) => is_cut(element),
        _ => [Type::VARCHAR, Type::BPCHAR, Type::BIT, Type::VARBIT].contains(ty),
    }
}

/// All columns, each with its parameter.
fn numbered(plan: &TablePlan) -> impl Iterator<Item = (&Column, String)> {
    plan.columns.iter().zip(1..).map(|(column, number)| (column, parameter(column, number)))
}

/// The same, of a row that may not be there.
fn numbered_late(plan: &TablePlan) -> impl Iterator<Item = (&Column, String)> {
    plan.columns.iter().zip(1..).map(|(column, number)| (column, asked_late(column, number)))
}

/// Which row has the key whose values are the parameters of these `numbers`.
fn same_key(plan: &TablePlan, numbers: impl Iterator<Item = usize>) -> String {
    let same = keys(plan).zip(numbers).map(|(column, number)| {
        let (name, collate) = (quote(&column.name), collate(column));
        format!("t.{name}{collate} {} {}{collate}", column.equals, compared(column, number))
    });
    same.collect::<Vec<_>>().join(" AND ")
}

/// The same, where the parameters are those of all columns.
fn same_row(plan: &TablePlan) -> String {
    same_key(plan, plan.key.iter().map(|at| at + 1))
}

/// Behind a condition: that what is written is no older. `number`: the version's parameter.
fn and_newer(plan: &TablePlan, number: usize) -> String {
    let newer = plan.version.map(|at| {
        let column = &plan.columns[at];
        let version = if column.is_read_by_the_server() { asked_late } else { compared };
        newer(plan, at, &version(column, number))
    });
    newer.map(|newer| format!(" AND {newer}")).unwrap_or_default()
}

/// The same, where the parameters are those of all columns.
fn and_newer_row(plan: &TablePlan) -> String {
    and_newer(plan, plan.version.unwrap_or_default() + 1)
}

fn update(plan: &TablePlan) -> String {
    let set = numbered_late(plan).enumerate().filter(|(at, _)| plan.is_set(*at));
    let set: Vec<String> =
        set.map(|(_, (column, value))| format!("{} = {value}", quote(&column.name))).collect();
    let (same, newer) = (same_row(plan), and_newer_row(plan));
    format!("UPDATE {} AS t SET {} WHERE {same}{newer}", plan.sql_name, set.join(", "))
}

fn merge(plan: &TablePlan) -> String {
    let mut flag = plan.columns.len();
    let set = numbered_late(plan).enumerate().filter_map(|(at, (column, value))| {
        let name = quote(&column.name);
        if plan.key.contains(&at) {
            return plan.is_set(at).then(|| format!("{name} = {value}"));
        }
        flag += 1;
        Some(format!("{name} = CASE WHEN ${flag}::bool THEN t.{name} ELSE {value} END"))
    });
    let set: Vec<String> = set.collect();
    let (same, newer) = (same_row(plan), and_newer_row(plan));
    let update = format!("UPDATE {} AS t SET {} WHERE {same}{newer}", plan.sql_name, set.join(", "));
    if plan.version.is_none() {
        return update;
    }
    // What counts is whether there is a row, also one that is newer.
    format!("WITH changed AS ({update}) SELECT FROM {} AS t WHERE {same}", plan.sql_name)
}
