//! PostgreSQL and Kafka, and what an operator prepares in them before the first worker starts.

use std::time::Instant;

use highwater::testing::{Database, Kafka, Postgres, Role};
use highwater::tokio_postgres::{self, Client, NoTls};
use highwater::{SchemaName, migrate};

use crate::options::Options;
use crate::{PARTITIONS, Result, TOPIC};

/// The tables that the handlers write; they belong to the application, not to Highwater.
const SINKS: [&str; 2] =
    [include_str!("../fraud_scores/schema.sql"), include_str!("../account_balances/schema.sql")];

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

/// As the owner: Highwater's tables (what `highwater migrate` does) and the sinks'. For the workers: a role that may
/// do what a worker does (what `highwater migrate --print-grants` prints), and write the sinks.
async fn prepare(database: &Database) -> Result<(Client, Role)> {
    let (owner_role, worker) = tokio::try_join!(database.role("owner"), database.role("worker"))?;
    let (name, owner_name) = (database.name(), &owner_role.name);
    database.execute(&format!("ALTER DATABASE \"{name}\" OWNER TO {owner_name}")).await?;

    let (mut owner, connection) = tokio_postgres::connect(&owner_role.url, NoTls).await?;
    tokio::spawn(connection);
    let schema = SchemaName::default();
    migrate::migrate(&mut owner, &schema).await?;
    owner.batch_execute(&SINKS.concat()).await?;
    owner.batch_execute(&migrate::grants(&schema, &worker.name)?).await?;
    let sinks = format!(
        "GRANT INSERT ON fraud_scores TO {0}; GRANT SELECT, INSERT, UPDATE ON account_balances TO {0}",
        worker.name
    );
    owner.batch_execute(&sinks).await?;
    Ok((owner, worker))
}
