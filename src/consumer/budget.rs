//! The worker-wide byte budget.
//!
//! A partition may hold bytes as long as it holds less than what is *left* of the budget: the dynamic
//! threshold of Choudhury and Hahne ("Dynamic queue length thresholds for shared-memory packet switches",
//! IEEE/ACM ToN 6(2), 1998) with factor 1. So one hot partition may take half of the budget, `k` stalled ones
//! take `k/(k+1)` and always leave a share for the others, and no setting per partition is needed. A partition
//! that holds nothing is never paused, so each can always have one record of any size (the floor): the budget
//! cannot deadlock.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes held by all buffers and batches of a worker.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0) }
    }

    pub(crate) fn charge(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn release(&self, bytes: usize) {
        let before = self.used.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "released more than was charged");
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn left(&self) -> usize {
        self.limit.saturating_sub(self.used())
    }

    /// Whether a partition that holds `held` bytes must stop fetching.
    pub(crate) fn must_pause(&self, held: usize) -> bool {
        held > 0 && held >= self.left()
    }

    /// Whether a paused partition that holds `held` bytes may fetch again: at half the threshold, because each
    /// pause throws the client's prefetched records away.
    pub(crate) fn may_resume(&self, held: usize) -> bool {
        held == 0 || held < self.left() / 2
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_empty_partition_is_never_paused() {
        let budget = Budget::new(100);
        budget.charge(1_000);
        assert!(!budget.must_pause(0));
        assert!(budget.may_resume(0));
        assert!(budget.must_pause(1));
    }

    #[test]
    fn one_stalled_partition_leaves_half() {
        let budget = Budget::new(100);
        let mut held = 0;
        while !budget.must_pause(held) {
            budget.charge(1);
            held += 1;
        }
        assert_eq!(held, 50);
        assert!(!budget.must_pause(49), "another partition still has room");
    }

    proptest! {
        /// Whatever is taken and freed in whatever order: what is used stays within the limit plus one record
        /// per partition, and somebody can always go on.
        #[test]
        fn bounded_and_live(steps in prop::collection::vec((0..4_usize, 1..40_usize, any::<bool>()), 1..300)) {
            let budget = Budget::new(100);
            let mut held = [0_usize; 4];
            let mut paused = [false; 4];
            for (partition, bytes, consume) in steps {
                if consume {
                    budget.release(held[partition]);
                    held[partition] = 0;
                } else if !paused[partition] {
                    budget.charge(bytes);
                    held[partition] += bytes;
                }
                for p in 0..4 {
                    paused[p] = if paused[p] { !budget.may_resume(held[p]) } else { budget.must_pause(held[p]) };
                }
                prop_assert!(budget.used() <= 100 + 4 * 40);
                prop_assert!((0..4).any(|p| held[p] > 0 || !paused[p]), "all paused and nothing to consume");
            }
        }

        /// As the poll thread does it: paused when a record comes in, resumed once a turn, with batches out that hold
        /// their bytes until they are applied. Somebody can always go on, and once all is applied everybody can.
        #[test]
        fn no_order_of_fetching_taking_and_applying_deadlocks(
            steps in prop::collection::vec((0..5_usize, 1..40_usize, 0..4_u8), 1..300)
        ) {
            let budget = Budget::new(100);
            let (mut waiting, mut out, mut paused) = ([0_usize; 5], [0_usize; 5], [false; 5]);
            for (p, bytes, step) in steps {
                match step {
                    0 if !paused[p] => {
                        budget.charge(bytes);
                        waiting[p] += bytes;
                        paused[p] = budget.must_pause(waiting[p] + out[p]);
                    }
                    1 if out[p] == 0 => {
                        out[p] = waiting[p].min(bytes);
                        waiting[p] -= out[p];
                    }
                    2 => budget.release(std::mem::take(&mut out[p])),
                    _ => resume(&budget, &mut paused, |p| waiting[p] + out[p]),
                }
                prop_assert!(budget.used() <= 100 + 5 * 40);
                let to_apply = |p: usize| waiting[p] + out[p] > 0;
                prop_assert!((0..5).any(|p| to_apply(p) || !paused[p]), "all paused and nothing to apply");
            }
            for p in 0..5 {
                budget.release(waiting[p] + out[p]);
            }
            resume(&budget, &mut paused, |_| 0);
            prop_assert_eq!((budget.used(), paused), (0, [false; 5]));
        }
    }

    fn resume(budget: &Budget, paused: &mut [bool; 5], held: impl Fn(usize) -> usize) {
        for (p, paused) in paused.iter_mut().enumerate() {
            *paused &= !budget.may_resume(held(p));
        }
    }
}
