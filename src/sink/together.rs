//! Tables of one sink whose rows must not be written table after table, because somebody could tell: they are one
//! relation, or they take their numbers from one source. A batch with rows for both is written row by row.

use super::catalog::facts::Facts;
use super::encode::Encoded;
use super::plan::{Plan, TablePlan};
use super::table::Mode;

/// Two tables, by their places, and why.
#[derive(Debug)]
pub(crate) struct Together {
    tables: [usize; 2],
    pub(crate) why: String,
}

pub(crate) fn find(plans: &[TablePlan], facts: &[Facts]) -> Vec<Together> {
    let mut found = Vec::new();
    for b in 0..plans.len() {
        for a in 0..b {
            if let Some(why) = reason((&plans[a], &facts[a]), (&plans[b], &facts[b])) {
                let why = format!("{} and {}: {why}", plans[a].name, plans[b].name);
                found.push(Together { tables: [a, b], why });
            }
        }
    }
    found
}

fn reason(a: (&TablePlan, &Facts), b: (&TablePlan, &Facts)) -> Option<String> {
    if a.0.kin.overlaps(&b.0.kin) {
        return Some("they are one table, or one is a partition or a child of the other".to_owned());
    }
    // An update takes no defaults.
    let numbers = |(plan, facts): (&TablePlan, &Facts)| {
        let is_taken =
            |column: &String| plan.mode != Mode::Update && plan.columns.iter().all(|one| one.name != *column);
        facts.numbers.iter().filter(|number| is_taken(&number.column)).cloned().collect::<Vec<_>>()
    };
    let others = numbers(b);
    numbers(a).iter().find_map(|one| {
        let other = others.iter().find(|other| one.is_shared_with(other))?;
        Some(format!("columns {} and {} may be numbered by one source", one.column, other.column))
    })
}

/// Whether a batch has rows for two such tables.
pub(crate) fn meet(plan: &Plan, encoded: &[Encoded]) -> bool {
    plan.together.iter().any(|pair| pair.tables.iter().all(|&table| !encoded[table].rows.is_empty()))
}
