//! The worker's pure parts in plain types, for the checked model in `tests/model.rs`: what is checked there is the
//! production code, not a copy of it. Not an interface for anybody else.

use uuid::Uuid;

use crate::batch::{ClaimId, PartitionKey};
use crate::claim::OffsetRow;
use crate::lane::decide;
use crate::partition::{self, Halt, Partition, State};
use crate::{ErrorKind, NextOffset, invariants};

/// Epoch and token of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named like the columns")]
pub struct Claim {
    pub epoch: u8,
    pub token: u8,
}

/// `partition::After`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named like the production type's variants")]
pub enum After {
    Claim,
    Fence,
    Halt,
}

/// `partition::Input`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named like the production type's variants")]
pub enum Input {
    Assigned(u8),
    Revoked,
    Granted { assignment: u8, claim: Claim, from: u8 },
    Refused { assignment: u8, claim: Option<Claim> },
    Ended { claim: Claim, after: After },
    Idle { claim: Claim },
    FenceOver,
}

/// `partition::Effect`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named like the production type's variants")]
pub enum Effect {
    Claim(u8),
    Fetch { assignment: u8, claim: Claim, from: u8 },
    Close { claim: Claim, revoked: bool },
    Release(Claim),
    AwaitFence,
}

/// `partition::State`, without what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named like the production type's variants")]
pub enum Standing {
    Unassigned,
    Claiming,
    Running,
    Draining,
    Fenced,
    Halted,
}

/// The state machine of `src/partition.rs`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Machine(Partition);

impl Default for Machine {
    fn default() -> Self {
        Self(Partition::new())
    }
}

impl Machine {
    /// Takes one step.
    pub fn on(&mut self, input: Input) -> Vec<Effect> {
        let input = match input {
            Input::Assigned(id) => partition::Input::Assigned(id.into()),
            Input::Revoked => partition::Input::Revoked,
            Input::Granted { assignment, claim, from } => partition::Input::Granted {
                assignment: assignment.into(),
                claim: claim.real(),
                from: at(from),
            },
            Input::Refused { assignment, claim } => partition::Input::Refused {
                assignment: assignment.into(),
                claim: claim.map(Claim::real),
                why: halt(),
            },
            Input::Ended { claim, after } => {
                partition::Input::Ended { claim: claim.real(), after: after.real() }
            }
            Input::Idle { claim } => partition::Input::Idle { claim: claim.real() },
            Input::FenceOver => partition::Input::FenceOver,
        };
        self.0.on(input).iter().map(Effect::plain).collect()
    }

    /// Where the partition stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match self.0.state() {
            State::Unassigned => Standing::Unassigned,
            State::Claiming => Standing::Claiming,
            State::Running { .. } => Standing::Running,
            State::Draining { .. } => Standing::Draining,
            State::Fenced => Standing::Fenced,
            State::Halted { .. } => Standing::Halted,
        }
    }

    /// The present assignment, if any.
    #[must_use]
    pub fn assignment(&self) -> Option<u8> {
        self.0.assignment().map(small)
    }

    /// The claim that is held, be it draining.
    #[must_use]
    pub fn claim(&self) -> Option<Claim> {
        self.0.claim().map(Claim::plain)
    }
}

/// A row of `consumer_offset` as `Claims::rows` reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named like the columns")]
pub struct Row {
    pub claim: Claim,
    pub next_offset: u8,
    pub owner: Option<u8>,
    pub owner_live: bool,
}

/// The decision table of `src/lane/decide.rs`: `None` if the batch is to be put back, else what follows.
#[must_use]
pub fn decide(claim: Claim, from: u8, row: Option<Row>, me: u8) -> Option<After> {
    let owner = |id: u8| Uuid::from_u128(u128::from(id) + 1);
    let row = row.map(|row| OffsetRow {
        key: PartitionKey { topic: "t".into(), partition: 0 },
        claim: row.claim.real(),
        next_offset: at(row.next_offset),
        owner: row.owner.map(owner),
        owner_live: row.owner_live,
        paused_reason: None,
        halted: false,
        draining: false,
    });
    match decide::decide(claim.real(), at(from), row.as_ref(), owner(me)) {
        decide::Decision::Ours => None,
        decide::Decision::Over { after, .. } => Some(After::plain(&after)),
    }
}

/// `invariants::contiguous`.
#[must_use]
pub fn contiguous(stored: u8, start: u8) -> bool {
    invariants::contiguous(at(stored), at(start))
}

/// `invariants::under_claim`.
#[must_use]
pub fn under_claim(current: Claim, claim: Claim) -> bool {
    invariants::under_claim(current.real(), claim.real())
}

/// `invariants::covered`.
pub fn covered(from: u8, to: u8, offsets: impl IntoIterator<Item = u8>) -> bool {
    invariants::covered(at(from), at(to), offsets.into_iter().map(i64::from))
}

impl Claim {
    fn real(self) -> ClaimId {
        ClaimId { epoch: self.epoch.into(), token: Uuid::from_u128(self.token.into()) }
    }

    fn plain(claim: ClaimId) -> Self {
        let token = u8::try_from(claim.token.as_u128()).expect("made from a u8");
        Self { epoch: u8::try_from(claim.epoch).expect("made from a u8"), token }
    }
}

impl After {
    fn real(self) -> partition::After {
        match self {
            Self::Claim => partition::After::Claim,
            Self::Fence => partition::After::Fence,
            Self::Halt => partition::After::Halt(halt()),
        }
    }

    fn plain(after: &partition::After) -> Self {
        match after {
            partition::After::Claim => Self::Claim,
            partition::After::Fence => Self::Fence,
            partition::After::Halt(_) => Self::Halt,
        }
    }
}

impl Effect {
    fn plain(effect: &partition::Effect) -> Self {
        use partition::Effect as Real;
        match *effect {
            Real::Claim(id) => Self::Claim(small(id)),
            Real::Fetch { assignment, claim, from } => Self::Fetch {
                assignment: small(assignment),
                claim: Claim::plain(claim),
                from: u8::try_from(from.get()).expect("made from a u8"),
            },
            Real::Close { claim, revoked } => Self::Close { claim: Claim::plain(claim), revoked },
            Real::Release(claim) => Self::Release(Claim::plain(claim)),
            Real::AwaitFence => Self::AwaitFence,
        }
    }
}

fn small(id: u64) -> u8 {
    u8::try_from(id).expect("made from a u8")
}

fn at(offset: u8) -> NextOffset {
    NextOffset::new(offset.into()).expect("not negative")
}

fn halt() -> Halt {
    Halt::new(ErrorKind::Guard, "")
}
