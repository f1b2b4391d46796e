//! Burrow's own test sets, 0 to 15, of `core/internal/evaluator/caching_test.go` (Copyright 2017 LinkedIn Corp.,
//! Apache-2.0, <https://github.com/linkedin/Burrow>): its figures and what it expects of them, the rules one by one and
//! in their sequence, transcribed.

use super::*;

/// Offset, seconds, lag.
type Commits = &'static [(i64, i64, Option<i64>)];

struct Set {
    why: &'static str,
    commits: Commits,
    ends: &'static [i64],
    current_lag: i64,
    now: i64,
    allowed: i64,
    always_lag: bool,
    rewind: Option<usize>,
    stopped: bool,
    stalled: bool,
    never_falls: bool,
    recently_caught_up: bool,
    class: Class,
}

const RISING: Commits = &[
    (1000, 100, Some(0)),
    (2000, 200, Some(50)),
    (3000, 300, Some(100)),
    (4000, 400, Some(150)),
    (5000, 500, Some(200)),
];
const BEHIND: Commits = &[
    (1000, 100, Some(50)),
    (2000, 200, Some(100)),
    (3000, 300, Some(150)),
    (4000, 400, Some(200)),
    (5000, 500, Some(250)),
];
const STANDING: Commits = &[
    (1000, 100, Some(100)),
    (1000, 200, Some(150)),
    (1000, 300, Some(200)),
    (1000, 400, Some(250)),
    (1000, 500, Some(300)),
];
const BACK_AND_ON: Commits = &[
    (1000, 100, Some(100)),
    (2000, 200, Some(150)),
    (3000, 300, Some(200)),
    (2000, 400, Some(1250)),
    (4000, 500, Some(300)),
];

/// What most sets share.
const PLAIN: Set = Set {
    why: "",
    commits: RISING,
    ends: &[5200],
    current_lag: 200,
    now: 600,
    allowed: 0,
    always_lag: false,
    rewind: None,
    stopped: false,
    stalled: false,
    never_falls: true,
    recently_caught_up: false,
    class: Class::Ok,
};

fn sets() -> Vec<Set> {
    vec![
        Set { why: "0: no lag somewhere", ..PLAIN },
        Set {
            why: "1: 400 s without a commit are as long as the commits span, not longer",
            now: 900,
            ..PLAIN
        },
        Set { why: "2: now they are longer", now: 1000, stopped: true, class: Class::Stop, ..PLAIN },
        Set {
            why: "3: … also where there was always lag",
            commits: BEHIND,
            ends: &[5250],
            current_lag: 250,
            now: 1000,
            always_lag: true,
            stopped: true,
            class: Class::Stop,
            ..PLAIN
        },
        Set {
            why: "4: excused by the first commit, which had no lag",
            commits: &[
                (1000, 100, Some(0)),
                (1000, 200, Some(50)),
                (1000, 300, Some(100)),
                (1000, 400, Some(150)),
                (1000, 500, Some(200)),
            ],
            ends: &[1200],
            stalled: true,
            ..PLAIN
        },
        Set {
            why: "5: always the same offset, always lag",
            commits: STANDING,
            ends: &[1300],
            current_lag: 300,
            always_lag: true,
            stalled: true,
            class: Class::Stall,
            ..PLAIN
        },
        Set {
            why: "6: … also where the lag stays as it is",
            commits: &[
                (1000, 100, Some(100)),
                (1000, 200, Some(100)),
                (1000, 300, Some(100)),
                (1000, 400, Some(100)),
                (1000, 500, Some(100)),
            ],
            ends: &[1100],
            current_lag: 100,
            always_lag: true,
            stalled: true,
            class: Class::Stall,
            ..PLAIN
        },
        Set {
            why: "7: went back, and has come further since",
            commits: BACK_AND_ON,
            ends: &[4300],
            current_lag: 300,
            always_lag: true,
            rewind: Some(3),
            never_falls: false,
            ..PLAIN
        },
        Set {
            why: "8: no lag now, whatever the commits say",
            commits: BEHIND,
            ends: &[5250],
            current_lag: 0,
            now: 1000,
            always_lag: true,
            stopped: true,
            ..PLAIN
        },
        Set { why: "9: new records, and no commit since", class: Class::Stop, ..set_9_and_10() },
        Set {
            why: "10: … but it was caught up a moment ago",
            ends: &[792_748_094, 792_748_093, 792_748_093, 792_748_093],
            current_lag: 1,
            recently_caught_up: true,
            ..set_9_and_10()
        },
        Set {
            why: "11: as 0; lags that are not known change nothing",
            commits: &[
                (1000, 100, Some(0)),
                (1500, 150, None),
                (2000, 200, Some(50)),
                (2500, 250, None),
                (3000, 300, Some(100)),
                (3500, 350, None),
                (4000, 400, Some(150)),
                (4500, 450, None),
                (5000, 500, Some(200)),
                (5500, 550, None),
            ],
            ends: &[5700],
            ..PLAIN
        },
        Set {
            why: "12: a lag that is allowed is none",
            commits: &[(1000, 100, Some(2)), (2000, 200, Some(1)), (2000, 300, Some(1))],
            ends: &[2001],
            current_lag: 1,
            now: 550,
            allowed: 1,
            stopped: true,
            never_falls: false,
            ..PLAIN
        },
        Set {
            why: "13: as 5, with more lag than is allowed",
            commits: STANDING,
            ends: &[1300],
            current_lag: 300,
            allowed: 99,
            always_lag: true,
            stalled: true,
            class: Class::Stall,
            ..PLAIN
        },
        Set {
            why: "14: as 7, with more lag than is allowed",
            commits: BACK_AND_ON,
            ends: &[4300],
            current_lag: 300,
            allowed: 99,
            always_lag: true,
            rewind: Some(3),
            never_falls: false,
            ..PLAIN
        },
        Set {
            why: "15: went back, and has not come to where it was",
            commits: &[
                (1000, 100, Some(100)),
                (2000, 200, Some(150)),
                (3000, 300, Some(200)),
                (2000, 400, Some(1250)),
                (2500, 500, Some(300)),
            ],
            ends: &[4300],
            current_lag: 300,
            always_lag: true,
            rewind: Some(3),
            never_falls: false,
            class: Class::Rewind,
            ..PLAIN
        },
    ]
}

/// A commit a second, without lag. Times are in ms here.
fn set_9_and_10() -> Set {
    Set {
        commits: &[
            (792_748_079, 1_512_224_618_356, Some(0)),
            (792_748_080, 1_512_224_619_362, Some(0)),
            (792_748_081, 1_512_224_620_366, Some(0)),
            (792_748_082, 1_512_224_621_367, Some(0)),
            (792_748_083, 1_512_224_622_370, Some(0)),
            (792_748_084, 1_512_224_623_373, Some(0)),
            (792_748_085, 1_512_224_624_378, Some(0)),
            (792_748_086, 1_512_224_625_379, Some(0)),
            (792_748_087, 1_512_224_626_383, Some(0)),
            (792_748_088, 1_512_224_627_383, Some(0)),
            (792_748_089, 1_512_224_628_383, Some(0)),
            (792_748_090, 1_512_224_629_388, Some(0)),
            (792_748_091, 1_512_224_630_391, Some(0)),
            (792_748_092, 1_512_224_631_394, Some(0)),
            (792_748_093, 1_512_224_632_397, Some(0)),
        ],
        ends: &[792_749_024, 792_749_000, 792_748_800, 792_748_600, 792_748_500],
        current_lag: 931,
        now: 1_512_224_650,
        stopped: true,
        ..PLAIN
    }
}

#[test]
fn burrows_test_sets() {
    let sets = sets();
    assert_eq!(sets.len(), 16);
    for set in &sets {
        let scale = if set.now > 1_000_000 { 1 } else { 1_000 };
        let commits: Vec<Commit> =
            set.commits.iter().map(|&(offset, at, lag)| Commit { at_ms: at * scale, offset, lag }).collect();
        let (first, last) = (commits[0], commits[commits.len() - 1]);
        let offsets = || commits.iter().map(|commit| commit.offset);
        let lags = || commits.iter().filter_map(|commit| commit.lag);
        let now_ms = set.now * 1_000;
        let why = set.why;
        assert_eq!(lags().all(|lag| lag > set.allowed), set.always_lag, "{why}");
        assert_eq!(rewind(offsets()).map(|rewind| rewind.index), set.rewind, "{why}");
        assert_eq!(has_stopped(&first, &last, now_ms), set.stopped, "{why}");
        assert_eq!(stalls(offsets()), set.stalled, "{why}");
        assert_eq!(never_falls(lags()), set.never_falls, "{why}");
        assert_eq!(was_caught_up(last.offset, set.ends), set.recently_caught_up, "{why}");
        let found = evaluate(&commits, set.ends, set.current_lag, now_ms, set.allowed);
        assert_eq!(found, set.class, "{why}");
    }
    assert_eq!(evaluate(&[], &[], 1, 0, 0), Class::Ok, "nothing is known");
}
