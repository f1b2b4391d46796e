//! What is collected while partitions are compared: differences, and what can be judged only when everything was seen.

use std::collections::BTreeMap;

use super::options::Expect;
use super::report::{Difference, DifferenceKind};

/// Up to so many records without a row are too few for a program that makes rows of some records only.
const FEW: u64 = 10;

/// A place in a topic.
#[derive(Debug, Clone, Copy)]
pub(super) struct Where<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: i32,
}

impl Where<'_> {
    /// A difference there.
    pub(super) fn differs(
        self,
        kind: DifferenceKind,
        table: Option<&str>,
        (offset, to): (i64, Option<i64>),
        text: impl Into<String>,
    ) -> Difference {
        Difference {
            kind,
            table: table.map(str::to_owned),
            topic: Some(self.topic.to_owned()),
            partition: Some(self.partition),
            offset: Some(offset),
            to,
            text: text.into(),
        }
    }
}

/// Differences, and counts of what proves nothing by itself.
#[derive(Debug)]
pub(super) struct Findings {
    /// How many of each kind are kept.
    named: usize,
    pub(super) differences: Vec<Difference>,
    pub(super) counts: BTreeMap<DifferenceKind, u64>,
    /// One per table.
    pub(super) tables: Vec<TableFindings>,
    /// Claims over whose offsets others have gone, too, where records were not read.
    pub(super) uncounted: usize,
    pub(super) notes: Vec<String>,
}

/// What was seen of a table's rows.
#[derive(Debug, Default)]
pub(super) struct TableFindings {
    /// Records that were applied and read again, and have a value.
    pub(super) with_value: Lacking,
    /// Those without: tombstones.
    pub(super) tombstones: Lacking,
    /// By the counts of claims, where records were not read.
    pub(super) counted: Lacking,
    /// Rows beyond the first that moves back explain.
    pub(super) repeated: u64,
    /// Records with rows that Kafka does not hold any more.
    pub(super) compacted: u64,
    /// Rows before the group's start, or at or past where it stands, that another consumer may have written.
    pub(super) of_others: u64,
    /// Records with several rows, of a time of which nothing is known any more.
    pub(super) unknown: u64,
    /// Rows ahead that a move back has left there.
    pub(super) to_be_repeated: u64,
    /// Rows that say of no record that they are its.
    pub(super) of_nothing: u64,
}

/// Records that were applied, and those among them that have no row.
#[derive(Debug, Default)]
pub(super) struct Lacking {
    pub(super) applied: u64,
    pub(super) lacking: u64,
    /// The first of them.
    pub(super) named: Vec<Difference>,
    /// How many runs they are, of records that follow each other; and the longest.
    pub(super) runs: u64,
    pub(super) longest: u64,
    run: u64,
}

impl Lacking {
    /// A record that has a row.
    pub(super) fn present(&mut self) {
        self.applied += 1;
        self.run = 0;
    }

    /// A record that has none; `named`: the first ones are to be named.
    pub(super) fn absent(&mut self, limit: usize, name: impl FnOnce() -> Difference) {
        self.applied += 1;
        self.lacking += 1;
        self.run += 1;
        self.runs += u64::from(self.run == 1);
        self.longest = self.longest.max(self.run);
        if self.named.len() < limit {
            self.named.push(name());
        }
    }

    /// Records do not follow each other from one partition to the next.
    pub(super) fn end_run(&mut self) {
        self.run = 0;
    }

    fn merge(&mut self, other: Self) {
        self.applied += other.applied;
        self.lacking += other.lacking;
        self.runs += other.runs;
        self.longest = self.longest.max(other.longest);
        self.named.extend(other.named);
        self.named.sort_by(|a, b| (&a.topic, a.partition, a.offset).cmp(&(&b.topic, b.partition, b.offset)));
    }

    fn is_few(&self) -> bool {
        let Self { applied, lacking, .. } = *self;
        lacking * 4 < applied && (lacking <= FEW || lacking * 100 <= applied)
    }
}

impl Findings {
    pub(super) fn new(named: usize, tables: usize) -> Self {
        Self {
            named,
            differences: Vec::new(),
            counts: BTreeMap::new(),
            tables: (0..tables).map(|_| TableFindings::default()).collect(),
            uncounted: 0,
            notes: Vec::new(),
        }
    }

    pub(super) fn named(&self) -> usize {
        self.named
    }

    /// Counts a difference; the first of its kind are kept.
    pub(super) fn add(&mut self, difference: Difference) {
        self.add_many(difference, 1);
    }

    /// As [`add`](Self::add), one that stands for several.
    pub(super) fn add_many(&mut self, difference: Difference, times: u64) {
        let kept = self.differences.iter().filter(|one| one.kind == difference.kind).count();
        *self.counts.entry(difference.kind).or_default() += times;
        if kept < self.named {
            self.differences.push(difference);
        }
    }

    pub(super) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// When all partitions were seen: whether a record without a row lacks one, or makes none.
    pub(super) fn judge(&mut self, names: &[String], expect: Expect) {
        if self.uncounted > 0 && !self.tables.is_empty() {
            self.note(format!(
                "others have gone over the offsets of {} claims, too (a move back, for instance): whether each record of these \
                 has its row is compared by --deep alone",
                self.uncounted
            ));
        }
        for (table, name) in std::mem::take(&mut self.tables).into_iter().zip(names) {
            self.judge_table(table, name, expect);
        }
    }

    fn judge_table(&mut self, table: TableFindings, name: &str, expect: Expect) {
        let TableFindings { mut with_value, tombstones, counted, .. } = table;
        // Not one tombstone has a row: that is what the program makes of them.
        let made_of_none =
            tombstones.lacking == tombstones.applied && with_value.lacking < with_value.applied;
        if made_of_none && expect != Expect::EveryRecord {
            if tombstones.applied > 0 {
                let count = tombstones.applied;
                self.note(format!(
                    "{name}: {count} records without a value (tombstones) have no row, and none has"
                ));
            }
        } else {
            with_value.merge(tombstones);
        }
        self.judge_lacking(DifferenceKind::MissingRow, with_value, name, expect);
        self.judge_lacking(DifferenceKind::MissingRows, counted, name, expect);
        let mut note = |count: u64, text: &str| {
            if count > 0 {
                self.notes.push(format!("{name}: {count} {text}"));
            }
        };
        note(table.repeated, "rows more than records: moves back that are on record explain them");
        note(table.to_be_repeated, "rows of records that a move back has left to be applied again");
        note(table.compacted, "records with rows are not in Kafka any more: their topic is compacted");
        note(table.of_others, "rows of records that another consumer may have applied");
        note(table.unknown, "records with several rows, of a time of which nothing is known any more");
        note(table.of_nothing, "rows that name no record (NULL)");
    }

    fn judge_lacking(&mut self, kind: DifferenceKind, found: Lacking, name: &str, expect: Expect) {
        if found.lacking == 0 {
            return;
        }
        let Lacking { applied, lacking, runs, longest, ref named, .. } = found;
        let is_difference = match expect {
            Expect::EveryRecord => true,
            Expect::SomeRecords => false,
            Expect::Unsaid => found.is_few(),
        };
        if is_difference {
            *self.counts.entry(kind).or_default() += lacking;
            let kept = self.differences.iter().filter(|one| one.kind == kind).count();
            let room = self.named.saturating_sub(kept);
            self.differences.extend(found.named.into_iter().take(room));
            if expect == Expect::Unsaid {
                self.note(format!(
                    "{name}: {lacking} of {applied} records that were applied have no row, so few that they count as \
                     differences; say --some-records if the program makes no row of some"
                ));
            }
            return;
        }
        let first = named.first().map(place).unwrap_or_default();
        let runs = match kind {
            DifferenceKind::MissingRow if runs > 1 => format!(", in {runs} runs of {longest} at most"),
            DifferenceKind::MissingRow => ", all in a row".to_owned(),
            _ => String::new(),
        };
        let hint = match expect {
            Expect::Unsaid => "; if it makes one of every record, these are missing: say --every-record",
            _ => "",
        };
        self.note(format!(
            "{name}: {lacking} of {applied} records that were applied have no row, the first {first}{runs}: the program \
             makes rows of some records only{hint}"
        ));
    }
}

fn place(difference: &Difference) -> String {
    let text = difference.to_string();
    text.split_once(' ')
        .map_or(text.clone(), |(_, rest)| rest.split(" in ").next().unwrap_or(rest).to_owned())
}
