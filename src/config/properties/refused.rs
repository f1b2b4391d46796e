//! The librdkafka properties that can't be passed through, with the reason that the user reads.
//!
//! A property is here when another value would break an invariant, when a setting of Highwater has the say, or when
//! it would change the protocol into one that the worker does not speak.

/// Name and reason. Aliases are listed too.
pub(in crate::config) const REFUSED: &[(&str, &str)] = &[
    // Positions come from Postgres alone.
    (
        "enable.auto.commit",
        "offsets are committed in Postgres, with the rows (EO-1); Kafka's copy is only a mirror (EO-8)",
    ),
    (
        "auto.commit.enable",
        "offsets are committed in Postgres, with the rows (EO-1); Kafka's copy is only a mirror (EO-8)",
    ),
    ("auto.commit.interval.ms", "nothing is committed automatically; use the setting `mirror_interval`"),
    ("enable.auto.offset.store", "an offset that Kafka learns must be durable in Postgres first (EO-8)"),
    ("offset.store.method", "positions come from Postgres alone (EO-4)"),
    ("offset.store.path", "positions come from Postgres alone (EO-4)"),
    ("offset.store.sync.interval.ms", "positions come from Postgres alone (EO-4)"),
    (
        "auto.offset.reset",
        "a lost position must be an error and not a silent jump (EO-6); use the settings `start` and `on_offset_lost`",
    ),
    // What the worker must see.
    (
        "enable.partition.eof",
        "the end-of-partition event carries the offset past markers and compaction gaps, without which lag never reaches 0",
    ),
    ("check.crcs", "a corrupt batch must be an error and not a record (EO-6)"),
    (
        "fetch.error.backoff.ms",
        "the pause by which a topic that was deleted and created anew is noticed rests on it (EO-6)",
    ),
    ("isolation.level", "use the setting `isolation`"),
    ("enabled_events", "the worker's event loop chooses its events"),
    ("log.queue", "the client's log goes through tracing"),
    ("consume.callback.max.messages", "the worker polls, and has no consume callback"),
    // How the client speaks to brokers. An older dialect has no isolation level in a fetch, no leader epoch, no topic id.
    (
        "api.version.request",
        "fetches in the dialect of a fallback carry no isolation level, so that rolled back records would be applied",
    ),
    (
        "api.version.fallback.ms",
        "fetches in the dialect of a fallback carry no isolation level, so that rolled back records would be applied",
    ),
    (
        "broker.version.fallback",
        "fetches in the dialect of a fallback carry no isolation level, so that rolled back records would be applied",
    ),
    (
        "socket.max.fails",
        "a connection to a broker that has stopped answering would be kept, and its partitions with it stand still",
    ),
    (
        "internal.termination.signal",
        "the process's signals are the program's: SIGTERM must end the worker softly",
    ),
    ("plugin.library.paths", "a plugin may change records, offsets and settings before the worker sees them"),
    // Tokens are asked for here, not in the client, which has no HTTP.
    ("sasl.oauthbearer.method", "use the setting `kafka_token_url`"),
    ("sasl.oauthbearer.token.endpoint.url", "use the setting `kafka_token_url`"),
    ("sasl.oauthbearer.client.id", "use the setting `kafka_token_client_id`"),
    ("sasl.oauthbearer.client.secret", "use the setting `kafka_client_secret_file` or its likes"),
    ("sasl.oauthbearer.scope", "use the setting `kafka_token_scope`"),
    ("sasl.oauthbearer.extensions", "use the setting `kafka_token_extensions`"),
    ("sasl.oauthbearer.config", "use the setting `kafka_token_command`"),
    // Who we are.
    ("group.id", "use the setting `group`"),
    ("group.instance.id", "use the setting `instance_id`"),
    ("client.id", "it carries the owner's id, by which members and database rows are matched"),
    // Where we are.
    ("bootstrap.servers", "use the setting `brokers`"),
    ("metadata.broker.list", "use the setting `brokers`"),
    (
        "metadata.recovery.strategy",
        "bootstrapping anew could land on another cluster, where the offsets mean other records (EO-6)",
    ),
    ("allow.auto.create.topics", "a mistyped topic would be created instead of reported"),
    ("test.mock.num.brokers", "it replaces the brokers by imitations in this process"),
    (
        "topic.blacklist",
        "Kafka's own topics are left out already; say in `topics` what is wanted, which holds under every protocol",
    ),
    // The group protocol.
    ("group.protocol", "use the setting `group_protocol`"),
    ("group.protocol.type", "the worker is a consumer"),
    ("group.remote.assignor", "use the setting `assignor`"),
    (
        "partition.assignment.strategy",
        "use the setting `assignor`: the worker must know whether a rebalance takes everything away",
    ),
    ("session.timeout.ms", "use the setting `session_timeout`"),
    ("heartbeat.interval.ms", "use the setting `heartbeat_interval`"),
    (
        "max.poll.interval.ms",
        "the worker always polls; a stuck batch is bounded by the setting `max_processing_time`",
    ),
];
