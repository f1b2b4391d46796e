//! `highwater offsets export`.

use clap::Args;
use highwater::Result;

use crate::cli::operator::{GroupArguments, OperatorArguments, SelectionArguments, json};

/// Print where groups stand as CSV, for import and for Kafka's own tool
///
/// One group: topic,partition,offset. Several: group,topic,partition,offset. No header.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    operator: OperatorArguments,

    #[command(flatten)]
    groups: GroupArguments,

    #[command(flatten)]
    selection: SelectionArguments,
}

pub(super) async fn run(arguments: &Arguments) -> Result<String> {
    let mut offsets = arguments.operator.connect().await?;
    let groups = arguments.groups.groups(&arguments.operator, &mut offsets).await?;
    let mut positions = Vec::new();
    for group in &groups {
        positions.extend(offsets.positions(group, &arguments.selection.or_all()).await?);
    }
    if arguments.operator.json {
        return json(&positions);
    }
    crate::cli::csv::write(&positions, groups.len() > 1)
}
