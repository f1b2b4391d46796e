//! The life of a partition, as a pure state machine: no I/O, no clock. The worker feeds it [`Input`]s and
//! carries out its [`Effect`]s; property tests feed it everything else.
//!
//! ```text
//!                 Assigned              Granted
//!   Unassigned ─────────────▶ Claiming ─────────▶ Running
//!       ▲                      ▲  │                  │ Revoked, Ended(after)
//!       │  FenceOver, HaltOver │  │ Refused          ▼
//!       │                   Fenced│               Draining
//!       │                      ▲  ▼                  │ Idle: nothing of this claim can commit any more
//!       │                      │ Halted ◀────────────┤
//!       └──────────────────────┴─────────────────────┘
//! ```
//!
//! There is one way out of `Running`: through `Draining`, until the lane says that no batch of the claim is
//! left (EO-5). So a partition that is revoked and comes back at once never runs under two claims.

mod halt;

pub(crate) use halt::Halt;

use crate::NextOffset;
use crate::batch::{AssignmentId, ClaimId, PartitionKey};

/// Where a partition stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum State {
    /// Not ours.
    Unassigned,
    /// Ours by Kafka's word; Postgres has not answered yet.
    Claiming,
    /// Claimed; records flow.
    Running { claim: ClaimId },
    /// The claim is over; a batch may still be finishing under it.
    Draining { claim: ClaimId, after: After },
    /// Another live process holds the claim, though Kafka assigned the partition to us.
    Fenced,
    /// Stopped with an error; needs an operator, a new assignment, or that the cause is seen to be over.
    Halted { why: Halt },
}

/// What follows when a claim has drained, if Kafka still assigns the partition to us.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum After {
    Claim,
    Fence,
    Halt(Halt),
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    /// Kafka assigned the partition.
    Assigned(AssignmentId),
    /// Kafka took it away.
    Revoked,
    /// A claim succeeded and its guard passed.
    Granted { assignment: AssignmentId, claim: ClaimId, from: NextOffset },
    /// A claim cannot succeed: `claim` is set if the row was claimed before the guard said no.
    Refused { assignment: AssignmentId, claim: Option<ClaimId>, why: Halt },
    /// The claim is over: lost, unknown, or the records cannot be applied.
    Ended { claim: ClaimId, after: After },
    /// No batch of this claim is left.
    Idle { claim: ClaimId },
    /// The fence may be tried again.
    FenceOver,
    /// What the partition halted for is seen to be over. Only for causes that can be watched; most need an operator.
    HaltOver,
}

impl Input {
    /// A halt says where it is: see [`Halt::at`].
    pub(crate) fn at(self, group: &str, key: &PartitionKey) -> Self {
        match self {
            Self::Refused { assignment, claim, why } => {
                Self::Refused { assignment, claim, why: why.at(group, key) }
            }
            Self::Ended { claim, after: After::Halt(why) } => {
                Self::Ended { claim, after: After::Halt(why.at(group, key)) }
            }
            other => other,
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Claim the row in Postgres.
    Claim(AssignmentId),
    /// Fetch from there, into a new buffer.
    Fetch { assignment: AssignmentId, claim: ClaimId, from: NextOffset },
    /// Fetch no more, drop the buffer; [`Input::Idle`] follows.
    Close { claim: ClaimId, revoked: bool },
    /// Give the row back, if it is still under this claim.
    Release(ClaimId),
    /// Wait until the row is free, its owner is gone, or a backoff ends; [`Input::FenceOver`] follows.
    AwaitFence,
}

/// A partition's state, and what Kafka says of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Partition {
    assignment: Option<AssignmentId>,
    state: State,
}

impl Partition {
    pub(crate) fn new() -> Self {
        Self { assignment: None, state: State::Unassigned }
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn assignment(&self) -> Option<AssignmentId> {
        self.assignment
    }

    /// Neither Kafka nor a claim knows of it any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.assignment.is_none() && self.state == State::Unassigned
    }

    /// The claim that is held, be it draining.
    pub(crate) fn claim(&self) -> Option<ClaimId> {
        match &self.state {
            State::Running { claim } | State::Draining { claim, .. } => Some(*claim),
            _ => None,
        }
    }

    /// Takes one step.
    pub(crate) fn on(&mut self, input: Input) -> Vec<Effect> {
        match input {
            Input::Assigned(id) => self.on_assigned(id),
            Input::Revoked => self.on_revoked(),
            Input::Granted { assignment, claim, from } => {
                if self.assignment != Some(assignment) || self.state != State::Claiming {
                    // Revoked while the claim was under way: nobody fetches under it.
                    return vec![Effect::Release(claim)];
                }
                self.state = State::Running { claim };
                vec![Effect::Fetch { assignment, claim, from }]
            }
            Input::Refused { assignment, claim, why } => {
                if self.assignment == Some(assignment) && self.state == State::Claiming {
                    self.state = State::Halted { why };
                }
                claim.map(Effect::Release).into_iter().collect()
            }
            Input::Ended { claim, after } => match &self.state {
                State::Running { claim: running } if *running == claim => {
                    self.state = State::Draining { claim, after };
                    vec![Effect::Close { claim, revoked: false }]
                }
                // Already draining for another reason, or an echo of an older claim.
                _ => Vec::new(),
            },
            Input::Idle { claim } => self.on_idle(claim),
            Input::FenceOver if self.state == State::Fenced => self.claim_anew(),
            Input::HaltOver if matches!(self.state, State::Halted { .. }) => self.claim_anew(),
            Input::FenceOver | Input::HaltOver => Vec::new(),
        }
    }

    fn claim_anew(&mut self) -> Vec<Effect> {
        let Some(id) = self.assignment else { return Vec::new() };
        self.state = State::Claiming;
        vec![Effect::Claim(id)]
    }

    fn on_assigned(&mut self, id: AssignmentId) -> Vec<Effect> {
        self.assignment = Some(id);
        match &mut self.state {
            State::Draining { after, .. } => {
                // It came back while the old claim drains: a new claim follows, whatever ended the old one.
                *after = After::Claim;
                Vec::new()
            }
            State::Running { claim } => {
                // Assigned twice without a revoke between; Kafka does not do that, but if it did, what was
                // fetched under the first assignment would be gone.
                let claim = *claim;
                self.state = State::Draining { claim, after: After::Claim };
                vec![Effect::Close { claim, revoked: false }]
            }
            State::Unassigned | State::Claiming | State::Fenced | State::Halted { .. } => {
                self.state = State::Claiming;
                vec![Effect::Claim(id)]
            }
        }
    }

    fn on_revoked(&mut self) -> Vec<Effect> {
        self.assignment = None;
        match &self.state {
            State::Running { claim } => {
                let claim = *claim;
                self.state = State::Draining { claim, after: After::Claim };
                vec![Effect::Close { claim, revoked: true }]
            }
            State::Draining { .. } => Vec::new(),
            State::Unassigned | State::Claiming | State::Fenced | State::Halted { .. } => {
                self.state = State::Unassigned;
                Vec::new()
            }
        }
    }

    fn on_idle(&mut self, claim: ClaimId) -> Vec<Effect> {
        let State::Draining { claim: draining, after } = &self.state else { return Vec::new() };
        if *draining != claim {
            return Vec::new();
        }
        let mut effects = vec![Effect::Release(claim)];
        self.state = match (self.assignment, after.clone()) {
            (None, _) => State::Unassigned,
            (Some(id), After::Claim) => {
                effects.push(Effect::Claim(id));
                State::Claiming
            }
            (Some(_), After::Fence) => {
                effects.push(Effect::AwaitFence);
                State::Fenced
            }
            (Some(_), After::Halt(why)) => State::Halted { why },
        };
        effects
    }
}

#[cfg(test)]
mod tests;
