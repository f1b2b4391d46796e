//! PostgreSQL and Kafka, each behind a proxy as far as the workers are concerned.

use std::time::Instant;

use highwater::testing::{Backend, Database, Kafka, Postgres, Proxy};

use crate::prepare::prepare;
use crate::{PARTITIONS, Result, TOPIC};

/// What everything else stands on. The servers end when this is dropped.
pub(crate) struct Servers {
    pub(crate) kafka: Kafka,
    /// The workers' way to Kafka; the producers go straight.
    pub(crate) to_kafka: Proxy,
    pub(crate) postgres: Postgres,
    /// The workers' way to PostgreSQL.
    pub(crate) to_postgres: Proxy,
    pub(crate) database: Database,
    /// Of the workers' role, through the proxy.
    pub(crate) worker_url: String,
}

impl Servers {
    /// Starts the servers, and prepares topic, tables and roles.
    pub(crate) async fn start() -> Result<Self> {
        let began = Instant::now();
        if Backend::current().await? == Backend::Containers {
            return Err(
                "servers in containers cannot be put back to an older copy: set HIGHWATER_TEST_BACKEND=local"
                    .into(),
            );
        }
        let ((kafka, mut ways), postgres) = tokio::try_join!(Kafka::start_behind(1), Postgres::start())?;
        let to_kafka = ways.pop().ok_or("a proxy was asked for")?;
        kafka.create_topic(TOPIC, PARTITIONS).await?;
        let database = postgres.fresh_database("payments").await?;
        let (_, worker) = prepare(&database).await?;
        let to_postgres = Proxy::before_postgres(&worker.url).await?;
        let worker_url = to_postgres.url(&worker.url)?;
        println!(
            "PostgreSQL, Kafka, topic {TOPIC} ({PARTITIONS} partitions), tables and roles: {:.1?}",
            began.elapsed()
        );
        Ok(Self { kafka, to_kafka, postgres, to_postgres, database, worker_url })
    }

    /// One number from the database.
    pub(crate) async fn number(&self, sql: &str) -> Result<i64> {
        let rows = self.database.query(sql, &[]).await?;
        Ok(rows.first().ok_or("a query without a row")?.get(0))
    }

    /// Ends whatever still goes on.
    pub(crate) fn heal(&self) {
        for proxy in [&self.to_kafka, &self.to_postgres] {
            proxy.resume();
            proxy.refuse(false);
            proxy.set_latency(std::time::Duration::ZERO);
        }
    }
}
