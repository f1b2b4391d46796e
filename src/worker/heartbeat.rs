//! The heartbeat: one row per process, every second, by which others know that it is live; after it, an idle worker is
//! told that a claim of its own was taken. Nothing else is done here, so that nothing else can delay a beat.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::PoolError;
use tokio::sync::mpsc;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_util::task::AbortOnDropHandle;

use super::Phase;
use super::report::printable;
use super::status::StatusBoard;
use crate::batch::{ClaimId, PartitionKey};
use crate::config::Config;
use crate::consumer::PartitionBuffer;
use crate::db::{Db, DbError, LIVE_SECONDS, Lease, live};
use crate::failpoint::failpoint;

/// Heartbeats: a third of the time for which one proves life.
const INTERVAL: Duration = Duration::from_secs(1);
/// Every so many beats it is looked anew what the tables have: they may have been migrated meanwhile.
const AFRESH: u32 = 30;
/// How long one may take before its connection is given up.
const LIMIT: Duration = Duration::from_secs(2);
/// How long the last one may take: nothing delays a stop.
const FAREWELL: Duration = Duration::from_secs(2);
const _: () = assert!(LIVE_SECONDS == 3, "three heartbeats");

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

    pub(super) fn sorted(&self) -> Vec<Arc<PartitionBuffer>> {
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

/// Writes the heartbeats of this process.
pub(super) struct Heartbeat {
    db: Arc<Db>,
    board: Arc<StatusBoard>,
    held: Arc<HeldClaims>,
    taken: mpsc::UnboundedSender<TakenClaim>,
    program: String,
    host: String,
    /// How long a batch may take.
    processing_deadline: Duration,
    beat: String,
    /// The same for tables of version 1, which lack two columns.
    beat_to_older: String,
    /// They did, when it was last looked.
    is_older: AtomicBool,
    lost: String,
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
        let offsets = db.schema.qualified("consumer_offset");
        Self {
            beat: beat(&status, true),
            beat_to_older: beat(&status, false),
            is_older: AtomicBool::new(false),
            // Compared with the tokens held, and with what was known to be durable, when the question was sent: after a
            // fail-over or a restore the row may stand further back under the very claim, and an idle partition has
            // no commit that would miss.
            lost: format!(
                "SELECT h.topic, h.partition, h.epoch, h.claim_token, (o.owner IS NOT NULL AND o.owner <> $6) AS by_other, \
                   (o.owner <> $6 AND {}) AS by_live_other, \
                   coalesce(o.claim_token = h.claim_token AND o.epoch = h.epoch, false) AS went_back \
                 FROM unnest($2::text[], $3::int4[], $4::int8[], $5::uuid[], $7::int8[]) \
                   AS h(topic, partition, epoch, claim_token, committed) \
                 LEFT JOIN {offsets} o ON o.group_id = $1 AND o.topic = h.topic AND o.partition = h.partition \
                 WHERE o.claim_token IS DISTINCT FROM h.claim_token OR o.epoch <> h.epoch OR o.next_offset < h.committed",
                live(&db.schema, "o.owner"),
            ),
            host: hostname(),
            program: config.program.clone(),
            processing_deadline: config.max_processing_time,
            db,
            board,
            held,
            taken,
        }
    }

    /// Beats until aborted.
    pub(super) async fn run(self) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // A connection of its own, kept: a heart must not wait behind claims.
        let mut kept: Option<Lease> = None;
        let mut spare = Spare::new(Arc::clone(&self.db));
        for beat in 1_u32.. {
            ticks.tick().await;
            if beat.is_multiple_of(AFRESH) {
                self.look_anew();
            }
            failpoint!("before_heartbeat");
            let client = match kept.take().filter(|client| self.db.is_current(client)) {
                Some(client) => client,
                // As long as it takes: there is nothing else to beat with.
                None => match spare.take().await {
                    Ok(client) => client,
                    Err(error) => {
                        self.failed(&error.into());
                        continue;
                    }
                },
            };
            match self.turn(&client, &mut spare).await {
                Ok(()) => kept = Some(client),
                Err(error) => self.failed(&error),
            }
        }
    }

    pub(super) fn look_anew(&self) {
        self.is_older.store(false, Ordering::Relaxed);
    }

    /// The last word: this process is gone. Who does not get to read it waits for the last beat's age.
    pub(super) async fn say_farewell(&self) {
        self.board.set_phase(Phase::Stopped, None);
        let farewell = async { self.write(&self.db.control().await?).await };
        if !matches!(tokio::time::timeout(FAREWELL, farewell).await, Ok(Ok(()))) {
            tracing::debug!("the last heartbeat was not written; successors wait for its age");
        }
    }

    fn failed(&self, error: &DbError) {
        self.db.heed(error);
        tracing::debug!(%error, "no heartbeat");
    }

    /// A hung connection must not end the heart: while it is silent, another is made, and it is given up, and not to the
    /// pool, before the row is too old.
    async fn turn(&self, client: &Lease, spare: &mut Spare) -> Result<(), DbError> {
        let beat = async {
            self.write(client).await?;
            self.look_for_lost(client).await
        };
        tokio::pin!(beat);
        let beaten = match tokio::time::timeout(INTERVAL, &mut beat).await {
            Ok(beaten) => beaten,
            Err(_) => {
                spare.begin();
                tokio::time::timeout(LIMIT - INTERVAL, beat).await.unwrap_or_else(|_| Err(late("written")))
            }
        };
        beaten?;
        spare.forget();
        Ok(())
    }

    /// Writes the heartbeat once.
    pub(super) async fn write(&self, client: &Lease) -> Result<(), DbError> {
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
        let (process, partitions) = (
            i32::try_from(std::process::id()).unwrap_or(-1),
            i32::try_from(status.partitions.len()).unwrap_or(i32::MAX),
        );
        let totals = [
            counters.applied_records,
            counters.commits,
            counters.fenced,
            counters.retries,
            counters.dropped_records,
        ]
        .map(number);
        let detail = status.detail.as_deref().map(printable);
        let deadline = self.processing_deadline.as_secs_f64();
        let reported_age = self.board.reported_age().as_secs_f64();
        let (group, instance): (&str, Option<&str>) = (&identity.group, identity.instance_id.as_deref());
        let said: [&(dyn ToSql + Sync); 18] = [
            &identity.owner,
            &group,
            &instance,
            &self.program,
            &env!("CARGO_PKG_VERSION"),
            &self.host,
            &process,
            &state,
            &partitions,
            &totals[0],
            &totals[1],
            &totals[2],
            &totals[3],
            &totals[4],
            &status.ready,
            &detail,
            &deadline,
            &reported_age,
        ];
        if !self.is_older.load(Ordering::Relaxed) {
            match say(client, &self.beat, &said).await {
                Err(error) if error.code() == Some(&SqlState::UNDEFINED_COLUMN) => {
                    self.is_older.store(true, Ordering::Relaxed);
                }
                beaten => beaten?,
            }
        }
        if self.is_older.load(Ordering::Relaxed) {
            say(client, &self.beat_to_older, &said[..16]).await?;
        }
        self.board.contact.postgres_answered();
        Ok(())
    }

    async fn look_for_lost(&self, client: &Lease) -> Result<(), DbError> {
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
}

async fn say(client: &Lease, beat: &str, said: &[&(dyn ToSql + Sync)]) -> Result<(), tokio_postgres::Error> {
    let statement = client.prepare_cached(beat).await?;
    client.execute(&statement, said).await.map(drop)
}

/// Not flushed, nor waited for at a standby: a beat that is lost with the server is written again a second after it is
/// back, the first and the last like any other.
fn beat(status: &str, is_new: bool) -> String {
    let (columns, values, set) = if is_new {
        let reported_at = ", clock_timestamp() - $18::float8 * interval '1 second'";
        (
            ", processing_deadline_seconds, reported_at",
            format!(", $17::float8{reported_at}"),
            ", processing_deadline_seconds = excluded.processing_deadline_seconds, reported_at = excluded.reported_at",
        )
    } else {
        ("", String::new(), "")
    };
    format!(
        "INSERT INTO {status} (owner, group_id, instance_id, program, version, host, process_id, started_at, \
           heartbeat_at, stopped_at, state, ready, detail, partitions, records_total, commits_total, fenced_total, \
           retries_total, dropped_total{columns}) \
         SELECT $1, $2, $3, $4, $5, $6, $7, clock_timestamp(), clock_timestamp(), \
           CASE WHEN $8 = 'stopped' THEN clock_timestamp() END, $8, $15, $16, $9, $10, $11, $12, $13, $14{values} \
         WHERE set_config('synchronous_commit', 'off', true) IS NOT NULL \
         ON CONFLICT (owner) DO UPDATE SET heartbeat_at = excluded.heartbeat_at, stopped_at = excluded.stopped_at, \
           state = excluded.state, ready = excluded.ready, detail = excluded.detail, \
           partitions = excluded.partitions, records_total = excluded.records_total, \
           commits_total = excluded.commits_total, fenced_total = excluded.fenced_total, \
           retries_total = excluded.retries_total, dropped_total = excluded.dropped_total{set}"
    )
}

/// A connection that is made apart, so that it takes no time from the beats.
struct Spare {
    db: Arc<Db>,
    coming: Option<AbortOnDropHandle<Result<Lease, PoolError>>>,
}

impl Spare {
    fn new(db: Arc<Db>) -> Self {
        Self { db, coming: None }
    }

    fn begin(&mut self) {
        let db = Arc::clone(&self.db);
        let connect = || AbortOnDropHandle::new(tokio::spawn(async move { db.status().await }));
        self.coming.get_or_insert_with(connect);
    }

    /// It was not needed after all.
    fn forget(&mut self) {
        self.coming = None;
    }

    async fn take(&mut self) -> Result<Lease, PoolError> {
        self.begin();
        let Some(coming) = &mut self.coming else { return self.db.status().await };
        let connected = coming.await;
        self.coming = None;
        connected.unwrap_or(Err(PoolError::Closed))
    }
}

fn late(what: &str) -> DbError {
    DbError::Other(format!("not {what} in {LIMIT:?}"))
}

pub(super) fn hostname() -> String {
    std::env::var("HOSTNAME")
        .ok()
        .or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok())
        .map_or_else(|| "unknown".to_owned(), |name| name.trim().to_owned())
}
