//! The one table of settings. `docs/configuration.md` is made from it, comments included, and a test fails when that
//! page is stale: see `reference.rs`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::group::{Assignor, GroupProtocol};
use super::items::{check_brokers, check_compat, check_topics};
use super::parse::{
    ADDRESS, ASSIGNOR, GROUP_PROTOCOL, HTTP_URL, ISOLATION, Kind, ON_OFFSET_LOST, ON_REJECTED,
    OPTIONAL_POSTGRES_URL, OPTIONAL_TEXT, PARTITIONS, PASSWORD_COMMAND, POSTGRES_URL, Raw, SCHEMA, SECRET,
    START, TEXT, bytes, count, count_or_off, duration, duration_or_auto, duration_or_off, list,
    optional_duration,
};
use super::properties::{KafkaProperties, Secret};
use super::start::StartPolicy;
use super::table::DefaultValue::{self, Described, Required, Text};
use super::table::{Given, Origin, Place, Setting, settings};
use super::tokens::check_extensions;
use super::topic_partition::TopicPartition;
use super::values::{Isolation, OnOffsetLost, OnRejected, PasswordCommand, PostgresUrl, SecretText};
use crate::error::Result;
use crate::schema::SchemaName;

const SECOND_MS: u64 = 1_000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

settings! {
    /// Kafka's bootstrap servers, `host:port` each.
    brokers: Vec<String> {
        env: "HIGHWATER_BROKERS",
        kind: list(|brokers| check_brokers(brokers)),
        default: Required,
        change: "Name two or three brokers, so that a worker can start while one is away.",
    }

    /// The database, `postgres://user:password@host:5432/database`. Its password is never logged.
    ///
    /// With several servers (`postgres://user@db-1:5432,db-2:5432/database`) the worker uses the one that takes
    /// writes, asked for in this order (`load_balance_hosts=random`: in any), and follows when that changes: offsets
    /// are never read from a standby. The role should have no more rights than `highwater migrate --print-grants`
    /// prints.
    ///
    /// Parameters are written as for libpq. Of TLS:
    ///
    /// | parameter | meaning |
    /// |---|---|
    /// | `sslmode=disable` | never TLS |
    /// | `allow` | TLS only if the server refuses to go without |
    /// | `prefer` (default) | TLS if the server has it, else without |
    /// | `require` | always TLS; whose server it is, is not asked unless an authority is known: then as `verify-ca` |
    /// | `verify-ca` | the server's certificate must come from the authority |
    /// | `verify-full` | and bear the host's name (or address): the one that stops an impostor |
    /// | `sslrootcert=FILE` | the authority, in PEM; `system`: those that this machine trusts, only with `verify-full` |
    /// | `sslcert=FILE`, `sslkey=FILE` | the worker's own certificate and its key, in PEM, the key without a passphrase |
    /// | `sslcertmode`, `sslsni`, `sslnegotiation`, `ssl_min_protocol_version`, `ssl_max_protocol_version`, `channel_binding` | as in libpq |
    ///
    /// Without the parameters, `~/.postgresql/root.crt`, `postgresql.crt` and `postgresql.key` are taken if they are
    /// there, as libpq does; variables such as `PGSSLMODE` are not read. Files are read again for every new
    /// connection, so that renewed certificates need no restart. A server's certificate needs a *subject alternative
    /// name* and must not be its own authority. Refused are `sslpassword`, `sslcrl`, service and password files,
    /// GSSAPI, and whatever is not known. Over a Unix socket (`host=/var/run/postgresql`) TLS is not spoken. The
    /// sessions' keepalives and time-outs are the worker's own.
    postgres_url: PostgresUrl {
        env: "HIGHWATER_POSTGRES_URL",
        kind: POSTGRES_URL,
        default: Required,
        change: "Per environment; keep it in a secret. Across a network that others share: `sslmode=verify-full`.",
    }

    /// A file that holds the password of `postgres_url`, which then has none. It is read anew for every connection, so
    /// that a rotated password needs no restart; a newline at its end does not count. What it holds is never logged.
    postgres_password_file: Option<String> {
        env: "HIGHWATER_POSTGRES_PASSWORD_FILE",
        kind: OPTIONAL_TEXT,
        default: Described("none: the password is in `postgres_url`, or there is none"),
        change: "Where passwords are rotated and written to a file, as a mounted secret is.",
    }

    /// A command, for `sh -c`, that prints the password of `postgres_url`, which then has none. It is run anew for every
    /// connection and has 10 s; a newline at the end of its output does not count, and what it writes to its standard
    /// error is dropped. Neither it nor its output is ever logged.
    postgres_password_command: Option<PasswordCommand> {
        env: "HIGHWATER_POSTGRES_PASSWORD_COMMAND",
        kind: PASSWORD_COMMAND,
        default: Described("none"),
        change: "Where passwords are tokens that are made on demand, as cloud providers do. Not beside \
                 `postgres_password_file`.",
    }

    /// The same database for whoever makes and changes tables, where a pipeline's sink says `evolve`: a role that owns them
    /// or may make them, so that the worker's own role need not (docs/pipeline.md, "Tables that grow"). Written as
    /// `postgres_url`; it is connected to at the start only, and only if something is missing. Programs do not use it.
    evolve_url: Option<PostgresUrl> {
        env: "HIGHWATER_EVOLVE_URL",
        kind: OPTIONAL_POSTGRES_URL,
        default: Described("`postgres_url`, with its password"),
        change: "With `evolve = \"create\"` or `\"add_columns\"`; keep it in a secret.",
    }

    /// A file that holds the password of `evolve_url`, which then has none; see `postgres_password_file`.
    evolve_password_file: Option<String> {
        env: "HIGHWATER_EVOLVE_PASSWORD_FILE",
        kind: OPTIONAL_TEXT,
        default: Described("none: the password is in `evolve_url`, or there is none"),
        change: "Where passwords are rotated and written to a file, as a mounted secret is.",
    }

    /// A command, for `sh -c`, that prints the password of `evolve_url`; see `postgres_password_command`.
    evolve_password_command: Option<PasswordCommand> {
        env: "HIGHWATER_EVOLVE_PASSWORD_COMMAND",
        kind: PASSWORD_COMMAND,
        default: Described("none"),
        change: "Where passwords are tokens that are made on demand. Not beside `evolve_password_file`.",
    }

    /// A file that holds the password of `kafka.sasl.username`, for PLAIN and SCRAM. What it holds is compared every 10 s: a
    /// new one is shown from the next connection on, without a restart. A newline at its end does not count. What it holds
    /// is never logged.
    kafka_password_file: Option<String> {
        env: "HIGHWATER_KAFKA_PASSWORD_FILE",
        kind: OPTIONAL_TEXT,
        default: Described("none: the password is in `kafka.sasl.password`, or there is none"),
        change: "Where passwords are rotated and written to a file, as a mounted secret is.",
    }

    /// A command, for `sh -c`, that prints that password. It is run at the start, every 5 minutes, and when Kafka refuses
    /// the password; it has 10 s. Neither it nor its output is ever logged.
    kafka_password_command: Option<PasswordCommand> {
        env: "HIGHWATER_KAFKA_PASSWORD_COMMAND",
        kind: PASSWORD_COMMAND,
        default: Described("none"),
        change: "Where a program gives out passwords. Not beside `kafka_password_file`.",
    }

    /// A file that holds a token for OAUTHBEARER. What it holds is compared every 10 s; of a JSON Web Token, `exp` says when
    /// it expires and `sub` whose it is.
    kafka_token_file: Option<String> {
        env: "HIGHWATER_KAFKA_TOKEN_FILE",
        kind: OPTIONAL_TEXT,
        default: Described("none"),
        change: "Where something else writes tokens, as Kubernetes does for service accounts.",
    }

    /// A command, for `sh -c`, that prints a token for OAUTHBEARER. It is run at the start, when four fifths of the present
    /// token's life are over, and when Kafka refuses it; it has 10 s.
    kafka_token_command: Option<PasswordCommand> {
        env: "HIGHWATER_KAFKA_TOKEN_COMMAND",
        kind: PASSWORD_COMMAND,
        default: Described("none"),
        change: "Where tokens are made on demand, as cloud providers do. Not beside `kafka_token_file`.",
    }

    /// Where a server gives out tokens for OAUTHBEARER to whoever shows a client's id and secret (OAuth 2.0, "client
    /// credentials"): `https://id.example/oauth2/token`.
    ///
    /// It is asked at the start, when four fifths of the present token's life are over, and when Kafka refuses it; it has
    /// 10 s. While it does not answer, the present token is used on, and a start waits. Id and secret are sent by HTTP Basic;
    /// no proxy is used, no redirect followed. Without TLS (`http://`) everybody on the way may read them, which is warned
    /// of.
    kafka_token_url: Option<String> {
        env: "HIGHWATER_KAFKA_TOKEN_URL",
        kind: HTTP_URL,
        default: Described("none"),
        change: "Where Kafka's clients are known to a company's identity server. Not beside `kafka_token_file` or \
                 `kafka_token_command`.",
    }

    /// The client's id for that server.
    kafka_token_client_id: Option<String> {
        env: "HIGHWATER_KAFKA_TOKEN_CLIENT_ID",
        kind: OPTIONAL_TEXT,
        default: Described("none"),
        change: "With `kafka_token_url`.",
    }

    /// The client's secret. Never logged.
    kafka_client_secret: Option<SecretText> {
        env: "HIGHWATER_KAFKA_CLIENT_SECRET",
        kind: SECRET,
        default: Described("none"),
        change: "With `kafka_token_url`; a file can be rotated without a restart.",
    }

    /// A file that holds the client's secret; read for every token. A newline at its end does not count.
    kafka_client_secret_file: Option<String> {
        env: "HIGHWATER_KAFKA_CLIENT_SECRET_FILE",
        kind: OPTIONAL_TEXT,
        default: Described("none"),
        change: "Not beside `kafka_client_secret`.",
    }

    /// A command, for `sh -c`, that prints the client's secret; run for every token, and it has 10 s.
    kafka_client_secret_command: Option<PasswordCommand> {
        env: "HIGHWATER_KAFKA_CLIENT_SECRET_COMMAND",
        kind: PASSWORD_COMMAND,
        default: Described("none"),
        change: "Not beside `kafka_client_secret_file`.",
    }

    /// What the token is asked for (OAuth's `scope`): names, separated by blanks.
    kafka_token_scope: Option<String> {
        env: "HIGHWATER_KAFKA_TOKEN_SCOPE",
        kind: OPTIONAL_TEXT,
        default: Described("none: what the server gives this client"),
        change: "Where the server or the brokers ask for one.",
    }

    /// What is sent to the brokers beside the token (SASL extensions, RFC 7628), `name=value` each, wherever the token comes
    /// from.
    kafka_token_extensions: Vec<String> {
        env: "HIGHWATER_KAFKA_TOKEN_EXTENSIONS",
        kind: list(|extensions| check_extensions(extensions)),
        default: Described("none"),
        change: "Where brokers ask for them, as some cloud services do: `logicalCluster=lkc-1,identityPoolId=pool-1`.",
    }

    /// Whom the certificate of the token server must come from: a file in PEM, a folder of such files, or `system`.
    kafka_token_ca: Option<String> {
        env: "HIGHWATER_KAFKA_TOKEN_CA",
        kind: OPTIONAL_TEXT,
        default: Described("`kafka.ssl.ca.location` if that is set, else `system`"),
        change: "Where brokers and token server have different authorities.",
    }

    /// A file that holds the password of the key in `kafka.ssl.key.location`.
    kafka_key_password_file: Option<String> {
        env: "HIGHWATER_KAFKA_KEY_PASSWORD_FILE",
        kind: OPTIONAL_TEXT,
        default: Described("none: the password is in `kafka.ssl.key.password`, or the key has none"),
        change: "Where the key of mutual TLS is encrypted.",
    }

    /// A command, for `sh -c`, that prints that password.
    kafka_key_password_command: Option<PasswordCommand> {
        env: "HIGHWATER_KAFKA_KEY_PASSWORD_COMMAND",
        kind: PASSWORD_COMMAND,
        default: Described("none"),
        change: "Not beside `kafka_key_password_file`.",
    }

    /// How long Postgres, or Kafka, may refuse this worker's credentials, without a break, before the process ends with exit
    /// code 5; `off`: for ever. Meanwhile it is not ready. At the start it ends at once.
    access_denied_after: Option<Duration> {
        env: "HIGHWATER_ACCESS_DENIED_AFTER",
        kind: duration_or_off(SECOND_MS, DAY_MS),
        default: Text("5m"),
        change: "Above the time for which old and new password may disagree when they are rotated.",
    }

    /// The consumer group: the name under which offsets are stored, in Postgres and mirrored in Kafka. It may be left
    /// out with `assign`, and so may `topics`.
    group: String {
        env: "HIGHWATER_GROUP",
        kind: TEXT,
        default: Required,
        change: "Give every program of its own a group of its own. A new name starts from the start policy.",
    }

    /// The topics to consume: names, and patterns that begin with `^`, such as `^payments\.[a-z]+$`.
    ///
    /// A pattern is a regular expression over the whole name. Under the classic group protocol the client evaluates
    /// it, under KIP-848 the broker does, in dialects of their own; so only what means the same to both is taken:
    /// letters, digits, `_`, `-`, `\.`, `.`, classes such as `[a-z0-9]`, groups with `|`, and `*`, `+`, `?`. It ends
    /// with `$` or `.*`. Kafka's own topics are never matched.
    ///
    /// When a group first runs a pattern, the start policy holds for all topics that match it then; what is newly
    /// matched later starts at its beginning. A pattern that matches nothing is waited for like a topic that does not
    /// exist, see `unknown_topic_timeout`.
    ///
    /// A program with a handler per topic need not set this: it follows from the routes.
    topics: Vec<String> {
        env: "HIGHWATER_TOPICS",
        kind: list(|topics| check_topics(topics)),
        default: Required,
        change: "A topic or pattern added to a running group is new to it, and needs a start policy other than `fail` once.",
    }

    /// Partitions to read without joining the group, `topic:partition` each: for replays and debugging.
    ///
    /// Everything else is as ever: claims, guard, batches, commits, mirror. With a `group` it claims rows of that
    /// group. Since Kafka does not decide then who reads, it never takes a partition from a live process: it waits
    /// until that one lets go or is gone. A member of the group does take it back, for Kafka has decided. Without a
    /// `group` it runs as a group of its own, named in the log, and `start` must say where to begin.
    ///
    /// `topics` may be left out. If it is set, it must cover the partitions.
    assign: Vec<TopicPartition> {
        env: "HIGHWATER_ASSIGN",
        kind: PARTITIONS,
        default: Described("none: the group assigns"),
        change: "To apply some partitions once more, into other tables or another database, or to look at one in a debugger.",
    }

    /// Where the group begins in a topic that it has never read: `fail` refuses to start, `earliest` begins at the
    /// first record that Kafka still holds, `latest` at the end.
    ///
    /// `timestamp:2026-04-25T03:00:00Z` (RFC 3339, or milliseconds since 1970) begins in each partition at the first
    /// record whose timestamp is not before that instant, at the end where there is none. `adopt-kafka` takes over what
    /// Kafka's consumer group of the same name has committed: see [adoption.md](adoption.md).
    ///
    /// It is resolved once, for all partitions of the topic, and recorded; afterwards the offsets in Postgres are
    /// all that counts.
    start: StartPolicy {
        env: "HIGHWATER_START",
        kind: START,
        default: Text("fail"),
        change: "For a group's first start. With `fail`, a mistyped group id stops instead of reading everything again.",
    }

    /// The protocol of the consumer group (Kafka's `group.protocol`): `classic`, or `consumer` (KIP-848), under which
    /// the broker shares the partitions out and decides on the session.
    ///
    /// What each does to restarts and hand-overs, with measured stalls, is in `docs/protocols.md`.
    group_protocol: GroupProtocol {
        env: "HIGHWATER_GROUP_PROTOCOL",
        kind: GROUP_PROTOCOL,
        default: Text("classic"),
        change: "To `consumer` on brokers from 4.0. Stop all members of the group first.",
    }

    /// How partitions are shared out. Under `classic`: `cooperative-sticky`, or `range` and `roundrobin`, which are
    /// eager: in every rebalance all partitions stand still and are claimed anew. Under `consumer`: `uniform` or
    /// `range`, both run by the broker (Kafka's `group.remote.assignor`).
    assignor: Option<Assignor> {
        env: "HIGHWATER_ASSIGNOR",
        kind: ASSIGNOR,
        default: Described("`cooperative-sticky` under `classic`; under `consumer` the broker's choice"),
        change: "Seldom: to `range` where partitions with the same number of several topics must meet in one worker. \
                 Under `classic`, never in a running group: stop all members first.",
    }

    /// The name of this member for static membership (Kafka's `group.instance.id`), unique within the group.
    ///
    /// A restarted static member gets its partitions back without a rebalance, if it returns within the session
    /// time-out; it does not leave the group when it stops.
    instance_id: Option<String> {
        env: "HIGHWATER_INSTANCE_ID",
        kind: OPTIONAL_TEXT,
        default: Described("none: dynamic membership"),
        change: "In a StatefulSet, to the pod's name. Leave it out in a Deployment.",
    }

    /// The name of the program, recorded per group and topic: two different programs under one group id stop with an
    /// error instead of sharing the records.
    program: String {
        env: "HIGHWATER_PROGRAM",
        kind: TEXT,
        default: Described("the executable's file name"),
        change: "When a program is renamed, keep the old name here.",
    }

    /// The schema of Highwater's tables. Create it with `highwater migrate`.
    schema: SchemaName {
        env: "HIGHWATER_SCHEMA",
        kind: SCHEMA,
        default: Text("highwater"),
        change: "To keep teams apart in one database. Sinks and offsets must share the database, not the schema.",
    }

    /// How many batches a worker applies at a time: each lane has a Postgres connection and a share of the
    /// partitions.
    lanes: usize {
        env: "HIGHWATER_LANES",
        kind: count(1, 256),
        default: Text("2"),
        change: "Raise it when handlers wait for Postgres while both have time to spare; mind `max_connections`.",
    }

    /// How long one batch may take until COMMIT is sent; the answer to COMMIT may take as long again. After that it is
    /// cancelled (never once COMMIT was sent), its connection ended, and the partitions are claimed again with a
    /// smaller batch.
    ///
    /// The session time-out asks whether the worker is alive; this one asks whether it gets on.
    max_processing_time: Duration {
        env: "HIGHWATER_MAX_PROCESSING_TIME",
        kind: duration(100, HOUR_MS),
        default: Text("30s"),
        change: "Above the slowest batch you accept. Locks of a stuck batch are held for that long.",
    }

    /// How long a batch in flight may go on after its partition was revoked or the worker was told to stop.
    drain_deadline: Duration {
        env: "HIGHWATER_DRAIN_DEADLINE",
        kind: duration(0, HOUR_MS),
        default: Text("10s"),
        change: "Keep it under the pod's grace period (`terminationGracePeriodSeconds`). It also delays a successor.",
    }

    /// How long a statement waits for another's row lock (Postgres' `lock_timeout`). Unless set, at most half of
    /// `max_processing_time`.
    lock_timeout: Duration {
        env: "HIGHWATER_LOCK_TIMEOUT",
        kind: duration(10, 10 * MINUTE_MS),
        default: Text("5s"),
        change: "Raise it when other programs hold locks on your sink's rows for longer; they delay a batch, not more.",
    }

    /// How often committed offsets are copied to Kafka for other people's tooling; `0` or `off` for never. Kafka's
    /// copy is never read back as a position (EO-8).
    mirror_interval: Option<Duration> {
        env: "HIGHWATER_MIRROR_INTERVAL",
        kind: duration_or_off(100, HOUR_MS),
        default: Text("1s"),
        change: "Off where nobody watches lag in Kafka. Then a wrong or restored database is noticed less surely.",
    }

    /// The first wait before something that failed for the environment's sake is tried again; it doubles from there.
    retry_backoff_min: Duration {
        env: "HIGHWATER_RETRY_BACKOFF_MIN",
        kind: duration(1, MINUTE_MS),
        default: Text("100ms"),
        change: "Seldom.",
    }

    /// The longest wait between two attempts.
    retry_backoff_max: Duration {
        env: "HIGHWATER_RETRY_BACKOFF_MAX",
        kind: duration(1, HOUR_MS),
        default: Text("10s"),
        change: "Raise it when many workers would crowd a database that comes back.",
    }

    /// How many time-outs of a batch with a single record stop its partition, if the database is quick otherwise.
    single_record_timeouts: usize {
        env: "HIGHWATER_SINGLE_RECORD_TIMEOUTS",
        kind: count(1, 1_000),
        default: Text("3"),
        change: "Seldom.",
    }

    /// How long a batch waits for more records after its first. `auto`: twice as long as the last batches took to be
    /// applied, at most 20 ms.
    linger: Option<Duration> {
        env: "HIGHWATER_LINGER",
        kind: duration_or_auto(0, MINUTE_MS),
        default: Text("auto"),
        change: "Shorter for latency (`0ms` waits for nothing), longer for fewer commits.",
    }

    /// How many records close a batch while the worker keeps up.
    batch_target_records: usize {
        env: "HIGHWATER_BATCH_TARGET_RECORDS",
        kind: count(1, 1_000_000),
        default: Text("500"),
        change: "Lower it when a single record is slow to apply.",
    }

    /// How many records a batch may grow to when the worker lags.
    batch_max_records: usize {
        env: "HIGHWATER_BATCH_MAX_RECORDS",
        kind: count(1, 1_000_000),
        default: Text("50000"),
        change: "Lower it when large transactions hurt the database, or when a large batch exceeds \
                 `max_processing_time`.",
    }

    /// How many bytes of keys and values close a batch. A larger record is a batch of its own.
    batch_max_bytes: usize {
        env: "HIGHWATER_BATCH_MAX_BYTES",
        kind: bytes(1 << 10, GIB),
        default: Text("16MiB"),
        change: "Lower it where memory is scarce: each lane may hold two batches.",
    }

    /// How many records a worker takes from its buffers a second at most, over all its lanes; a batch that is tried
    /// again counts again. Batches are then no larger than what goes within 100 ms, or one record. The limit is each
    /// worker's own: a group takes as many times more as it has workers.
    max_records_per_second: Option<usize> {
        env: "HIGHWATER_MAX_RECORDS_PER_SECOND",
        kind: count_or_off(1, 100_000_000),
        default: Text("off"),
        change: "For a catch-up or a replay beside other work in the same database: a worker that lags takes all \
                 that Postgres has to give.",
    }

    /// How many bytes of records a worker holds before it pauses partitions. Every partition may hold one record of
    /// any size beyond it.
    buffer_budget: usize {
        env: "HIGHWATER_BUFFER_BUDGET",
        kind: bytes(MIB, 64 * GIB),
        default: Text("96MiB"),
        change: "With the pod's memory limit in mind: under lag a worker takes 30 to 50 MiB beside it (rows on their way, the Kafka \
                 client's own queue), and up to 100 MiB where topics are compressed.",
    }

    /// What to do when the records at the stored offset are gone from Kafka, because retention (or DeleteRecords) has
    /// passed it: `halt` stops the partition and says so, `earliest` goes on at the first record that is still there,
    /// `latest` at the end.
    ///
    /// The two that go on record the lost range in `offset_event`, in the transaction that steps over it (EO-1). They
    /// never cover a log that was truncated, a topic that was created anew, or another cluster: these always halt.
    on_offset_lost: OnOffsetLost {
        env: "HIGHWATER_ON_OFFSET_LOST",
        kind: ON_OFFSET_LOST,
        default: Text("halt"),
        change: "Where the newest records matter more than each single one; watch `offset_event` for kind `lost`.",
    }

    /// What to do with a record that is rejected: `halt` stops its partition there and says so; `dead_letter` stores it,
    /// whole, in `dead_letter`, in the transaction that steps over it, and goes on (EO-9); `park_key` does that, and parks
    /// later records of its key behind it, so that each key's records are applied in their order. See
    /// [dead-letters.md](dead-letters.md).
    ///
    /// Rejected is what the handler rejects, and what the server refuses for the record's own data (the classes *reject*
    /// of [errors.md](errors.md)). What is the surroundings' fault, the handler's or a setting's never becomes a dead letter.
    /// A program may have another policy for single routes: see `WorkerBuilder::on_rejected`.
    on_rejected: OnRejected {
        env: "HIGHWATER_ON_REJECTED",
        kind: ON_REJECTED,
        default: Text("halt"),
        change: "Where a stream must go on, and somebody looks after what it leaves behind; `park_key` where a later record \
                 of a key must not be applied before an earlier one.",
    }

    /// How many records of a partition, one right after the other, may become dead letters before the partition halts: a
    /// schema that nobody told of must not empty a topic into a table. Counted anew after each claim.
    dead_letter_max_in_a_row: Option<usize> {
        env: "HIGHWATER_DEAD_LETTER_MAX_IN_A_ROW",
        kind: count_or_off(1, 1_000_000_000),
        default: Text("100"),
        change: "Lower it where two bad records in a row are one too many.",
    }

    /// How many of the last million records of a route (all of a worker's, where it has no routes) may become dead letters
    /// before the partition of the next one halts. Each worker counts for itself, from its start on.
    dead_letter_max_per_million: Option<usize> {
        env: "HIGHWATER_DEAD_LETTER_MAX_PER_MILLION",
        kind: count_or_off(1, 1_000_000),
        default: Text("10_000"),
        change: "To what is usual for the stream, and a little more.",
    }

    /// The same, of what a route has in 60 s.
    dead_letter_max_per_minute: Option<usize> {
        env: "HIGHWATER_DEAD_LETTER_MAX_PER_MINUTE",
        kind: count_or_off(1, 1_000_000_000),
        default: Text("1_000"),
        change: "To what somebody can look through.",
    }

    /// A record with more bytes in key, value and headers becomes a dead letter by reference: the facts are stored, and
    /// its content stays where it is, in Kafka at the offset, for as long as Kafka holds it. `0B`: nothing of any record
    /// is stored but the facts.
    dead_letter_max_payload_bytes: usize {
        env: "HIGHWATER_DEAD_LETTER_MAX_PAYLOAD_BYTES",
        kind: bytes(0, GIB),
        default: Text("16MiB"),
        change: "Lower it where large records are many, or where what is in them must not be copied.",
    }

    /// How long the content of a dead letter is kept after it was last stored, also while nobody has decided about it.
    /// Then it is deleted, and the facts stay. Off: as long as the dead letter itself.
    dead_letter_payload_retention: Option<Duration> {
        env: "HIGHWATER_DEAD_LETTER_PAYLOAD_RETENTION",
        kind: duration_or_off(SECOND_MS, 36_500 * DAY_MS),
        default: Text("off"),
        change: "Where what is in the records may be kept for so long only. What is gone cannot be redriven.",
    }

    /// How long the content of a dead letter is kept after somebody has decided about it, or a move back has made it void.
    /// Off: as long as the dead letter itself, which goes with `history_retention`.
    dead_letter_closed_payload_retention: Option<Duration> {
        env: "HIGHWATER_DEAD_LETTER_CLOSED_PAYLOAD_RETENTION",
        kind: duration_or_off(SECOND_MS, 36_500 * DAY_MS),
        default: Text("off"),
        change: "Where a record that nobody needs any more must not wait for `history_retention`.",
    }

    /// How long a topic may be unknown at the start before that is an error.
    unknown_topic_timeout: Duration {
        env: "HIGHWATER_UNKNOWN_TOPIC_TIMEOUT",
        kind: duration(0, HOUR_MS),
        default: Text("60s"),
        change: "Raise it when topics are created after their consumers.",
    }

    /// How long the group waits for a silent member before it gives its partitions away (Kafka's
    /// `session.timeout.ms`). Under `group_protocol = "consumer"` the broker decides, and this is an error.
    session_timeout: Option<Duration> {
        env: "HIGHWATER_SESSION_TIMEOUT",
        kind: optional_duration(10, HOUR_MS),
        default: Described("10s, or 60s with an instance id"),
        change: "With an instance id: above the time that a restart takes. The broker has limits of its own.",
    }

    /// How often a member tells the group that it is alive (Kafka's `heartbeat.interval.ms`). At most a third of the
    /// session time-out. Rebalances are learned from its answer. Under `group_protocol = "consumer"` the broker
    /// decides, and this is an error.
    heartbeat_interval: Option<Duration> {
        env: "HIGHWATER_HEARTBEAT_INTERVAL",
        kind: optional_duration(1, 20 * MINUTE_MS),
        default: Described("300ms, or 1s with an instance id"),
        change: "Raise it for groups of hundreds of members.",
    }

    /// How long something may stand still before the process ends (exit code 70), so that its supervisor starts it again:
    /// records that Kafka holds and that do not come, a claim, the join, Kafka's or Postgres' answers. Before that, what can
    /// be begun anew is: see "What stands still" in [operations.md](operations.md). A partition that is idle, halted,
    /// paused, without a leader or behind an open transaction does not stand still.
    stuck_after: Option<Duration> {
        env: "HIGHWATER_STUCK_AFTER",
        kind: duration_or_off(30 * SECOND_MS, DAY_MS),
        default: Text("15m"),
        change: "`off` where nothing starts the process again, and a human looks after it.",
    }

    /// Which records of transactional producers are read (Kafka's `isolation.level`). The guarantee is relative to
    /// what this level returns.
    isolation: Isolation {
        env: "HIGHWATER_ISOLATION",
        kind: ISOLATION,
        default: Text("read_committed"),
        change: "Almost never: `read_uncommitted` also applies what producers have rolled back.",
    }

    /// How many offsets a partition may be behind before that is a lag: below it, it is `OK` whatever its trajectory is.
    allowed_lag: usize {
        env: "HIGHWATER_ALLOWED_LAG",
        kind: count(0, 1_000_000_000),
        default: Text("0"),
        change: "Where a handful of records always waits, and nobody is to be told.",
    }

    /// How often a partition's position and its log's end are sampled, from which its class of health is made: `STALL`
    /// shows after three to four of these. See [health.md](health.md).
    health_interval: Duration {
        env: "HIGHWATER_HEALTH_INTERVAL",
        kind: duration(100, HOUR_MS),
        default: Text("10s"),
        change: "Raise it where single batches take longer than 30 s and that is well.",
    }

    /// For how long samples count. A lag that grows from nothing shows as `WARN` after half of it.
    health_window: Duration {
        env: "HIGHWATER_HEALTH_WINDOW",
        kind: duration(SECOND_MS, DAY_MS),
        default: Text("10m"),
        change: "Raise it where a lag that goes up and down again within the hour is well.",
    }

    /// Where the admin server listens: `/metrics`, `/livez`, `/readyz` and `/status`, for reading only. An address with its
    /// port (`0.0.0.0:9464`), or a port alone, which is then reached from this machine only (`9464` is
    /// `127.0.0.1:9464`); with port 0 the system chooses one, and the log says which. A port that is taken is an error
    /// at the start. What it answers is in "Admin server" of [operations.md](operations.md).
    ///
    /// It needs the feature `admin`; in a program without it, the setting is an error.
    admin_address: Option<SocketAddr> {
        env: "HIGHWATER_ADMIN_ADDRESS",
        kind: ADDRESS,
        default: Text("off"),
        change: "Where Prometheus or Kubernetes ask: to `0.0.0.0:9464` in a pod. There is no password and no TLS: let a \
                 network policy, or a proxy, say who may.",
    }

    /// How long finished claims, events, plans, orders, dead letters that are over, and rows of processes long gone are
    /// kept.
    history_retention: Duration {
        env: "HIGHWATER_HISTORY_RETENTION",
        kind: duration(HOUR_MS, 36_500 * DAY_MS),
        default: Text("30d"),
        change: "As long as you want to answer \"who applied this record, and when?\".",
    }

    /// In the names of which other exporters `highwater exporter` and the dashboard's `/metrics` also tell metrics:
    /// `kafka_exporter`, `kafka_lag_exporter`, `burrow`, `kminion`. Workers never do.
    exporter_compat: Vec<String> {
        env: "HIGHWATER_EXPORTER_COMPAT",
        kind: list(|names| check_compat(names)),
        default: Described("none"),
        change: "Where boards and alerts are written in those names. In one process only, and not beside that exporter: sums \
                 would be twice as much.",
    }
}
