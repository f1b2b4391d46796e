//! Every metric that a worker exposes. `docs/metrics.md` is made from this table: see `page.rs`.

use super::definition::{Definition, Kind, Section};

const GROUP: &[&str] = &["group"];
const WORKER: &[&str] = &["group", "worker"];
const PARTITION: &[&str] = &["group", "topic", "partition"];

macro_rules! definitions {
    ($($(#[doc = $help:literal])+ $constant:ident: $kind:ident $name:literal $([$unit:literal])? => $labels:expr;)+) => {
        $(pub(crate) static $constant: Definition = Definition {
            name: $name,
            kind: Kind::$kind,
            unit: definitions!(@unit $($unit)?),
            labels: $labels,
            help: concat!($($help),+),
        };)+
    };
    (@unit $unit:literal) => { Some($unit) };
    (@unit) => { None };
}

definitions! {
    /// Offsets from the position in Postgres to the last stable offset (under read_uncommitted: to the end of the log).
    LAG_RECORDS: Gauge "highwater_lag_records" => PARTITION;
    /// How old the next record to apply is, by its own timestamp; 0 when caught up, no sample while it is not here yet, or is dated in the future.
    LAG_SECONDS: Gauge "highwater_lag_seconds" ["seconds"] => PARTITION;
    /// Offsets behind the last stable offset: held back by transactions that are open.
    UNCOMMITTED_RECORDS: Gauge "highwater_uncommitted_records" => PARTITION;
    /// For how long they have been held back; 0 where there are none.
    UNCOMMITTED_SECONDS: Gauge "highwater_uncommitted_seconds" ["seconds"] => PARTITION;
    /// How long until the lag is worked off, at the pace of the last minute; +Inf where as much is produced as applied.
    DRAIN_SECONDS: Gauge "highwater_drain_seconds" ["seconds"] => PARTITION;
    /// How long until retention deletes the next record to apply; +Inf where there is none.
    LOSS_SECONDS: Gauge "highwater_loss_seconds" ["seconds"] => PARTITION;
    /// How the partition is doing: one sample, with its class as a label; the value is the class's severity, 0 is well.
    HEALTH: Gauge "highwater_health" => &["group", "topic", "partition", "class"];
    /// The position that is durable in Postgres: the offset of the next record to apply.
    NEXT_OFFSET: Gauge "highwater_next_offset" => PARTITION;
    /// The end of what can be read: the last stable offset (under read_uncommitted: the end of the log).
    LAST_STABLE_OFFSET: Gauge "highwater_last_stable_offset" => PARTITION;

    /// Transactions committed.
    COMMITS: Counter "highwater_commits_total" => GROUP;
    /// Records whose rows and offset are durable.
    RECORDS_APPLIED: Counter "highwater_records_applied_total" => GROUP;
    /// Bytes of keys, values and headers of the records applied.
    APPLIED_BYTES: Counter "highwater_applied_bytes_total" ["bytes"] => GROUP;
    /// Records taken from Kafka.
    RECORDS_FETCHED: Counter "highwater_records_fetched_total" => GROUP;
    /// Records dropped because they belonged to an older assignment or were covered already.
    RECORDS_DROPPED: Counter "highwater_records_dropped_total" => GROUP;
    /// Records in a batch that was applied.
    BATCH_RECORDS: Histogram "highwater_batch_records" => GROUP;
    /// Where the time of a batch goes, by phase: wait, decode, begin, handler, write (the part of handler that is a
    /// table sink's COPY), offsets, commit.
    COMMIT_DURATION: Histogram "highwater_commit_duration_seconds" ["seconds"] => &["group", "phase"];
    /// For how long nothing was committed although there was something to apply; 0 while there is nothing.
    PENDING: Gauge "highwater_pending_seconds" ["seconds"] => WORKER;
    /// How long a batch may take: the setting max_processing_time.
    PROCESSING_DEADLINE: Gauge "highwater_processing_deadline_seconds" ["seconds"] => WORKER;

    /// Batches tried again, by why.
    BATCH_RETRIES: Counter "highwater_batch_retries_total" => &["group", "class"];
    /// What was ruled about batches that failed, by what was done.
    VERDICTS: Counter "highwater_verdicts_total" => &["group", "act"];
    /// Records stored as dead letters, parked ones among them, by route: its topic or pattern, or the program where there
    /// are no routes.
    RECORDS_REJECTED: Counter "highwater_records_rejected_total" => &["group", "route"];
    /// Dead letters that this worker has tried to apply once more, by outcome: redriven, rejected (again).
    RECORDS_REDRIVEN: Counter "highwater_records_redriven_total" => &["group", "outcome"];
    /// Commits whose outcome was unknown and was resolved by claiming again.
    UNKNOWN_OUTCOMES: Counter "highwater_unknown_outcomes_total" => GROUP;
    /// Partitions that stand still for longer than their limit, and something is done about it.
    STUCK_PARTITIONS: Gauge "highwater_stuck_partitions" => WORKER;
    /// Partitions assigned to this worker, by state: claiming, running, draining, fenced, halted.
    PARTITIONS: Gauge "highwater_partitions" => &["group", "state"];
    /// Partitions of topics that are subscribed to which nobody in the group was ever given, for longer than the limit. One
    /// worker looks for all: 0 with the others.
    UNASSIGNED_PARTITIONS: Gauge "highwater_unassigned_partitions" => WORKER;

    /// Claims granted, by kind: assigned (after an assignment), again (anew under the same one).
    CLAIMS: Counter "highwater_claims_total" => &["group", "kind"];
    /// Claims found taken by another process: batches that were not applied twice.
    FENCINGS: Counter "highwater_fencings_total" => GROUP;
    /// Rebalance events, by kind: assigned, revoked, lost (the session had ended).
    REBALANCES: Counter "highwater_rebalances_total" => &["group", "kind"];
    /// How long a partition stood still from its assignment to the beginning of its fetch.
    REBALANCE_PAUSE: Histogram "highwater_rebalance_pause_seconds" ["seconds"] => GROUP;

    /// Connections to Postgres, by pool (lanes, control, status) and state (used, idle).
    POOL_CONNECTIONS: Gauge "highwater_pool_connections" => &["group", "pool", "state"];
    /// Callers that wait for a connection, by pool.
    POOL_WAITING: Gauge "highwater_pool_waiting" => &["group", "pool"];
    /// Bytes of records held in buffers and batches.
    BUFFER_BYTES: Gauge "highwater_buffer_bytes" ["bytes"] => GROUP;
    /// How many may be: the setting buffer_budget.
    BUFFER_BUDGET: Gauge "highwater_buffer_budget_bytes" ["bytes"] => GROUP;
    /// Partitions that the budget has paused.
    PAUSED_PARTITIONS: Gauge "highwater_paused_partitions" => GROUP;
    /// Offsets durable in Postgres and not mirrored to Kafka yet, of the partition that is furthest behind.
    MIRROR_LAG: Gauge "highwater_mirror_lag_records" => GROUP;

    /// Kafka clients built: more than one means that some were replaced.
    KAFKA_CLIENTS: Counter "highwater_kafka_clients_total" => GROUP;
    /// Bytes received from brokers, compressed as they came.
    KAFKA_RECEIVED: Counter "highwater_kafka_received_bytes_total" ["bytes"] => GROUP;
    /// Records that wait in the Kafka client's own queues.
    KAFKA_QUEUE_RECORDS: Gauge "highwater_kafka_queue_records" => GROUP;
    /// Their bytes.
    KAFKA_QUEUE_BYTES: Gauge "highwater_kafka_queue_bytes" ["bytes"] => GROUP;
    /// Brokers to which there is a connection that works.
    KAFKA_BROKERS_UP: Gauge "highwater_kafka_brokers_up" => GROUP;
    /// The longest mean round trip to a broker over the last interval, the broker's wait for records included.
    KAFKA_ROUND_TRIP: Gauge "highwater_kafka_round_trip_seconds" ["seconds"] => GROUP;
    /// The longest mean time for which a broker has throttled the client over the last interval.
    KAFKA_THROTTLE: Gauge "highwater_kafka_throttle_seconds" ["seconds"] => GROUP;
    /// Requests that failed, were answered with garbage, or ran out of time.
    KAFKA_REQUEST_ERRORS: Counter "highwater_kafka_request_errors_total" => GROUP;
    /// Connections to brokers that ended.
    KAFKA_DISCONNECTS: Counter "highwater_kafka_disconnects_total" => GROUP;

    /// 1 while the worker is ready, as /readyz says.
    READY: Gauge "highwater_worker_ready" => WORKER;
    /// 1 while the worker is live, as /livez says.
    LIVE: Gauge "highwater_worker_live" => WORKER;
    /// What runs.
    BUILD_INFO: Info "highwater_build_info" => &["version"];
}

/// What a worker exposes, in the order in which it does.
pub(crate) static WORKER_SECTIONS: &[Section] = &[
    Section {
        title: "Lag",
        text: "Per partition that is assigned to the worker and claimed. What is not known has no sample, never a 0: a \
               forecast needs samples first, and a time to loss a retention that deletes. The classes are those of \
               [health.md](health.md).",
        definitions: &[
            &LAG_RECORDS,
            &LAG_SECONDS,
            &UNCOMMITTED_RECORDS,
            &UNCOMMITTED_SECONDS,
            &DRAIN_SECONDS,
            &LOSS_SECONDS,
            &HEALTH,
            &NEXT_OFFSET,
            &LAST_STABLE_OFFSET,
        ],
    },
    Section {
        title: "Batches",
        text: "Of a batch that was applied. A phase counts each time that it came to its end, also in a batch that \
               failed later.",
        definitions: &[
            &COMMITS,
            &RECORDS_APPLIED,
            &APPLIED_BYTES,
            &RECORDS_FETCHED,
            &RECORDS_DROPPED,
            &BATCH_RECORDS,
            &COMMIT_DURATION,
            &PENDING,
            &PROCESSING_DEADLINE,
        ],
    },
    Section {
        title: "Trouble",
        text: "The classes and acts are those of [errors.md](errors.md).",
        definitions: &[
            &BATCH_RETRIES,
            &VERDICTS,
            &RECORDS_REJECTED,
            &RECORDS_REDRIVEN,
            &UNKNOWN_OUTCOMES,
            &STUCK_PARTITIONS,
            &PARTITIONS,
            &UNASSIGNED_PARTITIONS,
        ],
    },
    Section {
        title: "Claims and rebalances",
        text: "",
        definitions: &[&CLAIMS, &FENCINGS, &REBALANCES, &REBALANCE_PAUSE],
    },
    Section {
        title: "Connections, memory, mirror",
        text: "",
        definitions: &[
            &POOL_CONNECTIONS,
            &POOL_WAITING,
            &BUFFER_BYTES,
            &BUFFER_BUDGET,
            &PAUSED_PARTITIONS,
            &MIRROR_LAG,
        ],
    },
    Section {
        title: "The Kafka client",
        text: "The client tells all but the first every ten seconds (`statistics.interval.ms` under `[kafka]`; `0` \
               for never): until it first has, they have no sample. Its counters begin anew with each client.",
        definitions: &[
            &KAFKA_CLIENTS,
            &KAFKA_RECEIVED,
            &KAFKA_QUEUE_RECORDS,
            &KAFKA_QUEUE_BYTES,
            &KAFKA_BROKERS_UP,
            &KAFKA_ROUND_TRIP,
            &KAFKA_THROTTLE,
            &KAFKA_REQUEST_ERRORS,
            &KAFKA_DISCONNECTS,
        ],
    },
    Section { title: "The worker", text: "", definitions: &[&READY, &LIVE, &BUILD_INFO] },
];
