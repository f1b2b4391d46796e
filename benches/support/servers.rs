//! Kafka and Postgres, with the same settings for every contender.

use highwater::testing::{Database, Kafka, Postgres};
use highwater::tokio_postgres::{self, Client, NoTls};
use highwater::{SchemaName, migrate};

use super::{Result, table};

/// What a database for bulk loads is given: no checkpoint falls into one contender's run and not into another's.
/// Durability is as it comes: `fsync`, `full_page_writes` and `synchronous_commit` are on.
pub(crate) const POSTGRES_SETTINGS: &[(&str, &str)] = &[
    ("shared_buffers", "512MB"),
    ("min_wal_size", "4GB"),
    ("max_wal_size", "8GB"),
    ("checkpoint_timeout", "1h"),
    ("track_wal_io_timing", "on"),
];

/// The servers end when this is dropped.
pub(crate) struct Servers {
    pub(crate) kafka: Kafka,
    pub(crate) postgres: Postgres,
    pub(crate) database: Database,
    /// A connection beside those that are measured.
    pub(crate) client: Client,
}

impl Servers {
    /// Starts both, and makes Highwater's tables and the sink's.
    ///
    /// # Errors
    /// When a server does not come up.
    pub(crate) async fn start(own: &[(&str, &str)]) -> Result<Self> {
        let settings = [POSTGRES_SETTINGS, own].concat();
        let (kafka, postgres) =
            tokio::try_join!(Kafka::start_with(BROKER_PROPERTIES), Postgres::start_with(&settings))?;
        let database = postgres.fresh_database("bench").await?;
        let mut client = connect(database.url()).await?;
        migrate::migrate(&mut client, &SchemaName::default()).await?;
        client.batch_execute(table::SCHEMA).await?;
        Ok(Self { kafka, postgres, database, client })
    }

    /// How many records each partition of `topic` holds, if none was removed.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub(crate) async fn ends(&self, topic: &str, partitions: i32) -> Result<Vec<i64>> {
        let mut ends = Vec::new();
        for partition in 0..partitions {
            ends.push(self.kafka.watermarks(topic, partition).await?.1);
        }
        Ok(ends)
    }
}

/// The kit's broker looks for old segments every second, which tests want.
const BROKER_PROPERTIES: &[(&str, &str)] = &[("log.retention.check.interval.ms", "300000")];

/// A connection, driven by the present runtime.
pub(crate) async fn connect(url: &str) -> Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
