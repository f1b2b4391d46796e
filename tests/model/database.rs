//! What Postgres holds, and what each statement does to it.

use highwater::testing::model::{Claim, contiguous, covered, under_claim};

use super::mutation::Mutation;
use super::walk::Walk;
use super::world::Broken;

/// What a fail-over takes over, wholly or an older version of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Durable {
    /// The row of `consumer_offset`.
    pub(crate) row: Option<Row>,
    /// The sink's rows, by the offset they come from, in the order in which they were written.
    pub(crate) applied: Vec<u8>,
    /// The dead letter of the bad record.
    pub(crate) letter: Option<Letter>,
    /// `offset_event`, summed up: how often each offset stands applied from before the present pass …
    pub(crate) repeats: Vec<u8>,
    /// … and which ones an operator stepped over in it.
    pub(crate) skipped: Vec<bool>,
    /// An operator's undo of rows that is under way.
    pub(crate) walk: Option<Walk>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    pub(crate) claim: Claim,
    pub(crate) next_offset: u8,
    /// Number of the process that holds it; `None` when released.
    pub(crate) owner: Option<u8>,
    /// `paused_reason`: nobody claims it.
    pub(crate) paused: bool,
}

/// `dead_letter.state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Letter {
    Open,
    Redriven,
    Superseded,
    /// An operator does not want it applied any more.
    Discarded,
}

impl Letter {
    /// Stands for its record, which is not applied.
    pub(crate) fn stands(self) -> bool {
        matches!(self, Self::Open | Self::Discarded)
    }
}

/// The transaction that holds the row's lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Lock {
    /// The worker at the other end; `None` once it is gone or has given the backend up.
    pub(crate) client: Option<usize>,
    pub(crate) batch: Covered,
    /// COMMIT is on its way, and no longer depends on the client.
    pub(crate) commit_sent: bool,
}

/// What a batch covers, and under which claim it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Covered {
    pub(crate) claim: Claim,
    pub(crate) from: u8,
    pub(crate) to: u8,
    /// The handler rejected this record of it; its dead letter is written in the same transaction (EO-9).
    pub(crate) rejected: Option<u8>,
}

impl Covered {
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.from < other.to && other.from < self.to
    }
}

impl Durable {
    /// Before the group was ever started.
    pub(crate) fn empty(log: u8) -> Self {
        let log = usize::from(log);
        Self {
            row: None,
            applied: Vec::new(),
            letter: None,
            repeats: vec![0; log],
            skipped: vec![false; log],
            walk: None,
        }
    }

    /// The start policy, `earliest`.
    pub(crate) fn ensure_row(&mut self, token: u8) {
        let claim = Claim { epoch: 0, token };
        self.row.get_or_insert(Row { claim, next_offset: 0, owner: None, paused: false });
    }

    /// A new epoch and a new token. `None` if there is no row.
    pub(crate) fn claim(&mut self, owner: u8, token: u8, mutation: Mutation) -> Option<(Claim, u8)> {
        let row = self.row.as_mut()?;
        let step = u8::from(mutation != Mutation::NoEpoch);
        row.claim = Claim { epoch: row.claim.epoch + step, token };
        row.owner = Some(owner);
        Some((row.claim, row.next_offset))
    }

    /// By the token: a late release matches nothing.
    pub(crate) fn release(&mut self, owner: u8, claim: Claim) {
        if let Some(row) = &mut self.row
            && row.claim == claim
            && row.owner == Some(owner)
        {
            row.owner = None;
        }
    }

    /// Whether the claim half of the compare-and-set's condition holds.
    pub(crate) fn accepts_claim(&self, claim: Claim, mutation: Mutation) -> bool {
        self.row.is_some_and(|row| match mutation {
            Mutation::NoFence => true,
            Mutation::NoToken => row.claim.epoch == claim.epoch,
            _ => row.claim == claim,
        })
    }

    /// The compare-and-set's condition.
    pub(crate) fn accepts(&self, batch: &Covered, mutation: Mutation) -> bool {
        let from_here = self.row.is_some_and(|row| row.next_offset == batch.from);
        (from_here || mutation == Mutation::NoCompareAndSet) && self.accepts_claim(batch.claim, mutation)
    }

    /// The rows, the dead letter and the offset, in one transaction (EO-1). Says which invariants that broke.
    pub(crate) fn commit(&mut self, batch: &Covered) -> Broken {
        let Some(row) = &mut self.row else { return Broken::FENCED };
        let mut broken = Broken::NONE;
        broken.unless(contiguous(row.next_offset, batch.from), Broken::CONTIGUOUS);
        broken.unless(under_claim(row.claim, batch.claim), Broken::FENCED);
        broken.unless(covered(batch.from, batch.to, batch.from..batch.to), Broken::CONTIGUOUS);
        row.next_offset = batch.to;
        self.applied.extend((batch.from..batch.to).filter(|offset| batch.rejected != Some(*offset)));
        if batch.rejected.is_some() {
            // Unique by offset: what was rejected before, and replayed since, is open again.
            self.letter = Some(Letter::Open);
        }
        broken
    }

    /// An operator moves the offset: the row is locked first, then everything else is done and recorded. `seen` is
    /// how many rows the undo can see; all of them, if it runs as a statement of its own after the lock.
    pub(crate) fn reset(
        &mut self,
        reset: Reset,
        bad: Option<u8>,
        token: u8,
        seen: usize,
        mutation: Mutation,
    ) {
        let Some(row) = &mut self.row else { return };
        let (from, to) = (row.next_offset, reset.to);
        let claim = Claim { epoch: row.claim.epoch + 1, token };
        *row = Row { claim, next_offset: to, owner: None, paused: row.paused };
        let stands_at = bad.filter(|_| self.letter.is_some_and(Letter::stands));
        if reset.undo {
            let mut index = 0;
            self.applied.retain(|offset| {
                index += 1;
                *offset < to || index > seen
            });
            self.repeats[usize::from(to)..].fill(0);
        } else {
            for offset in to..from {
                let applied = !self.skipped[usize::from(offset)] && stands_at != Some(offset);
                self.repeats[usize::from(offset)] += u8::from(applied);
            }
        }
        self.skipped[usize::from(to.min(from))..].fill(false);
        if to > from {
            self.skipped[usize::from(from)..usize::from(to)].fill(true);
        }
        // What is read again is judged again: its old dead letter must not be redriven beside that.
        let read_again = bad.is_some_and(|bad| bad >= to);
        if read_again && self.letter.is_some() && mutation != Mutation::RedriveWithoutSuperseding {
            self.letter = Some(Letter::Superseded);
        }
    }

    /// Whether the letter may be redriven under this claim: it is open, and the group is past its record.
    pub(crate) fn can_redrive(&self, bad: u8, claim: Claim) -> bool {
        let is_past = self.row.is_some_and(|row| row.claim == claim && bad < row.next_offset);
        is_past && self.letter == Some(Letter::Open)
    }

    /// A redrive's transaction: the row is locked and its claim compared, the letter's state changes, with the rows
    /// that its handler wrote. Otherwise it rolls back.
    pub(crate) fn redrive(&mut self, bad: u8, claim: Claim, mutation: Mutation) -> Broken {
        let mut broken = Broken::NONE;
        let Some(row) = self.row else { return broken };
        let fenced = row.claim == claim || mutation == Mutation::RedriveUnfenced;
        let open = self.letter == Some(Letter::Open) || mutation == Mutation::RedriveUnchecked;
        if fenced && open && bad < row.next_offset {
            broken.unless(under_claim(row.claim, claim), Broken::FENCED);
            broken.unless(self.letter != Some(Letter::Discarded), Broken::DECIDED);
            self.letter = Some(Letter::Redriven);
            self.applied.push(bad);
        }
        broken
    }

    /// How often the promise wants `offset` applied (or standing as a dead letter).
    pub(crate) fn wanted(&self, offset: u8) -> u8 {
        let index = usize::from(offset);
        let passed = self.row.is_some_and(|row| offset < row.next_offset) && !self.skipped[index];
        self.repeats[index] + u8::from(passed)
    }

    pub(crate) fn times_applied(&self, offset: u8) -> u8 {
        self.applied.iter().map(|applied| u8::from(*applied == offset)).sum()
    }
}

/// An operator's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Reset {
    pub(crate) to: u8,
    /// Delete the sink's rows from there on.
    pub(crate) undo: bool,
}
