//! What is skipped is kept: the records, whole, as dead letters, in the transaction that steps over them (EO-9).

use std::collections::HashMap;

use futures_util::future::try_join_all;
use sha2::{Digest, Sha256};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error as PostgresError, Transaction};

use super::Offsets;
use super::read::{Content, ReadRecord, Reader, TimestampType};
use super::rows::Standing;
use crate::batch::PartitionKey;
use crate::error::{Error, Result};
use crate::schema::SchemaName;

/// How many records, and bytes of them, one command keeps: they are held in memory until they are written.
const RECORDS: usize = 100_000;
const BYTES: usize = 256 << 20;
/// How many statements are under way at a time.
const AHEAD: usize = 200;
/// By which dead letters of this kind are found together.
const FINGERPRINT: &str = "skipped by an operator";

/// The records of a partition from where it stood.
#[derive(Debug)]
pub(super) struct Skipped {
    /// Where reading began: what a reset brings back meanwhile is not here.
    pub(super) from: i64,
    topic_id: String,
    records: Vec<ReadRecord>,
}

/// What is to be read on record with each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Because<'a> {
    pub(super) actor: &'a str,
    pub(super) reason: &'a str,
}

impl Offsets {
    /// Reads what lies between where partitions stand and `to`.
    ///
    /// # Errors
    /// If Kafka does not give it, or it is too much to be kept.
    pub(super) async fn read_skipped(
        &self,
        standing: &[Standing],
        to: i64,
    ) -> Result<HashMap<PartitionKey, Skipped>> {
        let mut skipped = HashMap::new();
        let reader = Reader::new(self.kafka()?)?;
        let (mut count, mut bytes) = (0, 0);
        for row in standing.iter().filter(|row| row.next_offset < to) {
            let mut records = Vec::new();
            let mut range = reader
                .range(&row.key, row.next_offset, to, Content::Whole)
                .await
                .map_err(|error| or_not(&error))?;
            while let Some(portion) = range.next().await.map_err(|error| or_not(&error))? {
                count += portion.len();
                bytes += portion.iter().map(size).sum::<usize>();
                if count > RECORDS || bytes > BYTES {
                    return Err(Error::configuration(format!(
                        "what is to be skipped is more than {RECORDS} records or {} MiB, too much to be kept as dead letters, \
                         and nothing was skipped: skip less at a time, or give --no-store",
                        BYTES >> 20
                    )));
                }
                records.extend(portion);
            }
            let topic_id = row.identity.topic_id.clone().unwrap_or_default();
            skipped.insert(row.key.clone(), Skipped { from: row.next_offset, topic_id, records });
        }
        Ok(skipped)
    }
}

impl Skipped {
    /// Writes those from `from` on; says how many.
    pub(super) async fn store(
        &self,
        transaction: &Transaction<'_>,
        schema: &SchemaName,
        group: &str,
        from: i64,
        because: Because<'_>,
    ) -> Result<u64, PostgresError> {
        let insert = format!(
            "WITH letter AS ( \
               INSERT INTO {letters} AS d (group_id, topic, topic_id, partition, record_offset, key_hash, fingerprint, reason) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
               ON CONFLICT (group_id, topic, topic_id, partition, record_offset) DO UPDATE SET \
                 fingerprint = excluded.fingerprint, sqlstate = NULL, reason = excluded.reason, worker = NULL, state = 'open', \
                 attempts = d.attempts + 1, last_at = clock_timestamp(), state_changed_at = clock_timestamp() \
               RETURNING dead_letter_id), \
             attempt AS ( \
               INSERT INTO {attempts} (dead_letter_id, kind, error) SELECT dead_letter_id, 'skip', $8 FROM letter) \
             INSERT INTO {payloads} AS p (dead_letter_id, record_key, record_value, header_names, header_values, timestamp_ms, \
               timestamp_type) SELECT dead_letter_id, $9, $10, $11, $12, $13, $14 FROM letter \
             ON CONFLICT (dead_letter_id) DO UPDATE SET record_key = excluded.record_key, \
               record_value = excluded.record_value, header_names = excluded.header_names, \
               header_values = excluded.header_values, timestamp_ms = excluded.timestamp_ms, \
               timestamp_type = excluded.timestamp_type, expires_at = NULL",
            letters = schema.qualified("dead_letter"),
            attempts = schema.qualified("dead_letter_attempt"),
            payloads = schema.qualified("dead_letter_payload"),
        );
        let statement = transaction.prepare(&insert).await?;
        let reason = format!("skipped by {}: {}", because.actor, because.reason);
        let later: Vec<&ReadRecord> = self.records.iter().filter(|record| record.offset >= from).collect();
        for portion in later.chunks(AHEAD) {
            try_join_all(portion.iter().map(|record| {
                let (statement, reason) = (&statement, &reason);
                async move {
                    let key_hash = record.key.as_ref().map(|key| Sha256::digest(key).to_vec());
                    let (names, values): (Vec<&[u8]>, Vec<Option<&[u8]>>) = record
                        .headers
                        .iter()
                        .map(|(name, value)| (name.as_slice(), value.as_deref()))
                        .unzip();
                    let kind = record.timestamp_type.map(|kind| match kind {
                        TimestampType::CreateTime => 0_i16,
                        TimestampType::LogAppendTime => 1,
                    });
                    let parameters: [&(dyn ToSql + Sync); 14] = [
                        &group,
                        &&*record.topic,
                        &self.topic_id,
                        &record.partition,
                        &record.offset,
                        &key_hash,
                        &FINGERPRINT,
                        reason,
                        &record.key,
                        &record.value,
                        &names,
                        &values,
                        &record.timestamp_ms,
                        &kind,
                    ];
                    transaction.execute(statement, &parameters).await
                }
            }))
            .await?;
        }
        Ok(later.len() as u64)
    }
}

fn size(record: &ReadRecord) -> usize {
    let of = |bytes: Option<usize>| bytes.unwrap_or_default();
    let headers = record.headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len));
    of(record.key_len) + of(record.value_len) + headers.sum::<usize>()
}

/// What cannot be read can still be skipped.
fn or_not(error: &Error) -> Error {
    let text = format!(
        "could not read what is to be skipped, and nothing was; to skip it without keeping it: --no-store; {}",
        error.report()
    );
    Error::new(error.kind(), text)
}
