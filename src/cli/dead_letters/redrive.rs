//! `highwater dead-letters redrive`.

use std::time::Duration;

use clap::Args;
use highwater::offsets::{DeadLetterFilter, Offsets, Redrivable, Redrive, RedriveStatus};
use highwater::{Error, ErrorKind, Result};
use serde::Serialize;

use super::redrives::table;
use super::{FilterArguments, ReasonArguments, records};
use crate::cli::confirm::ConfirmArguments;
use crate::cli::instant::duration;
use crate::cli::operator::{json, show, usage};
use crate::cli::progress::Progress;

const AFTER_HELP: &str = "\
Counts first, with what is not eligible and why. With --execute, the redrive is stored under a
number, and the group's own workers begin within two seconds: whoever holds a dead letter's
partition hands its record to the same handler as ever, and commits its rows together with the
change of the letter's state. So it is applied once, whoever asks for it and how often, and whatever
is killed meanwhile. What is rejected again is open again, with one attempt more.

A later record of the same key may have been applied since. So only handlers that say they do
nothing but append are served without --ignore-order. Not so with
on_rejected = park_key: there later records wait behind them, are redriven in their order, and
follow without being asked for (unless there is a --max). One is left where it is while an earlier
one of its key waits (BEHIND).

Examples:
  highwater dead-letters redrive --group fraud-rules-v2 --kind a91f --dry-run
  highwater dead-letters redrive --group fraud-rules-v2 --kind a91f --canary 1 --rate 200 \\
    --reason 'column widened, DEPLOY-812' --execute --wait
  highwater dead-letters redrives --group fraud-rules-v2
  highwater dead-letters redrive --cancel 17 --reason 'too much for the database'";

/// Apply open and parked dead letters once more, by the group's own workers
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(flatten)]
    filter: FilterArguments,

    #[command(flatten)]
    why: ReasonArguments,

    #[command(flatten)]
    confirm: ConfirmArguments,

    /// So many go first, and the rest only once all of these are applied
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    canary: i64,

    /// No more than so many a second, by all workers together
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    rate: Option<i64>,

    /// No more than so many of those that fit, in the order of topic, partition and offset
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    max: Option<i64>,

    /// Begin no more once so many were rejected again
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(i64).range(1..))]
    stop_after: i64,

    /// Also where later records of a key were applied since, and may be overwritten
    #[arg(long)]
    ignore_order: bool,

    /// Wait until it has ended, and show how far it is; exit code 1 if some were rejected again or wait still, or it has
    /// not gone to its end. It goes on if this ends
    #[arg(long)]
    wait: bool,

    /// With --wait: at most for so long
    #[arg(long, value_name = "PnDTnHnMnS", default_value = "PT10M", value_parser = duration, requires = "wait")]
    timeout: Duration,

    /// End this redrive instead: what was not applied by then is open, as before. With --group (or HIGHWATER_GROUP) only
    /// one of that group
    #[arg(long, value_name = "ID", conflicts_with_all = ["kinds", "since", "until", "key", "ids", "topics", "all_topics", "canary", "rate", "max", "ignore_order", "dry_run", "wait"])]
    cancel: Option<i64>,
}

/// As JSON.
#[derive(Debug, Serialize)]
struct Said {
    executed: bool,
    found: Vec<Redrivable>,
    redrives: Vec<RedriveStatus>,
}

pub(super) async fn run(arguments: &Arguments) -> Result<String> {
    if let Some(id) = arguments.cancel {
        return cancel(arguments, id).await;
    }
    arguments.confirm.check()?;
    arguments.why.check()?;
    let mut offsets = arguments.filter.operator.connect().await?;
    let actor = arguments.why.who.actor(&mut offsets).await?;
    let how = Redrive::by(actor, arguments.why.reason())
        .canary(arguments.canary)
        .per_second(arguments.rate)
        .max(arguments.max)
        .stop_after(arguments.stop_after)
        .ignore_order(arguments.ignore_order);
    let (mut filters, mut found, mut shown) = (Vec::new(), Vec::new(), String::new());
    for filter in arguments.filter.filters(&mut offsets).await? {
        let filter = offsets.as_of_now(filter).await?.redrivable();
        shown += &kinds(&mut offsets, &filter).await?;
        let counted = offsets.redrivable(&filter, arguments.ignore_order).await?;
        shown += &not_eligible(&counted);
        shown += &maybe_twice(&counted);
        found.push(counted);
        filters.push(filter);
    }
    let all: i64 = found.iter().map(|found| found.records).sum();
    let wanted = arguments.max.map_or(all, |max| found.iter().map(|found| found.records.min(max)).sum());
    let executed =
        wanted > 0 && arguments.confirm.is_meant(&shown, &format!("Redrive {}?", records(wanted)))?;
    let mut redrives = Vec::new();
    if executed {
        for filter in &filters {
            redrives.extend(offsets.redrive(filter, &how).await?);
        }
        if arguments.wait {
            for redrive in &mut redrives {
                *redrive = wait(&mut offsets, redrive.id, arguments.timeout).await?;
            }
        }
    }
    let text = if arguments.filter.operator.json {
        json(&Said { executed, found: found.clone(), redrives: redrives.clone() })?
    } else if wanted == 0 {
        format!("{shown}no open dead letters fit that are eligible\n")
    } else if !executed {
        format!("{shown}{} would be redriven; nothing was done\n", records(wanted))
    } else {
        format!("{shown}{}", table(&redrives))
    };
    // It was asked for, and nothing of what waits can be.
    let refused: i64 = found.iter().flat_map(|one| &one.not_eligible).map(|one| one.records).sum();
    if arguments.wait && wanted == 0 && refused > 0 {
        show(&text)?;
        let said = format!("{} wait, and none of them is eligible", records(refused));
        return Err(Error::new(ErrorKind::Difference, said));
    }
    if arguments.wait
        && let Some(ill) = redrives.iter().find(|redrive| !redrive.is_well())
    {
        show(&text)?;
        ill.check()?;
    }
    Ok(text)
}

async fn cancel(arguments: &Arguments, id: i64) -> Result<String> {
    arguments.why.check()?;
    let mut offsets = arguments.filter.operator.connect().await?;
    // A mistyped number must not end another group's.
    if let Some(named) = arguments.filter.groups.named(&arguments.filter.operator)? {
        let group = offsets.redrive_status(id).await?.group;
        if !named.contains(&group) {
            let named = named.join(", ");
            return Err(usage(format!("redrive {id} is of group {group}, not of {named}: nothing was done")));
        }
    }
    let actor = arguments.why.who.actor(&mut offsets).await?;
    let (status, executed) = offsets.cancel_redrive(id, &actor, arguments.why.reason()).await?;
    if arguments.filter.operator.json {
        return json(&Said { executed, found: Vec::new(), redrives: vec![status] });
    }
    let told =
        if executed { String::new() } else { format!("redrive {id} has ended before; nothing was done\n") };
    Ok(format!("{}{told}", table(&[status])))
}

async fn kinds(offsets: &mut Offsets, filter: &DeadLetterFilter) -> Result<String> {
    let kinds = offsets.dead_letter_kinds(filter).await?;
    let line = |kind: &highwater::offsets::DeadLetterKind| {
        format!("{} {}: {}: {}\n", kind.group, kind.kind, records(kind.records), kind.reason)
    };
    Ok(kinds.iter().map(line).collect())
}

fn not_eligible(found: &Redrivable) -> String {
    let line = |one: &highwater::offsets::NotEligible| {
        format!("{}: not eligible, {}: {}\n", found.group, records(one.records), one.why)
    };
    found.not_eligible.iter().map(line).collect()
}

fn maybe_twice(found: &Redrivable) -> String {
    if found.maybe_twice == 0 {
        return String::new();
    }
    format!(
        "{}: {} may have rows already, from before a move back without --undo-rows: redriven, they may be there twice. \
         Discard those that have\n",
        found.group,
        records(found.maybe_twice)
    )
}

async fn wait(offsets: &mut Offsets, id: i64, limit: Duration) -> Result<RedriveStatus> {
    let mut progress = Progress::new("records");
    let number = |count: i64| u64::try_from(count).unwrap_or_default();
    let mut watch = |status: &RedriveStatus| {
        let done = number(status.records - status.waiting);
        progress.show((done, number(status.records)), format!("redrive {id}"), || {
            let unheld = match status.unheld {
                0 => String::new(),
                unheld => format!(", {unheld} of partitions that no live worker holds (halted, paused, or nobody is there)"),
            };
            let why =
                status.why.as_ref().map_or_else(String::new, |why| format!("; {}", why.replace('\n', " ")));
            format!(
                "redrive {id}: {} of {} redriven, {} rejected again, {} left ({} gone, {} not eligible, {} behind another), \
                 {} wait{unheld}{why}",
                status.redriven,
                status.records,
                status.failed,
                status.gone + status.ineligible + status.behind,
                status.gone,
                status.ineligible,
                status.behind,
                status.waiting
            )
        });
    };
    offsets.await_redrive(id, limit, &mut watch).await
}
