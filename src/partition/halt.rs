//! Why a partition stopped.

use std::fmt;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::batch::PartitionKey;
use crate::{ErrorKind, NextOffset};

/// Why a partition halted: what was attempted, where, and what the reader can do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Halt {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
}

impl Halt {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The client gave an error where the next record should be (EO-6); `way_out` is what the judge says of it.
    pub(crate) fn unreadable(
        key: &PartitionKey,
        offset: NextOffset,
        code: RDKafkaErrorCode,
        text: &str,
        way_out: &str,
    ) -> Self {
        Self::new(
            ErrorKind::Guard,
            format!("cannot read {key} at offset {offset}: {text} ({code:?}); {way_out}"),
        )
    }

    /// A person said so.
    pub(crate) fn by_operator(key: &PartitionKey, reason: &str) -> Self {
        Self::new(
            ErrorKind::Operator,
            format!("{key} was halted by an operator: {reason}; `highwater partitions retry` lets it go on"),
        )
    }

    /// A call to the client failed.
    pub(crate) fn client(key: &PartitionKey, what: &str, error: &KafkaError) -> Self {
        Self::new(ErrorKind::Kafka, format!("cannot {what} {key}: {error}; restart the worker"))
    }
}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::verdict::{Place, kafka};

    #[test]
    fn halts_are_quoted_in_the_documentation() {
        let key = PartitionKey { topic: "payments.tx_events".into(), partition: 3 };
        let text = "MessageSet at offset 4204 (1189 bytes) failed CRC32C check (original 0x1b3f != calculated 0x2c4d)";
        let (offset, code) = (NextOffset::new(4204).unwrap(), RDKafkaErrorCode::BadMessage);
        let halt = Halt::unreadable(
            &key,
            offset,
            code,
            text,
            kafka::judge(Place::Fetch, code, false, Duration::ZERO).words,
        );
        let page = include_str!("../../docs/errors.md");
        let by_operator = Halt::by_operator(&key, "INC-814: ask Ana first");
        assert!(page.contains(&by_operator.message), "docs/errors.md does not quote\n{by_operator}");
        assert!(page.contains(&halt.message), "docs/errors.md does not quote\n{halt}");
    }
}
