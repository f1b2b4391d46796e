//! A real standby.

use std::process::Command;

use super::{Postgres, free_port, local};
use crate::testing::error::{Attempted, Error, Result, blocking};
use crate::testing::server::Server;

impl Postgres {
    /// A hot standby of this server: a copy of its data that follows it by streaming replication, read-only until
    /// `SELECT pg_promote()`. This server is stopped for the copy, and started again.
    ///
    /// # Errors
    /// When this server is no local process, or the other does not come up.
    pub async fn standby(&self) -> Result<Self> {
        let Server::Local(primary) = &self.server else {
            return Err(Error::new("make a standby of a server that is no local process: use start_local"));
        };
        let port = free_port()?;
        let follow = format!(
            "host={} port={} user={} password={} application_name=standby",
            self.host, self.port, self.user, self.password
        );
        let standby = local::server(port, &self.password, &[("primary_conninfo", &follow)]).await?;
        self.stop().await?;
        let (from, to) = (primary.folder.join("data"), standby.folder.join("data"));
        blocking(move || {
            let copied = Command::new("cp").arg("-a").arg(&from).arg(&to).status()?;
            if !copied.success() {
                return Err(Error::new(format!("copy {} to {}", from.display(), to.display())));
            }
            std::fs::write(to.join("standby.signal"), "").attempted(|| "write standby.signal".to_owned())
        })
        .await?;
        self.restart().await?;
        let postgres = Self {
            host: self.host.clone(),
            port,
            user: self.user.clone(),
            password: self.password.clone(),
            server: Server::Local(standby),
        };
        postgres.server.launch().await?;
        postgres.wait_ready().await?;
        Ok(postgres)
    }
}
