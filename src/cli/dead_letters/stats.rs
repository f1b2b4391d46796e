//! `highwater dead-letters stats`.

use clap::Args;
use highwater::Result;

use super::{FilterArguments, StateArguments};
use crate::cli::operator::json;
use crate::cli::table::Table;

/// Count dead letters by kind and state
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    filter: FilterArguments,

    #[command(flatten)]
    states: StateArguments,
}

pub(super) async fn run(arguments: &Arguments) -> Result<String> {
    let mut offsets = arguments.filter.operator.connect().await?;
    let mut kinds = Vec::new();
    for filter in arguments.filter.filters(&mut offsets).await? {
        // Without a word about states, of all of them.
        let filter = arguments.states.of(filter.states(None));
        kinds.extend(offsets.dead_letter_kinds(&filter).await?);
    }
    if arguments.filter.operator.json {
        return json(&kinds);
    }
    let mut table = Table::new(&[
        "GROUP",
        "KIND",
        "OPEN",
        "PARKED",
        "REDRIVEN",
        "DISCARDED",
        "SUPERSEDED",
        "FIRST",
        "LAST",
        "TOPICS",
        "WHY",
    ]);
    for kind in kinds {
        table.row(vec![
            kind.group,
            kind.kind,
            kind.open.to_string(),
            kind.parked.to_string(),
            kind.redriven.to_string(),
            kind.discarded.to_string(),
            kind.superseded.to_string(),
            kind.first_at,
            kind.last_at,
            kind.topics.join(","),
            kind.reason,
        ]);
    }
    Ok(table.to_string())
}
