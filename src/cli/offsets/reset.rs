//! `highwater offsets reset` and `import`.

use std::path::PathBuf;

use clap::Args;
use highwater::offsets::{ApplyOptions, Offsets, Plan, Position, Request, Selection, Target, Undo};
use highwater::{ErrorKind, Result};
use serde::Serialize;

use super::apply::obeyed;
use super::plan::{RequestArguments, table, warn};
use super::undo::{Undone, apply, undone};
use crate::cli::confirm::ConfirmArguments;
use crate::cli::operator::{GroupArguments, OperatorArguments, WhyArguments, json, live_command};

const AFTER_HELP: &str = "\
Rows that the handler has written stay, and what is read again is applied again, unless --undo-rows
takes them out with the move; see \"Undo rows\" in docs/operations.md.

Without --live the group must be at rest, by the database and by Kafka. With --live the workers run
on: what they have in flight rolls back, and within two seconds they go on from the new place.

Examples:
  # Six hours again; first the look, then the deed
  highwater offsets reset --group fraud-rules-v2 --topic payments --by-duration PT6H --dry-run
  highwater offsets reset --group fraud-rules-v2 --topic payments --by-duration PT6H --execute

  # The last hour again, in tables that are only appended to: its rows go with the move
  highwater offsets reset --group fraud-rules-v2 --topic payments --by-duration PT1H --undo-rows --live --dry-run

  # One partition back by a hundred, while the fleet runs
  highwater offsets reset --group fraud-rules-v2 --topic payments:3 --shift-by -100 --execute --live

  # As with Kafka's tool: to a file, and back
  highwater offsets reset --group fraud-rules-v2 --all-topics --to-current --dry-run --export > before.csv
  highwater offsets reset --group fraud-rules-v2 --from-file before.csv --execute";

/// Move where groups stand, as `kafka-consumer-groups.sh --reset-offsets` does, in Postgres
///
/// Offsets outside of the log are brought to its end, and that is said. Each move is recorded in offset_event with who
/// and why. If the answer is lost, the plan's id says what happened: nothing is moved twice.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(flatten)]
    operator: OperatorArguments,

    #[command(flatten)]
    request: RequestArguments,

    #[command(flatten)]
    confirm: ConfirmArguments,

    /// While workers run
    #[arg(long)]
    live: bool,

    /// Print the new offsets as CSV, to be read by --from-file
    #[arg(long)]
    export: bool,
}

/// Move a group to the offsets of a file, as --from-file does
#[derive(Debug, Args)]
pub(super) struct ImportArguments {
    #[command(flatten)]
    operator: OperatorArguments,

    /// topic,partition,offset, or group,topic,partition,offset; no header
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    groups: GroupArguments,

    #[command(flatten)]
    why: WhyArguments,

    #[command(flatten)]
    confirm: ConfirmArguments,

    /// While workers run
    #[arg(long)]
    live: bool,
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    executed: bool,
    plans: &'a [Plan],
    /// Before it was done.
    #[serde(skip_serializing_if = "<[Undo]>::is_empty")]
    undo: &'a [Undo],
}

/// How it is done and shown.
struct Manner<'a> {
    operator: &'a OperatorArguments,
    confirm: &'a ConfirmArguments,
    live: bool,
    export: bool,
    actor: String,
}

pub(super) async fn run(arguments: &Arguments) -> Result<String> {
    arguments.confirm.check()?;
    let mut offsets = arguments.operator.connect().await?;
    let requests = arguments.request.requests(&arguments.operator, &mut offsets).await?;
    let actor = arguments.request.actor(&mut offsets).await?;
    let manner = Manner {
        operator: &arguments.operator,
        confirm: &arguments.confirm,
        live: arguments.live,
        export: arguments.export,
        actor,
    };
    reset(&mut offsets, &requests, &manner).await
}

pub(super) async fn import(arguments: &ImportArguments) -> Result<String> {
    arguments.confirm.check()?;
    let mut offsets = arguments.operator.connect().await?;
    let groups = arguments.groups.groups(&arguments.operator, &mut offsets).await?;
    let positions = crate::cli::csv::read_file(&arguments.file, &groups)?;
    let actor = arguments.why.actor(&mut offsets).await?;
    let requests: Vec<Request> = groups
        .iter()
        .map(|group| {
            let of_group = positions.iter().filter(|position| position.group == *group).cloned();
            Request::new(group, Selection::AllTopics, Target::Positions(of_group.collect()))
                .actor(&actor)
                .reason(arguments.why.reason())
        })
        .collect();
    let manner = Manner {
        operator: &arguments.operator,
        confirm: &arguments.confirm,
        live: arguments.live,
        export: false,
        actor,
    };
    reset(&mut offsets, &requests, &manner).await
}

async fn reset(offsets: &mut Offsets, requests: &[Request], manner: &Manner<'_>) -> Result<String> {
    let mut plans = Vec::new();
    for request in requests {
        plans.push(offsets.preview(request).await?);
    }
    warn(&plans);
    let undone = undone(offsets, &plans).await?;
    let question = if undone.undo.is_empty() { "Move them?" } else { "Delete these rows, and move them?" };
    if !manner.confirm.is_meant(&(undone.text.clone() + &table(&plans)), question)? {
        return show(&plans, &undone, false, manner);
    }
    let mut told = Vec::new();
    for plan in &mut plans {
        let stored = offsets.store_preview(plan.clone(), manner.live).await.map_err(hint)?;
        let id = stored.id.unwrap_or_default();
        eprintln!("plan {id}");
        let options = ApplyOptions::by(&manner.actor).live(manner.live);
        *plan = apply(offsets, id, &options).await.map_err(hint)?.plan;
        told.extend(obeyed(offsets, plan).await?);
    }
    for line in told {
        eprintln!("{line}");
    }
    show(&plans, &undone, true, manner)
}

fn show(plans: &[Plan], undone: &Undone, executed: bool, manner: &Manner<'_>) -> Result<String> {
    if manner.export {
        let positions: Vec<Position> = plans.iter().flat_map(Plan::positions).collect();
        return crate::cli::csv::write(&positions, plans.len() > 1);
    }
    if manner.operator.json {
        return json(&Answer { executed, plans, undo: &undone.undo });
    }
    if executed {
        return Ok(table(plans));
    }
    Ok(undone.text.clone() + &table(plans) + "nothing was moved\n")
}

/// To what is refused because the group is at work, the command that would work.
pub(super) fn hint(error: highwater::Error) -> highwater::Error {
    if error.kind() == ErrorKind::GroupActive {
        eprintln!("this would move them while the workers run:\n  {}", live_command());
    }
    error
}
