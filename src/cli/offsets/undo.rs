//! What an undo of rows would do, and how far it is.

use highwater::Result;
use highwater::offsets::{Applied, ApplyOptions, Offsets, Plan, Undo, Undoing};

use crate::cli::operator::or_dash;
use crate::cli::progress::Progress;
use crate::cli::table::Table;

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
    let mut progress = Progress::new("offsets back");
    let mut say = |undoing: &Undoing| {
        let Undoing { topic, partition, from, reached, to, rows, .. } = undoing;
        let line = || {
            format!(
                "{topic}:{partition} stands at {reached} on its way from {from} to {to}: {rows} rows undone"
            )
        };
        if reached == to {
            progress.say(&line());
        } else {
            let offsets = |upper: &i64, lower: &i64| u64::try_from(upper - lower).unwrap_or_default();
            let back = (offsets(from, reached), offsets(from, to));
            progress.show(back, format!("{topic}:{partition}, {rows} rows undone"), line);
        }
    };
    offsets.apply_watched(id, options, &mut say).await
}
