//! Housekeeping beside the work: what is older than `history_retention` is deleted in portions, records of sessions that
//! have ended and payloads that have expired, too; and it is looked whether the database's clock has gone back. In a task
//! and on a connection of its own.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::error::SqlState;

use crate::config::Config;
use crate::db::{Db, DbError, Lease, from_the_future};
use crate::verdict::Class;
use crate::verdict::postgres::classify;

/// How often the tables are pruned.
const INTERVAL: Duration = Duration::from_secs(600);
/// How often the clock is looked at.
const CLOCK_INTERVAL: Duration = Duration::from_secs(60);
/// How many rows one statement deletes at least, and at most.
const PORTION: (i64, i64) = (50, 5_000);
/// Between two portions, so that others get a word in.
const PAUSE: Duration = Duration::from_millis(50);

/// Prunes the tables.
pub(super) struct Pruner {
    db: Arc<Db>,
    tables: Vec<Prune>,
    clock: String,
}

/// Deletes from one table: `$1` the group, `$2` how many seconds are kept, `$3` how many rows are deleted at most.
struct Prune {
    /// The table, or the function that deletes.
    what: &'static str,
    sql: String,
    retention_seconds: i64,
    /// What a worker may not delete by itself: a function does it, and says how many rows.
    by_function: bool,
}

impl Pruner {
    pub(super) fn new(db: Arc<Db>, config: &Config) -> Self {
        let seconds = |kept: Duration| i64::try_from(kept.as_secs()).unwrap_or(i64::MAX);
        let retention_seconds = seconds(config.history_retention);
        let prune = |table: &'static str, old: &str, order: &str| {
            let name = db.schema.qualified(table);
            // One worker at a time; the others have nothing to do here then. Not flushed: what comes back is deleted again.
            let turn = format!("highwater prune {table} {}", db.schema).replace('\'', "''");
            let sql = format!(
                "WITH mine AS MATERIALIZED (SELECT pg_try_advisory_xact_lock(hashtextextended('{turn} ' || $1::text, 0)) \
                   AND set_config('synchronous_commit', 'off', true) IS NOT NULL AS yes) \
                 DELETE FROM {name} d WHERE d.ctid = ANY(ARRAY( \
                   SELECT t.ctid FROM {name} t WHERE (SELECT yes FROM mine) AND {old} {order} LIMIT $3)) AND {old_here}",
                old = old.replace("T.", "t."),
                old_here = old.replace("T.", "d."),
            );
            Prune { what: table, sql, retention_seconds, by_function: false }
        };
        let kept = "clock_timestamp() - $2::int8 * interval '1 second'";
        // The content of what somebody has decided about: the facts stay.
        let closed = config.dead_letter_closed_payload_retention.map(|after| {
            let letters = db.schema.qualified("dead_letter");
            let closed = format!(
                "T.dead_letter_id IN (SELECT l.dead_letter_id FROM {letters} l WHERE l.group_id = $1 \
                   AND l.state IN ('redriven', 'discarded', 'superseded') AND l.state_changed_at < {kept})"
            );
            Prune { retention_seconds: seconds(after), ..prune("dead_letter_payload", &closed, "") }
        });
        let by_function = |table: &'static str, call: &str| Prune {
            what: table,
            sql: format!("SELECT {}{call}", db.schema.qualified(table)),
            retention_seconds,
            by_function: true,
        };
        let always = [
            // By its index, lest every portion read what the ones before it have deleted.
            prune(
                "claim_history",
                &format!("T.group_id = $1 AND T.replaced_at < {kept}"),
                "ORDER BY t.replaced_at",
            ),
            prune("worker_status", &format!("T.group_id = $1 AND T.heartbeat_at < {kept}"), ""),
            // Of any group: all that counts is whether there is such a backend.
            prune(
                "worker_session",
                "NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity a WHERE a.pid = T.pid) AND $2::int8 IS NOT NULL",
                "",
            ),
            prune(
                "partition_control",
                &format!("T.group_id = $1 AND T.obeyed_at < {kept}"),
                "ORDER BY t.obeyed_at",
            ),
            by_function("expire_payloads", "($3) WHERE $1::text IS NOT NULL AND $2::int8 IS NOT NULL"),
            by_function("prune_history", "($1, $2, $3)"),
        ];
        Self {
            tables: always.into_iter().chain(closed).collect(),
            clock: format!(
                "SELECT count(*), extract(epoch FROM max(heartbeat_at) - clock_timestamp())::int8 FROM {} \
                 WHERE group_id = $1 AND stopped_at IS NULL AND {}",
                db.schema.qualified("worker_status"),
                from_the_future("heartbeat_at"),
            ),
            db,
        }
    }

    /// Until aborted.
    pub(super) async fn run(self) {
        let mut prune = tokio::time::interval(INTERVAL);
        let mut clock = tokio::time::interval(CLOCK_INTERVAL);
        let mut ahead = 0;
        let mut told = HashSet::new();
        loop {
            let done = tokio::select! {
                _ = prune.tick() => self.prune(&mut told).await,
                _ = clock.tick() => self.look_at_clock(&mut ahead).await,
            };
            if let Err(error) = done {
                self.db.heed(&error);
                tracing::debug!(%error, "housekeeping failed; it is tried again later");
            }
        }
    }

    /// Of one table after the other; what fails with one keeps none of the others from it.
    async fn prune(&self, told: &mut HashSet<&'static str>) -> Result<(), DbError> {
        let mut failed = None;
        for prune in &self.tables {
            if let Err(error) = self.prune_one(prune).await {
                // Nothing but a person changes that, and what is not deleted may be somebody's data.
                if is_denied(&error) && told.insert(prune.what) {
                    tracing::warn!(what = prune.what, %error,
                        "what is over is not deleted; run `highwater migrate --print-grants` and what it prints, again");
                } else {
                    tracing::debug!(what = prune.what, %error, "could not be pruned");
                }
                failed.get_or_insert(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn prune_one(&self, prune: &Prune) -> Result<(), DbError> {
        let mut client = self.db.status().await?;
        let mut portion = PORTION.1;
        let mut pruned = 0;
        loop {
            match self.portion(&client, prune, portion).await {
                Ok(0) => break,
                Ok(rows) => {
                    pruned += rows;
                    portion = (2 * portion).min(PORTION.1);
                }
                // It took too long, on either side's clock: less is quicker.
                Err(error) if is_slow(&error) && portion > PORTION.0 => {
                    tracing::debug!(what = prune.what, portion, %error, "pruning is slow; less at a time");
                    portion = (portion / 4).max(PORTION.0);
                    client = self.db.status().await?;
                }
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(PAUSE).await;
        }
        if pruned > 0 {
            tracing::debug!(what = prune.what, rows = pruned, "pruned");
        }
        Ok(())
    }

    async fn portion(
        &self,
        client: &Lease,
        prune: &Prune,
        portion: i64,
    ) -> Result<u64, tokio_postgres::Error> {
        let group = &*self.db.identity.group;
        if prune.by_function {
            let row = client.query_one(&prune.sql, &[&group, &prune.retention_seconds, &portion]).await?;
            return Ok(u64::try_from(row.get::<_, i64>(0)).unwrap_or_default());
        }
        client.execute(&prune.sql, &[&group, &prune.retention_seconds, &portion]).await
    }

    /// Says that heartbeats lie in the future, when there are more of them than before.
    async fn look_at_clock(&self, known: &mut i64) -> Result<(), DbError> {
        let client = self.db.status().await?;
        let row = client.query_one(&self.clock, &[&&*self.db.identity.group]).await?;
        let found: i64 = row.get(0);
        if found > *known {
            tracing::warn!(
                heartbeats = found,
                seconds_ahead = row.get::<_, Option<i64>>(1),
                "heartbeats lie in the future: the database's clock has gone back; they count as no proof of life"
            );
        }
        *known = found;
        Ok(())
    }
}

fn is_denied(error: &DbError) -> bool {
    matches!(error, DbError::Postgres(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE))
}

fn is_slow(error: &tokio_postgres::Error) -> bool {
    matches!(classify(error).class, Class::OwnTimeout) || error.to_string().starts_with("timeout")
}
