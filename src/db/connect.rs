//! Getting a session: which server of several, with or without TLS, and only of a primary.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{CancelToken, Client, Config, Error, NoTls, SimpleQueryMessage, Socket};

use super::ended::Ended;
use super::notices;
use super::tls::{Mode, Tls};
use super::url::Address;
use crate::config::DatabaseConfig;
use crate::error::{self, ErrorKind};
use crate::sqlstate::{Class, classify};

/// How long one server may take to answer, unless the address says otherwise; as long again for the rest.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to the primary among the servers of an address.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    servers: Vec<Config>,
    random_order: bool,
    mode: Mode,
    /// `None`: never.
    tls: Option<Tls>,
    ended: Ended,
}

/// One try to get a session of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    Plain,
    /// With TLS if the server has it.
    Either,
    Encrypted,
}

impl Connector {
    /// `set`: what the sessions have in common.
    ///
    /// # Errors
    /// If a file is missing or holds something else.
    pub(crate) fn new(address: &Address, set: impl Fn(&mut Config)) -> Result<Self, error::Error> {
        let mut servers = address.configs();
        for server in &mut servers {
            if server.get_connect_timeout().is_none() {
                server.connect_timeout(CONNECT_TIMEOUT);
            }
            set(server);
        }
        let tls = Tls::new(address.tls.clone())?;
        Ok(Self {
            servers,
            random_order: address.random_order(),
            mode: address.tls.mode(),
            tls,
            ended: Ended::default(),
        })
    }

    /// Asks one server after the other; one that is no primary counts as away.
    ///
    /// # Errors
    /// The last server's, but rather one's that refused us: that the others are away explains less.
    pub(crate) async fn connect(&self) -> Result<(Client, JoinHandle<()>), Error> {
        let mut servers: Vec<&Config> = self.servers.iter().collect();
        if self.random_order {
            fastrand::shuffle(&mut servers);
        }
        let mut worst: Option<Error> = None;
        for server in servers {
            // A server that accepts and says no more must not keep us from asking the next one.
            let limit = 2 * server.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT);
            let answer = tokio::time::timeout(limit, self.try_server(server)).await;
            match answer.unwrap_or_else(|_| Err(Error::__private_api_timeout())) {
                Ok(connected) => return Ok(connected),
                Err(error) => {
                    tracing::debug!(host = ?server.get_hosts(), port = ?server.get_ports(), %error, "no session here");
                    if worst.as_ref().is_none_or(|worst| !super::refused::is_refused(worst)) {
                        worst = Some(error);
                    }
                }
            }
        }
        Err(worst.expect("an address names a server"))
    }

    /// Without TLS over a Unix socket, as libpq does: nobody listens there.
    async fn try_server(&self, server: &Config) -> Result<(Client, JoinHandle<()>), Error> {
        let local =
            matches!(server.get_hosts(), [host] if !matches!(host, tokio_postgres::config::Host::Tcp(_)));
        let (first, second) = match (self.mode, local) {
            (Mode::Disable, _) | (_, true) => (Attempt::Plain, None),
            (Mode::Allow, _) => (Attempt::Plain, Some(Attempt::Encrypted)),
            (Mode::Prefer, _) => (Attempt::Either, Some(Attempt::Plain)),
            (Mode::Require | Mode::VerifyCa | Mode::VerifyFull, _) => (Attempt::Encrypted, None),
        };
        let error = match self.attempt(server, first).await {
            Ok(connected) => return Ok(connected),
            Err(error) => error,
        };
        // The server has no entry for this user with, or without, TLS; or the two do not agree on it.
        let other_way = error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
            || super::tls::refusal(&error).is_some();
        match second.filter(|_| other_way) {
            Some(second) => self.attempt(server, second).await,
            None => Err(error),
        }
    }

    async fn attempt(&self, server: &Config, attempt: Attempt) -> Result<(Client, JoinHandle<()>), Error> {
        let mut server = server.clone();
        let mode = match attempt {
            Attempt::Plain => SslMode::Disable,
            Attempt::Either => SslMode::Prefer,
            Attempt::Encrypted => SslMode::Require,
        };
        server.ssl_mode(mode);
        match &self.tls {
            Some(tls) if attempt != Attempt::Plain => open(&server, tls.clone(), &self.ended).await,
            _ => open(&server, NoTls, &self.ended).await,
        }
    }

    /// The SQLSTATE with which the server ended the session of this backend for having taken too long, if it did.
    pub(super) fn ended(&self, pid: i32) -> Option<String> {
        self.ended.why(pid)
    }

    /// Cancels what runs on the connection of `token`, over TLS if that connection was.
    ///
    /// # Errors
    /// If the server cannot be reached. That nothing was cancelled is no error: nobody learns of it.
    pub(crate) async fn cancel(&self, token: &CancelToken) -> Result<(), Error> {
        match &self.tls {
            Some(tls) => token.cancel_query(tls.clone()).await,
            None => token.cancel_query(NoTls).await,
        }
    }
}

async fn open<T>(server: &Config, tls: T, ended: &Ended) -> Result<(Client, JoinHandle<()>), Error>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, connection) = server.connect(tls).await?;
    let pid = Arc::new(OnceLock::new());
    let (known, noted) = (Arc::clone(&pid), ended.clone());
    let driven = tokio::spawn(async move {
        // Kept until the end is noted: with it goes what the client waits for.
        let mut connection = connection;
        match notices::drive(&mut connection).await {
            Ok(()) => {}
            // Our own doing, mostly: a backend that was given up.
            Err(error) if error.code() == Some(&SqlState::ADMIN_SHUTDOWN) => {
                tracing::debug!(%error, "a connection to Postgres was ended");
            }
            Err(error) => {
                let sqlstate = error.code().map(SqlState::code);
                tracing::warn!(%error, sqlstate, "a connection to Postgres ended");
                if let (Some(&pid), true) = (known.get(), classify(&error).class == Class::OwnTimeout)
                    && let Some(why) = error.code()
                {
                    noted.note(pid, why);
                }
            }
        }
    });
    let answer = client.simple_query("SELECT pg_catalog.pg_backend_pid()").await?;
    let found = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
        _ => None,
    });
    if let Some(found) = found {
        ended.begun(found);
        let _ = pid.set(found);
    }
    Ok((client, driven))
}

impl deadpool_postgres::Connect for Connector {
    /// The servers are the connector's, not the pool's.
    fn connect(
        &self,
        _: &Config,
    ) -> Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + '_>> {
        Box::pin(Self::connect(self))
    }
}

impl DatabaseConfig {
    /// Connects once: a command, unlike a worker, reports an outage instead of waiting for its end. To the primary
    /// only, and with TLS as the address says.
    ///
    /// # Errors
    ///
    /// [`Configuration`](ErrorKind::Configuration) if a certificate cannot be read;
    /// [`Authentication`](ErrorKind::Authentication) if one side does not accept the other's credentials;
    /// [`Postgres`](ErrorKind::Postgres) for the rest.
    pub async fn connect(&self, application_name: &str) -> Result<Client, error::Error> {
        let address = self.postgres_url.address().map_err(|defect| {
            error::Error::new(ErrorKind::Configuration, format!("the address of the database {defect}"))
        })?;
        let name = address.application_name().unwrap_or(application_name);
        let connector = Connector::new(&address, |server| {
            server.application_name(name);
        })?;
        let connected = connector.connect().await;
        let (client, _) = connected
            .map_err(|source| error::Error::postgres(format!("connect to {}", self.postgres_url), source))?;
        Ok(client)
    }
}
