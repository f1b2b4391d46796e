//! `highwater partitions`.

use clap::{Arg, Args, Subcommand};
use highwater::Result;
use highwater::offsets::{Order, Verb};

use super::offsets::wait;
use super::operator::{
    GroupArguments, OperatorArguments, SelectionArguments, WhyArguments, json, or_dash, usage,
};
use super::table::Table;

const AFTER_HELP: &str = "\
It holds when the command returns: what was in flight rolls back. Workers act on it within two
seconds, without a restart; OBEYED says when. A partition that already is as it is told to be is
left alone, so that a command may be given twice.

Examples:
  highwater partitions pause --group fraud-rules-v2 --topic payments:3 --reason 'INC-812'
  highwater partitions resume --group fraud-rules-v2 --topic payments:3
  highwater partitions skip --group fraud-rules-v2 --topic payments:3 --to 4204 --reason 'INC-813'
  highwater partitions retry --group fraud-rules-v2 --all-topics";

/// Hold, release, and step over: halt, pause, resume, skip, retry, while the fleet runs
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verbs,
}

#[derive(Debug, Subcommand)]
enum Verbs {
    /// Stop partitions as an error does, until they are retried
    #[command(mut_arg("reason", needed))]
    Halt(Which),
    /// Stop partitions, until they are resumed
    #[command(mut_arg("reason", needed))]
    Pause(Which),
    /// Let paused partitions go on
    Resume(Which),
    /// Let halted partitions try again, from where they stand
    Retry(Which),
    /// Step over records: go on at --to; they are kept in dead_letter, and the range in offset_event
    #[command(mut_arg("reason", needed))]
    Skip(Skip),
}

#[derive(Debug, Args)]
struct Which {
    #[command(flatten)]
    operator: OperatorArguments,

    #[command(flatten)]
    groups: GroupArguments,

    #[command(flatten)]
    selection: SelectionArguments,

    #[command(flatten)]
    why: WhyArguments,
}

#[derive(Debug, Args)]
struct Skip {
    #[command(flatten)]
    which: Which,

    /// The first offset that is applied again
    #[arg(long, value_name = "OFFSET")]
    to: i64,

    /// Don't keep the records; they are then in Kafka alone, for as long as it holds them
    #[arg(long)]
    no_store: bool,
}

/// What stands still, or is left out, says why.
fn needed(reason: Arg) -> Arg {
    reason.required(true).help("Why: recorded, and shown where the partition stands still")
}

pub(crate) async fn run(arguments: &Arguments) -> Result<String> {
    let (which, verb, to) = match &arguments.verb {
        Verbs::Halt(which) => (which, Verb::Halt, None),
        Verbs::Pause(which) => (which, Verb::Pause, None),
        Verbs::Resume(which) => (which, Verb::Resume, None),
        Verbs::Retry(which) => (which, Verb::Retry, None),
        Verbs::Skip(Skip { which, to, .. }) => (which, Verb::Skip, Some(*to)),
    };
    let reason = which.why.reason();
    if reason.trim().is_empty() {
        return Err(usage("the reason is empty: it is what the next person on call will read"));
    }
    let selection = which.selection.named()?;
    let mut offsets = which.operator.connect().await?;
    let actor = which.why.actor(&mut offsets).await?;
    let mut all = Vec::new();
    for group in which.groups.groups(&which.operator, &mut offsets).await? {
        let mut order = Order::new(&group, selection.clone(), verb).by(&actor, reason);
        if let Some(to) = to {
            let no_store = matches!(&arguments.verb, Verbs::Skip(skip) if skip.no_store);
            order = order.to(to).store(!no_store);
        }
        let mut told = offsets.order(&order).await?;
        for line in wait(&mut offsets, &group, &mut told).await? {
            eprintln!("{line}");
        }
        for skipped in &told {
            if let Some(stored) = skipped.stored {
                let records = if stored == 1 { "record is" } else { "records are" };
                eprintln!("{}:{}: {stored} {records} kept in dead_letter", skipped.topic, skipped.partition);
            }
        }
        all.extend(told.into_iter().map(|told| (group.clone(), told)));
    }
    if which.operator.json {
        let told: Vec<_> = all.into_iter().map(|(_, told)| told).collect();
        return json(&told);
    }
    if all.is_empty() {
        return Ok(format!("nothing to {}: all of them are as they would be\n", verb.as_str()));
    }
    let mut table = Table::new(&["GROUP", "TOPIC", "PARTITION", "FROM", "NEXT-OFFSET", "OBEYED", "BY"]);
    for (group, told) in all {
        table.row(vec![
            group,
            told.topic,
            told.partition.to_string(),
            told.from.to_string(),
            told.to.to_string(),
            or_dash(told.obeyed_at),
            or_dash(told.obeyed_by),
        ]);
    }
    Ok(table.to_string())
}
