//! A server in a Docker container.
//!
//! testcontainers creates it. What testcontainers lacks (SIGKILL, removal when the test process is killed) is done by
//! the `docker` command, and so is the rest, because that holds no connection of some test's runtime.

use std::{
    os::unix::process::CommandExt,
    process::{ChildStdin, Command, Output, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use testcontainers::{
    ContainerRequest, GenericImage, ImageExt, core::IntoContainerPort, runners::AsyncRunner,
};

use super::{
    backend::is_installed,
    error::{Attempted, Error, Result, blocking},
    unique,
};

/// How long the probe of the engine and of an image's registry may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether an engine answers that has or can pull all of `images`.
pub(super) async fn usable(images: &[String]) -> Result<()> {
    let probe = async {
        if !is_installed("docker", "--version") {
            return Err(Error::new("the docker command is not installed"));
        }
        docker(&["version", "--format", "{{.Server.Version}}"]).await?;
        for image in images {
            if docker(&["image", "inspect", image]).await.is_err() {
                docker(&["manifest", "inspect", image])
                    .await
                    .attempted(|| format!("find the image {image}"))?;
            }
        }
        Ok(())
    };
    match tokio::time::timeout(PROBE_TIMEOUT, probe).await {
        Ok(result) => result,
        Err(_) => Err(Error::new(format!("no answer from Docker or its registry within {PROBE_TIMEOUT:?}"))),
    }
}

/// What is needed to create the container.
#[derive(Debug)]
pub(super) struct ContainerSpec {
    /// `kafka` or `postgres`, for the container's name.
    pub(super) kind: &'static str,
    /// With its tag.
    pub(super) image: String,
    /// The port inside, and the same on the host.
    pub(super) port: u16,
    pub(super) environment: Vec<(String, String)>,
    pub(super) command: Vec<String>,
}

/// A container, removed when this is dropped or the test process dies.
#[derive(Debug)]
pub(super) struct Container {
    name: String,
    spec: ContainerSpec,
    /// The pipe to the shell that removes the container when the pipe closes; none until the first launch.
    remover: Mutex<Option<ChildStdin>>,
}

/// Whether containers share the host's network. It is quicker and needs no packet filter in the kernel, but exists
/// only where the engine runs on this very kernel.
pub(super) fn host_network() -> bool {
    cfg!(target_os = "linux")
}

/// The address on which a server in a container listens.
pub(super) fn listen_host() -> &'static str {
    if host_network() { "127.0.0.1" } else { "0.0.0.0" }
}

impl Container {
    pub(super) fn new(spec: ContainerSpec) -> Self {
        Self { name: unique(&format!("highwater-test-{}", spec.kind)), spec, remover: Mutex::new(None) }
    }

    pub(super) async fn launch(&self) -> Result<()> {
        let created = self.remover.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if created {
            return docker(&["start", &self.name]).await.map(drop);
        }
        let remover = remove_when_we_die(&self.name)?;
        *self.remover.lock().unwrap_or_else(PoisonError::into_inner) = Some(remover);
        let container =
            self.request().start().await.attempted(|| format!("start a container of {}", self.spec.image))?;
        // Its drop would remove the container through a runtime that may be gone; the remover does not need one.
        std::mem::forget(container);
        Ok(())
    }

    fn request(&self) -> ContainerRequest<GenericImage> {
        let (name, tag) = self.spec.image.rsplit_once(':').unwrap_or((&self.spec.image, "latest"));
        let image = GenericImage::new(name, tag);
        let mut request =
            image.with_container_name(&self.name).with_startup_timeout(super::server::START_TIMEOUT);
        request = if host_network() {
            request.with_network("host")
        } else {
            request.with_mapped_port(self.spec.port, self.spec.port.tcp())
        };
        for (name, value) in &self.spec.environment {
            request = request.with_env_var(name, value);
        }
        if self.spec.command.is_empty() { request } else { request.with_cmd(&self.spec.command) }
    }

    pub(super) async fn stop(&self) -> Result<()> {
        docker(&["stop", "--time", "30", &self.name]).await.map(drop)
    }

    pub(super) async fn kill(&self) -> Result<()> {
        docker(&["kill", &self.name]).await?;
        docker(&["wait", &self.name]).await.map(drop)
    }

    /// SIGSTOP to every process inside. (`docker pause` needs a freezer of control groups that works, which not every
    /// kernel has.)
    pub(super) async fn freeze(&self) -> Result<()> {
        self.signal_family("STOP").await?;
        docker(&["kill", "--signal", "STOP", &self.name]).await.map(drop)
    }

    /// SIGCONT to every process inside.
    pub(super) async fn thaw(&self) -> Result<()> {
        docker(&["kill", "--signal", "CONT", &self.name]).await?;
        self.signal_family("CONT").await
    }

    /// A signal to every process inside but the first, which no process inside may stop.
    async fn signal_family(&self, signal: &str) -> Result<()> {
        // One process alone is a family, too: then the shell's kill has nobody to signal.
        let all = format!("kill -{signal} -1 || true");
        docker(&["exec", "--user", "0", &self.name, "sh", "-c", &all]).await.map(drop)
    }

    pub(super) async fn is_running(&self) -> bool {
        let state = docker(&["inspect", "--format", "{{.State.Running}}", &self.name]).await;
        state.is_ok_and(|output| output.stdout.starts_with(b"true"))
    }

    pub(super) async fn log_tail(&self) -> String {
        let output = docker(&["logs", "--tail", "30", &self.name]).await;
        output.map_or_else(
            |error| format!("{error:?}"),
            |output| String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    }

    /// Runs a command inside; its failure is for the caller to judge.
    pub(super) async fn execute(&self, arguments: &[String]) -> Result<Output> {
        let mut command = Command::new("docker");
        command.args(["exec", &self.name]).args(arguments).stdin(Stdio::null());
        blocking(move || command.output().attempted(|| "run docker exec".to_owned())).await
    }
}

/// Starts the shell that removes the container `name` when the pipe to it closes.
fn remove_when_we_die(name: &str) -> Result<ChildStdin> {
    let mut shell = Command::new("sh");
    shell.args(["-c", "read -r _; docker rm --force --volumes \"$1\"", "remover", name]);
    // Its own process group: Ctrl-C in a terminal must not hit it before it has done its work.
    shell.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut shell = shell.spawn().attempted(|| "start sh to guard a container".to_owned())?;
    let pipe = shell.stdin.take().expect("standard input was just piped");
    std::thread::spawn(move || shell.wait());
    Ok(pipe)
}

async fn docker(arguments: &[&str]) -> Result<Output> {
    let text = format!("docker {}", arguments.join(" "));
    let mut command = Command::new("docker");
    command.args(arguments).stdin(Stdio::null());
    blocking(move || {
        let output = command.output().attempted(|| text.clone())?;
        if output.status.success() {
            Ok(output)
        } else {
            Err(Error::new(format!("{text}: {}", String::from_utf8_lossy(&output.stderr).trim())))
        }
    })
    .await
}
