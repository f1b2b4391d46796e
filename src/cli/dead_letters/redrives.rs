//! `highwater dead-letters redrives`.

use clap::Args;
use highwater::Result;
use highwater::offsets::RedriveStatus;

use crate::cli::operator::{GroupArguments, OperatorArguments, json, or_dash};
use crate::cli::table::Table;

const AFTER_HELP: &str = "\
RECORDS     on its list: it grows while what is parked behind a redriven one follows
REDRIVEN    applied
REJECTED    rejected again, and open; parked ones that are tried for the first time, too
GONE        not open any more when their turn came: decided about, or redriven by another
INELIGIBLE  they wait, and cannot be redriven as they are: their content is not kept, for instance
BEHIND      left where they are, for an earlier one of their key waits
WAITING     not tried yet; of a redrive that has ended: never
UNHELD      of these, those of partitions that no live worker holds: halted, paused, or nobody is there
WHY         why it was asked for; then what holds it up now, or why it has ended early";

/// Show what was asked to be redriven, and how far it is
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(flatten)]
    operator: OperatorArguments,

    #[command(flatten)]
    groups: GroupArguments,

    /// How many of each group, the newest first
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: i64,
}

pub(super) async fn run(arguments: &Arguments) -> Result<String> {
    let mut offsets = arguments.operator.connect().await?;
    let mut all = Vec::new();
    for group in arguments.groups.groups(&arguments.operator, &mut offsets).await? {
        all.extend(offsets.redrives(&group, arguments.limit).await?);
    }
    if arguments.operator.json {
        return json(&all);
    }
    if all.is_empty() {
        return Ok("nothing was ever redriven\n".to_owned());
    }
    Ok(table(&all))
}

pub(super) fn table(all: &[RedriveStatus]) -> String {
    let mut table = Table::new(&[
        "ID",
        "GROUP",
        "STATE",
        "RECORDS",
        "REDRIVEN",
        "REJECTED",
        "GONE",
        "INELIGIBLE",
        "BEHIND",
        "WAITING",
        "UNHELD",
        "BEGUN",
        "BY",
        "WHY",
    ]);
    for one in all {
        let why = match &one.why {
            Some(why) => format!("{}; {why}", one.reason),
            None => one.reason.clone(),
        };
        table.row(vec![
            one.id.to_string(),
            one.group.clone(),
            one.state.clone(),
            one.records.to_string(),
            one.redriven.to_string(),
            one.failed.to_string(),
            one.gone.to_string(),
            or_dash(Some(one.ineligible).filter(|ineligible| *ineligible > 0)),
            or_dash(Some(one.behind).filter(|behind| *behind > 0)),
            one.waiting.to_string(),
            or_dash(Some(one.unheld).filter(|unheld| *unheld > 0)),
            one.created_at.clone(),
            one.actor.clone(),
            why,
        ]);
    }
    table.to_string()
}
