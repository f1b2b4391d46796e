//! Kafka Connect, as a local process.

use std::{fmt::Write, process::Command, time::Duration};

use rustix::process::Signal;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    Kafka,
    jars::{CONNECT, java, java_command},
};
use crate::testing::{
    error::{Attempted, Error, Result, blocking},
    ports::free_port,
    server::{Local, Server},
    unique, wait_until,
};

/// How long an answer may take: a new connector is tried out on its servers first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);
/// How long a connector may take to have what was asked for, on a busy machine.
const STATE_TIMEOUT: Duration = Duration::from_secs(120);

/// A worker of Kafka Connect (4.x, distributed, one node), a local process whatever the backend is, with Debezium's
/// connectors in its class path: `io.debezium.connector.postgresql.PostgresConnector` and
/// `io.debezium.connector.jdbc.JdbcSinkConnector`.
///
/// Its converters are JSON with schemas, which is Connect's default. It commits offsets every second, and knows after six
/// that another worker, or it itself before a restart, is gone. It ends when this is dropped, and when the test process
/// dies.
#[derive(Debug)]
pub struct Connect {
    port: u16,
    server: Server,
}

impl Connect {
    /// Starts one beside a broker; returns when it answers.
    ///
    /// # Errors
    /// When it cannot be started here: Java 17 or later is needed and, for its jars, Maven on first use.
    pub async fn start(kafka: &Kafka) -> Result<Self> {
        Self::start_with(kafka, &[]).await
    }

    /// As [`Connect::start`], with properties of the worker.
    ///
    /// # Errors
    /// As [`Connect::start`].
    pub async fn start_with(kafka: &Kafka, properties: &[(&str, &str)]) -> Result<Self> {
        let port = free_port()?;
        let mut text = text(port, kafka.bootstrap());
        for (name, value) in properties {
            writeln!(text, "{name}={value}").expect("writing to a String does not fail");
        }
        let local = blocking(move || prepared(&text)).await;
        let install = "start Kafka Connect: install Java 17 or later and Maven (apt-get install default-jre-headless maven)";
        let connect = Self { port, server: Server::Local(local.attempted(|| install.to_owned())?) };
        connect.restart().await?;
        Ok(connect)
    }

    /// The address of its REST interface.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// SIGTERM: its tasks flush, commit and leave their groups.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn stop(&self) -> Result<()> {
        self.server.stop().await
    }

    /// SIGKILL; returns when it is gone.
    ///
    /// # Errors
    /// When it was never started.
    pub async fn kill(&self) -> Result<()> {
        self.server.kill().await
    }

    /// Starts it again, after stopping it if it runs. Returns when it answers; its connectors may start later.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn restart(&self) -> Result<()> {
        if self.server.is_running().await {
            self.stop().await?;
        }
        self.server.launch().await?;
        let probe = async || self.request("GET", "/connectors", None).await.map(drop);
        self.server.wait_ready("Kafka Connect", probe).await
    }

    /// Asks its REST interface, and gives what is in the answer.
    ///
    /// # Errors
    /// When it does not answer, or with an error: then its text is in the error's.
    pub async fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let what = format!("{method} {path} of Kafka Connect");
        let body = body.map(Value::to_string).unwrap_or_default();
        // Of HTTP 1.0, so that the answer is not in chunks, and ends with the connection.
        let request = format!(
            "{method} {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let asked = tokio::time::timeout(ANSWER_TIMEOUT, ask(self.port, &request)).await;
        let answer = asked.attempted(|| format!("{what}: no answer within {ANSWER_TIMEOUT:?}"))?;
        let answer = answer.attempted(|| what.clone())?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split(' ').nth(1).unwrap_or_default();
        if !status.starts_with('2') {
            return Err(Error::new(format!("{what}: {status}: {body}")));
        }
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(body).attempted(|| format!("{what}: read {body:?}"))
    }

    /// Makes a connector, or changes its configuration; returns when all its tasks run.
    ///
    /// # Errors
    /// When the configuration is refused, or a task fails.
    pub async fn configure(&self, connector: &str, config: &Value) -> Result<()> {
        self.request("PUT", &format!("/connectors/{connector}/config"), Some(config)).await?;
        self.wait_running(connector).await
    }

    /// Waits until a connector has tasks, and all of them run.
    ///
    /// # Errors
    /// When one fails: with the trace that Connect has of it.
    pub async fn wait_running(&self, connector: &str) -> Result<()> {
        self.wait_for_states(connector, |states| {
            states.len() > 1 && states.iter().all(|state| state == "RUNNING")
        })
        .await
    }

    /// Waits until a connector has stopped: it has no tasks any more.
    ///
    /// # Errors
    /// When it does not.
    pub async fn wait_stopped(&self, connector: &str) -> Result<()> {
        self.wait_for_states(connector, |states| states == ["STOPPED"]).await
    }

    /// States of the connector itself and of its tasks.
    async fn wait_for_states(&self, connector: &str, fits: impl Fn(&[String]) -> bool) -> Result<()> {
        let what = format!("connector {connector} is where it was asked to be");
        wait_until(&what, STATE_TIMEOUT, async || {
            let path = format!("/connectors/{connector}/status");
            // Not known yet, or the worker is between two assignments.
            let Ok(status) = self.request("GET", &path, None).await else { return Ok(None) };
            let tasks = status["tasks"].as_array().cloned().unwrap_or_default();
            let all: Vec<&Value> = std::iter::once(&status["connector"]).chain(&tasks).collect();
            if let Some(failed) = all.iter().find(|one| one["state"] == "FAILED") {
                return Err(Error::new(format!("{connector} failed: {}", failed["trace"])));
            }
            let states: Vec<String> =
                all.iter().map(|one| one["state"].as_str().unwrap_or_default().to_owned()).collect();
            Ok(fits(&states).then_some(()))
        })
        .await
    }
}

async fn ask(port: u16, request: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The worker's properties.
fn text(port: u16, bootstrap: &str) -> String {
    let (group, url) = (unique("connect"), format!("http://127.0.0.1:{port}"));
    let [configs, offsets, status] = ["configs", "offsets", "status"].map(|of| format!("{group}-{of}"));
    let properties = [
        ("bootstrap.servers", bootstrap),
        ("group.id", &group),
        ("listeners", &url),
        ("key.converter", "org.apache.kafka.connect.json.JsonConverter"),
        ("value.converter", "org.apache.kafka.connect.json.JsonConverter"),
        ("config.storage.topic", &configs),
        ("offset.storage.topic", &offsets),
        ("status.storage.topic", &status),
        ("config.storage.replication.factor", "1"),
        ("offset.storage.replication.factor", "1"),
        ("status.storage.replication.factor", "1"),
        ("offset.storage.partitions", "1"),
        ("status.storage.partitions", "1"),
        ("offset.flush.interval.ms", "1000"),
        ("session.timeout.ms", "6000"),
        ("heartbeat.interval.ms", "1000"),
        ("scheduled.rebalance.max.delay.ms", "0"),
        // The connectors are in the class path, and name themselves.
        ("plugin.discovery", "service_load"),
    ];
    properties.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
}

fn prepared(properties: &str) -> Result<Local> {
    CONNECT.check_usable()?;
    let (java, jars) = (java()?, CONNECT.folder()?);
    let folder = tempfile::Builder::new().prefix("highwater-connect-").tempdir();
    // From the launch on, the server's guard removes it.
    let folder = folder.attempted(|| "create a temporary folder".to_owned())?.keep();
    std::fs::write(folder.join("connect.properties"), properties)?;
    let java_command = java_command(&java, &jars, None);
    let mut command = Command::new(&java_command[0]);
    command.args(&java_command[1..]).arg("org.apache.kafka.connect.cli.ConnectDistributed");
    command.arg("connect.properties").current_dir(&folder);
    Ok(Local::new(command, None, folder, Signal::TERM, "KILL"))
}
