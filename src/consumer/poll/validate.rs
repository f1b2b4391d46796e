//! Before a record of a partition is kept, the broker must have said that the log still has the record before it, in
//! its leader epoch: watermarks alone miss a log that was truncated and has grown again (DESIGN 3.4).

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{EventQueue, PollLoop};
use crate::batch::{EpochMark, PartitionKey};
use crate::consumer::PartitionBuffer;

/// The client's main thread answers a seek at once; this only bounds a hiccup.
const SEEK_TIMEOUT: Duration = Duration::from_millis(100);
/// How soon a seek is tried again: the client refuses it until the fetch has begun.
pub(super) const RETRY: Duration = Duration::from_millis(5);
/// How often that is said which takes so long.
const SAID_EVERY: Duration = Duration::from_secs(30);

/// A partition whose fetch has begun, and whose position is still to be validated.
pub(super) struct Unvalidated {
    buffer: Arc<PartitionBuffer>,
    mark: EpochMark,
    since: Instant,
}

impl PollLoop {
    /// Keeps nothing of this partition until its position was validated: from the end of the last record on, so that
    /// a record that has appeared since between it and the position is seen, too.
    pub(super) fn validate_first(&mut self, buffer: &Arc<PartitionBuffer>, mark: EpochMark) {
        let since = Instant::now();
        self.unvalidated.retain(|one| !Arc::ptr_eq(&one.buffer, buffer));
        self.unvalidated.push(Unvalidated { buffer: Arc::clone(buffer), mark, since });
    }

    pub(super) fn validate(&mut self, queue: &EventQueue) {
        let mut pending = std::mem::take(&mut self.unvalidated);
        pending.retain(|one| self.fetching(&one.buffer).is_some());
        if pending.is_empty() {
            return;
        }
        let marks: Vec<(PartitionKey, EpochMark)> =
            pending.iter().map(|one| (one.buffer.key.clone(), one.mark)).collect();
        let results = queue.seek(&marks, SEEK_TIMEOUT);
        self.last = None;
        for (one, result) in pending.into_iter().zip(results) {
            let Some(fetching) = self.fetching(&one.buffer) else { continue };
            match result {
                // Whatever was fetched before is outdated for the client from here on.
                Ok(()) => fetching.validated = true,
                Err(_) if one.since.elapsed() < SAID_EVERY => self.unvalidated.push(one),
                // Nothing is kept meanwhile. A client that waits for its coordinator begins no fetch, so this may last.
                Err(code) => {
                    tracing::warn!(partition = %one.buffer.key, ?code, "the client has not begun to fetch yet; waiting");
                    self.unvalidated.push(Unvalidated { since: Instant::now(), ..one });
                }
            }
        }
    }
}
