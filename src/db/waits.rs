//! Who holds the lock that a session waits for: pids, names, states and relations, never the text of a statement.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_postgres::Row;

use crate::due::span;

/// How many holders are named.
const NAMED: usize = 3;
/// How long a name may be that anybody gives his session.
const NAME: usize = 64;
/// How old the last look may be to count for a wait that has just failed.
const FRESH: Duration = Duration::from_secs(3);
/// How long what a session waited for is known; it is looked at again meanwhile where it still waits.
const KNOWN: Duration = Duration::from_secs(1);

/// What session `waiting` (an expression of SQL) waits for, and who holds it: a row for each, with
/// [`Wait::columns`](COLUMNS). What it waits for is a relation's lock, or a row's, which is locked by the transaction that
/// has it: then the waiting session has marked the row as wanted.
pub(crate) fn from(waiting: &str) -> String {
    format!(
        "(SELECT l.locktype, coalesce(l.relation, t.relation)::pg_catalog.regclass::text AS relation \
          FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_locks t \
            ON t.pid = l.pid AND t.granted AND t.locktype = 'tuple' AND l.locktype = 'transactionid' \
          WHERE l.pid = {waiting} AND NOT l.granted LIMIT 1) AS wanted \
         CROSS JOIN LATERAL pg_catalog.unnest(pg_catalog.pg_blocking_pids({waiting})) AS held(pid) \
         LEFT JOIN pg_catalog.pg_stat_activity holder ON holder.pid = held.pid"
    )
}

/// What [`Wait::new`] reads, in this order. Of another role's session its state is hidden, unless one may read all.
pub(crate) const COLUMNS: &str = "wanted.locktype::text, wanted.relation, held.pid, holder.application_name::text, \
                                  holder.state::text, \
                                  extract(epoch FROM clock_timestamp() - holder.xact_start)::float8";

/// What a session waits for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wait {
    /// A relation's lock, or a row's; otherwise of some other kind.
    kind: String,
    pub(crate) relation: Option<String>,
    holders: Vec<Holder>,
}

/// Who holds it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Holder {
    /// 0: a prepared transaction.
    pub(crate) pid: i32,
    name: String,
    /// `None`: this role may not see it.
    state: Option<String>,
    open_seconds: Option<f64>,
}

impl Wait {
    /// Of rows with [`COLUMNS`] from the column `first` on; `None` if there are none.
    pub(crate) fn new<'r>(rows: impl IntoIterator<Item = &'r Row>, first: usize) -> Option<Self> {
        let mut wait: Option<Self> = None;
        for row in rows {
            let wait = wait.get_or_insert_with(|| Self {
                kind: row.get(first),
                relation: row.get(first + 1),
                holders: Vec::new(),
            });
            let pid = row.get::<_, Option<i32>>(first + 2).unwrap_or_default();
            // One that has locked in several ways is one.
            if wait.holders.iter().all(|known| known.pid != pid) {
                wait.holders.push(Holder {
                    pid,
                    name: row.get::<_, Option<&str>>(first + 3).map(printable).unwrap_or_default(),
                    state: row.get(first + 4),
                    open_seconds: row.get(first + 5),
                });
            }
        }
        wait
    }

    pub(crate) fn holders(&self) -> &[Holder] {
        &self.holders
    }

    /// What it waits for, without who has it.
    pub(crate) fn lock(&self) -> String {
        match (&self.relation, self.kind.as_str()) {
            (Some(relation), "relation") => format!("a lock on {relation}"),
            (Some(relation), _) => format!("a lock on a row of {relation}"),
            (None, "transactionid") => "a row that another transaction has written".to_owned(),
            (None, kind) => format!("a lock ({kind})"),
        }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named: Vec<String> = self.holders.iter().take(NAMED).map(ToString::to_string).collect();
        write!(f, "{} held by {}", self.lock(), named.join(" and "))?;
        match self.holders.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pid == 0 {
            return f.write_str("a prepared transaction (pg_prepared_xacts)");
        }
        let mut about = Vec::new();
        if !self.name.is_empty() {
            about.push(self.name.clone());
        }
        about.push(self.state.clone().unwrap_or_else(|| "another role's".to_owned()));
        if let Some(seconds) = self.open_seconds {
            about.push(format!("open for {}", span(Duration::from_secs_f64(seconds.clamp(0.0, 1e9)))));
        }
        write!(f, "pid {} ({})", self.pid, about.join(", "))
    }
}

/// A name that anybody may have given to his session, as a log may hold it.
fn printable(name: &str) -> String {
    name.chars().take(NAME).map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// What sessions of this process were last seen to wait for, by their backends' pids. When a wait fails, the server has
/// ended it before anybody can ask.
#[derive(Debug, Default)]
pub(super) struct Waits(Mutex<HashMap<i32, (Instant, Wait)>>);

impl Waits {
    /// Whether it is to be looked up now.
    pub(super) fn is_stale(&self, pid: i32, now: Instant) -> bool {
        let waits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waits.get(&pid).is_none_or(|(at, _)| now.saturating_duration_since(*at) >= KNOWN)
    }

    pub(super) fn note(&self, pid: i32, now: Instant, wait: Option<Wait>) {
        let mut waits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waits.retain(|_, (at, _)| now.saturating_duration_since(*at) < FRESH);
        match wait {
            Some(wait) => waits.insert(pid, (now, wait)),
            None => waits.remove(&pid),
        };
    }

    /// What `pid` waited for until a moment ago; then it is forgotten.
    pub(super) fn take(&self, pid: i32, now: Instant) -> Option<Wait> {
        let mut waits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, wait) = waits.remove(&pid)?;
        (now.saturating_duration_since(at) < FRESH).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(pid: i32) -> Holder {
        Holder { pid, name: "psql".to_owned(), state: None, open_seconds: None }
    }

    #[test]
    fn a_wait_is_told_with_its_table_and_its_holders() {
        let mut wait = Wait {
            kind: "relation".to_owned(),
            relation: Some("sink".to_owned()),
            holders: vec![Holder {
                state: Some("idle in transaction".to_owned()),
                open_seconds: Some(190.0),
                ..holder(4711)
            }],
        };
        assert_eq!(
            wait.to_string(),
            "a lock on sink held by pid 4711 (psql, idle in transaction, open for 3 min)"
        );
        wait.kind = "transactionid".to_owned();
        wait.holders = vec![holder(1), Holder { name: String::new(), ..holder(2) }, holder(0), holder(3)];
        assert_eq!(
            wait.to_string(),
            "a lock on a row of sink held by pid 1 (psql, another role's) and pid 2 (another role's) and a prepared \
             transaction (pg_prepared_xacts) and 1 more"
        );
        wait.relation = None;
        assert!(
            wait.to_string().starts_with("a row that another transaction has written held by "),
            "{wait}"
        );
        assert_eq!(printable("a\u{1b}[31mb"), "a\u{fffd}[31mb");
    }

    #[test]
    fn what_was_seen_is_told_once_and_not_for_long() {
        let (waits, now) = (Waits::default(), Instant::now());
        let wait = Wait { kind: "relation".to_owned(), relation: None, holders: vec![holder(1)] };
        assert!(waits.is_stale(7, now));
        waits.note(7, now, Some(wait.clone()));
        assert!(!waits.is_stale(7, now) && waits.is_stale(7, now + KNOWN));
        assert_eq!(waits.take(7, now + KNOWN), Some(wait.clone()));
        assert_eq!(waits.take(7, now), None, "told");
        waits.note(7, now, Some(wait));
        assert_eq!(waits.take(7, now + FRESH), None, "another wait, long ago");
    }
}
