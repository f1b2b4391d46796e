//! One connection for one command.

use std::time::Duration;

use highwater::config::DatabaseConfig;
use highwater::{Error, ErrorKind, Result};
use tokio_postgres::{Client, Config, NoTls};

/// Unless the address says otherwise: a person is waiting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects once: a command, unlike a worker, reports an outage instead of waiting for its end.
pub(crate) async fn connect(database: &DatabaseConfig) -> Result<Client> {
    // No source: the parser's message may quote a part of the address, and that part may be of the password.
    let mut options: Config = database.postgres_url.expose().parse().map_err(|_| {
        Error::new(ErrorKind::Configuration, format!("could not read the address {}", database.postgres_url))
    })?;
    if options.get_application_name().is_none() {
        options.application_name("highwater command");
    }
    if options.get_connect_timeout().is_none() {
        options.connect_timeout(CONNECT_TIMEOUT);
    }
    let (client, connection) = options
        .connect(NoTls)
        .await
        .map_err(|source| Error::postgres(format!("connect to {}", database.postgres_url), source))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection ended"); // whoever waits for an answer gets the error too
        }
    });
    Ok(client)
}
