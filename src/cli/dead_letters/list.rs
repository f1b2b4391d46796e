//! `highwater dead-letters list`.

use clap::Args;
use highwater::Result;
use highwater::offsets::DeadLetterKind;

use super::{FilterArguments, StateArguments, records};
use crate::cli::operator::{json, or_dash};
use crate::cli::table::Table;

/// Show what kinds of dead letters there are; with --records, each of them
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    filter: FilterArguments,

    #[command(flatten)]
    states: StateArguments,

    /// Show each record instead of the kinds, oldest first
    #[arg(long)]
    records: bool,

    /// With --records: how many
    #[arg(long, value_name = "N", default_value_t = 100, requires = "records")]
    limit: i64,

    /// With --records: those behind this number, as to see the next so many
    #[arg(long, value_name = "ID", default_value_t = 0, requires = "records")]
    after: i64,
}

pub(super) async fn run(arguments: &Arguments) -> Result<String> {
    let mut offsets = arguments.filter.operator.connect().await?;
    let filters = arguments.filter.filters(&mut offsets).await?;
    let (mut kinds, mut letters) = (Vec::new(), Vec::new());
    for filter in filters {
        let filter = arguments.states.of(filter);
        if arguments.records {
            letters.extend(offsets.dead_letters(&filter, arguments.after, arguments.limit).await?);
        } else {
            kinds.extend(offsets.dead_letter_kinds(&filter).await?);
        }
    }
    if !arguments.records {
        return if arguments.filter.operator.json { json(&kinds) } else { Ok(of_kinds(&kinds)) };
    }
    if arguments.filter.operator.json {
        return json(&letters);
    }
    let mut table =
        Table::new(&["ID", "TOPIC", "PARTITION", "OFFSET", "KIND", "STATE", "ATTEMPTS", "LAST", "WHY"]);
    for letter in letters {
        table.row(vec![
            letter.id.to_string(),
            letter.topic,
            letter.partition.to_string(),
            letter.offset.to_string(),
            letter.kind,
            letter.state,
            letter.attempts.to_string(),
            letter.last_at,
            match (letter.omitted_bytes, letter.kept) {
                (Some(bytes), _) => format!("{} ({bytes} bytes, in its topic only)", letter.reason),
                (None, false) => format!("{} (its content is not kept any more)", letter.reason),
                (None, true) => letter.reason,
            },
        ]);
    }
    Ok(table.to_string())
}

fn of_kinds(kinds: &[DeadLetterKind]) -> String {
    let (Some(first), Some(last)) =
        (kinds.iter().map(|kind| &kind.first_at).min(), kinds.iter().map(|kind| &kind.last_at).max())
    else {
        return "no dead letters\n".to_owned();
    };
    let count = if kinds.len() == 1 { "1 kind".to_owned() } else { format!("{} kinds", kinds.len()) };
    let all = records(kinds.iter().map(|kind| kind.records).sum());
    let mut table = Table::new(&["GROUP", "KIND", "RECORDS", "FIRST", "LAST", "TOPICS", "SQLSTATE", "WHY"]);
    for kind in kinds {
        table.row(vec![
            kind.group.clone(),
            kind.kind.clone(),
            kind.records.to_string(),
            kind.first_at.clone(),
            kind.last_at.clone(),
            kind.topics.join(","),
            or_dash(kind.sqlstate.as_ref()),
            kind.reason.clone(),
        ]);
    }
    format!("{count}, {all}, first {first}, last {last}\n{table}")
}
