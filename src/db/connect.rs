//! Getting a session: which server of several, with or without TLS, and only of a primary.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, JoinSet};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{CancelToken, Client, Config, Error, NoTls, SimpleQueryMessage, Socket};

use super::denied::Denied;
use super::ended::Ended;
use super::notices;
use super::password::Password;
use super::tls::{Mode, Tls};
use super::url::Address;
use crate::config::DatabaseConfig;
use crate::error::{self, ErrorKind};
use crate::verdict::Class;
use crate::verdict::postgres::classify;

/// How long one address may take to answer, unless the settings say otherwise; as long again for the rest.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one may be silent before the next is asked beside it: what a dead host costs, and a dead address of a name.
/// Whoever answers first is taken.
const SILENCE: Duration = Duration::from_secs(1);
/// How many addresses of one name are asked.
const ADDRESSES: usize = 32;

/// A session, and the task that drives it.
type Connected = (Client, JoinHandle<()>);

/// Connects to the primary among the servers of an address.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    servers: Arc<[Config]>,
    random_order: bool,
    mode: Mode,
    /// `None`: never.
    tls: Option<Tls>,
    password: Password,
    ended: Ended,
    known: Arc<Mutex<Known>>,
    denied: Arc<Mutex<Denied>>,
}

/// What the last attempts have shown.
#[derive(Debug, Default)]
struct Known {
    /// The server that answered last, and under which address of its name.
    answered: Option<(usize, Option<IpAddr>)>,
    /// Per server: it has failed since it answered, if it ever did.
    failed: Vec<bool>,
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
    pub(crate) fn new(
        address: &Address,
        password: Password,
        set: impl Fn(&mut Config),
    ) -> Result<Self, error::Error> {
        let mut servers = address.configs();
        for server in &mut servers {
            if server.get_connect_timeout().is_none() {
                server.connect_timeout(CONNECT_TIMEOUT);
            }
            set(server);
        }
        let tls = Tls::new(address.tls.clone())?;
        Ok(Self {
            known: Arc::new(Mutex::new(Known { answered: None, failed: vec![false; servers.len()] })),
            servers: servers.into(),
            random_order: address.random_order(),
            mode: address.tls.mode(),
            tls,
            password,
            ended: Ended::default(),
            denied: Arc::default(),
        })
    }

    /// Asks the servers, the one that answered last first, each beside those that are silent; one that is no primary
    /// counts as away.
    ///
    /// # Errors
    /// The last server's, but rather one's that is away than one's that refused us: the primary may be the one that is
    /// away, and a standby know us not.
    pub(crate) async fn connect(&self) -> Result<Connected, Error> {
        let password: Option<Arc<[u8]>> = self.password.read().await.map(Into::into);
        let order = self.known().order(self.random_order);
        let tries = order.iter().map(|&index| {
            let (this, password) = (self.clone(), password.clone());
            async move { this.try_server(index, password.as_deref()).await }
        });
        let connected = first_of(tries.collect(), |place, answer| {
            if answer.is_err() {
                self.known().failed[order[place]] = true;
            }
        })
        .await;
        let mut denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
        match &connected {
            Err(error) if super::refused::is_refused(error) => {
                denied.refused(Instant::now(), error.to_string());
            }
            Ok(_) | Err(_) => denied.interrupted(),
        }
        connected
    }

    /// Since when every attempt was refused, with the last refusal.
    pub(super) fn denied(&self) -> Option<(Duration, String)> {
        let denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
        denied.since().map(|(since, why)| (since, why.to_owned()))
    }

    /// Asks all addresses of a server's name.
    async fn try_server(&self, index: usize, password: Option<&[u8]>) -> Result<Connected, Error> {
        let mut server = self.servers[index].clone();
        if let Some(password) = password {
            server.password(password);
        }
        let limit = server.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT);
        let mut addresses = match tokio::time::timeout(limit, addresses(&server)).await {
            Ok(addresses) => addresses,
            Err(_) => return Err(Error::__private_api_timeout()),
        };
        if let Some((answered, address)) = self.known().answered
            && answered == index
        {
            // The order is kept otherwise.
            addresses.sort_by_key(|candidate| *candidate != address);
        }
        let tries = addresses.iter().map(|address| {
            let (this, mut server) = (self.clone(), server.clone());
            if let Some(address) = address {
                server.hostaddr(*address);
            }
            // A server that accepts and says no more must not keep us from asking the next one.
            async move {
                let answer = tokio::time::timeout(2 * limit, this.try_address(&server)).await;
                answer.unwrap_or_else(|_| Err(Error::__private_api_timeout()))
            }
        });
        first_of(tries.collect(), |place, answer| match answer {
            Ok(_) => self.known().answered(index, addresses[place]),
            Err(error) => {
                let (host, ports) = (server.get_hosts(), server.get_ports());
                tracing::debug!(?host, address = ?addresses[place], port = ?ports, %error, "no session here");
            }
        })
        .await
    }

    /// Without TLS over a Unix socket, as libpq does: nobody listens there.
    async fn try_address(&self, server: &Config) -> Result<Connected, Error> {
        let local = matches!(server.get_hosts(), [host] if !matches!(host, Host::Tcp(_)));
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

    async fn attempt(&self, server: &Config, attempt: Attempt) -> Result<Connected, Error> {
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

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The SQLSTATE with which the server ended the session of this backend for having taken too long, if it did.
    pub(super) fn ended(&self, pid: i32) -> Option<String> {
        self.ended.why(pid)
    }

    pub(super) fn lost_sessions(&self) -> u64 {
        self.ended.count()
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

impl Known {
    /// In which order the servers are asked: as given (or in any), but first the one that answered last, and last those
    /// that have failed since they answered. Where the order is random on purpose, none is preferred.
    fn order(&self, random: bool) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.failed.len()).collect();
        if random {
            fastrand::shuffle(&mut order);
        }
        let last = self.answered.filter(|_| !random).map(|(index, _)| index);
        order.sort_by_key(|index| (self.failed[*index], Some(*index) != last));
        order
    }

    fn answered(&mut self, index: usize, address: Option<IpAddr>) {
        self.answered = Some((index, address));
        self.failed[index] = false;
    }
}

/// The addresses of a server, at least one; `None` stands for what is written in its configuration.
async fn addresses(server: &Config) -> Vec<Option<IpAddr>> {
    let [Host::Tcp(name)] = server.get_hosts() else { return vec![None] };
    if !server.get_hostaddrs().is_empty() || name.parse::<IpAddr>().is_ok() {
        return vec![None];
    }
    let port = server.get_ports().first().copied().unwrap_or_default();
    // If there is none, the driver asks again, and says so.
    let Ok(found) = tokio::net::lookup_host((name.as_str(), port)).await else { return vec![None] };
    let mut addresses: Vec<Option<IpAddr>> = Vec::new();
    for address in found.map(|address| Some(address.ip())) {
        if addresses.len() < ADDRESSES && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() { vec![None] } else { addresses }
}

/// The first success. Each begins when the one before has failed, or has been silent for a while; `heard` is told of
/// every end, with its place in the order.
async fn first_of<T, F>(tries: Vec<F>, heard: impl Fn(usize, &Result<T, Error>)) -> Result<T, Error>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Error>> + Send + 'static,
{
    let mut tries = tries.into_iter().enumerate();
    // What is under way ends with this.
    let mut race = JoinSet::new();
    let mut begin = |race: &mut JoinSet<_>| match tries.next() {
        Some((place, next)) => {
            race.spawn(async move { (place, next.await) });
            true
        }
        None => false,
    };
    let mut more = begin(&mut race);
    let mut worst: Option<Error> = None;
    loop {
        let ended = match tokio::time::timeout(SILENCE, race.join_next()).await {
            Ok(Some(ended)) => ended,
            Ok(None) => return Err(worst.expect("an address names a server")),
            Err(_) => {
                more = more && begin(&mut race);
                continue;
            }
        };
        let (place, answer) = match ended {
            Ok(ended) => ended,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        heard(place, &answer);
        match answer {
            Ok(done) => return Ok(done),
            Err(error) => {
                let refused = super::refused::is_refused(&error);
                if !refused || worst.as_ref().is_none_or(super::refused::is_refused) {
                    worst = Some(error);
                }
            }
        }
        more = more && begin(&mut race);
    }
}

async fn open<T>(server: &Config, tls: T, ended: &Ended) -> Result<Connected, Error>
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
        let ended = notices::drive(&mut connection).await;
        if ended.is_err() {
            noted.lost();
        }
        match ended {
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
    fn connect(&self, _: &Config) -> Pin<Box<dyn Future<Output = Result<Connected, Error>> + Send + '_>> {
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
        let password =
            Password::new(self.postgres_password_file.as_deref(), self.postgres_password_command.as_ref());
        let connector = Connector::new(&address, password, |server| {
            server.application_name(name);
        })?;
        let connected = connector.connect().await;
        let (client, _) = connected
            .map_err(|source| error::Error::postgres(format!("connect to {}", self.postgres_url), source))?;
        Ok(client)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::{TcpListener, TcpSocket, TcpStream};

    use super::*;
    use crate::config::PostgresUrl;
    use crate::testing::Postgres;

    fn connector(url: &str) -> Connector {
        let address = PostgresUrl::from(url).address().unwrap();
        Connector::new(&address, Password::new(None, None), |_| {}).unwrap()
    }

    /// Drops packets: its backlog is full. Keeps what fills it.
    async fn dead() -> (u16, TcpListener, Vec<TcpStream>) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut filling = Vec::new();
        loop {
            match tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
                Ok(stream) => filling.push(stream.unwrap()),
                Err(_) => return (address.port(), listener, filling),
            }
        }
    }

    /// A connection to a host that drops packets is given up by the system after more than two minutes.
    async fn within_reason<T>(connecting: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(30), connecting)
            .await
            .expect("dead hosts cost a bounded time")
    }

    #[test]
    fn who_answered_last_is_asked_first_and_who_failed_last() {
        let mut known = Known { answered: None, failed: vec![false; 3] };
        assert_eq!(known.order(false), [0, 1, 2]);
        known.failed[0] = true;
        known.answered(1, None);
        assert_eq!(known.order(false), [1, 2, 0]);
        known.failed[1] = true;
        assert_eq!(known.order(false), [2, 1, 0], "it did answer last, but no more");
        known.answered(0, None);
        let mut first: Vec<usize> = (0..200).map(|_| known.order(true)[0]).collect();
        first.sort_unstable();
        first.dedup();
        assert_eq!(first, [0, 2], "in any order, but those that failed last");
    }

    /// A host that drops packets, and one that accepts and says nothing, cost a second each, once.
    #[tokio::test]
    async fn dead_hosts_cost_a_bounded_time_once() {
        let postgres = Postgres::shared().await.unwrap();
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (dropping, _listener, _filling) = dead().await;
        let url = postgres.admin_url().replacen(
            &format!("@{}:{}/", postgres.host(), postgres.port()),
            &format!(
                "@127.0.0.1:{dropping},127.0.0.1:{},{}:{}/",
                silent.local_addr().unwrap().port(),
                postgres.host(),
                postgres.port()
            ),
            1,
        );
        let connector = connector(&url);
        within_reason(connector.connect()).await.unwrap();
        assert_eq!(connector.known().answered.map(|(index, _)| index), Some(2));
        assert_eq!(connector.known().order(false)[0], 2, "it knows whom to ask");
        within_reason(connector.connect()).await.unwrap();
    }

    /// One name, two addresses, of which the first is dead.
    #[tokio::test]
    async fn a_dead_address_of_a_name_costs_a_bounded_time() {
        let (dropping, _listener, _filling) = dead().await;
        let tries = [Some(dropping), None].map(|port| async move {
            if let Some(port) = port {
                TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.map(drop).unwrap();
            }
            Ok::<_, Error>(port)
        });
        let found = within_reason(first_of(tries.into(), |_, _| {})).await.unwrap();
        assert_eq!(found, None);
    }

    #[tokio::test]
    async fn all_addresses_of_a_name_are_found() {
        let server = |url: &str| PostgresUrl::from(url).address().unwrap().configs().remove(0);
        let found = addresses(&server("postgres://u@localhost:5432/d")).await;
        assert!(found.contains(&Some(Ipv4Addr::LOCALHOST.into())), "{found:?}");
        for literal in ["postgres://u@127.0.0.1/d", "host=a hostaddr=127.0.0.1 user=u", "host=/tmp user=u"] {
            assert_eq!(addresses(&server(literal)).await, [None], "{literal}");
        }
    }
}
