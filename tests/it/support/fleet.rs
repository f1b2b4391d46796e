//! Looking at a group as a whole: who owns what, under a load that goes on.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use highwater::testing::{Result, wait_until};

use super::{PATIENCE, World};

/// The pace of [`World::under_load`].
const ROUND: Duration = Duration::from_millis(40);

/// Owner and epoch per partition.
pub(crate) type Owners = BTreeMap<i32, (Option<String>, i64)>;

impl World<'_> {
    /// Produces to all partitions for as long as `work` runs.
    pub(crate) async fn under_load<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let over = Cell::new(false);
        let load = async {
            let mut rounds = tokio::time::interval(ROUND);
            while !over.get() {
                rounds.tick().await;
                self.produce(10).await?;
            }
            Ok(())
        };
        let work = async {
            let done = work.await;
            over.set(true);
            done
        };
        let (done, ()) = tokio::try_join!(work, load)?;
        Ok(done)
    }

    /// Who holds what.
    pub(crate) async fn owners(&self) -> Result<Owners> {
        let sql = "SELECT partition, owner::text, epoch FROM highwater.consumer_offset WHERE group_id = $1 AND topic = $2";
        let rows = self.database.query(sql, &[&self.group, &self.topic]).await?;
        Ok(rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect())
    }

    /// Waits until all partitions are held, by `count` processes, which all are live.
    pub(crate) async fn held_by(&self, count: usize) -> Result<Owners> {
        wait_until(&format!("{count} processes hold all partitions"), PATIENCE, async || {
            let owners = self.owners().await?;
            let live = "SELECT owner::text FROM highwater.worker_status WHERE group_id = $1 AND stopped_at IS NULL \
                        AND heartbeat_at > clock_timestamp() - interval '3 seconds'";
            let live: BTreeSet<String> =
                self.database.query(live, &[&self.group]).await?.iter().map(|row| row.get(0)).collect();
            let held: BTreeSet<&String> = owners.values().filter_map(|(owner, _)| owner.as_ref()).collect();
            let complete = owners.values().all(|(owner, _)| owner.as_ref().is_some_and(|owner| live.contains(owner)));
            Ok((complete && !owners.is_empty() && held.len() == count).then_some(owners))
        })
        .await
    }

    /// Waits until `owner` holds a partition.
    pub(crate) async fn holds_something(&self, owner: &str) -> Result<()> {
        wait_until(&format!("{owner} holds a partition"), PATIENCE, async || {
            Ok(self
                .owners()
                .await?
                .values()
                .any(|(holder, _)| holder.as_deref() == Some(owner))
                .then_some(()))
        })
        .await
    }

    /// Waits until `count` more rows than now are in `sink`.
    pub(crate) async fn progress(&self, count: i64) -> Result<()> {
        let goal = self.database.count("sink").await? + count;
        wait_until(&format!("{goal} rows are in the sink"), PATIENCE, async || {
            Ok((self.database.count("sink").await? >= goal).then_some(()))
        })
        .await
    }

    /// A column of `worker_status` for one process.
    pub(crate) async fn status_of(&self, owner: &str, column: &str) -> Result<i64> {
        let sql = format!("SELECT {column}::int8 FROM highwater.worker_status WHERE owner::text = $1");
        Ok(self.database.query(&sql, &[&owner]).await?[0].get(0))
    }
}
