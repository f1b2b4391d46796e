//! What a partition that is assigned waits for before it can be read.

use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;

use crate::batch::PartitionKey;
use crate::verdict::Place;
use crate::verdict::kafka::judge;

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

    /// Its leader did not answer the question how far it goes; this came instead.
    pub(crate) fn on_silent_leader(key: &PartitionKey, code: RDKafkaErrorCode) -> Self {
        let words = judge(Place::Question, code, false, Duration::ZERO).words;
        Self::on_answer(format!("the leader of {key} does not answer ({code:?}): {words}"))
    }

    pub(crate) fn on_answer(text: String) -> Self {
        Self { on: On::Answer, text }
    }
}
