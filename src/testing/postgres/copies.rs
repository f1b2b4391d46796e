//! Copies of a server's data: backups put back, and replicas that can fall behind.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::{Postgres, local};
use crate::testing::{
    error::{Attempted, Error, Result, blocking},
    ports::free_port,
    server::{Local, Server},
    unique,
};

/// A copy of all data of a [`Postgres`], taken while it stood still. It goes with its server.
#[derive(Debug, Clone)]
pub struct Backup {
    folder: PathBuf,
}

impl Postgres {
    /// Stops it in good order, copies its data, and starts it again.
    ///
    /// # Errors
    /// When it is no local process, or does not come up again.
    pub async fn backup(&self) -> Result<Backup> {
        let local = self.local("back up")?;
        let backup = Backup { folder: local.folder.join(unique("backup")) };
        self.stop().await?;
        copy(local.folder.join("data"), backup.folder.clone()).await?;
        self.restart().await?;
        Ok(backup)
    }

    /// Kills it if it runs, puts a backup in place of its data, and starts it again: rows and offsets go back together.
    ///
    /// # Errors
    /// When it is no local process, or does not come up again.
    pub async fn restore(&self, backup: &Backup) -> Result<()> {
        let data = self.local("restore")?.folder.join("data");
        self.kill().await?;
        std::fs::remove_dir_all(&data).attempted(|| format!("remove {}", data.display()))?;
        copy(backup.folder.clone(), data).await?;
        self.restart().await
    }

    /// A streaming replica of its own, from a cold copy of the data; asynchronous, as is Postgres' default.
    ///
    /// Ask it what it has replayed with `pg_last_wal_replay_lsn()`, cut it off with [`Postgres::detach`], make it a
    /// primary with `SELECT pg_promote()`.
    ///
    /// # Errors
    /// When the primary is no local process, or either does not come up.
    pub async fn replica(&self) -> Result<Self> {
        let primary = self.local("copy")?;
        let port = free_port()?;
        let replica = local::server(port, &self.password, &[]).await?;
        let data = replica.folder.join("data");
        self.stop().await?;
        copy(primary.folder.join("data"), data.clone()).await?;
        self.restart().await?;
        let conninfo = format!(
            "primary_conninfo = 'host={} port={} user={} password={}'\n",
            self.host, self.port, self.user, self.password
        );
        for (file, text) in [("standby.signal", ""), ("postgresql.auto.conf", conninfo.as_str())] {
            local::write_owned(&data.join(file), text, replica.user)?;
        }
        let replica = Self {
            host: self.host.clone(),
            port,
            user: self.user.clone(),
            password: self.password.clone(),
            server: Server::Local(replica),
        };
        replica.server.launch().await?;
        replica.wait_ready().await?;
        Ok(replica)
    }

    /// Cuts a [replica](Postgres::replica) off from its primary for good: what the primary commits from now on is not
    /// in it, not even as unreplayed log.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn detach(&self) -> Result<()> {
        let client = self.client().await?;
        client.batch_execute("ALTER SYSTEM SET primary_conninfo = ''").await?;
        client.batch_execute("SELECT pg_reload_conf()").await?;
        crate::testing::wait_until("the replica receives nothing", super::DETACH_TIMEOUT, async || {
            let receivers = client.query("SELECT FROM pg_stat_wal_receiver", &[]).await?;
            Ok(receivers.is_empty().then_some(()))
        })
        .await
    }

    fn local(&self, verb: &str) -> Result<&Local> {
        match &self.server {
            Server::Local(local) => Ok(local),
            _ => Err(Error::new(format!("{verb} the data of a server that is no local process"))),
        }
    }
}

/// With owners and permissions.
async fn copy(from: PathBuf, to: PathBuf) -> Result<()> {
    let attempt = |from: &Path, to: &Path| format!("copy {} to {}", from.display(), to.display());
    blocking(move || {
        let status = Command::new("cp").arg("-a").arg(&from).arg(&to).status();
        match status.attempted(|| attempt(&from, &to))? {
            status if status.success() => Ok(()),
            status => Err(Error::new(format!("{}: {status}", attempt(&from, &to)))),
        }
    })
    .await
}
