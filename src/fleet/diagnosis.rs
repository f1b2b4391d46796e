//! Is it the partition, the throughput or the consumer? Pure.
//!
//! Each of the three has its sentence, or none. What a wedged consumer holds is nobody else's trouble: its partitions
//! count neither as hot nor as a lack of throughput.

use std::collections::BTreeMap;

use serde::Serialize;

use super::COMMIT_MARK;
use super::group::{Group, Partition, Worker};
use crate::lag::instant;
use crate::worker::unassigned_topics;

/// Which of the three it is. A panel lights up if its sentence is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Diagnosis {
    /// The whole in one sentence.
    pub headline: String,
    /// One partition, or a few: halted, hot, gone back.
    pub partition: Option<String>,
    /// More is produced than all workers apply.
    pub throughput: Option<String>,
    /// A worker is wedged, dead or missing.
    pub consumer: Option<String>,
    /// What is worth knowing, and is no trouble by itself: somebody has paused a partition, it is catching up, …
    pub notes: Vec<String>,
    /// The partitions that it is about, as `topic:partition`, at most five.
    pub partitions: Vec<String>,
    /// The workers that it is about, by their ids.
    pub workers: Vec<String>,
    /// How many partitions fall behind, by topic; not those of a worker that is beyond its deadline.
    #[serde(skip)]
    pub growing: BTreeMap<String, usize>,
    /// Whether those are few and far behind the rest, which is the partition's side, or else the throughput's.
    #[serde(skip)]
    pub is_hot: bool,
}

impl Diagnosis {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.partition.is_none() && self.throughput.is_none() && self.consumer.is_none()
    }
}

/// How many partitions are named.
pub(super) const NAMED: usize = 5;
/// Lag of the others below this part of the hot one's: it stands out.
const STANDS_OUT: i64 = 4;
/// A transaction upstream that is open for longer holds records back. In seconds.
const OPEN_LONG: f64 = 30.0;
/// Retention that overtakes within this time is said. In seconds.
const LOSS_SOON: f64 = 6.0 * 3_600.0;

pub(super) fn diagnose(group: &Group) -> Diagnosis {
    let mut found = Diagnosis::default();
    let wedged: Vec<&Worker> = group.workers.iter().filter(|worker| worker.live && is_late(worker)).collect();
    let of_wedged = |p: &Partition| wedged.iter().any(|worker| worker.holds(p));
    let lost: Vec<&Partition> =
        group.partitions.iter().filter(|p| is_consumers(&p.class) && !of_wedged(p)).collect();
    let bad: Vec<&Partition> =
        group.partitions.iter().filter(|p| matches!(&*p.class, "HALTED" | "REWIND")).collect();
    let falling: Vec<&Partition> =
        group.partitions.iter().filter(|p| matches!(&*p.class, "WARN" | "ERR")).collect();
    let growing: Vec<&Partition> = falling.iter().copied().filter(|p| !of_wedged(p)).collect();

    found.consumer = consumer(group, &wedged, &lost, &mut found.workers);
    let is_hot = stands_out(group, &growing);
    // Where a batch takes 10 s and more, its worker is late in each of them, and an alert would never last.
    let overdue: Vec<&Worker> = wedged.iter().copied().filter(|worker| is_overdue(worker)).collect();
    let alerted: Vec<&Partition> =
        falling.into_iter().filter(|p| !overdue.iter().any(|worker| worker.holds(p))).collect();
    found.is_hot = stands_out(group, &alerted);
    for partition in &alerted {
        *found.growing.entry(partition.topic.clone()).or_default() += 1;
    }
    found.partition = partition(&bad, if is_hot { growing.as_slice() } else { &[] });
    if !growing.is_empty() && !is_hot {
        let all = group.partitions.len();
        found.throughput = Some(format!(
            "{} of {all} partitions fall behind: more is produced than is applied",
            growing.len()
        ));
    }
    let late: Vec<&Partition> = group.partitions.iter().filter(|p| of_wedged(p)).collect();
    let about = [&bad, &growing, &lost, &late].into_iter().flatten();
    found.partitions = about.take(NAMED).map(|p| p.place()).collect();
    found.notes = notes(group);
    found.headline = headline(group, &found);
    found
}

fn is_late(worker: &Worker) -> bool {
    worker.since_commit_seconds >= COMMIT_MARK.as_secs_f64()
}

/// Beyond what its batch may take.
fn is_overdue(worker: &Worker) -> bool {
    is_late(worker) && worker.since_commit_seconds > worker.deadline_seconds
}

/// A class that speaks of who should be reading it.
fn is_consumers(class: &str) -> bool {
    matches!(class, "STALL" | "STOP" | "UNOWNED" | "DEAD" | "FENCED")
}

fn consumer(
    group: &Group,
    wedged: &[&Worker],
    lost: &[&Partition],
    workers: &mut Vec<String>,
) -> Option<String> {
    let is_held = |p: &Partition| matches!(&*p.class, "PAUSED" | "HALTED");
    if group.live_workers == 0 && group.partitions.iter().any(|p| !is_held(p)) {
        let waits = match group.lag_records {
            Some(0) => "nothing waits yet".to_owned(),
            Some(records) => {
                let at_least = if group.unknown_partitions > 0 { "at least " } else { "" };
                format!("{at_least}{} wait", counted(records, "record"))
            }
            None => "nobody knows how much waits".to_owned(),
        };
        let last = group.workers.iter().max_by_key(|worker| worker.heartbeat_at_ms).map(last_beat);
        return Some(format!("no worker is live, and {waits}{}", last.unwrap_or_default()));
    }
    if group.live_workers > 0 && group.ready_workers == 0 {
        return Some(nobody_ready(group, workers));
    }
    if let Some(worst) =
        wedged.iter().max_by(|a, b| a.since_commit_seconds.total_cmp(&b.since_commit_seconds))
    {
        workers.extend(wedged.iter().map(|worker| worker.owner.clone()));
        let others = match wedged.len() {
            1 => String::new(),
            count => format!(", and {} more", counted_len(count - 1, "worker")),
        };
        return Some(format!(
            "{} has had work for {:.0} s and has committed none of it; a batch may take {:.0} s{others}",
            worst.name(),
            worst.since_commit_seconds,
            worst.deadline_seconds
        ));
    }
    let Some(first) = lost.iter().max_by_key(|p| p.severity) else {
        return unassigned(group, workers);
    };
    workers.extend(lost.iter().filter_map(|p| p.owner.clone()).take(NAMED));
    let reason = first.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let words = if first.is_unreported() { "is not reported" } else { in_words(&first.class) };
    Some(format!("{}{} {words}{reason}", first.place(), and_more(lost.len())))
}

/// In the words of whoever says why.
fn nobody_ready(group: &Group, workers: &mut Vec<String>) -> String {
    let live = || group.workers.iter().filter(|worker| worker.live);
    workers.extend(live().map(|worker| worker.owner.clone()).take(NAMED));
    let said = live().find_map(|worker| Some((worker, worker.detail.as_deref()?)));
    let said = said.map(|(worker, detail)| format!("; {}: {detail}", worker.name()));
    format!("no worker is ready{}", said.unwrap_or_default())
}

/// A topic that is subscribed to and that nobody was given: there are no rows of it, one worker knows.
fn unassigned(group: &Group, workers: &mut Vec<String>) -> Option<String> {
    let mut live = group.workers.iter().filter(|worker| worker.live);
    let (worker, detail) = live.find_map(|worker| {
        let detail = worker.detail.as_deref().filter(|detail| unassigned_topics(detail) > 0)?;
        Some((worker, detail))
    })?;
    workers.push(worker.owner.clone());
    Some(detail.to_owned())
}

/// When and from where it was last heard of anybody.
#[allow(clippy::cast_precision_loss)] // milliseconds since 1970 are exact for another 285,000 years
fn last_beat(worker: &Worker) -> String {
    let (host, process, at) = (&worker.host, worker.process_id, instant(worker.heartbeat_at_ms as f64));
    let end = if worker.stopped_at_ms.is_some() { ", which then stopped" } else { "" };
    format!("; the last heartbeat came at {at} from process {process} on {host}{end}")
}

fn partition(bad: &[&Partition], hot: &[&Partition]) -> Option<String> {
    if let Some(first) = bad.iter().max_by_key(|p| p.severity) {
        let reason = first.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let (place, more, what) = (first.place(), and_more(bad.len()), in_words(&first.class));
        return Some(format!("{place}{more} {what} at {}{reason}", first.next_offset));
    }
    let first = hot.iter().max_by_key(|p| p.lag_records)?;
    let lag = counted(first.lag_records.unwrap_or_default(), "record");
    Some(format!("{}{} falls behind alone ({lag}): the others keep up", first.place(), and_more(hot.len())))
}

/// Whether the ones that fall behind are few, and far behind the rest. With one partition there is no rest.
fn stands_out(group: &Group, growing: &[&Partition]) -> bool {
    let all = group.partitions.len();
    if growing.is_empty() || all < 2 || growing.len() > (all / 4).max(1) {
        return false;
    }
    let least = growing.iter().filter_map(|p| p.lag_records).min().unwrap_or_default();
    let is_growing = |p: &Partition| growing.iter().any(|other| std::ptr::eq(*other, p));
    let mut others: Vec<i64> =
        group.partitions.iter().filter(|p| !is_growing(p)).filter_map(|p| p.lag_records).collect();
    others.sort_unstable();
    others.get(others.len() / 2).is_none_or(|median| median.saturating_mul(STANDS_OUT) <= least)
}

fn notes(group: &Group) -> Vec<String> {
    let mut notes = Vec::new();
    let paused: Vec<&Partition> = group.partitions.iter().filter(|p| p.class == "PAUSED").collect();
    if let Some(first) = paused.first() {
        let reason = first.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        notes.push(format!("{}{} paused by a person{reason}", first.place(), and_more(paused.len())));
    }
    let held_back = held_back(group);
    if let Some((since, first)) = held_back.first() {
        let records = held_back.iter().filter_map(|(_, p)| p.uncommitted_records).sum();
        notes.push(format!(
            "an open transaction upstream holds back {} of {}{}, for {} at least",
            counted(records, "record"),
            first.place(),
            and_more(held_back.len()),
            span(*since)
        ));
    }
    if let Some(seconds) = group.loss_seconds.filter(|seconds| *seconds < LOSS_SOON) {
        notes.push(format!("Kafka deletes a record that was not applied in {}", span(seconds)));
    }
    let waiting: i64 = group.waiting_letters().values().sum();
    if waiting > 0 {
        notes.push(format!(
            "{} for somebody",
            counted(waiting, "dead letter") + if waiting == 1 { " waits" } else { " wait" }
        ));
    }
    let unready = group.live_workers - group.ready_workers;
    if unready > 0 && group.ready_workers > 0 {
        let detail = group
            .workers
            .iter()
            .find(|worker| worker.live && !worker.ready)
            .and_then(|w| w.detail.as_deref());
        let detail = detail.map(|detail| format!(": {detail}")).unwrap_or_default();
        notes.push(format!("{} not ready{detail}", counted_len(unready, "worker")));
    }
    if group.unknown_partitions > 0 {
        notes.push(format!("nobody reports {}", counted_len(group.unknown_partitions, "partition")));
    }
    notes
}

/// Partitions in which a transaction is open for long, and since when; the longest first.
fn held_back(group: &Group) -> Vec<(f64, &Partition)> {
    let open = group.partitions.iter().filter_map(|p| Some((p.uncommitted_seconds?, p)));
    let mut held: Vec<(f64, &Partition)> = open.filter(|(since, _)| *since >= OPEN_LONG).collect();
    held.sort_by(|a, b| b.0.total_cmp(&a.0));
    held
}

fn headline(group: &Group, found: &Diagnosis) -> String {
    let named = [
        ("the consumer", &found.consumer),
        ("the partition", &found.partition),
        ("the throughput", &found.throughput),
    ];
    let lit: Vec<&str> =
        named.iter().filter(|(_, sentence)| sentence.is_some()).map(|(name, _)| *name).collect();
    if !lit.is_empty() {
        return format!("It is {}.", lit.join(" and "));
    }
    let (unknown, all) = (group.unknown_partitions, group.partitions.len());
    if unknown > 0 && unknown < all {
        return format!("Nobody knows how far behind {unknown} of {all} partitions are.");
    }
    // No trouble of the group's own: somebody has it in hand, or somebody else has it.
    let mut paused = group.partitions.iter().filter(|p| p.class == "PAUSED");
    if let Some(first) = paused.next() {
        return format!("Paused: {}{}.", first.place(), and_more(1 + paused.count()));
    }
    if let Some((_, first)) = held_back(group).first() {
        return format!("{} waits for an open transaction upstream.", first.place());
    }
    match (group.lag_records, group.drain_seconds) {
        (None, _) => "Nobody knows how far behind it is.".to_owned(),
        (Some(0), _) => "Well: caught up.".to_owned(),
        (Some(_), Some(seconds)) if seconds.is_finite() && seconds > 1.0 => {
            format!("Well: caught up in {}.", span(seconds))
        }
        (Some(_), _) => "Well: it keeps up.".to_owned(),
    }
}

fn in_words(class: &str) -> &'static str {
    match class {
        "HALTED" => "has halted",
        "REWIND" => "has gone back",
        "STALL" => "does not move",
        "STOP" => "has stopped committing",
        "UNOWNED" => "is held by nobody",
        "DEAD" => "is held by a process that is gone",
        "FENCED" => "was taken by another process",
        _ => "is not well",
    }
}

fn and_more(count: usize) -> String {
    if count > 1 { format!(" and {} more", count - 1) } else { String::new() }
}

fn counted(count: i64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn counted_len(count: usize, noun: &str) -> String {
    counted(i64::try_from(count).unwrap_or(i64::MAX), noun)
}

/// As people say it.
fn span(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5_400.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.0} h", s / 3_600.0),
        s => format!("{:.0} days", s / 86_400.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(class: &str, number: i32, lag: i64) -> Partition {
        Partition {
            topic: "t".to_owned(),
            partition: number,
            class: class.to_owned(),
            severity: i32::from(class != "OK"),
            lag_records: Some(lag),
            owner: Some(format!("w{}", number % 2)),
            ..Partition::default()
        }
    }

    fn judged(partitions: Vec<Partition>, since_commit: [f64; 2]) -> Diagnosis {
        let worker = |n: usize| Worker {
            owner: format!("w{n}"),
            host: format!("host-{n}"),
            live: true,
            ready: true,
            since_commit_seconds: since_commit[n],
            deadline_seconds: 30.0,
            ..Worker::default()
        };
        let mut group = Group { partitions, workers: vec![worker(0), worker(1)], ..Group::default() };
        group.complete();
        group.diagnosis
    }

    fn lit(found: &Diagnosis) -> [bool; 3] {
        [found.partition.is_some(), found.throughput.is_some(), found.consumer.is_some()]
    }

    /// `highwater status` calls neither well.
    #[test]
    fn what_somebody_holds_back_is_not_called_well() {
        let open = |seconds| Partition {
            uncommitted_records: Some(5),
            uncommitted_seconds: Some(seconds),
            ..of("OK", 1, 0)
        };
        assert_eq!(judged(vec![of("OK", 0, 0), open(5.0)], [0.0; 2]).headline, "Well: caught up.");
        let held = judged(vec![of("OK", 0, 0), open(45.0)], [0.0; 2]);
        assert_eq!(held.headline, "t:1 waits for an open transaction upstream.");
        assert_eq!(
            held.notes,
            ["an open transaction upstream holds back 5 records of t:1, for 45 s at least"]
        );
        let paused = judged(vec![of("PAUSED", 0, 9), of("PAUSED", 2, 9), open(45.0)], [0.0; 2]);
        assert_eq!(paused.headline, "Paused: t:0 and 1 more.");
    }

    #[test]
    fn each_incident_lights_one_panel() {
        let well = || (0..8).map(|n| of("OK", n, 10));
        let calm = judged(well().collect(), [0.1, 2.0]);
        assert_eq!((lit(&calm), &*calm.headline), ([false; 3], "Well: it keeps up."));

        let hot = judged(
            well().map(|p| if p.partition == 3 { of("WARN", 3, 90_000) } else { p }).collect(),
            [0.1, 0.2],
        );
        assert_eq!(lit(&hot), [true, false, false], "{hot:?}");
        assert_eq!(hot.partitions, ["t:3"]);
        let growing = |found: &Diagnosis| (found.is_hot, found.growing.get("t").copied());
        assert_eq!(growing(&hot), (true, Some(1)));

        let short = judged((0..8).map(|n| of("WARN", n, 90_000)).collect(), [0.1, 0.2]);
        assert_eq!(lit(&short), [false, true, false], "{short:?}");
        assert_eq!(growing(&short), (false, Some(8)));

        // What the wedged worker holds falls behind, too.
        let wedged =
            judged((0..8).map(|n| of(if n % 2 == 0 { "WARN" } else { "OK" }, n, 500)).collect(), [21.0, 0.2]);
        assert_eq!(lit(&wedged), [false, false, true], "{wedged:?}");
        assert!(
            wedged
                .consumer
                .as_deref()
                .is_some_and(|text| text.starts_with("host-0 pid 0 has had work for 21 s"))
        );
        assert_eq!(wedged.workers, ["w0"]);
        // It may be a long batch.
        assert_eq!(growing(&wedged), (false, Some(4)), "an alert must last over a batch of 21 s");
        let overdue =
            judged((0..8).map(|n| of(if n % 2 == 0 { "WARN" } else { "OK" }, n, 500)).collect(), [31.0, 0.2]);
        assert_eq!(growing(&overdue), (false, None), "it is not for want of throughput");

        let halted = judged(
            well().map(|p| if p.partition == 2 { of("HALTED", 2, 70) } else { p }).collect(),
            [0.1, 0.1],
        );
        assert_eq!(lit(&halted), [true, false, false], "{halted:?}");
        let stalled = judged(
            well().map(|p| if p.partition == 2 { of("STALL", 2, 70) } else { p }).collect(),
            [0.1, 0.1],
        );
        assert_eq!(lit(&stalled), [false, false, true], "{stalled:?}");
    }

    #[test]
    fn one_partition_alone_cannot_be_hot_and_a_paused_one_is_a_note() {
        assert_eq!(lit(&judged(vec![of("WARN", 0, 9)], [0.0; 2])), [false, true, false]);
        let paused = judged(vec![of("PAUSED", 0, 9), of("OK", 1, 0)], [0.0; 2]);
        assert_eq!((lit(&paused), paused.notes.len()), ([false; 3], 1));
    }

    fn with_workers(
        partitions: Vec<Partition>,
        workers: impl IntoIterator<Item = (bool, Option<&'static str>)>,
    ) -> Diagnosis {
        let worker = |(n, (ready, detail)): (usize, (bool, Option<&str>))| Worker {
            owner: format!("w{n}"),
            instance_id: Some(format!("w{n}")),
            live: true,
            ready,
            detail: detail.map(str::to_owned),
            ..Worker::default()
        };
        let workers = workers.into_iter().enumerate().map(worker).collect();
        let mut group = Group { partitions, workers, ..Group::default() };
        group.complete();
        group.diagnosis
    }

    fn unknown(number: i32) -> Partition {
        Partition { lag_records: None, ..of("OK", number, 0) }
    }

    #[test]
    fn workers_of_which_none_is_ready_are_the_consumer_in_their_own_words() {
        let silent = Some("no broker answers (kafka:9092)");
        for partitions in [vec![of("OK", 0, 0), of("OK", 1, 0)], vec![unknown(0), unknown(1)]] {
            let found = with_workers(partitions, [(false, silent), (false, silent)]);
            assert_eq!(lit(&found), [false, false, true], "{found:?}");
            assert_eq!(found.headline, "It is the consumer.");
            let words = "no worker is ready; w0: no broker answers (kafka:9092)";
            assert_eq!(found.consumer.as_deref(), Some(words));
            assert_eq!(found.workers, ["w0", "w1"]);
            assert!(!found.notes.iter().any(|note| note.contains("not ready")), "said already: {found:?}");
        }
        // One of two may be new.
        let found = with_workers(vec![of("OK", 0, 0)], [(true, None), (false, silent)]);
        assert_eq!((&*found.headline, found.notes.len()), ("Well: caught up.", 1), "{found:?}");
    }

    #[test]
    fn what_is_not_known_is_not_called_caught_up() {
        let found = with_workers(vec![of("OK", 0, 0), unknown(1), unknown(2)], [(true, None)]);
        assert_eq!(found.headline, "Nobody knows how far behind 2 of 3 partitions are.");
    }

    #[test]
    fn a_topic_that_nobody_was_given_is_the_consumer() {
        let given = "nobody in group g was given 2 of the 2 partitions of new, which it subscribes to";
        let found = with_workers(vec![of("OK", 0, 0)], [(true, Some(given)), (true, None)]);
        assert_eq!((lit(&found), &*found.headline), ([false, false, true], "It is the consumer."));
        assert_eq!(found.consumer.as_deref(), Some(given));
    }

    /// Whether its records are applied, nobody knows: it is not said that they are not.
    #[test]
    fn what_is_not_reported_has_not_stopped() {
        let reason = "its worker beats, and has reported nothing for 00:00:31";
        let silent = Partition { reason: Some(reason.to_owned()), ..of("STOP", 0, 5) };
        let mut group = Group {
            partitions: vec![silent],
            workers: vec![Worker { owner: "w0".to_owned(), live: true, ready: true, ..Worker::default() }],
            ..Group::default()
        };
        group.complete();
        assert_eq!(group.diagnosis.consumer.as_deref(), Some(&*format!("t:0 is not reported: {reason}")));
        let steps = &group.advice;
        assert!(steps.iter().any(|step| step.what.contains("cannot write its reports")), "{steps:?}");
        assert!(!steps.iter().any(|step| step.what.contains("restart it")), "{steps:?}");
        let stopped = judged(vec![of("STOP", 0, 5)], [0.1, 0.1]);
        assert_eq!(stopped.consumer.as_deref(), Some("t:0 has stopped committing"));
    }

    #[test]
    fn nobody_at_work_is_the_consumer() {
        let mut group = Group { partitions: vec![of("UNOWNED", 0, 5)], ..Group::default() };
        group.complete();
        assert_eq!(group.diagnosis.consumer.as_deref(), Some("no worker is live, and 5 records wait"));
        assert_eq!(group.diagnosis.headline, "It is the consumer.");
    }
}
