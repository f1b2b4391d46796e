//! Our own names.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::counters::Counters;
use super::definitions as names;
use crate::dead_letter::LIMIT_SAID;
use crate::fleet::{DeadLetters, Group, Partition, Reading, View, Worker};
use crate::metrics::exposition::{Family, Labels, Value};
use crate::worker::unassigned_topics;

/// Of this process: always there.
pub(super) fn of_itself(view: &View) -> Vec<Family> {
    let none = Labels::default;
    let up = Family::of(&names::UP).with(none(), Value::Count(u64::from(!view.is_stale())));
    let mut last = Family::of(&names::LAST_SURVEY);
    if let Some(at_ms) = view.read_at_ms {
        last.push(none(), seconds(at_ms));
    }
    let errors = Family::of(&names::ERRORS).with(none(), Value::Count(view.errors_total));
    let mut read = Family::of(&names::READ);
    if let Some(reading) = &view.reading {
        read.push(none(), seconds(i64::try_from(reading.took_ms).unwrap_or(i64::MAX)));
    }
    let mut kafka = Family::of(&names::KAFKA);
    let mut kafka_errors = Family::of(&names::KAFKA_ERRORS);
    if let Some(survey) = view.survey {
        kafka.push(none(), seconds(survey.at_ms));
        kafka_errors.push(none(), Value::Count(survey.errors_total));
    }
    let version = Labels::new([("version", Arc::from(env!("CARGO_PKG_VERSION")))]);
    vec![up, last, errors, read, kafka, kafka_errors, Family::of(&names::BUILD).with(version, Value::Info)]
}

#[allow(clippy::cast_precision_loss)] // milliseconds since 1970 fit
fn seconds(ms: i64) -> Value {
    Value::Number(ms as f64 / 1_000.0)
}

/// Of the groups. What is not known has no sample.
pub(super) fn of_groups(reading: &Reading, counters: &Counters) -> Vec<Family> {
    let mut families = of_partitions(reading);
    families.extend(of_topics(reading));
    families.extend(of_whole_groups(reading));
    families.extend(of_workers(reading));
    families.extend(counted(reading, counters));
    if let Some(age) = reading.oldest_snapshot_seconds {
        families.push(Family::of(&names::SNAPSHOT).with(Labels::default(), Value::Number(age)));
    }
    families
}

pub(super) fn group_label(group: &Group) -> Labels {
    Labels::new([("group", Arc::from(group.group.as_str()))])
}

fn of_partitions(reading: &Reading) -> Vec<Family> {
    let mut lag = Family::of(&names::LAG_RECORDS);
    let mut age = Family::of(&names::LAG_SECONDS);
    let mut next = Family::of(&names::NEXT_OFFSET);
    let mut stable = Family::of(&names::LAST_STABLE);
    let mut health = Family::of(&names::HEALTH);
    for group in &reading.groups {
        let name: Arc<str> = group.group.as_str().into();
        for partition in &group.partitions {
            let labels = Labels::new([
                ("group", Arc::clone(&name)),
                ("topic", partition.topic.as_str().into()),
                ("partition", partition.partition.to_string().into()),
            ]);
            if let Some(records) = partition.lag_records {
                lag.push(labels.clone(), Value::Integer(records));
            }
            if let Some(seconds) = partition.lag_seconds {
                age.push(labels.clone(), Value::Number(seconds));
            }
            next.push(labels.clone(), Value::Integer(partition.next_offset));
            if let Some(offset) = partition.last_stable_offset {
                stable.push(labels.clone(), Value::Integer(offset));
            }
            health.push(
                labels.and("class", partition.class.as_str()),
                Value::Integer(partition.severity.into()),
            );
        }
    }
    vec![lag, age, next, stable, health]
}

fn of_topics(reading: &Reading) -> Vec<Family> {
    let mut hidden = Family::of(&names::UNCOMMITTED_RECORDS);
    let mut open = Family::of(&names::UNCOMMITTED_SECONDS);
    let mut growing = Family::of(&names::GROWING);
    let mut drain = Family::of(&names::DRAIN);
    let mut loss = Family::of(&names::LOSS);
    let mut ahead = Family::of(&names::LOSS_AHEAD);
    let mut letters = Family::of(&names::LETTERS);
    let mut oldest = Family::of(&names::LETTERS_OLDEST);
    let mut halts = Family::of(&names::LETTER_HALTS);
    for group in &reading.groups {
        for (topic, partitions) in by_topic(group) {
            let labels = group_label(group).and("topic", topic);
            // 0 where there are none, for otherwise nothing grows when the first come.
            let is_open = |waiting: &DeadLetters| waiting.topic == topic && waiting.state == "open";
            if group.dead_letters.as_ref().is_some_and(|letters| !letters.iter().any(is_open)) {
                letters.push(labels.and("state", "open"), Value::Integer(0));
            }
            let halted = partitions.iter().filter(|partition| has_too_many_letters(partition)).count();
            halts.push(labels.clone(), Value::Count(halted as u64));
            let behind = group.diagnosis.growing.get(topic).copied().unwrap_or_default() as u64;
            let is_hot = group.diagnosis.is_hot;
            for (side, is_it) in [("partition", is_hot), ("throughput", !is_hot)] {
                growing.push(labels.and("side", side), Value::Count(if is_it { behind } else { 0 }));
            }
            let known: Vec<i64> = partitions.iter().filter_map(|p| p.uncommitted_records).collect();
            if !known.is_empty() {
                hidden.push(labels.clone(), Value::Integer(known.iter().sum()));
            }
            let most =
                |of: fn(&Partition) -> Option<f64>| partitions.iter().filter_map(|p| of(p)).reduce(f64::max);
            let least =
                |of: fn(&Partition) -> Option<f64>| partitions.iter().filter_map(|p| of(p)).reduce(f64::min);
            for (family, value) in [
                (&mut open, most(|p| p.uncommitted_seconds)),
                (&mut drain, most(|p| p.drain_seconds)),
                (&mut loss, least(|p| p.loss_seconds)),
                (&mut ahead, least(loss_ahead)),
            ] {
                if let Some(value) = value {
                    family.push(labels.clone(), Value::Number(value));
                }
            }
        }
        for waiting in group.dead_letters.iter().flatten() {
            let labels =
                group_label(group).and("topic", waiting.topic.as_str()).and("state", waiting.state.as_str());
            letters.push(labels, Value::Integer(waiting.count));
        }
        // Parked ones, too: those that were rejected may have been discarded, and they still wait.
        let mut since: BTreeMap<&str, i64> = BTreeMap::new();
        for waiting in group.dead_letters.iter().flatten() {
            let first = since.entry(waiting.topic.as_str()).or_insert(waiting.since_ms);
            *first = waiting.since_ms.min(*first);
        }
        for (topic, since_ms) in since {
            let labels = group_label(group).and("topic", topic);
            oldest.push(labels, seconds((reading.at_ms - since_ms).max(0)));
        }
    }
    vec![hidden, open, growing, drain, loss, ahead, letters, oldest, halts]
}

/// How long until its next record is lost, unless that is soon only because the topic's records are not kept for long.
fn loss_ahead(partition: &Partition) -> Option<f64> {
    let loss = partition.loss_seconds?;
    let is_young = partition.lag_seconds.is_some_and(|age| age <= loss);
    let drains = partition.drain_seconds.is_some_and(|drain| drain < loss);
    (!is_young && !drains).then_some(loss)
}

/// It has halted for a limit of dead letters, as its worker has said.
fn has_too_many_letters(partition: &Partition) -> bool {
    let is_said = |text: Option<&str>| text.is_some_and(|text| text.contains(LIMIT_SAID));
    partition.class == "HALTED"
        && (is_said(partition.detail.as_deref()) || is_said(partition.reason.as_deref()))
}

/// The partitions of each topic.
pub(super) fn by_topic(group: &Group) -> BTreeMap<&str, Vec<&Partition>> {
    let mut topics: BTreeMap<&str, Vec<&Partition>> = BTreeMap::new();
    for partition in &group.partitions {
        topics.entry(&partition.topic).or_default().push(partition);
    }
    topics
}

fn of_whole_groups(reading: &Reading) -> Vec<Family> {
    let mut health = Family::of(&names::GROUP_HEALTH);
    let mut lag = Family::of(&names::GROUP_LAG_RECORDS);
    let mut age = Family::of(&names::GROUP_LAG_SECONDS);
    let mut partitions = Family::of(&names::GROUP_PARTITIONS);
    let mut unknown = Family::of(&names::GROUP_UNKNOWN);
    let mut unassigned = Family::of(&names::GROUP_UNASSIGNED);
    let mut workers = Family::of(&names::GROUP_WORKERS);
    let mut ready = Family::of(&names::WORKERS_READY);
    let mut seen = Family::of(&names::SURVEY_AGE);
    let mut kinds = Family::of(&names::LETTER_KINDS);
    let count = |count: usize| Value::Count(count as u64);
    for group in &reading.groups {
        let labels = group_label(group);
        health.push(labels.and("class", group.class.as_str()), Value::Integer(group.severity.into()));
        if let Some(records) = group.lag_records {
            lag.push(labels.clone(), Value::Integer(records));
        }
        if let Some(seconds) = group.lag_seconds {
            age.push(labels.clone(), Value::Number(seconds));
        }
        if let Some(as_of_ms) = group.as_of_ms {
            seen.push(labels.clone(), seconds((reading.at_ms - as_of_ms).max(0)));
        }
        for waiting in group.dead_letter_kinds.iter().flatten() {
            kinds.push(labels.and("kind", waiting.kind.as_str()), Value::Integer(waiting.count));
        }
        partitions.push(labels.clone(), count(group.partitions.len()));
        unknown.push(labels.clone(), count(group.unknown_partitions));
        // Two may say it while the turn to look goes from one to the other.
        let said =
            group.workers.iter().filter(|worker| worker.live).filter_map(|worker| worker.detail.as_deref());
        unassigned.push(labels.clone(), count(said.map(unassigned_topics).max().unwrap_or_default()));
        workers.push(labels.clone(), count(group.live_workers));
        ready.push(labels, count(group.ready_workers));
    }
    vec![health, lag, age, partitions, unknown, unassigned, workers, ready, seen, kinds]
}

fn of_workers(reading: &Reading) -> Vec<Family> {
    let mut since = Family::of(&names::SINCE_COMMIT);
    let mut deadline = Family::of(&names::DEADLINE);
    let mut waiting = Family::of(&names::WAITING);
    let mut stalled = Family::of(&names::STALLED);
    let mut died = Family::of(&names::WORKERS_DIED);
    for group in &reading.groups {
        // A reading has those of the last half hour.
        let has_died = |worker: &&Worker| !worker.live && worker.stopped_at_ms.is_none();
        let count = group.workers.iter().filter(has_died).count();
        died.push(group_label(group), Value::Count(count as u64));
        // A zombie and its successor bear one instance id for a while: the worse one is told, for one name has one series.
        let mut worst: BTreeMap<&str, &Worker> = BTreeMap::new();
        for worker in group.workers.iter().filter(|worker| worker.live) {
            let told = worst.entry(label_of(worker)).or_insert(worker);
            if worker.since_commit_seconds > told.since_commit_seconds {
                *told = worker;
            }
        }
        for (label, worker) in worst {
            let labels = group_label(group).and("worker", label);
            since.push(labels.clone(), Value::Number(worker.since_commit_seconds));
            deadline.push(labels.clone(), Value::Number(worker.deadline_seconds));
            waiting.push(labels.clone(), Value::Count(worker.stuck as u64));
            let stalls = |p: &&Partition| p.class == "STALL" && worker.holds(p);
            stalled.push(labels, Value::Count(group.partitions.iter().filter(stalls).count() as u64));
        }
    }
    vec![died, since, deadline, waiting, stalled]
}

/// Its instance id, which stays the same over restarts, or its own id.
fn label_of(worker: &Worker) -> &str {
    worker.instance_id.as_deref().unwrap_or(&worker.owner)
}

fn counted(reading: &Reading, counters: &Counters) -> Vec<Family> {
    let mut records = Family::of(&names::RECORDS);
    let mut commits = Family::of(&names::COMMITS);
    let mut fencings = Family::of(&names::FENCINGS);
    for group in &reading.groups {
        let (labels, counts) = (group_label(group), counters.of(&group.group));
        records.push(labels.clone(), Value::Count(counts.records));
        commits.push(labels.clone(), Value::Count(counts.commits));
        fencings.push(labels, Value::Count(counts.fencings));
    }
    vec![records, commits, fencings]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::exposition::{Format, encode};

    /// What deploy/prometheus/tests/hidden.yml has as series.
    #[test]
    fn the_side_is_that_of_the_diagnosis() {
        let group = |all: i32, growing: i32| {
            let partition = |number| Partition {
                topic: "t".to_owned(),
                partition: number,
                class: if number < growing { "WARN" } else { "OK" }.to_owned(),
                lag_records: Some(if number < growing { 90_000 } else { 10 }),
                ..Partition::default()
            };
            let partitions = (0..all).map(partition).collect();
            Group { group: "g".to_owned(), partitions, ..Group::default() }
        };
        for (all, growing, partition, throughput) in
            [(64, 20, 0, 20), (64, 3, 3, 0), (2, 1, 1, 0), (2, 2, 0, 2), (1, 1, 0, 1), (64, 0, 0, 0)]
        {
            let page =
                encode(of_topics(&Reading::judged(1, vec![group(all, growing)])), Format::negotiate(None));
            for (side, count) in [("partition", partition), ("throughput", throughput)] {
                let line = format!(
                    "highwater_growing_partitions{{group=\"g\",topic=\"t\",side=\"{side}\"}} {count}\n"
                );
                assert!(page.contains(&line), "{growing} of {all}: no {line}{page}");
            }
        }
    }

    #[test]
    fn topics_that_nobody_was_given_are_those_that_a_live_worker_tells() {
        let said = "nobody in group g was given 1 of the 3 partitions of t, which it subscribes to, for more than 1 min";
        let worker = |live, detail: Option<String>| Worker { live, detail, ..Worker::default() };
        let page = |workers| {
            let group = Group { group: "g".to_owned(), workers, ..Group::default() };
            encode(of_whole_groups(&Reading::of(9, vec![group])), Format::negotiate(None))
        };
        let name = "highwater_group_unassigned_topics{group=\"g\"}";
        let told =
            page(vec![worker(true, Some(format!("{said}; {said}"))), worker(true, Some(said.to_owned()))]);
        assert!(told.contains(&format!("{name} 2\n")), "{told}");
        let gone = page(vec![worker(false, Some(said.to_owned())), worker(true, None)]);
        assert!(gone.contains(&format!("{name} 0\n")), "{gone}");
    }

    #[test]
    fn a_loss_is_ahead_of_what_is_old_or_of_unknown_age_partition_by_partition() {
        let partition = |number, loss_seconds, lag_seconds, drain_seconds| Partition {
            topic: "t".to_owned(),
            partition: number,
            lag_records: Some(3),
            loss_seconds,
            lag_seconds,
            drain_seconds,
            ..Partition::default()
        };
        let kept_up = || partition(0, Some(1_800.0), Some(0.5), None);
        for (other, expected) in [
            // Of unknown age, and far from its own loss, or nobody knows.
            (partition(1, None, None, None), None),
            (partition(1, Some(90_000.0), None, None), Some("90000.0")),
            (partition(1, Some(600.0), None, None), Some("600.0")),
            (partition(1, Some(600.0), Some(590_000.0), None), Some("600.0")),
            (partition(1, Some(600.0), Some(590_000.0), Some(f64::INFINITY)), Some("600.0")),
            (partition(1, Some(600.0), Some(590_000.0), Some(60.0)), None),
            (partition(1, Some(600.0), Some(600.0), None), None),
        ] {
            let group =
                Group { group: "g".to_owned(), partitions: vec![kept_up(), other], ..Group::default() };
            let page = encode(of_topics(&Reading::judged(1, vec![group])), Format::Text);
            let told = page
                .lines()
                .find_map(|line| line.strip_prefix("highwater_loss_ahead_seconds{group=\"g\",topic=\"t\"} "));
            assert_eq!(told, expected, "{page}");
        }
    }

    #[test]
    fn stalled_partitions_are_their_owners() {
        let partition = |class: &str, owner: &str| Partition {
            class: class.to_owned(),
            owner: Some(owner.to_owned()),
            ..Partition::default()
        };
        let worker = |owner: &str| Worker { owner: owner.to_owned(), live: true, ..Worker::default() };
        let group = Group {
            group: "g".to_owned(),
            workers: vec![worker("a"), worker("b")],
            partitions: vec![partition("STALL", "a"), partition("OK", "a"), partition("OK", "b")],
            ..Group::default()
        };
        let page = encode(of_workers(&Reading::of(1, vec![group])), Format::Text);
        for (owner, count) in [("a", 1), ("b", 0)] {
            let line = format!("highwater_stalled_partitions{{group=\"g\",worker=\"{owner}\"}} {count}\n");
            assert!(page.contains(&line), "{line} is not in {page}");
        }
    }

    #[test]
    fn a_worker_that_stopped_has_not_died() {
        let worker = |live, stopped_at_ms| Worker { live, stopped_at_ms, ..Worker::default() };
        let workers =
            vec![worker(true, None), worker(false, Some(7)), worker(false, None), worker(false, None)];
        let group = Group { group: "g".to_owned(), workers, ..Group::default() };
        let page = encode(of_workers(&Reading::of(9, vec![group])), Format::negotiate(None));
        assert!(page.contains("highwater_workers_died{group=\"g\"} 2\n"), "{page}");
    }

    #[test]
    fn a_halt_for_a_limit_is_told_by_its_class_and_its_words() {
        let partition = |class: &str, detail: Option<&str>, reason: Option<&str>| Partition {
            class: class.to_owned(),
            detail: detail.map(str::to_owned),
            reason: reason.map(str::to_owned),
            ..Partition::default()
        };
        let said = format!("record t[0]@5 was rejected: why; {LIMIT_SAID} 100 dead letters in a row");
        for (class, detail, reason, is_one) in [
            ("HALTED", Some(&*said), None, true),
            ("HALTED", None, Some(&*said), true),
            ("HALTED", Some("record t[0]@5 was rejected: why"), None, false),
            ("HALTED", None, None, false),
            ("OK", Some(&*said), None, false),
        ] {
            assert_eq!(has_too_many_letters(&partition(class, detail, reason)), is_one, "{class} {detail:?}");
        }
    }

    #[test]
    fn of_two_processes_with_one_name_the_worse_is_told() {
        let worker = |owner: &str, since_commit_seconds| Worker {
            owner: owner.to_owned(),
            instance_id: Some("payments-0".to_owned()),
            live: true,
            since_commit_seconds,
            ..Worker::default()
        };
        let workers = vec![worker("a", 0.1), worker("b", 14.0), worker("c", 2.0)];
        let group = Group { group: "g".to_owned(), workers, ..Group::default() };
        let families = of_workers(&Reading::of(1, vec![group]));
        let page = encode(families, Format::Text);
        let told: Vec<&str> =
            page.lines().filter(|line| line.starts_with("highwater_since_commit_seconds{")).collect();
        assert_eq!(told, ["highwater_since_commit_seconds{group=\"g\",worker=\"payments-0\"} 14.0"]);
    }

    #[test]
    fn a_partition_that_was_never_seen_does_not_hide_how_old_the_others_are() {
        let seen = |partition, lag_records, as_of_ms| Partition {
            topic: "t".to_owned(),
            partition,
            lag_records,
            as_of_ms,
            ..Partition::default()
        };
        let partitions =
            vec![seen(0, Some(0), Some(40_000)), seen(1, None, None), seen(2, Some(0), Some(90_000))];
        let mut group = Group { group: "g".to_owned(), partitions, ..Group::default() };
        group.complete();
        let reading = Reading::of(100_000, vec![group]);
        let families = of_groups(&reading, &Counters::default());
        let page = encode(families, Format::Text);
        for line in [
            "highwater_survey_age_seconds{group=\"g\"} 60.0\n",
            "highwater_group_unknown_partitions{group=\"g\"} 1\n",
        ] {
            assert!(page.contains(line), "{line} is not in {page}");
        }
        assert!(!page.contains("highwater_group_lag_records"), "{page}");
    }
}
