//! `highwater exporter` and `highwater dashboard` as processes.

use std::process::Command;
use std::time::{Duration, Instant};

use highwater::testing::{Child, Result};

use super::web::{Answer, get};
use super::{PATIENCE, World};

/// One of them, serving.
pub(crate) struct Served {
    pub(crate) child: Child,
    pub(crate) address: String,
}

impl Served {
    /// Starts `highwater VERB --listen 127.0.0.1:0 …` on the database at `url`.
    pub(crate) async fn start(
        verb: &str,
        url: &str,
        brokers: Option<&str>,
        arguments: &[&str],
    ) -> Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"HIGHWATER_") {
                command.env_remove(name);
            }
        }
        command
            .env("HIGHWATER_POSTGRES_URL", url)
            .args([verb, "--listen", "127.0.0.1:0", "--interval", "0.3"])
            .args(arguments);
        if let Some(brokers) = brokers {
            command.env("HIGHWATER_BROKERS", brokers);
        }
        let child = Child::spawn(verb, &command)?;
        let line = child.wait_for_line(|line| line.contains(" at http://"), PATIENCE).await?;
        let address = line.split("http://").nth(1).unwrap_or_default().trim_end_matches('/').to_owned();
        Ok(Self { child, address })
    }

    /// On the world's servers, as `url`'s role.
    pub(crate) async fn of(verb: &str, world: &World<'_>, url: &str, arguments: &[&str]) -> Result<Self> {
        Self::start(verb, url, Some(world.kafka.bootstrap()), arguments).await
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Answer> {
        get(&self.address, path, &[]).await
    }

    /// SIGTERM; how long it took to end, which it must do well.
    pub(crate) async fn stop(&self) -> Result<Duration> {
        let told = Instant::now();
        self.child.term()?;
        let status = self.child.wait(PATIENCE).await?;
        assert_eq!(status, 0, "a soft stop ends with 0");
        Ok(told.elapsed())
    }
}

impl World<'_> {
    /// A role that only looks, with the rights that `highwater migrate --print-grants --monitor` prints.
    pub(crate) async fn monitor(&self) -> Result<String> {
        let monitor = self.database.role("monitor").await?;
        let grants = highwater::migrate::monitor_grants(&highwater::SchemaName::default(), &monitor.name);
        self.database.execute(&grants.expect("the role's name is valid")).await?;
        Ok(monitor.url)
    }
}
