-- Highwater schema, version 2: what a person does with a group, as rows. It only adds, so that workers of version 1 run on.

-- A move of offsets as it was decided: absolute positions, from and to. Applying it compares every `from_offset`, in the
-- transaction that sets `state`: whoever applies it twice, or has lost the answer, moves nothing twice.
CREATE TABLE offset_plan (
    plan_id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    group_id        text        NOT NULL,
    target          text        NOT NULL,   -- as it was asked for: --to-earliest, --shift-by -100
    actor           text        NOT NULL,
    reason          text        NOT NULL,
    state           text        NOT NULL DEFAULT 'planned' CHECK (state IN ('planned', 'applied')),
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

ALTER TABLE offset_event ADD COLUMN plan_id bigint;
ALTER TABLE offset_event ALTER COLUMN to_offset DROP NOT NULL;
ALTER TABLE offset_event DROP CONSTRAINT offset_event_kind_check;
ALTER TABLE offset_event ADD CONSTRAINT offset_event_kind_check
    CHECK (kind IN ('start', 'reset', 'adopt', 'skip', 'lost', 'delete')
           AND (to_offset IS NOT NULL OR kind = 'delete'));
