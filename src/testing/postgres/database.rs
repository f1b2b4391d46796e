//! A database for one test, and roles in it.

use std::fmt::Write;

use tokio_postgres::{Client, Row, types::ToSql};

use super::Postgres;
use crate::testing::{
    error::{Attempted, Result},
    unique,
};

/// A database of its own for one test. It goes with its server; an external server keeps it until
/// [`Database::remove`].
#[derive(Debug, Clone)]
pub struct Database {
    name: String,
    url: String,
    admin_url: String,
    /// The URL with `{user}` and `{password}` still open, for roles.
    host_and_port: String,
}

/// A role that may log in.
#[derive(Debug, Clone)]
pub struct Role {
    /// Its name, which needs no quoting.
    pub name: String,
    /// Its password.
    pub password: String,
    /// Its URL for the database that it was made for.
    pub url: String,
}

impl Database {
    pub(super) fn new(postgres: &Postgres, name: String) -> Self {
        Self {
            url: postgres.url(&postgres.user, &postgres.password, &name),
            admin_url: postgres.admin_url(),
            host_and_port: format!("{}:{}", postgres.host, postgres.port),
            name,
        }
    }

    /// Its name, which needs no quoting.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The URL of the superuser in this database.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A connection of the superuser.
    ///
    /// # Errors
    /// When no connection can be made.
    pub async fn client(&self) -> Result<Client> {
        connect(&self.url).await
    }

    /// A new role that may log in and nothing more, with a name that no other test uses (roles belong to the whole
    /// server).
    ///
    /// # Errors
    /// When it cannot be created.
    pub async fn role(&self, hint: &str) -> Result<Role> {
        let (name, password) = (unique(hint), unique("secret"));
        let statement = format!("CREATE ROLE \"{name}\" LOGIN PASSWORD '{password}'");
        self.client().await?.batch_execute(&statement).await?;
        let url = format!("postgres://{name}:{password}@{}/{}", self.host_and_port, self.name);
        Ok(Role { name, password, url })
    }

    /// Runs statements as the superuser, on a connection of their own.
    ///
    /// # Errors
    /// When one of them fails.
    pub async fn execute(&self, statements: &str) -> Result<()> {
        self.client().await?.batch_execute(statements).await.attempted(|| format!("run {statements:?}"))
    }

    /// The rows of a query as the superuser, on a connection of its own.
    ///
    /// # Errors
    /// When it fails.
    pub async fn query(&self, query: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        self.client().await?.query(query, parameters).await.attempted(|| format!("run {query:?}"))
    }

    /// How many rows a table (or a parenthesised query with an alias) has.
    ///
    /// # Errors
    /// When the query fails.
    pub async fn count(&self, table: &str) -> Result<i64> {
        let rows = self.query(&format!("SELECT count(*) FROM {table}"), &[]).await?;
        Ok(rows[0].get(0))
    }

    /// Removes it, whoever is still connected.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn remove(self) -> Result<()> {
        let admin = connect(&self.admin_url).await?;
        Ok(admin.batch_execute(&format!("DROP DATABASE \"{}\" WITH (FORCE)", self.name)).await?)
    }
}

/// A connection whose other half runs on the current runtime.
pub(super) async fn connect(url: &str) -> Result<Client> {
    let (client, drive) = super::connect(url).await?;
    tokio::spawn(drive);
    Ok(client)
}

/// The user or password part of a URL.
pub(super) fn percent_encoded(part: &str) -> String {
    let mut encoded = String::new();
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a String does not fail");
        }
    }
    encoded
}
