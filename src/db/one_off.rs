//! Single sessions beside the pools, for what is done once.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::connect::Connector;
use super::password::Password;
use crate::config::{Config, PostgresUrl};
use crate::error::{Error, Result};

/// A server, and as whom it is talked to.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    connector: Connector,
    setting: &'static str,
    /// Without a password.
    address: String,
}

impl Server {
    /// The worker's own.
    ///
    /// # Errors
    /// If the address, or a file that it names, cannot be read.
    pub(crate) fn of_worker(config: &Config, application: &str) -> Result<Self> {
        let (file, command) = (&config.postgres_password_file, &config.postgres_password_command);
        let password = Password::new(file.as_deref(), command.as_ref());
        Self::new("postgres_url", &config.postgres_url, password, application)
    }

    /// That of `evolve_url`, if it is set.
    ///
    /// # Errors
    /// As [`of_worker`](Self::of_worker).
    pub(crate) fn of_evolution(config: &Config, application: &str) -> Result<Option<Self>> {
        let Some(url) = &config.evolve_url else { return Ok(None) };
        let (file, command) = (&config.evolve_password_file, &config.evolve_password_command);
        let password = Password::of("evolve_password", file.as_deref(), command.as_ref());
        Self::new("evolve_url", url, password, application).map(Some)
    }

    fn new(setting: &'static str, url: &PostgresUrl, password: Password, application: &str) -> Result<Self> {
        let address = url
            .address()
            .map_err(|defect| Error::configuration(format!("the address in {setting} {defect}")))?;
        let connector = Connector::new(&address, password, |server| {
            super::session::client_settings(server, application)
        })?;
        Ok(Self { connector, setting, address: url.to_string() })
    }

    /// A session of a primary.
    ///
    /// # Errors
    /// [`Authentication`](crate::ErrorKind::Authentication) if it refuses us; [`Postgres`](crate::ErrorKind::Postgres) for
    /// the rest.
    pub(crate) async fn connect(&self) -> Result<Client> {
        let connected = self.connector.connect().await;
        connected.map(|(client, _)| client).map_err(|source| match source.code() {
            Some(&SqlState::INVALID_CATALOG_NAME) => {
                let Self { setting, address, .. } = self;
                let text = format!("the database that {setting} names does not exist ({address})");
                Error::configuration(text).with_source(source)
            }
            _ => Error::postgres(format!("connect to {}", self.address), source),
        })
    }
}
