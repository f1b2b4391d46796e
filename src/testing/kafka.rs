//! A real Kafka broker.

mod admin;
mod behind;
mod client;
mod cluster;
mod connect;
mod group;
mod jars;
mod local;
mod mock;
mod producer;
mod read;
mod registry;
mod tool;

use std::time::Duration;

use rdkafka::{admin::AdminClient, consumer::Consumer};
use tokio::sync::OnceCell;

pub use self::{
    client::quiet_client_config,
    cluster::Cluster,
    connect::Connect,
    group::GroupState,
    producer::{Message, Producer, TransactionalProducer},
    read::ReadRecord,
    registry::SchemaRegistry,
    tool::{GroupDescription, GroupRow, ToolOutput},
};
use self::{
    client::{Quiet, consumer},
    mock::Mock,
};
use super::{
    backend::{BROKERS, Backend, POSTGRES_URL, variable},
    container::{self, Container, ContainerSpec},
    error::{Attempted, Error, Result, blocking},
    ports::free_port,
    server::Server,
    unique,
};

/// The image for [`Backend::Containers`].
pub(super) fn image() -> String {
    variable("HIGHWATER_TEST_KAFKA_IMAGE").unwrap_or_else(|| "apache/kafka:4.1.1".to_owned())
}

/// A Kafka broker (4.x, KRaft, one node) set up for tests: topics only on request, rebalances without the initial
/// delay, KIP-848 groups, short minimum session time-outs.
///
/// One started by the kit ends when this is dropped, and when the test process dies.
pub struct Kafka {
    bootstrap: String,
    server: Server,
    admin: AdminClient<Quiet>,
    mock: Option<Mock>,
    /// On which nodes the partitions of new topics are put; none for one anywhere.
    replicas: Vec<i32>,
    /// Listeners beside the plain one, and their ports.
    listeners: Vec<(String, u16)>,
}

impl Kafka {
    /// The one broker of this test process, started by whoever asks first. Never stop or kill it.
    ///
    /// # Errors
    /// When it cannot be started or reached.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Kafka> = OnceCell::const_new();
        let start = async || match Backend::current().await? {
            Backend::External => {
                let bootstrap =
                    variable(BROKERS).ok_or_else(|| Error::new(format!("{BROKERS} is not set")))?;
                Self::ready(bootstrap, Server::External, None).await
            }
            backend => Self::launch(backend, &[]).await,
        };
        SHARED.get_or_try_init(start).await
    }

    /// A broker of its own, for a test that stops, kills or freezes it. Never an external one.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// As [`Kafka::start`], with properties of the broker.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start_with(properties: &[(&str, &str)]) -> Result<Self> {
        Self::launch(Backend::current_for_own().await?, properties).await
    }

    /// As [`Kafka::start_with`], a local process with listeners beside the plain one: their names, in capital letters, and
    /// security protocols, as in `("TLS", "SSL")`. They advertise themselves as `localhost`; see [`Kafka::listener`].
    ///
    /// # Errors
    /// When it cannot be started here.
    pub async fn start_listening(listeners: &[(&str, &str)], properties: &[(&str, &str)]) -> Result<Self> {
        // Another process may have taken a port in the seconds until the broker asks for it.
        match Self::try_listening(listeners, properties).await {
            Err(error) if error.to_string().contains("Address already in use") => {
                Self::try_listening(listeners, properties).await
            }
            started => started,
        }
    }

    async fn try_listening(listeners: &[(&str, &str)], properties: &[(&str, &str)]) -> Result<Self> {
        let (port, controller_port) = (free_port()?, free_port()?);
        let mut named = Vec::new();
        let mut listen = format!("PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}");
        let mut advertised = format!("PLAINTEXT://127.0.0.1:{port}");
        let mut protocols = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned();
        for (name, protocol) in listeners {
            let own_port = free_port()?;
            listen += &format!(",{name}://127.0.0.1:{own_port}");
            advertised += &format!(",{name}://localhost:{own_port}");
            protocols += &format!(",{name}:{protocol}");
            named.push(((*name).to_owned(), own_port));
        }
        let all: Vec<(&str, &str)> = [
            ("listeners", listen.as_str()),
            ("advertised.listeners", advertised.as_str()),
            ("listener.security.protocol.map", protocols.as_str()),
        ]
        .into_iter()
        .chain(properties.iter().copied())
        .collect();
        let kafka = Self::launch_at(Backend::Local, (port, controller_port), &all).await?;
        Ok(Self { listeners: named, ..kafka })
    }

    /// The port of a listener of [`Kafka::start_listening`].
    ///
    /// # Panics
    /// If there is none of this name.
    #[must_use]
    pub fn listener(&self, name: &str) -> u16 {
        let found = self.listeners.iter().find(|(listener, _)| listener == name);
        found.map(|(_, port)| *port).expect("a listener of this broker")
    }

    async fn launch(backend: Backend, own: &[(&str, &str)]) -> Result<Self> {
        Self::launch_at(backend, (free_port()?, free_port()?), own).await
    }

    async fn launch_at(
        backend: Backend,
        (port, controller_port): (u16, u16),
        own: &[(&str, &str)],
    ) -> Result<Self> {
        Self::check_available().await?;
        let bootstrap = format!("127.0.0.1:{port}");
        let server = match backend {
            Backend::Containers => Server::Container(container(port, controller_port, own)),
            _ => {
                let properties = properties(port, controller_port, "127.0.0.1", own);
                Server::Local(local::server(properties, &cluster_id()).await?)
            }
        };
        server.launch().await?;
        Self::ready(bootstrap, server, None).await
    }

    /// The Kafka client's in-process mock broker, for a demonstration where nothing else can run.
    ///
    /// It has groups (KIP-848 too) and the producers' side of transactions, but no `read_committed`, no tools, no
    /// deletions, and it keeps 5 MiB or 100,000 records of a partition. Correctness is not to be claimed from it.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn mock() -> Result<Self> {
        let (mock, bootstrap) = blocking(Mock::start).await?;
        Self::ready(bootstrap, Server::External, Some(mock)).await
    }

    /// Whether a broker can be had here: [`Kafka::start`] does not fail for want of Docker, Java or Maven.
    ///
    /// # Errors
    /// When not; the text says what to install.
    pub async fn check_available() -> Result<()> {
        match Backend::current_for_own().await? {
            Backend::Local => blocking(|| jars::KAFKA.check_usable()).await.attempted(|| {
                format!(
                    "find a way to run Kafka: install Java 17 or later and Maven (apt-get install \
                     default-jre-headless maven), or a Docker engine, or set {BROKERS} and {POSTGRES_URL}"
                )
            }),
            _ => Ok(()),
        }
    }

    async fn ready(bootstrap: String, server: Server, mock: Option<Mock>) -> Result<Self> {
        let admin = client::admin(&bootstrap)?;
        let kafka = Self { bootstrap, server, admin, mock, replicas: Vec::new(), listeners: Vec::new() };
        kafka.wait_ready().await?;
        Ok(kafka)
    }

    /// Ready is a broker that lists itself: then it has registered, and topics can be created.
    async fn wait_ready(&self) -> Result<()> {
        let probe = async || {
            let bootstrap = self.bootstrap.clone();
            blocking(move || {
                let metadata = consumer(&bootstrap, &[])?.fetch_metadata(None, Duration::from_secs(5))?;
                match metadata.brokers() {
                    [] => Err(Error::new("the broker is not registered yet")),
                    _ => Ok(()),
                }
            })
            .await
        };
        self.server.wait_ready("Kafka", probe).await
    }

    /// The value for `bootstrap.servers`.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The process id of the broker, when it is a local process.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.server.pid()
    }

    /// Ends it in good order.
    ///
    /// # Errors
    /// When it does not end, or is external.
    pub async fn stop(&self) -> Result<()> {
        self.server.stop().await
    }

    /// SIGKILL; returns when it is gone.
    ///
    /// # Errors
    /// When it is external, or was never started.
    pub async fn kill(&self) -> Result<()> {
        self.server.kill().await
    }

    /// SIGSTOP: it answers nobody until [`Kafka::thaw`].
    ///
    /// # Errors
    /// When it is external or does not run.
    pub async fn freeze(&self) -> Result<()> {
        self.server.freeze().await
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When it is external or does not run.
    pub async fn thaw(&self) -> Result<()> {
        self.server.thaw().await
    }

    /// Starts it again, after stopping it if it runs: same port, same data. Returns when it has registered itself.
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

    /// A producer with a ledger of its own.
    ///
    /// # Errors
    /// When the client refuses its configuration.
    pub fn producer(&self) -> Result<Producer> {
        Producer::new(&self.bootstrap)
    }

    /// A transactional producer with a ledger of its own; aborted records never enter it.
    ///
    /// # Errors
    /// When the broker does not give it a producer id.
    pub async fn transactional_producer(&self, transactional_id: &str) -> Result<TransactionalProducer> {
        TransactionalProducer::new(&self.bootstrap, transactional_id).await
    }
}

impl std::fmt::Debug for Kafka {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kafka")
            .field("bootstrap", &self.bootstrap)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// Properties of every broker of the kit; later ones win.
/// Of the topic that Kafka keeps groups in.
const OFFSETS_PARTITIONS: i32 = 4;

fn properties(port: u16, controller_port: u16, listen: &str, own: &[(&str, &str)]) -> Vec<(String, String)> {
    let addresses = [
        ("controller.quorum.voters", format!("1@127.0.0.1:{controller_port}")),
        ("listeners", format!("PLAINTEXT://{listen}:{port},CONTROLLER://127.0.0.1:{controller_port}")),
        ("advertised.listeners", format!("PLAINTEXT://127.0.0.1:{port}")),
    ];
    let offsets_partitions = OFFSETS_PARTITIONS.to_string();
    let common = [
        ("process.roles", "broker,controller"),
        ("node.id", "1"),
        ("inter.broker.listener.name", "PLAINTEXT"),
        ("controller.listener.names", "CONTROLLER"),
        ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT"),
        ("auto.create.topics.enable", "false"),
        ("offsets.topic.replication.factor", "1"),
        ("offsets.topic.num.partitions", &*offsets_partitions),
        ("transaction.state.log.replication.factor", "1"),
        ("transaction.state.log.min.isr", "1"),
        ("transaction.state.log.num.partitions", "4"),
        ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "1000"),
        ("group.initial.rebalance.delay.ms", "0"),
        ("group.min.session.timeout.ms", "1000"),
        ("group.consumer.min.session.timeout.ms", "1000"),
        ("group.consumer.session.timeout.ms", "6000"),
        ("group.consumer.min.heartbeat.interval.ms", "100"),
        ("group.consumer.heartbeat.interval.ms", "500"),
        // Retention and compaction within seconds, for the tests that want them.
        ("log.initial.task.delay.ms", "500"),
        ("log.retention.check.interval.ms", "1000"),
        ("log.cleaner.backoff.ms", "1000"),
        ("log.cleaner.dedupe.buffer.size", "8388608"),
        ("log.segment.delete.delay.ms", "1000"),
        // A broker that was killed may register again this soon.
        ("broker.session.timeout.ms", "3000"),
        ("broker.heartbeat.interval.ms", "500"),
    ];
    let common = common.iter().chain(own).map(|&(name, value)| (name.to_owned(), value.to_owned()));
    addresses.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(common).collect()
}

fn container(port: u16, controller_port: u16, own: &[(&str, &str)]) -> Container {
    // The official image's convention: `a.b-c` is the variable KAFKA_A_B___C.
    let variable =
        |name: &str| format!("KAFKA_{}", name.replace('_', "__").replace('-', "___").replace('.', "_"));
    let properties = properties(port, controller_port, container::listen_host(), own);
    let mut environment: Vec<_> =
        properties.into_iter().map(|(name, value)| (variable(&name).to_ascii_uppercase(), value)).collect();
    environment.push(("KAFKA_HEAP_OPTS".to_owned(), "-Xmx512m".to_owned()));
    environment.push(("CLUSTER_ID".to_owned(), cluster_id()));
    Container::new(ContainerSpec { kind: "kafka", image: image(), port, environment, command: Vec::new() })
}

/// 16 random bytes as Kafka writes them: 22 characters of URL-safe base64, the last of which has four bits only.
fn cluster_id() -> String {
    let mut id: String =
        unique("").trim_start_matches('_').chars().chain(unique("").chars().skip(1)).collect();
    id.push_str("hA");
    id
}
