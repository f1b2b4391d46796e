//! What a missed compare-and-set means (DESIGN 3.7): what the row says decides, never what the worker believes.

use uuid::Uuid;

use crate::NextOffset;
use crate::batch::ClaimId;
use crate::claim::OffsetRow;
use crate::invariants;
use crate::partition::After;

/// What a row says about a part whose batch missed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Still under our claim and where we left it: only another partition of the batch was lost, or the database has
    /// gone back since.
    Ours,
    Over {
        after: After,
        taken_by_another: bool,
    },
}

/// Decides on what was read under `claim` and begins at `from`; `me` is the owner id of this process.
pub(crate) fn decide(claim: ClaimId, from: NextOffset, row: Option<&OffsetRow>, me: Uuid) -> Decision {
    let over = |after, taken_by_another| Decision::Over { after, taken_by_another };
    let Some(row) = row else { return over(After::Claim, false) };
    if invariants::under_claim(row.claim, claim) {
        let ours = invariants::contiguous(row.next_offset, from);
        return if ours { Decision::Ours } else { over(After::Claim, false) };
    }
    let another = row.owner.is_some_and(|owner| owner != me);
    if row.claim.epoch > claim.epoch && another && row.owner_live {
        return over(After::Fence, true);
    }
    // A lower epoch or the same with another token: the database went back. No owner: a reset, or the successor
    // has released. Owner not live: it may be claimed, if it is still assigned to us.
    over(After::Claim, another)
}

#[cfg(test)]
mod tests;
