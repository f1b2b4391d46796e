-- Yours, beside what `highwater migrate` makes. GRANT INSERT ON payments TO the worker's role.
CREATE TABLE payments (
    tx_id            text    NOT NULL,
    amount_cents     bigint  NOT NULL,
    source_partition integer NOT NULL,
    source_offset    bigint  NOT NULL,
    UNIQUE (source_partition, source_offset)
);
