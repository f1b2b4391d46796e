//! A TCP proxy that can lose, delay and withhold what passes through it.

mod kafka;
mod postgres;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_postgres::config::Host;

use super::error::{Attempted, Error, Result};

/// What a [`Proxy`] before Postgres does to the next transaction or COMMIT that comes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// In a transaction, before its COMMIT: both sides see their connection close.
    Transaction,
    /// At COMMIT, which the server never sees: it goes on waiting, in the transaction and with its locks. The client
    /// sees its connection close.
    Commit,
    /// At the answer to COMMIT: the server has carried it out; the client sees its connection close instead.
    Answer,
    /// Right after the answer to COMMIT has reached the client: both sides see their connection close.
    Answered,
}

/// A proxy on the loopback interface, before one server.
///
/// Made by [`Proxy::before_postgres`], which also knows Postgres' protocol well enough to [`cut`](Proxy::cut) it at
/// a COMMIT, or by [`Kafka::start_behind`](super::Kafka::start_behind), which knows enough of Kafka's to
/// [hide the brokers](Proxy::hide_brokers) and to [fail fetches](Proxy::fail_fetches). Its connections end when this is
/// dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    upstream: Mutex<String>,
    protocol: Protocol,
    link: watch::Sender<Link>,
    armed: Mutex<VecDeque<Cut>>,
    /// How many cuts were made.
    cuts: watch::Sender<usize>,
    open: AtomicUsize,
    withheld: AtomicU64,
    changes: Mutex<kafka::Changes>,
    brokerless_answers: AtomicUsize,
    failed_fetches: AtomicUsize,
    /// Server sides whose client is gone: kept open, as by a network that lost the client.
    half_open: Mutex<Vec<OwnedWriteHalf>>,
}

/// What the bytes mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Postgres,
    Kafka,
}

/// The state of all connections.
#[derive(Debug, Clone, Copy, Default)]
struct Link {
    /// Each way.
    latency: Duration,
    stalled: bool,
    refusing: bool,
    /// Connections of an earlier one end.
    generation: u64,
}

impl Proxy {
    /// Before the Postgres server that `url` names; see [`Proxy::url`].
    ///
    /// # Errors
    /// When the URL names no TCP host, or no port can be listened on.
    pub async fn before_postgres(url: &str) -> Result<Self> {
        Self::start("127.0.0.1:0", upstream(url)?, Protocol::Postgres).await
    }

    /// Listens on `address`, and passes every byte on.
    pub(super) async fn start(address: &str, upstream: String, protocol: Protocol) -> Result<Self> {
        let listener =
            TcpListener::bind(address).await.attempted(|| format!("listen on {address} for a proxy"))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream),
            protocol,
            link: watch::Sender::default(),
            armed: Mutex::default(),
            cuts: watch::Sender::default(),
            open: AtomicUsize::new(0),
            withheld: AtomicU64::new(0),
            changes: Mutex::default(),
            brokerless_answers: AtomicUsize::new(0),
            failed_fetches: AtomicUsize::new(0),
            half_open: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        let listener = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                tokio::spawn(async move {
                    shared.open.fetch_add(1, Ordering::SeqCst);
                    // An error is a connection that one side has closed: nothing to report.
                    let _ = shared.serve(client).await;
                    shared.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Ok(Self { address, shared, listener })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same URL, but through this proxy.
    ///
    /// # Errors
    /// When the URL names no TCP host.
    pub fn url(&self, url: &str) -> Result<String> {
        Ok(url.replacen(&format!("{}/", upstream(url)?), &format!("{}/", self.address), 1))
    }

    /// Leads to the server of another URL from the next connection on: a fail-over, as a service's address moves.
    ///
    /// # Errors
    /// When the URL names no TCP host.
    pub fn lead_to(&self, url: &str) -> Result<()> {
        *lock(&self.shared.upstream) = upstream(url)?;
        Ok(())
    }

    /// Makes one cut, on whichever connection comes first; returns when it is done.
    ///
    /// # Errors
    /// When nothing that could be cut came by within `timeout`; the cut is then called off.
    pub async fn cut(&self, cut: Cut, timeout: Duration) -> Result<()> {
        let mut cuts = self.shared.cuts.subscribe();
        let before = *cuts.borrow_and_update();
        lock(&self.shared.armed).push_back(cut);
        let made = tokio::time::timeout(timeout, cuts.wait_for(|now| *now > before)).await;
        match made {
            Ok(Ok(_)) => Ok(()),
            _ => {
                lock(&self.shared.armed).clear();
                Err(Error::new(format!("waited {timeout:?} in vain for a transaction to cut ({cut:?})")))
            }
        }
    }

    /// Delays every byte by `each_way`, in both directions.
    pub fn set_latency(&self, each_way: Duration) {
        self.shared.link.send_modify(|link| link.latency = each_way);
    }

    /// Withholds everything, in both directions, from old and new connections: half-open, as by a network that drops
    /// packets without a word. What was withheld is delivered after [`Proxy::resume`].
    pub fn stall(&self) {
        self.shared.link.send_modify(|link| link.stalled = true);
    }

    /// Ends [`Proxy::stall`].
    pub fn resume(&self) {
        self.shared.link.send_modify(|link| link.stalled = false);
    }

    /// Closes all connections; returns how many there were.
    pub fn close(&self) -> usize {
        let open = self.shared.open.load(Ordering::SeqCst);
        self.shared.link.send_modify(|link| link.generation += 1);
        open
    }

    /// Whether new connections are closed at once.
    pub fn refuse(&self, refusing: bool) {
        self.shared.link.send_modify(|link| link.refusing = refusing);
    }

    /// How many bytes had to wait for the end of a [`stall`](Proxy::stall) so far.
    #[must_use]
    pub fn withheld_bytes(&self) -> u64 {
        self.shared.withheld.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listener.abort();
        self.close();
    }
}

/// What becomes of the server's side when the client's has ended.
enum ServerSide {
    Close,
    /// The server must not notice.
    Keep(OwnedWriteHalf),
}

impl Shared {
    async fn serve(&self, client: TcpStream) -> Result<()> {
        let mut link = self.link.subscribe();
        let Link { generation, refusing, .. } = *link.borrow_and_update();
        if refusing {
            return Ok(());
        }
        let upstream = lock(&self.upstream).clone();
        let server = TcpStream::connect(&upstream).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (from_client, mut to_client) = client.into_split();
        let (mut from_server, to_server) = server.into_split();
        let closed = link.wait_for(|link| link.generation != generation);
        if self.protocol == Protocol::Kafka {
            let (mut from_client, mut to_server) = (from_client, to_server);
            let pending = kafka::Pending::default();
            tokio::select! {
                _ = closed => {}
                ended = self.kafka_requests(&mut from_client, &mut to_server, &pending) => ended?,
                ended = self.kafka_answers(&mut from_server, &mut to_client, &pending) => ended?,
            }
            return Ok(());
        }
        let answers = postgres::Answers::default();
        let server_side = tokio::select! {
            _ = closed => ServerSide::Close,
            ended = self.requests(from_client, to_server, &answers) => ended.unwrap_or(ServerSide::Close),
            _ = self.answers(from_server, to_client, &answers) => ServerSide::Close,
        };
        if let ServerSide::Keep(to_server) = server_side {
            lock(&self.half_open).push(to_server);
            self.cut_done();
        } else if answers.is_cut() {
            self.cut_done();
        }
        Ok(())
    }

    /// Late, and not while stalled.
    async fn deliver(&self, bytes: &[u8], to: &mut OwnedWriteHalf) -> Result<()> {
        let latency = self.link.borrow().latency;
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        if self.link.borrow().stalled {
            self.withheld.fetch_add(u64::try_from(bytes.len()).unwrap_or(0), Ordering::SeqCst);
            let mut link = self.link.subscribe();
            // The sender is ours, so it is there.
            let _ = link.wait_for(|link| !link.stalled).await;
        }
        Ok(to.write_all(bytes).await?)
    }

    fn cut_done(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

/// `host:port` of a Postgres URL.
fn upstream(url: &str) -> Result<String> {
    let config: tokio_postgres::Config = url.parse().attempted(|| "read a Postgres URL".to_owned())?;
    match (config.get_hosts(), config.get_ports()) {
        ([Host::Tcp(host)], [port]) => Ok(format!("{host}:{port}")),
        _ => Err(Error::new("a proxy needs a Postgres URL with one TCP host and port")),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
