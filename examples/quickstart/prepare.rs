//! What an operator prepares in a database before the first worker starts.

use highwater::testing::{Database, Role};
use highwater::tokio_postgres::{self, Client, NoTls};
use highwater::{SchemaName, migrate};

use crate::Result;

/// The tables that the handlers write; they belong to the application, not to Highwater.
const SINKS: [&str; 2] =
    [include_str!("../fraud_scores/schema.sql"), include_str!("../account_balances/schema.sql")];

/// As the owner: Highwater's tables (what `highwater migrate` does) and the sinks'. For the workers: a role that may
/// do what a worker does (what `highwater migrate --print-grants` prints), and write the sinks.
pub(crate) async fn prepare(database: &Database) -> Result<(Client, Role)> {
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
