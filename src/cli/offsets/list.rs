//! `highwater offsets list`.

use clap::Args;
use highwater::Result;

use crate::cli::operator::{OperatorArguments, json, or_dash};
use crate::cli::table::Table;

/// List the groups of this database
///
/// HELD: partitions that a live process holds. STILL: paused or halted. COMMITTED: the last commit, in UTC.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    operator: OperatorArguments,
}

pub(super) async fn run(arguments: &Arguments) -> Result<String> {
    let groups = arguments.operator.connect().await?.list().await?;
    if arguments.operator.json {
        return json(&groups);
    }
    let mut table = Table::new(&["GROUP", "TOPICS", "PARTITIONS", "HELD", "STILL", "WORKERS", "COMMITTED"]);
    for group in groups {
        table.row(vec![
            group.group,
            group.topics.to_string(),
            group.partitions.to_string(),
            group.held.to_string(),
            group.standing_still.to_string(),
            group.workers.to_string(),
            or_dash(group.committed_at),
        ]);
    }
    Ok(table.to_string())
}
