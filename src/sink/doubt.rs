//! Batches that the server refused without saying for which row, or why: next time their rows go one by one, and it says it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::Batch;
use crate::batch::PartitionKey;

/// Of each partition, which records are in doubt.
#[derive(Debug, Default)]
pub(crate) struct Doubts(Mutex<HashMap<PartitionKey, Doubt>>);

#[derive(Debug, Clone, Copy)]
struct Doubt {
    /// Up to this offset.
    until: i64,
    /// A text may be bad, though the error is one of a statement.
    of_text: bool,
}

/// What is to be found out about the records of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Concern {
    /// Which of them is bad. A single one is named as it is.
    pub(crate) which: bool,
    /// Whether it is one's text.
    pub(crate) text: bool,
}

impl Doubts {
    /// One of these records is bad, and nobody knows which.
    pub(crate) fn note(&self, batch: &Batch) {
        self.add(batch, false);
    }

    /// One of these records may say a text that its type does not read.
    pub(crate) fn note_text(&self, batch: &Batch) {
        self.add(batch, true);
    }

    fn add(&self, batch: &Batch, of_text: bool) {
        let mut doubts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for part in &batch.parts {
            let until = part.to.get();
            let doubt = doubts.entry(part.key.clone()).or_insert(Doubt { until, of_text });
            *doubt = Doubt { until, of_text: doubt.of_text || of_text };
        }
    }

    pub(crate) fn concern(&self, batch: &Batch) -> Concern {
        let mut doubts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut concern = Concern::default();
        if doubts.is_empty() {
            return concern;
        }
        for part in &batch.parts {
            match doubts.get(&part.key) {
                Some(doubt) if part.from.get() < doubt.until => {
                    concern.which |= batch.len() > 1;
                    concern.text |= doubt.of_text;
                }
                Some(_) => drop(doubts.remove(&part.key)),
                None => {}
            }
        }
        concern
    }
}
