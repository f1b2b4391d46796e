//! Whether Kafka and Postgres answer.

use std::sync::atomic::{AtomicU64, Ordering};

/// How often each has answered so far. Whoever gets an answer counts it; what is watched is that the counts grow, so
/// that nobody needs a clock here, and a process that stood still does not take its own absence for a silence.
#[derive(Debug, Default)]
pub(crate) struct Contact {
    kafka: AtomicU64,
    postgres: AtomicU64,
}

impl Contact {
    /// A broker has answered a question (the vigil's, the members').
    pub(crate) fn kafka_answered(&self) {
        self.kafka.fetch_add(1, Ordering::Relaxed);
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
