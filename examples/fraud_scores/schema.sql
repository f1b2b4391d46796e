-- The sink of the `fraud_scores` example. No unique key is needed to hide repeats: there are none.
-- source_partition and source_offset say for each row which record it comes from.
CREATE TABLE IF NOT EXISTS fraud_scores (
    merchant_id      text             NOT NULL,
    tx_id            text             NOT NULL,
    score            double precision NOT NULL,
    source_partition integer          NOT NULL,
    source_offset    bigint           NOT NULL
);
CREATE INDEX IF NOT EXISTS fraud_scores_source ON fraud_scores (source_partition, source_offset);
