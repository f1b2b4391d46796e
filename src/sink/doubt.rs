//! Batches that the server refused without saying for which row: next time their rows go one by one, and it says it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::Batch;
use crate::batch::PartitionKey;

/// Up to which offset each partition's records are in doubt.
#[derive(Debug, Default)]
pub(crate) struct Doubts(Mutex<HashMap<PartitionKey, i64>>);

impl Doubts {
    /// One of these records is bad, and nobody knows which.
    pub(crate) fn note(&self, batch: &Batch) {
        let mut doubts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for part in &batch.parts {
            doubts.insert(part.key.clone(), part.to.get());
        }
    }

    /// Whether some of these records are in doubt. A single one is named as it is.
    pub(crate) fn concern(&self, batch: &Batch) -> bool {
        let mut doubts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if doubts.is_empty() {
            return false;
        }
        let mut any = false;
        for part in &batch.parts {
            match doubts.get(&part.key) {
                Some(until) if part.from.get() < *until => any = true,
                Some(_) => drop(doubts.remove(&part.key)),
                None => {}
            }
        }
        any && batch.len() > 1
    }
}
