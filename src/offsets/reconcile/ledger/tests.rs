//! Chains, whole and broken.

use super::*;

pub(in super::super) fn claim(epoch: i64, from: i64, to: i64, claimed: i64, replaced: Option<i64>) -> Claim {
    Claim {
        epoch,
        owner: Some(format!("owner {epoch}")),
        instance_id: None,
        from,
        to,
        records: to - from,
        batches: 1,
        claimed_us: claimed,
        claimed_at: String::new(),
        replaced_us: replaced,
        replaced_at: None,
        lost: Vec::new(),
    }
}

pub(in super::super) fn event(id: i64, kind: &str, from: Option<i64>, to: Option<i64>, at: i64) -> Event {
    let (at_us, at) = (at, String::new());
    Event {
        id,
        kind: kind.to_owned(),
        from,
        to,
        at_us,
        at,
        actor: "ana".to_owned(),
        reason: "why".to_owned(),
    }
}

pub(in super::super) fn history(claims: Vec<Claim>, events: Vec<Event>, next_offset: i64) -> History {
    History { claims, events, next_offset }
}

/// Nothing was pruned.
pub(in super::super) fn known() -> Kept {
    Kept { now_us: 1_000, events_since_us: Some(0) }
}

/// Without the details: `start 0, claim 1 0..50, reset 50..30, …`.
fn told(history: History, kept: Kept) -> String {
    let steps = chain(history, kept).into_iter().map(|step| match step {
        Step::Start { to, adopted, .. } => format!("{} {to}", if adopted { "adopt" } else { "start" }),
        Step::Forgotten { to } => format!("forgotten ..{to}"),
        Step::Claim(Claim { epoch, from, to, lost, .. }) => {
            let lost: String = lost.iter().map(|lost| format!(" without {lost:?}")).collect();
            format!("claim {epoch} {from}..{to}{lost}")
        }
        Step::Move { from, to, event } => format!("{} {from}..{to}", event.kind),
        Step::Delete { from, .. } => format!("delete {from}"),
        Step::Hole { from, to } => format!("hole {from}..{to}"),
        Step::Overlap { from, to } => format!("overlap {from}..{to}"),
    });
    steps.collect::<Vec<_>>().join(", ")
}

fn start() -> Event {
    event(1, "start", None, Some(0), 0)
}

#[test]
fn a_chain_is_whole() {
    let claims =
        || vec![claim(2, 50, 50, 20, Some(30)), claim(1, 0, 50, 10, Some(20)), claim(3, 50, 90, 30, None)];
    let whole = "start 0, claim 1 0..50, claim 2 50..50, claim 3 50..90";
    assert_eq!(told(history(claims(), vec![start()], 90), known()), whole);
    assert_eq!(told(history(Vec::new(), vec![start()], 0), known()), "start 0");
    let adopted = event(1, "adopt", None, Some(7), 0);
    assert_eq!(told(history(Vec::new(), vec![adopted], 7), known()), "adopt 7");
}

#[test]
fn moves_are_found_by_where_they_lead() {
    let moves = vec![
        start(),
        event(2, "reset", Some(50), Some(10), 20),
        event(3, "reset", Some(10), Some(40), 21),
        event(4, "skip", Some(60), Some(65), 40),
    ];
    let claims = vec![claim(1, 0, 50, 10, Some(20)), claim(4, 40, 60, 30, Some(40))];
    let told_ = told(history(claims.clone(), moves.clone(), 65), known());
    let expected = "start 0, claim 1 0..50, reset 50..10, reset 10..40, claim 4 40..60, skip 60..65";
    assert_eq!(told_, expected);
    // A clock that has gone back changes nothing.
    let mut late = moves;
    late[1].at_us = 35;
    late[2].at_us = 36;
    assert_eq!(told(history(claims, late, 65), known()), expected);
    // There and back between two claims that meet; and once more, but later.
    let idle = vec![claim(1, 0, 50, 10, Some(20)), claim(3, 50, 50, 30, Some(40))];
    let moves =
        vec![start(), event(2, "reset", Some(50), Some(0), 20), event(3, "reset", Some(0), Some(50), 21)];
    let again = event(4, "reset", Some(50), Some(5), 40);
    assert_eq!(
        told(history(idle, [moves, vec![again]].concat(), 5), known()),
        "start 0, claim 1 0..50, reset 50..0, reset 0..50, claim 3 50..50, reset 50..5"
    );
}

#[test]
fn losses_are_within_a_claim() {
    let lost = event(2, "lost", Some(20), Some(30), 15);
    let claims = vec![claim(1, 0, 20, 10, Some(14)), claim(2, 20, 50, 14, None)];
    let told_ = told(history(claims, vec![start(), lost], 50), known());
    assert_eq!(told_, "start 0, claim 1 0..20, claim 2 20..50 without 20..30");
}

#[test]
fn holes_and_overlaps_are_called_out() {
    let two = |from| vec![claim(1, 0, 50, 10, Some(20)), claim(2, from, 90, 20, None)];
    let of = |claims, next| told(history(claims, vec![start()], next), known());
    assert_eq!(of(two(60), 90), "start 0, claim 1 0..50, hole 50..60, claim 2 60..90");
    assert_eq!(of(two(40), 90), "start 0, claim 1 0..50, overlap 40..50, claim 2 40..90");
    assert_eq!(
        of(vec![claim(1, 5, 50, 10, None)], 50),
        "start 0, hole 0..5, claim 1 5..50",
        "the first claim that there ever was"
    );
    let released = vec![claim(1, 0, 50, 10, Some(20))];
    assert_eq!(of(released, 55), "start 0, claim 1 0..50, hole 50..55");
}

#[test]
fn what_was_pruned_is_no_hole() {
    let later = || vec![claim(5, 100, 150, 30, Some(40)), claim(6, 150, 160, 40, None)];
    let rest = "claim 5 100..150, claim 6 150..160";
    assert_eq!(told(history(later(), Vec::new(), 160), known()), format!("forgotten ..100, {rest}"));
    assert_eq!(
        told(history(later(), vec![start()], 160), known()),
        format!("start 0, forgotten ..100, {rest}")
    );
    let moved = vec![start(), event(2, "reset", Some(500), Some(100), 29)];
    assert_eq!(
        told(history(later(), moved, 160), known()),
        format!("start 0, reset 500..100, forgotten ..500, {rest}"),
        "what was applied up to 500 is not known, either"
    );
    assert_eq!(told(history(Vec::new(), Vec::new(), 70), known()), "forgotten ..70");
    assert_eq!(told(history(Vec::new(), vec![start()], 70), known()), "start 0, forgotten ..70");
    // Orders came before the first claim: nothing was pruned.
    let first = vec![claim(3, 10, 20, 30, None)];
    let moved = vec![start(), event(2, "reset", Some(0), Some(10), 29)];
    assert_eq!(told(history(first, moved, 20), known()), "start 0, reset 0..10, claim 3 10..20");
    // Moves are pruned by age, and one that is gone may explain what is left.
    let old = Kept { now_us: 2 * LEAST_RETENTION_US, events_since_us: Some(25) };
    let claims = || vec![claim(1, 0, 50, 10, Some(20)), claim(3, 10, 90, 21, None)];
    let recent = event(9, "skip", Some(90), Some(95), 25);
    assert_eq!(
        told(history(claims(), vec![recent.clone()], 95), old),
        "forgotten ..0, claim 1 0..50, forgotten ..50, claim 3 10..90, skip 90..95"
    );
    let younger = Kept { events_since_us: Some(15), ..old };
    assert_eq!(
        told(history(claims(), vec![recent], 95), younger),
        "forgotten ..0, claim 1 0..50, overlap 10..50, claim 3 10..90, skip 90..95"
    );
}

#[test]
fn a_deletion_begins_a_new_life() {
    let claims = vec![claim(1, 0, 50, 10, Some(20)), claim(1, 5, 30, 32, None)];
    let events = vec![start(), event(2, "delete", Some(50), None, 20), event(3, "start", None, Some(5), 31)];
    assert_eq!(
        told(history(claims, events, 30), known()),
        "start 0, claim 1 0..50, delete 50, start 5, claim 1 5..30"
    );
}
