//! Backends of processes that can no longer end them.
//!
//! No time-out of Postgres frees the locks of a client that is frozen in mid-COPY, and a cancel does not either;
//! terminating its backend does (PITFALLS 23). So whoever waits for such a lock asks who holds it, and ends the
//! backend of a process of this group that is no longer live, or one that this process itself has abandoned.
//! Every other blocker is waited for under `lock_timeout`.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::Object;

use super::Identity;
use crate::schema::SchemaName;

/// How long something waits before it asks who holds the lock.
pub(crate) const PATIENCE: Duration = Duration::from_millis(200);
/// How many abandoned backends are remembered; older ones have long ended.
const REMEMBERED: usize = 64;

/// A backend of this process, and the transaction it was left in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Backend {
    pub(crate) pid: i32,
    /// The `xid8` as text.
    pub(crate) xact_id: String,
}

/// Finds and ends dead blockers.
#[derive(Debug)]
pub(crate) struct Blockers {
    prefix: String,
    own_name: String,
    find: String,
    terminate_dead: String,
    abandoned: Mutex<Vec<Backend>>,
}

impl Blockers {
    pub(super) fn new(schema: &SchemaName, identity: &Identity) -> Self {
        let worker_status = schema.qualified("worker_status");
        // `live` must mean the same here and in the claim.
        let live = format!(
            "EXISTS (SELECT FROM {worker_status} w WHERE w.owner::text = a.owner_text \
             AND w.stopped_at IS NULL AND w.heartbeat_at > clock_timestamp() - interval '3 seconds')"
        );
        // The pid alone may by now be somebody else's: pid, start and name are checked in the very statement
        // that terminates.
        let terminate_dead = format!(
            "SELECT pg_terminate_backend(a.pid) FROM ( \
               SELECT pid, backend_start, application_name, \
                      regexp_replace(right(application_name, 32), '(.{{8}})(.{{4}})(.{{4}})(.{{4}})(.{{12}})', '\\1-\\2-\\3-\\4-\\5') AS owner_text \
               FROM pg_stat_activity) a \
             WHERE a.pid = $1 AND a.backend_start::text = $2 AND a.application_name = $3 AND NOT {live}"
        );
        Self {
            prefix: identity.application_prefix(),
            own_name: identity.application_name(),
            find: "SELECT a.pid, a.backend_start::text, a.application_name, a.backend_xid::text \
                   FROM unnest(pg_blocking_pids($1)) AS b(pid) JOIN pg_stat_activity a ON a.pid = b.pid"
                .into(),
            terminate_dead,
            abandoned: Mutex::new(Vec::new()),
        }
    }

    /// Remembers a backend whose connection this process dropped in mid-transaction.
    pub(crate) fn abandon(&self, backend: Backend) {
        let mut abandoned = self.abandoned.lock().unwrap_or_else(PoisonError::into_inner);
        if abandoned.len() == REMEMBERED {
            abandoned.remove(0);
        }
        abandoned.push(backend);
    }

    /// Ends those backends that block `waiting_pid` and that nobody can end any more. Returns how many.
    ///
    /// # Errors
    /// If Postgres does not answer; the caller goes on waiting.
    pub(crate) async fn end_dead(
        &self,
        client: &Object,
        waiting_pid: i32,
    ) -> Result<u64, tokio_postgres::Error> {
        let mut ended = 0;
        for row in client.query(&self.find, &[&waiting_pid]).await? {
            let pid: i32 = row.get(0);
            // All of these are NULL in the eyes of a role that may not look at the blocker's session, and then it
            // could not end it either.
            let (start, name, xid): (Option<String>, Option<String>, Option<String>) =
                (row.get(1), row.get(2), row.get(3));
            let name = name.filter(|name| name.starts_with(&self.prefix));
            let (Some(start), Some(name)) = (start, name) else { continue };
            let terminated = if name == self.own_name {
                match xid.filter(|xid| self.is_abandoned(pid, xid)) {
                    Some(xid) => self.terminate_own(client, pid, &start, &xid).await?,
                    None => false,
                }
            } else {
                !client.query(&self.terminate_dead, &[&pid, &start, &name]).await?.is_empty()
            };
            if terminated {
                ended += 1;
                tracing::warn!(
                    pid,
                    application_name = name,
                    "ended a backend that held a lock and whose process is gone"
                );
            }
        }
        Ok(ended)
    }

    /// Ends a backend of our own at once, if it is still in the transaction that was abandoned.
    ///
    /// # Errors
    /// If Postgres does not answer.
    pub(crate) async fn end_own(
        &self,
        client: &Object,
        backend: &Backend,
    ) -> Result<bool, tokio_postgres::Error> {
        let rows = client
            .query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE pid = $1 AND application_name = $2 AND backend_xid = ($3::text::xid8)::xid",
                &[&backend.pid, &self.own_name, &backend.xact_id],
            )
            .await?;
        Ok(!rows.is_empty())
    }

    async fn terminate_own(
        &self,
        client: &Object,
        pid: i32,
        start: &str,
        xid: &str,
    ) -> Result<bool, tokio_postgres::Error> {
        let rows = client
            .query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE pid = $1 AND backend_start::text = $2 AND application_name = $3 AND backend_xid::text = $4",
                &[&pid, &start, &self.own_name, &xid],
            )
            .await?;
        Ok(!rows.is_empty())
    }

    /// `backend_xid` shows the low 32 bits of the `xid8` that the transaction was given.
    fn is_abandoned(&self, pid: i32, xid: &str) -> bool {
        let low = |xact_id: &str| xact_id.parse::<u64>().ok().map(|id| id & u64::from(u32::MAX));
        let abandoned = self.abandoned.lock().unwrap_or_else(PoisonError::into_inner);
        abandoned.iter().any(|backend| backend.pid == pid && low(&backend.xact_id) == low(xid))
    }
}
