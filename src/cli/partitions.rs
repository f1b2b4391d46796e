//! `highwater partitions`.

use clap::{Args, Subcommand};
use highwater::Result;
use highwater::offsets::{Order, Verb};

use super::offsets::wait;
use super::operator::{
    ActorArguments, GroupArguments, OperatorArguments, SelectionArguments, json, or_dash, usage,
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
    Halt(WithReason),
    /// Stop partitions, until they are resumed
    Pause(WithReason),
    /// Let paused partitions go on
    Resume(WithoutReason),
    /// Let halted partitions try again, from where they stand
    Retry(WithoutReason),
    /// Step over records: go on at --to; they are kept in dead_letter, and the range in offset_event
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
    actor: ActorArguments,
}

#[derive(Debug, Args)]
struct WithReason {
    #[command(flatten)]
    which: Which,

    /// Why: shown where the partition stands still
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

#[derive(Debug, Args)]
struct WithoutReason {
    #[command(flatten)]
    which: Which,

    /// Why: recorded
    #[arg(long, value_name = "TEXT", default_value = "none given")]
    reason: String,
}

#[derive(Debug, Args)]
struct Skip {
    #[command(flatten)]
    which: Which,

    /// The first offset that is applied again
    #[arg(long, value_name = "OFFSET")]
    to: i64,

    /// Why: recorded
    #[arg(long, value_name = "TEXT")]
    reason: String,

    /// Don't keep the records; they are then in Kafka alone, for as long as it holds them
    #[arg(long)]
    no_store: bool,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<String> {
    let (which, verb, to, reason) = match &arguments.verb {
        Verbs::Halt(WithReason { which, reason }) => (which, Verb::Halt, None, reason),
        Verbs::Pause(WithReason { which, reason }) => (which, Verb::Pause, None, reason),
        Verbs::Resume(WithoutReason { which, reason }) => (which, Verb::Resume, None, reason),
        Verbs::Retry(WithoutReason { which, reason }) => (which, Verb::Retry, None, reason),
        Verbs::Skip(Skip { which, to, reason, .. }) => (which, Verb::Skip, Some(*to), reason),
    };
    if reason.trim().is_empty() {
        return Err(usage("the reason is empty: it is what the next person on call will read"));
    }
    let selection = which.selection.named()?;
    let mut offsets = which.operator.connect().await?;
    let actor = which.actor.actor(&mut offsets).await?;
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
