//! What became of records: by where the group stands, its history, and its dead letters.

use std::collections::{BTreeMap, HashMap, HashSet};

use tokio_postgres::Client;

use super::RecordState;
use crate::batch::PartitionKey;
use crate::offsets::read::ReadRecord;
use crate::offsets::reconcile::coverage::Coverage;
use crate::offsets::reconcile::history;
use crate::offsets::reconcile::ledger::chain;
use crate::schema::SchemaName;

/// What was known of the group at the last look.
#[derive(Debug)]
pub(super) struct Standings {
    group: String,
    partitions: HashMap<PartitionKey, Partition>,
    /// Among the records of the last look, those that are dead letters.
    dead: HashSet<(PartitionKey, i64)>,
    redriven: HashSet<(PartitionKey, i64)>,
}

#[derive(Debug)]
struct Partition {
    next_offset: i64,
    last_event_id: i64,
    coverage: Coverage,
}

impl Standings {
    pub(super) fn new(group: &str) -> Self {
        let (partitions, dead, redriven) = (HashMap::new(), HashSet::new(), HashSet::new());
        Self { group: group.to_owned(), partitions, dead, redriven }
    }

    /// Looks what has become of `records` by now.
    pub(super) async fn look(
        &mut self,
        client: &Client,
        schema: &SchemaName,
        records: &[ReadRecord],
    ) -> Result<(), tokio_postgres::Error> {
        let mut ranges: BTreeMap<PartitionKey, (i64, i64)> = BTreeMap::new();
        for record in records {
            let range = ranges.entry(key(record)).or_insert((record.offset, record.offset));
            range.1 = record.offset;
        }
        let keys: Vec<PartitionKey> = ranges.keys().cloned().collect();
        let (topics, partitions) = crate::claim::columns(&keys);
        let sql = format!(
            "SELECT o.topic, o.partition, o.next_offset, coalesce((SELECT max(e.event_id) FROM {} e \
               WHERE e.group_id = o.group_id AND e.topic = o.topic AND e.partition = o.partition), 0) \
             FROM {} o JOIN unnest($2::text[], $3::int4[]) AS w(topic, partition) USING (topic, partition) \
             WHERE o.group_id = $1",
            schema.qualified("offset_event"),
            schema.qualified("consumer_offset"),
        );
        for row in client.query(&sql, &[&self.group, &topics, &partitions]).await? {
            let key = PartitionKey { topic: row.get::<_, &str>(0).into(), partition: row.get(1) };
            let (next_offset, last_event_id) = (row.get(2), row.get(3));
            match self.partitions.get_mut(&key) {
                Some(known) if known.last_event_id == last_event_id => known.next_offset = next_offset,
                _ => {
                    let coverage = self.coverage(client, schema, &key).await?;
                    self.partitions.insert(key, Partition { next_offset, last_event_id, coverage });
                }
            }
        }
        self.look_for_dead(client, schema, &ranges).await
    }

    /// Which offsets were stepped over: a move is an event, and commits change nothing in it.
    async fn coverage(
        &self,
        client: &Client,
        schema: &SchemaName,
        key: &PartitionKey,
    ) -> Result<Coverage, tokio_postgres::Error> {
        let (kept, _) = history::kept(client, schema, &self.group).await?;
        let which = (self.group.as_str(), &*key.topic, &[key.partition][..]);
        let mut histories = history::read(client, schema, which).await?;
        let history = histories.remove(&key.partition).unwrap_or_default();
        Ok(Coverage::new(&chain(history, kept)))
    }

    async fn look_for_dead(
        &mut self,
        client: &Client,
        schema: &SchemaName,
        ranges: &BTreeMap<PartitionKey, (i64, i64)>,
    ) -> Result<(), tokio_postgres::Error> {
        self.dead.clear();
        self.redriven.clear();
        let topics: Vec<&str> = ranges.keys().map(|key| &*key.topic).collect();
        let partitions: Vec<i32> = ranges.keys().map(|key| key.partition).collect();
        let (from, to): (Vec<i64>, Vec<i64>) = ranges.values().copied().unzip();
        let sql = format!(
            "SELECT d.topic, d.partition, d.record_offset, d.state = 'redriven' FROM {} d \
             JOIN unnest($2::text[], $3::int4[], $4::int8[], $5::int8[]) AS w(topic, partition, low, high) \
               ON d.topic = w.topic AND d.partition = w.partition AND d.record_offset BETWEEN w.low AND w.high \
             JOIN {} t ON t.group_id = d.group_id AND t.topic = d.topic AND coalesce(t.topic_id, '') = d.topic_id \
             WHERE d.group_id = $1 AND d.state <> 'superseded'",
            schema.qualified("dead_letter"),
            schema.qualified("group_topic"),
        );
        for row in client.query(&sql, &[&self.group, &topics, &partitions, &from, &to]).await? {
            let key = PartitionKey { topic: row.get::<_, &str>(0).into(), partition: row.get(1) };
            let which = if row.get(3) { &mut self.redriven } else { &mut self.dead };
            which.insert((key, row.get(2)));
        }
        Ok(())
    }

    /// What became of one of the records of the last look.
    pub(super) fn of(&self, record: &ReadRecord) -> RecordState {
        let key = key(record);
        let Some(partition) = self.partitions.get(&key) else { return RecordState::Ahead };
        if record.offset >= partition.next_offset {
            return RecordState::Ahead;
        }
        let place = (key, record.offset);
        if self.dead.contains(&place) {
            return RecordState::Dead;
        }
        if self.redriven.contains(&place) {
            return RecordState::Applied;
        }
        let segments = &partition.coverage.segments;
        let at = segments.partition_point(|segment| segment.to <= record.offset);
        match segments.get(at).filter(|segment| segment.max == 0) {
            Some(segment) if segment.stepped_over.as_deref() == Some("lost") => RecordState::Lost,
            Some(segment) if segment.stepped_over.is_some() => RecordState::Skipped,
            Some(segment) if segment.before_start.is_some() => RecordState::Before,
            _ => RecordState::Applied,
        }
    }
}

fn key(record: &ReadRecord) -> PartitionKey {
    PartitionKey { topic: std::sync::Arc::clone(&record.topic), partition: record.partition }
}
