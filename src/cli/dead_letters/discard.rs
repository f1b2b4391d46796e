//! `highwater dead-letters discard`.

use clap::Args;
use highwater::Result;
use highwater::offsets::{DeadLetterState, Discard};
use serde::Serialize;

use super::{FilterArguments, ReasonArguments, records};
use crate::cli::confirm::ConfirmArguments;
use crate::cli::operator::json;

/// Decide that open dead letters will not be applied
///
/// Counts first, by kind. What is parked behind them (`park_key`) was not rejected, and stays: redrive it. Who did it and
/// why is kept with each. The records are deleted with the rest of the history, when they are older than
/// `history_retention`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    filter: FilterArguments,

    /// Also what is parked behind others of its key, and was not rejected itself
    #[arg(long)]
    parked: bool,

    #[command(flatten)]
    why: ReasonArguments,

    #[command(flatten)]
    confirm: ConfirmArguments,
}

/// As JSON.
#[derive(Debug, Serialize)]
struct Discarded {
    executed: bool,
    kinds: Vec<Kind>,
    records: u64,
    /// What fits as well, and stays: it was not rejected itself.
    parked: i64,
}

#[derive(Debug, Serialize)]
struct Kind {
    group: String,
    kind: String,
    records: i64,
    reason: String,
}

pub(super) async fn run(arguments: &Arguments) -> Result<String> {
    arguments.confirm.check()?;
    arguments.why.check()?;
    let mut offsets = arguments.filter.operator.connect().await?;
    let actor = arguments.why.who.actor(&mut offsets).await?;
    let how = Discard::by(&actor, arguments.why.reason()).with_parked(arguments.parked);
    let (mut filters, mut kinds, mut parked) = (Vec::new(), Vec::new(), 0);
    for filter in arguments.filter.filters(&mut offsets).await? {
        let filter = offsets.as_of_now(filter).await?.states(Some(how.states()));
        kinds.extend(offsets.dead_letter_kinds(&filter).await?);
        if !arguments.parked {
            let behind = filter.clone().states(Some(vec![DeadLetterState::Parked]));
            parked += offsets.dead_letter_kinds(&behind).await?.iter().map(|kind| kind.records).sum::<i64>();
        }
        filters.push(filter);
    }
    let found: i64 = kinds.iter().map(|kind| kind.records).sum();
    let mut shown = String::new();
    for kind in &kinds {
        shown += &format!("{} {}: {}: {}\n", kind.group, kind.kind, records(kind.records), kind.reason);
    }
    let question = format!("Discard {}?", records(found));
    let executed = found > 0 && arguments.confirm.is_meant(&shown, &question)?;
    let mut discarded = 0;
    if executed {
        for filter in &filters {
            discarded += offsets.discard_dead_letters(filter, how).await?;
        }
    }
    if arguments.filter.operator.json {
        let kind = |kind: highwater::offsets::DeadLetterKind| Kind {
            group: kind.group,
            kind: kind.kind,
            records: kind.records,
            reason: kind.reason,
        };
        let records = if executed { discarded } else { u64::try_from(found).unwrap_or_default() };
        return json(&Discarded { executed, kinds: kinds.into_iter().map(kind).collect(), records, parked });
    }
    // Whoever does not know of them leaves their keys waiting for ever.
    let stays = match parked {
        0 => String::new(),
        parked => format!(
            "{} parked behind others of their keys: not rejected, and left; redrive them, or discard them with --parked\n",
            records(parked)
        ),
    };
    if found == 0 {
        return Ok(format!("no open dead letters fit\n{stays}"));
    }
    if executed {
        let count = records(i64::try_from(discarded).unwrap_or(i64::MAX));
        return Ok(format!("{shown}{count} discarded\n{stays}"));
    }
    Ok(format!("{shown}{} would be discarded; nothing was done\n{stays}", records(found)))
}
