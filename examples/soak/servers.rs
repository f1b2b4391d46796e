//! PostgreSQL and Kafka, each behind a proxy as far as the workers are concerned.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use highwater::testing::{Backend, Database, Kafka, Postgres, Proxy};

use crate::prepare::prepare;
use crate::{PARTITIONS, Result, TOPIC};

/// The database's own part of some faults, to be armed by them.
const TRAPS: &str = include_str!("traps.sql");

/// What everything else stands on. The servers end when this is dropped.
pub(crate) struct Servers {
    pub(crate) kafka: Kafka,
    /// The workers' way to Kafka; the producers go straight.
    pub(crate) to_kafka: Proxy,
    /// The workers' way to PostgreSQL: the first of two hosts in their URL.
    pub(crate) to_postgres: Proxy,
    /// The second host. It refuses everybody, unless the first one is to drop what is sent to it.
    pub(crate) second_host: Proxy,
    /// Exchanged by fail-overs.
    primary: RwLock<Primary>,
    /// Of the workers' role, through the proxies.
    pub(crate) worker_url: String,
}

/// The server that is written to.
#[derive(Clone)]
pub(crate) struct Primary {
    pub(crate) postgres: Arc<Postgres>,
    pub(crate) database: Database,
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
        database.execute(TRAPS).await?;
        database.execute(&format!("GRANT INSERT ON kept_payments TO {}", worker.name)).await?;
        let to_postgres = Proxy::before_postgres(&worker.url).await?;
        let second_host = Proxy::before_postgres(&worker.url).await?;
        second_host.refuse(true);
        let (first, both) =
            (to_postgres.address(), format!("{},{}", to_postgres.address(), second_host.address()));
        let worker_url = to_postgres.url(&worker.url)?.replacen(&first.to_string(), &both, 1);
        println!(
            "PostgreSQL, Kafka, topic {TOPIC} ({PARTITIONS} partitions), tables and roles: {:.1?}",
            began.elapsed()
        );
        let primary = RwLock::new(Primary { postgres: Arc::new(postgres), database });
        Ok(Self { kafka, to_kafka, to_postgres, second_host, primary, worker_url })
    }

    /// The present primary.
    pub(crate) fn primary(&self) -> Primary {
        self.primary.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Its database.
    pub(crate) fn database(&self) -> Database {
        self.primary().database
    }

    /// From now on another one is the primary; the workers' next connections lead to it.
    pub(crate) fn fail_over_to(&self, primary: Primary) -> Result {
        self.to_postgres.lead_to(primary.database.url())?;
        self.second_host.lead_to(primary.database.url())?;
        *self.primary.write().unwrap_or_else(PoisonError::into_inner) = primary;
        Ok(())
    }

    /// One number from the database.
    pub(crate) async fn number(&self, sql: &str) -> Result<i64> {
        let rows = self.database().query(sql, &[]).await?;
        Ok(rows.first().ok_or("a query without a row")?.get(0))
    }

    /// Ends whatever still goes on.
    pub(crate) fn heal(&self) {
        self.to_kafka.hide_brokers(false);
        for proxy in [&self.to_kafka, &self.to_postgres] {
            proxy.resume();
            proxy.refuse(false);
            proxy.set_latency(std::time::Duration::ZERO);
        }
    }
}
