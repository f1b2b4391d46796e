-- Highwater schema, version 2: what a person does with a group, as rows; which tables a group writes; dead letters with
-- everything that a record has; views to read. Workers of version 1 run on: they never wrote a dead letter.

-- A move of offsets as it was decided: absolute positions, from and to. Applying it compares every `from_offset`, in the
-- transaction that sets `state`: whoever applies it twice, or has lost the answer, moves nothing twice.
CREATE TABLE offset_plan (
    plan_id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    group_id        text        NOT NULL,
    target          text        NOT NULL,   -- as it was asked for: --to-earliest, --shift-by -100
    actor           text        NOT NULL,
    reason          text        NOT NULL,
    undo_rows       boolean     NOT NULL DEFAULT false,     -- rows at or past the targets are deleted, in portions
    state           text        NOT NULL DEFAULT 'planned' CHECK (state IN ('planned', 'applying', 'applied', 'stopped')),
    live            boolean,                -- applied while workers ran
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    applied_at      timestamptz,
    applied_by      text,
    application_id  uuid                    -- of the call that applied it
);
CREATE INDEX offset_plan_group ON offset_plan (group_id, plan_id);

CREATE TABLE offset_plan_step (
    plan_id         bigint      NOT NULL REFERENCES offset_plan ON DELETE CASCADE,
    topic           text        NOT NULL,
    partition       integer     NOT NULL,
    from_offset     bigint      NOT NULL CHECK (from_offset >= 0),
    to_offset       bigint      NOT NULL CHECK (to_offset >= 0),
    wanted_offset   bigint      NOT NULL,   -- differs from to_offset where that was clamped
    clamped_to      text        CHECK (clamped_to IN ('earliest', 'latest')),
    epoch           bigint      NOT NULL,   -- of the claim that was seen
    last_event_id   bigint      NOT NULL,   -- of the partition's last offset_event that was seen, or 0
    applied_from    bigint,                 -- where the row stood when it was moved: a live fleet goes on meanwhile
    claim_token     uuid,                   -- of the plan's own claim, while rows are undone
    paused_reason   text,                   -- as it was before that claim
    halted          boolean,
    undone_rows     bigint      NOT NULL DEFAULT 0,
    outcome         text        CHECK (outcome IN ('done', 'taken')),  -- taken: somebody ended the plan's claim
    PRIMARY KEY (plan_id, topic, partition)
);

-- What a person has told a partition's worker, written in the transaction that did it. What holds the partition is in
-- consumer_offset; by this row its worker hears of it, and says when it has obeyed.
CREATE TABLE partition_control (
    control_id      bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    group_id        text        NOT NULL,
    topic           text        NOT NULL,
    partition       integer     NOT NULL,
    verb            text        NOT NULL CHECK (verb IN ('halt', 'pause', 'resume', 'skip', 'retry', 'reset')),
    epoch           bigint      NOT NULL,   -- claims up to this one are over
    actor           text        NOT NULL,
    reason          text        NOT NULL,
    plan_id         bigint,
    requested_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    obeyed_at       timestamptz,
    obeyed_by       uuid
);
CREATE INDEX partition_control_open ON partition_control (group_id) WHERE obeyed_at IS NULL;
CREATE INDEX partition_control_obeyed_at ON partition_control (group_id, obeyed_at);    -- by which it is pruned

-- Beside paused_reason, which alone keeps claims away, also those of version 1: shown as halted instead of waiting.
ALTER TABLE consumer_offset ADD COLUMN halted boolean NOT NULL DEFAULT false;
-- Since which offset all workers have parked later records of a key behind its dead letters; NULL: they do not.
ALTER TABLE consumer_offset ADD COLUMN parking_from bigint;

ALTER TABLE offset_event ADD COLUMN plan_id bigint;
ALTER TABLE offset_event ALTER COLUMN to_offset DROP NOT NULL;
ALTER TABLE offset_event DROP CONSTRAINT offset_event_kind_check;
ALTER TABLE offset_event ADD CONSTRAINT offset_event_kind_check
    CHECK (kind IN ('start', 'reset', 'adopt', 'skip', 'lost', 'delete', 'undo')
           AND (to_offset IS NOT NULL OR kind = 'delete'));
-- By which they are pruned.
CREATE INDEX offset_event_occurred_at ON offset_event (group_id, occurred_at);
CREATE INDEX offset_event_deleted ON offset_event (occurred_at) WHERE kind = 'delete';

-- Which tables a group's programs write, as they say themselves: what `--undo-rows` deletes from, and `reconcile` counts.
CREATE TABLE sink_table (
    group_id        text        NOT NULL,
    table_schema    text        NOT NULL,
    table_name      text        NOT NULL,
    mode            text        NOT NULL CHECK (mode IN ('append', 'insert_ignore', 'upsert')),
    topics          text[],                 -- whose records; NULL: any that the group reads
    topic_column    text,                   -- where a row says which record it is of; NULL: it does not
    partition_column text,
    offset_column   text,
    timestamp_column text,
    program         text        NOT NULL,
    registered_by   uuid        NOT NULL,
    registered_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (group_id, table_schema, table_name, mode)
);

-- What a pipeline's file makes of records, whenever it is not what the group ran before: one row, however many workers
-- start with it; a file that is rolled back makes another. Written before its worker applies anything.
CREATE TABLE mapping_change (
    change_id       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    group_id        text        NOT NULL,
    follows         bigint      NOT NULL,   -- the change before, or 0: of two workers that start at once, one writes it
    mapping         jsonb       NOT NULL,   -- by table: what decides its rows. No address, no tuning
    changes         text[]      NOT NULL,   -- against the one before, in words; empty: there is none on record
    positions       jsonb       NOT NULL,   -- by topic and partition, where the group stood: no earlier record is mapped by it
    program         text        NOT NULL,
    version         text        NOT NULL,
    host            text        NOT NULL,
    worker          uuid        NOT NULL,
    occurred_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (group_id, follows)
);

-- Anew, with nothing in it: no worker of version 1 ever wrote one. A record's newest verdict; one that is rejected once
-- more, after a reset, opens the same row again.
DROP TABLE dead_letter;
CREATE TABLE dead_letter (
    dead_letter_id  bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    group_id        text        NOT NULL,
    topic           text        NOT NULL,
    topic_id        text        NOT NULL,   -- '' where the broker has no such ids
    partition       integer     NOT NULL,
    record_offset   bigint      NOT NULL,
    key_hash        bytea,                  -- SHA-256; NULL: the record has no key
    fingerprint     text        NOT NULL,   -- of the kind: what is equal here is one trouble
    sqlstate        text,
    reason          text        NOT NULL,
    handler         text,
    worker          uuid,                   -- NULL: a person has skipped it
    state           text        NOT NULL DEFAULT 'open'
                    CHECK (state IN ('open', 'parked', 'queued', 'redriven', 'discarded', 'superseded')),
    attempts        integer     NOT NULL DEFAULT 1,
    first_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    state_changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    request_id      bigint,
    omitted_bytes   bigint,                 -- its content was too large to be kept: Kafka has it, as long as it does; NULL: it was kept
    UNIQUE (group_id, topic, topic_id, partition, record_offset)
);
CREATE INDEX dead_letter_state ON dead_letter (group_id, state, state_changed_at);
-- By which those that wait are counted, of all groups together: never through those that are settled.
CREATE INDEX dead_letter_waiting ON dead_letter (group_id, topic, state, fingerprint, state_changed_at)
    WHERE state IN ('open', 'parked', 'queued');
-- What is parked behind what.
CREATE INDEX dead_letter_key ON dead_letter (group_id, topic, partition, key_hash, record_offset)
    WHERE state IN ('open', 'parked', 'queued') AND key_hash IS NOT NULL;

-- Apart, so that lists stay cheap, and what is personal can go first. Everything that the record had, byte for byte.
CREATE TABLE dead_letter_payload (
    dead_letter_id  bigint      PRIMARY KEY REFERENCES dead_letter ON DELETE CASCADE,
    record_key      bytea,
    record_value    bytea,
    header_names    bytea[]     NOT NULL DEFAULT '{}',
    header_values   bytea[]     NOT NULL DEFAULT '{}',      -- an element is NULL where the header has no value
    timestamp_ms    bigint,
    timestamp_type  smallint    CHECK (timestamp_type IN (0, 1)),   -- 0: CreateTime, 1: LogAppendTime
    expires_at      timestamptz             -- then this row is deleted, and the dead letter stays; NULL: never
);
CREATE INDEX dead_letter_payload_expires_at ON dead_letter_payload (expires_at) WHERE expires_at IS NOT NULL;

-- What became of each attempt. By an id of its own: nothing is numbered anew.
CREATE TABLE dead_letter_attempt (
    attempt_id      bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dead_letter_id  bigint      NOT NULL REFERENCES dead_letter ON DELETE CASCADE,
    attempted_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind            text        NOT NULL,
    error           text,
    owner           uuid
);
CREATE INDEX dead_letter_attempt_of ON dead_letter_attempt (dead_letter_id);

-- What a person wants applied once more. It is a list of dead letters, each of which stays open until the owner of its
-- partition has applied it: to cancel one is to change nothing but its state.
CREATE TABLE redrive_request (
    request_id      bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    group_id        text        NOT NULL,
    filter          text        NOT NULL,   -- as it was asked for, in words
    actor           text        NOT NULL,
    reason          text        NOT NULL,
    records         bigint      NOT NULL,
    canary          bigint      NOT NULL,   -- so many go first; if one of them fails, nothing follows
    per_second      bigint      CHECK (per_second > 0),     -- of the whole group; NULL: as fast as it goes
    stop_after      bigint      NOT NULL CHECK (stop_after > 0),    -- failures
    ignore_order    boolean     NOT NULL,
    follow          boolean     NOT NULL DEFAULT true,  -- what is parked behind them comes along
    free_at         timestamptz NOT NULL DEFAULT clock_timestamp(), -- when the next may be taken, by per_second
    state           text        NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'done', 'stopped', 'cancelled')),
    detail          text,                   -- why it has ended early, or what holds it up now
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at        timestamptz
);
CREATE INDEX redrive_request_group ON redrive_request (group_id, request_id);
CREATE INDEX redrive_request_running ON redrive_request (group_id) WHERE state = 'running';

CREATE TABLE redrive_letter (
    request_id      bigint      NOT NULL REFERENCES redrive_request ON DELETE CASCADE,
    place           bigint      NOT NULL,   -- in the order of topic, partition and offset
    dead_letter_id  bigint      NOT NULL,   -- of a letter that may be pruned before this is
    topic           text        NOT NULL,
    partition       integer     NOT NULL,
    record_offset   bigint      NOT NULL,
    outcome         text        CHECK (outcome IN ('redriven', 'failed', 'gone', 'ineligible', 'behind')),  -- gone: it was
                                -- not open any more; ineligible: it cannot be redriven as it is; behind: an earlier one of its key waits
    ended_at        timestamptz,
    PRIMARY KEY (dead_letter_id, request_id)
);
CREATE INDEX redrive_letter_request ON redrive_letter (request_id, place);
CREATE INDEX redrive_letter_waiting ON redrive_letter (request_id, topic, partition, record_offset) WHERE outcome IS NULL;
CREATE INDEX redrive_letter_redriven ON redrive_letter (request_id, place) WHERE outcome = 'redriven';
CREATE INDEX redrive_letter_failed ON redrive_letter (request_id, place) WHERE outcome = 'failed';

-- How far a group has come: what an application waits for that reads what the group writes.
CREATE VIEW progress AS
SELECT group_id, topic, partition, next_offset, record_timestamp, committed_at, epoch, owner
FROM consumer_offset;

-- How long a batch of this process may take (its `max_processing_time`): against this the time without a commit is read.
ALTER TABLE worker_status ADD COLUMN processing_deadline_seconds double precision;
-- Up to when its `partition_status` is what it knows: a heart beats on when nothing else of a process does. NULL: of version 1.
ALTER TABLE worker_status ADD COLUMN reported_at timestamptz;

-- What a worker says of its own partitions, beside what version 1 did.
ALTER TABLE partition_status
    ADD COLUMN log_start_offset bigint,
    ADD COLUMN class text,                  -- of the health of its trajectory; its reason in words
    ADD COLUMN reason text,
    ADD COLUMN applied_per_second double precision,     -- over the last minute
    ADD COLUMN produced_per_second double precision,
    ADD COLUMN uncommitted_since timestamptz,   -- since when the last stable offset stands before what is not committed
    ADD COLUMN loss_at timestamptz,         -- when Kafka may delete the next record; 'infinity': never
    ADD COLUMN stood_at bigint,             -- next_offset when this was said
    ADD COLUMN ends_as_of timestamptz,      -- when the offsets here were known that a former claim has left; NULL: this one's
    ADD COLUMN on_rejected text,            -- what becomes of a record that is rejected: 'halt', 'dead_letter', 'park_key'
    ADD COLUMN reads_uncommitted boolean,   -- then `last_stable_offset` is the end of the log: as far as it reads
    ADD COLUMN writes text;                 -- what its handler says of its tables: 'append', 'more', 'unsaid'

-- The same of partitions that no live process holds, by whoever is there to look: a live worker of the group, or the
-- exporter. Where a live owner reports, this is old and does not count.
CREATE TABLE partition_survey (
    group_id        text        NOT NULL,
    topic           text        NOT NULL,
    partition       integer     NOT NULL,
    next_offset     bigint      NOT NULL,   -- what the rest is about
    log_start_offset bigint,
    last_stable_offset bigint,
    log_end_offset  bigint,
    next_record_timestamp timestamptz,
    uncommitted_since timestamptz,
    loss_at         timestamptz,
    class           text        NOT NULL,
    reason          text,
    surveyed_at     timestamptz NOT NULL,
    surveyed_by     uuid        NOT NULL,
    PRIMARY KEY (group_id, topic, partition)
) WITH (fillfactor = 50);

-- In the views `now` is the moment of the snapshot that is read: however long a reading takes, a heartbeat in it is no older
-- than it was then. And `s.epoch = o.epoch OR s.state = 'halted' AND o.owner IS NULL` is whose report counts: the present
-- claim's, or the last words of one that has halted, until somebody claims.

-- What is left to apply: as the partition's live owner says, or else as it was seen last, at `as_of`. NULL is "not known",
-- never 0: of a partition that nobody has looked at yet, and of one that has come to the end, or further, that was seen more
-- than a minute ago (or by a former owner, until the new one has looked). A lag that is old is "at least".
CREATE VIEW lag AS
SELECT k.group_id, k.topic, k.partition, k.next_offset, k.log_start_offset, k.last_stable_offset, k.log_end_offset,
    -- CASE, for greatest(NULL, 0) is 0.
    CASE WHEN k.last_stable_offset > k.next_offset THEN k.last_stable_offset - k.next_offset
         WHEN k.last_stable_offset <= k.next_offset THEN 0 END AS lag_records,
    CASE WHEN k.last_stable_offset <= k.next_offset THEN 0::double precision
         -- Clocks differ by a little; of what is dated further in the future the age is not known.
         WHEN k.next_record_timestamp <= k.now + interval '5 seconds'
           THEN greatest(extract(epoch FROM k.now - k.next_record_timestamp)::double precision, 0) END AS lag_seconds,
    CASE WHEN k.log_end_offset > greatest(k.last_stable_offset, k.next_offset)
           THEN k.log_end_offset - greatest(k.last_stable_offset, k.next_offset)
         WHEN k.log_end_offset IS NOT NULL AND k.last_stable_offset IS NOT NULL THEN 0 END AS uncommitted_records,
    CASE WHEN k.log_end_offset <= greatest(k.last_stable_offset, k.next_offset) OR k.uncommitted_since > k.now
           THEN 0::double precision
         ELSE extract(epoch FROM k.now - k.uncommitted_since)::double precision END AS uncommitted_seconds,
    -- As highwater::health::drain_seconds: never, where no more is applied than is produced.
    CASE WHEN k.last_stable_offset <= k.next_offset THEN 0::double precision
         WHEN k.last_stable_offset IS NOT NULL AND k.applied_per_second > k.produced_per_second
           THEN (k.last_stable_offset - k.next_offset) / (k.applied_per_second - k.produced_per_second)
         WHEN k.last_stable_offset IS NOT NULL AND k.applied_per_second <= coalesce(k.produced_per_second, 0)
           THEN double precision 'Infinity' END AS drain_seconds,
    CASE WHEN k.last_stable_offset <= k.next_offset OR k.loss_at = 'infinity' THEN double precision 'Infinity'
         WHEN k.loss_at <= k.now THEN 0::double precision
         ELSE extract(epoch FROM k.loss_at - k.now)::double precision END AS loss_seconds,
    k.as_of
FROM (
    SELECT o.group_id, o.topic, o.partition, o.next_offset, b.now,
        CASE WHEN b.surveyed THEN v.log_start_offset ELSE s.log_start_offset END AS log_start_offset,
        CASE WHEN b.passed THEN NULL WHEN b.surveyed THEN v.last_stable_offset ELSE s.last_stable_offset END
          AS last_stable_offset,
        CASE WHEN b.passed THEN NULL WHEN b.surveyed THEN v.log_end_offset ELSE s.log_end_offset END AS log_end_offset,
        -- Of the next record, and of no other.
        coalesce(CASE WHEN NOT b.surveyed AND NOT b.passed AND (s.epoch = o.epoch AND s.ends_as_of IS NULL OR s.stood_at = o.next_offset)
          THEN s.next_record_timestamp END, CASE WHEN v.next_offset = o.next_offset THEN v.next_record_timestamp END)
          AS next_record_timestamp,
        CASE WHEN b.surveyed THEN v.uncommitted_since ELSE s.uncommitted_since END AS uncommitted_since,
        CASE WHEN b.passed THEN NULL
             WHEN b.surveyed AND v.next_offset = o.next_offset THEN v.loss_at
             WHEN NOT b.surveyed AND (s.epoch = o.epoch AND s.ends_as_of IS NULL OR s.stood_at = o.next_offset)
               THEN s.loss_at END AS loss_at,
        -- Nobody applies what nobody holds.
        CASE WHEN b.surveyed OR o.owner IS NULL THEN 0::double precision WHEN s.epoch = o.epoch THEN s.applied_per_second END
          AS applied_per_second,
        CASE WHEN NOT b.surveyed AND s.epoch = o.epoch THEN s.produced_per_second END AS produced_per_second,
        CASE WHEN b.surveyed THEN v.surveyed_at ELSE b.reported_at END AS as_of
    FROM consumer_offset o
    LEFT JOIN partition_status s USING (group_id, topic, partition)
    LEFT JOIN partition_survey v USING (group_id, topic, partition)
    LEFT JOIN worker_status w ON w.owner = s.owner AND w.stopped_at IS NULL
    LEFT JOIN worker_status f ON f.owner = s.owner
    CROSS JOIN LATERAL (
        SELECT t.now,
            -- A report is written when it changes, and stands while its worker lives, holds the partition, and can report.
            coalesce(s.ends_as_of, greatest(s.updated_at, CASE WHEN w.owner = o.owner AND s.epoch = o.epoch
                AND w.heartbeat_at <= t.now + interval '3 seconds'
              THEN least(w.heartbeat_at, w.reported_at, t.now) END)) AS reported_at
        FROM (SELECT CASE WHEN current_setting('transaction_isolation') LIKE 'read%' THEN statement_timestamp()
                          ELSE now() END AS now) t
        OFFSET 0) r
    CROSS JOIN LATERAL (
        SELECT r.now, r.reported_at,
            -- Whoever holds it knows best, once he knows; until then what was seen just before he came, and nothing older.
            v.surveyed_at IS NOT NULL AND (s.last_stable_offset IS NULL AND v.surveyed_at > r.now - interval '1 minute'
              OR (s.last_stable_offset IS NULL OR v.surveyed_at > r.reported_at)
                AND (s.ends_as_of IS NULL AND w.owner = o.owner AND s.epoch = o.epoch AND w.heartbeat_at
                  BETWEEN r.now - interval '3 seconds' AND r.now + interval '3 seconds') IS NOT TRUE) AS surveyed
        OFFSET 0) a
    CROSS JOIN LATERAL (
        SELECT a.now, a.reported_at, a.surveyed,
            -- An end says nothing of what came after it was seen: not once the position has passed it (of a live owner, whose
            -- reports come every second, it may for a moment), and not for long where the position has come to it. In a
            -- hand-over it was seen as long as the former owner was there, until the new one came.
            coalesce(CASE WHEN a.surveyed THEN v.last_stable_offset < o.next_offset AND v.next_offset <> o.next_offset
                  OR v.last_stable_offset <= o.next_offset AND v.surveyed_at < a.now - interval '1 minute'
                ELSE s.last_stable_offset < o.next_offset AND s.ends_as_of IS NOT NULL
                  OR s.last_stable_offset <= o.next_offset AND a.now - interval '1 minute' > greatest(a.reported_at,
                    CASE WHEN s.ends_as_of IS NULL AND (o.owner IS NULL OR s.epoch < o.epoch) THEN least(f.heartbeat_at,
                      f.reported_at, CASE WHEN o.owner IS NOT NULL THEN o.claimed_at END, a.now) END) END, false) AS passed
        OFFSET 0) b
) k;

-- How each partition is doing: what is known of it, or else what its owner says of its trajectory (docs/health.md).
-- `severity`: 0 nothing to do, 1 somebody wants it so, 2 look at it today, 3 now, 4 it stands still until a person acts.
CREATE VIEW health AS
SELECT k.group_id, k.topic, k.partition, k.class, k.reason,
    CASE WHEN k.class IN ('OK', 'DRAINING') THEN 0
         WHEN k.class = 'PAUSED' THEN 1
         WHEN k.class IN ('WARN', 'FENCED') THEN 2
         WHEN k.class = 'HALTED' THEN 4
         ELSE 3 END AS severity,
    k.as_of
FROM (
    SELECT o.group_id, o.topic, o.partition, l.as_of, c.class,
        CASE WHEN o.paused_reason IS NOT NULL THEN o.paused_reason
             WHEN c.class = 'UNOWNED' THEN 'nobody holds it' || waits.text
             WHEN c.class = 'DEAD' THEN 'its owner has stopped beating' || CASE WHEN d.heartbeat_at <= t.now
               THEN ' ' || date_trunc('second', t.now - d.heartbeat_at)::text || ' ago' ELSE '' END || waits.text
             WHEN c.class = 'HALTED' THEN s.detail
             WHEN c.class = 'STOP' AND c.is_silent THEN 'its worker beats, and has reported nothing for '
               || date_trunc('second', t.now - greatest(w.reported_at, s.updated_at))::text
             ELSE nullif(concat_ws('; ', s.reason, s.detail), '') END AS reason
    FROM consumer_offset o
    JOIN lag l USING (group_id, topic, partition)
    LEFT JOIN partition_status s ON s.group_id = o.group_id AND s.topic = o.topic AND s.partition = o.partition
        AND (s.epoch = o.epoch OR s.state = 'halted' AND o.owner IS NULL)
    LEFT JOIN worker_status d ON d.owner = o.owner
    CROSS JOIN (SELECT CASE WHEN current_setting('transaction_isolation') LIKE 'read%' THEN statement_timestamp()
                            ELSE now() END AS now OFFSET 0) t
    LEFT JOIN worker_status w ON w.owner = o.owner AND w.stopped_at IS NULL
        AND w.heartbeat_at BETWEEN t.now - interval '3 seconds' AND t.now + interval '3 seconds'
    -- Where not all can be reported, the rows that can be are written again and again.
    CROSS JOIN LATERAL (SELECT w.reported_at < t.now - interval '30 seconds'
        AND coalesce(s.updated_at < t.now - interval '30 seconds', true) AS is_silent) r
    CROSS JOIN LATERAL (SELECT
        CASE WHEN o.paused_reason IS NOT NULL AND o.halted OR s.state = 'halted' THEN 'HALTED'
             WHEN o.paused_reason IS NOT NULL THEN 'PAUSED'
             WHEN o.owner IS NULL THEN 'UNOWNED'
             WHEN w.owner IS NULL THEN 'DEAD'
             WHEN r.is_silent AND w.state <> 'stopping' THEN 'STOP'
             WHEN s.state = 'fenced' THEN 'FENCED'
             ELSE coalesce(s.class, 'OK') END AS class,
        r.is_silent) c
    CROSS JOIN LATERAL (SELECT CASE WHEN l.lag_records > 0 THEN ', and it is ' || l.lag_records || ' behind'
        ELSE '' END AS text) waits
) k;

-- How many workers a group can use. Never NULL, also when all workers are gone; what is held back counts for nothing.
-- A partition is busy also where nobody knows whether anything waits: somebody must come and look.
CREATE VIEW scaling AS
SELECT l.group_id, count(*) AS partitions,
    count(*) FILTER (WHERE NOT held.held AND (l.lag_records > 0 OR l.lag_records IS NULL)) AS busy_partitions,
    coalesce(sum(l.lag_records) FILTER (WHERE NOT held.held), 0)::bigint AS lag_records,
    coalesce(live.workers, 0) AS live_workers
FROM lag l
JOIN (SELECT h.group_id, h.topic, h.partition, h.class IN ('HALTED', 'PAUSED') AS held FROM health h) held
  USING (group_id, topic, partition)
LEFT JOIN (SELECT w.group_id, count(*) AS workers
           FROM worker_status w, (SELECT CASE WHEN current_setting('transaction_isolation') LIKE 'read%'
             THEN statement_timestamp() ELSE now() END AS now) t
           WHERE w.stopped_at IS NULL
             AND w.heartbeat_at BETWEEN t.now - interval '3 seconds' AND t.now + interval '3 seconds'
           GROUP BY w.group_id) live ON live.group_id = l.group_id
GROUP BY l.group_id, live.workers;

-- Waits until a record is applied: true, or false when the time is over. For one who has written to Kafka, and reads from
-- the sink what becomes of it. Looks every 20 ms; needs a transaction that sees what others commit meanwhile.
CREATE FUNCTION wait_for(group_id text, topic text, partition integer, record_offset bigint,
                         timeout interval DEFAULT interval '30 seconds') RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    deadline CONSTANT timestamptz := clock_timestamp() + timeout;
    reached bigint;
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        RAISE EXCEPTION 'wait_for sees nothing new in a transaction of isolation level %', current_setting('transaction_isolation')
            USING ERRCODE = 'invalid_transaction_state', HINT = 'Call it in a READ COMMITTED transaction, or outside of one.';
    END IF;
    LOOP
        SELECT o.next_offset INTO reached FROM consumer_offset o
        WHERE o.group_id = wait_for.group_id AND o.topic = wait_for.topic AND o.partition = wait_for.partition;
        IF reached > record_offset THEN
            RETURN true;
        ELSIF clock_timestamp() >= deadline THEN
            IF reached IS NULL THEN
                RAISE EXCEPTION 'group % has no offset of partition % of topic %', wait_for.group_id, wait_for.partition, wait_for.topic
                    USING ERRCODE = 'no_data_found', HINT = 'Is its name right? A new group has one after its first claim.';
            END IF;
            RETURN false;
        END IF;
        PERFORM pg_sleep(least(0.02, greatest(extract(epoch FROM deadline - clock_timestamp()), 0)));
    END LOOP;
END $$;

-- Deletes history older than `kept_seconds`, a day at least: events, plans, orders that nobody has obeyed, redrives and
-- dead letters that are over; all that is left of groups that were deleted so long ago. At most `portion` rows of each; says
-- how many. Workers call it, and have no right to delete these rows otherwise: what people did stays on record.
CREATE FUNCTION prune_history(group_id text, kept_seconds bigint, portion bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER AS $$
#variable_conflict use_column
DECLARE
    oldest CONSTANT timestamptz := clock_timestamp() - greatest(kept_seconds, 86400) * interval '1 second';
    pruned bigint := 0;
    here bigint;
    gone text;
BEGIN
    -- Not a move back (or a deletion) into what a claim that is on record has gone over: that rows are there twice is
    -- explained by nothing else.
    DELETE FROM offset_event d WHERE d.event_id = ANY(ARRAY(
        SELECT e.event_id FROM offset_event e WHERE e.group_id = prune_history.group_id AND e.occurred_at < oldest
          AND NOT (e.kind IN ('reset', 'delete') AND coalesce(e.to_offset, -1) < e.from_offset AND (
            EXISTS (SELECT FROM consumer_offset o WHERE o.group_id = e.group_id AND o.topic = e.topic
              AND o.partition = e.partition AND coalesce(o.claimed_offset, o.next_offset) < e.from_offset)
            OR EXISTS (SELECT FROM claim_history h WHERE h.group_id = e.group_id AND h.topic = e.topic
              AND h.partition = e.partition AND h.claimed_offset < e.from_offset)))
        ORDER BY e.occurred_at LIMIT portion));
    GET DIAGNOSTICS here = ROW_COUNT;
    pruned := pruned + here;
    -- Not the last: it is what the group runs.
    DELETE FROM mapping_change d WHERE d.change_id = ANY(ARRAY(
        SELECT c.change_id FROM mapping_change c WHERE c.group_id = prune_history.group_id AND c.occurred_at < oldest
          AND EXISTS (SELECT FROM mapping_change n WHERE n.group_id = c.group_id AND n.follows > c.follows) LIMIT portion));
    GET DIAGNOSTICS here = ROW_COUNT;
    pruned := pruned + here;
    -- Not one that is half done: its partitions are held for it.
    DELETE FROM offset_plan d WHERE d.plan_id = ANY(ARRAY(
        SELECT p.plan_id FROM offset_plan p WHERE p.group_id = prune_history.group_id AND p.state <> 'applying'
          AND greatest(p.created_at, p.applied_at) < oldest LIMIT portion));
    GET DIAGNOSTICS here = ROW_COUNT;
    pruned := pruned + here;
    -- Not what a redrive has yet to come to: by it, it finds what is parked behind it.
    DELETE FROM dead_letter d WHERE d.dead_letter_id = ANY(ARRAY(
        SELECT l.dead_letter_id FROM dead_letter l WHERE l.group_id = prune_history.group_id
          AND l.state IN ('redriven', 'discarded', 'superseded') AND l.state_changed_at < oldest
          AND NOT EXISTS (SELECT FROM redrive_letter i JOIN redrive_request r USING (request_id)
            WHERE i.dead_letter_id = l.dead_letter_id AND i.outcome IS NULL AND r.state = 'running') LIMIT portion));
    GET DIAGNOSTICS here = ROW_COUNT;
    pruned := pruned + here;
    DELETE FROM redrive_request d WHERE d.request_id = ANY(ARRAY(
        SELECT r.request_id FROM redrive_request r WHERE r.group_id = prune_history.group_id AND r.state <> 'running'
          AND r.ended_at < oldest LIMIT portion));
    GET DIAGNOSTICS here = ROW_COUNT;
    pruned := pruned + here;
    -- A worker that comes so late finds what they have done in consumer_offset.
    DELETE FROM partition_control d WHERE d.control_id = ANY(ARRAY(
        SELECT c.control_id FROM partition_control c WHERE c.group_id = prune_history.group_id AND c.obeyed_at IS NULL
          AND c.requested_at < oldest LIMIT portion));
    GET DIAGNOSTICS here = ROW_COUNT;
    pruned := pruned + here;
    -- Of a deleted group no worker comes that would. Everything of it is older than the event of its deletion, which goes
    -- last, for by it the group is found. Dead letters about which nobody has decided stay.
    FOR gone IN
        SELECT e.group_id FROM offset_event e WHERE e.kind = 'delete' AND e.occurred_at < oldest
          AND NOT EXISTS (SELECT FROM consumer_offset o WHERE o.group_id = e.group_id)
          AND NOT EXISTS (SELECT FROM offset_event n WHERE n.group_id = e.group_id AND n.occurred_at >= oldest)
        GROUP BY 1 LIMIT 10
    LOOP
        CONTINUE WHEN NOT pg_try_advisory_xact_lock(hashtextextended('highwater prune gone ' || gone, 0));
        WITH claims AS (DELETE FROM claim_history d WHERE d.ctid = ANY(ARRAY(
               SELECT h.ctid FROM claim_history h WHERE h.group_id = gone LIMIT portion)) RETURNING 1),
             workers AS (DELETE FROM worker_status d WHERE d.owner = ANY(ARRAY(
               SELECT w.owner FROM worker_status w WHERE w.group_id = gone AND w.heartbeat_at < oldest LIMIT portion)) RETURNING 1),
             orders AS (DELETE FROM partition_control d WHERE d.control_id = ANY(ARRAY(
               SELECT c.control_id FROM partition_control c WHERE c.group_id = gone LIMIT portion)) RETURNING 1),
             mappings AS (DELETE FROM mapping_change d WHERE d.change_id = ANY(ARRAY(
               SELECT c.change_id FROM mapping_change c WHERE c.group_id = gone LIMIT portion)) RETURNING 1),
             plans AS (DELETE FROM offset_plan d WHERE d.plan_id = ANY(ARRAY(
               SELECT p.plan_id FROM offset_plan p WHERE p.group_id = gone LIMIT portion)) RETURNING 1),
             redrives AS (DELETE FROM redrive_request d WHERE d.request_id = ANY(ARRAY(
               SELECT r.request_id FROM redrive_request r WHERE r.group_id = gone LIMIT portion)) RETURNING 1),
             letters AS (DELETE FROM dead_letter d WHERE d.dead_letter_id = ANY(ARRAY(
               SELECT l.dead_letter_id FROM dead_letter l WHERE l.group_id = gone
                 AND l.state IN ('redriven', 'discarded', 'superseded') LIMIT portion)) RETURNING 1)
        SELECT (SELECT count(*) FROM mappings) + (SELECT count(*) FROM claims) + (SELECT count(*) FROM workers) + (SELECT count(*) FROM orders)
             + (SELECT count(*) FROM plans) + (SELECT count(*) FROM redrives) + (SELECT count(*) FROM letters) INTO here;
        IF here = 0 THEN
            DELETE FROM offset_event d WHERE d.group_id = gone;
            GET DIAGNOSTICS here = ROW_COUNT;
        END IF;
        pruned := pruned + here;
    END LOOP;
    RETURN pruned;
END $$;
REVOKE EXECUTE ON FUNCTION prune_history FROM PUBLIC;

-- Deletes payloads that are past their `expires_at`, of any group, with no day of grace: at most `portion`; says how many. Apart from the history:
-- what is somebody's data goes whatever holds up the rest.
CREATE FUNCTION expire_payloads(portion bigint) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER AS $$
    WITH expired AS (DELETE FROM dead_letter_payload d WHERE d.dead_letter_id = ANY(ARRAY(
        SELECT p.dead_letter_id FROM dead_letter_payload p WHERE p.expires_at <= clock_timestamp()
        ORDER BY p.expires_at LIMIT portion FOR UPDATE SKIP LOCKED)) RETURNING 1)
    SELECT count(*) FROM expired;
$$;
REVOKE EXECUTE ON FUNCTION expire_payloads FROM PUBLIC;

-- Names in a function are looked up when it runs: here, and nowhere before.
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION wait_for SET search_path = %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION prune_history SET search_path = %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION expire_payloads SET search_path = %I, pg_temp', current_schema());
END $$;
