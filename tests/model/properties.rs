//! What must hold in every state, and what must have been seen.

use highwater::testing::model::Standing;
use stateright::Property;

use super::database::{Covered, Letter, Lock};
use super::worker::{self, Phase, Worker};
use super::world::{Broken, Protocol, World};

pub(crate) const PROMISE: &str = "EO-1 the rows are exactly the records before next_offset";
pub(crate) const NOT_TWICE: &str = "EO-1 no record is applied twice";
pub(crate) const NOT_SKIPPED: &str = "EO-1 no record is skipped";
pub(crate) const CONTIGUOUS: &str = "EO-2 a commit starts where the last one ended";
pub(crate) const FENCED: &str = "EO-3 a commit succeeds only under the current claim";
pub(crate) const START: &str = "EO-4 fetching begins where the claim says";
pub(crate) const ORDERED: &str = "EO-5 records are applied in offset order";
pub(crate) const ONE_BATCH: &str = "EO-5 no record is in two live batches";
pub(crate) const RESOLVED: &str = "EO-7 an unknown outcome is resolved before anything else is applied";
pub(crate) const MIRROR: &str = "EO-8 what would be mirrored was durable first";
pub(crate) const DEAD_LETTER: &str = "EO-9 what was stepped over and not applied is an open dead letter";
pub(crate) const DECIDED: &str = "EO-9 a dead letter that was discarded is not redriven";
pub(crate) const ENABLED: &str = "until all is applied, somebody can go on";
pub(crate) const BOUNDED: &str = "claims are made for a reason, so they are few";

/// The invariants, and those faults that this world can have.
pub(crate) fn of(model: &Protocol) -> Vec<Property<Protocol>> {
    let mut properties = vec![
        always(PROMISE, |model, world| each(model, |offset| world.kept(model, offset))),
        always(NOT_TWICE, |model, world| {
            each(model, |offset| {
                let repeats = world.durable.repeats[usize::from(offset)];
                world.durable.times_applied(offset) <= repeats + 1
            })
        }),
        always(NOT_SKIPPED, |model, world| {
            each(model, |offset| world.stands_for(model, offset) >= world.durable.wanted(offset))
        }),
        always(CONTIGUOUS, |_, world| !world.broken.has(Broken::CONTIGUOUS)),
        always(FENCED, |_, world| !world.broken.has(Broken::FENCED)),
        always(START, |_, world| !world.broken.has(Broken::START)),
        always(ORDERED, |_, world| !world.broken.has(Broken::ORDERED) && world.in_order()),
        always(ONE_BATCH, |model, world| !world.has_two_live_batches(model)),
        always(RESOLVED, |_, world| !world.broken.has(Broken::RESOLVED)),
        always(MIRROR, |_, world| {
            world.workers.iter().filter_map(Worker::committed).all(|committed| committed <= world.furthest)
        }),
        always(DEAD_LETTER, Protocol::dead_letter_stands),
        always(DECIDED, |_, world| !world.broken.has(Broken::DECIDED)),
        always(ENABLED, |model, world| {
            let mut actions = Vec::new();
            world.is_caught_up(model) || {
                model.enabled(world, &mut actions);
                !actions.is_empty()
            }
        }),
        always(BOUNDED, |model, world| world.tokens <= model.most_claims()),
    ];
    properties.push(sometimes("seen: everything applied", |model, world| world.is_caught_up(model)));
    if model.log > 1 {
        properties.push(sometimes("seen: a batch of several records", |_, world| {
            any(world, |worker| worker.batch.is_some_and(|batch| batch.covered.to > batch.covered.from + 1))
        }));
    }
    if model.moves > 0 {
        properties.extend(seen_with_moves());
    }
    if model.faults > 0 {
        properties.extend(seen_with_faults());
    }
    if model.moves > 0 && model.faults > 0 {
        properties.extend(seen_with_moves_and_faults());
    }
    if model.fail_over && model.faults > 0 {
        properties.extend(seen_with_fail_over());
    }
    if model.resets > 0 {
        properties.extend(seen_with_resets());
    }
    if model.lasting {
        properties.extend(seen_with_walks());
        if model.log > 1 {
            properties.push(sometimes("seen: half undone", |_, world| {
                let reached = world.durable.row.map(|row| row.next_offset);
                world.durable.walk.is_some_and(|walk| reached > Some(walk.to))
                    && reached < Some(world.furthest)
            }));
        }
        if model.resets > 1 {
            properties.push(sometimes("seen: resumed before the undo was through", |_, world| {
                world.durable.row.is_some_and(|row| !row.paused) && world.durable.walk.is_some()
            }));
        }
    }
    if model.bad.is_some() {
        properties.extend(seen_with_dead_letters());
    }
    properties
}

type Seen = Vec<Property<Protocol>>;
type Condition = fn(&Protocol, &World) -> bool;

fn always(name: &'static str, condition: Condition) -> Property<Protocol> {
    Property::always(name, condition)
}

fn sometimes(name: &'static str, condition: Condition) -> Property<Protocol> {
    Property::sometimes(name, condition)
}

fn seen_with_moves() -> Seen {
    vec![
        sometimes("seen: two workers believe that they own the partition", |_, world| {
            world.workers.iter().filter(|worker| worker.is(Standing::Running)).count() > 1
        }),
        sometimes("seen: fenced", |_, world| any(world, |worker| worker.is(Standing::Fenced))),
        sometimes("seen: an assignment ends unheard", |_, world| {
            any(world, |worker| worker.notices.len() > 1)
        }),
        sometimes("seen: a release comes after the successor's claim", |_, world| {
            let successor = world.durable.row.filter(|row| row.owner.is_some()).map(|row| row.claim);
            any(world, |worker| worker.releases.iter().any(|claim| successor.is_some_and(|c| c != *claim)))
        }),
        sometimes("seen: a batch is out while the partition drains", |_, world| {
            any(world, |worker| worker.is(Standing::Draining) && worker.open_batch().is_some())
        }),
        sometimes("seen: a batch is cancelled at the drain deadline", |_, world| {
            let abandoned = world.lock.filter(|lock| lock.client.is_none() && !lock.commit_sent);
            any(world, |worker| {
                let closed = worker.buffer.filter(|buffer| buffer.closed && worker.batch.is_none());
                closed.is_some_and(|buffer| abandoned.is_some_and(|lock| lock.batch.claim == buffer.claim))
            })
        }),
    ]
}

fn seen_with_faults() -> Seen {
    vec![
        sometimes("seen: a claim is carried out and its answer lost", |_, world| {
            (0..world.workers.len()).any(|index| world.has_a_claim_unknowingly(index))
        }),
        sometimes("seen: a batch runs into its time limit", |model, world| {
            let abandoned = world.lock.filter(|lock| lock.client.is_none() && !lock.commit_sent);
            let undisturbed = world.moves == model.moves && world.workers.iter().all(Worker::is_up);
            undisturbed
                && any(world, |worker| {
                    let given_up = |lock: Lock| worker.releases.contains(&lock.batch.claim);
                    worker.life == 0 && !worker.unresolved && abandoned.is_some_and(given_up)
                })
        }),
        sometimes("seen: COMMIT is carried out and its answer lost", |_, world| {
            any(world, |worker| {
                worker.batch.is_some_and(|batch| batch.phase == Phase::Committed && !batch.connected)
            })
        }),
        sometimes("seen: COMMIT is lost", |_, world| {
            world.lock.is_none()
                && any(world, |worker| {
                    worker.batch.is_some_and(|batch| batch.phase == Phase::CommitSent && !batch.connected)
                })
        }),
        sometimes("seen: COMMIT is under way and its client gone", |_, world| {
            world.lock.is_some_and(|lock| lock.commit_sent && lock.client.is_none())
        }),
        sometimes("seen: a crash while the row is locked", |_, world| {
            world.lock.is_some_and(|lock| lock.client.is_none())
                && any(world, |worker| worker.condition == worker::Condition::Down)
        }),
        sometimes("seen: a process frozen while it locks the row", |_, world| {
            let client = world.lock.and_then(|lock| lock.client);
            client.is_some_and(|client| world.workers[client].condition == worker::Condition::Frozen)
        }),
        sometimes("seen: a zombie wakes and its backend is gone", |_, world| {
            any(world, |worker| {
                worker.is_up()
                    && worker.batch.is_some_and(|batch| batch.phase == Phase::Compared && !batch.connected)
            })
        }),
    ]
}

fn seen_with_moves_and_faults() -> Seen {
    vec![
        sometimes("seen: a zombie's batch misses", |_, world| {
            any(world, |worker| worker.batch.is_some_and(|batch| batch.phase == Phase::Missed))
        }),
        sometimes("seen: a claim is carried out after the revoke", |_, world| {
            any(world, |worker| {
                let late = |assignment| worker.machine.assignment() != Some(assignment);
                worker.asked.iter().any(|asked| asked.answer.is_some() && late(asked.assignment))
            })
        }),
        sometimes("seen: an epoch is issued twice", |_, world| {
            let Some(row) = world.durable.row else { return false };
            any(world, |worker| {
                let twice = |claim: highwater::testing::model::Claim| {
                    claim.epoch == row.claim.epoch && claim.token != row.claim.token
                };
                worker.machine.claim().is_some_and(twice)
            })
        }),
    ]
}

fn seen_with_fail_over() -> Seen {
    vec![
        sometimes("seen: the database goes back under a claim", |_, world| {
            let Some(row) = world.durable.row else { return false };
            any(world, |worker| {
                let back = worker.committed().is_some_and(|committed| row.next_offset < committed);
                worker.machine.claim() == Some(row.claim) && back
            })
        }),
        sometimes("seen: the database goes back to before the row", |_, world| {
            world.durable.row.is_none() && any(world, |worker| worker.is(Standing::Running))
        }),
        sometimes("seen: halted, for the row has vanished", |_, world| {
            any(world, |worker| worker.is(Standing::Halted))
        }),
    ]
}

fn seen_with_resets() -> Seen {
    vec![
        sometimes("seen: a reset under a batch", |_, world| {
            let reset = world.durable.row.is_some_and(|row| row.owner.is_none());
            reset && any(world, |worker| worker.is(Standing::Running) && worker.open_batch().is_some())
        }),
        sometimes("seen: an operator has records repeated", |_, world| {
            world.durable.repeats.iter().any(|times| *times > 0)
        }),
        sometimes("seen: an operator has records undone", |model, world| {
            world.resets < model.resets && world.durable.applied.len() < usize::from(world.furthest)
        }),
        sometimes("seen: an operator steps over records", |_, world| world.durable.skipped.contains(&true)),
    ]
}

fn seen_with_walks() -> Seen {
    vec![sometimes("seen: an undo begins under a batch", |_, world| {
        world.durable.walk.is_some() && any(world, |worker| worker.open_batch().is_some())
    })]
}

fn seen_with_dead_letters() -> Seen {
    vec![
        sometimes("seen: a dead letter", |_, world| world.durable.letter == Some(Letter::Open)),
        sometimes("seen: a dead letter redriven", |_, world| world.durable.letter == Some(Letter::Redriven)),
        sometimes("seen: a dead letter superseded", |_, world| {
            world.durable.letter == Some(Letter::Superseded)
        }),
        sometimes("seen: a dead letter discarded", |_, world| {
            world.durable.letter == Some(Letter::Discarded)
        }),
        sometimes("seen: a dead letter discarded or superseded while it is redriven", |_, world| {
            world.durable.letter != Some(Letter::Open) && any(world, |worker| worker.redrive.is_some())
        }),
    ]
}

fn any(world: &World, which: impl Fn(&Worker) -> bool) -> bool {
    world.workers.iter().any(which)
}

fn each(model: &Protocol, holds: impl Fn(u8) -> bool) -> bool {
    (0..model.log).all(holds)
}

impl Protocol {
    /// Every claim has a cause: an assignment, a fault, a reset, or the end of another's claim. So a run that goes on
    /// for ever would have to go round in a circle, which `cycles.rs` excludes.
    pub(crate) fn most_claims(&self) -> u8 {
        2 + 4 * (self.moves + self.faults + self.resets)
    }

    fn dead_letter_stands(&self, world: &World) -> bool {
        let Some((bad, row)) = self.bad.zip(world.durable.row) else { return true };
        let stepped_over = bad < row.next_offset && !world.durable.skipped[usize::from(bad)];
        let applied = world.durable.times_applied(bad) > world.durable.repeats[usize::from(bad)];
        !stepped_over || applied || world.durable.letter.is_some_and(Letter::stands)
    }
}

impl World {
    /// How often a record is applied, or has a dead letter instead, which waits or is discarded.
    fn stands_for(&self, model: &Protocol, offset: u8) -> u8 {
        let letter = model.bad == Some(offset) && self.durable.letter.is_some_and(Letter::stands);
        self.durable.times_applied(offset) + u8::from(letter)
    }

    /// The row is this worker's, under a claim of which it has never heard.
    fn has_a_claim_unknowingly(&self, index: usize) -> bool {
        let worker = &self.workers[index];
        let Some(row) = self.durable.row.filter(|row| row.owner == Some(self.owner_id(index))) else {
            return false;
        };
        let heard = worker.machine.claim() == Some(row.claim) || worker.releases.contains(&row.claim);
        !heard && worker.asked.first().is_some_and(|asked| asked.answer.is_none())
    }

    fn kept(&self, model: &Protocol, offset: u8) -> bool {
        self.stands_for(model, offset) == self.durable.wanted(offset)
    }

    /// The sink's rows, as they were written; repeats and redriven records come late on purpose.
    fn in_order(&self) -> bool {
        let on_purpose = self.durable.letter == Some(Letter::Redriven)
            || self.durable.repeats.iter().any(|times| *times > 0);
        on_purpose || self.durable.applied.is_sorted()
    }

    /// Live: could still commit, for all that the database checks of its claim.
    fn has_two_live_batches(&self, model: &Protocol) -> bool {
        let out = self.workers.iter().filter_map(Worker::open_batch).map(|batch| batch.covered);
        let orphan =
            self.lock.filter(|lock| lock.client.is_none() && lock.commit_sent).map(|lock| lock.batch);
        let live: Vec<Covered> = out
            .chain(orphan)
            .filter(|batch| self.durable.accepts_claim(batch.claim, model.mutation))
            .collect();
        live.iter().enumerate().any(|(index, a)| live[index + 1..].iter().any(|b| a.overlaps(b)))
    }

    pub(crate) fn is_caught_up(&self, model: &Protocol) -> bool {
        self.durable.row.is_some_and(|row| row.next_offset == model.log)
    }
}
