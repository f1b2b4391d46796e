//! A group in at most ten lines.

use std::collections::BTreeMap;

use highwater::offsets::{GroupStatus, LastEvent, Trouble, TroubleKind};

/// How many kinds of trouble are shown: the five other lines and a line for the rest make ten.
const KINDS: usize = 4;
/// How long a reason may be. All of it is in `offsets describe` and in the JSON.
const REASON_CHARS: usize = 200;
/// How many further partitions of the same trouble are named.
const NAMED: usize = 8;

pub(super) fn group(status: &GroupStatus) -> String {
    let well = if status.well { "well" } else { "NOT WELL" };
    let mut lines = vec![format!("{}: {well}", status.group)];
    let mut kinds: Vec<(TroubleKind, Vec<&Trouble>)> = Vec::new();
    for trouble in &status.troubles {
        match kinds.iter_mut().find(|(kind, _)| *kind == trouble.kind) {
            Some((_, same)) => same.push(trouble),
            None => kinds.push((trouble.kind, vec![trouble])),
        }
    }
    lines.extend(kinds.iter().take(KINDS).map(|(kind, same)| line(name(*kind), &same_kind(same))));
    if kinds.len() > KINDS {
        let rest: Vec<&str> = kinds[KINDS..].iter().map(|(kind, _)| name(*kind)).collect();
        lines.push(line("and", &rest.join(", ")));
    }
    lines.push(line("lag", &lag(status)));
    lines.push(line("commit", &commit(status)));
    lines.push(line("workers", &workers(status)));
    let letters = status.dead_letters.as_ref().filter(|letters| !letters.is_empty());
    lines.extend(letters.map(|letters| line("dead", &dead_letters(letters))));
    lines.extend(status.last_event.as_ref().map(|last| line("last", &event(last))));
    lines.join("\n") + "\n"
}

fn line(name: &str, text: &str) -> String {
    format!("  {name:<10} {text}")
}

fn name(kind: TroubleKind) -> &'static str {
    match kind {
        TroubleKind::Halted | TroubleKind::HaltedByOperator => "halted",
        TroubleKind::OutsideLog => "outside",
        TroubleKind::NobodyAtWork => "down",
        TroubleKind::DeadOwner => "dead",
        TroubleKind::Unowned => "unowned",
        TroubleKind::NoLeader => "no leader",
        TroubleKind::Stuck => "stuck",
        TroubleKind::Stalled => "stalled",
        TroubleKind::Growing => "growing",
        TroubleKind::Rewound => "rewound",
        TroubleKind::Claiming => "claiming",
        TroubleKind::Fenced => "fenced",
        TroubleKind::NotReady => "not ready",
        TroubleKind::Paused => "paused",
        TroubleKind::Lag => "behind",
        TroubleKind::DeadLetters => "letters",
        TroubleKind::KafkaSilent => "Kafka",
        _ => "other",
    }
}

/// The first of its kind in full, and where else it is so.
fn same_kind(same: &[&Trouble]) -> String {
    let Some((first, others)) = same.split_first() else { return String::new() };
    let mut text = one(first);
    if !others.is_empty() {
        let mut places: Vec<String> =
            others.iter().take(NAMED).filter_map(|trouble| place(trouble)).collect();
        if others.len() > places.len() {
            places.push(format!("{} more", others.len() - places.len()));
        }
        text += &format!("; so {} {}", if others.len() == 1 { "is" } else { "are" }, places.join(", "));
    }
    text
}

fn one(trouble: &Trouble) -> String {
    let mut text = match (place(trouble), trouble.next_offset) {
        (Some(place), Some(offset)) => format!("{place} at {offset}"),
        _ => String::new(),
    };
    match trouble.kind {
        TroubleKind::HaltedByOperator => text += " by a person",
        TroubleKind::NobodyAtWork => text += "no worker is live",
        TroubleKind::Unowned => text += ": nobody holds it",
        TroubleKind::DeadOwner => text += ": its owner has stopped beating",
        _ => {}
    }
    if let Some(owner) = trouble.owner.as_ref().filter(|_| is_about_the_owner(trouble.kind)) {
        let host = trouble.host.as_deref().unwrap_or("?");
        text += &format!("{}worker {owner} on {host}", if text.is_empty() { "" } else { ", " });
    }
    if let Some(seconds) = trouble.seconds.filter(|_| trouble.kind != TroubleKind::NobodyAtWork) {
        text += &format!(", for {}", span(seconds));
    }
    if let Some(detail) = &trouble.detail {
        text += &format!("{}{}", if text.is_empty() { "" } else { ": " }, short(detail));
    }
    text
}

fn is_about_the_owner(kind: TroubleKind) -> bool {
    matches!(kind, TroubleKind::DeadOwner | TroubleKind::NotReady)
}

fn place(trouble: &Trouble) -> Option<String> {
    match (&trouble.topic, trouble.partition) {
        (Some(topic), Some(partition)) => Some(format!("{topic}:{partition}")),
        _ => trouble.host.clone(),
    }
}

fn lag(status: &GroupStatus) -> String {
    let lag = &status.lag;
    let behind = format!("in {} of {} partitions", lag.partitions, status.partitions);
    match (lag.offsets, lag.seconds) {
        (Some(0), _) => format!("none in {} partitions", status.partitions),
        (offsets, seconds) => {
            let offsets = offsets.map_or_else(|| "unknown".to_owned(), |offsets| offsets.to_string());
            let seconds = match (seconds, &lag.oldest) {
                (Some(seconds), Some(oldest)) => {
                    format!("; the oldest next record is {} old ({oldest})", span(seconds))
                }
                _ => String::new(),
            };
            format!("{offsets} {behind}{seconds}")
        }
    }
}

fn commit(status: &GroupStatus) -> String {
    match (status.seconds_since_commit, &status.committed_at) {
        (Some(seconds), Some(at)) => format!("{} ago ({at})", span(seconds)),
        _ => "none yet".to_owned(),
    }
}

fn workers(status: &GroupStatus) -> String {
    let workers = &status.workers;
    let versions: Vec<String> = match workers.versions.len() {
        0 => Vec::new(),
        1 => workers.versions.keys().map(|version| format!("version {version}")).collect(),
        _ => {
            workers.versions.iter().map(|(version, count)| format!("{count} of version {version}")).collect()
        }
    };
    let versions = if versions.is_empty() { String::new() } else { format!(" ({})", versions.join(", ")) };
    format!("{} live{versions}; {} of {} partitions held", workers.live, status.held, status.partitions)
}

fn dead_letters(letters: &BTreeMap<String, i64>) -> String {
    let states: Vec<String> = letters.iter().map(|(state, count)| format!("{count} {state}")).collect();
    format!("letters: {}", states.join(", "))
}

fn event(event: &LastEvent) -> String {
    let LastEvent { kind, actor, at, seconds, topic, partition, partitions, .. } = event;
    let others = if *partitions > 1 { format!(" and {} more", partitions - 1) } else { String::new() };
    let ago = span(*seconds);
    format!("{kind} by {actor} {ago} ago ({at}), {topic}:{partition}{others}: {}", short(&event.reason))
}

/// One line, not endless.
fn short(text: &str) -> String {
    let mut short: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = short.char_indices().nth(REASON_CHARS) {
        short.truncate(end);
        short.push('…');
    }
    short
}

/// As people say it.
fn span(seconds: f64) -> String {
    const MINUTE: f64 = 60.0;
    const HOUR: f64 = 60.0 * MINUTE;
    const DAY: f64 = 24.0 * HOUR;
    match seconds {
        s if s < MINUTE => format!("{s:.1} s"),
        s if s < 2.0 * HOUR => format!("{:.0} min", s / MINUTE),
        s if s < 2.0 * DAY => format!("{:.0} h", s / HOUR),
        s => format!("{:.0} days", s / DAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_fits_a_line_and_a_span_is_read_at_a_glance() {
        assert_eq!(short("a\n  b"), "a b");
        assert_eq!(short(&"ü".repeat(201)).chars().count(), 201);
        for (seconds, text) in
            [(0.04, "0.0 s"), (59.9, "59.9 s"), (90.0, "2 min"), (7_200.0, "2 h"), (1e6, "12 days")]
        {
            assert_eq!(span(seconds), text);
        }
    }
}
