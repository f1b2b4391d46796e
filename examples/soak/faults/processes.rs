//! Faults on worker processes.

use std::time::Duration;

use highwater::testing::{Child, wait_until};

use super::Faults;
use crate::fleet::PATIENCE;
use crate::schedule::Fault;
use crate::{GROUP, Result, WORKERS};

/// The exit status of a process that SIGKILL ended, as a shell gives it.
const KILLED: i32 = 137;

impl Faults<'_> {
    /// Does it; returns what was seen.
    pub(super) async fn on_process(&self, fault: Fault) -> Result<String> {
        match fault {
            Fault::Kill { worker, down } => self.kill(worker, down).await,
            Fault::Zombie { worker } => self.zombie(worker).await,
            Fault::Rolling => self.rolling().await,
            other => Err(format!("{other:?} is no fault of a process").into()),
        }
    }

    async fn kill(&self, number: usize, down: Duration) -> Result<String> {
        let _alone = self.processes.lock().await;
        let worker = self.fleet.take(number)?;
        worker.kill()?;
        self.moving.killed();
        let status = worker.wait(PATIENCE).await?;
        self.fleet.bury(&worker);
        tokio::time::sleep(down).await;
        self.fleet.start_one(number)?;
        match status {
            KILLED => Ok(format!("worker {number} ended with status {status}, and is back after {down:?}")),
            _ => Err(format!("worker {number} ended with status {status}").into()),
        }
    }

    /// Frozen with its transaction open and its rows written, until all that it held is others'; then awake again.
    async fn zombie(&self, number: usize) -> Result<String> {
        let _untroubled = self.postgres.lock().await;
        let _alone = self.processes.lock().await;
        self.fleet.shared_out().await?;
        let worker = self.fleet.get(number)?;
        let owner = self.fleet.owner(&worker).await?;
        // After a fail-over its row may be gone, until it beats again.
        let before =
            wait_until("the worker's status is there", PATIENCE, async || Ok(self.fenced(&owner).await.ok()))
                .await?;
        let redrives_before = redrives_given_up(&worker);
        let told = self.fleet.freeze(number, &worker).await?;
        let seen = async {
            let held = self.fleet.holds(&owner).await?;
            wait_until("the frozen worker's partitions have new owners", PATIENCE, async || {
                Ok(self.fleet.holds(&owner).await?.is_empty().then_some(()))
            })
            .await?;
            let lost: Vec<i32> = held.iter().map(|(partition, _)| *partition).collect();
            // If the server has ended its session meanwhile (it was idle in its transaction for too long), what it has
            // written is gone, and there is nothing left to fence.
            let in_transaction = self.in_transaction(&owner).await?;
            worker.thaw()?;
            if !in_transaction {
                return Ok(format!(
                    "worker {number}, {told}: lost {lost:?} to others and its session to the server, woke up"
                ));
            }
            let fenced = wait_until("the zombie counts its fencing", PATIENCE, async || {
                let now = self.fenced(&owner).await.map_err(|error| {
                    highwater::testing::Error::caused("read what the zombie counts", error)
                })?;
                // It may have been in the middle of a redrive, and its lanes at rest.
                let redrives = redrives_given_up(&worker) - redrives_before;
                Ok(match now - before {
                    0 if redrives == 0 => None,
                    0 => Some("its redrive was rolled back".to_owned()),
                    fenced => Some(format!("was fenced {fenced} times")),
                })
            })
            .await?;
            Ok(format!("worker {number}, {told}: lost {lost:?} to others, woke up, {fenced}"))
        };
        let seen = seen.await;
        // Whatever went wrong: a worker that stays frozen would spoil the rest.
        let _ = worker.thaw();
        seen
    }

    /// Whether the batch that it was frozen in is still open.
    async fn in_transaction(&self, owner: &str) -> Result<bool> {
        let sql = "SELECT count(*) FROM pg_stat_activity \
                   WHERE application_name LIKE '%/' || replace($1, '-', '') AND xact_start IS NOT NULL AND state LIKE 'idle in transaction%'";
        let rows = self.servers.database().query(sql, &[&owner]).await?;
        Ok(rows[0].get::<_, i64>(0) > 0)
    }

    async fn fenced(&self, owner: &str) -> Result<i64> {
        let sql = "SELECT fenced_total FROM highwater.worker_status WHERE owner::text = $1";
        let rows = self.servers.database().query(sql, &[&owner]).await?;
        Ok(rows.first().ok_or("the worker has no status")?.get(0))
    }

    /// SIGTERM and a new process for the worker that has reported on this partition last; `false` if it is gone.
    pub(super) async fn restart_reporter(&self, partition: i32) -> Result<bool> {
        let _alone = self.processes.lock().await;
        let sql = "SELECT w.process_id FROM highwater.partition_status s JOIN highwater.worker_status w USING (owner) \
                   WHERE s.group_id = $1 AND s.partition = $2";
        let rows = self.servers.database().query(sql, &[&GROUP, &partition]).await?;
        let pid = rows.first().and_then(|row| u32::try_from(row.get::<_, i32>(0)).ok());
        let Some(number) = pid.and_then(|pid| self.fleet.number_of(pid)) else { return Ok(false) };
        let worker = self.fleet.take(number)?;
        worker.term()?;
        let status = worker.wait(PATIENCE).await?;
        self.fleet.bury(&worker);
        self.fleet.start_one(number)?;
        if status != 0 {
            return Err(format!("worker {number}, restarted, ended with status {status}").into());
        }
        Ok(true)
    }

    async fn rolling(&self) -> Result<String> {
        let _alone = self.processes.lock().await;
        let mut statuses = Vec::new();
        for number in 1..=WORKERS {
            let worker = self.fleet.take(number)?;
            worker.term()?;
            let status = worker.wait(PATIENCE).await;
            self.fleet.bury(&worker);
            self.fleet.start_one(number)?;
            statuses.push(status?);
            // As a deployment does: the next one when this one is there.
            self.fleet.owner(&*self.fleet.get(number)?).await?;
        }
        if statuses.iter().any(|status| *status != 0) {
            return Err(format!("the workers ended with statuses {statuses:?}").into());
        }
        Ok(format!("{WORKERS} workers ended with status 0 and were replaced"))
    }
}

/// How often it has said that dead letters were not redriven.
fn redrives_given_up(worker: &Child) -> usize {
    worker.lines().iter().filter(|line| line.text.contains("dead letters were not redriven")).count()
}
