//! One partition: what is at each offset, against its history. Pure; offsets come in their order, from wherever.

use super::coverage::{Coverage, Segment, UNKNOWN};
use super::findings::{Findings, Where};
use super::ledger::{Claim, Step};
use super::report::DifferenceKind as Kind;
use super::report::RowCount;

/// How a table's rows may be judged.
#[derive(Debug, Clone)]
pub(super) struct TableRules {
    pub(super) name: String,
    /// A row for every time that its record is applied; else rows are left out or replaced.
    pub(super) append: bool,
    /// Rows are undone with the offsets.
    pub(super) undone: bool,
    /// Another group writes it, too.
    pub(super) shared: bool,
}

/// What Kafka has at an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// It was not read.
    Unread,
    /// No record: a marker, one that was aborted, or one that is gone.
    Nothing,
    Record {
        tombstone: bool,
    },
}

/// What has become of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dead {
    /// It was applied after all.
    Redriven,
    /// It was not.
    Waiting,
}

/// An offset at which there is something.
#[derive(Debug, Clone)]
pub(super) struct At<'a> {
    pub(super) offset: i64,
    pub(super) seen: Seen,
    /// How many rows, one per table.
    pub(super) rows: &'a [u64],
    pub(super) dead: Option<Dead>,
}

/// How much was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    Nothing,
    Part,
    Whole,
}

/// Of a segment.
#[derive(Debug, Clone, Default)]
struct Tally {
    records: u64,
    /// Records with rows, one per table.
    with_rows: Vec<u64>,
    waiting: u64,
    redriven: u64,
}

/// What is known of the partition beside its history.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) place: Where<'a>,
    pub(super) next_offset: i64,
    /// Records may have gone from the middle of the log.
    pub(super) compacted: bool,
    pub(super) several_rows: bool,
}

/// Compares one partition.
pub(super) struct Comparison<'a> {
    facts: Facts<'a>,
    steps: &'a [Step],
    coverage: &'a Coverage,
    tables: &'a [TableRules],
    findings: &'a mut Findings,
    tallies: Vec<Tally>,
    segment: usize,
    pub(super) rows: Vec<RowCount>,
    pub(super) dead_letters: u64,
    pub(super) records: u64,
}

/// How many records with rows there are per claim, and how many Kafka has.
pub(super) struct ClaimCount {
    pub(super) records: u64,
    pub(super) with_rows: Vec<u64>,
    waiting: u64,
    redriven: u64,
}

impl<'a> Comparison<'a> {
    pub(super) fn new(
        facts: Facts<'a>,
        (steps, coverage): (&'a [Step], &'a Coverage),
        tables: &'a [TableRules],
        findings: &'a mut Findings,
    ) -> Self {
        let empty = Tally { with_rows: vec![0; tables.len()], ..Tally::default() };
        Self {
            facts,
            steps,
            coverage,
            tables,
            findings,
            tallies: vec![empty; coverage.segments.len()],
            segment: 0,
            rows: vec![RowCount::default(); tables.len()],
            dead_letters: 0,
            records: 0,
        }
    }

    /// Offsets must rise.
    pub(super) fn visit(&mut self, at: &At<'_>) {
        let coverage = self.coverage;
        while coverage.segments[self.segment].to <= at.offset && self.segment + 1 < coverage.segments.len() {
            self.segment += 1;
        }
        let segment = &coverage.segments[self.segment];
        let is_applied = at.offset < self.facts.next_offset;
        let tally = &mut self.tallies[self.segment];
        tally.waiting += u64::from(at.dead == Some(Dead::Waiting));
        tally.redriven += u64::from(at.dead == Some(Dead::Redriven));
        self.dead_letters += u64::from(at.dead.is_some());
        if matches!(at.seen, Seen::Record { .. }) && is_applied {
            tally.records += 1;
            self.records += 1;
        }
        for (table, &rows) in at.rows.iter().enumerate() {
            if rows > 0 {
                self.tallies[self.segment].with_rows[table] += 1;
                let count = &mut self.rows[table];
                count.rows += rows;
                count.records += 1;
                count.end = Some(at.offset + 1);
                self.row(at, table, segment);
            }
            if let Seen::Record { tombstone } = at.seen
                && is_applied
                && segment.min > 0
                && self.tables[table].append
                && at.dead != Some(Dead::Waiting)
            {
                self.record(at.offset, table, segment, tombstone, rows > 0);
            }
        }
    }

    /// A record of which there are rows.
    fn row(&mut self, at: &At<'_>, table: usize, segment: &Segment) {
        let (rules, place) = (&self.tables[table], self.facts.place);
        let rows = at.rows[table];
        let mut max = if rules.undone { segment.max } else { segment.max_kept };
        if at.dead == Some(Dead::Redriven) {
            max = max.saturating_add(1);
        }
        let name = Some(rules.name.as_str());
        let counted = &mut self.findings.tables[table];
        if max == 0 {
            let next = self.facts.next_offset;
            let (kind, why) = if at.offset >= next {
                (Kind::RowAhead, format!("the group stands at {next}, and nobody is on record for it"))
            } else if let Some(adopted) = segment.before_start {
                if adopted {
                    counted.of_others += rows;
                    return;
                }
                (Kind::RowBeforeStart, format!("the group began at {}", segment.to))
            } else {
                let how = segment.stepped_over.as_deref().unwrap_or("undo");
                (Kind::RowSteppedOver, format!("it was stepped over ({how}), and not applied since"))
            };
            if rules.shared && kind != Kind::RowSteppedOver {
                counted.of_others += rows;
                return;
            }
            self.findings.add(place.differs(kind, name, (at.offset, None), why));
            return;
        }
        if at.offset >= self.facts.next_offset {
            counted.to_be_repeated += rows;
        }
        if rules.append && !self.facts.several_rows && rows > u64::from(max) {
            let applied = if max == 1 { "once".to_owned() } else { format!("{max} times at most") };
            let text = format!("{rows} rows, and the record was applied {applied}");
            self.findings.add(place.differs(Kind::DoubledRow, name, (at.offset, None), text));
        } else if rules.append && rows > 1 && max == UNKNOWN {
            counted.unknown += 1;
        } else if rules.append && !self.facts.several_rows {
            counted.repeated += rows - 1;
        }
        if at.seen == Seen::Nothing && at.offset < self.facts.next_offset {
            if self.facts.compacted {
                self.findings.tables[table].compacted += 1;
            } else {
                // It is told by itself, and counts for no record of its claim.
                self.tallies[self.segment].with_rows[table] -= 1;
                let text = "Kafka has no record there that a reader of the group would be given";
                self.findings.add(place.differs(Kind::RowWithoutRecord, name, (at.offset, None), text));
            }
        }
    }

    /// A record that was applied, for good.
    fn record(&mut self, offset: i64, table: usize, segment: &Segment, tombstone: bool, has_row: bool) {
        let limit = self.findings.named();
        let found = &mut self.findings.tables[table];
        let found = if tombstone { &mut found.tombstones } else { &mut found.with_value };
        if has_row {
            return found.present();
        }
        let (place, name) = (self.facts.place, self.tables[table].name.as_str());
        let claim = segment.claims.last().map(|claim| &self.steps[self.coverage.claims[*claim].1]);
        found.absent(limit, || {
            let what = if tombstone { "the tombstone" } else { "the record" };
            let who = match claim {
                Some(Step::Claim(claim)) => {
                    format!(" under claim {} of {}", claim.epoch, claim.owner.as_deref().unwrap_or("nobody"))
                }
                _ => String::new(),
            };
            let text = format!("{what} was applied{who}, and has no row");
            place.differs(Kind::MissingRow, Some(name), (offset, None), text)
        });
    }

    /// When everything was visited: what claims have counted against what there is. `read`: from where on records were
    /// read; none: they were not.
    pub(super) fn finish(mut self, read: Option<i64>) -> (Vec<ClaimCount>, Vec<RowCount>) {
        let counts: Vec<ClaimCount> =
            (0..self.coverage.claims.len()).map(|claim| self.count(claim)).collect();
        for (claim, counted) in counts.iter().enumerate() {
            let (range, place) = &self.coverage.claims[claim];
            let Step::Claim(told) = &self.steps[*place] else { continue };
            if self.coverage.is_alone(claim) {
                let was_read = match read {
                    Some(from) if from <= range.start && !self.facts.compacted => Extent::Whole,
                    Some(from) if from < range.end => Extent::Part,
                    _ => Extent::Nothing,
                };
                self.claim(told, counted, was_read);
            }
        }
        for table in &mut self.findings.tables {
            table.with_value.end_run();
            table.tombstones.end_run();
        }
        (counts, self.rows)
    }

    fn count(&self, claim: usize) -> ClaimCount {
        let mut sum =
            ClaimCount { records: 0, with_rows: vec![0; self.tables.len()], waiting: 0, redriven: 0 };
        for place in self.coverage.places_of(claim) {
            // What a claim has stepped over is not its.
            if !self.coverage.segments[place].claims.contains(&claim) {
                continue;
            }
            let tally = &self.tallies[place];
            sum.records += tally.records;
            sum.waiting += tally.waiting;
            sum.redriven += tally.redriven;
            for (sum, more) in sum.with_rows.iter_mut().zip(&tally.with_rows) {
                *sum += more;
            }
        }
        sum
    }

    /// `was_read`: how much of its range, so that rows have been compared with their records.
    fn claim(&mut self, told: &Claim, counted: &ClaimCount, was_read: Extent) {
        let place = self.facts.place;
        let range = (told.from, Some(told.to));
        let applied = u64::try_from(told.records).unwrap_or_default();
        let who = told.owner.as_deref().unwrap_or("nobody");
        if counted.records > applied + counted.waiting {
            let text = format!(
                "claim {} of {who} has applied {applied} records, and Kafka holds {} of its range",
                told.epoch, counted.records
            );
            self.findings.add(place.differs(Kind::NotApplied, None, range, text));
        }
        if was_read == Extent::Whole {
            return;
        }
        for (table, &with_rows) in counted.with_rows.iter().enumerate() {
            let rules = &self.tables[table];
            let name = Some(rules.name.as_str());
            let most = applied + counted.redriven + counted.waiting;
            if with_rows > most && !rules.shared {
                let text = format!(
                    "claim {} of {who} has applied {applied} records, and {with_rows} have rows",
                    told.epoch
                );
                self.findings.add_many(place.differs(Kind::SurplusRows, name, range, text), with_rows - most);
            }
            // Where the records were read, those that are left have been looked at.
            if !rules.append || was_read != Extent::Nothing {
                continue;
            }
            let lacking = applied.saturating_sub(with_rows + counted.waiting);
            let limit = self.findings.named();
            let found = &mut self.findings.tables[table].counted;
            found.applied += applied;
            found.lacking += lacking;
            if lacking > 0 && found.named.len() < limit {
                let text = format!(
                    "claim {} of {who} has applied {applied} records, and {with_rows} have rows: --deep names them",
                    told.epoch
                );
                found.named.push(place.differs(Kind::MissingRows, name, range, text));
            }
        }
    }
}

#[cfg(test)]
mod tests;
