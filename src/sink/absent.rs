//! Columns for which no object ever has a field: a row of NULLs looks like data, so it is said, once.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// So many objects are looked at; a batch that is encoded twice counts twice.
pub(crate) const LOOKED_AT: u32 = 1_000;

/// Of one table's columns.
#[derive(Debug)]
pub(crate) struct Absent {
    objects: AtomicU32,
    come: Box<[AtomicBool]>,
}

impl Absent {
    pub(crate) fn new(columns: usize) -> Self {
        Self { objects: AtomicU32::new(0), come: (0..columns).map(|_| AtomicBool::new(false)).collect() }
    }

    /// Notes for which columns an object has fields. After the last object that is looked at, and only then: the columns
    /// for which none had one.
    pub(crate) fn note(&self, has: impl Iterator<Item = bool>) -> Vec<usize> {
        if self.objects.load(Ordering::Relaxed) >= LOOKED_AT {
            return Vec::new();
        }
        for (come, _) in self.come.iter().zip(has).filter(|(_, has)| *has) {
            come.store(true, Ordering::Relaxed);
        }
        if self.objects.fetch_add(1, Ordering::Relaxed) + 1 != LOOKED_AT {
            return Vec::new();
        }
        (0..self.come.len()).filter(|&column| !self.come[column].load(Ordering::Relaxed)).collect()
    }
}
