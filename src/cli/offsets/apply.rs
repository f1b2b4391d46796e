//! `highwater offsets apply`.

use std::time::Duration;

use clap::Args;
use highwater::Result;
use highwater::offsets::{ApplyOptions, Obeyed, Offsets, Plan};

use super::plan::table;
use super::reset::hint;
use super::undo;
use crate::cli::operator::{ActorArguments, OperatorArguments, json};

/// How long workers are waited for: twice what they have.
const PATIENCE: Duration = Duration::from_secs(4);

/// Move what a plan says, once
///
/// A plan that was applied is shown and moves nothing, so that it is safe to press twice. A partition that does not
/// stand where the plan saw it makes the plan stale (exit code 1), and nothing is moved: with --live it may have gone on
/// by commits, but not by somebody else's reset.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    operator: OperatorArguments,

    /// The plan's number
    #[arg(value_name = "PLAN")]
    plan: i64,

    #[command(flatten)]
    actor: ActorArguments,

    /// While workers run
    #[arg(long)]
    live: bool,

    /// How many rows of a table one transaction undoes, for a plan that undoes rows
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    portion: i64,
}

pub(super) async fn run(arguments: &Arguments) -> Result<String> {
    let mut offsets = arguments.operator.connect().await?;
    let actor = arguments.actor.actor(&mut offsets).await?;
    let options = ApplyOptions::by(actor).live(arguments.live).portion(arguments.portion);
    let applied = undo::apply(&mut offsets, arguments.plan, &options).await.map_err(hint)?;
    if applied.before {
        let by = applied.plan.applied_by.as_deref().unwrap_or("somebody");
        eprintln!("plan {} was applied before, by {by}: nothing was moved now", arguments.plan);
    } else {
        for line in obeyed(&mut offsets, &applied.plan).await? {
            eprintln!("{line}");
        }
    }
    if arguments.operator.json {
        return json(&applied);
    }
    Ok(table(std::slice::from_ref(&applied.plan)))
}

/// Waits for the workers, if there are any, and says who has not obeyed yet.
pub(super) async fn obeyed(offsets: &mut Offsets, plan: &Plan) -> Result<Vec<String>> {
    let Some(id) = plan.id else { return Ok(Vec::new()) };
    let mut orders = offsets.orders_of(id).await?;
    wait(offsets, &plan.group, &mut orders).await
}

pub(in crate::cli) async fn wait(
    offsets: &mut Offsets,
    group: &str,
    orders: &mut [Obeyed],
) -> Result<Vec<String>> {
    if orders.is_empty() || offsets.live_workers(group).await?.is_empty() {
        return Ok(Vec::new());
    }
    offsets.await_obeyed(group, orders, PATIENCE).await?;
    let late = orders.iter().filter(|order| order.obeyed_at.is_none());
    Ok(late
        .map(|order| {
            format!(
                "warning: no worker has taken note of it for {}:{} yet; it holds all the same, and nothing of before can \
                 commit",
                order.topic, order.partition
            )
        })
        .collect())
}
