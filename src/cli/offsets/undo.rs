//! What an undo of rows would do, and how far it is.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use highwater::Result;
use highwater::offsets::{Applied, ApplyOptions, Offsets, Plan, Undo, Undoing};

use crate::cli::operator::or_dash;
use crate::cli::table::Table;

/// How often a person hears of it.
const OFTEN: Duration = Duration::from_secs(1);
/// And a log.
const SELDOM: Duration = Duration::from_secs(10);

/// What plans would undo; empty where none does.
pub(super) struct Undone {
    pub(super) undo: Vec<Undo>,
    pub(super) text: String,
}

pub(super) async fn undone(offsets: &mut Offsets, plans: &[Plan]) -> Result<Undone> {
    let mut table = Table::new(&["GROUP", "TABLE", "MODE", "ROWS-TO-DELETE", "INDEX"]);
    let (mut undo, mut hints, mut rows) = (Vec::new(), String::new(), Some(0));
    for plan in plans.iter().filter(|plan| plan.undo_rows) {
        let of_plan = offsets.undo(plan).await?;
        for found in &of_plan.tables {
            rows = rows.zip(found.rows).map(|(rows, more)| rows + more);
            let count = found.rows.map_or_else(|| "many (not counted)".to_owned(), |rows| rows.to_string());
            table.row(vec![
                plan.group.clone(),
                found.table.clone(),
                found.mode.clone(),
                count,
                or_dash(found.index.as_ref()),
            ]);
            if let Some(create) = &found.create_index {
                hints += &format!(
                    "warning: no index leads to these rows, so that every portion reads all of {}; better first:\n  {create};\n",
                    found.table
                );
            }
        }
        undo.push(of_plan);
    }
    if undo.is_empty() {
        return Ok(Undone { undo, text: String::new() });
    }
    let time = rows.map_or_else(String::new, |rows| {
        // The pace of docs/operations.md, "Undo rows", and a tenth of it: tables have indexes, triggers, other users.
        let seconds = |pace: i64| rows / pace + 1;
        format!("about {} to {} s, at 35,000 to 3,500 rows/s\n", seconds(35_000), seconds(3_500))
    });
    Ok(Undone { undo, text: format!("{table}{hints}{time}") })
}

/// Applies a plan, and says how far it is.
pub(super) async fn apply(offsets: &mut Offsets, id: i64, options: &ApplyOptions) -> Result<Applied> {
    let pause = if io::stderr().is_terminal() { OFTEN } else { SELDOM };
    let mut said = Instant::now();
    let mut say = |undoing: &Undoing| {
        let is_last = undoing.reached == undoing.to;
        if is_last || said.elapsed() >= pause {
            said = Instant::now();
            eprintln!(
                "{}:{} stands at {} on its way from {} to {}: {} rows undone",
                undoing.topic, undoing.partition, undoing.reached, undoing.from, undoing.to, undoing.rows
            );
        }
    };
    offsets.apply_watched(id, options, &mut say).await
}
