//! Keys that wait: those of which a record is a dead letter, so that later records of theirs are parked behind it
//! (`park_key`).
//!
//! A worker knows the keys of a partition from the tables, read under its claim, so that nobody else adds to them; and
//! reads them anew when it has stored a dead letter. Whoever discards or redrives one takes it away without telling: so
//! every transaction that parks a record sees to it, by a lock, that its key waits still.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tokio_postgres::{Error, Row};

use super::Rejection;
use crate::batch::PartitionKey;
use crate::db::{Db, DbError};
use crate::{Batch, Tx};

/// That a dead letter `e` waits for somebody's decision, or behind one that does.
pub(crate) const WAITING: &str = "e.state IN ('open', 'parked', 'queued')";

/// That a dead letter `e` waits which is an earlier one of the key of `d`.
pub(crate) fn earlier() -> String {
    format!(
        "e.group_id = d.group_id AND e.topic = d.topic AND e.partition = d.partition AND e.topic_id IN ('', d.topic_id) \
         AND e.key_hash = d.key_hash AND e.record_offset < d.record_offset AND {WAITING}"
    )
}

/// With this begins the reason of what is parked.
pub(crate) const PARKED: &str = "parked: ";

/// Of a record's key.
pub(crate) type KeyHash = [u8; 32];

/// A partition's keys that wait, and what a record that is parked behind one of them says.
#[derive(Debug, Default)]
pub(crate) struct WaitingKeys(HashMap<KeyHash, Arc<Rejection>>);

impl WaitingKeys {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Behind what a record of this key is parked. One without a key is in no order with any other.
    pub(crate) fn behind(&self, key: Option<&[u8]>) -> Option<&Arc<Rejection>> {
        self.0.get(&hash(key?))
    }

    #[cfg(test)]
    pub(crate) fn of(keys: &[&[u8]]) -> Self {
        let why = Rejection { reason: "parked".to_owned(), sqlstate: None, fingerprint: "kind".to_owned() };
        Self(keys.iter().map(|key| (hash(key), Arc::new(why.clone()))).collect())
    }
}

pub(crate) fn hash(key: &[u8]) -> KeyHash {
    Sha256::digest(key).into()
}

/// The statements.
#[derive(Debug)]
pub(crate) struct Keys {
    group: String,
    read: String,
    still: String,
}

impl Keys {
    pub(crate) fn new(db: &Db) -> Self {
        let [letters, topics] = ["dead_letter", "group_topic"].map(|table| db.schema.qualified(table));
        let waits = "d.state IN ('open', 'parked', 'queued') AND d.key_hash IS NOT NULL";
        Self {
            read: format!(
                "SELECT DISTINCT ON (d.topic, d.partition, d.key_hash) d.topic, d.partition, d.key_hash, d.record_offset, \
                   d.fingerprint \
                 FROM unnest($2::text[], $3::int4[]) AS h(topic, partition) \
                 JOIN {letters} d ON d.group_id = $1 AND d.topic = h.topic AND d.partition = h.partition AND {waits} \
                 LEFT JOIN {topics} t ON t.group_id = d.group_id AND t.topic = d.topic \
                 WHERE d.topic_id IN ('', coalesce(t.topic_id, '')) \
                 ORDER BY d.topic, d.partition, d.key_hash, d.record_offset"
            ),
            // One of each key, the last; whoever decides about it now is waited for. Locked in the order of their numbers,
            // as everybody does.
            still: format!(
                "WITH last AS MATERIALIZED ( \
                   SELECT (SELECT d.dead_letter_id FROM {letters} d LEFT JOIN {topics} t ON t.group_id = $1 AND t.topic = k.topic \
                     WHERE d.group_id = $1 AND d.topic = k.topic AND d.partition = k.partition AND d.key_hash = k.key_hash \
                       AND {waits} AND d.topic_id IN ('', coalesce(t.topic_id, '')) \
                     ORDER BY d.record_offset DESC LIMIT 1) AS dead_letter_id \
                   FROM unnest($2::text[], $3::int4[], $4::bytea[]) AS k(topic, partition, key_hash)) \
                 SELECT FROM {letters} d WHERE d.dead_letter_id IN (SELECT dead_letter_id FROM last) AND {waits} \
                 ORDER BY d.dead_letter_id FOR SHARE"
            ),
            group: db.identity.group.to_string(),
        }
    }

    /// The keys that wait in these partitions; of one that is missing there are none.
    pub(crate) async fn read(
        &self,
        db: &Db,
        partitions: &[PartitionKey],
    ) -> Result<HashMap<PartitionKey, WaitingKeys>, DbError> {
        let topics: Vec<&str> = partitions.iter().map(|key| &*key.topic).collect();
        let numbers: Vec<i32> = partitions.iter().map(|key| key.partition).collect();
        let client = db.control().await?;
        let rows = client.query(&self.read, &[&self.group, &topics, &numbers]).await?;
        let mut found: HashMap<PartitionKey, WaitingKeys> = HashMap::new();
        for row in &rows {
            let key = PartitionKey { topic: row.get::<_, &str>(0).into(), partition: row.get(1) };
            let Ok(hash) = KeyHash::try_from(row.get::<_, &[u8]>(2)) else { continue };
            found.entry(key).or_default().0.insert(hash, Arc::new(behind(row)));
        }
        Ok(found)
    }

    /// Whether each key of which the batch parks a record waits still; then it does until the transaction's end.
    pub(crate) async fn still_wait(&self, tx: &Tx, batch: &Batch) -> Result<bool, Error> {
        let mut keys: BTreeSet<(&PartitionKey, KeyHash)> = BTreeSet::new();
        for part in &batch.parts {
            keys.extend(part.parked().filter_map(|(record, _)| Some((&part.key, hash(record.key()?)))));
        }
        let topics: Vec<&str> = keys.iter().map(|(key, _)| &*key.topic).collect();
        let partitions: Vec<i32> = keys.iter().map(|(key, _)| key.partition).collect();
        let hashes: Vec<&[u8]> = keys.iter().map(|(_, hash)| &hash[..]).collect();
        let client = tx.raw();
        let statement = client.prepare_cached(&self.still).await?;
        let found = client.query(&statement, &[&self.group, &topics, &partitions, &hashes]).await?;
        Ok(found.len() == keys.len())
    }
}

/// What a record says that is parked behind this one: of its kind, for whoever sees to the kind sees to both.
fn behind(row: &Row) -> Rejection {
    let offset: i64 = row.get(3);
    Rejection {
        reason: format!("{PARKED}the record at offset {offset} is a dead letter of its key"),
        sqlstate: None,
        fingerprint: row.get(4),
    }
}
