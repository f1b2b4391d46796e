//! Three worker processes, and what is done to them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use highwater::testing::{self, Child, wait_until};
use highwater::tokio_postgres::Client;

use crate::servers::Servers;
use crate::worker::{FREEZE, HOLD, IN_A_BATCH, ORDERS};
use crate::{GROUP, PARTITIONS, Result, TOPIC};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The exit status of a process that SIGKILL ended, as a shell gives it.
const KILLED: i32 = 137;

/// The workers, by their number from 1.
pub(crate) struct Fleet<'a> {
    servers: &'a Servers,
    workers: BTreeMap<usize, Child>,
    orders: tempfile::TempDir,
    verbose: bool,
}

/// Who holds which partitions: process ids and partitions.
type Holders = BTreeMap<u32, BTreeSet<i32>>;

impl<'a> Fleet<'a> {
    pub(crate) fn new(servers: &'a Servers, verbose: bool) -> Result<Self> {
        let orders = tempfile::Builder::new().prefix("highwater-quickstart-").tempdir()?;
        Ok(Self { servers, workers: BTreeMap::new(), orders, verbose })
    }

    /// Starts worker `number`, as a pod would be: by environment variables alone.
    pub(crate) fn start(&mut self, number: usize) -> Result {
        let orders = self.orders(number);
        std::fs::create_dir_all(&orders)?;
        let mut command = Command::new(std::env::current_exe()?);
        // The settings of some other worker, in the shell that this was started from, are not for these.
        let foreign = |name: &str| name.starts_with("HIGHWATER_") && !name.starts_with("HIGHWATER_TEST_");
        for name in std::env::vars_os()
            .filter_map(|(name, _)| name.into_string().ok())
            .filter(|name| foreign(name) && !name.starts_with("HIGHWATER_LOG"))
        {
            command.env_remove(name);
        }
        command
            .arg("worker")
            .env("HIGHWATER_BROKERS", self.servers.kafka.bootstrap())
            .env("HIGHWATER_POSTGRES_URL", &self.servers.worker.url)
            .env("HIGHWATER_GROUP", GROUP)
            .env("HIGHWATER_TOPICS", TOPIC)
            .env("HIGHWATER_START", "earliest")
            .env("HIGHWATER_SESSION_TIMEOUT", "6s")
            .env(ORDERS, orders);
        let child = Child::spawn(&format!("worker {number}"), &command)?;
        println!("worker {number} started: process {}", child.pid());
        self.workers.insert(number, child);
        Ok(())
    }

    /// Waits until every partition has an owner, and every worker has partitions.
    pub(crate) async fn shared_out(&self) -> Result {
        let pids: BTreeSet<u32> = self.workers.values().map(Child::pid).collect();
        let holders = self
            .wait("the partitions are shared out among the workers", async |holders: Holders| {
                let held: usize = holders.values().map(BTreeSet::len).sum();
                let all = i32::try_from(held) == Ok(PARTITIONS);
                (all && holders.keys().copied().collect::<BTreeSet<_>>() == pids).then_some(holders)
            })
            .await?;
        let share =
            |(number, child): (&usize, &Child)| format!("worker {number}: {:?}", holders[&child.pid()]);
        println!("partitions are claimed: {}", self.workers.iter().map(share).collect::<Vec<_>>().join(", "));
        Ok(())
    }

    /// SIGKILL in the middle of a batch: rows are written, nothing is committed.
    pub(crate) async fn kill(&mut self, number: usize) -> Result {
        println!("\nkilling worker {number} with SIGKILL …");
        let told = self.order(number, HOLD).await?;
        let worker = &self.workers[&number];
        worker.kill()?;
        let status = worker.wait(PATIENCE).await?;
        if status != KILLED {
            return Err(format!("worker {number} ended with status {status} instead of being killed").into());
        }
        println!("… {told}: its transaction is gone, rows and offsets alike");
        Ok(())
    }

    /// A zombie: frozen in the middle of a batch, declared dead, replaced, and then awake again.
    ///
    /// Returns `false` if it was not fenced.
    pub(crate) async fn zombie(&self, number: usize) -> Result<bool> {
        println!("\nfreezing worker {number} with SIGSTOP …");
        let marks: BTreeMap<usize, usize> =
            self.workers.iter().map(|(other, child)| (*other, child.mark())).collect();
        let told = self.order(number, FREEZE).await?;
        println!("… {told}: it sends nothing more, not even a heartbeat");
        let worker = &self.workers[&number];
        let before = holders(&self.servers.owner).await?;
        let mine = before.get(&worker.pid()).cloned().unwrap_or_default();
        self.wait("the frozen worker's partitions have a new owner", async |holders: Holders| {
            let others = holders.iter().filter(|(pid, _)| **pid != worker.pid());
            let taken: BTreeSet<i32> = others.flat_map(|(_, partitions)| partitions).copied().collect();
            taken.is_superset(&mine).then_some(())
        })
        .await?;
        self.went_on_without(&mine).await?;
        println!(
            "its session timed out; the others claimed its partitions {mine:?} and have gone on without it"
        );
        worker.thaw()?;
        println!("waking it with SIGCONT: a zombie, which believes that it may commit …");
        let sql = "SELECT fenced_total FROM highwater.worker_status WHERE process_id = $1";
        let pid = i32::try_from(worker.pid())?;
        let fenced = wait_until("the zombie is fenced", Duration::from_secs(20), async || {
            let row = self.servers.owner.query_one(sql, &[&pid]).await?;
            Ok(Some(row.get::<_, i64>(0)).filter(|total| *total > 0))
        });
        let fenced = fenced.await;
        for (other, worker) in &self.workers {
            for line in worker.lines().iter().skip(marks[other]).filter(|line| line.text.contains(" WARN ")) {
                println!("  worker {other} | {}", line.text);
            }
        }
        match &fenced {
            Ok(total) => println!(
                "… fenced: fenced_total of worker {number} is {total}, and its batch was rolled back"
            ),
            Err(error) => println!("… NOT FENCED: {error:?}"),
        }
        Ok(fenced.is_ok())
    }

    /// Waits until the new claims of `partitions` have committed something: what the zombie still holds, and more.
    async fn went_on_without(&self, partitions: &BTreeSet<i32>) -> Result {
        let sql = "SELECT count(*) FROM highwater.consumer_offset \
                   WHERE group_id = $1 AND topic = $2 AND partition = ANY($3) AND next_offset > claimed_offset";
        let wanted: Vec<i32> = partitions.iter().copied().collect();
        let waited = wait_until("the new owners have committed", PATIENCE, async || {
            let moved: i64 = self.servers.owner.query_one(sql, &[&GROUP, &TOPIC, &wanted]).await?.get(0);
            Ok((usize::try_from(moved) == Ok(wanted.len())).then_some(()))
        });
        Ok(waited.await?)
    }

    /// SIGTERM for everybody: batches in flight are finished, claims released, offsets copied to Kafka.
    pub(crate) async fn stop(&self) -> Result {
        println!("stopping the workers with SIGTERM");
        for worker in self.workers.values() {
            worker.term()?;
        }
        for (number, worker) in &self.workers {
            let status = worker.wait(PATIENCE).await?;
            if status != 0 {
                return Err(format!("worker {number} ended with status {status}; it wrote:\n{worker}").into());
            }
        }
        Ok(())
    }

    /// What the workers wrote last, for the reader of an error.
    pub(crate) fn last_words(&self) {
        for (number, worker) in &self.workers {
            let lines = worker.lines();
            let shown = if self.verbose { lines.len() } else { 30 };
            for line in lines.iter().skip(lines.len().saturating_sub(shown)) {
                eprintln!("  worker {number} | {}", line.text);
            }
        }
    }

    fn orders(&self, number: usize) -> PathBuf {
        self.orders.path().join(number.to_string())
    }

    /// Gives an order and waits until it is carried out; returns how the worker put it.
    async fn order(&self, number: usize, order: &str) -> Result<String> {
        let worker = &self.workers[&number];
        let mark = worker.mark();
        std::fs::write(self.orders(number).join(order), "")?;
        Ok(worker.wait_for_line_from(mark, |line| line.starts_with(IN_A_BATCH), PATIENCE).await?)
    }

    /// Waits for what the database says; an error as soon as a worker has ended by itself.
    async fn wait<T>(&self, what: &str, found: impl AsyncFn(Holders) -> Option<T>) -> Result<T> {
        let waited = wait_until(what, PATIENCE, async || {
            if let Some((number, worker)) =
                self.workers.iter().find(|(_, worker)| worker.exit_status().is_some())
            {
                return Err(testing::Error::new(format!("worker {number} has ended; it wrote:\n{worker}")));
            }
            Ok(found(holders(&self.servers.owner).await?).await)
        });
        Ok(waited.await?)
    }
}

async fn holders(client: &Client) -> testing::Result<Holders> {
    let sql = "SELECT w.process_id, o.partition FROM highwater.consumer_offset o \
               JOIN highwater.worker_status w USING (owner) WHERE o.group_id = $1 AND o.topic = $2";
    let mut holders = Holders::new();
    for row in client.query(sql, &[&GROUP, &TOPIC]).await? {
        let pid = u32::try_from(row.get::<_, i32>(0)).unwrap_or(0);
        holders.entry(pid).or_default().insert(row.get(1));
    }
    Ok(holders)
}
