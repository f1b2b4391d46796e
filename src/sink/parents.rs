//! Foreign keys between the tables of one sink.
//!
//! A batch writes table after table. Then a row finds its parent though the parent's record came later, where the records
//! one by one would have failed. So it is looked whether that is the case.

use std::collections::HashMap;

use super::buffer::{fields, row_bytes};
use super::catalog::facts::{ConstraintKind, Facts};
use super::encode::Encoded;
use super::plan::{Plan, TablePlan};
use super::table::Mode;

/// Which rows refer to which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parent {
    pub(crate) child: usize,
    pub(crate) parent: usize,
    /// Positions of the columns, pair by pair.
    pub(crate) child_columns: Vec<usize>,
    pub(crate) parent_columns: Vec<usize>,
    /// A parent's row may be left out though its key is new: any row with the key may be the one that makes it.
    pub(crate) may_be_left_out: bool,
}

/// Finds them; where values cannot be compared here, or the tables are given in the wrong order, the child's rows are
/// written one by one.
pub(crate) fn find(plans: &mut [TablePlan], facts: &[Facts]) -> Vec<Parent> {
    let mut parents = Vec::new();
    if plans.len() > 1 {
        // What a trigger sees of the other tables, or does to them, is that of the records before.
        for (plan, facts) in plans.iter_mut().zip(facts) {
            if let Some(trigger) = facts.triggers.iter().find(|trigger| trigger.fires_on_insert()) {
                let why = format!("trigger {} may look at the other tables", trigger.name);
                plan.care.always.get_or_insert(why);
            }
        }
    }
    for child in 0..plans.len() {
        let keys =
            facts[child].constraints.iter().filter(|one| one.kind == ConstraintKind::ForeignKey && one.ours);
        for key in keys {
            // What is written to a relative of the one that is referred to may be found there.
            let is_parent = |at: &usize| *at != child && facts[*at].kin.contains(&key.target);
            let of: Vec<usize> = (0..plans.len()).filter(is_parent).collect();
            for parent in of {
                match pair(&plans[child], &plans[parent], &key.columns, &key.target_columns) {
                    Some((child_columns, parent_columns)) if parent < child => {
                        let refusing = facts[parent].indexes.iter().filter(|index| index.refuses).count();
                        parents.push(Parent {
                            child,
                            parent,
                            child_columns,
                            parent_columns,
                            may_be_left_out: plans[parent].mode == Mode::InsertIgnore && refusing > 1,
                        });
                    }
                    _ => {
                        let why = format!("foreign key {} refers to {}", key.name, plans[parent].sql_name);
                        plans[child].care.always.get_or_insert(why);
                    }
                }
            }
        }
    }
    parents
}

fn pair(
    child: &TablePlan,
    parent: &TablePlan,
    from: &[String],
    to: &[String],
) -> Option<(Vec<usize>, Vec<usize>)> {
    let positions = |plan: &TablePlan, names: &[String]| -> Option<Vec<usize>> {
        names.iter().map(|name| plan.columns.iter().position(|column| column.name == *name)).collect()
    };
    let (from, to) = (positions(child, from)?, positions(parent, to)?);
    let same = |(a, b): (&usize, &usize)| {
        child.exact[*a] && parent.exact[*b] && child.columns[*a].type_id.oid == parent.columns[*b].type_id.oid
    };
    from.iter().zip(&to).all(same).then_some((from, to))
}

/// Whether a row refers to one of a later record.
pub(crate) fn come_late(plan: &Plan, encoded: &[Encoded]) -> bool {
    plan.parents.iter().any(|parent| comes_late(parent, &encoded[parent.child], &encoded[parent.parent]))
}

fn comes_late(keys: &Parent, children: &Encoded, parents: &Encoded) -> bool {
    if children.rows.is_empty() || parents.rows.is_empty() {
        return false;
    }
    let mut maker = HashMap::with_capacity(parents.rows.len());
    for row in &parents.rows {
        if let Some(key) = key(row_bytes(&parents.segments, row), &keys.parent_columns) {
            let last = maker.entry(key).or_insert(row.record);
            if keys.may_be_left_out {
                *last = row.record;
            }
        }
    }
    children.rows.iter().any(|row| {
        let key = key(row_bytes(&children.segments, row), &keys.child_columns);
        key.and_then(|key| maker.get(&key)).is_some_and(|parent| *parent > row.record)
    })
}

/// The values of the columns, each behind its length; `None` if one is NULL.
fn key(row: &[u8], columns: &[usize]) -> Option<Vec<u8>> {
    let mut key = Vec::with_capacity(32);
    for column in columns {
        let field = fields(row).nth(*column)??;
        key.extend_from_slice(&field.len().to_be_bytes());
        key.extend_from_slice(field);
    }
    Some(key)
}
