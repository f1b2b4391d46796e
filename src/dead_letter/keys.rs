//! Keys that wait: those of which a record is a dead letter, so that later records of theirs are parked behind it
//! (`park_key`).
//!
//! A worker knows the keys of a partition from the tables, read under its claim, so that nobody else adds to them; and
//! reads them anew when one of its records was rejected. Whoever discards or redrives a letter takes it away without
//! telling: so every transaction that parks a record sees to it, by a lock, that its key waits still.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tokio_postgres::Error;

use super::{Rejection, up_to};
use crate::batch::{ClaimId, PartitionKey};
use crate::db::{Db, DbError};
use crate::{Batch, Tx};

/// That a dead letter waits for somebody's decision, or behind one that does.
pub(crate) const WAITS: &str = "state IN ('open', 'parked', 'queued')";

/// With this begins the reason of what is parked.
pub(crate) const PARKED: &str = "parked: ";

/// That two dead letters are of one key of a partition; see [`of_topic`](super::of_topic), too.
pub(crate) fn same_key(one: &str, other: &str) -> String {
    format!(
        "{one}.group_id = {other}.group_id AND {one}.topic = {other}.topic AND {one}.partition = {other}.partition \
         AND {one}.key_hash = {other}.key_hash"
    )
}

/// Of a record's key.
pub(crate) type KeyHash = [u8; 32];

/// A partition's keys that wait: which dead letter of each is the first. Some 80 bytes a key, for there may be many.
#[derive(Debug, Default)]
pub(crate) struct WaitingKeys(HashMap<KeyHash, Behind>);

/// The first dead letter of a key, as of what is parked behind it.
#[derive(Debug, Clone)]
pub(crate) struct Behind {
    offset: i64,
    kind: Arc<str>,
}

impl Behind {
    /// What a record says that is parked behind it: of its kind, for whoever sees to the kind sees to both.
    pub(crate) fn rejection(&self) -> Rejection {
        Rejection {
            reason: format!("{PARKED}the record at offset {} was a dead letter of its key", self.offset),
            sqlstate: None,
            fingerprint: self.kind.to_string(),
        }
    }
}

impl WaitingKeys {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Behind what the record of this key at this offset is parked. One without a key is in no order with any other, and a
    /// letter that lies ahead, as of a group that begins anew, holds up nothing.
    pub(crate) fn behind(&self, key: Option<&[u8]>, offset: i64) -> Option<&Behind> {
        self.0.get(&hash(key?)).filter(|first| first.offset < offset)
    }

    #[cfg(test)]
    pub(crate) fn of(keys: &[&[u8]], first: i64) -> Self {
        let first = Behind { offset: first, kind: "kind".into() };
        Self(keys.iter().map(|key| (hash(key), first.clone())).collect())
    }
}

pub(crate) fn hash(key: &[u8]) -> KeyHash {
    Sha256::digest(key).into()
}

/// The statements.
#[derive(Debug)]
pub(crate) struct Keys {
    group: String,
    begin: String,
    read: String,
    still: String,
    redriven: String,
}

impl Keys {
    pub(crate) fn new(db: &Db) -> Self {
        let [letters, topics, offsets, requests, items] =
            ["dead_letter", "group_topic", "consumer_offset", "redrive_request", "redrive_letter"]
                .map(|table| db.schema.qualified(table));
        let waits = format!("d.{WAITS} AND d.key_hash IS NOT NULL");
        let claim = "o.group_id = $1 AND o.topic = h.topic AND o.partition = h.partition AND o.epoch = h.epoch \
                     AND o.claim_token = h.token";
        Self {
            // From here on no record of a key has overtaken another; or it is not so any more.
            begin: format!(
                "UPDATE {offsets} o \
                 SET parking_from = CASE WHEN h.parks THEN least(coalesce(o.parking_from, o.next_offset), o.next_offset) END \
                 FROM unnest($2::text[], $3::int4[], $4::int8[], $5::uuid[], $6::bool[]) AS h(topic, partition, epoch, token, parks) \
                 WHERE {claim}"
            ),
            // Only where the claim is: in an older database it is not.
            read: format!(
                "SELECT DISTINCT ON (h.topic, h.partition, d.key_hash) h.topic, h.partition, d.key_hash, d.record_offset, \
                   d.fingerprint \
                 FROM unnest($2::text[], $3::int4[], $4::int8[], $5::uuid[]) AS h(topic, partition, epoch, token) \
                 JOIN {offsets} o ON {claim} \
                 LEFT JOIN {topics} t ON t.group_id = $1 AND t.topic = h.topic \
                 LEFT JOIN {letters} d ON d.group_id = $1 AND d.topic = h.topic AND d.partition = h.partition AND {waits} \
                   AND d.topic_id IN ('', coalesce(t.topic_id, '')) \
                 ORDER BY h.topic, h.partition, d.key_hash, d.record_offset"
            ),
            // One of each key, the last before what is parked; whoever decides about it now is waited for. Locked in the
            // order of their numbers, as everybody does.
            still: format!(
                "WITH last AS MATERIALIZED ( \
                   SELECT (SELECT d.dead_letter_id FROM {letters} d LEFT JOIN {topics} t ON t.group_id = $1 AND t.topic = k.topic \
                     WHERE d.group_id = $1 AND d.topic = k.topic AND d.partition = k.partition AND d.key_hash = k.key_hash \
                       AND d.record_offset < k.parked AND {waits} AND d.topic_id IN ('', coalesce(t.topic_id, '')) \
                     ORDER BY d.record_offset DESC LIMIT 1) AS dead_letter_id \
                   FROM unnest($2::text[], $3::int4[], $4::bytea[], $5::int8[]) AS k(topic, partition, key_hash, parked)) \
                 SELECT FROM {letters} d WHERE d.dead_letter_id IN (SELECT dead_letter_id FROM last) AND {waits} \
                 ORDER BY d.dead_letter_id FOR SHARE"
            ),
            redriven: format!(
                "SELECT FROM {requests} r CROSS JOIN LATERAL (SELECT {up_to} AS up_to OFFSET 0) u \
                 WHERE r.group_id = $1 AND r.state = 'running' AND EXISTS ( \
                   SELECT FROM {items} i WHERE i.request_id = r.request_id AND i.topic = $2 AND i.partition = $3 \
                     AND i.outcome IS NULL AND i.place <= u.up_to)",
                up_to = up_to(&items)
            ),
            group: db.identity.group.to_string(),
        }
    }

    /// Notes whether these partitions park from now on. Before anything of them is handed out under these claims: by it a
    /// redrive knows which letters nothing has overtaken.
    pub(crate) async fn begin(&self, db: &Db, held: &[(PartitionKey, ClaimId, bool)]) -> Result<(), DbError> {
        let (topics, partitions, epochs, tokens) = columns(held.iter().map(|(key, claim, _)| (key, claim)));
        let parks: Vec<bool> = held.iter().map(|(.., parks)| *parks).collect();
        let client = db.control().await?;
        client.execute(&self.begin, &[&self.group, &topics, &partitions, &epochs, &tokens, &parks]).await?;
        Ok(())
    }

    /// The keys that wait in these partitions; one that is missing is not under this claim.
    pub(crate) async fn read(
        &self,
        db: &Db,
        held: &[(PartitionKey, ClaimId)],
    ) -> Result<HashMap<PartitionKey, WaitingKeys>, DbError> {
        let (topics, partitions, epochs, tokens) = columns(held.iter().map(|(key, claim)| (key, claim)));
        let client = db.control().await?;
        let rows = client.query(&self.read, &[&self.group, &topics, &partitions, &epochs, &tokens]).await?;
        let mut found: HashMap<PartitionKey, WaitingKeys> = HashMap::new();
        // Few, however many keys there are.
        let mut kinds: HashSet<Arc<str>> = HashSet::new();
        for row in &rows {
            let key = PartitionKey { topic: row.get::<_, &str>(0).into(), partition: row.get(1) };
            let keys = found.entry(key).or_default();
            let hash = row.get::<_, Option<&[u8]>>(2).and_then(|hash| KeyHash::try_from(hash).ok());
            if let Some(hash) = hash {
                let kind: &str = row.get(4);
                let kind = kinds.get(kind).cloned().unwrap_or_else(|| kind.into());
                kinds.insert(Arc::clone(&kind));
                keys.0.insert(hash, Behind { offset: row.get(3), kind });
            }
        }
        Ok(found)
    }

    /// Whether each key of which the batch parks a record waits still; then it does until the transaction's end.
    pub(crate) async fn still_wait(&self, tx: &Tx, batch: &Batch) -> Result<bool, Error> {
        // The first of each that is parked.
        let mut keys: BTreeMap<(&PartitionKey, KeyHash), i64> = BTreeMap::new();
        for part in &batch.parts {
            for (record, _) in part.parked() {
                if let Some(key) = record.key() {
                    keys.entry((&part.key, hash(key))).or_insert(record.offset());
                }
            }
        }
        let topics: Vec<&str> = keys.keys().map(|(key, _)| &*key.topic).collect();
        let partitions: Vec<i32> = keys.keys().map(|(key, _)| key.partition).collect();
        let hashes: Vec<&[u8]> = keys.keys().map(|(_, hash)| &hash[..]).collect();
        let parked: Vec<i64> = keys.values().copied().collect();
        let client = tx.raw();
        let statement = client.prepare_cached(&self.still).await?;
        let found = client.query(&statement, &[&self.group, &topics, &partitions, &hashes, &parked]).await?;
        Ok(found.len() == keys.len())
    }

    /// Whether letters of the partition are on the list of a redrive that goes on, and may be taken now.
    pub(crate) async fn is_redriven(&self, db: &Db, key: &PartitionKey) -> Result<bool, DbError> {
        let client = db.control().await?;
        let rows = client.query(&self.redriven, &[&self.group, &&*key.topic, &key.partition]).await?;
        Ok(!rows.is_empty())
    }
}

type Columns<'a> = (Vec<&'a str>, Vec<i32>, Vec<i64>, Vec<uuid::Uuid>);

fn columns<'a>(held: impl Iterator<Item = (&'a PartitionKey, &'a ClaimId)>) -> Columns<'a> {
    let mut columns = Columns::default();
    for (key, claim) in held {
        columns.0.push(&key.topic);
        columns.1.push(key.partition);
        columns.2.push(claim.epoch);
        columns.3.push(claim.token);
    }
    columns
}
