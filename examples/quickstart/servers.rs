//! PostgreSQL and Kafka, and what an operator prepares in them before the first worker starts.

use std::time::Instant;

use highwater::testing::{Backend, Kafka, Postgres, Role};
use highwater::tokio_postgres::Client;

use crate::options::Options;
use crate::prepare::prepare;
use crate::{PARTITIONS, Result, TOPIC};

/// What everything else stands on. The servers end when this is dropped.
pub(crate) struct Servers {
    pub(crate) kafka: Kafka,
    /// Not a real broker, but the client library's.
    pub(crate) mock: bool,
    /// Of the owner of the tables, not of the workers.
    pub(crate) owner: Client,
    pub(crate) worker: Role,
    _postgres: Postgres,
}

impl Servers {
    /// Starts the servers, says which they are, and prepares topic, tables and roles.
    pub(crate) async fn start(options: &Options) -> Result<Self> {
        let began = Instant::now();
        Backend::current().await?; // a misspelt one is an error, and no reason for the mock broker
        let unavailable = Kafka::check_available().await.err();
        let mock = options.mock || unavailable.is_some();
        if let (Some(error), false) = (&unavailable, options.mock) {
            println!("no real Kafka broker can be had here: {error:?}");
        }
        println!("starting PostgreSQL and Kafka; the first time, they are downloaded …");
        let kafka = async { if mock { Kafka::mock().await } else { Kafka::start().await } };
        let (kafka, postgres) = tokio::try_join!(kafka, Postgres::start())?;
        let how =
            |pid: Option<u32>| pid.map_or("a container".to_owned(), |pid| format!("local process {pid}"));
        println!("PostgreSQL is {} at {}:{}", how(postgres.pid()), postgres.host(), postgres.port());
        if mock {
            println!(
                "Kafka is the client library's in-process mock broker at {}: a demonstration, not a proof. It knows no \
                 read_committed, rebalances slowly, and keeps 5 MiB of a partition",
                kafka.bootstrap()
            );
        } else {
            println!("Kafka is a real broker, {} at {}", how(kafka.pid()), kafka.bootstrap());
        }
        kafka.create_topic(TOPIC, PARTITIONS).await?;
        let database = postgres.fresh_database("payments").await?;
        let (owner, worker) = prepare(&database).await?;
        println!(
            "servers, topic {TOPIC} ({PARTITIONS} partitions), tables and roles: {:.1?}",
            began.elapsed()
        );
        Ok(Self { kafka, mock, owner, worker, _postgres: postgres })
    }
}
