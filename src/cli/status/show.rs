//! A group in at most ten lines.

use highwater::offsets::{GroupStatus, LastEvent, PartitionLetters, Trouble, TroubleKind};

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
        let is_same = |first: &Trouble| cause(first) == cause(trouble);
        match kinds.iter_mut().find(|(kind, same)| *kind == trouble.kind && is_same(same[0])) {
            Some((_, same)) => same.push(trouble),
            None => kinds.push((trouble.kind, vec![trouble])),
        }
    }
    lines.extend(kinds.iter().take(KINDS).map(|(kind, same)| line(name(*kind), &same_kind(same))));
    if kinds.len() > KINDS {
        let mut rest: Vec<&str> = kinds[KINDS..].iter().map(|(kind, _)| name(*kind)).collect();
        rest.dedup();
        lines.push(line("and", &rest.join(", ")));
    }
    lines.push(line("lag", &lag(status)));
    lines.push(line("commit", &commit(status)));
    lines.push(line("workers", &workers(status)));
    lines.extend(dead_letters(status).map(|letters| line("dead", &letters)));
    lines.extend(status.last_event.as_ref().map(|last| line("last", &event(last))));
    lines.join("\n") + "\n"
}

/// What is said of it, without the place and the numbers: two partitions that say the same have one trouble.
fn cause(trouble: &Trouble) -> Option<String> {
    let detail = trouble.detail.as_ref()?;
    let detail = match &trouble.topic {
        Some(topic) => detail.replace(topic.as_str(), ""),
        None => detail.clone(),
    };
    Some(detail.chars().filter(|c| !c.is_ascii_digit()).collect())
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
        TroubleKind::Unassigned => "unassigned",
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
        let shown =
            if trouble.kind == TroubleKind::Halted { with_its_way_out(detail) } else { short(detail) };
        text += &format!("{}{shown}", if text.is_empty() { "" } else { ": " });
    }
    text
}

/// What lets it go on stands at the end of a halt's text, and is not to be cut off.
fn with_its_way_out(detail: &str) -> String {
    const RETRY: &str = "`highwater partitions retry";
    let whole = short(detail);
    let Some((before, from)) = detail.rfind(RETRY).map(|at| detail.split_at(at)) else { return whole };
    let Some(command) = from[1..].split('`').next().filter(|command| !whole.contains(*command)) else {
        return whole;
    };
    let before = short(before);
    let then = if before.ends_with('…') { " then " } else { " " };
    format!("{before}{then}`{command}`")
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

/// How many wait, since when and where, and what becomes of the next one; none where nothing is set aside.
fn dead_letters(status: &GroupStatus) -> Option<String> {
    let setting_aside = status.on_rejected.iter().filter(|(policy, _)| *policy != "halt");
    let names: Vec<&str> = setting_aside.clone().map(|(policy, _)| policy.as_str()).collect();
    let set_aside: usize = setting_aside.map(|(_, partitions)| partitions).sum();
    let policy = match set_aside {
        0 => String::new(),
        all if all == status.on_rejected.values().sum::<usize>() => {
            format!("; on_rejected = {}", names.join(", "))
        }
        _ => format!("; on_rejected = {} in some partitions", names.join(", ")),
    };
    let states = status.dead_letters.as_ref()?.iter().map(|(state, count)| format!("{count} {state}"));
    let states: Vec<String> = states.collect();
    if states.is_empty() {
        return (set_aside > 0).then(|| format!("letters: none{policy}"));
    }
    let oldest = status.dead_letters_in.iter().filter_map(|of| of.seconds).reduce(f64::max);
    let oldest = oldest.map(|seconds| format!(", the oldest for {}", span(seconds))).unwrap_or_default();
    let place = |of: &PartitionLetters| format!("{}:{} {}", of.topic, of.partition, of.waiting);
    let mut places: Vec<String> = status.dead_letters_in.iter().take(NAMED).map(place).collect();
    if status.dead_letters_in.len() > places.len() {
        places.push(format!("{} more partitions", status.dead_letters_in.len() - places.len()));
    }
    Some(format!("letters: {}{oldest}: {}{policy}", states.join(", "), places.join(", ")))
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
    fn the_way_out_of_a_halt_is_not_cut_off() {
        let command = "`highwater partitions retry --group g --topic t:3`";
        for (length, end) in [(300, format!("x… then {command}")), (180, format!("x; then {command}"))] {
            let shown = with_its_way_out(&format!("{}; then {command}, or step over it", "x".repeat(length)));
            assert!(shown.ends_with(&end), "{shown}");
        }
        let whole = format!("x; {command}");
        assert_eq!(with_its_way_out(&whole), whole);
        assert_eq!(with_its_way_out("x"), "x");
    }

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
