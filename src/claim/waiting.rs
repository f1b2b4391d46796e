//! What a partition that is assigned waits for before it can be read.

use crate::batch::PartitionKey;

/// Why a claim is not there yet, in words, and whose affair that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) on: On,
    pub(crate) text: String,
}

/// On whom a claim waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    /// An operator has paused it.
    Operator,
    /// Another live process has it, and nobody arbitrates.
    Process,
    /// Nobody leads the partition.
    Leader,
    /// Kafka or Postgres, which do not answer, or not as they should.
    Answer,
}

impl Waiting {
    pub(crate) fn on_operator(reason: &str) -> Self {
        Self { on: On::Operator, text: format!("paused by an operator: {reason}") }
    }

    pub(crate) fn on_process(text: String) -> Self {
        Self { on: On::Process, text }
    }

    pub(crate) fn on_leader(key: &PartitionKey) -> Self {
        Self {
            on: On::Leader,
            text: format!(
                "{key} has no leader: the brokers that hold its replicas are away, or not in sync; nothing of it can be \
                 read before one is back"
            ),
        }
    }

    pub(crate) fn on_answer(text: String) -> Self {
        Self { on: On::Answer, text }
    }
}
