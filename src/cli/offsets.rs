//! `highwater offsets`.

mod adopt;
mod apply;
mod copy;
mod delete;
mod describe;
mod events;
mod export;
mod list;
mod mappings;
mod plan;
mod reset;
mod table;
mod undo;

use clap::{Args, Subcommand};
use highwater::Result;

use super::DatabaseArguments;
pub(super) use apply::wait;

const AFTER_HELP: &str = "\
The flags of `kafka-consumer-groups.sh` mean the same here. What is different: the offsets are
those in Postgres; a move is a plan with an id, so that nothing is moved twice; and with --live
it is made while the workers run.

Without a verb, `highwater offsets --group NAME` shows what Postgres knows and asks nobody else.
NEXT-OFFSET follows Kafka's convention: the next record to apply, 4204 when 4203 is done. OWNER
is the process that holds the partition, `-` when it was released. EPOCH counts the claims.
CLAIMED and COMMITTED are UTC times of the database. STATE is what the owner reported last. A
partition that an operator paused shows the reason.

Examples:
  highwater offsets list
  highwater offsets describe --group fraud-rules-v2 --only-with-lag
  highwater offsets reset --group fraud-rules-v2 --topic payments:3 --shift-by -100 --dry-run
  highwater offsets reset --group fraud-rules-v2 --topic payments:3 --shift-by -100 --execute --live
  HIGHWATER_GROUP=fraud-rules-v2 watch highwater offsets
  highwater offsets --group fraud-rules-v2 --json | jq '.[].next_offset'";

/// See and move where groups stand in Postgres: list, describe, reset, plan, apply, copy, adopt, export, events, ...
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,

    #[command(flatten)]
    database: DatabaseArguments,

    /// The consumer group [env: HIGHWATER_GROUP]
    #[arg(long, value_name = "NAME")]
    group: Option<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(list::Arguments),
    Describe(describe::Arguments),
    Reset(reset::Arguments),
    Import(reset::ImportArguments),
    Plan(plan::Arguments),
    Plans(plan::ListArguments),
    Apply(apply::Arguments),
    Delete(delete::Arguments),
    ForgetTopic(delete::ForgetArguments),
    Adopt(adopt::Arguments),
    Copy(copy::Arguments),
    Export(export::Arguments),
    Events(events::Arguments),
    Mappings(mappings::Arguments),
}

pub(crate) async fn run(arguments: &Arguments) -> Result<String> {
    match &arguments.verb {
        None => table::run(&arguments.database, arguments.group.as_deref(), arguments.json).await,
        Some(Verb::List(arguments)) => list::run(arguments).await,
        Some(Verb::Describe(arguments)) => describe::run(arguments).await,
        Some(Verb::Reset(arguments)) => reset::run(arguments).await,
        Some(Verb::Import(arguments)) => reset::import(arguments).await,
        Some(Verb::Plan(arguments)) => plan::run(arguments).await,
        Some(Verb::Plans(arguments)) => plan::list(arguments).await,
        Some(Verb::Apply(arguments)) => apply::run(arguments).await,
        Some(Verb::Delete(arguments)) => delete::run(arguments).await,
        Some(Verb::ForgetTopic(arguments)) => delete::forget(arguments).await,
        Some(Verb::Adopt(arguments)) => adopt::run(arguments).await,
        Some(Verb::Copy(arguments)) => copy::run(arguments).await,
        Some(Verb::Export(arguments)) => export::run(arguments).await,
        Some(Verb::Events(arguments)) => events::run(arguments).await,
        Some(Verb::Mappings(arguments)) => mappings::run(arguments).await,
    }
}
