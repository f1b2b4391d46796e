//! Whether Kafka and Postgres answer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How often each has answered so far. Whoever gets an answer counts it; what is watched is that the counts grow, so
/// that nobody needs a clock here, and a process that stood still does not take its own absence for a silence.
#[derive(Debug, Default)]
pub(crate) struct Contact {
    kafka: AtomicU64,
    postgres: AtomicU64,
    vigil_asks: AtomicBool,
}

impl Contact {
    /// A broker has answered a question of the vigil's.
    pub(crate) fn kafka_answered(&self) {
        self.vigil_asks.store(true, Ordering::Relaxed);
        self.kafka.fetch_add(1, Ordering::Relaxed);
    }

    /// The group's coordinator has answered. It is asked through a client of its own, which is made anew whenever it fails:
    /// its answers would hide that the other has forgotten all brokers. So they count only where the vigil has nothing to
    /// ask: a member that has only patterns and was never given a partition.
    pub(crate) fn coordinator_answered(&self) {
        if !self.vigil_asks.load(Ordering::Relaxed) {
            self.kafka.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Postgres has carried out a heartbeat.
    pub(crate) fn postgres_answered(&self) {
        self.postgres.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn kafka_answers(&self) -> i64 {
        i64::try_from(self.kafka.load(Ordering::Relaxed)).unwrap_or(i64::MAX)
    }

    pub(crate) fn postgres_answers(&self) -> i64 {
        i64::try_from(self.postgres.load(Ordering::Relaxed)).unwrap_or(i64::MAX)
    }
}
