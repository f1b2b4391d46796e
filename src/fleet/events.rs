//! What happened: one axis for what people did, what workers did, and what was deployed.

use std::collections::BTreeMap;

use serde::Serialize;

use super::group::{Group, Worker};

/// How many a group shows.
const LIMIT: usize = 200;
/// Claims by one process within so many milliseconds are one event, as in SQL.
const DEED_MS: i64 = 5_000;
/// A worker whose heart has not beaten for so long is gone.
const GONE_MS: i64 = 3_000;

/// What kind of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// A person, or a policy, has moved an offset: reset, adopt, skip, delete, undo.
    Move,
    /// Records were lost, and it went on behind them.
    Lost,
    /// A person has told the workers something: halt, pause, resume, retry.
    Order,
    /// A partition has stopped with an error.
    Halt,
    /// A process has claimed partitions.
    Claim,
    /// A worker has started.
    Start,
    /// A worker has started in a version that the group did not have.
    Deploy,
    /// A worker has stopped as it should.
    Stop,
    /// A worker's heart has stopped beating.
    Death,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Event {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// What kind.
    pub kind: EventKind,
    /// Its name: `reset`, `pause`, `claim`, …
    pub what: String,
    /// Who did it.
    pub actor: String,
    /// Why, in the words of whoever did it.
    pub reason: String,
    /// Where: one of the partitions, as `topic:partition`.
    pub place: Option<String>,
    /// How many partitions it was.
    pub partitions: i64,
}

impl Event {
    /// As SQL has added it up: the name, who, why, when, and where: topic, partition, how many.
    pub(super) fn of_row(
        what: String,
        actor: String,
        reason: String,
        at_ms: i64,
        place: (String, i32, i64),
    ) -> Self {
        let kind = match &*what {
            "lost" => EventKind::Lost,
            "claim" => EventKind::Claim,
            "halt" | "pause" | "resume" | "retry" => EventKind::Order,
            _ => EventKind::Move,
        };
        let (topic, partition, partitions) = place;
        Self { at_ms, kind, what, actor, reason, place: Some(format!("{topic}:{partition}")), partitions }
    }
}

/// The newest first.
pub(super) fn of_group(group: &Group, deeds: Vec<Event>, since_ms: i64) -> Vec<Event> {
    let mut events = deeds;
    for event in &mut events {
        if event.kind == EventKind::Claim {
            event.actor = name_of(&group.workers, &event.actor);
        }
    }
    events.extend(present_claims(group, since_ms));
    events.extend(halts(group, since_ms));
    events.extend(lives(&group.workers, since_ms));
    events.retain(|event| event.at_ms >= since_ms);
    events.sort_by_key(|event| std::cmp::Reverse(event.at_ms));
    events.truncate(LIMIT);
    events
}

/// By which people know a process; its id where nobody knows it any more.
fn name_of(workers: &[Worker], owner: &str) -> String {
    workers.iter().find(|worker| worker.owner == owner).map_or_else(|| owner.to_owned(), Worker::name)
}

/// Claims that are not history yet.
fn present_claims(group: &Group, since_ms: i64) -> Vec<Event> {
    let mut claims: BTreeMap<(i64, &str), Event> = BTreeMap::new();
    for partition in &group.partitions {
        let (Some(at_ms), Some(by)) = (partition.claimed_at_ms, &partition.claimed_by) else { continue };
        // A reset's own claim has no owner: the event beside it tells more.
        if at_ms < since_ms || partition.owner.as_ref() != Some(by) {
            continue;
        }
        let event = claims.entry((at_ms / DEED_MS, by.as_str())).or_insert_with(|| Event {
            at_ms,
            kind: EventKind::Claim,
            what: "claim".to_owned(),
            actor: name_of(&group.workers, by),
            reason: String::new(),
            place: Some(partition.place()),
            partitions: 0,
        });
        event.at_ms = event.at_ms.max(at_ms);
        event.partitions += 1;
    }
    claims.into_values().collect()
}

fn halts(group: &Group, since_ms: i64) -> Vec<Event> {
    let halted = group.partitions.iter().filter(|partition| partition.state.as_deref() == Some("halted"));
    let halted = halted.filter_map(|partition| {
        let at_ms = partition.state_since_ms.filter(|at| *at >= since_ms)?;
        Some(Event {
            at_ms,
            kind: EventKind::Halt,
            what: "halted".to_owned(),
            actor: partition.owner.as_deref().map(|owner| name_of(&group.workers, owner)).unwrap_or_default(),
            reason: partition.detail.clone().unwrap_or_default(),
            place: Some(partition.place()),
            partitions: 1,
        })
    });
    halted.collect()
}

fn lives(workers: &[Worker], since_ms: i64) -> Vec<Event> {
    let mut events = Vec::new();
    let of = |worker: &Worker, at_ms, kind, what: &str, reason: String| Event {
        at_ms,
        kind,
        what: what.to_owned(),
        actor: worker.name(),
        reason,
        place: None,
        partitions: i64::try_from(worker.partitions).unwrap_or(i64::MAX),
    };
    for worker in workers {
        if worker.started_at_ms >= since_ms {
            let before = workers.iter().filter(|other| {
                other.started_at_ms < worker.started_at_ms && other.program == worker.program
            });
            let mut before = before.map(|other| &other.version).peekable();
            let is_new = before.peek().is_some() && !before.any(|version| *version == worker.version);
            let (kind, what) =
                if is_new { (EventKind::Deploy, "deploy") } else { (EventKind::Start, "start") };
            events.push(of(
                worker,
                worker.started_at_ms,
                kind,
                what,
                format!("{} {}", worker.program, worker.version),
            ));
        }
        if let Some(at_ms) = worker.stopped_at_ms {
            events.push(of(worker, at_ms, EventKind::Stop, "stop", String::new()));
        } else if !worker.live {
            let at_ms = worker.heartbeat_at_ms + GONE_MS;
            events.push(of(
                worker,
                at_ms,
                EventKind::Death,
                "death",
                "its heart has stopped beating".to_owned(),
            ));
        }
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(owner: &str, version: &str, started_at_ms: i64) -> Worker {
        Worker {
            owner: owner.to_owned(),
            instance_id: Some(format!("pod-{owner}")),
            version: version.to_owned(),
            started_at_ms,
            heartbeat_at_ms: 9_000,
            live: true,
            ..Worker::default()
        }
    }

    #[test]
    fn a_new_version_is_a_deploy_and_a_silent_heart_a_death() {
        let group = Group {
            workers: vec![
                worker("a", "1", 1_000),
                worker("b", "1", 2_000),
                Worker { live: false, ..worker("c", "2", 3_000) },
                Worker { stopped_at_ms: Some(4_000), live: false, ..worker("d", "2", 3_500) },
            ],
            ..Group::default()
        };
        let events = of_group(&group, Vec::new(), 1_500);
        let seen: Vec<(i64, &str, &str)> = events.iter().map(|e| (e.at_ms, &*e.what, &*e.actor)).collect();
        assert_eq!(
            seen,
            [
                (12_000, "death", "pod-c"),
                (4_000, "stop", "pod-d"),
                (3_500, "start", "pod-d"),
                (3_000, "deploy", "pod-c"),
                (2_000, "start", "pod-b")
            ]
        );
    }
}
