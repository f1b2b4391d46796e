//! A worker: the production state machine, and around it what the lanes, the poll thread and the tasks that claim do.

use highwater::testing::model::{After, Claim, Effect, Input, Machine, Standing};

use super::database::Covered;
use super::world::Broken;

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Worker {
    pub(crate) condition: Condition,
    /// Restarts, for the owner id.
    pub(crate) life: u8,
    /// What the group has said and the worker has not heard.
    pub(crate) notices: Vec<Notice>,
    /// Assignments heard, for their ids.
    pub(crate) assignments: u8,
    pub(crate) machine: Machine,
    /// Claims under way.
    pub(crate) asked: Vec<Asked>,
    pub(crate) buffer: Option<Buffer>,
    pub(crate) batch: Option<Batch>,
    /// The claim under which it has taken the dead letter, and hands it to its handler.
    pub(crate) redrive: Option<Claim>,
    /// Releases under way.
    pub(crate) releases: Vec<Claim>,
    /// A commit had an unknown outcome, and no claim was granted since (EO-7).
    pub(crate) unresolved: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) enum Condition {
    #[default]
    Up,
    /// SIGSTOP: no heartbeats, no steps, but its connections stand.
    Frozen,
    Down,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Notice {
    Assigned,
    Revoked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Asked {
    pub(crate) assignment: u8,
    pub(crate) answer: Option<Answer>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    Granted(Claim, u8),
    NoRow,
}

/// The part of `PartitionBuffer` that matters: the log is short enough to be fetched at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Buffer {
    pub(crate) claim: Claim,
    /// Everything below was handed out.
    pub(crate) from: u8,
    pub(crate) closed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Batch {
    pub(crate) covered: Covered,
    pub(crate) phase: Phase,
    /// Its connection and its backend stand.
    pub(crate) connected: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    /// `BEGIN` and the handler's rows.
    Begun,
    /// The compare-and-set matched: the row is locked.
    Compared,
    Missed,
    CommitSent,
    /// Durable, and the answer is on its way.
    Committed,
}

impl Worker {
    pub(crate) fn is_up(&self) -> bool {
        self.condition == Condition::Up
    }

    /// Has nothing, does nothing, and has nothing to hear.
    pub(crate) fn is_idle(&self) -> bool {
        self.notices.is_empty()
            && self.asked.is_empty()
            && self.releases.is_empty()
            && self.buffer.is_none()
            && self.redrive.is_none()
            && self.is(Standing::Unassigned)
    }

    /// Feeds the machine and does what it says; the effects that begin something are queued.
    pub(crate) fn feed(&mut self, input: Input) -> Broken {
        let mut broken = Broken::NONE;
        for effect in self.machine.on(input) {
            match effect {
                Effect::Claim(assignment) => self.asked.push(Asked { assignment, answer: None }),
                Effect::Fetch { claim, from, .. } => {
                    let as_granted =
                        matches!(input, Input::Granted { claim: c, from: f, .. } if c == claim && f == from);
                    broken.unless(as_granted, Broken::START);
                    broken.unless(self.buffer.is_none() && self.batch.is_none(), Broken::ORDERED);
                    self.unresolved = false;
                    self.buffer = Some(Buffer { claim, from, closed: false });
                }
                Effect::Close { claim, .. } => {
                    if let Some(buffer) = self.buffer.as_mut().filter(|buffer| buffer.claim == claim) {
                        buffer.closed = true;
                    }
                }
                Effect::Release(claim) => self.releases.push(claim),
                Effect::AwaitFence => {}
            }
        }
        broken
    }

    /// The lane takes records off the buffer.
    pub(crate) fn take(&mut self, records: u8, bad: Option<u8>) -> Broken {
        let mut broken = Broken::NONE;
        broken.unless(!self.unresolved, Broken::RESOLVED);
        let Some(buffer) = &mut self.buffer else { return broken };
        let (from, to) = (buffer.from, buffer.from + records);
        buffer.from = to;
        let rejected = bad.filter(|bad| (from..to).contains(bad));
        let covered = Covered { claim: buffer.claim, from, to, rejected };
        self.batch = Some(Batch { covered, phase: Phase::Begun, connected: true });
        broken
    }

    /// The lane puts a batch back; a closed buffer drops it.
    pub(crate) fn put_back(&mut self) {
        if let (Some(batch), Some(buffer)) = (self.batch.take(), &mut self.buffer) {
            buffer.from = batch.covered.from;
        }
    }

    /// The lane ends the claim; the machine hears of it at once, and that nothing is out any more.
    pub(crate) fn end(&mut self, after: After) -> Broken {
        self.batch = None;
        let Some(claim) = self.buffer.take().map(|buffer| buffer.claim) else { return Broken::NONE };
        let mut broken = self.feed(Input::Ended { claim, after });
        broken.and(self.feed(Input::Idle { claim }));
        broken
    }

    /// What the lane knows to be durable, and would mirror.
    pub(crate) fn committed(&self) -> Option<u8> {
        let buffer = self.buffer.filter(|buffer| !buffer.closed)?;
        Some(self.batch.map_or(buffer.from, |batch| batch.covered.from))
    }

    pub(crate) fn is(&self, standing: Standing) -> bool {
        self.machine.standing() == standing
    }

    /// A batch that could still commit, if the database took its claim.
    pub(crate) fn open_batch(&self) -> Option<&Batch> {
        let open = |batch: &&Batch| {
            batch.connected && matches!(batch.phase, Phase::Begun | Phase::Compared | Phase::CommitSent)
        };
        self.batch.as_ref().filter(open)
    }
}
