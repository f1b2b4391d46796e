//! Positions in Postgres, read from outside every few milliseconds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use highwater::tokio_postgres::Client;
use tokio::task::JoinHandle;

use crate::support::Result;

const EVERY: Duration = Duration::from_millis(5);
/// Longer than the longest session, and then the rest.
const PATIENCE: Duration = Duration::from_secs(90);

/// When a partition's position was first seen moved, and by whom.
#[derive(Debug, Clone)]
struct Move {
    at: Instant,
    owner: String,
}

/// By partition.
type Moves = BTreeMap<i32, Vec<Move>>;

/// Looks until it is dropped.
pub(crate) struct Watch {
    moves: Arc<Mutex<Moves>>,
    task: JoinHandle<Result>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    /// Begins, on a connection of its own.
    pub(crate) fn start(client: Client, group: String) -> Self {
        let moves: Arc<Mutex<Moves>> = Arc::default();
        let seen = Arc::clone(&moves);
        let task = tokio::spawn(async move {
            let sql = "SELECT partition, next_offset, claimed_by::text FROM highwater.consumer_offset WHERE group_id = $1";
            let statement = client.prepare(sql).await?;
            let mut positions: BTreeMap<i32, i64> = BTreeMap::new();
            loop {
                let rows = client.query(&statement, &[&group]).await?;
                let at = Instant::now();
                for row in rows {
                    let (partition, position): (i32, i64) = (row.get(0), row.get(1));
                    let before = positions.insert(partition, position);
                    if before.is_some_and(|before| before < position) {
                        let owner = row.get::<_, Option<String>>(2).unwrap_or_default();
                        lock(&seen).entry(partition).or_default().push(Move { at, owner });
                    }
                }
                tokio::time::sleep(EVERY).await;
            }
        });
        Self { moves, task }
    }

    /// Who moved each partition last.
    pub(crate) fn owners(&self) -> BTreeMap<i32, String> {
        let moves = lock(&self.moves);
        moves
            .iter()
            .filter_map(|(partition, moves)| Some((*partition, moves.last()?.owner.clone())))
            .collect()
    }

    /// Waits until all of `partitions` have moved after `since`, by as many owners as there are `members`, and gone on
    /// like that for two seconds.
    pub(crate) async fn settled(
        &self,
        partitions: i32,
        members: usize,
        since: Instant,
    ) -> Result<BTreeMap<i32, String>> {
        let began = Instant::now();
        let mut steady: Option<(Instant, BTreeMap<i32, String>)> = None;
        while began.elapsed() < PATIENCE {
            tokio::time::sleep(EVERY).await;
            if self.task.is_finished() {
                return Err("the positions cannot be read any more".into());
            }
            let owners = self.owners();
            let distinct: BTreeSet<&String> = owners.values().collect();
            let moving = {
                let moves = lock(&self.moves);
                let recent = |moves: &Vec<Move>| {
                    moves
                        .last()
                        .is_some_and(|last| last.at > since && last.at.elapsed() < Duration::from_secs(1))
                };
                moves.values().filter(|moves| recent(moves)).count()
            };
            if i32::try_from(moving)? < partitions || distinct.len() != members {
                steady = None;
                continue;
            }
            match &steady {
                Some((since, same)) if *same == owners => {
                    if since.elapsed() > Duration::from_secs(2) {
                        return Ok(owners);
                    }
                }
                _ => steady = Some((Instant::now(), owners)),
            }
        }
        Err(format!("the group has not settled in {PATIENCE:?}: {:?}", self.owners()).into())
    }

    /// When `partition` first moved after `since` by somebody else than `former`.
    pub(crate) fn taken_over(&self, partition: i32, since: Instant, former: &str) -> Option<Instant> {
        let moves = lock(&self.moves);
        let taken = moves.get(&partition)?.iter().find(|moved| moved.at > since && moved.owner != former)?;
        Some(taken.at)
    }

    /// The longest time between two moves of `partition` of which the later one was after `since`, in seconds.
    pub(crate) fn longest_gap(&self, partition: i32, since: Instant, until: Instant) -> f64 {
        let moves = lock(&self.moves);
        let moves = moves.get(&partition).map(Vec::as_slice).unwrap_or_default();
        let pairs = moves.windows(2).filter(|pair| pair[1].at > since && pair[1].at <= until);
        pairs.map(|pair| (pair[1].at - pair[0].at).as_secs_f64()).fold(0.0, f64::max)
    }
}

fn lock(moves: &Mutex<Moves>) -> MutexGuard<'_, Moves> {
    moves.lock().unwrap_or_else(PoisonError::into_inner)
}
