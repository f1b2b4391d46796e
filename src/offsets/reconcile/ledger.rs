//! The coverage ledger of a partition, as a chain: every claim begins where the one before it ended, or where a recorded
//! move has put it. Pure.
//!
//! Claims are in the order of their epochs; a topic whose offsets were deleted begins a new life, with epochs of its own.
//! Moves are found by their offsets: clocks only decide where that leaves a choice.

use std::ops::Range;

/// A claim: finished (a row of `claim_history`), or the present one (`consumer_offset`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::offsets) struct Claim {
    pub(in crate::offsets) epoch: i64,
    pub(in crate::offsets) owner: Option<String>,
    pub(in crate::offsets) instance_id: Option<String>,
    pub(in crate::offsets) from: i64,
    pub(in crate::offsets) to: i64,
    pub(in crate::offsets) records: i64,
    pub(in crate::offsets) batches: i64,
    /// Microseconds since 1970, by the database's clock; and for people.
    pub(in crate::offsets) claimed_us: i64,
    pub(in crate::offsets) claimed_at: String,
    /// None: it is the present one.
    pub(in crate::offsets) replaced_us: Option<i64>,
    pub(in crate::offsets) replaced_at: Option<String>,
    /// What was stepped over under it, because Kafka did not hold it any more.
    pub(in crate::offsets) lost: Vec<Range<i64>>,
}

/// A row of `offset_event`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::offsets) struct Event {
    pub(in crate::offsets) id: i64,
    pub(in crate::offsets) kind: String,
    pub(in crate::offsets) from: Option<i64>,
    pub(in crate::offsets) to: Option<i64>,
    pub(in crate::offsets) at_us: i64,
    pub(in crate::offsets) at: String,
    pub(in crate::offsets) actor: String,
    pub(in crate::offsets) reason: String,
}

impl Event {
    /// Where a life begins: at the start of a group, or of a partition that was added.
    fn is_start(&self) -> bool {
        self.from.is_none() && self.to.is_some() && matches!(&*self.kind, "start" | "adopt")
    }

    pub(in crate::offsets) fn is_delete(&self) -> bool {
        self.kind == "delete"
    }
}

/// What a partition's history consists of.
#[derive(Debug, Clone, Default)]
pub(in crate::offsets) struct History {
    pub(in crate::offsets) claims: Vec<Claim>,
    pub(in crate::offsets) events: Vec<Event>,
    pub(in crate::offsets) next_offset: i64,
}

/// How far back history is known: what is older is pruned, in the order of its age.
#[derive(Debug, Clone, Copy)]
pub(in crate::offsets) struct Kept {
    /// By the database's clock, as are the others.
    pub(in crate::offsets) now_us: i64,
    /// When the group's oldest event that is left occurred.
    pub(in crate::offsets) events_since_us: Option<i64>,
}

/// Events are kept for a day at least.
const LEAST_RETENTION_US: i64 = 86_400_000_000;

impl Kept {
    /// Whether an event of that time may have been pruned.
    fn may_lack(&self, at_us: i64) -> bool {
        at_us < self.now_us - LEAST_RETENTION_US && self.events_since_us.is_none_or(|since| since > at_us)
    }
}

/// A link of the chain, in the order in which they came to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::offsets) enum Step {
    /// Here the group begins; `adopted`: another consumer's work lies before it.
    Start {
        to: i64,
        adopted: bool,
        event: Event,
    },
    /// Of what lies before `to` nothing is known any more: it was pruned.
    Forgotten {
        to: i64,
    },
    Claim(Claim),
    Move {
        from: i64,
        to: i64,
        event: Event,
    },
    /// Its offsets were deleted where they stood.
    Delete {
        from: i64,
        event: Event,
    },
    /// Nobody is on record for these offsets, and the next claim lies behind them.
    Hole {
        from: i64,
        to: i64,
    },
    /// The next claim begins before the one before it has ended.
    Overlap {
        from: i64,
        to: i64,
    },
}

/// Puts a history in order, and says where it does not fit together.
pub(in crate::offsets) fn chain(history: History, kept: Kept) -> Vec<Step> {
    let History { mut claims, mut events, next_offset } = history;
    events.sort_by_key(|event| event.id);
    let deletes: Vec<i64> =
        events.iter().filter(|event| event.is_delete()).map(|event| event.at_us).collect();
    let life_at = |at_us: i64| deletes.iter().filter(|&&delete| delete < at_us).count();
    claims.sort_by_key(|claim| (life_at(claim.claimed_us), claim.epoch, claim.claimed_us));
    let mut lives: Vec<Life> = (0..=deletes.len()).map(|_| Life::default()).collect();
    for claim in claims {
        lives[life_at(claim.claimed_us)].claims.push(claim);
    }
    for event in events {
        // A deletion ends the life that it is in.
        lives[life_at(event.at_us)].events.push(event);
    }
    let last = lives.len() - 1;
    let mut steps = Vec::new();
    for (index, life) in lives.into_iter().enumerate() {
        life.walk(&mut steps, (index == last).then_some(next_offset), kept);
    }
    steps
}

/// From a start to a deletion, or to the present.
#[derive(Debug, Default)]
struct Life {
    claims: Vec<Claim>,
    events: Vec<Event>,
}

impl Life {
    /// `end`: where it stands, if it is the present life.
    fn walk(mut self, steps: &mut Vec<Step>, end: Option<i64>, kept: Kept) {
        self.attribute_lost();
        let start = self.events.iter().position(Event::is_start).map(|at| self.events.remove(at));
        let mut position = start.as_ref().and_then(|event| event.to);
        if let Some(event) = start {
            let to = event.to.unwrap_or_default();
            steps.push(Step::Start { to, adopted: event.kind == "adopt", event });
        }
        let claims = std::mem::take(&mut self.claims);
        let all_pruned = claims.is_empty();
        let mut before_us = None;
        for (index, claim) in claims.into_iter().enumerate() {
            let at = match position {
                // The first that there ever was begins at the start.
                Some(at) if index > 0 || claim.epoch == 1 => at,
                _ => self.since(&claim, position, steps),
            };
            self.follow(at, claim.from, Some(claim.claimed_us), before_us, kept, steps);
            position = Some(claim.to);
            before_us = claim.replaced_us;
            steps.push(Step::Claim(claim));
        }
        let delete = self.events.iter().position(Event::is_delete).map(|at| self.events.remove(at));
        if let Some(to) = end.or_else(|| delete.as_ref().and_then(|event| event.from)) {
            match position {
                Some(at) if !all_pruned || leads(at, &self.events) == Some(to) => {
                    self.follow(at, to, None, before_us, kept, steps);
                }
                _ => self.forget(to, position, steps),
            }
        }
        if let Some(event) = delete {
            steps.push(Step::Delete { from: event.from.unwrap_or_default(), event });
        }
    }

    /// `first` is the oldest claim that is left, and was not the first that there was. Returns where it begins: what lies
    /// before is not known any more, unless moves lead there from the start.
    fn since(&mut self, first: &Claim, start: Option<i64>, steps: &mut Vec<Step>) -> i64 {
        let (before, after): (Vec<Event>, Vec<Event>) =
            std::mem::take(&mut self.events).into_iter().partition(|event| event.at_us <= first.claimed_us);
        self.events = before;
        let is_known = start.is_some_and(|at| leads(at, &self.events) == Some(first.from));
        if !is_known {
            self.forget(first.from, start, steps);
        }
        self.events.extend(after);
        if is_known { start.unwrap_or(first.from) } else { first.from }
    }

    /// Of what lies before `to` nothing is known, nor of what the events speak of: they stay on record as what they are.
    fn forget(&mut self, to: i64, start: Option<i64>, steps: &mut Vec<Step>) {
        let mut highest = start.map_or(to, |start| start.max(to));
        for event in std::mem::take(&mut self.events) {
            match (event.from, event.to) {
                (Some(from), Some(to)) => {
                    highest = highest.max(from).max(to);
                    steps.push(Step::Move { from, to, event });
                }
                _ => self.events.push(event),
            }
        }
        steps.push(Step::Forgotten { to: highest });
    }

    /// Losses happen under a claim, whose range goes over them.
    fn attribute_lost(&mut self) {
        for event in std::mem::take(&mut self.events) {
            let (Some(from), Some(to), "lost") = (event.from, event.to, &*event.kind) else {
                self.events.push(event);
                continue;
            };
            let is_its = |claim: &&mut Claim| {
                claim.from <= from && to <= claim.to && claim.replaced_us.is_none_or(|end| event.at_us <= end)
            };
            match self.claims.iter_mut().find(is_its) {
                Some(claim) => claim.lost.push(from..to),
                None => self.events.push(event),
            }
        }
    }

    /// Finds the moves that lead from `at` to `to`, which is where a claim of `claimed_us` begins.
    fn follow(
        &mut self,
        mut at: i64,
        to: i64,
        claimed_us: Option<i64>,
        before_us: Option<i64>,
        kept: Kept,
        steps: &mut Vec<Step>,
    ) {
        loop {
            // Where nothing needs an explanation, only what was done by then happened here.
            let leads_on = |event: &Event| {
                event.from == Some(at)
                    && event.to.is_some()
                    && (at != to || claimed_us.is_none_or(|claimed| event.at_us <= claimed))
            };
            let Some(found) = self.events.iter().position(leads_on) else { break };
            let event = self.events.remove(found);
            let next = event.to.unwrap_or(at);
            steps.push(Step::Move { from: at, to: next, event });
            at = next;
        }
        if at == to {
            return;
        }
        if before_us.is_some_and(|before| kept.may_lack(before)) {
            steps.push(Step::Forgotten { to: at.max(to) });
        } else if at < to {
            steps.push(Step::Hole { from: at, to });
        } else {
            steps.push(Step::Overlap { from: to, to: at });
        }
    }
}

/// Where moves lead from `at`, if each begins where the one before it has ended.
fn leads(at: i64, events: &[Event]) -> Option<i64> {
    let mut moves = events.iter().filter_map(|event| Some((event.from?, event.to?)));
    moves.try_fold(at, |at, (from, to)| (from == at).then_some(to))
}

#[cfg(test)]
pub(super) mod tests;
