//! The command `highwater`, as an operator types it.

use std::process::Stdio;

use highwater::testing::{Error, Result};
use serde_json::Value;
use tokio::process::Command;

use crate::support::World;

/// What it said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Said {
    /// It has ended with this exit code.
    #[track_caller]
    pub(crate) fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).expect("it printed JSON")
    }
}

impl World<'_> {
    /// Runs the command on this world's servers, as the tables' owner and without a terminal.
    pub(crate) async fn highwater(&self, arguments: &[&str]) -> Result<Said> {
        self.highwater_at(self.database.url(), arguments).await
    }

    /// As [`highwater`](Self::highwater), on another way to the database.
    pub(crate) async fn highwater_at(&self, url: &str, arguments: &[&str]) -> Result<Said> {
        self.highwater_in(url, &[], arguments).await
    }

    /// … and with more in the environment.
    pub(crate) async fn highwater_in(
        &self,
        url: &str,
        environment: &[(&str, &str)],
        arguments: &[&str],
    ) -> Result<Said> {
        let output = self.highwater_command(url, arguments).envs(environment.iter().copied()).output().await;
        let output = output.map_err(|error| Error::caused("run highwater", error))?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Said {
            code: output.status.code().unwrap_or(-1),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        })
    }

    /// The command, to be run.
    pub(crate) fn highwater_command(&self, url: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"HIGHWATER_") {
                command.env_remove(name);
            }
        }
        command
            .env("HIGHWATER_POSTGRES_URL", url)
            .env("HIGHWATER_BROKERS", self.kafka.bootstrap())
            .env("USER", "ana")
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// `highwater offsets VERB --group …` of this world's group.
    pub(crate) async fn offsets(&self, verb: &str, arguments: &[&str]) -> Result<Said> {
        let group = ["offsets", verb, "--group", &self.group];
        self.highwater(&[&group, arguments].concat()).await
    }

    /// `highwater partitions VERB --group … --topic …:partition`.
    pub(crate) async fn partitions_command(
        &self,
        verb: &str,
        partition: i32,
        arguments: &[&str],
    ) -> Result<Said> {
        let topic = format!("{}:{partition}", self.topic);
        let which = ["partitions", verb, "--group", &self.group, "--topic", &topic];
        self.highwater(&[&which, arguments].concat()).await
    }
}
