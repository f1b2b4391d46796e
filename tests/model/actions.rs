//! What may happen next.

use highwater::testing::model::Standing;

use super::database::{Letter, Reset};
use super::mutation::Mutation;
use super::worker::{Answer, Asked, Condition, Notice, Phase, Worker};
use super::world::{Protocol, World};

/// A step. What costs a fault is marked; everything else is what the parts do by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// The group gives the partition to a worker: at first, from one that is gone or silent, or for no reason.
    Move(usize),
    /// A worker hears of an assignment or a revocation, however late.
    Hear(usize),
    /// The claim's statement is carried out; a fault, if that is after the revoke.
    Claim(usize),
    /// A claim that is not assigned any more is not sent.
    Forget(usize),
    ClaimAnswered(usize),
    /// Fault: the claim was carried out, its answer is lost, and it is sent again.
    ClaimAnswerLost(usize),
    Take(usize, u8),
    Compare(usize),
    /// After a miss: the row is read, and decides.
    Decide(usize),
    SendCommit(usize),
    CommitAnswered(usize),
    /// A batch whose connection is gone ends, by how far it had come.
    Disconnected(usize),
    /// The drain deadline.
    Cancel(usize),
    /// Fault: `max_processing_time`.
    TimeOut(usize),
    HearIdle(usize),
    Release(usize),
    /// The heartbeat's answer: the claim was taken, or the database went back.
    Heartbeat(usize),
    /// The row is free, its owner gone, or the backoff over; a fault, if that takes a claim that is held.
    FenceOver(usize),
    /// Fault: the connection to Postgres.
    Cut(usize),
    /// Fault.
    Crash(usize),
    /// Fault.
    Freeze(usize),
    Wake(usize),
    /// A process is started, by whatever keeps it running; or an operator restarts a halted one.
    Restart(usize),
    /// The server carries out COMMIT.
    Commit,
    /// The server ends a transaction whose client is gone, or a waiting claim ends that of a frozen one.
    EndBackend,
    /// Fault: from now on the replica lags; or it was never there (`true`).
    Lag(bool),
    FailOver,
    Reset(Reset),
    /// A reset that waits for the lock, in the mutation that takes its snapshot before.
    ResetWaits(Reset),
    /// An operator pauses the partition, or lets it go on.
    Pause,
    Resume,
    /// An operator begins to undo the rows from an offset on, and goes on with it.
    BeginWalk(u8),
    Walk,
    /// The handler is corrected.
    Mend,
    /// An operator decides about the dead letter, for good.
    Discard,
    /// A worker takes the dead letter; and what its handler made of it is committed, or is not.
    BeginRedrive(usize),
    SettleRedrive(usize),
}

impl Protocol {
    pub(crate) fn enabled(&self, world: &World, actions: &mut Vec<Action>) {
        for (index, worker) in world.workers.iter().enumerate() {
            self.process(world, index, worker, actions);
            if worker.is_up() {
                self.claims(world, index, worker, actions);
                self.lane(world, index, worker, actions);
                self.machine(world, index, worker, actions);
                self.redriver(world, index, worker, actions);
            }
        }
        self.server(world, actions);
        self.operator(world, actions);
        self.lasting(world, actions);
    }

    fn process(&self, world: &World, index: usize, worker: &Worker, actions: &mut Vec<Action>) {
        match worker.condition {
            Condition::Down => actions.push(Action::Restart(index)),
            Condition::Frozen => actions.push(Action::Wake(index)),
            Condition::Up => {
                // Workers are alike: of those that have done nothing yet the first one stands for all.
                let stands_for_another = world.workers[..index].iter().any(|other| other == worker);
                if worker.is_idle() && stands_for_another {
                    return;
                }
                if world.faults > 0 && !worker.is_idle() {
                    actions.push(Action::Crash(index));
                }
                // Without a batch it is as if the worker were slow, and slow it may be at any time.
                let works = worker.open_batch().is_some() || worker.redrive.is_some();
                if world.faults > 0 && works {
                    actions.push(Action::Freeze(index));
                }
                if worker.is(Standing::Halted) {
                    actions.push(Action::Restart(index));
                }
                if !worker.notices.is_empty() {
                    actions.push(Action::Hear(index));
                }
                let owner_up = world.group.is_some_and(|owner| world.workers[owner].is_up());
                if world.group != Some(index) && (!owner_up || world.moves > 0) {
                    actions.push(Action::Move(index));
                }
            }
        }
    }

    fn claims(&self, world: &World, index: usize, worker: &Worker, actions: &mut Vec<Action>) {
        if let Some(asked) = worker.asked.first() {
            match asked.answer {
                None => {
                    let late = worker.machine.assignment() != Some(asked.assignment);
                    let held = world.durable.row.is_some_and(|row| row.paused);
                    if world.lock.is_none() && !held && (!late || world.faults > 0) {
                        actions.push(Action::Claim(index));
                    }
                    if late {
                        actions.push(Action::Forget(index));
                    }
                }
                Some(_) => {
                    actions.push(Action::ClaimAnswered(index));
                    if world.faults > 0 {
                        actions.push(Action::ClaimAnswerLost(index));
                    }
                }
            }
        }
        if !worker.releases.is_empty() && world.lock.is_none() {
            actions.push(Action::Release(index));
        }
    }

    fn lane(&self, world: &World, index: usize, worker: &Worker, actions: &mut Vec<Action>) {
        let Some(buffer) = &worker.buffer else { return };
        let Some(batch) = &worker.batch else {
            if !buffer.closed && buffer.from < self.log {
                let waiting = self.log - buffer.from;
                actions.push(Action::Take(index, waiting));
                if waiting > 1 {
                    actions.push(Action::Take(index, 1));
                }
            }
            return;
        };
        let unsent = matches!(batch.phase, Phase::Begun | Phase::Compared);
        if !batch.connected && batch.phase != Phase::Missed {
            return actions.push(Action::Disconnected(index));
        }
        match batch.phase {
            Phase::Begun if world.lock.is_none() => actions.push(Action::Compare(index)),
            Phase::Begun | Phase::CommitSent => {}
            Phase::Compared => actions.push(Action::SendCommit(index)),
            Phase::Missed => actions.push(Action::Decide(index)),
            Phase::Committed => actions.push(Action::CommitAnswered(index)),
        }
        if unsent && buffer.closed {
            actions.push(Action::Cancel(index));
        }
        if world.faults > 0 {
            if unsent && !buffer.closed {
                actions.push(Action::TimeOut(index));
            }
            // Before the compare-and-set a cut changes nothing: the batch is put back.
            if !matches!(batch.phase, Phase::Begun | Phase::Missed) {
                actions.push(Action::Cut(index));
            }
        }
    }

    fn machine(&self, world: &World, index: usize, worker: &Worker, actions: &mut Vec<Action>) {
        if worker.buffer.is_some_and(|buffer| buffer.closed) && worker.batch.is_none() {
            actions.push(Action::HearIdle(index));
        }
        if worker.is(Standing::Running) && self.lost(world, worker) {
            actions.push(Action::Heartbeat(index));
        }
        if worker.is(Standing::Fenced) && (world.faults > 0 || !world.claim_is_held()) {
            actions.push(Action::FenceOver(index));
        }
    }

    /// The letter is taken under the claim that is held; whatever happens before its transaction ends is for that to see.
    fn redriver(&self, world: &World, index: usize, worker: &Worker, actions: &mut Vec<Action>) {
        let Some(bad) = self.bad else { return };
        if worker.redrive.is_some() {
            if world.lock.is_none() {
                actions.push(Action::SettleRedrive(index));
            }
        } else if let Some(claim) = worker.machine.claim()
            && world.mended
            && worker.is(Standing::Running)
            && world.durable.can_redrive(bad, claim)
        {
            actions.push(Action::BeginRedrive(index));
        }
    }

    /// What the heartbeat's answer says of the claim that is held.
    fn lost(&self, world: &World, worker: &Worker) -> bool {
        let Some(row) = world.durable.row else { return true };
        let went_back = worker.committed().is_some_and(|committed| row.next_offset < committed);
        worker.machine.claim() != Some(row.claim) || (went_back && self.mutation != Mutation::BlindHeartbeat)
    }

    fn server(&self, world: &World, actions: &mut Vec<Action>) {
        if let Some(lock) = world.lock {
            if lock.commit_sent {
                actions.push(Action::Commit);
            }
            if lock.client.is_none_or(|client| world.workers[client].condition == Condition::Frozen) {
                actions.push(Action::EndBackend);
            }
        }
        if world.replica.is_some() {
            actions.push(Action::FailOver);
        } else if self.fail_over && world.faults > 0 {
            actions.push(Action::Lag(false));
            actions.push(Action::Lag(true));
        }
    }

    fn operator(&self, world: &World, actions: &mut Vec<Action>) {
        let Some(row) = world.durable.row else { return };
        let single_statement = self.mutation == Mutation::SingleStatementUndo;
        if let Some((reset, _)) = world.waiting_reset
            && world.lock.is_none()
        {
            actions.push(Action::Reset(reset));
        }
        let can_reset = world.resets > 0 && world.waiting_reset.is_none();
        for reset in self.resets_from(row.next_offset).into_iter().filter(|_| can_reset) {
            if reset.undo && single_statement {
                actions.push(Action::ResetWaits(reset));
            } else if world.lock.is_none() {
                actions.push(Action::Reset(reset));
            }
        }
        if let Some(bad) = self.bad {
            if !world.mended && world.durable.letter.is_some() {
                actions.push(Action::Mend);
            }
            let open = world.durable.letter == Some(Letter::Open) && bad < row.next_offset;
            if open && can_reset && world.lock.is_none() {
                actions.push(Action::Discard);
            }
        }
    }
}

impl Protocol {
    /// Undo to each offset, have everything repeated, or step over the rest.
    fn resets_from(&self, next_offset: u8) -> Vec<Reset> {
        let mut resets: Vec<_> =
            (0..self.log.min(next_offset + 1)).map(|to| Reset { to, undo: true }).collect();
        if next_offset > 0 {
            resets.push(Reset { to: 0, undo: false });
        }
        if next_offset < self.log {
            resets.push(Reset { to: self.log, undo: false });
        }
        resets
    }
}

impl World {
    /// Whether a live process holds the row's claim and knows it. One whose claim's answer was lost does not: then
    /// the successor's wait ends by its backoff.
    pub(crate) fn claim_is_held(&self) -> bool {
        let Some(row) = self.durable.row.filter(|row| row.owner.is_some_and(|owner| self.is_live(owner)))
        else {
            return false;
        };
        self.workers.iter().any(|worker| {
            let answered =
                |asked: &Asked| matches!(asked.answer, Some(Answer::Granted(claim, _)) if claim == row.claim);
            worker.machine.claim() == Some(row.claim)
                || worker.releases.contains(&row.claim)
                || worker.asked.iter().any(answered)
        })
    }

    /// Live by its heartbeat: a process that is up, in its present life.
    pub(crate) fn is_live(&self, owner: u8) -> bool {
        (0..self.workers.len()).any(|index| self.owner_id(index) == owner && self.workers[index].is_up())
    }

    pub(crate) fn tell(&mut self, index: usize, notice: Notice) {
        if self.workers[index].condition != Condition::Down {
            self.workers[index].notices.push(notice);
        }
    }
}
