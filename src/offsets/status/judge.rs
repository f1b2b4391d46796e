//! What follows from what was seen. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::read::{LastBeat, Seen, SeenWorker, Sight};
use super::{GroupStatus, Lag, PartitionLetters, StatusOptions, Trouble, TroubleKind, Workers};
use crate::due::span;
use crate::health::{Class, group_class};
use crate::offsets::WaitingLetters;
use crate::offsets::waiting_letters::OfPartitions;
use crate::worker::unassigned_topics;

pub(super) fn judge(group: &str, mut sight: Sight, options: &StatusOptions) -> GroupStatus {
    let nobody = sight.workers.is_empty();
    if sight.kafka_answers != Some(true) {
        // What the last owner has seen of the end is not where it is now.
        sight.partitions.iter_mut().filter(|seen| !seen.owner_live).for_each(|seen| seen.log_end = None);
    }
    let mut troubles = Vec::new();
    if nobody {
        let last = sight.partitions.iter().filter_map(|seen| seen.seconds_since_commit).reduce(f64::min);
        let detail = last_words(sight.last_beat.as_ref());
        troubles.push(Trouble { seconds: last, ..whole(TroubleKind::NobodyAtWork, Some(detail)) });
    }
    for seen in &sight.partitions {
        troubles.extend(of_partition(seen, nobody, options));
    }
    troubles.extend(sight.workers.iter().filter_map(of_worker));
    let (dead_letters, dead_letters_in) = letters(sight.dead_letters.as_ref());
    let waiting: i64 = dead_letters_in.iter().map(|of| of.waiting).sum();
    if let Some(limit) = options.max_dead_letters.filter(|limit| waiting > *limit) {
        let detail = format!("{waiting} dead letters wait, and the limit is {limit}");
        troubles.push(whole(TroubleKind::DeadLetters, Some(detail)));
    }
    if sight.kafka_answers == Some(false) {
        let detail = "Kafka does not answer here: ends are those that workers have reported".to_owned();
        troubles.push(Trouble { counts: false, ..whole(TroubleKind::KafkaSilent, Some(detail)) });
    }
    troubles.sort_by_key(|trouble| (!trouble.counts, trouble.kind));
    let newest = sight.partitions.iter().filter(|seen| seen.seconds_since_commit.is_some()).min_by(|a, b| {
        a.seconds_since_commit.partial_cmp(&b.seconds_since_commit).unwrap_or(a.topic.cmp(&b.topic))
    });
    GroupStatus {
        group: group.to_owned(),
        well: !troubles.iter().any(|trouble| trouble.counts),
        class: classes(&sight.partitions),
        asked_kafka: sight.kafka_answers == Some(true),
        partitions: sight.partitions.len(),
        held: sight.partitions.iter().filter(|seen| seen.owner_live).count(),
        lag: lag(&sight.partitions),
        committed_at: newest.and_then(|seen| seen.committed_at.clone()),
        seconds_since_commit: newest.and_then(|seen| seen.seconds_since_commit),
        workers: workers(&sight.workers),
        troubles,
        dead_letters,
        dead_letters_in,
        on_rejected: policies(&sight.partitions),
        last_event: sight.last_event,
    }
}

/// How many wait in which state, and where; those with the most first.
fn letters(found: Option<&OfPartitions>) -> (Option<BTreeMap<String, i64>>, Vec<PartitionLetters>) {
    let Some(found) = found else { return (None, Vec::new()) };
    let mut all = WaitingLetters::default();
    let mut places = Vec::new();
    for ((topic, partition), letters) in found {
        all.add(letters);
        places.push(PartitionLetters {
            topic: topic.clone(),
            partition: *partition,
            waiting: letters.count(),
            since: letters.since.clone(),
            seconds: letters.seconds,
        });
    }
    places.sort_by(|a, b| {
        b.waiting.cmp(&a.waiting).then_with(|| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)))
    });
    (Some(all.states), places)
}

fn policies(partitions: &[Seen]) -> BTreeMap<String, usize> {
    let mut policies = BTreeMap::new();
    for policy in partitions.iter().filter_map(|seen| seen.on_rejected.as_ref()) {
        *policies.entry(policy.clone()).or_default() += 1;
    }
    policies
}

/// Whether something that is wrong may be a hand-over, or a start, and soon be over.
pub(super) fn may_pass(status: &GroupStatus) -> bool {
    use TroubleKind::{Claiming, DeadOwner, Fenced, NotReady, Unowned};
    let mut counting = status.troubles.iter().filter(|trouble| trouble.counts);
    counting.any(|trouble| matches!(trouble.kind, Claiming | DeadOwner | Fenced | NotReady | Unowned))
}

fn of_partition(seen: &Seen, nobody: bool, options: &StatusOptions) -> Vec<Trouble> {
    let at = |kind, detail: Option<String>| Trouble {
        kind,
        counts: true,
        topic: Some(seen.topic.clone()),
        partition: Some(seen.partition),
        next_offset: Some(seen.next_offset),
        owner: seen.owner.clone(),
        host: seen.host.clone(),
        seconds: None,
        detail,
    };
    let since = |trouble| Trouble { seconds: seen.state_seconds, ..trouble };
    let state = seen.state.as_deref();
    let halted_by_an_error = state == Some("halted") && seen.paused_reason.is_none();
    let mut troubles = Vec::new();
    match (&seen.paused_reason, state) {
        (Some(reason), _) if seen.halted => {
            troubles.push(at(TroubleKind::HaltedByOperator, Some(reason.clone())));
        }
        (Some(reason), _) => {
            let paused = at(TroubleKind::Paused, Some(reason.clone()));
            troubles.push(Trouble { counts: !options.allow_paused, ..paused });
        }
        (None, Some("halted")) => troubles.push(since(at(TroubleKind::Halted, seen.detail.clone()))),
        (None, _) if seen.leaderless => troubles.push(at(TroubleKind::NoLeader, seen.detail.clone())),
        // Said once, of the whole.
        (None, _) if nobody => {}
        (None, _) if seen.owner.is_none() => troubles.push(at(TroubleKind::Unowned, None)),
        (None, _) if !seen.owner_live => troubles.push(at(TroubleKind::DeadOwner, None)),
        (None, Some("claiming")) => troubles.push(since(at(TroubleKind::Claiming, seen.detail.clone()))),
        (None, Some("fenced")) => troubles.push(since(at(TroubleKind::Fenced, seen.detail.clone()))),
        (None, _) if seen.detail.is_some() => {
            let stuck = at(TroubleKind::Stuck, seen.detail.clone());
            troubles.push(Trouble { seconds: since_progress(seen), ..stuck });
        }
        (None, _) => match seen.class {
            Some(Class::Stall | Class::Stop) => {
                troubles.push(at(TroubleKind::Stalled, seen.reason.clone()));
            }
            Some(Class::Warn) => troubles.push(at(TroubleKind::Growing, seen.reason.clone())),
            Some(Class::Rewind) => {
                // Somebody has moved it, or a commit would not have gone back: told, and no failure.
                let rewound = at(TroubleKind::Rewound, seen.reason.clone());
                troubles.push(Trouble { counts: false, ..rewound });
            }
            _ => {}
        },
    }
    if let (Some(start), Some(end), false) = (seen.log_start, seen.log_end, halted_by_an_error)
        && !(start..=end).contains(&seen.next_offset)
    {
        let detail = format!("Kafka's log goes from {start} to {end}");
        troubles.push(at(TroubleKind::OutsideLog, Some(detail)));
    }
    troubles.extend(too_far_behind(seen, options).map(|detail| at(TroubleKind::Lag, Some(detail))));
    troubles
}

/// For how long nothing has moved: since its last commit, or since there is a next record, whichever is later. Its
/// worker's row alone is written anew whenever a figure in it changes.
fn since_progress(seen: &Seen) -> Option<f64> {
    let since = match (seen.seconds_since_commit, seen.age_seconds.map(|age| age.max(0.0))) {
        (Some(commit), Some(record)) => Some(commit.min(record)),
        (one, other) => one.or(other),
    };
    match (since, seen.state_seconds) {
        (Some(since), Some(state)) => Some(since.max(state)),
        (one, other) => one.or(other),
    }
}

/// What is known of whoever was there last.
fn last_words(last: Option<&LastBeat>) -> String {
    let Some(LastBeat { host, process_id, at, seconds, stopped }) = last else {
        return "no worker of it has ever reached this database".to_owned();
    };
    let ago = span(Duration::from_secs_f64(seconds.clamp(0.0, 1e9)));
    let at = at.as_deref().map(|at| format!(" ({at})")).unwrap_or_default();
    let from = format!("from process {process_id} on {host}, {ago} ago{at}");
    if *stopped {
        format!("the last heartbeat came {from}, and said that it stops")
    } else {
        format!(
            "the last heartbeat came {from}, without a farewell: it was killed, or runs and does not reach this database"
        )
    }
}

fn too_far_behind(seen: &Seen, options: &StatusOptions) -> Option<String> {
    let offsets = offsets_behind(seen)?;
    if let Some(limit) = options.max_lag.filter(|limit| offsets > *limit) {
        return Some(format!("{offsets} offsets behind, and the limit is {limit}"));
    }
    let limit = options.max_lag_seconds?;
    match age(seen) {
        Some(seconds) if seconds > limit => {
            Some(format!("the next record is {seconds:.1} s old, and the limit is {limit} s"))
        }
        _ => None,
    }
}

/// It is not ready; or it is, and knows of what concerns the whole group.
fn of_worker(worker: &SeenWorker) -> Option<Trouble> {
    let kind = match &worker.detail {
        _ if !worker.ready => TroubleKind::NotReady,
        Some(detail) if unassigned_topics(detail) > 0 => TroubleKind::Unassigned,
        _ => return None,
    };
    Some(Trouble {
        owner: Some(worker.owner.clone()),
        host: Some(worker.host.clone()),
        ..whole(kind, worker.detail.clone())
    })
}

fn whole(kind: TroubleKind, detail: Option<String>) -> Trouble {
    let (topic, partition, next_offset, owner, host, seconds) = (None, None, None, None, None, None);
    Trouble { kind, counts: true, topic, partition, next_offset, owner, host, seconds, detail }
}

fn offsets_behind(seen: &Seen) -> Option<i64> {
    seen.log_end.map(|end| (end - seen.next_offset).max(0))
}

/// Of the next record, if there is one.
fn age(seen: &Seen) -> Option<f64> {
    if offsets_behind(seen) == Some(0) { Some(0.0) } else { seen.age_seconds.map(|age| age.max(0.0)) }
}

fn lag(partitions: &[Seen]) -> Lag {
    let behind: Vec<&Seen> = partitions.iter().filter(|seen| offsets_behind(seen) != Some(0)).collect();
    let known: Vec<(f64, &Seen)> = behind.iter().filter_map(|seen| Some((age(seen)?, *seen))).collect();
    let oldest = known.iter().max_by(|a, b| a.0.total_cmp(&b.0));
    Lag {
        offsets: partitions.iter().map(offsets_behind).sum(),
        partitions: behind.len(),
        most: partitions.iter().filter_map(offsets_behind).max(),
        seconds: if behind.is_empty() { Some(0.0) } else { oldest.map(|(seconds, _)| *seconds) },
        oldest: oldest.map(|(_, seen)| format!("{}:{}", seen.topic, seen.partition)),
    }
}

/// The worst; `None` where this role may not know.
fn classes(partitions: &[Seen]) -> Option<Class> {
    let classes: Option<Vec<Class>> = partitions.iter().map(|seen| seen.class).collect();
    classes.map(group_class)
}

fn workers(seen: &[SeenWorker]) -> Workers {
    let mut workers = Workers { live: seen.len(), ..Workers::default() };
    for worker in seen {
        workers.ready += usize::from(worker.ready);
        *workers.versions.entry(worker.version.clone()).or_default() += 1;
    }
    workers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(partition: i32) -> Seen {
        Seen {
            topic: "t".to_owned(),
            partition,
            next_offset: 10,
            owner: Some("o".to_owned()),
            owner_live: true,
            state: Some("running".to_owned()),
            log_start: Some(0),
            log_end: Some(10),
            seconds_since_commit: Some(1.0),
            ..Seen::default()
        }
    }

    fn sight(partitions: Vec<Seen>) -> Sight {
        let worker = SeenWorker { ready: true, version: "1".to_owned(), ..SeenWorker::default() };
        Sight { kafka_answers: Some(true), partitions, workers: vec![worker], ..Sight::default() }
    }

    fn kinds(partition: Seen, options: &StatusOptions) -> (bool, Vec<TroubleKind>) {
        let status = judge("g", sight(vec![partition]), options);
        (status.well, status.troubles.iter().map(|trouble| trouble.kind).collect())
    }

    #[test]
    fn each_thing_that_is_wrong_has_its_name() {
        use TroubleKind::*;
        let plain = StatusOptions::default();
        let some = |text: &str| Some(text.to_owned());
        let cases: Vec<(Seen, bool, Vec<TroubleKind>)> = vec![
            (running(0), true, vec![]),
            (
                Seen { state: some("halted"), owner: None, owner_live: false, ..running(0) },
                false,
                vec![Halted],
            ),
            (Seen { paused_reason: some("x"), halted: true, ..running(0) }, false, vec![HaltedByOperator]),
            (Seen { paused_reason: some("x"), ..running(0) }, false, vec![Paused]),
            (Seen { owner: None, owner_live: false, ..running(0) }, false, vec![Unowned]),
            (Seen { owner_live: false, ..running(0) }, false, vec![DeadOwner]),
            (Seen { state: some("claiming"), ..running(0) }, false, vec![Claiming]),
            (Seen { state: some("fenced"), ..running(0) }, false, vec![Fenced]),
            (Seen { detail: some("no leader"), ..running(0) }, false, vec![Stuck]),
            (Seen { leaderless: true, ..running(0) }, false, vec![NoLeader]),
            (Seen { next_offset: 11, ..running(0) }, false, vec![OutsideLog]),
            (Seen { log_start: Some(11), log_end: Some(20), ..running(0) }, false, vec![OutsideLog]),
            // Its halt says so already.
            (Seen { state: some("halted"), next_offset: 11, ..running(0) }, false, vec![Halted]),
            // It has just been claimed: nothing was said of this claim yet.
            (Seen { state: None, ..running(0) }, true, vec![]),
            (Seen { class: Some(Class::Stall), ..running(0) }, false, vec![Stalled]),
            (Seen { class: Some(Class::Warn), ..running(0) }, false, vec![Growing]),
            (Seen { class: Some(Class::Rewind), ..running(0) }, true, vec![Rewound]),
            (Seen { class: Some(Class::Draining), ..running(0) }, true, vec![]),
            // Its worker says more.
            (Seen { class: Some(Class::Stall), detail: some("no leader"), ..running(0) }, false, vec![Stuck]),
            // Lag is none without a limit.
            (Seen { log_end: Some(1_000_000), age_seconds: Some(9e9), ..running(0) }, true, vec![]),
        ];
        for (seen, well, expected) in cases {
            assert_eq!(kinds(seen.clone(), &plain), (well, expected), "{seen:?}");
        }
    }

    #[test]
    fn limits_are_the_callers() {
        let behind = Seen { log_end: Some(15), age_seconds: Some(30.0), ..running(0) };
        for (options, well) in [
            (StatusOptions::default().max_lag(Some(5)), true),
            (StatusOptions::default().max_lag(Some(4)), false),
            (StatusOptions::default().max_lag_seconds(Some(30.0)), true),
            (StatusOptions::default().max_lag_seconds(Some(29.9)), false),
        ] {
            assert_eq!(kinds(behind.clone(), &options).0, well, "{options:?}");
        }
        let paused = Seen { paused_reason: Some("x".to_owned()), ..running(0) };
        let allowed = kinds(paused.clone(), &StatusOptions::default().allow_paused(true));
        assert_eq!(allowed, (true, vec![TroubleKind::Paused]), "said, and no failure");
        let halted = Seen { halted: true, ..paused };
        assert!(!kinds(halted, &StatusOptions::default().allow_paused(true)).0);
        let mut dead = sight(vec![running(0)]);
        let of = |open, parked, seconds: f64| WaitingLetters {
            states: [("open".to_owned(), open), ("parked".to_owned(), parked)].into(),
            since: Some(format!("{seconds} s ago")),
            seconds: Some(seconds),
        };
        let places = [(("t".to_owned(), 0), of(1, 0, 9.0)), (("t".to_owned(), 3), of(0, 1, 2.0))];
        dead.dead_letters = Some(places.into());
        let status = judge("g", dead.clone(), &StatusOptions::default());
        assert!(status.well);
        assert_eq!(status.dead_letters, Some([("open".to_owned(), 1), ("parked".to_owned(), 1)].into()));
        let places: Vec<_> = status.dead_letters_in.iter().map(|of| (of.partition, of.waiting)).collect();
        assert_eq!(places, [(0, 1), (3, 1)]);
        assert!(judge("g", dead.clone(), &StatusOptions::default().max_dead_letters(Some(2))).well);
        assert!(!judge("g", dead, &StatusOptions::default().max_dead_letters(Some(1))).well);
    }

    #[test]
    fn a_fleet_that_is_down_is_one_trouble_and_a_hand_over_may_pass() {
        let released = Seen { owner: None, owner_live: false, ..running(0) };
        let mut down = sight(vec![released.clone(), Seen { partition: 1, ..released }]);
        let between = judge("g", down.clone(), &StatusOptions::default());
        assert!(may_pass(&between), "{between:?}");
        down.workers.clear();
        let down = judge("g", down, &StatusOptions::default());
        let kinds: Vec<_> = down.troubles.iter().map(|trouble| trouble.kind).collect();
        assert_eq!(kinds, [TroubleKind::NobodyAtWork]);
        assert!(!may_pass(&down));
    }

    #[test]
    fn a_fleet_that_is_away_has_left_its_name() {
        let mut down = sight(vec![running(0)]);
        down.workers.clear();
        let beat =
            LastBeat { host: "node-7".to_owned(), process_id: 42, seconds: 190.0, ..LastBeat::default() };
        for (last_beat, text) in [
            (None, "no worker of it has ever reached"),
            (Some(beat.clone()), "from process 42 on node-7, 3 min ago, without a farewell"),
            (Some(LastBeat { stopped: true, ..beat }), "3 min ago, and said that it stops"),
        ] {
            let status = judge("g", Sight { last_beat, ..down.clone() }, &StatusOptions::default());
            let detail = status.troubles[0].detail.clone().unwrap();
            assert!(detail.contains(text), "{detail}");
        }
    }

    #[test]
    fn a_ready_worker_that_knows_of_a_topic_nobody_was_given_makes_the_group_unwell() {
        let mut seen = sight(vec![running(0)]);
        let said = |detail: Option<&str>, ready| SeenWorker {
            ready,
            detail: detail.map(str::to_owned),
            ..SeenWorker::default()
        };
        let given = "nobody in group g was given 2 of the 2 partitions of new, which it subscribes to";
        for (worker, kinds) in [
            (said(None, true), vec![]),
            (said(Some("the last word of something that passes"), true), vec![]),
            (said(Some(given), true), vec![TroubleKind::Unassigned]),
            (said(Some("no broker answers"), false), vec![TroubleKind::NotReady]),
        ] {
            seen.workers = vec![worker];
            let status = judge("g", seen.clone(), &StatusOptions::default());
            let found: Vec<_> = status.troubles.iter().map(|trouble| trouble.kind).collect();
            assert_eq!((status.well, found), (kinds.is_empty(), kinds));
        }
    }

    #[test]
    fn a_partition_is_stuck_since_it_last_moved() {
        let stuck = |commit, age, state| {
            since_progress(&Seen {
                seconds_since_commit: commit,
                age_seconds: age,
                state_seconds: state,
                ..running(0)
            })
        };
        assert_eq!(
            stuck(Some(40.0), Some(90.0), Some(0.5)),
            Some(40.0),
            "its row was written half a second ago"
        );
        assert_eq!(stuck(Some(9_000.0), Some(12.0), Some(0.5)), Some(12.0), "it was idle");
        assert_eq!(stuck(None, None, Some(0.5)), Some(0.5));
        assert_eq!(stuck(Some(1.0), None, Some(7.0)), Some(7.0));
    }

    #[test]
    fn lag_is_summed_and_the_oldest_named() {
        let at = |partition, end, age_seconds| Seen { log_end: end, age_seconds, ..running(partition) };
        let found =
            lag(&[at(0, Some(10), Some(99.0)), at(1, Some(15), Some(3.0)), at(2, Some(12), Some(7.0))]);
        assert_eq!((found.offsets, found.partitions, found.most), (Some(7), 2, Some(5)));
        assert_eq!((found.seconds, found.oldest.as_deref()), (Some(7.0), Some("t:2")));
        let unknown = lag(&[at(0, None, None), at(1, Some(15), Some(3.0))]);
        assert_eq!((unknown.offsets, unknown.partitions), (None, 2));
        let none = lag(&[at(0, Some(10), Some(9.0))]);
        assert_eq!((none.offsets, none.seconds, none.oldest), (Some(0), Some(0.0), None));
    }
}
