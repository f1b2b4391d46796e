//! What an operator does that lasts: a pause, and an undo of rows in portions under the plan's own claim.

use highwater::testing::model::Claim;

use super::actions::Action;
use super::database::{Durable, Letter};
use super::mutation::Mutation;
use super::world::{Protocol, World};

/// A plan that undoes rows, as `offset_plan_step` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Walk {
    /// The plan's own.
    pub(crate) claim: Claim,
    pub(crate) to: u8,
}

impl Protocol {
    pub(crate) fn lasting(&self, world: &World, actions: &mut Vec<Action>) {
        let Some(row) = world.durable.row.filter(|_| self.lasting && world.lock.is_none()) else { return };
        if world.durable.walk.is_some() {
            // Whoever types it again goes on with it: so a crash of the command is a step that does not come.
            actions.push(Action::Walk);
        }
        if row.paused && (world.durable.walk.is_none() || world.resets > 0) {
            actions.push(Action::Resume);
        }
        if !row.paused && world.resets > 0 {
            actions.push(Action::Pause);
            actions.extend((0..row.next_offset).map(Action::BeginWalk));
        }
    }
}

impl World {
    pub(crate) fn lasts(&mut self, model: &Protocol, action: Action) {
        match action {
            Action::Pause | Action::BeginWalk(_) => {
                self.resets -= 1;
                let claim = self.end_claim(true);
                if let Action::BeginWalk(to) = action {
                    self.durable.walk = claim.map(|claim| Walk { claim, to });
                }
            }
            Action::Resume => {
                self.resets -= u8::from(self.durable.walk.is_some());
                self.end_claim(false);
            }
            Action::Walk => {
                let Some(walk) = self.durable.walk else { return };
                if self.durable.row.is_none_or(|row| row.claim != walk.claim) {
                    // Somebody has resumed it: it is the fleet's again.
                    self.durable.walk = None;
                } else if self.durable.walk_on(walk, model.bad, model.mutation) {
                    self.durable.walk = None;
                    self.end_claim(false);
                }
            }
            _ => {}
        }
    }

    /// A new claim that nobody owns.
    fn end_claim(&mut self, paused: bool) -> Option<Claim> {
        let token = self.new_token();
        let row = self.durable.row.as_mut()?;
        row.claim = Claim { epoch: row.claim.epoch + 1, token };
        row.owner = None;
        row.paused = paused;
        Some(row.claim)
    }
}

impl Durable {
    /// One transaction: the rows of the topmost offset, and the offset. Whether it has arrived.
    fn walk_on(&mut self, walk: Walk, bad: Option<u8>, mutation: Mutation) -> bool {
        let Some(row) = &mut self.row else { return false };
        let to = row.next_offset.saturating_sub(1).max(walk.to);
        row.next_offset = to;
        let arrived = to == walk.to;
        if mutation != Mutation::WalkMovesFirst || arrived {
            self.applied.retain(|offset| *offset < to);
        }
        self.repeats[usize::from(to)..].fill(0);
        self.skipped[usize::from(to)..].fill(false);
        if bad.is_some_and(|bad| bad >= to) && self.letter.is_some() {
            self.letter = Some(Letter::Superseded);
        }
        arrived
    }
}
