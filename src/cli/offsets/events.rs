//! `highwater offsets events`.

use clap::Args;
use highwater::Result;

use crate::cli::operator::{OperatorArguments, json, or_dash};
use crate::cli::table::Table;

/// Show who moved a group's offsets, and why: every move that was no commit, newest first
#[derive(Debug, Args)]
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

pub(super) async fn run(arguments: &Arguments) -> Result<String> {
    let events = arguments.operator.connect().await?.events(&arguments.group, arguments.limit).await?;
    if arguments.operator.json {
        return json(&events);
    }
    let mut table =
        Table::new(&["EVENT", "AT", "TOPIC", "PARTITION", "KIND", "FROM", "TO", "PLAN", "ACTOR", "REASON"]);
    for event in events {
        table.row(vec![
            event.id.to_string(),
            event.occurred_at,
            event.topic,
            event.partition.to_string(),
            event.kind,
            or_dash(event.from),
            or_dash(event.to),
            or_dash(event.plan_id),
            event.actor,
            event.reason,
        ]);
    }
    Ok(table.to_string())
}
