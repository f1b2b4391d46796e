//! One partition: what is at each offset, against its history. Pure; offsets come in their order, from wherever.

use super::coverage::{Coverage, Segment, UNKNOWN};
use super::findings::{Findings, Where};
use super::ledger::{Claim, Step};
use super::records;
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

/// A dead letter, superseded ones left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dead {
    pub(super) state: DeadState,
    /// A batch has stored it, and counts it among the records that it has applied; else a person has stepped over it.
    pub(super) by_worker: bool,
}

/// What has become of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeadState {
    /// It was applied after all.
    Redriven,
    /// It was not: it is open, parked or queued.
    Waiting,
    /// Nor will it be; what it says may have been written by hand.
    Discarded,
}

impl Dead {
    /// The group has not applied it, although a claim counts it.
    fn is_counted(self) -> bool {
        self.by_worker && self.state != DeadState::Redriven
    }
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
    dead: Letters,
}

/// Dead letters.
#[derive(Debug, Clone, Copy, Default)]
struct Letters {
    /// Those that a claim counts, and that were not applied.
    counted: u64,
    /// Of these, those that can have no row.
    waiting: u64,
    /// Those that people have stepped over: no claim counts them.
    of_people: u64,
}

impl Letters {
    fn add(&mut self, dead: Dead) {
        self.counted += u64::from(dead.is_counted());
        self.waiting += u64::from(dead.is_counted() && dead.state == DeadState::Waiting);
        self.of_people += u64::from(!dead.by_worker);
    }
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
    dead: Letters,
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
        if let Some(dead) = at.dead {
            tally.dead.add(dead);
            self.dead_letters += 1;
        }
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
                && at.dead.is_none_or(|dead| dead.state == DeadState::Redriven)
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
        // One that a person has stepped over was applied once more than the claims say; one that a batch has stored, once
        // less as long as it waits. What of one was redriven, its claim has counted.
        let mut is_letter = false;
        match at.dead {
            Some(Dead { state: DeadState::Redriven, by_worker: false }) => max = max.saturating_add(1),
            Some(Dead { state: DeadState::Waiting, by_worker: true }) if max > 0 && max != UNKNOWN => {
                max -= 1;
                is_letter = max == 0;
            }
            _ => {}
        }
        let name = Some(rules.name.as_str());
        let counted = &mut self.findings.tables[table];
        if max == 0 {
            let next = self.facts.next_offset;
            let (kind, why) = if is_letter {
                (Kind::RowOfDeadLetter, "the record waits as a dead letter, and was never applied".to_owned())
            } else if at.offset >= next {
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
            if is_letter {
                // It is told by itself, and counts for no record of its claim.
                self.tallies[self.segment].with_rows[table] -= 1;
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

    /// When everything was visited: what claims have counted against what there is. `read`: which records were read; none:
    /// they were not.
    pub(super) fn finish(mut self, read: Option<records::Extent>) -> (Vec<ClaimCount>, Vec<RowCount>) {
        let counts: Vec<ClaimCount> =
            (0..self.coverage.claims.len()).map(|claim| self.count(claim)).collect();
        for (claim, counted) in counts.iter().enumerate() {
            let (range, place) = &self.coverage.claims[claim];
            let Step::Claim(told) = &self.steps[*place] else { continue };
            if self.coverage.is_alone(claim) {
                let was_read = match read {
                    Some(read) if read.covers(range) && !self.facts.compacted => Extent::Whole,
                    Some(read) if read.touches(range) => Extent::Part,
                    _ => Extent::Nothing,
                };
                self.claim(told, counted, was_read);
            }
        }
        if read.is_none() {
            self.findings.uncounted +=
                (0..counts.len()).filter(|&claim| !self.coverage.is_alone(claim)).count();
        }
        for table in &mut self.findings.tables {
            table.with_value.end_run();
            table.tombstones.end_run();
        }
        (counts, self.rows)
    }

    fn count(&self, claim: usize) -> ClaimCount {
        let mut sum =
            ClaimCount { records: 0, with_rows: vec![0; self.tables.len()], dead: Letters::default() };
        for place in self.coverage.places_of(claim) {
            // What a claim has stepped over is not its.
            if !self.coverage.segments[place].claims.contains(&claim) {
                continue;
            }
            let tally = &self.tallies[place];
            sum.records += tally.records;
            sum.dead.counted += tally.dead.counted;
            sum.dead.waiting += tally.dead.waiting;
            sum.dead.of_people += tally.dead.of_people;
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
        let dead = counted.dead;
        if counted.records > applied + dead.of_people {
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
            let most = (applied + dead.of_people).saturating_sub(dead.waiting);
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
            let lacking = applied.saturating_sub(with_rows + dead.counted);
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
