//! `highwater reconcile`.

use std::fmt::Write as _;

use clap::Args;
use highwater::offsets::{
    Difference, Expect, LedgerRange, ReconcileOptions, ReconcileProgress, Reconciliation, TableChoice,
    UnreadPartition,
};
use highwater::{Error, ErrorKind, Result};

use super::operator::{GroupArguments, OperatorArguments, SelectionArguments, json, or_dash, show};
use super::progress::Progress;
use super::table::Table;

const AFTER_HELP: &str = "\
Nothing is changed, and a fleet may run meanwhile. Exit code 1: something differs, and the first
of each kind are named; 70: some partition could not be read, and of it nothing is proven. Without --deep nothing is read from the topics: rows, offsets, claims and
moves are compared with each other. With it, every record of the topics is looked for in the
tables, and every row in the topics; keys and values are not kept.

Whether a record without a row lacks one, or is one that the program makes no row of, only its
author knows: --every-record or --some-records. Unless said, few (ten, or one in a hundred) are
differences, and many are a filter's work.

docs/reconcile.md says what each difference means, and what proves nothing.

Examples:
  highwater reconcile --group fraud-rules-v2
  highwater reconcile --group fraud-rules-v2 --deep --every-record
  highwater reconcile --group fraud-rules-v2 --table fraud_scores --topic payments:0,3 --ledger
  highwater reconcile --group fraud-rules-v2 --json | jq '.[0].difference_counts'";

/// Prove that nothing is missing and nothing is there twice: rows, offsets, the ledger of claims, and the topics
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    #[command(flatten)]
    operator: OperatorArguments,

    #[command(flatten)]
    groups: GroupArguments,

    #[command(flatten)]
    selection: SelectionArguments,

    /// A table that the group writes, as SQL reads its name; may be repeated [default: all that its programs have
    /// registered]
    #[arg(long = "table", value_name = "TABLE")]
    tables: Vec<String>,

    /// The column of --table that holds a row's topic [default: as registered, or source_topic]
    #[arg(long, value_name = "COLUMN", requires = "tables")]
    topic_column: Option<String>,

    /// The column of --table that holds a row's partition [default: as registered, or source_partition]
    #[arg(long, value_name = "COLUMN", requires = "tables")]
    partition_column: Option<String>,

    /// The column of --table that holds a row's offset [default: as registered, or source_offset]
    #[arg(long, value_name = "COLUMN", requires = "tables")]
    offset_column: Option<String>,

    /// Read the topics again, and compare record by record
    #[arg(long)]
    deep: bool,

    /// Every record makes a row: one that has none is missing
    #[arg(long, conflicts_with = "some_records")]
    every_record: bool,

    /// Some records make no row: none is missing
    #[arg(long)]
    some_records: bool,

    /// A record may make several rows: none is too many
    #[arg(long)]
    several_rows: bool,

    /// Show who applied which offsets, and every move
    #[arg(long)]
    ledger: bool,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<String> {
    let mut offsets = arguments.operator.connect().await?;
    let mut all = Vec::new();
    for group in arguments.groups.groups(&arguments.operator, &mut offsets).await? {
        let mut shown = Progress::new("offsets");
        let mut tell = |progress: ReconcileProgress<'_>| {
            let ReconcileProgress { topic, partition, done, total, .. } = progress;
            let line =
                || format!("group {group}: {done} of {total} offsets compared, now in {topic}[{partition}]");
            shown.show((done, total), format!("{topic}[{partition}]"), line);
        };
        all.push(offsets.reconcile(&group, &arguments.options(), &mut tell).await?);
    }
    let text = if arguments.operator.json {
        json(&all)?
    } else {
        all.iter().map(|found| told(found, arguments.ledger)).collect()
    };
    let count: u64 = all.iter().map(Reconciliation::difference_count).sum();
    let unread: Vec<&UnreadPartition> = all.iter().flat_map(|found| &found.unread).collect();
    if count == 0 && unread.is_empty() {
        return Ok(text);
    }
    show(&text)?;
    if count > 0 {
        let plural = if count == 1 { "difference" } else { "differences" };
        let text = format!("{count} {plural}; docs/reconcile.md says what each means");
        return Err(Error::new(ErrorKind::Difference, text));
    }
    let text = match *unread {
        [one] => format!("nothing is proven of a partition that could not be read: {one}"),
        _ => format!("nothing is proven of {} partitions that could not be read", unread.len()),
    };
    Err(Error::new(ErrorKind::Kafka, text))
}

impl Arguments {
    fn options(&self) -> ReconcileOptions {
        let expect = match (self.every_record, self.some_records) {
            (true, _) => Expect::EveryRecord,
            (_, true) => Expect::SomeRecords,
            _ => Expect::Unsaid,
        };
        let tables = self.tables.iter().map(|name| {
            TableChoice::new(name)
                .topic_column(self.topic_column.clone())
                .partition_column(self.partition_column.clone())
                .offset_column(self.offset_column.clone())
        });
        ReconcileOptions::default()
            .tables(tables)
            .selection(self.selection.or_all())
            .deep(self.deep)
            .expect(expect)
            .several_rows(self.several_rows)
    }
}

fn told(found: &Reconciliation, with_ledger: bool) -> String {
    let mut text =
        format!("group {}, {}{}\n\n", found.group, found.at, if found.deep { ", deep" } else { "" });
    text.push_str(&partitions(found));
    if with_ledger {
        text.push('\n');
        text.push_str(&ledger(found));
    }
    // Writing to a string can't fail, here and below.
    if !found.differences.is_empty() {
        text.push('\n');
    }
    for (kind, count) in &found.difference_counts {
        let named: Vec<&Difference> = found.differences.iter().filter(|one| one.kind == *kind).collect();
        for difference in &named {
            let _ = writeln!(text, "{difference}");
        }
        let stands_for = u64::try_from(named.len()).unwrap_or_default();
        // A range is one line, and stands for many.
        let is_each = named.iter().all(|one| one.to.is_none());
        if is_each && *count > stands_for {
            let _ = writeln!(text, "{kind}: and {} more", count - stands_for);
        }
    }
    if !found.unread.is_empty() {
        text.push('\n');
    }
    for unread in &found.unread {
        let _ = writeln!(text, "could not be read: {unread}");
    }
    if !found.notes.is_empty() {
        text.push('\n');
    }
    for note in &found.notes {
        let _ = writeln!(text, "note: {note}");
    }
    if found.difference_count() == 0 {
        let text_of =
            |is_whole| if is_whole { "no difference" } else { "no difference in what could be read" };
        let _ = writeln!(text, "\n{}", text_of(found.unread.is_empty()));
    }
    text
}

fn partitions(found: &Reconciliation) -> String {
    let mut header =
        vec!["TOPIC", "PARTITION", "TABLE", "ROWS", "RECORDS", "MAX+1", "NEXT-OFFSET", "MIRRORED"];
    header.extend(["LOG-START", "LAST-STABLE", "LOG-END", "CLAIMS", "APPLIED", "DEAD", "STEPPED-OVER"]);
    if found.deep {
        header.push("IN-KAFKA");
    }
    let mut table = Table::new(&header);
    for partition in &found.partitions {
        let claims = partition.ledger.iter().filter_map(|range| range.applied_records);
        let (claims, applied) = claims.fold((0, 0), |(claims, sum), records| (claims + 1, sum + records));
        let names: Vec<Option<&str>> = match &*found.tables {
            [] => vec![None],
            tables => tables.iter().map(|table| Some(table.name.as_str())).collect(),
        };
        for (index, name) in names.into_iter().enumerate() {
            let rows = partition.rows.get(index);
            let mut cells = vec![
                partition.topic.clone(),
                partition.partition.to_string(),
                or_dash(name),
                or_dash(rows.map(|rows| rows.rows)),
                or_dash(rows.map(|rows| rows.records)),
                or_dash(rows.and_then(|rows| rows.end)),
                partition.next_offset.to_string(),
                or_dash(partition.mirrored_offset),
                or_dash(partition.log_start_offset),
                or_dash(partition.last_stable_offset),
                or_dash(partition.log_end_offset),
                claims.to_string(),
                applied.to_string(),
                partition.dead_letters.to_string(),
                partition.stepped_over.to_string(),
            ];
            if found.deep {
                cells.push(or_dash(partition.records));
            }
            table.row(cells);
        }
    }
    table.to_string()
}

fn ledger(found: &Reconciliation) -> String {
    let mut table = Table::new(&[
        "TOPIC",
        "PARTITION",
        "FROM",
        "TO",
        "WHAT",
        "EPOCH",
        "OWNER",
        "APPLIED",
        "BATCHES",
        "WITH-ROWS",
        "SINCE",
        "UNTIL",
        "WHY",
    ]);
    for partition in &found.partitions {
        for range in &partition.ledger {
            table.row(cells(&partition.topic, partition.partition, range));
        }
    }
    table.to_string()
}

fn cells(topic: &str, partition: i32, range: &LedgerRange) -> Vec<String> {
    let rows: Vec<String> = range.rows.iter().map(ToString::to_string).collect();
    let who = match (&range.owner, &range.instance_id) {
        (Some(owner), Some(instance)) => Some(format!("{owner} ({instance})")),
        (owner, _) => owner.clone(),
    };
    let why = match (&range.actor, &range.reason) {
        (Some(actor), Some(reason)) => Some(format!("{actor}: {}", reason.replace('\n', " "))),
        _ => None,
    };
    vec![
        topic.to_owned(),
        partition.to_string(),
        or_dash(range.from),
        or_dash(range.to),
        range.kind.as_str().to_owned(),
        or_dash(range.epoch),
        or_dash(who),
        or_dash(range.applied_records),
        or_dash(range.applied_batches),
        or_dash(Some(rows.join(",")).filter(|rows| !rows.is_empty())),
        or_dash(range.since.as_deref()),
        or_dash(range.until.as_deref()),
        or_dash(why),
    ]
}
