//! A test's own little world.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use highwater::config::StartPolicy;
use highwater::testing::{
    Database, Kafka, Message, Oracle, Postgres, Producer, Result, Role, unique, wait_until,
};
use highwater::{Handler, PartialConfig, SchemaName, Worker, WorkerHandle, migrate};

use super::{PATIENCE, sink};

/// A topic, a group, a database, a role.
pub(crate) struct World<'a> {
    pub(crate) kafka: &'a Kafka,
    pub(crate) database: Database,
    /// The workers': nothing but what `highwater migrate --print-grants` prints, and the sink's tables.
    pub(crate) role: Role,
    pub(crate) topic: String,
    pub(crate) group: String,
    pub(crate) partitions: i32,
    pub(crate) producer: Producer,
}

/// How a world differs from the usual.
pub(crate) struct Setup<'a> {
    pub(crate) kafka: &'a Kafka,
    pub(crate) postgres: &'a Postgres,
    pub(crate) partitions: i32,
    pub(crate) topic_config: &'a [(&'a str, &'a str)],
}

impl World<'static> {
    /// On the shared servers.
    pub(crate) async fn new(hint: &str, partitions: i32) -> Result<Self> {
        let (kafka, postgres) = tokio::try_join!(Kafka::shared(), Postgres::shared())?;
        World::with(hint, Setup { kafka, postgres, partitions, topic_config: &[] }).await
    }
}

impl<'a> World<'a> {
    /// On servers of the test's own, or with another topic.
    pub(crate) async fn with(hint: &str, setup: Setup<'a>) -> Result<Self> {
        let Setup { kafka, postgres, partitions, topic_config } = setup;
        let (topic, group) = (unique(hint), unique(&format!("{hint}-group")));
        kafka.create_topic_with(&topic, partitions, topic_config).await?;
        let database = postgres.fresh_database(hint).await?;
        let role = database.role("worker").await?;
        let schema = SchemaName::default();
        migrate::migrate(&mut database.client().await?, &schema).await.expect("the migrations apply");
        let grants = migrate::grants(&schema, &role.name).expect("the role's name is valid");
        database.execute(&grants).await?;
        database.execute(sink::TABLES).await?;
        database.execute(&format!("GRANT SELECT, INSERT, UPDATE ON sink, balances TO {}", role.name)).await?;
        let producer = kafka.producer()?;
        Ok(Self { kafka, database, role, topic, group, partitions, producer })
    }

    /// Settings of a worker of this world: short time-outs, start at the earliest record.
    pub(crate) fn settings(&self) -> PartialConfig {
        PartialConfig::default()
            .brokers(vec![self.kafka.bootstrap().to_owned()])
            .postgres_url(self.role.url.as_str())
            .group(self.group.clone())
            .topics(vec![self.topic.clone()])
            .program("it")
            .start(StartPolicy::Earliest)
            .session_timeout(Some(Duration::from_secs(6)))
    }

    /// A worker in this process.
    pub(crate) fn worker(&self, handler: impl Handler) -> WorkerHandle {
        self.worker_with(self.settings(), handler)
    }

    /// A worker in this process, with other settings.
    pub(crate) fn worker_with(&self, settings: PartialConfig, handler: impl Handler) -> WorkerHandle {
        let built = Worker::builder().ignore_environment().settings(settings).build(handler);
        built.expect("the settings are valid").spawn()
    }

    /// `count` records per partition: 20 accounts per partition, amounts 1 to 97.
    pub(crate) async fn produce(&self, count: usize) -> Result<()> {
        let record =
            |partition: i32, n: usize| (format!("p{partition}-a{}", n % 20), format!("{}", n % 97 + 1));
        self.producer.fill(&self.topic, self.partitions, count, record).await
    }

    /// As [`produce`](Self::produce), but no account is in two partitions' batches, nor twice in the topic.
    pub(crate) fn message(&self, partition: i32) -> Message {
        Message::to(&self.topic).partition(partition)
    }

    /// Waits until everything that Kafka holds for `read_committed` is applied, then runs the oracle and looks at the coverage
    /// ledger.
    pub(crate) async fn verify(&self) -> Result<()> {
        self.caught_up().await?;
        self.assert_ledger_gapless().await?;
        self.assert_exact(true).await
    }

    /// Waits until `next_offset` has reached the end of every partition.
    pub(crate) async fn caught_up(&self) -> Result<()> {
        let client = self.database.client().await?;
        let caught_up = wait_until("the group has caught up", PATIENCE, async || {
            for partition in 0..self.partitions {
                // A broker that was away may not lead it yet.
                let Ok((_, end)) = self.kafka.watermarks(&self.topic, partition).await else {
                    return Ok(None);
                };
                let sql = "SELECT next_offset FROM highwater.consumer_offset \
                           WHERE group_id = $1 AND topic = $2 AND partition = $3";
                let row = client.query_opt(sql, &[&self.group, &self.topic, &partition]).await;
                let row = row.map_err(|error| highwater::testing::Error::caused("read an offset", error))?;
                if row.is_none_or(|row| row.get::<_, i64>(0) < end) {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        })
        .await;
        if caught_up.is_err() {
            self.tell_standing().await?;
        }
        caught_up
    }

    /// Prints what the tables say of the group, for who reads that a test has waited in vain.
    async fn tell_standing(&self) -> Result<()> {
        for table in ["worker_status", "consumer_offset", "partition_status", "lag", "group_topic"] {
            let sql = format!(
                "SELECT (to_jsonb(t) - 'claim_token')::text FROM highwater.{table} t WHERE group_id = $1"
            );
            for row in self.database.query(&sql, &[&self.group]).await? {
                println!("{table}: {}", row.get::<_, &str>(0));
            }
        }
        Ok(())
    }

    /// The oracle: the multiset of (partition, offset) in `sink` equals what was produced (by delivery reports), and
    /// the balances are those of applying each record once (EO-1).
    pub(crate) async fn assert_exact(&self, balances: bool) -> Result<()> {
        let client = self.database.client().await?;
        let rows =
            format!("SELECT source_partition, source_offset FROM sink WHERE source_topic = '{}'", self.topic);
        Oracle::new(self.producer.ledger(), &self.topic).compare(&client, &rows).await?.assert_exact();
        if balances {
            self.assert_balances().await?;
        }
        Ok(())
    }

    /// The balances are those of applying each record that `read_committed` returns once.
    pub(crate) async fn assert_balances(&self) -> Result<()> {
        self.assert_balances_of(&[&self.topic]).await
    }

    /// As [`assert_balances`](Self::assert_balances), for the records of several topics.
    pub(crate) async fn assert_balances_of(&self, topics: &[&str]) -> Result<()> {
        self.assert_balances_but(topics, &BTreeSet::new()).await
    }

    /// … but for the records at these places, by partition and offset, which are dead letters.
    pub(crate) async fn assert_balances_but(
        &self,
        topics: &[&str],
        letters: &BTreeSet<(i32, i64)>,
    ) -> Result<()> {
        let mut expected: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        for topic in topics {
            for record in self.kafka.read(topic).await? {
                if letters.contains(&(record.partition, record.offset)) {
                    continue;
                }
                let (account, amount) = sink::read(record.key.as_deref(), record.value.as_deref());
                let total = expected.entry(account).or_default();
                total.0 += amount;
                total.1 += 1;
            }
        }
        let rows = self.database.query("SELECT account, balance, payments FROM balances", &[]).await?;
        let found: BTreeMap<String, (i64, i64)> =
            rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect();
        assert_eq!(found, expected, "a balance differs: a record was applied twice, or not at all");
        Ok(())
    }

    /// One number from the database.
    pub(crate) async fn number(&self, sql: &str) -> Result<i64> {
        Ok(self.database.query(sql, &[]).await?[0].get(0))
    }
}
