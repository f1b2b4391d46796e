//! `highwater offsets delete`.

use clap::Args;
use highwater::Result;
use highwater::offsets::{Position, Selection};

use crate::cli::confirm::ConfirmArguments;
use crate::cli::operator::{OperatorArguments, SelectionArguments, WhyArguments, json, usage};
use crate::cli::table::Table;

const AFTER_HELP: &str = "\
A worker that starts afterwards is refused (exit code 4) as long as Kafka holds the mirrored offsets,
so that nothing is read twice by mistake. To begin anew, empty the sink and delete them there, too:
  kafka-consumer-groups.sh --bootstrap-server ... --delete-offsets --group NAME --topic TOPIC

Example:
  highwater offsets delete --group fraud-rules-v1 --all-topics --reason 'retired' --dry-run";

/// Forget where a group stood in a topic, or in all; the group must be at rest
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(flatten)]
    operator: OperatorArguments,

    /// The consumer group
    #[arg(long, value_name = "NAME")]
    group: String,

    #[command(flatten)]
    selection: SelectionArguments,

    #[command(flatten)]
    why: WhyArguments,

    #[command(flatten)]
    confirm: ConfirmArguments,
}

/// Forget one topic, while the group works on others
///
/// For a topic that the group does not read any more, or that was deleted: its rows are in the way of nothing, but they
/// show as standing still. Refused while a live worker holds one of its partitions, and if a ^pattern of the group still
/// finds it in Kafka.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct ForgetArguments {
    #[command(flatten)]
    operator: OperatorArguments,

    /// The consumer group
    #[arg(long, value_name = "NAME")]
    group: String,

    /// The topic
    #[arg(long, value_name = "TOPIC")]
    topic: String,

    /// Also if a ^pattern of the group finds it: whoever reads by that applies it from its beginning, as a new topic
    #[arg(long)]
    as_new: bool,

    #[command(flatten)]
    why: WhyArguments,

    #[command(flatten)]
    confirm: ConfirmArguments,
}

pub(super) async fn forget(arguments: &ForgetArguments) -> Result<String> {
    arguments.confirm.check()?;
    let mut offsets = arguments.operator.connect().await?;
    let selection = Selection::topic(&arguments.topic);
    let mut positions = offsets.positions(&arguments.group, &selection).await?;
    let is_meant = arguments.confirm.is_meant(&table(&positions), "Forget them?")?;
    if is_meant {
        let actor = arguments.why.actor(&mut offsets).await?;
        let (group, topic, reason) = (&arguments.group, &arguments.topic, arguments.why.reason());
        positions = offsets.forget_topic(group, topic, arguments.as_new, &actor, reason).await?.positions;
    }
    show(&arguments.operator, is_meant, &positions)
}

pub(super) fn table(positions: &[Position]) -> String {
    let mut table = Table::new(&["GROUP", "TOPIC", "PARTITION", "NEXT-OFFSET"]);
    for position in positions {
        let numbers = [position.partition.to_string(), position.offset.to_string()];
        table.row([[position.group.clone(), position.topic.clone()], numbers].concat());
    }
    table.to_string()
}

fn show(operator: &OperatorArguments, executed: bool, positions: &[Position]) -> Result<String> {
    if operator.json {
        return json(&serde_json::json!({ "executed": executed, "positions": positions }));
    }
    Ok(table(positions) + if executed { "" } else { "nothing was deleted\n" })
}

pub(super) async fn run(arguments: &Arguments) -> Result<String> {
    arguments.confirm.check()?;
    let selection = arguments.selection.named()?;
    if arguments.group.is_empty() {
        return Err(usage("the group has no name"));
    }
    let mut offsets = arguments.operator.connect().await?;
    let mut positions = offsets.positions(&arguments.group, &selection).await?;
    let is_meant = arguments.confirm.is_meant(&table(&positions), "Delete them?")?;
    if is_meant {
        let actor = arguments.why.actor(&mut offsets).await?;
        positions =
            offsets.delete(&arguments.group, &selection, &actor, arguments.why.reason()).await?.positions;
    }
    show(&arguments.operator, is_meant, &positions)
}
