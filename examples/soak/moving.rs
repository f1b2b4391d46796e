//! What must hold around every fault: each partition moves again soon after it, and nothing halts that is not to blame.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use highwater::tokio_postgres::Client;
use tokio::sync::oneshot;

use crate::fleet::SESSION;
use crate::servers::Servers;
use crate::{GROUP, PARTITIONS, Result};

/// The bound: so long after the end of a fault every partition has moved. Time does not count in which a server is
/// faulty again, or Kafka has yet to notice that a worker was killed: meanwhile the group shares nothing out.
pub(crate) const BOUND: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_millis(500);
/// A server that is away must not hold up the next look.
const LIMIT: Duration = Duration::from_secs(5);

/// Positions, and the rows of present claims that say `halted`: a row of an earlier claim says nothing of this one. A
/// partition that has halted belongs to nobody.
const LOOK: &str = "\
    SELECT o.partition, o.next_offset, CASE WHEN s.state = 'halted' THEN coalesce(s.detail, '') END \
    FROM highwater.consumer_offset o \
    LEFT JOIN highwater.partition_status s ON (s.group_id, s.topic, s.partition, s.epoch) \
        = (o.group_id, o.topic, o.partition, o.epoch) AND (o.owner IS NULL OR o.owner = s.owner) \
    WHERE o.group_id = $1";

/// Looks at all partitions twice a second.
#[derive(Debug, Default)]
pub(crate) struct Moving(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    windows: Vec<Window>,
    /// How many faults of servers are going on.
    faulty: usize,
    /// When the session of the worker that was killed last is over.
    session_over: Option<Instant>,
    /// Those that hold a record which kills its backend: they may halt at it.
    to_blame: BTreeSet<i32>,
    slowest: Option<Slowest>,
    /// Who did not move in time, in words.
    late: Vec<String>,
}

/// What is waited for after one fault, or beside it.
#[derive(Debug)]
struct Window {
    what: String,
    /// Beside a fault its own time counts.
    is_beside: bool,
    still: BTreeSet<i32>,
    /// As first seen; a partition moves when its position is another, a smaller one after a restored backup included.
    from: BTreeMap<i32, i64>,
    passed: Duration,
    /// Tells whoever waits, by being dropped.
    _closed: oneshot::Sender<()>,
}

/// The longest that a partition has stood still after a fault.
#[derive(Debug, Clone)]
pub(crate) struct Slowest {
    pub(crate) partition: i32,
    pub(crate) passed: Duration,
    pub(crate) what: String,
}

/// Held while a fault of a server goes on.
pub(crate) struct Faulty<'a>(&'a Moving);

impl Drop for Faulty<'_> {
    fn drop(&mut self) {
        self.0.lock().faulty -= 1;
    }
}

impl Moving {
    /// Looks until it is dropped.
    ///
    /// # Errors
    /// When a partition has halted that is not to blame: from there on the run would only tell of that.
    pub(crate) async fn watch(&self, servers: &Servers) -> Result<Infallible> {
        let (mut client, mut last) = (None, Instant::now());
        loop {
            tokio::time::sleep(INTERVAL).await;
            let seen = tokio::time::timeout(LIMIT, look(&mut client, servers)).await;
            let passed = last.elapsed();
            last = Instant::now();
            match seen {
                Ok(Ok(seen)) => self.lock().tick(passed, &seen)?,
                // Nothing is known of the partitions, so nothing is held against them.
                Ok(Err(_)) | Err(_) => client = None,
            }
        }
    }

    /// A fault of a server begins.
    pub(crate) fn faulty(&self) -> Faulty<'_> {
        self.lock().faulty += 1;
        Faulty(self)
    }

    /// A worker was killed.
    pub(crate) fn killed(&self) {
        self.lock().session_over = Some(Instant::now() + SESSION);
    }

    /// From now on every partition must move. Resolves when all have, or the bound has passed.
    pub(crate) fn after(&self, what: String) -> impl Future<Output = ()> + use<> {
        self.open(what, false, (0..PARTITIONS).collect())
    }

    /// As [`Moving::after`], but while a fault of this one partition goes on: the others must not wait for its end.
    pub(crate) fn beside(&self, what: String, partition: i32) -> impl Future<Output = ()> + use<> {
        self.open(what, true, (0..PARTITIONS).filter(|other| *other != partition).collect())
    }

    fn open(&self, what: String, is_beside: bool, still: BTreeSet<i32>) -> impl Future<Output = ()> + use<> {
        let (sender, closed) = oneshot::channel();
        self.lock().windows.push(Window {
            what,
            is_beside,
            still,
            from: BTreeMap::new(),
            passed: Duration::ZERO,
            _closed: sender,
        });
        async move { drop(closed.await) }
    }

    /// Waits until nothing is waited for any more.
    pub(crate) async fn settled(&self) {
        while !self.lock().windows.is_empty() {
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Whether this partition may halt, for it holds what kills its backend.
    pub(crate) fn blame(&self, partition: i32, is_to_blame: bool) {
        let mut state = self.lock();
        if is_to_blame {
            state.to_blame.insert(partition);
        } else {
            state.to_blame.remove(&partition);
        }
    }

    pub(crate) fn slowest(&self) -> Option<Slowest> {
        self.lock().slowest.clone()
    }

    pub(crate) fn late(&self) -> Vec<String> {
        self.lock().late.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Per partition its position, and what it says if it has halted.
type Look = BTreeMap<i32, (i64, Option<String>)>;

async fn look(client: &mut Option<Client>, servers: &Servers) -> Result<Look> {
    let client = match client {
        Some(client) => client,
        None => client.insert(servers.database().client().await?),
    };
    let rows = client.query(LOOK, &[&GROUP]).await?;
    Ok(rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect())
}

/// What a partition says that has halted under its present claim.
pub(crate) async fn halted(servers: &Servers, partition: i32) -> Result<Option<String>> {
    Ok(look(&mut None, servers).await?.remove(&partition).and_then(|(_, halted)| halted))
}

impl State {
    fn tick(&mut self, passed: Duration, seen: &Look) -> Result {
        for (partition, (_, halted)) in seen {
            if let Some(detail) = halted.as_ref().filter(|_| !self.to_blame.contains(partition)) {
                return Err(format!("partition {partition} halted and is not to blame: {detail}").into());
            }
        }
        let counts = self.faulty == 0 && self.session_over.is_none_or(|over| over <= Instant::now());
        for window in &mut self.windows {
            if counts || window.is_beside {
                window.passed += passed;
            }
            for (partition, (position, _)) in seen {
                let from = *window.from.entry(*partition).or_insert(*position);
                let has_moved = from != *position && window.still.remove(partition);
                if has_moved && self.slowest.as_ref().is_none_or(|slowest| slowest.passed < window.passed) {
                    let (partition, passed, what) = (*partition, window.passed, window.what.clone());
                    self.slowest = Some(Slowest { partition, passed, what });
                }
            }
            window.still.retain(|partition| !self.to_blame.contains(partition));
            if !window.still.is_empty() && window.passed > BOUND {
                let text = format!("partitions {:?} stood still for {BOUND:?} {}", window.still, window.what);
                println!("        DID NOT MOVE: {text}");
                self.late.push(text);
                window.still.clear();
            }
        }
        self.windows.retain(|window| !window.still.is_empty());
        Ok(())
    }
}
