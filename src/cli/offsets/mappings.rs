//! `highwater offsets mappings`.

use std::fmt::Write as _;

use clap::Args;
use highwater::Result;
use highwater::offsets::MappingChange;

use crate::cli::operator::{OperatorArguments, json};
use crate::cli::table::Table;

const AFTER_HELP: &str = "\
FROM is where the group stood when the first worker with that mapping started: no earlier record was
mapped by it. While a fleet is rolled over, older workers go on with the one before: which worker
applied what is in claim_history. Also with --json: the whole mapping, table by table.

Examples:
  highwater offsets mappings --group shop-v1
  highwater offsets mappings --group shop-v1 --json | jq '.[0].mapping'";

/// Show since when a pipeline's file makes of records what it does: every change of its mapping, newest first
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(flatten)]
    operator: OperatorArguments,

    /// The consumer group
    #[arg(long, value_name = "NAME")]
    group: String,

    /// How many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: i64,
}

/// So many partitions' positions are shown.
const SHOWN: usize = 4;

pub(super) async fn run(arguments: &Arguments) -> Result<String> {
    let mappings = arguments.operator.connect().await?.mappings(&arguments.group, arguments.limit).await?;
    if arguments.operator.json {
        return json(&mappings);
    }
    let mut table = Table::new(&["CHANGE", "AT", "PROGRAM", "VERSION", "HOST", "FROM", "WHAT"]);
    for change in mappings {
        table.row(vec![
            change.id.to_string(),
            change.occurred_at.clone(),
            change.program.clone(),
            change.version.clone(),
            change.host.clone(),
            positions(&change),
            if change.changes.is_empty() {
                "the first on record".to_owned()
            } else {
                change.changes.join("; ")
            },
        ]);
    }
    Ok(table.to_string())
}

/// As `topic:partition=offset`.
fn positions(change: &MappingChange) -> String {
    let all = change.positions.iter();
    let all: Vec<_> = all.flat_map(|(topic, of)| of.iter().map(move |one| (topic, one))).collect();
    let shown = all.iter().take(SHOWN);
    let shown: Vec<_> =
        shown.map(|(topic, (partition, offset))| format!("{topic}:{partition}={offset}")).collect();
    let mut text = shown.join(" ");
    if all.len() > SHOWN {
        // Writing to a string can't fail.
        let _ = write!(text, " and {} more", all.len() - SHOWN);
    }
    text
}
