//! The worker processes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use highwater::testing::{Child, wait_until};

use crate::options::{Options, Protocol};
use crate::servers::Servers;
use crate::worker::{BY_FILE, FREEZE, IN_A_BATCH, KEEP, ORDERS};
use crate::{GROUP, PARTITIONS, Result, TOPIC, WORKERS};

/// How long anything may take on a busy machine, in the middle of other faults.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The workers' limit for a batch.
pub(crate) const MAX_PROCESSING_TIME: Duration = Duration::from_secs(4);

/// How long the group keeps a member that says nothing: of the workers under the classic protocol, of the broker under
/// KIP-848.
pub(crate) const SESSION: Duration = Duration::from_secs(6);

/// What the workers' logs are searched for at the end.
pub(crate) const TOLD: [(&str, &str); 4] = [
    ("unknown outcomes", "the outcome of a commit is unknown"),
    ("fencings", " fenced: "),
    ("backends ended", "ended a backend"),
    ("batches tried again", "a batch was not applied"),
];

/// Shared by the two sequences of faults; whoever starts and ends them keeps the other one from it.
pub(crate) struct Fleet<'a> {
    servers: &'a Servers,
    protocol: Protocol,
    /// What becomes of rejected payments, where they do not halt their partition.
    by_file: bool,
    on_rejected: Option<&'static str>,
    orders: tempfile::TempDir,
    workers: Mutex<BTreeMap<usize, Arc<Child>>>,
    told: Mutex<[usize; TOLD.len()]>,
}

impl<'a> Fleet<'a> {
    pub(crate) fn start(servers: &'a Servers, options: &Options) -> Result<Self> {
        let fleet = Self {
            servers,
            protocol: options.protocol,
            by_file: options.pipeline,
            on_rejected: options.poison.then_some(if options.park { "park_key" } else { "dead_letter" }),
            orders: tempfile::Builder::new().prefix("highwater-soak-").tempdir()?,
            workers: Mutex::default(),
            told: Mutex::default(),
        };
        for number in 1..=WORKERS {
            fleet.start_one(number)?;
        }
        Ok(fleet)
    }

    /// Starts worker `number`, as a pod would be: by environment variables alone.
    pub(crate) fn start_one(&self, number: usize) -> Result {
        let orders = self.orders(number);
        std::fs::create_dir_all(&orders)?;
        // An order that its predecessor did not live to carry out.
        let _ = std::fs::remove_file(orders.join(FREEZE));
        let mut command = Command::new(std::env::current_exe()?);
        let foreign = |name: &str| name.starts_with("HIGHWATER_") && !name.starts_with("HIGHWATER_TEST_");
        for name in std::env::vars_os()
            .filter_map(|(name, _)| name.into_string().ok())
            .filter(|name| foreign(name) && !name.starts_with("HIGHWATER_LOG"))
        {
            command.env_remove(name);
        }
        command
            .arg("worker")
            .env("HIGHWATER_BROKERS", self.servers.to_kafka.address().to_string())
            .env("HIGHWATER_POSTGRES_URL", &self.servers.worker_url)
            .env("HIGHWATER_GROUP", GROUP)
            .env("HIGHWATER_TOPICS", TOPIC)
            .env("HIGHWATER_START", "earliest")
            // Short time-outs and small batches: more of everything in the same time.
            .env("HIGHWATER_MAX_PROCESSING_TIME", format!("{}s", MAX_PROCESSING_TIME.as_secs()))
            .env("HIGHWATER_LOCK_TIMEOUT", "1s")
            .env("HIGHWATER_DRAIN_DEADLINE", "3s")
            .env("HIGHWATER_RETRY_BACKOFF_MAX", "1s")
            .env("HIGHWATER_BATCH_MAX_RECORDS", "500")
            .env(KEEP, "1")
            .env(ORDERS, orders);
        if self.by_file {
            command.env(BY_FILE, "1");
        }
        if let Some(policy) = self.on_rejected {
            command.env("HIGHWATER_ON_REJECTED", policy);
            for limit in ["IN_A_ROW", "PER_MILLION", "PER_MINUTE"] {
                command.env(format!("HIGHWATER_DEAD_LETTER_MAX_{limit}"), "off");
            }
        }
        match self.protocol.of_worker(number) {
            Some(protocol) => command.env("HIGHWATER_GROUP_PROTOCOL", protocol),
            None => command.env("HIGHWATER_SESSION_TIMEOUT", format!("{}s", SESSION.as_secs())),
        };
        let child = Child::spawn(&format!("worker {number}"), &command)?;
        self.lock().insert(number, Arc::new(child));
        Ok(())
    }

    /// Takes a worker out, to be ended: from now on its end is no surprise.
    pub(crate) fn take(&self, number: usize) -> Result<Arc<Child>> {
        self.lock().remove(&number).ok_or_else(|| format!("worker {number} does not run").into())
    }

    pub(crate) fn get(&self, number: usize) -> Result<Arc<Child>> {
        self.lock().get(&number).cloned().ok_or_else(|| format!("worker {number} does not run").into())
    }

    /// Counts what a worker that has ended had told.
    pub(crate) fn bury(&self, worker: &Child) {
        let lines = worker.lines();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for (count, (_, text)) in told.iter_mut().zip(TOLD) {
            *count += lines.iter().filter(|line| line.text.contains(text)).count();
        }
    }

    /// What all workers that have ended had told.
    pub(crate) fn told(&self) -> [usize; TOLD.len()] {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Errors
    /// When a worker has ended that nobody ended.
    pub(crate) fn all_well(&self) -> Result {
        for (number, worker) in &*self.lock() {
            if let Some(status) = worker.exit_status() {
                let text =
                    format!("worker {number} ended by itself with status {status}; it wrote:\n{worker}");
                return Err(text.into());
            }
        }
        Ok(())
    }

    /// The number of the worker with this process id.
    pub(crate) fn number_of(&self, pid: u32) -> Option<usize> {
        self.lock().iter().find(|(_, worker)| worker.pid() == pid).map(|(number, _)| *number)
    }

    /// Freezes a worker in the middle of a batch; returns how it put that.
    pub(crate) async fn freeze(&self, number: usize, worker: &Child) -> Result<String> {
        let mark = worker.mark();
        std::fs::write(self.orders(number).join(FREEZE), "")?;
        Ok(worker.wait_for_line_from(mark, |line| line.starts_with(IN_A_BATCH), PATIENCE).await?)
    }

    /// Waits until every worker holds partitions, and all of them are held.
    pub(crate) async fn shared_out(&self) -> Result {
        let waited = wait_until("the partitions are shared out among the workers", PATIENCE, async || {
            let sql = "SELECT count(*) FILTER (WHERE w.owner IS NULL), count(DISTINCT w.process_id) \
                       FROM highwater.consumer_offset o LEFT JOIN highwater.worker_status w USING (owner) \
                       WHERE o.group_id = $1";
            let rows = self.servers.database().query(sql, &[&GROUP]).await?;
            let (free, holders): (i64, i64) = (rows[0].get(0), rows[0].get(1));
            Ok((free == 0 && usize::try_from(holders) == Ok(WORKERS)).then_some(()))
        });
        let waited = waited.await;
        if waited.is_err() {
            self.explain().await?;
        }
        Ok(waited?)
    }

    /// Waits until something of every partition was applied: before that a fault would find nobody at work.
    pub(crate) async fn at_work(&self) -> Result {
        let waited = wait_until("every partition has moved", PATIENCE, async || {
            let sql =
                "SELECT count(*) FROM highwater.consumer_offset WHERE group_id = $1 AND next_offset > 0";
            let rows = self.servers.database().query(sql, &[&GROUP]).await?;
            Ok((rows[0].get::<_, i64>(0) == i64::from(PARTITIONS)).then_some(()))
        });
        Ok(waited.await?)
    }

    /// Who holds what, and what everybody says of himself: for the reader of a fault that was not seen to happen.
    async fn explain(&self) -> Result {
        let sql = "SELECT w.host || ' ' || w.process_id || ', heartbeat ' || (clock_timestamp() - w.heartbeat_at)::text \
                     || ' ago, ' || w.state || CASE WHEN w.ready THEN ' ready' ELSE ' not ready' END || ': ' \
                     || coalesce(w.detail, '-') || '; holds ' || coalesce((SELECT string_agg(o.partition::text, ',' ORDER BY \
                       o.partition) FROM highwater.consumer_offset o WHERE o.owner = w.owner), 'nothing') \
                   FROM highwater.worker_status w WHERE w.stopped_at IS NULL ORDER BY w.heartbeat_at DESC LIMIT 12";
        for row in self.servers.database().query(sql, &[]).await? {
            println!("  {}", row.get::<_, String>(0));
        }
        self.last_words();
        Ok(())
    }

    /// The random id of a worker's process, as in `consumer_offset.owner`.
    pub(crate) async fn owner(&self, worker: &Child) -> Result<String> {
        let line = worker.wait_for_line(|line| line.contains(" starting group="), PATIENCE).await?;
        let owner = line.split("owner=").nth(1).and_then(|rest| rest.split(' ').next());
        Ok(owner.ok_or("the line names no owner")?.to_owned())
    }

    /// What `owner` holds, with the epochs of its claims.
    pub(crate) async fn holds(&self, owner: &str) -> highwater::testing::Result<BTreeSet<(i32, i64)>> {
        let sql = "SELECT partition, epoch FROM highwater.consumer_offset WHERE owner::text = $1";
        let rows = self.servers.database().query(sql, &[&owner]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// SIGTERM for everybody: batches in flight are finished, claims released, offsets copied to Kafka.
    pub(crate) async fn stop(&self) -> Result {
        let workers = std::mem::take(&mut *self.lock());
        for worker in workers.values() {
            worker.term()?;
        }
        for (number, worker) in &workers {
            let status = worker.wait(PATIENCE).await?;
            self.bury(worker);
            if status != 0 {
                return Err(format!("worker {number} ended with status {status}; it wrote:\n{worker}").into());
            }
        }
        Ok(())
    }

    /// What the workers wrote last, for the reader of an error.
    pub(crate) fn last_words(&self) {
        for (number, worker) in &*self.lock() {
            let lines = worker.lines();
            for line in lines.iter().skip(lines.len().saturating_sub(30)) {
                eprintln!("  worker {number} | {}", line.text);
            }
        }
    }

    fn orders(&self, number: usize) -> PathBuf {
        self.orders.path().join(number.to_string())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<usize, Arc<Child>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
