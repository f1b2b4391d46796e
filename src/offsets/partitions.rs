//! What a person tells a partition's worker: halt, pause, resume, skip, retry. Done in the database at once, by the fence;
//! the worker hears of it by a row of `partition_control`, and says there when it has obeyed.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio_postgres::Row;

use super::ends::survey;
use super::request::Selection;
use super::skipped::{Because, Skipped};
use super::takeover::{Taken, Why, key, lock, take};
use super::{Offsets, utc};
use crate::batch::PartitionKey;
use crate::error::{Error, ErrorKind, Result};

/// How often it is looked whether an order was obeyed.
const LOOK: Duration = Duration::from_millis(100);

/// What is told a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Verb {
    /// Stop, and count as an error until it is retried.
    Halt,
    /// Stop, until it is resumed.
    Pause,
    /// Go on after a pause.
    Resume,
    /// Step over records.
    Skip,
    /// Try again after a halt.
    Retry,
    /// Go on from another offset: written by a plan that is applied.
    Reset,
}

impl Verb {
    /// As the tables have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Halt => "halt",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Skip => "skip",
            Self::Retry => "retry",
            Self::Reset => "reset",
        }
    }
}

/// What some partitions of a group are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    group: String,
    selection: Selection,
    verb: Verb,
    to: Option<i64>,
    store: bool,
    actor: String,
    reason: String,
}

impl Order {
    /// `verb` for what `selection` names of `group`.
    #[must_use]
    pub fn new(group: impl Into<String>, selection: Selection, verb: Verb) -> Self {
        let (actor, reason) = ("unknown".to_owned(), "none given".to_owned());
        Self { group: group.into(), selection, verb, to: None, store: true, actor, reason }
    }

    /// Where a [`Skip`](Verb::Skip) goes on: the first offset that is applied again.
    #[must_use]
    pub fn to(mut self, to: i64) -> Self {
        self.to = Some(to);
        self
    }

    /// Whether what a [`Skip`](Verb::Skip) steps over is kept, in `dead_letter`. Default: it is.
    #[must_use]
    pub fn store(mut self, store: bool) -> Self {
        self.store = store;
        self
    }

    /// Who says so, and why: recorded, and shown where the partition stands still.
    #[must_use]
    pub fn by(mut self, actor: impl Into<String>, reason: impl Into<String>) -> Self {
        self.actor = actor.into();
        self.reason = reason.into();
        self
    }
}

/// What became of an order in a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Obeyed {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// What it was told.
    pub verb: Verb,
    /// Where it stood.
    pub from: i64,
    /// Where it goes on.
    pub to: i64,
    /// When its worker had obeyed, in UTC; none: nobody has it.
    pub obeyed_at: Option<String>,
    /// Which worker.
    pub obeyed_by: Option<String>,
    /// How many records that were skipped are kept in `dead_letter`; none: it was not a skip, or they were not to be.
    pub stored: Option<u64>,
    #[serde(skip)]
    epoch: i64,
}

impl Offsets {
    /// Gives an order, in one transaction for all its partitions. When this returns, nothing of before can commit any
    /// more; workers act on it within two seconds: see [`await_obeyed`](Self::await_obeyed).
    ///
    /// A partition that already is as it was ordered to be (paused, not paused, past the offset) is left alone, and not in
    /// the answer: an order may be given twice.
    ///
    /// # Errors
    ///
    /// If a name is unknown, or the place to go on lies behind the end of the log, or what is to be skipped cannot be read.
    pub async fn order(&mut self, order: &Order) -> Result<Vec<Obeyed>> {
        self.reconnect().await?;
        if order.verb == Verb::Reset || (order.verb == Verb::Skip) != order.to.is_some() {
            return Err(Error::configuration(
                "a skip names where to go on, and nothing else does; resets are planned",
            ));
        }
        let standing = self.standing(&order.group, &order.selection).await?;
        if let Some(to) = order.to {
            let survey = survey(self.kafka()?, &standing).await?;
            for row in &standing {
                let end = survey.available[&row.key].end.get();
                if to > end {
                    return Err(Error::configuration(format!(
                        "{} ends at {end}: what is not there yet cannot be skipped (to {to})",
                        row.key
                    )));
                }
            }
        }
        let skipped = match order.to {
            Some(to) if order.store => Some(self.read_skipped(&standing, to).await?),
            _ => None,
        };
        let keys: Vec<PartitionKey> = standing.into_iter().map(|row| row.key).collect();
        let carried_out = self.carry_out(order, &keys, skipped.as_ref()).await.map_err(|source| {
            let verb = order.verb.as_str();
            Error::postgres(format!("{verb} partitions of group `{}`", order.group), source)
        })?;
        carried_out.ok_or_else(|| {
            Error::new(
                ErrorKind::Difference,
                "somebody has moved a partition back meanwhile, and nothing was skipped: look, and say it again",
            )
        })
    }

    async fn carry_out(
        &mut self,
        order: &Order,
        keys: &[PartitionKey],
        skipped: Option<&HashMap<PartitionKey, Skipped>>,
    ) -> Result<Option<Vec<Obeyed>>, tokio_postgres::Error> {
        let schema = self.database.schema.clone();
        let halted = self.reported_halted(&order.group).await?;
        let transaction = self.client.transaction().await?;
        let rows = lock(&transaction, &schema, &order.group, keys).await?;
        let concerned: Vec<&Row> =
            rows.iter().filter(|row| concerns(order, row, halted.contains(&key(row)))).collect();
        let mut stored = HashMap::new();
        for row in concerned.iter().filter(|_| skipped.is_some()) {
            let (at, from): (_, i64) = (key(row), row.get(2));
            let Some(read) = skipped.and_then(|all| all.get(&at)).filter(|read| read.from <= from) else {
                return Ok(None);
            };
            let because = Because { actor: &order.actor, reason: &order.reason };
            let count = read.store(&transaction, &schema, &order.group, from, because).await?;
            stored.insert(at, count);
        }
        let taken: Vec<Taken> = concerned.iter().map(|row| Taken { key: key(row), to: order.to }).collect();
        let why = Why { verb: order.verb, actor: &order.actor, reason: &order.reason, plan_id: None };
        take(&transaction, &schema, &order.group, &taken, why).await?;
        transaction.commit().await?;
        let obeyed = concerned
            .iter()
            .map(|row| Obeyed {
                topic: row.get(0),
                partition: row.get(1),
                verb: order.verb,
                from: row.get(2),
                to: order.to.unwrap_or_else(|| row.get(2)),
                obeyed_at: None,
                obeyed_by: None,
                stored: stored.get(&key(row)).copied(),
                epoch: row.get(3),
            })
            .collect();
        Ok(Some(obeyed))
    }

    /// Which partitions their workers report as halted.
    async fn reported_halted(&self, group: &str) -> Result<Vec<PartitionKey>, tokio_postgres::Error> {
        let sql = format!(
            "SELECT topic, partition FROM {} WHERE group_id = $1 AND state = 'halted'",
            self.schema().qualified("partition_status")
        );
        Ok(self.client.query(&sql, &[&group]).await?.iter().map(key).collect())
    }

    /// Waits until workers have obeyed, at most `limit`; `orders` says of each who did and when.
    ///
    /// # Errors
    ///
    /// If it cannot be read. That nobody obeys is none: there may be no worker.
    pub async fn await_obeyed(&mut self, group: &str, orders: &mut [Obeyed], limit: Duration) -> Result<()> {
        let until = Instant::now() + limit;
        let sql = format!(
            "SELECT topic, partition, epoch, {}, obeyed_by::text FROM {} WHERE group_id = $1 AND obeyed_at IS NOT NULL \
             AND requested_at > clock_timestamp() - interval '1 hour'",
            utc("obeyed_at"),
            self.schema().qualified("partition_control")
        );
        loop {
            self.reconnect().await?;
            let rows = self.client.query(&sql, &[&group]).await;
            for row in rows.map_err(|source| Error::postgres("read what was obeyed", source))? {
                let of = |order: &Obeyed| {
                    order.topic == row.get::<_, &str>(0)
                        && order.partition == row.get::<_, i32>(1)
                        && order.epoch == row.get::<_, i64>(2)
                };
                for order in orders.iter_mut().filter(|order| of(order)) {
                    order.obeyed_at = row.get(3);
                    order.obeyed_by = row.get(4);
                }
            }
            if Instant::now() > until || orders.iter().all(|order| order.obeyed_at.is_some()) {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// What a plan that was applied has told workers, to wait for.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub async fn orders_of(&mut self, plan_id: i64) -> Result<Vec<Obeyed>> {
        let sql = format!(
            "SELECT c.topic, c.partition, coalesce(s.applied_from, s.from_offset), s.to_offset, c.epoch \
             FROM {} c JOIN {} s USING (plan_id, topic, partition) \
             WHERE c.plan_id = $1 AND c.verb = 'reset' ORDER BY 1, 2",
            self.schema().qualified("partition_control"),
            self.schema().qualified("offset_plan_step"),
        );
        let rows = self.client.query(&sql, &[&plan_id]).await;
        let rows = rows.map_err(|source| Error::postgres("read what workers were told", source))?;
        Ok(rows
            .iter()
            .map(|row| Obeyed {
                topic: row.get(0),
                partition: row.get(1),
                verb: Verb::Reset,
                from: row.get(2),
                to: row.get(3),
                obeyed_at: None,
                obeyed_by: None,
                stored: None,
                epoch: row.get(4),
            })
            .collect())
    }
}

/// Whether a locked row is not yet as it is ordered to be.
fn concerns(order: &Order, row: &Row, is_reported_halted: bool) -> bool {
    let (next_offset, paused, halted, held): (i64, bool, bool, bool) =
        (row.get(2), row.get::<_, Option<&str>>(4).is_some(), row.get(5), row.get(6));
    match order.verb {
        Verb::Halt => !halted,
        Verb::Pause => !paused,
        Verb::Resume => (paused || held) && !halted,
        Verb::Retry => halted || (is_reported_halted && !paused),
        Verb::Skip => order.to.is_some_and(|to| next_offset < to),
        Verb::Reset => false,
    }
}
