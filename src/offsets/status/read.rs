//! What there is to see of a group, in the database and in Kafka.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use super::LastEvent;
use crate::batch::PartitionKey;
use crate::config::epoch_ms;
use crate::db::{REPORT_COUNTS, live_in_snapshot};
use crate::error::{Error, Result};
use crate::health::Class;
use crate::offsets::healths::readable;
use crate::offsets::waiting_letters::OfPartitions;
use crate::offsets::{Offsets, utc};

/// How long Kafka may take to show the next records of partitions that nobody holds.
const PEEK: Duration = Duration::from_secs(3);
/// Of how many partitions.
const PEEKED: usize = 64;
/// Rows of the same deed were written within so many seconds.
const DEED_SECONDS: i32 = 10;

/// A partition's row, and what its worker and Kafka say.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) next_offset: i64,
    pub(super) owner: Option<String>,
    pub(super) owner_live: bool,
    pub(super) host: Option<String>,
    pub(super) halted: bool,
    pub(super) paused_reason: Option<String>,
    /// What its worker has said of the present claim, or of its halt.
    pub(super) state: Option<String>,
    pub(super) detail: Option<String>,
    pub(super) state_seconds: Option<f64>,
    pub(super) log_start: Option<i64>,
    pub(super) log_end: Option<i64>,
    pub(super) leaderless: bool,
    /// Of the next record.
    pub(super) age_seconds: Option<f64>,
    pub(super) seconds_since_commit: Option<f64>,
    pub(super) committed_at: Option<String>,
    /// How it is doing; `None` where this role may not know.
    pub(super) class: Option<Class>,
    pub(super) reason: Option<String>,
    /// What becomes of a record that is rejected.
    pub(super) on_rejected: Option<String>,
}

/// A live process.
#[derive(Debug, Clone, Default)]
pub(super) struct SeenWorker {
    pub(super) owner: String,
    pub(super) host: String,
    pub(super) version: String,
    pub(super) ready: bool,
    pub(super) detail: Option<String>,
}

/// The newest heartbeat of a group.
#[derive(Debug, Clone, Default)]
pub(super) struct LastBeat {
    pub(super) host: String,
    pub(super) process_id: i32,
    pub(super) at: Option<String>,
    pub(super) seconds: f64,
    /// It was its last on purpose.
    pub(super) stopped: bool,
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Sight {
    /// `None`: no brokers are configured.
    pub(super) kafka_answers: Option<bool>,
    pub(super) partitions: Vec<Seen>,
    pub(super) workers: Vec<SeenWorker>,
    /// Where nobody is live.
    pub(super) last_beat: Option<LastBeat>,
    pub(super) dead_letters: Option<OfPartitions>,
    pub(super) last_event: Option<LastEvent>,
}

impl Offsets {
    pub(super) async fn see(&mut self, group: &str) -> Result<Sight> {
        let failed = |source| Error::postgres(format!("read how group `{group}` stands"), source);
        let (partitions, workers) = self.rows_of(group).await.map_err(failed)?;
        if partitions.is_empty() {
            return Err(self.unknown_group(group).await);
        }
        let mut sight = Sight { partitions, workers, ..Sight::default() };
        if sight.workers.is_empty() {
            sight.last_beat = self.last_beat(group).await.map_err(failed)?;
        }
        // A monitor's role may lack a right on these: the rest is worth knowing all the same.
        sight.dead_letters = self.waiting_letters(group).await.map_err(failed)?;
        sight.last_event = readable(self.last_event(group).await).map_err(failed)?.flatten();
        if let Some(mut healths) = self.healths(group).await.map_err(failed)? {
            for seen in &mut sight.partitions {
                let Some(health) = healths.remove(&(seen.topic.clone(), seen.partition)) else { continue };
                (seen.class, seen.reason) = (Some(health.class), health.reason);
                seen.age_seconds = health.lag_seconds.filter(|age| *age > 0.0).or(seen.age_seconds);
            }
        }
        self.add_kafka(&mut sight).await;
        Ok(sight)
    }

    /// In one snapshot.
    async fn rows_of(&mut self, group: &str) -> Result<(Vec<Seen>, Vec<SeenWorker>), tokio_postgres::Error> {
        let schema = self.database.schema.clone();
        let of_partitions = format!(
            "SELECT o.topic, o.partition, o.next_offset, o.owner::text, {live}, w.host, o.halted, o.paused_reason, \
               s.state, s.detail, extract(epoch FROM clock_timestamp() - s.updated_at)::float8, s.log_end_offset, \
               extract(epoch FROM clock_timestamp() - s.next_record_timestamp)::float8, \
               extract(epoch FROM clock_timestamp() - o.committed_at)::float8, {committed_at}, s.on_rejected \
             FROM {offsets} o LEFT JOIN {status} s ON s.group_id = o.group_id AND s.topic = o.topic \
               AND s.partition = o.partition AND {REPORT_COUNTS} \
             LEFT JOIN {workers} w ON w.owner = o.owner WHERE o.group_id = $1 ORDER BY o.topic, o.partition",
            live = live_in_snapshot(&schema, "o.owner"),
            committed_at = utc("o.committed_at"),
            offsets = schema.qualified("consumer_offset"),
            status = schema.qualified("partition_status"),
            workers = schema.qualified("worker_status"),
        );
        let of_workers = format!(
            "SELECT p.owner::text, p.host, p.version, p.ready, p.detail FROM {workers} p \
             WHERE p.group_id = $1 AND {live} ORDER BY p.host, p.process_id",
            live = live_in_snapshot(&schema, "p.owner"),
            workers = schema.qualified("worker_status"),
        );
        let snapshot = self
            .client
            .build_transaction()
            .isolation_level(tokio_postgres::IsolationLevel::RepeatableRead)
            .read_only(true)
            .start()
            .await?;
        let partitions = snapshot.query(&of_partitions, &[&group]).await?;
        let workers = snapshot.query(&of_workers, &[&group]).await?;
        snapshot.commit().await?;
        let partitions = partitions.iter().map(|row| Seen {
            topic: row.get(0),
            partition: row.get(1),
            next_offset: row.get(2),
            owner: row.get(3),
            owner_live: row.get(4),
            host: row.get(5),
            halted: row.get(6),
            paused_reason: row.get(7),
            state: row.get(8),
            detail: row.get(9),
            state_seconds: row.get(10),
            log_start: None,
            log_end: row.get(11),
            leaderless: false,
            age_seconds: row.get(12),
            seconds_since_commit: row.get(13),
            committed_at: row.get(14),
            on_rejected: row.get(15),
            class: None,
            reason: None,
        });
        let workers = workers.iter().map(|row| SeenWorker {
            owner: row.get(0),
            host: row.get(1),
            version: row.get(2),
            ready: row.get(3),
            detail: row.get(4),
        });
        Ok((partitions.collect(), workers.collect()))
    }

    async fn last_beat(&self, group: &str) -> Result<Option<LastBeat>, tokio_postgres::Error> {
        let sql = format!(
            "SELECT host, process_id, {at}, extract(epoch FROM clock_timestamp() - heartbeat_at)::float8, \
               stopped_at IS NOT NULL \
             FROM {workers} WHERE group_id = $1 ORDER BY heartbeat_at DESC LIMIT 1",
            at = utc("heartbeat_at"),
            workers = self.schema().qualified("worker_status"),
        );
        let row = self.client.query_opt(&sql, &[&group]).await?;
        Ok(row.map(|row| LastBeat {
            host: row.get(0),
            process_id: row.get(1),
            at: row.get(2),
            seconds: row.get(3),
            stopped: row.get(4),
        }))
    }

    /// The newest of what people have told the workers, and of the moves that were no commits.
    async fn last_event(&self, group: &str) -> Result<Option<LastEvent>, tokio_postgres::Error> {
        let sql = format!(
            "WITH deed AS ( \
               SELECT verb AS kind, actor, reason, requested_at AS at, topic, partition FROM {control} WHERE group_id = $1 \
               UNION ALL \
               SELECT kind, actor, reason, occurred_at, topic, partition FROM {events} \
               WHERE group_id = $1 AND kind <> 'start'), \
             newest AS (SELECT * FROM deed ORDER BY at DESC LIMIT 1) \
             SELECT n.kind, n.actor, n.reason, {at}, extract(epoch FROM clock_timestamp() - n.at)::float8, n.topic, \
               n.partition, (SELECT count(DISTINCT (d.topic, d.partition)) FROM deed d WHERE d.kind = n.kind \
                 AND d.actor = n.actor AND d.reason = n.reason AND d.at > n.at - interval '{DEED_SECONDS} s') \
             FROM newest n",
            control = self.schema().qualified("partition_control"),
            events = self.schema().qualified("offset_event"),
            at = utc("n.at"),
        );
        let row = self.client.query_opt(&sql, &[&group]).await?;
        Ok(row.map(|row| LastEvent {
            kind: row.get(0),
            actor: row.get(1),
            reason: row.get(2),
            at: row.get(3),
            seconds: row.get(4),
            topic: row.get(5),
            partition: row.get(6),
            partitions: row.get(7),
        }))
    }

    /// Where the logs begin and end, and how old the next records are of which no worker tells.
    async fn add_kafka(&self, sight: &mut Sight) {
        let Some(catalog) = &self.catalog else { return };
        let key = |seen: &Seen| PartitionKey { topic: seen.topic.as_str().into(), partition: seen.partition };
        let keys: Vec<PartitionKey> = sight.partitions.iter().map(key).collect();
        let survey = catalog.survey(&keys).await;
        sight.kafka_answers = Some(survey.is_ok());
        let Ok(survey) = survey else { return };
        let mut unknown = Vec::new();
        for (seen, key) in sight.partitions.iter_mut().zip(keys) {
            seen.leaderless = survey.leaderless.contains(&key);
            if let Some(available) = survey.available.get(&key) {
                seen.log_start = Some(available.low.get());
                seen.log_end = Some(available.end.get());
            }
            let lags = seen.log_end.is_some_and(|end| end > seen.next_offset);
            if lags && seen.age_seconds.is_none() && unknown.len() < PEEKED {
                unknown.push((key, seen.next_offset));
            }
        }
        if unknown.is_empty() {
            return;
        }
        let found: HashMap<PartitionKey, i64> = catalog.peek(unknown, PEEK).await.unwrap_or_default();
        let now = epoch_ms(SystemTime::now());
        for seen in &mut sight.partitions {
            if let Some(at) = found.get(&key(seen)) {
                // Milliseconds since 1970 fit a float exactly for another 285,000 years.
                #[allow(clippy::cast_precision_loss)]
                let age = (now - at).max(0) as f64 / 1_000.0;
                seen.age_seconds = Some(age);
            }
        }
    }
}
