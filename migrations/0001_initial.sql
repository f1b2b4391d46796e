-- Highwater schema, version 1.
--
-- Applied by `highwater migrate` inside one transaction, under an advisory lock, with `search_path` set to
-- the chosen schema (default `highwater`): names here are therefore unqualified on purpose. The worker
-- itself always qualifies and quotes.

-- One row. `database_id` marks every mirrored Kafka commit, so that a wrong or restored database is noticed.
CREATE TABLE meta (
    singleton       boolean     PRIMARY KEY DEFAULT true CHECK (singleton),
    database_id     uuid        NOT NULL DEFAULT gen_random_uuid(),
    version         integer     NOT NULL,
    min_compatible  integer     NOT NULL,
    migrated_at     timestamptz NOT NULL DEFAULT now()
);

-- What a group knows of a topic: the start policy as it was resolved, once, for all partitions (EO-4).
CREATE TABLE group_topic (
    group_id        text        NOT NULL,
    topic           text        NOT NULL,
    start_policy    text        NOT NULL,
    partition_count integer     NOT NULL CHECK (partition_count > 0),
    cluster_id      text,
    topic_id        text,
    program         text        NOT NULL,
    resolved_by     uuid        NOT NULL,
    resolved_at     timestamptz NOT NULL DEFAULT now(),
    mirror_marked_at timestamptz,
    PRIMARY KEY (group_id, topic)
);

-- The patterns that a group has subscribed to, each resolved once. What is newly matched later starts at its beginning.
CREATE TABLE group_pattern (
    group_id        text        NOT NULL,
    pattern         text        NOT NULL,
    start_policy    text        NOT NULL,
    program         text        NOT NULL,
    resolved_by     uuid        NOT NULL,
    resolved_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (group_id, pattern)
);

-- The fence. One row per group and partition, locked by every claim and by every commit.
-- A commit changes no indexed column and the fillfactor leaves room, so that updates stay on the page (HOT).
CREATE TABLE consumer_offset (
    group_id          text        NOT NULL,
    topic             text        NOT NULL,
    partition         integer     NOT NULL CHECK (partition >= 0),
    next_offset       bigint      NOT NULL CHECK (next_offset >= 0),
    leader_epoch      integer,                  -- of the last applied record; NULL while unknown
    leader_epoch_offset bigint,                 -- where that record ends; markers may lie between it and next_offset
    epoch             bigint      NOT NULL DEFAULT 0,
    claim_token       uuid        NOT NULL DEFAULT gen_random_uuid(),
    owner             uuid,                     -- a random id per process start; NULL when released
    claimed_by        uuid,                     -- who made the present claim; stays when it is released
    instance_id       text,
    drain_until       timestamptz,              -- database clock: the owner asks for this long to finish
    claimed_offset    bigint,                   -- where this claim began
    claimed_at        timestamptz,
    record_timestamp  timestamptz,              -- Kafka's timestamp of the last applied record
    applied_records   bigint      NOT NULL DEFAULT 0,   -- by this claim
    applied_batches   bigint      NOT NULL DEFAULT 0,   -- by this claim
    committed_at      timestamptz,
    paused_reason     text,                     -- set by an operator: nobody claims the row meanwhile
    PRIMARY KEY (group_id, topic, partition)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.0, autovacuum_vacuum_threshold = 1000);

-- The coverage ledger: one row per finished claim, written when the next claim or reset replaces it.
CREATE TABLE claim_history (
    group_id        text        NOT NULL,
    topic           text        NOT NULL,
    partition       integer     NOT NULL,
    epoch           bigint      NOT NULL,
    claim_token     uuid        NOT NULL,
    owner           uuid,
    instance_id     text,
    claimed_offset  bigint      NOT NULL,
    end_offset      bigint      NOT NULL,
    applied_records bigint      NOT NULL,
    applied_batches bigint      NOT NULL,
    claimed_at      timestamptz NOT NULL,
    committed_at    timestamptz,
    replaced_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (group_id, topic, partition, epoch, claim_token)
);
CREATE INDEX claim_history_replaced_at ON claim_history (group_id, replaced_at);   -- by which it is pruned

CREATE TABLE dead_letter (
    dead_letter_id  bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    group_id        text        NOT NULL,
    topic           text        NOT NULL,
    topic_id        text        NOT NULL,
    partition       integer     NOT NULL,
    record_offset   bigint      NOT NULL,
    record_key      bytea,
    record_value    bytea,
    record_headers  jsonb       NOT NULL DEFAULT '[]',
    record_timestamp timestamptz,
    reason          text        NOT NULL,
    sqlstate        text,
    state           text        NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'redriven', 'discarded', 'superseded')),
    rejected_at     timestamptz NOT NULL DEFAULT now(),
    state_changed_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (group_id, topic, topic_id, partition, record_offset)
);

-- Every move of an offset that is not a commit of records (EO-1, EO-6).
CREATE TABLE offset_event (
    event_id        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    group_id        text        NOT NULL,
    topic           text        NOT NULL,
    partition       integer     NOT NULL,
    kind            text        NOT NULL CHECK (kind IN ('start', 'reset', 'adopt', 'skip', 'lost')),
    from_offset     bigint,
    to_offset       bigint      NOT NULL,
    actor           text        NOT NULL,
    reason          text        NOT NULL,
    occurred_at     timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX offset_event_key ON offset_event (group_id, topic, partition, occurred_at);

-- One heartbeat row per process. Live means: heartbeat_at within 3 s of the database's own clock. Its latest beats may
-- be lost with the server (they are not flushed one by one), which a second later is over.
CREATE TABLE worker_status (
    owner           uuid        PRIMARY KEY,
    group_id        text        NOT NULL,
    instance_id     text,
    program         text        NOT NULL,
    version         text        NOT NULL,
    host            text        NOT NULL,
    process_id      integer     NOT NULL,
    started_at      timestamptz NOT NULL,
    heartbeat_at    timestamptz NOT NULL,
    stopped_at      timestamptz,
    state           text        NOT NULL,
    ready           boolean     NOT NULL DEFAULT false,
    detail          text,                       -- why it is not ready, or what it waits for
    partitions      integer     NOT NULL,
    records_total   bigint      NOT NULL,       -- applied by this process
    commits_total   bigint      NOT NULL,
    fenced_total    bigint      NOT NULL,       -- times this process found its claim taken by another
    retries_total   bigint      NOT NULL,
    dropped_total   bigint      NOT NULL        -- records of an old assignment or below the coverage
) WITH (fillfactor = 50);
CREATE INDEX worker_status_group ON worker_status (group_id);

-- Whose a backend is: by this, and by the name that it bears, a successor knows which backends of the dead it may end.
-- Unlogged, for no session outlives its server.
CREATE UNLOGGED TABLE worker_session (
    pid             integer     PRIMARY KEY,
    backend_start   timestamptz NOT NULL,
    owner           uuid        NOT NULL
);

-- Apart from consumer_offset, so that a report never waits for a commit.
CREATE TABLE partition_status (
    group_id        text        NOT NULL,
    topic           text        NOT NULL,
    partition       integer     NOT NULL,
    epoch           bigint      NOT NULL,
    owner           uuid        NOT NULL,
    state           text        NOT NULL,
    detail          text,
    log_end_offset  bigint,
    last_stable_offset bigint,
    next_record_timestamp timestamptz,
    updated_at      timestamptz NOT NULL,
    PRIMARY KEY (group_id, topic, partition)
) WITH (fillfactor = 50);
