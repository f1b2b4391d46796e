//! A third model: one key of one partition, of which a record is bad until it is mended, under `park_key`.
//!
//! A lane parks what comes behind a dead letter of the key, by what it knows; a redriver applies what waits; an operator
//! discards a letter or moves the offset back with the rows; and a zombie does any of it under a claim that is over. Each
//! transaction is one step here: that claims fence them, and what locks they take, is the first model's to show.

use stateright::{Model, Property};

pub(crate) const ORDERED: &str = "EO-5 the key's records are applied in their order";
pub(crate) const EACH_ONCE: &str = "EO-1, EO-9 each record is applied once, or waits, or is discarded";
pub(crate) const NONE_OVERTAKES: &str = "EO-5 nothing is applied while an earlier record of the key waits";
pub(crate) const BEHIND_ONE: &str = "EO-9 a record is parked only behind one that waits";

/// Ways in which parking is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Mutation {
    None,
    /// A lane goes on with what it knew before it stored a dead letter.
    KeysKept,
    /// What is parked is not compared with what waits by then.
    ParkedUnchecked,
    /// What a handler rejects is stored with its batch, also where later records of the key were applied in it.
    OvertakenApplied,
    /// A letter is redriven though an earlier one of its key waits.
    OutOfOrder,
    /// A new claim takes over what an older one knew.
    KeysInherited,
}

#[derive(Debug, Clone)]
pub(crate) struct Parking {
    /// Records of the key; the bad one comes first or second.
    pub(crate) log: u8,
    pub(crate) bad: u8,
    pub(crate) claims: u8,
    /// Discards and moves back.
    pub(crate) orders: u8,
    /// Redrives of a letter that may fail.
    pub(crate) tries: u8,
    pub(crate) mutation: Mutation,
}

impl Parking {
    pub(crate) fn small() -> Self {
        Self { log: 3, bad: 0, claims: 2, orders: 1, tries: 2, mutation: Mutation::None }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Letter {
    Open,
    Parked,
    Redriven,
    Discarded,
    Superseded,
}

impl Letter {
    fn waits(self) -> bool {
        matches!(self, Self::Open | Self::Parked)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Batch {
    from: u8,
    to: u8,
    /// All of it is parked: it is of one key.
    parked: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Worker {
    /// The epoch that it believes in.
    claim: Option<u8>,
    at: u8,
    /// Whether the key waits, as it was read.
    keys: Option<bool>,
    batch: Option<Batch>,
    /// A letter that its redriver has at work.
    redrive: Option<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    epoch: u8,
    next_offset: u8,
    letters: Vec<Option<Letter>>,
    applied: Vec<u8>,
    workers: [Worker; 2],
    mended: bool,
    orders: u8,
    tries: u8,
    parked_behind_nothing: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Claim(usize),
    ReadKeys(usize),
    Take(usize, u8),
    Commit(usize),
    TakeLetter(usize, u8),
    Redrive(usize),
    Mend,
    Discard(u8),
    MoveBack(u8),
}

impl State {
    fn waits(&self, offset: u8) -> bool {
        self.letters[usize::from(offset)].is_some_and(Letter::waits)
    }

    fn waits_before(&self, offset: u8) -> bool {
        (0..offset).any(|earlier| self.waits(earlier))
    }

    fn any_waits(&self, model: &Parking) -> bool {
        self.waits_before(model.log)
    }

    fn store(&mut self, offset: u8, letter: Letter) {
        self.letters[usize::from(offset)] = Some(letter);
    }

    fn commit(&mut self, model: &Parking, index: usize, batch: Batch) {
        let worker = &self.workers[index];
        if worker.claim != Some(self.epoch) || self.next_offset != batch.from {
            self.workers[index] = Worker::default();
            return;
        }
        let mut to = batch.to;
        if batch.parked {
            if !self.any_waits(model) && model.mutation != Mutation::ParkedUnchecked {
                self.workers[index].keys = None;
                return;
            }
            for offset in batch.from..to {
                self.parked_behind_nothing |= !self.waits_before(offset);
                self.store(offset, Letter::Parked);
            }
        } else {
            let is_bad = |offset: u8| offset == model.bad && !self.mended;
            let rejected = (batch.from..to).find(|offset| is_bad(*offset));
            if let Some(bad) = rejected {
                if model.mutation != Mutation::OvertakenApplied {
                    to = bad + 1;
                }
                self.store(bad, Letter::Open);
                if model.mutation != Mutation::KeysKept {
                    self.workers[index].keys = None;
                }
            }
            self.applied.extend((batch.from..to).filter(|offset| rejected != Some(*offset)));
        }
        self.next_offset = to;
        self.workers[index].at = to;
    }

    fn redrive(&mut self, model: &Parking, index: usize, offset: u8) {
        if self.workers[index].claim != Some(self.epoch) {
            self.workers[index] = Worker::default();
            return;
        }
        let in_order = !self.waits_before(offset) || model.mutation == Mutation::OutOfOrder;
        if !self.waits(offset) || !in_order || offset >= self.next_offset {
            return;
        }
        if offset == model.bad && !self.mended {
            self.store(offset, Letter::Open);
        } else {
            self.store(offset, Letter::Redriven);
            self.applied.push(offset);
        }
    }
}

impl Model for Parking {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            epoch: 0,
            next_offset: 0,
            letters: vec![None; usize::from(self.log)],
            applied: Vec::new(),
            workers: Default::default(),
            mended: false,
            orders: 0,
            tries: 0,
            parked_behind_nothing: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for (index, worker) in state.workers.iter().enumerate() {
            if state.epoch < self.claims + state.orders && worker.claim != Some(state.epoch) {
                actions.push(Action::Claim(index));
            }
            if worker.claim.is_none() {
                continue;
            }
            match (worker.batch, worker.keys) {
                (Some(_), _) => actions.push(Action::Commit(index)),
                (None, None) => actions.push(Action::ReadKeys(index)),
                (None, Some(_)) => actions
                    .extend((1..=2).filter(|n| worker.at + n <= self.log).map(|n| Action::Take(index, n))),
            }
            match worker.redrive {
                Some(_) => actions.push(Action::Redrive(index)),
                None if state.tries < self.tries || state.mended => {
                    let fits = |offset: &u8| {
                        state.waits(*offset)
                            && (self.mutation == Mutation::OutOfOrder || !state.waits_before(*offset))
                    };
                    actions
                        .extend((0..self.log).filter(fits).map(|offset| Action::TakeLetter(index, offset)));
                }
                None => {}
            }
        }
        if !state.mended {
            actions.push(Action::Mend);
        }
        if state.orders < self.orders {
            actions.extend((0..self.log).filter(|offset| state.waits(*offset)).map(Action::Discard));
            actions.extend((0..state.next_offset).map(Action::MoveBack));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Claim(index) => {
                state.epoch += 1;
                let keys = Some(false).filter(|_| self.mutation == Mutation::KeysInherited);
                let (claim, at) = (Some(state.epoch), state.next_offset);
                state.workers[index] = Worker { claim, at, keys, ..Worker::default() };
            }
            Action::ReadKeys(index) => state.workers[index].keys = Some(state.any_waits(self)),
            Action::Take(index, records) => {
                let worker = &mut state.workers[index];
                let parked = worker.keys == Some(true);
                worker.batch = Some(Batch { from: worker.at, to: worker.at + records, parked });
            }
            Action::Commit(index) => {
                let batch = state.workers[index].batch.take()?;
                state.commit(self, index, batch);
            }
            Action::TakeLetter(index, offset) => {
                state.workers[index].redrive = Some(offset);
                state.tries += u8::from(!state.mended);
            }
            Action::Redrive(index) => {
                let offset = state.workers[index].redrive.take()?;
                state.redrive(self, index, offset);
            }
            Action::Mend => state.mended = true,
            Action::Discard(offset) => {
                state.orders += 1;
                state.store(offset, Letter::Discarded);
            }
            Action::MoveBack(to) => {
                state.orders += 1;
                state.epoch += 1;
                state.next_offset = to;
                state.applied.retain(|offset| *offset < to);
                for letter in state.letters[usize::from(to)..].iter_mut().flatten() {
                    *letter = Letter::Superseded;
                }
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ORDERED, |_, state: &State| state.applied.is_sorted()),
            Property::always(EACH_ONCE, |_, state: &State| {
                (0..state.next_offset).all(|offset| {
                    let applied = state.applied.iter().filter(|other| **other == offset).count();
                    let letter = state.letters[usize::from(offset)];
                    let stands = letter.is_some_and(|letter| letter.waits() || letter == Letter::Discarded);
                    applied + usize::from(stands) == 1
                })
            }),
            Property::always(NONE_OVERTAKES, |_, state: &State| {
                state.applied.iter().all(|offset| !state.waits_before(*offset))
            }),
            Property::always(BEHIND_ONE, |_, state: &State| !state.parked_behind_nothing),
            Property::sometimes("seen: parked", |_, state: &State| {
                state.letters.contains(&Some(Letter::Parked))
            }),
            Property::sometimes("seen: parked and redriven, all in order", |model, state: &State| {
                state.applied.len() == usize::from(model.log)
                    && state.letters.iter().filter(|letter| **letter == Some(Letter::Redriven)).count() > 1
            }),
            Property::sometimes(
                "seen: parked behind a parked one, the first is discarded",
                |_, state: &State| {
                    state.letters.contains(&Some(Letter::Discarded))
                        && state.letters.contains(&Some(Letter::Parked))
                },
            ),
            Property::sometimes(
                "seen: a batch is parked of which nothing waits any more",
                |model, state: &State| {
                    let parks = |worker: &Worker| worker.batch.is_some_and(|batch| batch.parked);
                    !state.any_waits(model) && state.workers.iter().any(parks)
                },
            ),
            Property::sometimes("seen: a zombie has a letter at work", |_, state: &State| {
                let is_one = |worker: &Worker| worker.claim.is_some_and(|claim| claim < state.epoch);
                state.workers.iter().any(|worker| is_one(worker) && worker.redrive.is_some())
            }),
            Property::sometimes("seen: read again after a move back", |_, state: &State| {
                state.letters.contains(&Some(Letter::Superseded)) && !state.applied.is_empty()
            }),
        ]
    }
}
