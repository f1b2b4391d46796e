//! A real Postgres server.

mod copies;
mod database;
mod files;
mod local;

use std::{path::Path, time::Duration};

use tokio::sync::OnceCell;
use tokio_postgres::{Client, Config, NoTls};

pub use self::{
    copies::Backup,
    database::{Database, Role},
};
use super::{
    backend::{Backend, POSTGRES_URL, variable},
    container::{self, Container, ContainerSpec},
    error::{Attempted, Error, Result},
    ports::free_port,
    server::Server,
    unique,
};

const SUPERUSER: &str = "postgres";
/// How long a replica may take to notice that it has no primary any more.
const DETACH_TIMEOUT: Duration = Duration::from_secs(120);

/// The image for [`Backend::Containers`].
pub(super) fn image() -> String {
    variable("HIGHWATER_TEST_POSTGRES_IMAGE").unwrap_or_else(|| "postgres:17.6".to_owned())
}

/// A Postgres server with durable commits (`fsync = on`), password authentication and 300 connections.
///
/// One started by the kit ends when this is dropped, and when the test process dies.
#[derive(Debug)]
pub struct Postgres {
    host: String,
    port: u16,
    user: String,
    password: String,
    server: Server,
}

impl Postgres {
    /// The one server of this test process, started by whoever asks first. Never stop or kill it.
    ///
    /// # Errors
    /// When it cannot be started or reached.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Postgres> = OnceCell::const_new();
        let start = async || match Backend::current().await? {
            Backend::External => Self::external().await,
            backend => Self::launch(backend, &[]).await,
        };
        SHARED.get_or_try_init(start).await
    }

    /// A server of its own, for a test that stops, kills or freezes it. Never an external one.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// As [`Postgres::start`], with settings as in `postgresql.conf`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start_with(settings: &[(&str, &str)]) -> Result<Self> {
        Self::launch(Backend::current_for_own().await?, settings).await
    }

    /// As [`Postgres::start_with`], but always a local process: for a test that changes its files.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start_local(settings: &[(&str, &str)]) -> Result<Self> {
        Self::launch(Backend::Local, settings).await
    }

    async fn external() -> Result<Self> {
        let url = variable(POSTGRES_URL).ok_or_else(|| Error::new(format!("{POSTGRES_URL} is not set")))?;
        let config: Config = url.parse().attempted(|| format!("read {POSTGRES_URL}"))?;
        let host = match config.get_hosts().first() {
            Some(tokio_postgres::config::Host::Tcp(host)) => host.clone(),
            _ => return Err(Error::new(format!("{POSTGRES_URL} must name a TCP host"))),
        };
        let password = config.get_password().map(String::from_utf8_lossy).unwrap_or_default().into_owned();
        let postgres = Self {
            host,
            port: config.get_ports().first().copied().unwrap_or(5432),
            user: config.get_user().unwrap_or(SUPERUSER).to_owned(),
            password,
            server: Server::External,
        };
        postgres.client().await.attempted(|| format!("connect to {POSTGRES_URL}"))?;
        Ok(postgres)
    }

    async fn launch(backend: Backend, settings: &[(&str, &str)]) -> Result<Self> {
        let port = free_port()?;
        let password = unique("secret");
        let server = match backend {
            Backend::Containers => Server::Container(container(port, &password, settings)),
            _ => Server::Local(local::server(port, &password, settings).await?),
        };
        let host = "127.0.0.1".to_owned();
        let postgres = Self { host, port, user: SUPERUSER.to_owned(), password, server };
        postgres.server.launch().await?;
        postgres.wait_ready().await?;
        Ok(postgres)
    }

    async fn wait_ready(&self) -> Result<()> {
        let probe = async || {
            let attempt = tokio::time::timeout(Duration::from_secs(5), self.client()).await;
            attempt.attempted(|| "connect".to_owned())?.map(drop)
        };
        self.server.wait_ready("Postgres", probe).await
    }

    /// The host that it listens on.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of the superuser in the database `postgres`.
    #[must_use]
    pub fn admin_url(&self) -> String {
        self.url(&self.user, &self.password, "postgres")
    }

    fn url(&self, user: &str, password: &str, database: &str) -> String {
        let user = database::percent_encoded(user);
        let password = database::percent_encoded(password);
        format!("postgres://{user}:{password}@{}:{}/{database}", self.host, self.port)
    }

    /// A connection of the superuser to the database `postgres`.
    ///
    /// # Errors
    /// When no connection can be made.
    pub async fn client(&self) -> Result<Client> {
        database::connect(&self.admin_url()).await
    }

    /// A new database of the superuser, with a name that no other test uses.
    ///
    /// # Errors
    /// When it cannot be created.
    pub async fn fresh_database(&self, hint: &str) -> Result<Database> {
        let name = unique(hint);
        self.client().await?.batch_execute(&format!("CREATE DATABASE \"{name}\"")).await?;
        Ok(Database::new(self, name))
    }

    /// A database that is there already, by its name: on a [replica](Postgres::replica), that of the primary.
    #[must_use]
    pub fn database(&self, name: &str) -> Database {
        Database::new(self, name.to_owned())
    }

    /// The process id of the postmaster, when it is a local process.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    /// Ends it in good order, but without waiting for its clients (a "fast" shutdown).
    ///
    /// # Errors
    /// When it does not end, or is external.
    pub async fn stop(&self) -> Result<()> {
        self.server.stop().await
    }

    /// SIGKILL for the postmaster and all its backends; returns when they are gone.
    ///
    /// # Errors
    /// When it is external, or was never started.
    pub async fn kill(&self) -> Result<()> {
        self.server.kill().await
    }

    /// SIGSTOP for the postmaster and all its backends: it answers nobody until [`Postgres::thaw`].
    ///
    /// # Errors
    /// When it is external or does not run.
    pub async fn freeze(&self) -> Result<()> {
        self.server.freeze().await
    }

    /// SIGCONT for the postmaster and all its backends.
    ///
    /// # Errors
    /// When it is external or does not run.
    pub async fn thaw(&self) -> Result<()> {
        self.server.thaw().await
    }

    /// Starts it again, after stopping it if it runs: same port, same data. Returns when it accepts connections.
    ///
    /// # Errors
    /// When it is external or does not come up.
    pub async fn restart(&self) -> Result<()> {
        if self.server.is_running().await {
            self.stop().await?;
        }
        self.server.launch().await?;
        self.wait_ready().await
    }
}

/// Settings of every server of the kit; later ones win.
fn settings(port: u16, listen: &str, own: &[(&str, &str)]) -> Vec<String> {
    let port = port.to_string();
    let common = [
        ("port", port.as_str()),
        ("listen_addresses", listen),
        ("unix_socket_directories", ""),
        ("max_connections", "300"),
        // Only so that a smuggled PREPARE TRANSACTION is refused by us and not by the server's default.
        ("max_prepared_transactions", "10"),
        ("log_line_prefix", "%m [%p] %u@%d "),
    ];
    let all = common.iter().chain(own);
    all.flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")]).collect()
}

fn container(port: u16, password: &str, own: &[(&str, &str)]) -> Container {
    let mut command = vec!["postgres".to_owned()];
    let listen = container::listen_host();
    // The image prepares its data over a Unix socket, so it needs one.
    let own = [&[("unix_socket_directories", "/tmp,/var/run/postgresql")], own].concat();
    command.extend(settings(port, listen, &own));
    let environment = [
        ("POSTGRES_PASSWORD", password),
        ("POSTGRES_HOST_AUTH_METHOD", "scram-sha-256"),
        ("PGPORT", &port.to_string()),
    ];
    Container::new(ContainerSpec {
        kind: "postgres",
        image: image(),
        port,
        environment: environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        command,
    })
}

/// Who runs a server that refuses to run as root: the user `postgres` if there is one, else `nobody`.
fn unprivileged_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let passwd = std::fs::read_to_string(Path::new("/etc/passwd")).unwrap_or_default();
    let find = |wanted: &str| {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(wanted))?;
        let mut ids = line.split(':').skip(2).map_while(|id| id.parse().ok());
        Some((ids.next()?, ids.next()?))
    };
    Some(find("postgres").or_else(|| find("nobody")).unwrap_or((65_534, 65_534)))
}

/// Connects without TLS; the kit's servers are on this machine.
async fn connect(url: &str) -> Result<(Client, impl Future<Output = ()> + Send + 'static)> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    let drive = async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection of the test kit ended");
        }
    };
    Ok((client, drive))
}
