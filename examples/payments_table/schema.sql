-- The sinks of the `payments_table` example.
CREATE TABLE IF NOT EXISTS payments (
    merchant_id      text        NOT NULL,
    tx_id            text        NOT NULL,
    amount_cents     bigint      NOT NULL,
    source_partition integer     NOT NULL,
    source_offset    bigint      NOT NULL,
    paid_at          timestamptz
);
-- A batch's rows are sorted by this key, so that they go into the index as neighbours.
CREATE UNIQUE INDEX IF NOT EXISTS payments_key ON payments (merchant_id, tx_id);
CREATE TABLE IF NOT EXISTS latest_payments (
    merchant_id  text   PRIMARY KEY,
    tx_id        text   NOT NULL,
    amount_cents bigint NOT NULL
);
