//! `highwater status`.

mod show;

use clap::Args;
use highwater::Result;
use highwater::offsets::{GroupStatus, StatusOptions};

use super::found;
use super::operator::{OperatorArguments, json};

const AFTER_HELP: &str = "\
Not well is a group with a partition that has halted (by an error or by a person), is paused, is held
by nobody or by a process that is gone, does not move for a reason that its worker gives, stands
outside of Kafka's log, or has no leader; with a worker that is not ready; or without any worker.
Lag and dead letters are told, and count only against a limit of yours. What may be a hand-over
between two workers is looked at for up to 3 s before it counts.

Exit codes: 0 all is well, 1 it is not, and the usual others.

Examples:
  highwater status
  highwater status --group fraud-rules-v2 --max-lag-seconds 300
  highwater status --allow-paused --json | jq '.[] | select(.well | not) | .troubles'";

/// Is it well, and if not, what and where: at most ten lines a group, exit code 0 or 1
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(flatten)]
    operator: OperatorArguments,

    /// The consumer group; may be repeated [env: HIGHWATER_GROUP] [default: all of this database]
    #[arg(long = "group", value_name = "NAME")]
    groups: Vec<String>,

    /// Partitions that somebody has paused are no failure; what somebody has halted is
    #[arg(long)]
    allow_paused: bool,

    /// More than so many offsets behind, in one partition, is a failure
    #[arg(long, value_name = "N")]
    max_lag: Option<i64>,

    /// A next record older than this is a failure
    #[arg(long, value_name = "SECONDS")]
    max_lag_seconds: Option<f64>,

    /// More than so many dead letters that wait are a failure
    #[arg(long, value_name = "N")]
    max_dead_letters: Option<i64>,
}

pub(super) async fn run(arguments: &Arguments) -> Result<String> {
    let options = StatusOptions::default()
        .allow_paused(arguments.allow_paused)
        .max_lag(arguments.max_lag)
        .max_lag_seconds(arguments.max_lag_seconds)
        .max_dead_letters(arguments.max_dead_letters);
    let given = arguments.operator.given_group()?;
    let mut offsets = arguments.operator.connect().await?;
    let groups = match (arguments.groups.as_slice(), given) {
        ([], Some(group)) => vec![group],
        ([], None) => offsets.lasting_groups().await?,
        (groups, _) => groups.to_vec(),
    };
    let mut all = Vec::new();
    for group in &groups {
        all.push(offsets.status(group, &options).await?);
    }
    let text = if arguments.operator.json { json(&all)? } else { text(&all) };
    match all.iter().filter(|status| !status.well).count() {
        0 => Ok(text),
        ill => Err(found(&text, format!("{ill} of {} groups not well", all.len()))),
    }
}

fn text(all: &[GroupStatus]) -> String {
    if all.is_empty() {
        return "there is no group in this database yet\n".to_owned();
    }
    all.iter().map(show::group).collect()
}
