//! The command for what one would do next, to be copied. Pure; nothing here runs anything.

use serde::Serialize;

use super::group::{Group, Partition};

/// How many are given.
const LIMIT: usize = 5;

/// A step, and the command for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Advice {
    /// What it is for.
    pub what: String,
    /// As a shell reads it; none: nothing that a command could do.
    pub command: Option<String>,
}

impl Advice {
    fn run(what: impl Into<String>, command: String) -> Self {
        Self { what: what.into(), command: Some(command) }
    }

    fn say(what: impl Into<String>) -> Self {
        Self { what: what.into(), command: None }
    }
}

pub(super) fn advise(group: &Group) -> Vec<Advice> {
    let name = quoted(&group.group);
    let mut steps = Vec::new();
    let found = &group.diagnosis;
    if found.consumer.is_some() {
        let late = group.workers.iter().filter(|worker| found.workers.contains(&worker.owner) && worker.live);
        let is_silent = |owner: &str| {
            group.partitions.iter().any(|p| p.owner.as_deref() == Some(owner) && p.is_unreported())
        };
        for worker in late.take(2) {
            if is_silent(&worker.owner) {
                steps.push(Advice::say(format!(
                    "{} lives, and cannot write its reports (process {} on {}): its log says why; most often a lock on \
                     partition_status. Whether it applies records, its offsets show.",
                    worker.name(),
                    worker.process_id,
                    worker.host
                )));
                continue;
            }
            let slowest =
                worker.slowest.as_deref().map(|place| format!(", which holds {place}")).unwrap_or_default();
            steps.push(Advice::say(format!(
                "Look at what {}{slowest} is doing: process {} on {}. If it does not come back by itself, restart it: its \
                 claims pass on, and nothing is applied twice.",
                worker.name(),
                worker.process_id,
                worker.host
            )));
        }
        if group.live_workers == 0 {
            steps.push(Advice::say("Start the fleet: it goes on where it stopped."));
        }
        steps.push(Advice::run(
            "What each partition waits for, and who Kafka thinks has it",
            format!("highwater offsets describe --group {name} --members"),
        ));
        steps.push(Advice::run(
            "What holds Postgres up: locks, old snapshots, connections",
            format!("highwater doctor --quiet --group {name}"),
        ));
    }
    if found.partition.is_some() {
        let bad = group.partitions.iter().filter(|partition| found.partitions.contains(&partition.place()));
        for partition in bad.take(1) {
            steps.extend(of_partition(&name, partition));
        }
    }
    if found.throughput.is_some() {
        let (workers, partitions) = (group.live_workers, group.partitions.len());
        steps.push(if workers < partitions {
            Advice::say(format!("More workers can help: {workers} share {partitions} partitions. First see that Postgres is not the bottleneck:"))
        } else {
            Advice::say("More workers cannot help: each partition has one already. Look at what a batch takes:".to_owned())
        });
        steps.push(Advice::run("What holds Postgres up", format!("highwater doctor --quiet --group {name}")));
        steps.push(Advice::run(
            "Whether retention could overtake it",
            format!("highwater offsets describe --group {name}"),
        ));
    }
    if group.waiting_letters().values().sum::<i64>() > 0 {
        steps.push(Advice::run(
            "What kinds of dead letters wait, since when, and why",
            format!("highwater dead-letters list --group {name}"),
        ));
    }
    if let Some(paused) = group.partitions.iter().find(|partition| partition.class == "PAUSED") {
        let place = quoted(&paused.place());
        steps.push(Advice::run(
            "Let it go on, when it may",
            format!("highwater partitions resume --group {name} --topic {place}"),
        ));
    }
    if steps.is_empty() {
        steps.push(Advice::run("The same in a terminal", format!("highwater status --group {name}")));
    }
    steps.truncate(LIMIT);
    steps
}

/// What one would type about a kind of dead letters.
pub(super) fn of_letters(
    group: &str,
    partition: Option<(&str, i32)>,
    kind: &str,
    waiting: i64,
) -> Vec<Advice> {
    if waiting == 0 {
        return Vec::new();
    }
    let place = partition.map(|(topic, partition)| quoted(&format!("{topic}:{partition}")));
    let place = place.map(|place| format!(" --topic {place}")).unwrap_or_default();
    let which = format!("--group {group}{place} --kind {kind}");
    vec![
        Advice::run(
            "Which records these are (without their content)",
            format!("highwater dead-letters list {which} --records --limit 5"),
        ),
        Advice::run(
            "Hold the group while the cause is mended, if they go on coming",
            format!("highwater partitions pause --group {group} --all-topics --reason '…'"),
        ),
        Advice::run(
            "Have the workers apply them once more, when the cause is mended: counts first",
            format!("highwater dead-letters redrive {which} --reason '…' --dry-run"),
        ),
        Advice::run(
            "Give them to somebody: a JSON object a line",
            format!("highwater dead-letters export {which} > letters.jsonl"),
        ),
        Advice::run(
            "Decide that they will not be applied: counts first",
            format!("highwater dead-letters discard {which} --reason '…' --dry-run"),
        ),
    ]
}

/// For the page of a partition, too.
pub(super) fn of_partition(group: &str, partition: &Partition) -> Vec<Advice> {
    let (place, next) = (quoted(&partition.place()), partition.next_offset);
    let which = format!("--group {group} --topic {place}");
    match &*partition.class {
        "HALTED" => vec![
            Advice::run(
                "Which record it is (without its content)",
                format!("highwater tail {which} --from {next} -n 1"),
            ),
            Advice::run("Try again, once the cause is mended", format!("highwater partitions retry {which}")),
            Advice::run(
                "Or step over that record: it is kept as a dead letter",
                format!("highwater partitions skip {which} --to {} --reason '…'", next.saturating_add(1)),
            ),
        ],
        "PAUSED" => {
            vec![Advice::run("Let it go on, when it may", format!("highwater partitions resume {which}"))]
        }
        "REWIND" => vec![Advice::run(
            "Who has moved it, and why",
            format!("highwater offsets events --group {group}"),
        )],
        "WARN" | "ERR" => vec![
            Advice::run(
                "What is in it: the next records",
                format!("highwater tail {which} --from group -n 20"),
            ),
            Advice::run("Where it stands", format!("highwater offsets describe {which}")),
        ],
        _ => vec![Advice::run("Where it stands", format!("highwater offsets describe {which}"))],
    }
}

/// A word of a command line as a shell reads it, in single quotes where it needs any.
#[must_use]
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=@+^".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("--topic"), "--topic");
        assert_eq!(quoted("payments:0,1"), "payments:0,1");
        assert_eq!(quoted("it's me"), r"'it'\''s me'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn a_halted_partition_is_looked_at_tried_again_or_stepped_over() {
        let halted = Partition {
            topic: "pay ments".to_owned(),
            partition: 3,
            next_offset: 4204,
            class: "HALTED".to_owned(),
            severity: 9,
            ..Partition::default()
        };
        let mut group = Group { group: "fraud".to_owned(), partitions: vec![halted], ..Group::default() };
        group.complete();
        let commands: Vec<&str> = group.advice.iter().filter_map(|step| step.command.as_deref()).collect();
        assert_eq!(
            commands,
            [
                "highwater tail --group fraud --topic 'pay ments:3' --from 4204 -n 1",
                "highwater partitions retry --group fraud --topic 'pay ments:3'",
                "highwater partitions skip --group fraud --topic 'pay ments:3' --to 4205 --reason '…'",
            ]
        );
    }
}
