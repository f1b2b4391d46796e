//! Waiting for a worker's status, and what must hold at any moment, also beside a halted partition.

use std::collections::BTreeMap;

use highwater::testing::{Error, Result, wait_until};
use highwater::{PartitionState, WorkerHandle, WorkerStatus};

use super::world::World;
use super::{PATIENCE, sink};

/// Waits until the worker's status fits.
pub(crate) async fn status_until(
    worker: &WorkerHandle,
    what: &str,
    fits: impl Fn(&WorkerStatus) -> bool,
) -> Result<WorkerStatus> {
    let mut changes = worker.subscribe();
    let found = tokio::time::timeout(PATIENCE, changes.wait_for(|status| fits(status))).await;
    match found {
        Ok(Ok(status)) => Ok(status.clone()),
        _ => Err(Error::new(format!("waited in vain until {what}; the worker says {:#?}", worker.status()))),
    }
}

/// Waits until a partition has halted; returns why.
pub(crate) async fn halted(worker: &WorkerHandle, partition: i32) -> Result<String> {
    let is_it = |status: &WorkerStatus| {
        let found = status.partitions.iter().find(|status| status.partition == partition)?;
        (found.state == PartitionState::Halted).then(|| found.detail.clone().unwrap_or_default())
    };
    let what = format!("partition {partition} has halted");
    let status = status_until(worker, &what, |status| is_it(status).is_some()).await?;
    Ok(is_it(&status).unwrap_or_default())
}

/// The partitions that have halted, in order.
pub(crate) fn halted_now(worker: &WorkerHandle) -> Vec<i32> {
    let partitions = worker.status().partitions;
    let halted = partitions.iter().filter(|status| status.state == PartitionState::Halted);
    halted.map(|status| status.partition).collect()
}

impl World<'_> {
    /// Waits until `next_offset` of one partition is at least `offset`.
    pub(crate) async fn reached(&self, partition: i32, offset: i64) -> Result<()> {
        let what = format!("partition {partition} has reached {offset}");
        wait_until(&what, PATIENCE, async || {
            Ok(self.next_offset(partition).await?.is_some_and(|next| next >= offset).then_some(()))
        })
        .await
    }

    /// `next_offset` as Postgres has it.
    pub(crate) async fn next_offset(&self, partition: i32) -> Result<Option<i64>> {
        let sql = "SELECT next_offset FROM highwater.consumer_offset \
                   WHERE group_id = $1 AND topic = $2 AND partition = $3";
        let rows = self.database.query(sql, &[&self.group, &self.topic, &partition]).await?;
        Ok(rows.first().map(|row| row.get(0)))
    }

    /// Waits until `partition_status`, which is what the on-call person sees, says that a partition has halted;
    /// returns its detail.
    pub(crate) async fn reported_halt(&self, partition: i32) -> Result<String> {
        let sql = "SELECT detail FROM highwater.partition_status \
                   WHERE group_id = $1 AND topic = $2 AND partition = $3 AND state = 'halted'";
        let what = format!("the halt of partition {partition} is reported");
        wait_until(&what, PATIENCE, async || {
            let rows = self.database.query(sql, &[&self.group, &self.topic, &partition]).await?;
            Ok(rows.first().map(|row| row.get(0)))
        })
        .await
    }

    /// Waits until this halt is reported, in the place of an earlier worker's.
    pub(crate) async fn reported(&self, partition: i32, why: &str) -> Result<()> {
        wait_until(&format!("partition {partition} is reported as halted: {why}"), PATIENCE, async || {
            Ok((self.reported_halt(partition).await? == why).then_some(()))
        })
        .await
    }

    /// EO-1 as it stands, whoever has halted: in one snapshot of the database the rows and the balances are those
    /// of exactly the records before each partition's `next_offset`. Returns these, by partition.
    pub(crate) async fn assert_consistent(&self) -> Result<BTreeMap<i32, i64>> {
        let mut client = self.database.client().await?;
        let snapshot = client
            .build_transaction()
            .isolation_level(tokio_postgres::IsolationLevel::RepeatableRead)
            .start()
            .await?;
        let sql =
            "SELECT partition, next_offset FROM highwater.consumer_offset WHERE group_id = $1 AND topic = $2";
        let rows = snapshot.query(sql, &[&self.group, &self.topic]).await?;
        let next: BTreeMap<i32, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let sql = "SELECT source_partition, source_offset, count(*) FROM sink WHERE source_topic = $1 GROUP BY 1, 2";
        let rows = snapshot.query(sql, &[&self.topic]).await?;
        let found: BTreeMap<(i32, i64), i64> =
            rows.iter().map(|row| ((row.get(0), row.get(1)), row.get(2))).collect();
        let rows = snapshot.query("SELECT account, balance, payments FROM balances", &[]).await?;
        let balances: BTreeMap<String, (i64, i64)> =
            rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();

        let (mut expected, mut totals) = (BTreeMap::new(), BTreeMap::<String, (i64, i64)>::new());
        for record in self.kafka.read(&self.topic).await? {
            if next.get(&record.partition).is_none_or(|next| record.offset >= *next) {
                continue;
            }
            expected.insert((record.partition, record.offset), 1);
            let (account, amount) = sink::read(record.key.as_deref(), record.value.as_deref());
            let total = totals.entry(account).or_default();
            total.0 += amount;
            total.1 += 1;
        }
        assert_eq!(found, expected, "the rows are not those of the records before {next:?}");
        assert_eq!(balances, totals, "the balances are not those of the records before {next:?}");
        Ok(next)
    }
}
