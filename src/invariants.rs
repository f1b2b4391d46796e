//! The invariants as predicates. Production code asserts them or decides by them, the checked model in
//! `tests/model.rs` judges every step by the very same functions.

use crate::NextOffset;
use crate::batch::ClaimId;

/// EO-2: what is to be applied begins where the applied ends.
pub(crate) fn contiguous(stored: NextOffset, start: NextOffset) -> bool {
    stored == start
}

/// EO-3: what was read under `claim` may be committed while the row holds `current`. The epoch alone would not
/// do: a fail-over to an asynchronous replica can issue it twice.
pub(crate) fn under_claim(current: ClaimId, claim: ClaimId) -> bool {
    current == claim
}

/// EO-1, EO-5: the records of `[from, to)` lie in it, in offset order, none of them twice. There may be fewer than
/// offsets (compaction, markers), even none; but a part covers something.
pub(crate) fn covered(from: NextOffset, to: NextOffset, offsets: impl IntoIterator<Item = i64>) -> bool {
    let mut next = from.get();
    let ordered = offsets.into_iter().all(|offset| {
        let follows = offset >= next && offset < to.get();
        next = offset.saturating_add(1);
        follows
    });
    ordered && from < to
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: i64) -> NextOffset {
        NextOffset::new(offset).unwrap()
    }

    #[test]
    fn records_lie_in_their_coverage_in_order_and_once() {
        let covered = |offsets: &[i64]| covered(at(3), at(7), offsets.iter().copied());
        assert!(covered(&[3, 4, 5, 6]));
        assert!(covered(&[4, 6]), "gaps are no records");
        assert!(covered(&[]), "markers alone");
        assert!(!covered(&[2, 3]), "before it");
        assert!(!covered(&[6, 7]), "past it");
        assert!(!covered(&[4, 4]), "twice");
        assert!(!covered(&[5, 4]), "out of order");
        assert!(!super::covered(at(3), at(3), []), "it covers nothing");
    }
}
