//! The heartbeat: one row per process, every second, by which others know that it is live; its answer tells an
//! idle worker that a claim of its own was taken. Also the reports per partition, and pruning.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool_postgres::Object;
use tokio::sync::mpsc;

use super::status::StatusBoard;
use super::{PartitionState, Phase};
use crate::batch::{ClaimId, PartitionKey};
use crate::config::Config;
use crate::consumer::PartitionBuffer;
use crate::db::DbError;
use crate::db::{Db, Lease};
use crate::failpoint::failpoint;

/// Heartbeats; *live* means younger than three of them.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often history is pruned.
const PRUNE_INTERVAL: Duration = Duration::from_secs(600);

/// The claims that this process holds, shared with the heartbeat: their buffers, which know what is durable.
#[derive(Debug, Default)]
pub(super) struct HeldClaims(Mutex<HashMap<PartitionKey, Arc<PartitionBuffer>>>);

impl HeldClaims {
    pub(super) fn hold(&self, buffer: Arc<PartitionBuffer>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(buffer.key.clone(), buffer);
    }

    /// Forgets a claim; a later one of the same partition stays.
    pub(super) fn drop_if(&self, key: &PartitionKey, claim: ClaimId) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.get(key).is_some_and(|buffer| buffer.claim == claim) {
            held.remove(key);
        }
    }

    fn sorted(&self) -> Vec<Arc<PartitionBuffer>> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut held: Vec<_> = held.values().cloned().collect();
        held.sort_by(|a, b| a.key.cmp(&b.key));
        held
    }
}

/// A claim that the database no longer holds for us, or not where we left it.
#[derive(Debug)]
pub(super) struct TakenClaim {
    pub(super) key: PartitionKey,
    pub(super) claim: ClaimId,
    /// Another process holds it now, and is live.
    pub(super) by_live_other: bool,
    pub(super) by_other: bool,
}

/// Writes the rows.
pub(super) struct Heartbeat {
    db: Arc<Db>,
    board: Arc<StatusBoard>,
    held: Arc<HeldClaims>,
    taken: mpsc::UnboundedSender<TakenClaim>,
    program: String,
    host: String,
    retention: Duration,
    reported: HashMap<PartitionKey, (PartitionState, Option<String>)>,
    beat: String,
    lost: String,
    report: String,
    prune: [String; 2],
}

impl Heartbeat {
    pub(super) fn new(
        db: Arc<Db>,
        board: Arc<StatusBoard>,
        held: Arc<HeldClaims>,
        taken: mpsc::UnboundedSender<TakenClaim>,
        config: &Config,
    ) -> Self {
        let status = db.schema.qualified("worker_status");
        let partitions = db.schema.qualified("partition_status");
        let offsets = db.schema.qualified("consumer_offset");
        let history = db.schema.qualified("claim_history");
        Self {
            beat: format!(
                "INSERT INTO {status} (owner, group_id, instance_id, program, version, host, process_id, started_at, \
                   heartbeat_at, stopped_at, state, partitions, records_total, commits_total, fenced_total, retries_total, dropped_total) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, clock_timestamp(), clock_timestamp(), \
                   CASE WHEN $8 = 'stopped' THEN clock_timestamp() END, $8, $9, $10, $11, $12, $13, $14) \
                 ON CONFLICT (owner) DO UPDATE SET heartbeat_at = excluded.heartbeat_at, stopped_at = excluded.stopped_at, \
                   state = excluded.state, partitions = excluded.partitions, records_total = excluded.records_total, \
                   commits_total = excluded.commits_total, fenced_total = excluded.fenced_total, \
                   retries_total = excluded.retries_total, dropped_total = excluded.dropped_total"
            ),
            // Compared with the tokens held, and with what was known to be durable, when the question was sent: after a
            // fail-over or a restore the row may stand further back under the very claim, and an idle partition has
            // no commit that would miss.
            lost: format!(
                "SELECT h.topic, h.partition, h.epoch, h.claim_token, (o.owner IS NOT NULL AND o.owner <> $6) AS by_other, \
                   EXISTS (SELECT FROM {status} w WHERE w.owner = o.owner AND w.owner <> $6 AND w.stopped_at IS NULL \
                     AND w.heartbeat_at > clock_timestamp() - interval '3 seconds') AS by_live_other, \
                   coalesce(o.claim_token = h.claim_token AND o.epoch = h.epoch, false) AS went_back \
                 FROM unnest($2::text[], $3::int4[], $4::int8[], $5::uuid[], $7::int8[]) \
                   AS h(topic, partition, epoch, claim_token, committed) \
                 LEFT JOIN {offsets} o ON o.group_id = $1 AND o.topic = h.topic AND o.partition = h.partition \
                 WHERE o.claim_token IS DISTINCT FROM h.claim_token OR o.epoch <> h.epoch OR o.next_offset < h.committed"
            ),
            // Only by the current claim or a later one; a zombie's report is dropped. A partition whose row has
            // vanished is reported, too: that is when somebody must look.
            report: format!(
                "INSERT INTO {partitions} (group_id, topic, partition, epoch, owner, state, detail, updated_at) \
                 SELECT $1, r.topic, r.partition, coalesce(o.epoch, p.epoch, 0), $2, r.state, r.detail, clock_timestamp() \
                 FROM unnest($3::text[], $4::int4[], $5::text[], $6::text[]) AS r(topic, partition, state, detail) \
                 LEFT JOIN {offsets} o ON o.group_id = $1 AND o.topic = r.topic AND o.partition = r.partition \
                 LEFT JOIN {partitions} p ON p.group_id = $1 AND p.topic = r.topic AND p.partition = r.partition \
                 WHERE o.owner = $2 OR o.owner IS NULL \
                 ORDER BY r.topic, r.partition \
                 ON CONFLICT (group_id, topic, partition) DO UPDATE SET epoch = excluded.epoch, owner = excluded.owner, \
                   state = excluded.state, detail = excluded.detail, updated_at = excluded.updated_at \
                 WHERE partition_status.epoch <= excluded.epoch"
            ),
            prune: [
                format!(
                    "DELETE FROM {history} WHERE group_id = $1 \
                     AND replaced_at < clock_timestamp() - $2::int8 * interval '1 second'"
                ),
                format!(
                    "DELETE FROM {status} WHERE group_id = $1 \
                     AND heartbeat_at < clock_timestamp() - $2::int8 * interval '1 second'"
                ),
            ],
            host: hostname(),
            program: config.program.clone(),
            retention: config.history_retention,
            reported: HashMap::new(),
            db,
            board,
            held,
            taken,
        }
    }

    /// Beats until aborted.
    pub(super) async fn run(mut self) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut pruned = Instant::now();
        // A connection of its own, kept: a heart must not wait behind claims.
        let mut kept = None;
        loop {
            ticks.tick().await;
            failpoint!("before_heartbeat");
            let connection = kept.take().filter(|connection: &Lease| self.db.is_current(connection));
            // A hung connection must not end the heart: give up on it, and not to the pool, before the row is too old.
            match tokio::time::timeout(2 * INTERVAL, self.turn(connection, &mut pruned)).await {
                Ok(Ok(connection)) => kept = Some(connection),
                Ok(Err(error)) => {
                    self.db.heed(&error);
                    tracing::debug!(%error, "the heartbeat was not written");
                }
                Err(_) => tracing::debug!("the heartbeat was not written in time"),
            }
        }
    }

    async fn turn(&mut self, connection: Option<Lease>, pruned: &mut Instant) -> Result<Lease, DbError> {
        let client = match connection {
            Some(connection) => connection,
            None => self.db.lease().await?,
        };
        self.write(&client).await?;
        self.look_for_lost(&client).await?;
        self.report(&client).await?;
        if pruned.elapsed() > PRUNE_INTERVAL {
            *pruned = Instant::now();
            let seconds = i64::try_from(self.retention.as_secs()).unwrap_or(i64::MAX);
            for prune in &self.prune {
                client.execute(prune, &[&&*self.db.identity.group, &seconds]).await?;
            }
        }
        Ok(client)
    }

    /// Writes the heartbeat once.
    pub(super) async fn write(&self, client: &Object) -> Result<(), DbError> {
        let status = self.board.get();
        let counters = status.counters;
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let state = match status.phase {
            Phase::Starting => "starting",
            Phase::Running => "running",
            Phase::Stopping => "stopping",
            Phase::Stopped => "stopped",
        };
        let identity = &self.db.identity;
        let statement = client.prepare_cached(&self.beat).await?;
        client
            .execute(
                &statement,
                &[
                    &identity.owner,
                    &&*identity.group,
                    &identity.instance_id.as_deref(),
                    &self.program,
                    &env!("CARGO_PKG_VERSION"),
                    &self.host,
                    &i32::try_from(std::process::id()).unwrap_or(-1),
                    &state,
                    &i32::try_from(status.partitions.len()).unwrap_or(i32::MAX),
                    &number(counters.applied_records),
                    &number(counters.commits),
                    &number(counters.fenced),
                    &number(counters.retries),
                    &number(counters.dropped_records),
                ],
            )
            .await?;
        self.board.contact.postgres_answered();
        Ok(())
    }

    async fn look_for_lost(&self, client: &Object) -> Result<(), DbError> {
        let held = self.held.sorted();
        if held.is_empty() {
            return Ok(());
        }
        let topics: Vec<&str> = held.iter().map(|buffer| &*buffer.key.topic).collect();
        let partitions: Vec<i32> = held.iter().map(|buffer| buffer.key.partition).collect();
        let epochs: Vec<i64> = held.iter().map(|buffer| buffer.claim.epoch).collect();
        let tokens: Vec<uuid::Uuid> = held.iter().map(|buffer| buffer.claim.token).collect();
        let committed: Vec<i64> = held.iter().map(|buffer| buffer.committed()).collect();
        let identity = &self.db.identity;
        let statement = client.prepare_cached(&self.lost).await?;
        let rows = client
            .query(
                &statement,
                &[&&*identity.group, &topics, &partitions, &epochs, &tokens, &identity.owner, &committed],
            )
            .await?;
        for row in rows {
            let key = PartitionKey { topic: row.get::<_, &str>(0).into(), partition: row.get(1) };
            if row.get("went_back") {
                tracing::warn!(partition = %key, "the database has gone back behind what was applied; claiming again");
            }
            let _ = self.taken.send(TakenClaim {
                key,
                claim: ClaimId { epoch: row.get(2), token: row.get(3) },
                by_other: row.get(4),
                by_live_other: row.get(5),
            });
        }
        Ok(())
    }

    /// Writes the states that changed, in key order.
    async fn report(&mut self, client: &Object) -> Result<(), DbError> {
        let now = self.board.states();
        let mut changed: Vec<_> = now
            .into_iter()
            .filter(|(key, state, detail)| self.reported.get(key) != Some(&(*state, detail.clone())))
            .collect();
        if changed.is_empty() {
            return Ok(());
        }
        changed.sort_by(|a, b| a.0.cmp(&b.0));
        let topics: Vec<&str> = changed.iter().map(|(key, ..)| &*key.topic).collect();
        let partitions: Vec<i32> = changed.iter().map(|(key, ..)| key.partition).collect();
        let states: Vec<&str> = changed.iter().map(|(_, state, _)| state.as_str()).collect();
        let details: Vec<Option<&str>> = changed.iter().map(|(.., detail)| detail.as_deref()).collect();
        let identity = &self.db.identity;
        let statement = client.prepare_cached(&self.report).await?;
        client
            .execute(
                &statement,
                &[&&*identity.group, &identity.owner, &topics, &partitions, &states, &details],
            )
            .await?;
        self.reported.extend(changed.into_iter().map(|(key, state, detail)| (key, (state, detail))));
        Ok(())
    }
}

fn hostname() -> String {
    std::env::var("HOSTNAME")
        .ok()
        .or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok())
        .map_or_else(|| "unknown".to_owned(), |name| name.trim().to_owned())
}
