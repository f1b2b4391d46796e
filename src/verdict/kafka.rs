//! What an error of the Kafka client means. A code means one thing at a fetch and another at the join, so every place has
//! lines of its own; the most exact line applies, and the last of each place covers what is listed nowhere.
//!
//! Which events there are, and which the client deals with by itself, is from the source of librdkafka 2.12.1:
//! `rdkafka_fetcher.c`, `rdkafka_msgset_reader.c` (fetch), `rdkafka_cgrp.c` (join, metadata), `rdkafka_broker.c`.
//! `docs/errors.md` repeats the [table](RULES); a test compares them.

use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode as Code;

use super::{Act, Place, Who};
use crate::ErrorKind;

/// How long a fetch may be refused at one position before the partition halts.
pub(crate) const REFUSED_FETCH_LASTS: Duration = Duration::from_secs(300);
/// How long a right that is missing is waited for: it may be given back.
pub(crate) const MISSING_RIGHT_LASTS: Duration = Duration::from_secs(60);

/// The judgement on one error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Judgement {
    pub(crate) who: Who,
    pub(crate) act: Act,
    /// What it means and what the reader can do; empty where the client's own words say it all.
    pub(crate) words: &'static str,
    /// Whether something else follows if it lasts.
    pub(crate) is_limited: bool,
    /// Whether it is worth a word by itself. What a connection loses and finds again is not: whether anybody answers is
    /// watched, and said, as a whole.
    pub(crate) is_told: bool,
}

/// A line of the table.
struct Rule {
    place: Place,
    /// None: any other.
    codes: &'static [Code],
    /// Of those that end the client, or of the others; `None`: of both.
    fatal: Option<bool>,
    who: Who,
    act: Act,
    /// What is done instead once it has lasted for so long.
    lasting: Option<(Duration, Act)>,
    told: bool,
    words: &'static str,
}

const OF_THE_CONNECTION: &[Code] = &[
    Code::BrokerTransportFailure,
    Code::AllBrokersDown,
    Code::OperationTimedOut,
    Code::RequestTimedOut,
    Code::TimedOutQueue,
    Code::NetworkException,
    Code::Resolve,
    Code::BrokerDestroy,
    Code::DestroyBroker,
    Code::NodeUpdate,
];

const OF_THE_COORDINATOR: &[Code] = &[
    Code::WaitingForCoordinator,
    Code::CoordinatorLoadInProgress,
    Code::CoordinatorNotAvailable,
    Code::NotCoordinator,
    Code::RebalanceInProgress,
    Code::IllegalGeneration,
    Code::UnknownMemberId,
    Code::MemberIdRequired,
    Code::FencedMemberEpoch,
    Code::StaleMemberEpoch,
];

const fn rule(place: Place, codes: &'static [Code], who: Who, act: Act, words: &'static str) -> Rule {
    Rule { place, codes, fatal: None, who, act, lasting: None, told: true, words }
}

impl Rule {
    const fn silent(self) -> Self {
        Self { told: false, ..self }
    }

    const fn lasting(self, limit: Duration, act: Act) -> Self {
        Self { lasting: Some((limit, act)), ..self }
    }

    const fn fatal(self, fatal: bool) -> Self {
        Self { fatal: Some(fatal), ..self }
    }

    fn covers(&self, place: Place, code: Code, fatal: bool) -> bool {
        self.place == place
            && self.fatal.is_none_or(|wanted| wanted == fatal)
            && (self.codes.is_empty() || self.codes.contains(&code))
    }
}

static RULES: &[Rule] = &[
    // What a lost connection interrupts goes on where it stood.
    rule(Place::Fetch, OF_THE_CONNECTION, Who::Surroundings, Act::Wait, "the client connects again by itself").silent(),
    rule(
        Place::Fetch,
        &[
            Code::BadMessage,
            Code::InvalidMessage,
            Code::InvalidMessageSize,
            Code::InvalidRecord,
            Code::BadCompression,
            Code::UnsupportedCompressionType,
            Code::NotImplemented,
            Code::Underflow,
        ],
        Who::Record,
        Act::Halt,
        "the batch there is corrupt on the broker's disk, and nothing after it was applied: restore the partition from a \
         replica and let it be tried again with `highwater partitions retry`, or decide what the batch means and step over it \
         with `highwater partitions skip --to … --no-store --reason …`",
    ),
    rule(
        Place::Fetch,
        &[Code::TopicAuthorizationFailed],
        Who::Configuration,
        Act::FetchAnew,
        "Kafka does not let this client read the topic: grant it READ",
    )
    .lasting(MISSING_RIGHT_LASTS, Act::Exit(ErrorKind::Privilege)),
    rule(
        Place::Fetch,
        &[Code::UnknownTopicOrPartition, Code::UnknownTopic, Code::UnknownPartition, Code::UnknownTopicId],
        Who::Surroundings,
        Act::FetchAnew,
        "if the topic was deleted, or deleted and created anew, its offsets no longer mean the same records; if it is there \
         again as it was, `highwater partitions retry`",
    )
    .lasting(REFUSED_FETCH_LASTS, Act::Halt),
    rule(
        Place::Fetch,
        &[Code::MessageSizeTooLarge],
        Who::Surroundings,
        Act::FetchAnew,
        "the next batch exceeds what the client may receive at once: raise `kafka.receive.message.max.bytes` and \
         `kafka.fetch.max.bytes`, which takes a restart",
    )
    .lasting(REFUSED_FETCH_LASTS, Act::Halt),
    rule(
        Place::Fetch,
        &[],
        Who::Surroundings,
        Act::FetchAnew,
        "look at the broker's log and at this partition's segment files, then let it be tried again with `highwater \
         partitions retry`",
    )
    .lasting(REFUSED_FETCH_LASTS, Act::Halt),
    rule(
        Place::Join,
        &[Code::Authentication, Code::SaslAuthenticationFailed, Code::UnsupportedSASLMechanism, Code::IllegalSASLState],
        Who::Configuration,
        Act::Exit(ErrorKind::Authentication),
        "Kafka refused the credentials",
    ),
    rule(
        Place::Join,
        &[Code::GroupAuthorizationFailed],
        Who::Configuration,
        Act::Exit(ErrorKind::Privilege),
        "Kafka does not let this client join the group: grant it READ on the group",
    ),
    rule(
        Place::Join,
        &[Code::TopicAuthorizationFailed],
        Who::Configuration,
        Act::Wait,
        "Kafka does not let this client read a topic that it subscribes to: grant it READ and DESCRIBE",
    )
    .fatal(false)
    .lasting(MISSING_RIGHT_LASTS, Act::Exit(ErrorKind::Privilege)),
    rule(
        Place::Join,
        &[Code::FencedInstanceId],
        Who::Configuration,
        Act::Exit(ErrorKind::InstanceFenced),
        "another process joined the group under the same instance id: give every process an instance id of its own",
    ),
    rule(
        Place::Join,
        &[Code::InvalidSessionTimeout],
        Who::Configuration,
        Act::Exit(ErrorKind::Configuration),
        "the brokers do not allow this session time-out: change the setting `session_timeout` to what lies between \
         group.min.session.timeout.ms and group.max.session.timeout.ms of the brokers (6 s and 30 min by default)",
    ),
    rule(
        Place::Join,
        &[Code::InvalidGroupId],
        Who::Configuration,
        Act::Exit(ErrorKind::Configuration),
        "the brokers do not allow this group id: change the setting `group`",
    ),
    rule(
        Place::Join,
        &[Code::UnsupportedAssignor],
        Who::Configuration,
        Act::Exit(ErrorKind::Configuration),
        "the brokers do not have the assignor: change the setting `assignor`, or add it to group.consumer.assignors",
    ),
    rule(
        Place::Join,
        &[Code::UnsupportedVersion, Code::UnsupportedFeature],
        Who::Configuration,
        Act::Exit(ErrorKind::Configuration),
        "the brokers do not speak the group's protocol: choose classic in the setting `group_protocol`, or brokers from 4.0",
    )
    .fatal(true),
    rule(
        Place::Join,
        &[Code::UnreleasedInstanceId],
        Who::Surroundings,
        Act::NewClient,
        "the group still has a member of this instance id: a process that was killed less than a session ago, or one that \
         runs",
    )
    .fatal(true),
    rule(
        Place::Join,
        &[Code::GroupMaxSizeReached],
        Who::Surroundings,
        Act::NewClient,
        "the group has as many members as group.max.size of the brokers (group.consumer.max.size) allows: stop one, or \
         raise it",
    )
    .fatal(true),
    rule(Place::Join, &[], Who::Surroundings, Act::NewClient, "the client has failed for good").fatal(true),
    rule(
        Place::Join,
        &[Code::GroupMaxSizeReached],
        Who::Surroundings,
        Act::Wait,
        "the group has as many members as group.max.size of the brokers (group.consumer.max.size) allows: stop one, or \
         raise it",
    ),
    rule(
        Place::Join,
        &[Code::InconsistentGroupProtocol],
        Who::Configuration,
        Act::Wait,
        "the members of the group share its partitions out by another assignor: give all of them the same, and stop all \
         before changing it",
    ),
    rule(Place::Join, OF_THE_CONNECTION, Who::Surroundings, Act::Wait, "the client connects again by itself").silent(),
    rule(
        Place::Join,
        OF_THE_COORDINATOR,
        Who::Surroundings,
        Act::Wait,
        "the client finds the coordinator, and joins, again by itself",
    )
    .silent(),
    rule(Place::Join, &[], Who::Surroundings, Act::Wait, "the client tries again by itself"),
    rule(
        Place::Metadata,
        &[Code::TopicAuthorizationFailed],
        Who::Configuration,
        Act::Wait,
        "Kafka does not let this client read the topic: grant it READ and DESCRIBE",
    )
    .lasting(MISSING_RIGHT_LASTS, Act::Exit(ErrorKind::Privilege)),
    rule(
        Place::Metadata,
        &[Code::UnknownTopicOrPartition, Code::UnknownTopic],
        Who::Surroundings,
        Act::Wait,
        "the topic does not exist (any more), or the broker that answered does not know of it yet",
    ),
    rule(Place::Metadata, &[], Who::Surroundings, Act::Wait, "the client asks again by itself"),
    rule(
        Place::Question,
        &[
            Code::TopicAuthorizationFailed,
            Code::GroupAuthorizationFailed,
            Code::ClusterAuthorizationFailed,
        ],
        Who::Configuration,
        Act::Wait,
        "Kafka does not let this client ask: grant it DESCRIBE on the topic and the group",
    ),
    rule(Place::Question, &[], Who::Surroundings, Act::Wait, "asked again"),
];

/// Judges an error of the Kafka client that has lasted at its place (at a fetch: at one position) for so long. `fatal`:
/// the client has ended with it.
pub(crate) fn judge(place: Place, code: Code, fatal: bool, lasted: Duration) -> Judgement {
    let found = RULES.iter().find(|rule| rule.covers(place, code, fatal));
    let Some(rule) = found else {
        // A place that is Postgres'.
        debug_assert!(false, "{place:?} is not a place of the Kafka client");
        return Judgement {
            who: Who::Surroundings,
            act: Act::Wait,
            words: "",
            is_limited: false,
            is_told: true,
        };
    };
    let act = match rule.lasting {
        Some((limit, act)) if lasted >= limit => act,
        _ => rule.act,
    };
    Judgement {
        who: rule.who,
        act,
        words: rule.words,
        is_limited: rule.lasting.is_some(),
        is_told: rule.told,
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;
    use crate::consumer::ffi::all_codes;
    use crate::verdict::postgres::assert_documented;

    const PLACES: [Place; 4] = [Place::Fetch, Place::Join, Place::Metadata, Place::Question];
    const EVER: Duration = Duration::from_secs(1 << 32);

    fn codes() -> Vec<Code> {
        let codes = all_codes();
        assert!(codes.len() > 150, "{} codes", codes.len());
        codes
    }

    /// Every code, place and fatality, at first and for ever.
    fn all() -> impl Iterator<Item = (Place, Code, bool, Judgement, Judgement)> {
        PLACES.into_iter().flat_map(|place| {
            codes().into_iter().flat_map(move |code| {
                [false, true].map(|fatal| {
                    let judged = |lasted| judge(place, code, fatal, lasted);
                    (place, code, fatal, judged(Duration::ZERO), judged(EVER))
                })
            })
        })
    }

    #[test]
    fn nothing_passing_halts_or_ends_anything_at_the_first_time() {
        for (place, code, fatal, first, _) in all() {
            let ends = matches!(first.act, Act::Halt | Act::Exit(_));
            let blamed = matches!(first.who, Who::Configuration | Who::Record);
            assert!(!ends || blamed, "{place:?} {code:?} fatal {fatal}: {first:?}");
            assert!(
                !matches!(first.act, Act::Halt) || first.who == Who::Record,
                "a halt at once only where records may have been stepped over: {code:?}"
            );
        }
    }

    #[test]
    fn nothing_but_what_connections_and_coordinators_do_is_kept_quiet() {
        for (place, code, fatal, first, _) in all() {
            let known = OF_THE_CONNECTION.contains(&code) || OF_THE_COORDINATOR.contains(&code);
            assert!(first.is_told || known, "{place:?} {code:?} fatal {fatal}");
            assert!(!first.words.is_empty(), "{place:?} {code:?}");
        }
    }

    #[test]
    fn a_fetch_is_never_tried_for_ever() {
        for (place, code, _, first, last) in all() {
            if place == Place::Fetch && first.act == Act::FetchAnew {
                assert!(matches!(last.act, Act::Halt | Act::Exit(_)), "{code:?}: {last:?}");
            }
        }
    }

    #[test]
    fn a_client_that_has_ended_is_replaced_or_ends_the_process() {
        for (place, code, fatal, first, _) in all() {
            if place == Place::Join && fatal {
                assert!(matches!(first.act, Act::NewClient | Act::Exit(_)), "{code:?}: {first:?}");
            }
        }
    }

    #[test]
    fn the_cases_of_the_field() {
        let at_first = |place, code| judge(place, code, false, Duration::ZERO).act;
        for code in
            [Code::Unknown, Code::KafkaStorageError, Code::UnknownTopicOrPartition, Code::ReplicaNotAvailable]
        {
            assert_eq!(at_first(Place::Fetch, code), Act::FetchAnew, "{code:?}");
        }
        assert_eq!(at_first(Place::Fetch, Code::BadMessage), Act::Halt);
        assert_eq!(at_first(Place::Join, Code::InvalidSessionTimeout), Act::Exit(ErrorKind::Configuration));
        assert_eq!(at_first(Place::Join, Code::GroupMaxSizeReached), Act::Wait);
        for place in [Place::Fetch, Place::Metadata] {
            let lasting = judge(place, Code::TopicAuthorizationFailed, false, MISSING_RIGHT_LASTS);
            assert_eq!(lasting.act, Act::Exit(ErrorKind::Privilege));
            assert_ne!(at_first(place, Code::TopicAuthorizationFailed), lasting.act);
        }
    }

    #[test]
    fn every_line_is_reached_by_each_of_its_codes() {
        for rule in RULES {
            let of_it = |code: Code| {
                let fatal = rule.fatal.unwrap_or(false);
                RULES.iter().find(|other| other.covers(rule.place, code, fatal)).map(std::ptr::from_ref)
            };
            for code in rule.codes {
                assert_eq!(of_it(*code), Some(std::ptr::from_ref(rule)), "{:?} {code:?}", rule.place);
            }
        }
    }

    #[test]
    fn the_table_is_in_the_documentation() {
        let place = |place| match place {
            Place::Fetch => "fetch",
            Place::Join => "join",
            Place::Metadata => "metadata",
            _ => "question",
        };
        let who = |who| match who {
            Who::Surroundings => "surroundings",
            Who::Size => "size",
            Who::Record => "record",
            Who::Handler => "handler",
            Who::Configuration => "set-up",
        };
        let act = |act| match act {
            Act::Wait => "waited for".to_owned(),
            Act::FetchAnew => "fetched anew".to_owned(),
            Act::Halt => "the partition halts".to_owned(),
            Act::NewClient => "a new client".to_owned(),
            Act::Exit(kind) => format!("exit code {}", kind.exit_code()),
            other => panic!("{other:?} is nothing that Kafka calls for"),
        };
        let mut page = String::from(
            "| where | code | to blame | at first | when it lasts | meaning |\n|---|---|---|---|---|---|\n",
        );
        for rule in RULES {
            let codes: Vec<String> = rule.codes.iter().map(|code| format!("`{code:?}`")).collect();
            let codes = if codes.is_empty() { "any other".to_owned() } else { codes.join(", ") };
            let fatal = if rule.fatal == Some(true) { " (ends the client)" } else { "" };
            let lasting = rule.lasting.map_or_else(String::new, |(limit, lasting)| {
                format!("{} after {} s", act(lasting), limit.as_secs())
            });
            writeln!(
                page,
                "| {} | {codes}{fatal} | {} | {} | {lasting} | {} |",
                place(rule.place),
                who(rule.who),
                act(rule.act),
                rule.words
            )
            .unwrap();
        }
        assert_documented("kafka-codes", &page);
    }
}
