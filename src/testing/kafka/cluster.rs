//! A cluster of several brokers, and damage that only a real one can take.

use std::time::Duration;

use rdkafka::{consumer::Consumer, metadata::MetadataPartition};

use super::{
    Kafka,
    client::{self, REQUEST_TIMEOUT, consumer},
    cluster_id, jars, local, properties,
};
use crate::testing::{
    error::{Attempted, Error, Result, blocking},
    ports::free_port,
    proxy::{Protocol, Proxy},
    server::{Local, Server},
    wait_until,
};

/// How long a new leader or a replica that catches up may take on a busy machine.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(120);

/// Several brokers (4.x, KRaft) as local processes, whatever the backend: they need Java and Maven.
///
/// Node 1 is the controller too, and is never killed. The partitions of topics that are created through
/// [`Cluster::kafka`] have a replica on each of the other nodes, the first of which leads.
#[derive(Debug)]
pub struct Cluster {
    kafka: Kafka,
    nodes: Vec<Server>,
}

impl Cluster {
    /// Starts `brokers` brokers; returns when all of them have registered.
    ///
    /// # Errors
    /// When they cannot be started.
    pub async fn start(brokers: u16) -> Result<Self> {
        Self::launch(brokers, &[]).await
    }

    /// As [`Cluster::start`], with a way in to each broker beside the direct one, through a [`Proxy`] of its own: that of
    /// node 1 first. Whoever bootstraps at their addresses stays behind them, and can be cut off from one broker alone.
    ///
    /// # Errors
    /// When they cannot be started.
    pub async fn start_behind(brokers: u16) -> Result<(Self, Vec<Proxy>)> {
        let mut ways = Vec::new();
        for _ in 0..brokers {
            let inner = free_port()?;
            let way = Proxy::start("127.0.0.1:0", format!("127.0.0.1:{inner}"), Protocol::Kafka).await?;
            ways.push((inner, way));
        }
        let addresses: Vec<_> = ways.iter().map(|(inner, way)| (*inner, way.address().to_string())).collect();
        let cluster = Self::launch(brokers, &addresses).await?;
        Ok((cluster, ways.into_iter().map(|(_, way)| way).collect()))
    }

    /// `ways`: of each broker the port that its proxy leads to, and the proxy's address; none without proxies.
    async fn launch(brokers: u16, ways: &[(u16, String)]) -> Result<Self> {
        blocking(|| jars::KAFKA.check_usable())
            .await
            .attempted(|| "start a cluster of local brokers".to_owned())?;
        let (id, controller_port) = (cluster_id(), free_port()?);
        let (mut nodes, mut bootstrap) = (Vec::new(), Vec::new());
        for node in 1..=brokers {
            let port = free_port()?;
            let (node_id, copies) = (node.to_string(), brokers.to_string());
            let direct = format!("PLAINTEXT://127.0.0.1:{port}");
            let way = ways.get(usize::from(node - 1));
            let behind = way.map_or_else(String::new, |(inner, _)| format!(",BEHIND://127.0.0.1:{inner}"));
            let listeners = match node {
                1 => format!("{direct},CONTROLLER://127.0.0.1:{controller_port}{behind}"),
                _ => format!("{direct}{behind}"),
            };
            let told = way.map_or_else(String::new, |(_, address)| format!(",BEHIND://{address}"));
            let advertised = format!("{direct}{told}");
            let mut own = vec![
                ("node.id", node_id.as_str()),
                ("offsets.topic.replication.factor", copies.as_str()),
                ("unclean.leader.election.interval.ms", "1000"),
                ("listeners", listeners.as_str()),
                ("advertised.listeners", advertised.as_str()),
                (
                    "listener.security.protocol.map",
                    "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,BEHIND:PLAINTEXT",
                ),
            ];
            if node > 1 {
                own.push(("process.roles", "broker"));
            }
            let properties = properties(port, controller_port, "127.0.0.1", &own);
            let server = Server::Local(local::server(properties, &id).await?);
            server.launch().await?;
            nodes.push(server);
            bootstrap.push(format!("127.0.0.1:{port}"));
        }
        let bootstrap = bootstrap.join(",");
        let admin = client::admin(&bootstrap)?;
        let replicas = (2..=i32::from(brokers)).collect();
        let kafka =
            Kafka { bootstrap, server: Server::External, admin, mock: None, replicas, listeners: Vec::new() };
        let cluster = Self { kafka, nodes };
        for node in &cluster.nodes {
            let registered = async || match cluster.registered().await? {
                count if count == cluster.nodes.len() => Ok(()),
                count => Err(Error::new(format!("{count} brokers have registered"))),
            };
            node.wait_ready("a broker of a cluster", registered).await?;
        }
        Ok(cluster)
    }

    /// All of its brokers, as a client sees them. It cannot be stopped or killed as a whole.
    #[must_use]
    pub fn kafka(&self) -> &Kafka {
        &self.kafka
    }

    /// SIGKILL for one broker; returns when it is gone.
    ///
    /// # Errors
    /// When there is no such node, or it does not run.
    pub async fn kill(&self, node: usize) -> Result<()> {
        self.node(node)?.kill().await
    }

    /// Starts a broker again that was killed: same port, same data.
    ///
    /// # Errors
    /// When there is no such node.
    pub async fn revive(&self, node: usize) -> Result<()> {
        self.node(node)?.launch().await
    }

    /// Waits until `node` leads a partition.
    ///
    /// # Errors
    /// When it does not within two minutes.
    pub async fn led_by(&self, topic: &str, partition: i32, node: i32) -> Result<()> {
        let what = format!("node {node} leads {topic}/{partition}");
        wait_until(&what, CHANGE_TIMEOUT, async || {
            Ok((self.leader(topic, partition).await? == Some(node)).then_some(()))
        })
        .await
    }

    /// Waits until `node` has caught up with the leader of a partition, so that it may lead next.
    ///
    /// # Errors
    /// When it does not within two minutes.
    pub async fn in_sync(&self, topic: &str, partition: i32, node: i32) -> Result<()> {
        let what = format!("node {node} is in sync with the leader of {topic}/{partition}");
        wait_until(&what, CHANGE_TIMEOUT, async || {
            let found = self.look(topic, partition, move |found| found.isr().contains(&node)).await?;
            Ok((found == Some(true)).then_some(()))
        })
        .await
    }

    /// Whether nobody leads a partition, as the brokers say.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn leaderless(&self, topic: &str, partition: i32) -> Result<bool> {
        Ok(self.leader(topic, partition).await?.is_none())
    }

    /// Which node coordinates a group.
    ///
    /// # Errors
    /// When nobody does, or no broker answers.
    pub async fn coordinator(&self, group: &str) -> Result<i32> {
        // Java's hash of a string, over the partitions of the topic that Kafka keeps groups in.
        let hash = group
            .encode_utf16()
            .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit.cast_signed())));
        let partition = (hash & i32::MAX) % super::OFFSETS_PARTITIONS;
        let leader = self.leader("__consumer_offsets", partition).await?;
        leader.ok_or_else(|| Error::new(format!("nobody coordinates group {group}")))
    }

    fn node(&self, node: usize) -> Result<&Server> {
        let found = node.checked_sub(1).and_then(|index| self.nodes.get(index));
        found.ok_or_else(|| Error::new(format!("there is no node {node}")))
    }

    async fn leader(&self, topic: &str, partition: i32) -> Result<Option<i32>> {
        let leader = self.look(topic, partition, MetadataPartition::leader).await?;
        Ok(leader.filter(|&leader| leader >= 0))
    }

    /// What the brokers say of a partition, if they know it.
    async fn look<T: Send + 'static>(
        &self,
        topic: &str,
        partition: i32,
        look: impl Fn(&MetadataPartition) -> T + Send + 'static,
    ) -> Result<Option<T>> {
        let (bootstrap, topic) = (self.kafka.bootstrap.clone(), topic.to_owned());
        blocking(move || {
            let metadata = consumer(&bootstrap, &[])?
                .fetch_metadata(Some(&topic), REQUEST_TIMEOUT)
                .attempted(|| format!("fetch the metadata of {topic}"))?;
            let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
            let mut found = partitions.into_iter().filter(|found| found.id() == partition);
            Ok(found.next().map(look))
        })
        .await
    }

    async fn registered(&self) -> Result<usize> {
        let bootstrap = self.kafka.bootstrap.clone();
        blocking(move || {
            Ok(consumer(&bootstrap, &[])?.fetch_metadata(None, REQUEST_TIMEOUT)?.brokers().len())
        })
        .await
    }
}

impl Kafka {
    /// Flips a bit of the batch that holds `offset`, on the disk of a local broker: stops it in good order before,
    /// and starts it again after.
    ///
    /// # Errors
    /// When it is no local process, or has no such batch.
    pub async fn corrupt(&self, topic: &str, partition: i32, offset: i64) -> Result<()> {
        let segment = format!("data/{topic}-{partition}/00000000000000000000.log");
        let segment = self.local("corrupt a batch")?.folder.join(segment);
        self.stop().await?;
        let mut log = std::fs::read(&segment)?;
        flip(&mut log, offset)
            .ok_or_else(|| Error::new(format!("no batch of {topic}/{partition} has {offset}")))?;
        std::fs::write(&segment, log)?;
        self.restart().await
    }

    /// Lets another, empty cluster take the place of this one, at the same address.
    ///
    /// # Errors
    /// When it is no local process, or does not come up.
    pub async fn replace_cluster(&self) -> Result<()> {
        let folder = self.local("replace a cluster")?.folder.clone();
        self.stop().await?;
        std::fs::remove_dir_all(folder.join("data"))?;
        std::fs::write(folder.join(local::CLUSTER), cluster_id())?;
        self.restart().await
    }

    fn local(&self, attempt: &str) -> Result<&Local> {
        match &self.server {
            Server::Local(local) => Ok(local),
            _ => Err(Error::new(format!(
                "{attempt}: only local brokers can be reached into (HIGHWATER_TEST_BACKEND=local)"
            ))),
        }
    }
}

/// Flips a bit in the last byte of the batch that holds `offset`: within what its checksum covers.
fn flip(log: &mut [u8], offset: i64) -> Option<()> {
    let mut at = 0;
    loop {
        let number = |from: usize, len: usize| {
            let bytes = log.get(at + from..at + from + len)?;
            Some(bytes.iter().fold(0_i64, |sum, byte| sum << 8 | i64::from(*byte)))
        };
        // Base offset, length of what follows, and after 11 bytes the last record's distance from the base.
        let (base, length, last) = (number(0, 8)?, number(8, 4)?, number(23, 4)?);
        let end = at + 12 + usize::try_from(length).ok()?;
        if (base..=base + last).contains(&offset) {
            *log.get_mut(end - 1)? ^= 1;
            return Some(());
        }
        at = end;
    }
}
