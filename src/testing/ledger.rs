//! What the broker acknowledged.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A multiset of (partition, offset), with how often each is in it.
pub(super) type Positions = BTreeMap<(i32, i64), usize>;

/// Which records the broker acknowledged: per topic, a multiset of (partition, offset).
///
/// Filled from delivery reports, not from what was sent: the oracle must not believe in a record that never reached
/// the log. A clone is another handle on the same ledger.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    topics: Arc<Mutex<BTreeMap<String, Positions>>>,
}

impl Ledger {
    /// An empty ledger, for records that something else than the kit's producers wrote.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Enters one record.
    pub fn record(&self, topic: &str, partition: i32, offset: i64) {
        let mut topics = self.lock();
        let positions = match topics.get_mut(topic) {
            Some(positions) => positions,
            None => topics.entry(topic.to_owned()).or_default(),
        };
        *positions.entry((partition, offset)).or_default() += 1;
    }

    /// How many records of `topic` were acknowledged.
    #[must_use]
    pub fn count(&self, topic: &str) -> usize {
        self.lock().get(topic).map_or(0, |positions| positions.values().sum())
    }

    /// Every (partition, offset) of `topic` with how often it was acknowledged.
    #[must_use]
    pub fn positions(&self, topic: &str) -> BTreeMap<(i32, i64), usize> {
        self.lock().get(topic).cloned().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Positions>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
