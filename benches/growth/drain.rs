//! Worker processes that drain a topic.

use std::time::{Duration, Instant};

use highwater::testing::unique;

use crate::support::member::{Group, Setting, stop};
use crate::support::payments::Contents;
use crate::support::servers::Servers;
use crate::support::stats::{float, median};
use crate::support::{Result, payments, process, table};

/// The sink's table, partitioned.
pub(crate) const PARTITIONED: &str = "
    CREATE TABLE scores_8 (LIKE scores INCLUDING ALL) PARTITION BY HASH (merchant_id);
    CREATE TABLE scores_64 (LIKE scores INCLUDING ALL) PARTITION BY HASH (merchant_id);
    DO $$ BEGIN
        FOR ways IN 1..2 LOOP
            FOR part IN 0..(CASE ways WHEN 1 THEN 8 ELSE 64 END - 1) LOOP
                EXECUTE format('CREATE TABLE scores_%1$s_%2$s PARTITION OF scores_%1$s
                    FOR VALUES WITH (MODULUS %1$s, REMAINDER %2$s) WITH (autovacuum_enabled = off)',
                    CASE ways WHEN 1 THEN 8 ELSE 64 END, part);
            END LOOP;
        END LOOP;
    END $$;
";

/// What is drained, and how.
pub(crate) struct Drain<'a> {
    servers: &'a Servers,
    topic: String,
    partitions: i32,
    records: u64,
    pub(crate) workers: usize,
    pub(crate) table: &'static str,
    /// At most so many records in a transaction.
    pub(crate) batch: Option<u64>,
    settings: Vec<Setting>,
}

/// What it took. CPU in µs per record, start-up included.
pub(crate) struct Drained {
    /// Records per second, from the workers' start to the last commit.
    pub(crate) rate: f64,
    pub(crate) worker_cpu: f64,
    pub(crate) postgres_cpu: f64,
    pub(crate) broker_cpu: f64,
    /// The largest worker's peak of resident memory, in bytes.
    pub(crate) memory: f64,
}

impl Drained {
    /// CPU per record of all of them.
    pub(crate) fn cpu(&self) -> f64 {
        self.worker_cpu + self.postgres_cpu + self.broker_cpu
    }

    /// Each figure's median over several runs.
    pub(crate) fn median(runs: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| median(&runs.iter().map(figure).collect::<Vec<_>>());
        Self {
            rate: of(|run| run.rate),
            worker_cpu: of(|run| run.worker_cpu),
            postgres_cpu: of(|run| run.postgres_cpu),
            broker_cpu: of(|run| run.broker_cpu),
            memory: of(|run| run.memory),
        }
    }
}

impl<'a> Drain<'a> {
    /// Fills a topic; one worker with its defaults would drain it into `scores`.
    pub(crate) async fn new(
        servers: &'a Servers,
        partitions: i32,
        records: u64,
        codec: &str,
    ) -> Result<Self> {
        let topic = unique("payments");
        payments::produce(&servers.kafka, &topic, partitions, records, codec).await?;
        Ok(Self {
            servers,
            topic,
            partitions,
            records,
            workers: 1,
            table: "scores",
            batch: None,
            settings: Vec::new(),
        })
    }

    /// The same, by workers with these settings.
    pub(crate) fn with(mut self, settings: &[Setting]) -> Self {
        self.settings = settings.to_vec();
        self
    }

    /// Runs from the workers' start to the oracle.
    pub(crate) async fn run(&self) -> Result<Drained> {
        let client = &self.servers.client;
        table::fresh(client, self.partitions).await?;
        client.batch_execute("TRUNCATE scores_8, scores_64").await?;
        let batch = self.batch.map(|batch| batch.to_string());
        let mut settings: Vec<_> =
            self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        if let Some(batch) = &batch {
            settings
                .extend([("BATCH_MAX_RECORDS", batch.as_str()), ("BATCH_TARGET_RECORDS", batch.as_str())]);
        }
        let group = Group::new(self.servers, &self.topic, &settings);
        let tree = |pid: Option<u32>| pid.map(process::tree_cpu).unwrap_or_default();
        let servers = || (tree(self.servers.postgres.pid()), tree(self.servers.kafka.pid()));
        let before = servers();
        let (mut members, began) = (Vec::new(), Instant::now());
        for number in 0..self.workers {
            members.push(group.start(&format!("worker {number}"), self.table, &[])?);
        }
        let timeout = Duration::from_secs(240);
        group.wait(&members, self.records, timeout).await?;
        let elapsed = began.elapsed();
        let pids = || members.iter().map(highwater::testing::Child::pid);
        let worker: Duration = pids().filter_map(process::cpu_of).sum();
        let memory = pids().filter_map(process::peak_memory).max().unwrap_or(0);
        let after = servers();
        stop(&members).await?;
        self.verify().await?;
        let per_record = |used: Duration| used.as_secs_f64() * 1e6 / float(self.records);
        Ok(Drained {
            rate: float(self.records) / elapsed.as_secs_f64(),
            worker_cpu: per_record(worker),
            postgres_cpu: per_record(after.0.saturating_sub(before.0)),
            broker_cpu: per_record(after.1.saturating_sub(before.1)),
            memory: float(memory),
        })
    }

    async fn verify(&self) -> Result {
        let partitions = u64::try_from(self.partitions)?;
        let end =
            |partition: u64| self.records / partitions + u64::from(partition < self.records % partitions);
        let ends =
            (0..partitions).map(|partition| i64::try_from(end(partition))).collect::<Result<Vec<_>, _>>()?;
        table::verify_in(&self.servers.client, self.table, self.records, &ends, Contents::add).await
    }
}
