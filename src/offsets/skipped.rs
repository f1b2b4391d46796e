//! What is skipped is kept: the records, whole, as dead letters, in the transaction that steps over them (EO-9).

use std::collections::HashMap;

use tokio_postgres::{Error as PostgresError, Transaction};

use super::Offsets;
use super::read::{Content, ReadRecord, Reader};
use super::rows::Standing;
use crate::batch::PartitionKey;
use crate::dead_letter::{Deed, Letter, Payload, Store};
use crate::error::{Error, Result};
use crate::schema::SchemaName;

/// How many records, and bytes of them, one command keeps: they are held in memory until they are written.
const RECORDS: usize = 100_000;
const BYTES: usize = 256 << 20;
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
        let store = Store::whole(schema);
        let statement = transaction.prepare(&store.sql).await?;
        let reason = format!("skipped by {}: {}", because.actor, because.reason);
        let later: Vec<Letter<'_>> = self
            .records
            .iter()
            .filter(|record| record.offset >= from)
            .map(|record| self.letter(record, group, &reason))
            .collect();
        store.write(transaction, &statement, &later).await?;
        Ok(later.len() as u64)
    }

    fn letter<'a>(&'a self, record: &'a ReadRecord, group: &'a str, reason: &'a str) -> Letter<'a> {
        let headers = record.headers.iter().map(|(name, value)| (name.as_slice(), value.as_deref()));
        Letter {
            group,
            topic: &record.topic,
            topic_id: Some(&self.topic_id),
            partition: record.partition,
            offset: record.offset,
            payload: Payload {
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers: headers.collect(),
                timestamp_ms: record.timestamp_ms,
                timestamp_type: record.timestamp_type,
            },
            fingerprint: FINGERPRINT,
            sqlstate: None,
            reason,
            handler: None,
            worker: None,
            deed: Deed::Skip,
        }
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
