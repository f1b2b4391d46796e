//! `highwater offsets copy`.

use clap::Args;
use highwater::Result;
use highwater::offsets::Copy;

use super::delete::table;
use crate::cli::confirm::ConfirmArguments;
use crate::cli::operator::{OperatorArguments, SelectionArguments, WhyArguments, json};

const AFTER_HELP: &str = "\
For blue and green: the new release runs under a group id of its own, into tables of its own, and
begins where the old one stands. Copy the tables in the same moment (pause the group first), or let
the new ones begin empty.

Example:
  highwater offsets copy --group fraud-rules-v2 --to-group fraud-rules-v3 --reason 'DEPLOY-9' --execute";

/// Let a new group begin where this one stands, also while this one runs
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(flatten)]
    operator: OperatorArguments,

    /// The consumer group
    #[arg(long, value_name = "NAME")]
    group: String,

    /// The new group, which knows nothing of these topics yet
    #[arg(long, value_name = "NAME")]
    to_group: String,

    #[command(flatten)]
    selection: SelectionArguments,

    /// The new group's program [default: that of the old one]
    #[arg(long, value_name = "NAME")]
    program: Option<String>,

    #[command(flatten)]
    why: WhyArguments,

    #[command(flatten)]
    confirm: ConfirmArguments,
}

pub(super) async fn run(arguments: &Arguments) -> Result<String> {
    arguments.confirm.check()?;
    let mut offsets = arguments.operator.connect().await?;
    let actor = arguments.why.actor(&mut offsets).await?;
    let copy = Copy::new(&arguments.group, &arguments.to_group)
        .select(arguments.selection.or_all())
        .program(arguments.program.clone())
        .by(actor, arguments.why.reason());
    let mut positions = offsets.copy(&copy, false).await?;
    let executed = arguments.confirm.is_meant(&table(&positions), "Let it begin there?")?;
    if executed {
        positions = offsets.copy(&copy, true).await?;
    }
    if arguments.operator.json {
        return json(&serde_json::json!({ "executed": executed, "positions": positions }));
    }
    Ok(table(&positions) + if executed { "" } else { "nothing was copied\n" })
}
