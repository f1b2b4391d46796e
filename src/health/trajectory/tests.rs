//! Recorded trajectories, and what holds of every one.

use proptest::prelude::*;

use super::super::burrow::{self, Commit};
use super::*;

const SECOND: i64 = 1_000;

/// A sample every 10 s, as `at` says of each second: position and end. What is shown after each of them.
fn follow(seconds: i64, at: impl Fn(i64) -> (i64, i64)) -> Vec<(i64, Verdict)> {
    let mut trajectory = Trajectory::new(Options::default());
    let sampled = (0..=seconds).step_by(10).map(|second| {
        let (next, end) = at(second);
        trajectory.push(Sample::new(second * SECOND, next, Some(end)));
        (second, trajectory.judge(second * SECOND, &Known::Nothing))
    });
    sampled.collect()
}

/// The second in which a class is first shown.
fn first(followed: &[(i64, Verdict)], class: Class) -> Option<i64> {
    followed.iter().find(|(_, verdict)| verdict.class == class).map(|(second, _)| *second)
}

fn classes(followed: &[(i64, Verdict)]) -> Vec<Class> {
    let mut classes: Vec<Class> = followed.iter().map(|(_, verdict)| verdict.class).collect();
    classes.dedup();
    classes
}

/// Even enough noise, always the same: -50 to 50.
fn noise(second: i64) -> i64 {
    (second * 7_919 + 104_729) % 101 - 50
}

#[test]
fn steady_two_minutes_at_peak_is_ok() {
    // 10,000 a second, two minutes behind; once without any noise, where Burrow says WARN.
    let even = follow(3_600, |second| (second * 10_000, (second + 120) * 10_000));
    assert_eq!(classes(&even), [Class::Ok]);
    let uneven = follow(3_600, |second| {
        (second * 10_000 + noise(second) * 400, (second + 120) * 10_000 + noise(second + 1) * 400)
    });
    assert_eq!(classes(&uneven), [Class::Ok]);
    let commits: Vec<Commit> =
        (0..10).map(|n| Commit { at_ms: n * 10_000, offset: n * 100_000, lag: Some(1_200_000) }).collect();
    assert_eq!(burrow::evaluate(&commits, &[], 1_200_000, 95_000, 0), Class::Warn);
}

#[test]
fn thirty_seconds_that_grow_to_thirty_minutes_are_warned_of() {
    // 1,000 a second are produced; the consumer falls from 30 s behind to 30 min within an hour.
    let followed = follow(3_600, |second| {
        let behind = 30 + second * 1_770 / 3_600;
        ((second - behind) * 1_000 + 40_000 + noise(second) * 20, second * 1_000 + 40_000)
    });
    assert_eq!(classes(&followed), [Class::Ok, Class::Warn]);
    assert!(first(&followed, Class::Warn) <= Some(330), "{:?}", first(&followed, Class::Warn));
    let (_, last) = followed.last().unwrap();
    assert!(last.reason.starts_with("the lag has grown from 15"), "{}", last.reason);
    assert!(last.reason.contains(" in 10 min: 1000/s produced, 510/s applied"), "{}", last.reason);
}

/// The fleet is under-provisioned: all of it from the moment on in which more is produced.
#[test]
fn a_lag_that_begins_to_grow_is_warned_of_soon() {
    let grows = |from: i64| {
        move |second: i64| {
            let more = (second - 600).max(0);
            (second * 1_000 + more * 700 + noise(second), (second + from) * 1_000 + more * 1_000 + 60)
        }
    };
    let followed = follow(1_800, grows(0));
    assert!(first(&followed, Class::Warn) <= Some(600 + 330), "{:?}", first(&followed, Class::Warn));
    let followed = follow(1_800, grows(60));
    assert_eq!(classes(&followed), [Class::Ok, Class::Warn]);
    assert!(first(&followed, Class::Warn) <= Some(600 + 240), "{:?}", first(&followed, Class::Warn));
}

#[test]
fn a_wedged_consumer_is_seen_before_its_lag_is() {
    // A record a second, always applied at once; from second 300 on nothing is.
    let followed = follow(900, |second| (second.min(300), second));
    assert_eq!(classes(&followed), [Class::Ok, Class::Stall]);
    let seen = first(&followed, Class::Stall).unwrap();
    assert!(seen <= 340, "{seen}");
    let (_, verdict) = followed.iter().find(|(second, _)| *second == seen).unwrap();
    assert_eq!(verdict.reason, "has stood at offset 300 for 30 s, and is 40 behind");
    // By Burrow's rule it is excused by having been caught up within the window.
    let commits: Vec<Commit> = (0..10)
        .map(|n| Commit {
            at_ms: (250 + n * 10) * SECOND,
            offset: (250 + n * 10).min(300),
            lag: Some((n * 10 - 50).max(0)),
        })
        .collect();
    assert_eq!(burrow::evaluate(&commits, &[], 40, 340 * SECOND, 0), Class::Ok);
}

#[test]
fn a_wedge_that_comes_loose_is_over_soon() {
    let followed = follow(900, |second| {
        let next = if second < 500 { second.min(300) } else { (300 + (second - 500) * 4).min(second) };
        (next, second + 10)
    });
    assert_eq!(classes(&followed), [Class::Ok, Class::Stall, Class::Ok]);
    let loose = followed.iter().find(|(second, verdict)| *second > 500 && verdict.class == Class::Ok);
    assert!(loose.is_some_and(|(second, _)| *second <= 530), "{loose:?}");
}

#[test]
fn a_sawtooth_is_ok() {
    for period in [40, 120, 240, 290] {
        // Applied in portions: all of it every `period`, but for the last 500.
        let portions = follow(3_600, |second| {
            let within = second % period;
            let slow = within * 600;
            ((second - within) * 1_000 + slow, second * 1_000 + 500)
        });
        assert_eq!(classes(&portions), [Class::Ok], "{period}");
        let to_nothing = follow(3_600, |second| {
            let within = second % period;
            ((second - within) * 1_000 + within * 600, second * 1_000)
        });
        assert_eq!(classes(&to_nothing), [Class::Ok], "{period}");
    }
    // Batches that are as long as a batch may take unless it is told otherwise.
    let batches = follow(3_600, |second| ((second / 30 * 30) * 1_000, second * 1_000 + 1));
    assert_eq!(classes(&batches), [Class::Ok]);
}

#[test]
fn a_backlog_that_is_worked_off_drains() {
    let followed =
        follow(600, |second| ((second * 5_000).min(1_000_000 + second * 1_000), 1_000_000 + second * 1_000));
    assert_eq!(classes(&followed), [Class::Ok, Class::Draining, Class::Ok]);
    assert!(first(&followed, Class::Draining) <= Some(30), "{:?}", first(&followed, Class::Draining));
    let (_, verdict) = &followed[12];
    assert_eq!(
        verdict.reason,
        "the lag has fallen from 1000000 to 520000 in 2 min: 5000/s applied, 1000/s produced"
    );
}

#[test]
fn going_back_shows_until_it_has_come_again() {
    let followed = follow(600, |second| {
        let next = if second < 200 { second * 10 } else { 500 + (second - 200) * 50 };
        (next.min(second * 10), second * 10 + 5)
    });
    assert!(classes(&followed).contains(&Class::Rewind), "{:?}", classes(&followed));
    assert_eq!(followed.last().unwrap().1.class, Class::Ok);
    let (_, verdict) = followed.iter().find(|(_, verdict)| verdict.class == Class::Rewind).unwrap();
    assert_eq!(verdict.reason, "went back from offset 1900 to 500, and is at 1000 after 10 s");
}

#[test]
fn going_back_a_second_time_shows_as_well() {
    let mut trajectory = Trajectory::new(Options::default());
    for (n, next) in (0..).zip([100, 50, 120, 60, 80]) {
        trajectory.push(Sample::new(n * 10 * SECOND, next, Some(1_000)));
    }
    let verdict = trajectory.judge(41 * SECOND, &Known::Nothing);
    assert_eq!(verdict.class, Class::Rewind, "{verdict:?}");
    assert_eq!(verdict.reason, "went back from offset 120 to 60, and is at 80 after 10 s");
}

#[test]
fn what_is_known_comes_first_and_silence_is_told() {
    let mut trajectory = Trajectory::new(Options::default());
    assert_eq!(trajectory.judge(0, &Known::Nothing).reason, "not sampled yet");
    for n in 0..6 {
        trajectory.push(Sample::new(n * 10 * SECOND, n, Some(10 * n + 10)));
    }
    let halted = trajectory.judge(50 * SECOND, &Known::Halted("record 7 was rejected".to_owned()));
    assert_eq!((halted.class, &*halted.reason), (Class::Halted, "record 7 was rejected"));
    assert_eq!(trajectory.judge(50 * SECOND, &Known::Paused(String::new())).class, Class::Paused);
    assert_eq!(trajectory.judge(80 * SECOND, &Known::Nothing).class, Class::Ok);
    let silent = trajectory.judge(95 * SECOND, &Known::Nothing);
    assert_eq!((silent.class, &*silent.reason), (Class::Stop, "no news for 40 s, and it was 55 behind then"));
    trajectory.push(Sample::new(100 * SECOND, 60, Some(60)));
    assert_eq!(trajectory.judge(1_000 * SECOND, &Known::Nothing).class, Class::Ok, "nothing was left then");
}

#[test]
fn without_an_end_nothing_is_called_caught_up() {
    let mut trajectory = Trajectory::new(Options::default());
    let judged = |trajectory: &Trajectory, n: i64| trajectory.judge(n * 10 * SECOND, &Known::Nothing);
    for n in 0..6 {
        trajectory.push(Sample::new(n * 10 * SECOND, 40, Some(40)));
    }
    assert_eq!(&*judged(&trajectory, 5).reason, "caught up");
    for n in 6..60 {
        trajectory.push(Sample::new(n * 10 * SECOND, 40, None));
        let verdict = judged(&trajectory, n);
        assert_eq!((verdict.class, &*verdict.reason), (Class::Ok, "the end of the log is not known"));
    }
    trajectory.push(Sample::new(600 * SECOND, 40, Some(40)));
    assert_eq!(&*judged(&trajectory, 60).reason, "caught up");
    // What was left when the end was known last is left still.
    trajectory.push(Sample::new(610 * SECOND, 40, Some(90)));
    for n in 62..66 {
        trajectory.push(Sample::new(n * 10 * SECOND, 40, None));
    }
    assert_eq!(judged(&trajectory, 66).class, Class::Stall);
}

#[test]
fn a_lag_that_is_allowed_is_none() {
    let mut trajectory = Trajectory::new(Options { allowed_lag: 100, ..Options::default() });
    for n in 0..60 {
        trajectory.push(Sample::new(n * 10 * SECOND, 0, Some(100)));
        assert_eq!(trajectory.judge(n * 10 * SECOND, &Known::Nothing).class, Class::Ok);
    }
    for n in 60..64 {
        trajectory.push(Sample::new(n * 10 * SECOND, 0, Some(101)));
    }
    assert_eq!(trajectory.judge(640 * SECOND, &Known::Nothing).class, Class::Stall);
}

#[test]
fn rates_are_of_the_last_minute_and_a_sample_too_many_counts_once() {
    let mut trajectory = Trajectory::new(Options::default());
    assert_eq!((trajectory.applied_per_second(), trajectory.produced_per_second()), (None, None));
    for n in 0..60 {
        let (next, end) = if n < 50 { (0, n * 1_000) } else { ((n - 50) * 300, 49_000 + (n - 49) * 200) };
        trajectory.push(Sample::new(n * 10 * SECOND, next, Some(end)));
        trajectory.push(Sample::new(n * 10 * SECOND + 2 * SECOND, next, Some(end)));
    }
    assert_eq!(trajectory.samples().count(), 60);
    assert_eq!(trajectory.applied_per_second(), Some(30.0));
    assert_eq!(trajectory.produced_per_second(), Some(20.0));
    assert_eq!(trajectory.drain_seconds(), Some(f64::from(49_000 + 2_000 - 2_700) / 10.0));
}

fn options() -> impl Strategy<Value = Options> {
    (0..5_i64, 0..700_u64, 0..20_u64, 0..6_usize).prop_map(|(allowed_lag, window, interval, min_samples)| {
        Options {
            allowed_lag,
            window: Duration::from_secs(window),
            interval: Duration::from_secs(interval),
            min_samples,
        }
    })
}

/// Small figures, where much is equal, and the ends of what fits.
fn figure() -> impl Strategy<Value = i64> {
    prop_oneof![20 => 0..50_i64, 1 => Just(i64::MAX), 1 => Just(i64::MIN), 1 => any::<i64>()]
}

fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let step = prop_oneof![10 => 0..30_000_i64, 1 => any::<i64>()];
    prop::collection::vec((step, figure(), prop::option::of(figure())), 0..120).prop_map(|steps| {
        let mut at_ms = 0_i64;
        let sample = |(step, next_offset, end_offset): (i64, i64, Option<i64>)| {
            at_ms = at_ms.wrapping_add(step);
            Sample { at_ms, next_offset, end_offset }
        };
        steps.into_iter().map(sample).collect()
    })
}

proptest! {
    #[test]
    fn whatever_comes(options in options(), samples in samples(), now in any::<i64>()) {
        let allowed = options.allowed_lag;
        let mut trajectory = Trajectory::new(options);
        for sample in samples {
            let before: Vec<Sample> = trajectory.samples().collect();
            trajectory.push(sample);
            let verdict = trajectory.judge(sample.at_ms, &Known::Nothing);
            // Caught up is OK, at once, whatever was before and however late it is.
            if sample.lag().is_some_and(|lag| lag <= allowed) {
                prop_assert_eq!(verdict.class, Class::Ok);
                prop_assert_eq!(trajectory.judge(now, &Known::Nothing).class, Class::Ok);
            }
            // Nothing but the trajectory's own classes, and none that is worth a call before there are enough samples.
            prop_assert!(matches!(
                verdict.class,
                Class::Ok | Class::Draining | Class::Warn | Class::Stop | Class::Stall | Class::Rewind
            ));
            let kept: Vec<Sample> = trajectory.samples().collect();
            if kept.len() == 1 {
                prop_assert_eq!(verdict.class, Class::Ok);
            }
            prop_assert!(kept.len() <= MOST && kept.len() <= before.len() + 1);
            prop_assert!(kept.is_sorted_by_key(|sample| sample.at_ms));
            // Reading changes nothing.
            prop_assert_eq!(&verdict, &trajectory.judge(sample.at_ms, &Known::Nothing));
            prop_assert!(!verdict.reason.is_empty());
            prop_assert_eq!(trajectory.judge(now, &Known::Halted("x".to_owned())).class, Class::Halted);
            for rate in [trajectory.applied_per_second(), trajectory.produced_per_second()] {
                prop_assert!(rate.is_none_or(|rate| rate >= 0.0));
            }
            prop_assert!(trajectory.drain_seconds().is_none_or(|seconds| seconds >= 0.0));
        }
    }

    /// What moves and does not fall behind is never worse than OK, at whatever pace.
    #[test]
    fn whoever_keeps_up_is_ok(pace in 1..100_000_i64, behind in 0..1_000_000_i64, start in 0..1_000_000_i64) {
        let followed = follow(1_200, |second| {
            let next = start + second * pace;
            (next, next + behind)
        });
        prop_assert!(classes(&followed) == [Class::Ok], "{:?}", followed.last());
    }

    /// Whoever applies a tenth less than is produced is warned of, and not before half the window.
    #[test]
    fn whoever_falls_behind_is_warned_of(pace in 10..100_000_i64, share in 1..90_i64, behind in 0..1_000_i64) {
        let followed = follow(1_800, |second| (second * pace * share / 100, behind + second * pace));
        let at = first(&followed, Class::Warn);
        prop_assert!(at.is_some_and(|at| (300..=350).contains(&at)), "{:?} {:?}", at, followed.last());
        prop_assert_eq!(followed.last().unwrap().1.class, Class::Warn);
    }

    /// Whoever stops with records before it is seen in 40 s at the latest, whatever was before.
    #[test]
    fn whoever_stops_is_seen(pace in 1..10_000_i64, behind in 0..10_000_i64, stops in 0..600_i64) {
        let followed = follow(stops + 60, |second| (second.min(stops) * pace, second * pace + behind + 1));
        let at = first(&followed, Class::Stall);
        prop_assert!(at.is_some_and(|at| at <= stops + 40), "{} {:?}", stops, followed);
    }
}
