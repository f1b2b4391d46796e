//! `highwater offsets describe`.

use std::fmt::Write as _;

use clap::Args;
use highwater::Result;
use highwater::offsets::{Description, Line, Lines};

use crate::cli::operator::{GroupArguments, OperatorArguments, SelectionArguments, json, or_dash};
use crate::cli::table::Table;

const AFTER_HELP: &str = "\
NEXT-OFFSET is the truth, by Postgres; MIRRORED is its copy in Kafka, which may be behind, and is
ahead only where the group was moved back and no worker has mirrored that yet. LAG counts offsets,
LAG-S is the age of the next record in seconds. CLASS says how it is doing, by its trajectory
(docs/health.md). STATE is what the owner has reported last, and what is to be said of it, dead
letters that wait among it (since when the oldest does, and what becomes of the next one); `paused` and `halted` are an operator's, or an error's, whose words follow;
`released`: nobody holds it; `dead`: its owner has stopped beating. Without brokers, ends are those
that the workers have reported.

Examples:
  highwater offsets describe --group fraud-rules-v2
  highwater offsets describe --all-groups --only-with-lag
  highwater offsets describe --group fraud-rules-v2 --members
  highwater offsets describe --group fraud-rules-v2 --json | jq '.[0].partitions[] | select(.lag > 0)'";

/// Show where a group stands: committed, log end, lag, owner, state and why
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(flatten)]
    operator: OperatorArguments,

    #[command(flatten)]
    groups: GroupArguments,

    #[command(flatten)]
    selection: SelectionArguments,

    /// Show who is at work instead: live workers, and members as Kafka knows them
    #[arg(long, conflicts_with = "state")]
    members: bool,

    /// Show each group in one line instead
    #[arg(long)]
    state: bool,

    /// Leave out partitions that have nothing to apply
    #[arg(long)]
    only_with_lag: bool,

    /// Show claims and commits, too
    #[arg(long)]
    verbose: bool,
}

pub(super) async fn run(arguments: &Arguments) -> Result<String> {
    let mut offsets = arguments.operator.connect().await?;
    let lines = if arguments.only_with_lag { Lines::OnlyWithLag } else { Lines::All };
    let selection = arguments.selection.or_all();
    let mut described = Vec::new();
    for group in arguments.groups.groups(&arguments.operator, &mut offsets).await? {
        described.push(offsets.describe(&group, &selection, lines).await?);
    }
    if arguments.operator.json {
        return json(&described);
    }
    Ok(if arguments.members {
        members(&described)
    } else if arguments.state {
        states(&described)
    } else {
        partitions(&described, arguments.verbose)
    })
}

fn partitions(described: &[Description], verbose: bool) -> String {
    let mut header = vec![
        "GROUP",
        "TOPIC",
        "PARTITION",
        "NEXT-OFFSET",
        "LOG-END-OFFSET",
        "LAG",
        "LAG-S",
        "OWNER",
        "HOST",
        "EPOCH",
        "SINCE-COMMIT",
        "MIRRORED",
    ];
    if verbose {
        header.extend(["CLAIMED", "COMMITTED"]);
    }
    header.extend(["CLASS", "STATE"]);
    let mut table = Table::new(&header);
    for description in described {
        for line in &description.partitions {
            table.row(cells(&description.group, line, verbose));
        }
    }
    table.to_string()
}

fn cells(group: &str, line: &Line, verbose: bool) -> Vec<String> {
    let seconds = |seconds: Option<f64>| or_dash(seconds.map(|seconds| format!("{seconds:.1}")));
    let mut cells = vec![
        group.to_owned(),
        line.topic.clone(),
        line.partition.to_string(),
        line.next_offset.to_string(),
        or_dash(line.log_end_offset),
        or_dash(line.lag),
        seconds(line.lag_seconds),
        or_dash(line.owner.as_deref()),
        or_dash(line.host.as_deref()),
        line.epoch.to_string(),
        seconds(line.seconds_since_commit),
        or_dash(line.mirrored_offset),
    ];
    if verbose {
        cells.extend([or_dash(line.claimed_at.as_deref()), or_dash(line.committed_at.as_deref())]);
    }
    cells.push(or_dash(line.class));
    let reason = line.reason.as_ref().filter(|_| line.class.is_some_and(|class| class.severity() > 0));
    let state = match line.detail.as_ref().or(reason) {
        Some(detail) => format!("{}: {}", line.state, detail.replace('\n', " ")),
        None => line.state.clone(),
    };
    cells.push(state + &letters(line).unwrap_or_default());
    cells
}

/// What of its records waits as dead letters, and what becomes of the next one.
fn letters(line: &Line) -> Option<String> {
    let letters = line.dead_letters.as_ref().filter(|letters| letters.count() > 0)?;
    let states: Vec<String> =
        letters.states.iter().map(|(state, count)| format!("{count} {state}")).collect();
    // A halted one has said what becomes of it.
    let policy = match line.on_rejected.as_deref().filter(|_| line.state != "halted") {
        Some("dead_letter") => "; the next one is set aside, too",
        Some("park_key") => "; the next one is set aside, too, and what comes of its key",
        Some("halt") => "; the next one halts",
        _ => "",
    };
    let since = letters.since.as_deref().unwrap_or("?");
    Some(format!("; dead letters: {}, since {since}{policy}", states.join(", ")))
}

fn members(described: &[Description]) -> String {
    let mut text = String::new();
    for Description { group, activity, asked_kafka, .. } in described {
        // Writing to a string can't fail, here and below.
        let _ = writeln!(text, "group {group}");
        for worker in &activity.workers {
            let _ = writeln!(text, "  {worker}");
        }
        for member in &activity.members {
            let _ = writeln!(text, "  {member}");
        }
        if activity.is_at_rest() {
            let _ = writeln!(text, "  nobody is at work");
        }
        if !asked_kafka {
            let _ = writeln!(text, "  (Kafka was not asked, or has not answered: members are missing)");
        }
    }
    text
}

fn states(described: &[Description]) -> String {
    let mut table = Table::new(&["GROUP", "STATE", "PARTITIONS", "LAG", "STILL", "WORKERS", "MEMBERS"]);
    for Description { group, partitions, activity, .. } in described {
        let still = partitions.iter().filter(|line| matches!(&*line.state, "paused" | "halted")).count();
        let state = match (still, activity.is_at_rest()) {
            (0, false) => "running",
            (_, false) => "standing still in part",
            (_, true) => "at rest",
        };
        let lag: Option<i64> = partitions.iter().map(|line| line.lag).sum();
        table.row(vec![
            group.clone(),
            state.to_owned(),
            partitions.len().to_string(),
            or_dash(lag),
            still.to_string(),
            activity.workers.len().to_string(),
            activity.members.len().to_string(),
        ]);
    }
    table.to_string()
}
