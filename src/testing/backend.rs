//! Where the servers come from.

use std::process::Stdio;

use tokio::sync::OnceCell;

use super::{
    container,
    error::{Error, Result},
    kafka, postgres,
};

/// Where the servers of the kit come from: the variable `HIGHWATER_TEST_BACKEND`.
///
/// | value | servers |
/// |---|---|
/// | `auto` (default) | external if their addresses are given, else containers if a Docker engine has or can pull the images, else local processes |
/// | `external` | at `HIGHWATER_TEST_BROKERS` and `HIGHWATER_TEST_POSTGRES_URL` (of a superuser) |
/// | `containers` | Docker; images `HIGHWATER_TEST_KAFKA_IMAGE` and `HIGHWATER_TEST_POSTGRES_IMAGE`, official ones by default |
/// | `local` | processes: Kafka's jars by Maven and run by Java 17 or later, Postgres from an archive of its binaries |
///
/// Downloads for `local` are kept in `HIGHWATER_CACHE`, else in `/var/cache/highwater` as root, else in the user's
/// cache folder. A test that stops or kills a server starts its own, which is never an external one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// Servers that run already.
    External,
    /// Docker containers.
    Containers,
    /// Processes on this machine.
    Local,
}

impl Backend {
    /// The backend of this test process, found out once.
    ///
    /// # Errors
    /// When the variable is misspelt.
    pub async fn current() -> Result<Self> {
        static CURRENT: OnceCell<Backend> = OnceCell::const_new();
        CURRENT.get_or_try_init(resolve).await.copied()
    }

    /// The backend for a server that its test may kill: never an external one.
    pub(super) async fn current_for_own() -> Result<Self> {
        static CURRENT: OnceCell<Backend> = OnceCell::const_new();
        match Self::current().await? {
            Self::External => CURRENT.get_or_try_init(containers_or_local).await.copied(),
            backend => Ok(backend),
        }
    }
}

pub(super) const BROKERS: &str = "HIGHWATER_TEST_BROKERS";
pub(super) const POSTGRES_URL: &str = "HIGHWATER_TEST_POSTGRES_URL";

/// A variable of the environment; an empty one counts as absent.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

async fn resolve() -> Result<Backend> {
    match variable("HIGHWATER_TEST_BACKEND").as_deref() {
        None | Some("auto") => {}
        Some("external") => return Ok(Backend::External),
        Some("containers") => return Ok(Backend::Containers),
        Some("local") => return Ok(Backend::Local),
        Some(other) => {
            let known = "auto, external, containers or local";
            return Err(Error::new(format!("HIGHWATER_TEST_BACKEND is {other:?}: say {known}")));
        }
    }
    if variable(BROKERS).is_some() && variable(POSTGRES_URL).is_some() {
        return Ok(Backend::External);
    }
    containers_or_local().await
}

/// Local processes are the last resort: Postgres needs nothing for them, and Kafka says itself what it lacks.
async fn containers_or_local() -> Result<Backend> {
    match container::usable(&[kafka::image(), postgres::image()]).await {
        Ok(()) => Ok(Backend::Containers),
        Err(error) => {
            tracing::debug!(?error, "no containers here, so local processes");
            Ok(Backend::Local)
        }
    }
}

/// Whether a program of this name can be started at all.
pub(super) fn is_installed(program: &str, argument: &str) -> bool {
    let mut command = std::process::Command::new(program);
    command.arg(argument).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
