//! `highwater dead-letters`.

mod discard;
mod export;
mod list;
mod redrive;
mod redrives;
mod show;
mod stats;

use std::time::SystemTime;

use clap::{Args, Subcommand};
use highwater::Result;
use highwater::offsets::{DeadLetterFilter, DeadLetterState, Offsets};

use super::instant::instant;
use super::operator::{ActorArguments, GroupArguments, OperatorArguments, SelectionArguments, usage};

const AFTER_HELP: &str = "\
A dead letter is a record that was rejected and stored whole, in the transaction that stepped over
it: by a worker whose policy is `dead_letter` or `park_key`, or by `partitions skip`. Records with
one KIND have one trouble: the same handler, SQLSTATE, table, column and constraint, and the same
text. Under `park_key` later records of its key are parked behind it, and of its kind.

What is there can be looked at, exported, applied once more by the group's own workers (`redrive`,
once what was wrong is mended), and discarded.

Examples:
  highwater dead-letters list --group fraud-rules-v2
  highwater dead-letters list --group fraud-rules-v2 --kind a91f --records
  highwater dead-letters show 4711 --payload
  highwater dead-letters stats --group fraud-rules-v2 --state all --since 2026-04-25T03:00:00
  highwater dead-letters export --group fraud-rules-v2 --kind a91f --payload > letters.jsonl
  highwater dead-letters export --group fraud-rules-v2 --kind a91f --to-topic payments.dead
  highwater dead-letters redrive --group fraud-rules-v2 --kind a91f --reason 'DEPLOY-812' \\
    --execute --wait
  highwater dead-letters redrives --group fraud-rules-v2
  highwater dead-letters discard --group fraud-rules-v2 --kind a91f --reason 'INC-812' --dry-run";

/// See and decide about records that were rejected: list, stats, show, export, redrive, redrives, discard
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(list::Arguments),
    Stats(stats::Arguments),
    Show(show::Arguments),
    Export(export::Arguments),
    Redrive(redrive::Arguments),
    Redrives(redrives::Arguments),
    Discard(discard::Arguments),
}

pub(crate) async fn run(arguments: &Arguments) -> Result<String> {
    match &arguments.verb {
        Verb::List(arguments) => list::run(arguments).await,
        Verb::Stats(arguments) => stats::run(arguments).await,
        Verb::Show(arguments) => show::run(arguments).await,
        Verb::Export(arguments) => export::run(arguments).await,
        Verb::Redrive(arguments) => redrive::run(arguments).await,
        Verb::Redrives(arguments) => redrives::run(arguments).await,
        Verb::Discard(arguments) => discard::run(arguments).await,
    }
}

/// Which dead letters: the same for every verb, but for the states.
#[derive(Debug, Args)]
struct FilterArguments {
    #[command(flatten)]
    operator: OperatorArguments,

    #[command(flatten)]
    groups: GroupArguments,

    #[command(flatten)]
    selection: SelectionArguments,

    /// A kind, or the beginning of one; may be repeated
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<String>,

    /// Last stored at this instant or later: 2026-04-25T03:00:00, UTC unless it says otherwise
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    since: Option<SystemTime>,

    /// Last stored before this instant
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    until: Option<SystemTime>,

    /// Of records with this key
    #[arg(long, value_name = "TEXT")]
    key: Option<String>,

    /// Only this one, by its number in `list --records`; may be repeated
    #[arg(long = "id", value_name = "ID")]
    ids: Vec<i64>,
}

/// In which states.
#[derive(Debug, Args)]
struct StateArguments {
    /// open, parked, queued, redriven, discarded, superseded, or all; may be repeated [default: open, parked, queued]
    #[arg(long = "state", value_name = "STATE", value_parser = state)]
    states: Vec<State>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    All,
    One(DeadLetterState),
}

fn state(text: &str) -> std::result::Result<State, String> {
    if text == "all" { Ok(State::All) } else { text.parse().map(State::One) }
}

impl FilterArguments {
    /// One filter a group.
    async fn filters(&self, offsets: &mut Offsets) -> Result<Vec<DeadLetterFilter>> {
        if self.kinds.iter().any(String::is_empty) {
            return Err(usage(
                "--kind is empty: give the beginning of a kind, as `dead-letters list` shows it",
            ));
        }
        let groups = self.groups.groups(&self.operator, offsets).await?;
        let filter = |group: String| {
            DeadLetterFilter::new(group)
                .selection(self.selection.or_all())
                .kinds(self.kinds.iter().cloned())
                .since(self.since)
                .until(self.until)
                .key(self.key.as_ref().map(String::as_bytes))
                .ids(Some(self.ids.clone()).filter(|ids| !ids.is_empty()))
        };
        Ok(groups.into_iter().map(filter).collect())
    }
}

impl StateArguments {
    fn of(&self, filter: DeadLetterFilter) -> DeadLetterFilter {
        let one = |state: &State| match state {
            State::All => None,
            State::One(state) => Some(*state),
        };
        if self.states.is_empty() { filter } else { filter.states(self.states.iter().map(one).collect()) }
    }
}

/// Who decides, and why: nothing is decided without a reason.
#[derive(Debug, Args)]
struct ReasonArguments {
    #[command(flatten)]
    who: ActorArguments,

    /// Why: kept with each of them; needed, unless for a --dry-run
    #[arg(long, value_name = "TEXT", required_unless_present = "dry_run")]
    reason: Option<String>,
}

impl ReasonArguments {
    /// Refuses a reason that says nothing.
    fn check(&self) -> Result<()> {
        match &self.reason {
            Some(reason) if reason.trim().is_empty() => Err(usage("why? --reason is empty")),
            _ => Ok(()),
        }
    }

    /// Of a dry run there need be none: then it is empty.
    fn reason(&self) -> &str {
        self.reason.as_deref().unwrap_or_default()
    }
}

/// `409 records`.
fn records(count: i64) -> String {
    if count == 1 { "1 record".to_owned() } else { format!("{count} records") }
}
