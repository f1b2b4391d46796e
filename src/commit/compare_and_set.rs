//! The fence: offsets move only from where the batch starts, only under its claim (EO-2, EO-3).

use tokio_postgres::Error;

use crate::batch::{EpochMark, Part};
use crate::db::Db;
use crate::tx::protected;
use crate::{Batch, Tx};

/// The statement that moves the offsets of a batch's partitions.
#[derive(Debug)]
pub(super) struct CompareAndSet {
    sql: String,
    group: String,
}

impl CompareAndSet {
    pub(super) fn new(db: &Db) -> Self {
        let offsets = db.schema.qualified("consumer_offset");
        // The rows are locked in key order (an UPDATE alone gives none, PITFALLS 22). Under READ COMMITTED the
        // conditions are evaluated again on the row version that a lock wait ends with (PITFALLS 21); they stand
        // in the UPDATE too, whose snapshot is the older one.
        // The transaction's id is the back-stop against a handler that smuggled in a COMMIT (PITFALLS 20), the protected
        // settings against one that weakened it by words that the guard cannot read. What the conditions rest on has its
        // schema: the search path may be the handler's.
        let fence = "o.next_offset OPERATOR(pg_catalog.=) b.from_offset AND o.epoch OPERATOR(pg_catalog.=) b.epoch \
                     AND o.claim_token OPERATOR(pg_catalog.=) b.claim_token";
        let tx = format!(
            "pg_catalog.pg_current_xact_id() OPERATOR(pg_catalog.=) $11::pg_catalog.text::pg_catalog.xid8 \
             AND {} OPERATOR(pg_catalog.=) $13::pg_catalog.text::pg_catalog.text[]",
            protected::values()
        );
        let sql = format!(
            "WITH batch AS ( \
               SELECT * FROM unnest($2::text[], $3::int4[], $4::int8[], $5::int8[], $6::int8[], $7::uuid[], $8::int4[], $9::int8[], $10::int8[], $12::int8[]) \
                 AS b(topic, partition, from_offset, to_offset, epoch, claim_token, leader_epoch, record_ms, records, leader_epoch_offset)), \
             locked AS ( \
               SELECT b.* FROM batch b JOIN {offsets} o ON o.topic = b.topic AND o.partition = b.partition \
               WHERE o.group_id = $1 AND {fence} AND {tx} \
               ORDER BY o.topic, o.partition FOR UPDATE OF o) \
             UPDATE {offsets} o SET next_offset = b.to_offset, \
               leader_epoch = CASE WHEN b.records > 0 THEN b.leader_epoch ELSE o.leader_epoch END, \
               leader_epoch_offset = CASE WHEN b.records > 0 THEN b.leader_epoch_offset ELSE o.leader_epoch_offset END, \
               record_timestamp = coalesce(to_timestamp(b.record_ms / 1000.0), o.record_timestamp), \
               applied_records = o.applied_records + b.records, applied_batches = o.applied_batches + 1, \
               committed_at = clock_timestamp() \
             FROM locked b WHERE o.group_id = $1 AND o.topic = b.topic AND o.partition = b.partition AND {fence}"
        );
        Self { sql, group: db.identity.group.to_string() }
    }

    /// How many of the batch's partitions were moved. Anything but all of them must not be committed.
    pub(super) async fn run(&self, tx: &Tx, batch: &Batch) -> Result<usize, Error> {
        let parts = &batch.parts;
        let topics: Vec<&str> = parts.iter().map(|part| &*part.key.topic).collect();
        let partitions: Vec<i32> = parts.iter().map(|part| part.key.partition).collect();
        let from: Vec<i64> = parts.iter().map(|part| part.from.get()).collect();
        let to: Vec<i64> = parts.iter().map(|part| part.to.get()).collect();
        let epochs: Vec<i64> = parts.iter().map(|part| part.claim.epoch).collect();
        let tokens: Vec<uuid::Uuid> = parts.iter().map(|part| part.claim.token).collect();
        let (marks, record_ms): (Vec<Option<EpochMark>>, Vec<Option<i64>>) =
            parts.iter().map(Part::last_marks).unzip();
        let leader_epochs: Vec<Option<i32>> =
            marks.iter().map(|mark| mark.map(|mark| mark.leader_epoch)).collect();
        let epoch_offsets: Vec<Option<i64>> =
            marks.iter().map(|mark| mark.map(|mark| mark.at.get())).collect();
        let records: Vec<i64> =
            parts.iter().map(|part| i64::try_from(part.all()).unwrap_or(i64::MAX)).collect();
        let client = tx.raw();
        let statement = client.prepare_cached(&self.sql).await?;
        let moved = client
            .execute(
                &statement,
                &[
                    &self.group,
                    &topics,
                    &partitions,
                    &from,
                    &to,
                    &epochs,
                    &tokens,
                    &leader_epochs,
                    &record_ms,
                    &records,
                    &tx.xact_id(),
                    &epoch_offsets,
                    &tx.protected(),
                ],
            )
            .await?;
        Ok(usize::try_from(moved).unwrap_or(usize::MAX))
    }
}
