//! A real schema registry.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::jars::{REGISTRY, SMALL, java};
use crate::testing::{
    error::{Attempted, Error, Result, blocking},
    ports::free_port,
    server::{Local, Server},
};

/// Of Confluent's API.
const API: &str = "/apis/ccompat/v7";
/// For one answer, on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Apicurio Registry, by its Confluent-compatible API, as a local process whatever the backend: it needs Java and Maven.
/// It keeps its schemas in memory.
///
/// One that the kit started ends when this is dropped, and when the test process dies.
#[derive(Debug)]
pub struct SchemaRegistry {
    port: u16,
    server: Server,
}

impl SchemaRegistry {
    /// The one registry of this test process, started by whoever asks first. Never stop or freeze it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<SchemaRegistry> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start).await
    }

    /// A registry of its own, for a test that stops or freezes it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start() -> Result<Self> {
        let port = free_port()?;
        let local = blocking(move || local(port)).await;
        let install = "start a schema registry: install Java 17 or later and Maven (apt-get install default-jre-headless maven)";
        let local = local.attempted(|| install.to_owned())?;
        let registry = Self { port, server: Server::Local(local) };
        registry.server.launch().await?;
        let answers = async || registry.ask("GET", "/subjects", None).await.map(drop);
        registry.server.wait_ready("the schema registry", answers).await?;
        Ok(registry)
    }

    /// What a pipeline's file says: `registry = { url = "…" }`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}{API}", self.port)
    }

    /// Registers a schema as the next version of a subject; gives the id that its records name. `kind`: `AVRO`, `PROTOBUF`,
    /// `JSON`. `references`: by name, with subject and version.
    ///
    /// # Errors
    /// When the registry refuses it, in the registry's words.
    pub async fn register(
        &self,
        subject: &str,
        kind: &str,
        schema: &str,
        references: &[(&str, &str, u32)],
    ) -> Result<u32> {
        let references: Vec<_> = references
            .iter()
            .map(|(name, subject, version)| json!({ "name": name, "subject": subject, "version": version }))
            .collect();
        let body = json!({ "schemaType": kind, "schema": schema, "references": references });
        let said = self.ask("POST", &format!("/subjects/{subject}/versions"), Some(body)).await?;
        let id = said["id"].as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| Error::new(format!("the schema registry gives no id: {said}")))
    }

    /// Each next version of the subject must go with those before it: `BACKWARD`, `FULL_TRANSITIVE`, …
    ///
    /// # Errors
    /// When the registry does not answer well.
    pub async fn demand(&self, subject: &str, compatibility: &str) -> Result<()> {
        let body = json!({ "compatibility": compatibility });
        self.ask("PUT", &format!("/config/{subject}"), Some(body)).await.map(drop)
    }

    /// SIGSTOP: it answers nobody until [`SchemaRegistry::thaw`].
    ///
    /// # Errors
    /// When it does not run.
    pub async fn freeze(&self) -> Result<()> {
        self.server.freeze().await
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn thaw(&self) -> Result<()> {
        self.server.thaw().await
    }

    async fn ask(&self, method: &'static str, path: &str, body: Option<Value>) -> Result<Value> {
        let (port, path) = (self.port, format!("{API}{path}"));
        blocking(move || ask(port, method, &path, body.as_ref())).await
    }
}

fn local(port: u16) -> Result<Local> {
    REGISTRY.check_usable()?;
    let (java, app) = (java()?, app()?);
    let folder = tempfile::Builder::new().prefix("highwater-registry-").tempdir();
    // From the launch on, the server's guard removes it.
    let folder = folder.attempted(|| "create a temporary folder".to_owned())?.keep();
    let mut command = Command::new(java.program);
    command.args(SMALL).arg(format!("-Dquarkus.http.port={port}")).arg("-Dquarkus.http.host=127.0.0.1");
    command.args(["-Dquarkus.log.level=WARN", "-Dquarkus.http.access-log.enabled=false", "-jar"]).arg(app);
    command.current_dir(&folder);
    Ok(Local::new(command, None, folder, Signal::TERM, "KILL"))
}

/// The program, fetched on first use. Blocks.
fn app() -> Result<PathBuf> {
    let folder = REGISTRY.folder()?;
    let files = std::fs::read_dir(&folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut jars = files.filter(|path| path.to_string_lossy().ends_with("-runner.jar"));
    jars.next()
        .ok_or_else(|| Error::new(format!("find the schema registry's program in {}", folder.display())))
}

fn ask(port: u16, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(LIMIT))?;
    let body = body.map(Value::to_string).unwrap_or_default();
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match (head.split(' ').nth(1), serde_json::from_str(body)) {
        (Some("200"), Ok(said)) => Ok(said),
        _ => Err(Error::new(format!("{method} {path}: the schema registry answers {answer}"))),
    }
}
