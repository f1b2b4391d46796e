//! A partition from 10 to 90: two claims, a skip between them; and one defect at a time.

use super::super::ledger::chain;
use super::super::ledger::tests::{claim, event, history, known};
use super::super::options::Expect;
use super::super::records::Extent;
use super::*;

fn rules() -> Vec<TableRules> {
    vec![TableRules { name: "sink".to_owned(), append: true, undone: true, shared: false }]
}

fn steps() -> Vec<Step> {
    let start = event(1, "start", None, Some(10), 0);
    let skip = event(2, "skip", Some(40), Some(45), 20);
    // 60 is a marker: the second claim has applied one record less than it has offsets.
    let second = Claim { records: 44, ..claim(3, 45, 90, 21, None) };
    chain(history(vec![claim(1, 10, 40, 10, Some(20)), second], vec![start, skip], 90), known())
}

/// How many rows an offset has.
fn whole(offset: i64) -> u64 {
    u64::from((10..40).contains(&offset) || ((45..90).contains(&offset) && offset != 60))
}

struct Case {
    deep: bool,
    /// Behind it no record could be read.
    read_to: Option<i64>,
    expect: Expect,
    compacted: bool,
    several_rows: bool,
    tombstones: fn(i64) -> bool,
}

const PLAIN: Case = Case {
    deep: true,
    read_to: None,
    expect: Expect::Unsaid,
    compacted: false,
    several_rows: false,
    tombstones: |_| false,
};

impl Case {
    /// What is found: kind, offset, how many; and the notes.
    fn found(&self, rows: impl Fn(i64) -> u64, dead: impl Fn(i64) -> Option<Dead>) -> (String, Vec<String>) {
        let (steps, rules) = (steps(), rules());
        let coverage = Coverage::new(&steps);
        let mut findings = Findings::new(10, 1);
        let facts = Facts {
            place: Where { topic: "t", partition: 0 },
            next_offset: 90,
            compacted: self.compacted,
            several_rows: self.several_rows,
        };
        let mut comparison = Comparison::new(facts, (&steps, &coverage), &rules, &mut findings);
        for offset in 0..100 {
            let seen = match offset {
                _ if !self.deep || offset >= self.read_to.unwrap_or(90) => Seen::Unread,
                60 => Seen::Nothing,
                33 if self.compacted => Seen::Nothing,
                _ => Seen::Record { tombstone: (self.tombstones)(offset) },
            };
            comparison.visit(&At { offset, seen, rows: &[rows(offset)], dead: dead(offset) });
        }
        comparison.finish(self.deep.then_some(Extent { from: 0, to: self.read_to }));
        findings.judge(&["sink".to_owned()], self.expect);
        let mut told: Vec<String> = findings
            .differences
            .iter()
            .map(|found| format!("{} {}", found.kind, found.offset.unwrap_or_default()))
            .collect();
        let total: u64 = findings.counts.values().sum();
        if total > u64::try_from(told.len()).unwrap_or_default() {
            told.push(format!("{total} in all"));
        }
        (told.join(", "), findings.notes)
    }
}

#[test]
fn a_whole_table_differs_in_nothing() {
    for deep in [true, false] {
        for expect in [Expect::Unsaid, Expect::EveryRecord, Expect::SomeRecords] {
            let case = Case { deep, expect, ..PLAIN };
            assert_eq!(case.found(whole, |_| None), (String::new(), Vec::new()), "{deep} {expect:?}");
        }
    }
}

#[test]
fn each_defect_is_found_by_its_name_and_nothing_else_is() {
    let found = |at: i64, rows: u64| {
        PLAIN.found(move |offset| if offset == at { rows } else { whole(offset) }, |_| None).0
    };
    assert_eq!(found(20, 0), "missing_row 20");
    assert_eq!(found(20, 2), "doubled_row 20");
    assert_eq!(found(60, 1), "row_without_record 60");
    assert_eq!(found(90, 1), "row_ahead 90");
    assert_eq!(found(9, 1), "row_before_start 9");
    assert_eq!(found(42, 1), "row_stepped_over 42");
    let shallow = Case { deep: false, ..PLAIN };
    let found = |at: i64, rows: u64| {
        shallow.found(move |offset| if offset == at { rows } else { whole(offset) }, |_| None).0
    };
    assert_eq!(found(20, 0), "missing_rows 10");
    assert_eq!(found(20, 2), "doubled_row 20");
    assert_eq!(found(60, 1), "surplus_rows 45");
    assert_eq!(found(90, 1), "row_ahead 90");
}

#[test]
fn what_could_not_be_read_is_compared_by_its_counts() {
    let found = |read_to: i64, at: i64, rows: u64| {
        let case = Case { read_to: Some(read_to), ..PLAIN };
        case.found(move |offset| if offset == at { rows } else { whole(offset) }, |_| None).0
    };
    // In the middle of the second claim: what was read of it is looked at by name, and there is no count of the rest.
    assert_eq!(found(70, 20, 1), "");
    assert_eq!(found(70, 20, 0), "missing_row 20");
    assert_eq!(found(70, 50, 0), "missing_row 50");
    assert_eq!(found(70, 80, 0), "");
    assert_eq!(found(70, 80, 2), "doubled_row 80");
    assert_eq!(found(70, 90, 1), "row_ahead 90");
    // Before it began.
    assert_eq!(found(45, 80, 0), "missing_rows 45");
    assert_eq!(found(45, 60, 1), "surplus_rows 45");
    assert_eq!(found(0, 20, 0), "missing_rows 10");
}

#[test]
fn a_filter_is_no_defect_unless_every_record_makes_a_row() {
    let half = |offset: i64| if offset % 2 == 0 { whole(offset) } else { 0 };
    for deep in [true, false] {
        let (told, notes) = Case { deep, ..PLAIN }.found(half, |_| None);
        assert_eq!(told, "");
        assert!(
            notes[0].contains("rows of some records only") && notes[0].contains("--every-record"),
            "{notes:?}"
        );
        let strict = Case { deep, expect: Expect::EveryRecord, ..PLAIN };
        let (told, _) = strict.found(half, |_| None);
        assert!(told.ends_with("38 in all"), "{told}");
    }
    let one = |offset: i64| if offset == 20 { 0 } else { whole(offset) };
    let (told, notes) = Case { expect: Expect::SomeRecords, ..PLAIN }.found(one, |_| None);
    assert_eq!(told, "");
    assert!(notes[0].contains("the first t[0]@20"), "{notes:?}");
}

#[test]
fn tombstones_that_make_no_row_are_no_defect() {
    let tombstones = |offset: i64| offset % 10 == 3;
    let none = move |offset: i64| if tombstones(offset) { 0 } else { whole(offset) };
    let case = Case { tombstones, ..PLAIN };
    let (told, notes) = case.found(none, |_| None);
    assert_eq!((told.as_str(), notes.len()), ("", 1), "{notes:?}");
    let but_one = move |offset: i64| if offset == 53 { 1 } else { none(offset) };
    assert_eq!(
        case.found(but_one, |_| None).0,
        "missing_row 13, missing_row 23, missing_row 33, missing_row 63, \
        missing_row 73, missing_row 83"
    );
    let strict = Case { expect: Expect::EveryRecord, ..case };
    assert!(strict.found(none, |_| None).0.starts_with("missing_row 13"));
}

#[test]
fn dead_letters_make_no_row_until_they_are_redriven() {
    let none = |offset: i64| if offset == 20 { 0 } else { whole(offset) };
    let with_one = |offset: i64| if offset == 42 { 1 } else { whole(offset) };
    let twice = |offset: i64| if offset == 20 { 2 } else { whole(offset) };
    let letter = |at: i64, state: DeadState, by_worker: bool| {
        move |offset: i64| (offset == at).then_some(Dead { state, by_worker })
    };
    let (waiting, discarded, redriven) = (DeadState::Waiting, DeadState::Discarded, DeadState::Redriven);
    for deep in [true, false] {
        let case = Case { deep, expect: Expect::EveryRecord, ..PLAIN };
        for state in [waiting, discarded] {
            assert_eq!(case.found(none, letter(20, state, true)).0, "", "{state:?}");
        }
        // Either a row or a dead letter; but somebody may have written by hand what he has discarded.
        assert!(case.found(whole, letter(20, waiting, true)).0.starts_with("row_of_dead_letter 20"));
        assert_eq!(case.found(whole, letter(20, discarded, true)).0, "");
        // Redriven is applied: once, and not twice, nor not at all.
        assert_eq!(case.found(whole, letter(20, redriven, true)).0, "");
        assert!(case.found(twice, letter(20, redriven, true)).0.starts_with("doubled_row 20"));
        let lost = case.found(none, letter(20, redriven, true)).0;
        assert!(lost.starts_with("missing_row"), "{lost}");
        // What a person has skipped, and was applied after all.
        assert_eq!(case.found(with_one, letter(42, redriven, false)).0, "");
        assert_eq!(case.found(with_one, letter(42, waiting, false)).0, "row_stepped_over 42");
    }
}

#[test]
fn what_compaction_took_is_no_defect() {
    let (told, notes) = Case { compacted: true, ..PLAIN }.found(whole, |_| None);
    assert_eq!(told, "");
    assert!(notes[0].contains("1 records with rows are not in Kafka any more"), "{notes:?}");
}

#[test]
fn several_rows_are_many_only_where_one_is_made() {
    let many = |offset: i64| whole(offset) * 3;
    assert!(PLAIN.found(many, |_| None).0.contains("74 in all"));
    let (told, notes) = Case { several_rows: true, ..PLAIN }.found(many, |_| None);
    assert_eq!((told, notes), (String::new(), Vec::new()));
}
