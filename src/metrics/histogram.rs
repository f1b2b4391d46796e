//! Histograms: counted with relaxed atomics, a few times per batch and never per record.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often what was measured.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Histogram {
    /// The sum of all measurements.
    pub sum: f64,
    /// How many there were.
    pub count: u64,
    /// Upper bounds, each with how many measurements were at most that and more than the bound before; the last
    /// bound is infinite.
    pub buckets: Vec<(f64, u64)>,
}

/// A histogram that is being counted: of whole numbers, which the unit makes into what is shown.
#[derive(Debug)]
pub(crate) struct Counted<const N: usize> {
    bounds: &'static [u64; N],
    counts: [AtomicU64; N],
    above: AtomicU64,
    sum: AtomicU64,
    /// How many of the counted numbers make one of the shown unit.
    per_unit: f64,
}

/// Of durations, from a tenth of a millisecond to half a minute.
pub(crate) type Durations = Counted<17>;
/// Of records in a batch.
pub(crate) type Sizes = Counted<15>;

/// In microseconds.
static DURATIONS: [u64; 17] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000,
];
static SIZES: [u64; 15] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000];

impl Durations {
    pub(crate) fn durations() -> Self {
        Self::new(&DURATIONS, 1e6)
    }

    pub(crate) fn took(&self, duration: Duration) {
        self.count(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }
}

impl Sizes {
    pub(crate) fn sizes() -> Self {
        Self::new(&SIZES, 1.0)
    }
}

impl<const N: usize> Counted<N> {
    fn new(bounds: &'static [u64; N], per_unit: f64) -> Self {
        Self {
            bounds,
            counts: [const { AtomicU64::new(0) }; N],
            above: AtomicU64::new(0),
            sum: AtomicU64::new(0),
            per_unit,
        }
    }

    pub(crate) fn count(&self, measured: u64) {
        let at = self.bounds.partition_point(|bound| *bound < measured);
        self.counts.get(at).unwrap_or(&self.above).fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(measured, Ordering::Relaxed);
    }

    /// What was counted so far. The count is that of the buckets, so that the two always agree.
    #[expect(clippy::cast_precision_loss, reason = "sums of microseconds are exact for 285 years")]
    pub(crate) fn get(&self) -> Histogram {
        let shown = |number: u64| number as f64 / self.per_unit;
        let bounds = self.bounds.iter().map(|bound| shown(*bound)).chain([f64::INFINITY]);
        let counts = self.counts.iter().chain([&self.above]).map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        Histogram { sum: shown(self.sum.load(Ordering::Relaxed)), count, buckets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let sizes = Sizes::sizes();
        for size in [1, 2, 3, 50_000, 50_001] {
            sizes.count(size);
        }
        let Histogram { sum, count, buckets } = sizes.get();
        assert_eq!((sum, count), (100_007.0, 5));
        let filled: Vec<_> = buckets.into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(1.0, 1), (2.0, 1), (5.0, 1), (50_000.0, 1), (f64::INFINITY, 1)]);
    }

    #[test]
    fn durations_are_shown_in_seconds() {
        let took = Durations::durations();
        took.took(Duration::from_millis(3));
        took.took(Duration::from_secs(3_600));
        let Histogram { sum, count, buckets } = took.get();
        assert_eq!((sum, count), (3_600.003, 2));
        assert_eq!(buckets[5], (0.005, 1));
        assert_eq!(buckets[17], (f64::INFINITY, 1));
    }
}
