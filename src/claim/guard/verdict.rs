//! What the guard concludes, and how it says so. Every text is quoted in `docs/errors.md`; a test compares them.

use crate::batch::PartitionKey;
use crate::consumer::catalog::{Available, TopicIdentity};
use crate::partition::Halt;
use crate::{ErrorKind, NextOffset};

/// What the guard says of a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The topic is the one that was recorded, and the position lies in its log.
    Passed { identity: TopicIdentity, available: Available },
    /// The records from the position up to `available.low` are gone: retention, or DeleteRecords.
    Lost { available: Available, why: Halt },
    /// The log ends before the position. One answer alone may come from a leader of yesterday.
    Beyond(Halt),
    /// No policy may step over this.
    Halted(Halt),
    /// Kafka left this partition out of its answer.
    Unanswered,
}

/// A position of a group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Position<'a> {
    pub(crate) group: &'a str,
    pub(crate) key: &'a PartitionKey,
    pub(crate) next_offset: NextOffset,
}

impl Position<'_> {
    /// Identity first: in another topic an offset means nothing, be it in range or not.
    pub(crate) fn judge(
        self,
        recorded: &TopicIdentity,
        found: &TopicIdentity,
        available: Option<Available>,
    ) -> Verdict {
        if let Some(why) = self.other_topic(recorded, found, available) {
            return Verdict::Halted(why);
        }
        match available {
            None => Verdict::Unanswered,
            Some(available) if self.next_offset < available.low => {
                Verdict::Lost { available, why: self.lost(available) }
            }
            Some(available) if self.next_offset > available.end => {
                Verdict::Beyond(self.beyond_the_end(available))
            }
            Some(available) => Verdict::Passed { identity: found.clone(), available },
        }
    }

    /// What a broker does not tell cannot differ.
    fn other_topic(
        self,
        recorded: &TopicIdentity,
        found: &TopicIdentity,
        available: Option<Available>,
    ) -> Option<Halt> {
        let Self { group, key, next_offset } = self;
        let differ = |a: &Option<String>, b: &Option<String>| match (a, b) {
            (Some(a), Some(b)) if a != b => Some((a.clone(), b.clone())),
            _ => None,
        };
        let holds = available.map_or_else(
            || "the partition cannot be read".to_owned(),
            |Available { low, end }| format!("the partition holds offsets {low} to {end}"),
        );
        let way_out = "an offset means another record there; if this is the topic to read from now on, say so as in \
                       docs/operations.md, \"Accept another topic\", then `highwater partitions retry`";
        let ids =
            |identity: &TopicIdentity| identity.topic_id.clone().unwrap_or_else(|| "unknown".to_owned());
        if let Some((was, is)) = differ(&recorded.cluster_id, &found.cluster_id) {
            let (topic_was, topic_is) = (ids(recorded), ids(found));
            return Some(guard(format!(
                "group {group} stands at offset {next_offset} of {key} in cluster {was} (topic id {topic_was}), but \
                 these brokers are cluster {is} (topic id {topic_is}), where {holds}: {way_out}; else correct `brokers` \
                 and start the workers anew"
            )));
        }
        let (was, is) = differ(&recorded.topic_id, &found.topic_id)?;
        Some(guard(format!(
            "group {group} stands at offset {next_offset} of {key} with topic id {was}, but the topic of that name now \
             has id {is}, and {holds}: it was deleted and created anew; {way_out}"
        )))
    }

    pub(crate) fn lost(self, Available { low, end }: Available) -> Halt {
        let Self { group, key, next_offset } = self;
        let count = low.get() - next_offset.get();
        guard(format!(
            "group {group} must read {key} from offset {next_offset}, but its first record is now at {low} (the log ends \
             at {end}): retention removed {count} offsets that were never applied; decide what the lost range means, \
             then step over it with `highwater partitions skip --to {low} --no-store --reason …`, or start the workers anew \
             with `on_offset_lost` = earliest or latest, which does so by itself and records the range"
        ))
    }

    /// In range, and yet the client could not go on: the log it stood in ended before, and has grown again.
    pub(crate) fn truncated(self, Available { low, end }: Available, sign: &str) -> Halt {
        let Self { group, key, next_offset } = self;
        guard(format!(
            "group {group} has applied {key} up to offset {next_offset}, but the log was truncated before that, as by an \
             unclean leader election, and has grown again (it holds offsets {low} to {end}; {sign}): find out which \
             records the database now holds in excess, then set the group's offset with `highwater offsets reset \
             --to-offset … --live --execute` (docs/operations.md, \"Move an offset\"), and it goes on"
        ))
    }

    fn beyond_the_end(self, Available { low, end }: Available) -> Halt {
        let Self { group, key, next_offset } = self;
        guard(format!(
            "group {group} has applied {key} up to offset {next_offset}, but the log ends at {end} (its first record is \
             at {low}): it was truncated, as by an unclean leader election; find out which records the database now \
             holds in excess, then set the group's offset with `highwater offsets reset --to-offset … --live --execute` \
             (docs/operations.md, \"Move an offset\"), and it goes on"
        ))
    }
}

/// The offset is there, but what the group knows of the topic is not.
pub(super) fn unrecorded(group: &str, key: &PartitionKey, next_offset: NextOffset) -> Halt {
    guard(format!(
        "the row of topic {} for group {group} has vanished from group_topic, though consumer_offset holds offset \
         {next_offset} for {key}: without it nobody knows which topic that offset belongs to; restore it from a backup, \
         then `highwater partitions retry`",
        key.topic
    ))
}

fn guard(message: String) -> Halt {
    Halt::new(ErrorKind::Guard, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEXT: NextOffset = NextOffset::new(4204).unwrap();
    /// As librdkafka words it, shortened.
    const SIGN: &str = "Partition log truncation detected at offset 4204 (leader epoch 7): broker end offset is 4100 \
                        (offset leader epoch 7). Reset to INVALID.";
    const HELD: Available = Available { low: NextOffset::ZERO, end: NextOffset::new(5000).unwrap() };

    fn identity(cluster_id: &str, topic_id: &str) -> TopicIdentity {
        TopicIdentity { cluster_id: Some(cluster_id.to_owned()), topic_id: Some(topic_id.to_owned()) }
    }

    fn recorded() -> TopicIdentity {
        identity("5L6g3nShT-eMCtK--X86sw", "1Tj8KnU5R0mYdQXm7u6vKA")
    }

    fn judge(found: &TopicIdentity, available: Option<Available>) -> Verdict {
        let key = PartitionKey { topic: "payments.tx_events".into(), partition: 3 };
        Position { group: "fraud-rules-v2", key: &key, next_offset: NEXT }.judge(
            &recorded(),
            found,
            available,
        )
    }

    /// As the worker says it.
    fn told(halt: Halt) -> String {
        let key = PartitionKey { topic: "payments.tx_events".into(), partition: 3 };
        halt.at("fraud-rules-v2", &key).to_string()
    }

    fn at(low: i64, end: i64) -> Option<Available> {
        Some(Available { low: NextOffset::new(low).unwrap(), end: NextOffset::new(end).unwrap() })
    }

    #[track_caller]
    fn text(verdict: Verdict) -> String {
        match verdict {
            Verdict::Lost { why, .. } | Verdict::Beyond(why) | Verdict::Halted(why) => told(why),
            other => panic!("{other:?} is no halt"),
        }
    }

    #[test]
    fn both_ends_belong_to_the_log() {
        for (low, end) in [(0, 4204), (4204, 4204), (4204, 9000), (0, 9000)] {
            assert!(matches!(judge(&recorded(), at(low, end)), Verdict::Passed { .. }), "{low} to {end}");
        }
        assert!(matches!(judge(&recorded(), at(4205, 9000)), Verdict::Lost { .. }));
        assert!(matches!(judge(&recorded(), at(0, 4203)), Verdict::Beyond(_)));
        assert_eq!(judge(&recorded(), None), Verdict::Unanswered);
    }

    #[test]
    fn another_topic_is_no_topic_to_read_on_whatever_it_holds() {
        for available in [at(0, 10), at(0, 4204), at(0, 9000), at(5000, 9000), None] {
            for other in [identity("5L6g3nShT-eMCtK--X86sw", "zz"), identity("zz", "1Tj8KnU5R0mYdQXm7u6vKA")]
            {
                assert!(matches!(judge(&other, available), Verdict::Halted(_)), "{other:?} {available:?}");
            }
        }
    }

    #[test]
    fn a_broker_that_has_no_ids_is_not_another_cluster() {
        let unknown = TopicIdentity::default();
        assert!(matches!(judge(&unknown, Some(HELD)), Verdict::Passed { .. }));
    }

    /// The on-call person searches `docs/errors.md` for what the worker said.
    #[test]
    fn every_text_is_quoted_in_the_documentation() {
        let page = include_str!("../../../docs/errors.md");
        let key = PartitionKey { topic: "payments.tx_events".into(), partition: 3 };
        let texts = [
            text(judge(&identity("5L6g3nShT-eMCtK--X86sw", "Qm0w1cXdT9qkUu5rjVh3PQ"), at(0, 5000))),
            text(judge(&identity("rBq7XmYbQpWk0yqv3n1dTw", "Qm0w1cXdT9qkUu5rjVh3PQ"), at(0, 5000))),
            text(judge(&recorded(), at(4300, 5000))),
            text(judge(&recorded(), at(0, 4100))),
            told(Position { group: "fraud-rules-v2", key: &key, next_offset: NEXT }.truncated(HELD, SIGN)),
            told(unrecorded("fraud-rules-v2", &key, NEXT)),
        ];
        for text in texts {
            assert!(page.contains(&text), "docs/errors.md does not quote\n{text}");
        }
    }
}
