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

    /// Completes the commands that its text names (`highwater partitions retry`, `… skip`, `highwater offsets reset`) with
    /// where it is: what a person reads, he types. Whoever makes a halt names the verb alone; told twice is told once.
    pub(crate) fn at(mut self, group: &str, key: &PartitionKey) -> Self {
        const VERBS: [&str; 3] =
            ["`highwater partitions retry", "`highwater partitions skip", "`highwater offsets reset"];
        let place = format!(
            " --group {} --topic {}",
            typed(group),
            typed(&format!("{}:{}", key.topic, key.partition))
        );
        for verb in VERBS {
            let complete = format!("{verb}{place}");
            self.message = self.message.replace(&complete, verb).replace(verb, &complete);
        }
        self
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
        let text = format!(
            "cannot {what} {key}: {error}; `highwater partitions retry` tries again; if that halts, too, restart the worker"
        );
        Self::new(ErrorKind::Kafka, text)
    }
}

/// As a shell takes it for one word.
fn typed(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-:".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
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
        let by_operator = Halt::by_operator(&key, "INC-814: ask Ana first").at("fraud-rules-v2", &key);
        let halt = halt.at("fraud-rules-v2", &key);
        assert!(page.contains(&by_operator.message), "docs/errors.md does not quote\n{by_operator}");
        assert!(page.contains(&halt.message), "docs/errors.md does not quote\n{halt}");
    }

    #[test]
    fn commands_can_be_typed_as_they_stand() {
        let key = PartitionKey { topic: "payments".into(), partition: 3 };
        let text = "x; `highwater partitions retry`, or `highwater partitions skip --to 18 --reason …`; \
                    `highwater offsets reset --live …`";
        let halt = Halt::new(ErrorKind::Handler, text).at("g", &key);
        let place = "--group g --topic payments:3";
        assert_eq!(
            halt.message,
            format!(
                "x; `highwater partitions retry {place}`, or `highwater partitions skip {place} --to 18 --reason …`; \
                 `highwater offsets reset {place} --live …`"
            )
        );
        assert_eq!(halt.clone().at("g", &key), halt, "told twice is told once");
        let odd = Halt::new(ErrorKind::Handler, "`highwater partitions retry`").at("it's a group", &key);
        assert_eq!(odd.message, "`highwater partitions retry --group 'it'\\''s a group' --topic payments:3`");
    }
}
