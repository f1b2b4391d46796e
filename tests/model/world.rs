//! The world: its state, and what each step does to it.

use highwater::testing::model::{After, Input, decide};
use stateright::{Model, Property};

use super::actions::Action;
use super::database::{Covered, Durable, Letter, Lock, Reset};
use super::mutation::Mutation;
use super::properties;
use super::worker::{Answer, Condition, Notice, Phase, Worker};

/// How large the world is, and what may go wrong in it.
#[derive(Debug, Clone)]
pub(crate) struct Protocol {
    pub(crate) workers: usize,
    /// Records in the partition.
    pub(crate) log: u8,
    /// Times that the group takes the partition from a worker that is up.
    pub(crate) moves: u8,
    /// Faults of any kind that a run may have.
    pub(crate) faults: u8,
    /// Whether a fault may be a fail-over to an older version of the database.
    pub(crate) fail_over: bool,
    /// Times that an operator moves the offset, or discards the dead letter.
    pub(crate) resets: u8,
    /// A record that the handler rejects until it is mended; policy: dead letter.
    pub(crate) bad: Option<u8>,
    /// Whether an operator also pauses, and undoes rows in portions; each counts as a move of the offset.
    pub(crate) lasting: bool,
    pub(crate) mutation: Mutation,
}

/// One state of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) durable: Durable,
    pub(crate) lock: Option<Lock>,
    /// What a fail-over would leave; set when the replica begins to lag.
    pub(crate) replica: Option<Durable>,
    /// The furthest position that was ever durable.
    pub(crate) furthest: u8,
    /// Who owns the partition by the group's word; the workers may not have heard.
    pub(crate) group: Option<usize>,
    pub(crate) workers: Vec<Worker>,
    /// Tokens given out: random ones never repeat.
    pub(crate) tokens: u8,
    pub(crate) moves: u8,
    pub(crate) faults: u8,
    pub(crate) resets: u8,
    /// A reset that waits for the lock, and how many rows its snapshot has.
    pub(crate) waiting_reset: Option<(Reset, usize)>,
    pub(crate) mended: bool,
    pub(crate) broken: Broken,
}

/// The invariants that a step has broken, for those that a state alone does not show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Broken(u8);

impl Broken {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const CONTIGUOUS: Self = Self(1);
    pub(crate) const FENCED: Self = Self(2);
    pub(crate) const START: Self = Self(4);
    pub(crate) const ORDERED: Self = Self(8);
    pub(crate) const RESOLVED: Self = Self(16);
    pub(crate) const DECIDED: Self = Self(32);

    pub(crate) fn unless(&mut self, holds: bool, which: Self) {
        if !holds {
            self.0 |= which.0;
        }
    }

    pub(crate) fn and(&mut self, other: Self) {
        self.0 |= other.0;
    }

    pub(crate) fn has(self, which: Self) -> bool {
        self.0 & which.0 != 0
    }
}

impl Protocol {
    pub(crate) fn small() -> Self {
        Self {
            workers: 2,
            log: 2,
            moves: 1,
            faults: 1,
            fail_over: true,
            resets: 0,
            bad: None,
            lasting: false,
            mutation: Mutation::None,
        }
    }

    pub(crate) fn with(self, mutation: Mutation) -> Self {
        Self { mutation, ..self }
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let mut durable = Durable::empty(self.log);
        durable.ensure_row(0);
        vec![World {
            durable,
            lock: None,
            replica: None,
            furthest: 0,
            group: None,
            workers: vec![Worker::default(); self.workers],
            tokens: 1,
            moves: self.moves,
            faults: self.faults,
            resets: self.resets,
            waiting_reset: None,
            mended: false,
            broken: Broken::NONE,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        self.enabled(world, actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        let broken = next.step(self, action);
        next.broken.and(broken);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::of(self)
    }
}

impl World {
    /// The id of a process: a worker, in one of its lives.
    pub(crate) fn owner_id(&self, index: usize) -> u8 {
        u8::try_from(index + usize::from(self.workers[index].life) * self.workers.len()).expect("few lives")
    }

    pub(crate) fn new_token(&mut self) -> u8 {
        self.tokens += 1;
        self.tokens - 1
    }

    fn step(&mut self, model: &Protocol, action: Action) -> Broken {
        use Action as Do;
        match action {
            Do::Move(_)
            | Do::Crash(_)
            | Do::Freeze(_)
            | Do::Wake(_)
            | Do::Restart(_)
            | Do::Lag(_)
            | Do::FailOver => {
                self.outside(model, action);
                Broken::NONE
            }
            Do::Hear(index) | Do::HearIdle(index) | Do::FenceOver(index) => self.hear(index, action),
            Do::Heartbeat(index) => {
                let taken = self.durable.row.and_then(|row| row.owner);
                let by_live_other = taken.is_some_and(|id| id != self.owner_id(index) && self.is_live(id));
                let worker = &mut self.workers[index];
                let Some(claim) = worker.machine.claim() else { return Broken::NONE };
                worker.feed(Input::Ended {
                    claim,
                    after: if by_live_other { After::Fence } else { After::Claim },
                })
            }
            Do::Claim(_) | Do::Forget(_) | Do::ClaimAnswered(_) | Do::ClaimAnswerLost(_) | Do::Release(_) => {
                self.claims(model, action)
            }
            Do::Take(index, records) => self.workers[index].take(records, model.bad.filter(|_| !self.mended)),
            Do::Compare(index) | Do::Decide(index) | Do::SendCommit(index) | Do::CommitAnswered(index) => {
                self.batch(model, index, action)
            }
            Do::Disconnected(index) => self.disconnected(model, index),
            Do::Cancel(index) => {
                self.abandon(index);
                self.workers[index].put_back();
                Broken::NONE
            }
            Do::TimeOut(index) => {
                self.faults -= 1;
                self.abandon(index);
                self.workers[index].end(After::Claim)
            }
            Do::Cut(index) => {
                self.faults -= 1;
                self.abandon(index);
                if let Some(batch) = &mut self.workers[index].batch {
                    batch.connected = false;
                }
                Broken::NONE
            }
            Do::Commit => self.commit(),
            Do::EndBackend => {
                if let Some(client) = self.lock.take().and_then(|lock| lock.client)
                    && let Some(batch) = &mut self.workers[client].batch
                {
                    batch.connected = false;
                }
                Broken::NONE
            }
            Do::BeginRedrive(index) => {
                let worker = &mut self.workers[index];
                worker.redrive = worker.machine.claim();
                Broken::NONE
            }
            Do::SettleRedrive(index) => {
                let taken = self.workers[index].redrive.take();
                let Some((claim, bad)) = taken.zip(model.bad) else { return Broken::NONE };
                self.durable.redrive(bad, claim, model.mutation)
            }
            Do::Reset(_) | Do::ResetWaits(_) | Do::Mend | Do::Discard => {
                self.operator(model, action);
                Broken::NONE
            }
            Do::Pause | Do::Resume | Do::BeginWalk(_) | Do::Walk => {
                self.lasts(model, action);
                Broken::NONE
            }
        }
    }

    /// Processes, the group, the machines that they run on.
    fn outside(&mut self, model: &Protocol, action: Action) {
        match action {
            Action::Move(to) => {
                if let Some(from) = self.group {
                    self.moves -= u8::from(self.workers[from].is_up());
                    self.tell(from, Notice::Revoked);
                }
                self.group = Some(to);
                self.tell(to, Notice::Assigned);
            }
            Action::Crash(index) => {
                self.faults -= 1;
                self.stop(index);
            }
            Action::Freeze(index) => {
                self.faults -= 1;
                self.workers[index].condition = Condition::Frozen;
            }
            Action::Wake(index) => self.workers[index].condition = Condition::Up,
            Action::Restart(index) => {
                if self.workers[index].is_up() {
                    return self.stop(index); // an operator, because it has halted
                }
                self.workers[index].condition = Condition::Up;
                if self.durable.row.is_none() {
                    let token = self.new_token();
                    self.durable.ensure_row(token);
                }
            }
            Action::Lag(before_the_row) => {
                self.faults -= 1;
                let lagging = if before_the_row { Durable::empty(model.log) } else { self.durable.clone() };
                self.replica = Some(lagging);
            }
            Action::FailOver => {
                if let Some(older) = self.replica.take() {
                    self.durable = older;
                }
                self.lock = None;
                for batch in self.workers.iter_mut().filter_map(|worker| worker.batch.as_mut()) {
                    batch.connected = false;
                }
            }
            _ => {}
        }
    }

    fn stop(&mut self, index: usize) {
        self.abandon(index);
        let life = self.workers[index].life + 1;
        self.workers[index] = Worker { life, condition: Condition::Down, ..Worker::default() };
        if self.group == Some(index) {
            self.group = None;
        }
    }

    /// The worker's backend, if it has the lock, loses its client.
    fn abandon(&mut self, index: usize) {
        if let Some(lock) = self.lock.as_mut().filter(|lock| lock.client == Some(index)) {
            lock.client = None;
        }
    }

    /// What reaches the machine.
    fn hear(&mut self, index: usize, action: Action) -> Broken {
        if matches!(action, Action::FenceOver(_)) && self.claim_is_held() {
            self.faults -= 1;
        }
        let worker = &mut self.workers[index];
        let input = match action {
            Action::Hear(_) => match worker.notices.remove(0) {
                Notice::Assigned => {
                    worker.assignments += 1;
                    Input::Assigned(worker.assignments)
                }
                Notice::Revoked => Input::Revoked,
            },
            Action::HearIdle(_) => Input::Idle { claim: worker.buffer.take().expect("it is idle").claim },
            _ => Input::FenceOver,
        };
        worker.feed(input)
    }

    fn claims(&mut self, model: &Protocol, action: Action) -> Broken {
        match action {
            Action::Claim(index) => {
                let worker = &self.workers[index];
                let late = worker.machine.assignment() != Some(worker.asked[0].assignment);
                self.faults -= u8::from(late);
                let (owner, token) = (self.owner_id(index), self.tokens);
                let answer = match self.durable.claim(owner, token, model.mutation) {
                    Some((claim, from)) => {
                        self.tokens += 1;
                        Answer::Granted(claim, from)
                    }
                    None => Answer::NoRow,
                };
                self.workers[index].asked[0].answer = Some(answer);
            }
            Action::Forget(index) => {
                self.workers[index].asked.remove(0);
            }
            Action::ClaimAnswered(index) => {
                let asked = self.workers[index].asked.remove(0);
                let assignment = asked.assignment;
                return self.workers[index].feed(match asked.answer.expect("it was answered") {
                    Answer::Granted(claim, from) => Input::Granted { assignment, claim, from },
                    Answer::NoRow => Input::Refused { assignment, claim: None },
                });
            }
            Action::ClaimAnswerLost(index) => {
                self.faults -= 1;
                self.workers[index].asked[0].answer = None;
            }
            Action::Release(index) => {
                let claim = self.workers[index].releases.remove(0);
                self.durable.release(self.owner_id(index), claim);
            }
            _ => {}
        }
        Broken::NONE
    }

    /// One batch, one transaction.
    fn batch(&mut self, model: &Protocol, index: usize, action: Action) -> Broken {
        let me = self.owner_id(index);
        let Some(batch) = self.workers[index].batch.as_mut() else { return Broken::NONE };
        let covered = batch.covered;
        match action {
            Action::Compare(_) if self.durable.accepts(&covered, model.mutation) => {
                batch.phase = Phase::Compared;
                if covered.rejected.is_some() && model.mutation == Mutation::LetterOfItsOwn {
                    self.durable.letter = Some(Letter::Open);
                }
                self.lock = Some(Lock { client: Some(index), batch: covered, commit_sent: false });
            }
            Action::Compare(_) => batch.phase = Phase::Missed,
            Action::Decide(_) => {
                // Every row is as it should be: the database has gone back since the miss.
                let Some(after) = self.decide(&covered, me) else {
                    self.workers[index].put_back();
                    return Broken::NONE;
                };
                return self.workers[index].end(after);
            }
            Action::SendCommit(_) => {
                batch.phase = Phase::CommitSent;
                if let Some(lock) = self.lock.as_mut().filter(|lock| lock.client == Some(index)) {
                    lock.commit_sent = true;
                }
            }
            Action::CommitAnswered(_) => self.workers[index].batch = None,
            _ => {}
        }
        Broken::NONE
    }

    fn decide(&self, covered: &Covered, me: u8) -> Option<After> {
        let row = self.durable.row.map(|row| highwater::testing::model::Row {
            claim: row.claim,
            next_offset: row.next_offset,
            owner: row.owner,
            owner_live: row.owner.is_some_and(|owner| self.is_live(owner)),
        });
        decide(covered.claim, covered.from, row, me)
    }

    /// Before COMMIT was sent nothing is durable, and the batch is tried again. After it, nobody knows.
    fn disconnected(&mut self, model: &Protocol, index: usize) -> Broken {
        let worker = &mut self.workers[index];
        if worker.batch.is_some_and(|batch| batch.phase == Phase::Begun) {
            worker.put_back();
            return Broken::NONE;
        }
        worker.unresolved = true;
        match model.mutation {
            Mutation::NoReclaim => worker.put_back(),
            Mutation::UnknownIsApplied => worker.batch = None,
            _ => return worker.end(After::Claim),
        }
        Broken::NONE
    }

    fn commit(&mut self) -> Broken {
        let Some(lock) = self.lock.take() else { return Broken::NONE };
        if let Some(client) = lock.client
            && let Some(batch) = &mut self.workers[client].batch
        {
            batch.phase = Phase::Committed;
        }
        let broken = self.durable.commit(&lock.batch);
        self.reached();
        broken
    }

    fn reached(&mut self) {
        let next_offset = self.durable.row.map_or(0, |row| row.next_offset);
        self.furthest = self.furthest.max(next_offset);
    }

    fn operator(&mut self, model: &Protocol, action: Action) {
        match action {
            Action::ResetWaits(reset) => {
                self.resets -= 1;
                self.waiting_reset = Some((reset, self.durable.applied.len()));
            }
            Action::Reset(reset) => {
                let seen = match self.waiting_reset.take() {
                    Some((_, seen)) => seen,
                    None => {
                        self.resets -= 1;
                        self.durable.applied.len()
                    }
                };
                let token = self.new_token();
                self.durable.reset(reset, model.bad, token, seen, model.mutation);
                self.reached();
            }
            Action::Mend => self.mended = true,
            Action::Discard => {
                self.resets -= 1;
                self.durable.letter = Some(Letter::Discarded);
            }
            _ => {}
        }
    }
}
