//! What holds of every verdict, over all places and classes.

use super::*;
use crate::backoff::Backoff;
use std::time::Duration;

pub(super) const SEEN: Seen = Seen {
    partitions: 1,
    records: 1,
    times: 1,
    singles: 1,
    narrowed: false,
    named: false,
    suspected: false,
    alone: true,
    limit: 3,
};

const DATA: [Place; 4] = [Place::Statement, Place::CopyRow, Place::CompareAndSet, Place::Commit];
const ELSEWHERE: [Place; 6] =
    [Place::Connect, Place::Begin, Place::Fetch, Place::Join, Place::Metadata, Place::Question];
const CLASSES: [Class; 9] = [
    Class::Environment,
    Class::Lost,
    Class::OwnTimeout,
    Class::Reject,
    Class::RetryThenHalt,
    Class::Bug,
    Class::Privilege,
    Class::Halt,
    Class::Authentication,
];

fn every_seen() -> impl Iterator<Item = Seen> {
    let bools = [false, true];
    let counts = [1, 2, PATIENT, RETRIES, LOSSES, 100];
    [1, 2, 12].into_iter().flat_map(move |partitions| {
        [1, 2, 500].into_iter().flat_map(move |records| {
            counts.into_iter().flat_map(move |times| {
                counts.into_iter().flat_map(move |singles| {
                    bools.into_iter().flat_map(move |narrowed| {
                        [(false, false), (true, false), (true, true)].into_iter().flat_map(
                            move |(named, suspected)| {
                                bools.into_iter().map(move |alone| Seen {
                                    partitions,
                                    records,
                                    times,
                                    singles: singles.min(times),
                                    narrowed,
                                    named,
                                    suspected,
                                    alone,
                                    limit: 3,
                                })
                            },
                        )
                    })
                })
            })
        })
    })
}

#[test]
fn connecting_and_beginning_blame_neither_a_record_nor_a_handler() {
    for place in ELSEWHERE {
        for class in CLASSES {
            for seen in every_seen() {
                let found = judge(place, class, &seen);
                assert_eq!(found, verdict(Who::Surroundings, Act::Wait), "{place:?} {class:?}");
            }
        }
    }
}

#[test]
fn no_range_halts_that_can_be_narrowed() {
    for place in DATA {
        for class in CLASSES.into_iter().filter(|class| *class != Class::Halt) {
            for seen in every_seen() {
                let verdict = judge(place, class, &seen);
                assert_ne!(verdict.act, Act::Halt, "{place:?} {class:?} {seen:?}");
                if verdict.act == Act::Name {
                    assert!(seen.named || (seen.records == 1 && seen.partitions == 1), "{class:?} {seen:?}");
                    assert!(!seen.is_in_company(), "a suspect must fail alone: {class:?} {seen:?}");
                }
            }
        }
    }
}

#[test]
fn nothing_is_tried_for_ever_at_the_same_size() {
    let lost_with_others = CLASSES.into_iter().map(|class| (class, true)).chain([(Class::Lost, false)]);
    for (class, alone) in lost_with_others {
        for records in [2, 3, 500, 50_000] {
            let backoff = Backoff::new(Duration::from_millis(1), Duration::from_secs(1));
            let mut memory = Memory::new(records, backoff);
            memory.separate();
            let mut tries = 0;
            loop {
                tries += 1;
                let size = memory.alone().unwrap();
                let mut seen = Seen { records: size, alone, ..SEEN };
                memory.failed(7, class, &mut seen);
                match judge(Place::Statement, class, &seen).act {
                    Act::Wait if size == 1 && tries < 200 => {}
                    Act::Wait if size == 1 => {
                        let passing = [Class::Environment, Class::Authentication].contains(&class) || !alone;
                        assert!(passing, "{class:?} waits for ever for one record");
                        break;
                    }
                    Act::Wait => assert!(tries < 100, "{class:?} waits for ever with {size} records"),
                    Act::Halve => memory.halve(size),
                    Act::Isolate => memory.isolate(size / 3),
                    Act::Name => {
                        assert_eq!(size, 1, "{class:?}");
                        break;
                    }
                    Act::Halt => {
                        assert_eq!(class, Class::Halt);
                        break;
                    }
                    other => panic!("{class:?}: {other:?}"),
                }
            }
            assert!(tries < 250, "{class:?}: {tries} tries for {records} records");
        }
    }
}

/// A right that is missing is nobody's data, be it found at whichever record.
#[test]
fn a_missing_right_is_the_configurations() {
    for place in DATA {
        for seen in every_seen() {
            let verdict = judge(place, Class::Privilege, &seen);
            assert_eq!(verdict.who, Who::Configuration, "{place:?} {seen:?}");
            assert!(!may_be_set_aside(place, Class::Privilege, verdict, Some("42501")), "{place:?} {seen:?}");
        }
    }
}

/// The trouble of one partition is its own: a batch of several is taken apart before anything else is concluded.
#[test]
fn a_batch_of_several_partitions_is_taken_apart() {
    for class in CLASSES {
        let seen = Seen { partitions: 2, records: 10, ..SEEN };
        assert_eq!(judge(Place::Statement, class, &seen).act, Act::Apart, "{class:?}");
    }
    let seen = Seen { partitions: 2, records: 10, named: true, ..SEEN };
    assert_eq!(judge(Place::CopyRow, Class::Reject, &seen).act, Act::Name);
}

#[test]
fn a_session_that_others_lost_too_says_nothing_of_the_batch() {
    let seen = Seen { times: 100, singles: 100, alone: false, ..SEEN };
    assert_eq!(judge(Place::Statement, Class::Lost, &seen), verdict(Who::Surroundings, Act::Wait));
    let several = Seen { partitions: 3, records: 500, times: 1, ..seen };
    assert_eq!(judge(Place::Statement, Class::Lost, &several).act, Act::Wait, "the lane waits as it is");
    let again = Seen { times: LOSSES, ..several };
    assert_eq!(
        judge(Place::Statement, Class::Lost, &again).act,
        Act::Apart,
        "a record may end the whole server"
    );
    let seen = Seen { alone: true, ..seen };
    assert_eq!(judge(Place::Statement, Class::Lost, &seen), verdict(Who::Record, Act::Name));
}

/// Only what is in the record itself, by somebody's word who has looked at it; whatever else is named halts.
#[test]
fn only_records_faults_may_be_set_aside() {
    for place in DATA.into_iter().chain(ELSEWHERE) {
        for class in CLASSES {
            for seen in every_seen() {
                let verdict = judge(place, class, &seen);
                for sqlstate in [None, Some("23514"), Some("22003"), Some("XX000"), Some("26000")] {
                    let aside = may_be_set_aside(place, class, verdict, sqlstate);
                    if aside {
                        assert_eq!(
                            (verdict.who, verdict.act),
                            (Who::Record, Act::Name),
                            "{place:?} {class:?}"
                        );
                    }
                    let expected = verdict.act == Act::Name
                        && matches!(place, Place::Statement | Place::CopyRow | Place::Commit)
                        && (class == Class::Reject
                            || class == Class::RetryThenHalt && sqlstate == Some("23514"));
                    assert_eq!(aside, expected, "{place:?} {class:?} {sqlstate:?} {verdict:?}");
                }
            }
        }
    }
}
