//! Sessions that the server ended while nobody was asking it anything. The driver reads the reason, and whoever asks next
//! hears only that the connection is closed.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_postgres::error::SqlState;

/// How many are remembered: a lane asks at once.
const REMEMBERED: usize = 256;

/// Which sessions were ended for having taken too long, by their backends' pids; and how many were lost, for whatever reason.
#[derive(Debug, Clone, Default)]
pub(super) struct Ended(Arc<Mutex<VecDeque<(i32, String)>>>, Arc<AtomicU64>);

impl Ended {
    /// A new session: what was known of its pid is another's.
    pub(super) fn begun(&self, pid: i32) {
        self.lock().retain(|(ended, _)| *ended != pid);
    }

    /// A session was lost that this process had not closed.
    pub(super) fn lost(&self) {
        self.1.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count(&self) -> u64 {
        self.1.load(Ordering::Relaxed)
    }

    pub(super) fn note(&self, pid: i32, why: &SqlState) {
        let mut ended = self.lock();
        if ended.len() == REMEMBERED {
            ended.pop_front();
        }
        ended.push_back((pid, why.code().to_owned()));
    }

    /// The SQLSTATE with which a session was ended.
    pub(super) fn why(&self, pid: i32) -> Option<String> {
        self.lock().iter().rev().find(|(ended, _)| *ended == pid).map(|(_, why)| why.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(i32, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_may_be_used_again() {
        let ended = Ended::default();
        ended.note(7, &SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT);
        assert_eq!(ended.why(7).as_deref(), Some("25P03"));
        ended.begun(7);
        assert_eq!(ended.why(7), None);
        (0..1_000).for_each(|pid| ended.note(pid, &SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT));
        assert!(ended.why(999).is_some() && ended.lock().len() == REMEMBERED);
    }
}
