//! Backends of processes that can no longer end them.
//!
//! No time-out of Postgres frees the locks of a client that is frozen in mid-COPY, and a cancel does not either;
//! terminating its backend does (PITFALLS 23). So whoever waits for such a lock asks who holds it, and ends the
//! backend of a process that is no longer live, or one that this process itself has abandoned. Every other blocker is
//! waited for under `lock_timeout`.
//!
//! Whose a backend is, is known by two signs that must agree: what its session has recorded in this schema's
//! `worker_session`, and the name that it bears now. The record alone may be out of date (a pooler has given the backend
//! to somebody else, or the pid is another's), and the name alone may be of another deployment, whose heartbeats are not
//! in this schema.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::waits::{self, Wait, Waits};
use super::{DbError, Identity, Lease, live};
use crate::schema::SchemaName;

/// How long something waits before it asks who holds the lock.
pub(crate) const PATIENCE: Duration = Duration::from_millis(200);
/// How often it is said that a role may not end a backend.
const REMINDER: Duration = Duration::from_secs(60);
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
    owner: Uuid,
    own_name: String,
    find: String,
    explain: String,
    terminate_dead: String,
    waits: Waits,
    abandoned: Mutex<Vec<Backend>>,
    forbidden_said: Mutex<Option<Instant>>,
}

/// A backend that blocks, and whose it is, as far as it is a worker's.
struct Blocker {
    pid: i32,
    name: String,
    owner: Uuid,
    xid: Option<String>,
}

impl Blockers {
    pub(super) fn new(schema: &SchemaName, identity: &Identity) -> Self {
        let own_name = identity.application_name(schema);
        let prefix = own_name.trim_end_matches(|c| c != '/');
        // The start of another role's session is hidden unless one may read its statistics. What its owner wrote into
        // its name is not, and nobody else knows that id.
        let recorded = format!(
            "pg_catalog.pg_stat_activity a JOIN {} s ON s.pid = a.pid \
             AND coalesce(s.backend_start = a.backend_start, true) \
             AND starts_with(a.application_name, '{prefix}' || replace(s.owner::text, '-', ''))",
            schema.qualified("worker_session")
        );
        Self {
            owner: identity.owner,
            find: format!(
                "SELECT a.pid, a.application_name, s.owner, a.backend_xid::text \
                 FROM unnest(pg_blocking_pids($1)) AS b(pid) LEFT JOIN ({recorded}) ON a.pid = b.pid"
            ),
            explain: format!("SELECT {} FROM {}", waits::COLUMNS, waits::from("$1")),
            waits: Waits::default(),
            // The pid alone may by now be somebody else's: all is checked again in the very statement that terminates.
            terminate_dead: format!(
                "SELECT pg_terminate_backend(a.pid) FROM {recorded} \
                 WHERE a.pid = $1 AND s.owner = $2 AND NOT {}",
                live(schema, "s.owner")
            ),
            own_name,
            abandoned: Mutex::new(Vec::new()),
            forbidden_said: Mutex::default(),
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
        client: &Lease,
        waiting_pid: i32,
    ) -> Result<u64, tokio_postgres::Error> {
        let mut ended = 0;
        let rows = client.query(&self.find, &[&waiting_pid]).await?;
        if rows.is_empty() {
            self.waits.note(waiting_pid, Instant::now(), None);
        } else if self.waits.is_stale(waiting_pid, Instant::now()) {
            let wait = Wait::new(&client.query(&self.explain, &[&waiting_pid]).await?, 0);
            self.waits.note(waiting_pid, Instant::now(), wait);
        }
        // Who is no worker is waited for.
        for row in rows.iter().filter(|row| row.get::<_, Option<i32>>(0).is_some()) {
            let blocker = Blocker { pid: row.get(0), name: row.get(1), owner: row.get(2), xid: row.get(3) };
            match self.end_if_dead(client, &blocker).await {
                Ok(false) => {}
                Ok(true) => {
                    ended += 1;
                    tracing::warn!(
                        pid = blocker.pid,
                        application_name = blocker.name,
                        "ended a backend that held a lock and whose process is gone"
                    );
                }
                Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                    self.forbidden(&blocker);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(ended)
    }

    /// For which lock `waiting_pid` waited until a moment ago, and who holds it.
    pub(crate) fn waited(&self, waiting_pid: i32) -> Option<Wait> {
        self.waits.take(waiting_pid, Instant::now())
    }

    /// The same error, with what `waiting_pid` has waited for, where that is what failed.
    pub(crate) fn explain(&self, error: DbError, waiting_pid: i32) -> DbError {
        match error {
            DbError::Postgres(source) if source.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
                match self.waited(waiting_pid) {
                    Some(lock) => DbError::Waited(source, lock.to_string()),
                    None => DbError::Postgres(source),
                }
            }
            other => other,
        }
    }

    async fn end_if_dead(&self, client: &Lease, blocker: &Blocker) -> Result<bool, tokio_postgres::Error> {
        let Blocker { pid, owner, xid, .. } = blocker;
        if *owner == self.owner {
            return match xid.as_ref().filter(|xid| self.is_abandoned(*pid, xid)) {
                Some(xid) => self.terminate_own(client, *pid, xid).await,
                None => Ok(false),
            };
        }
        Ok(!client.query(&self.terminate_dead, &[pid, owner]).await?.is_empty())
    }

    fn forbidden(&self, blocker: &Blocker) {
        let mut said = self.forbidden_said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|said| said.elapsed() >= REMINDER) {
            *said = Some(Instant::now());
            tracing::warn!(
                pid = blocker.pid,
                application_name = blocker.name,
                "may not end the backend of a dead worker, which holds a lock: have all workers log in as one role, or \
                 grant pg_signal_backend (see `highwater migrate --print-grants`)"
            );
        }
    }

    /// Ends a backend of our own at once, if it is still in the transaction that was abandoned.
    ///
    /// # Errors
    /// If Postgres does not answer.
    pub(crate) async fn end_own(
        &self,
        client: &Lease,
        backend: &Backend,
    ) -> Result<bool, tokio_postgres::Error> {
        let rows = client
            .query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE pid = $1 AND starts_with(application_name, $2) AND backend_xid = ($3::text::xid8)::xid",
                &[&backend.pid, &self.own_name, &backend.xact_id],
            )
            .await?;
        Ok(!rows.is_empty())
    }

    async fn terminate_own(
        &self,
        client: &Lease,
        pid: i32,
        xid: &str,
    ) -> Result<bool, tokio_postgres::Error> {
        let rows = client
            .query(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE pid = $1 AND starts_with(application_name, $2) AND backend_xid::text = $3",
                &[&pid, &self.own_name, &xid],
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
