//! The consumer of another language: `consumer.py`, on Debian's packages.

use std::path::Path;
use std::process::Command;

use highwater::testing::{Child, Error, Result};

use crate::support::needs::{runs, skipped_without};
use crate::support::{PATIENCE, World};

/// A running `consumer.py`.
pub(super) struct Python {
    child: Child,
}

impl Python {
    /// Starts it under the world's group; `idle`: it only sits in the group.
    pub(super) fn start(world: &World<'_>, name: &str, idle: bool) -> Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/adopt/consumer.py");
        let python = interpreter().ok_or_else(|| Error::new("no Python has its packages"))?;
        let mut command = Command::new(python);
        command.arg(script).args([world.kafka.bootstrap(), &world.group, &world.topic, &world.role.url]);
        command.args(idle.then_some("idle"));
        Ok(Self { child: Child::spawn(name, &command)? })
    }

    /// Waits until the group has given it partitions.
    pub(super) async fn assigned(&self) -> Result<()> {
        self.child
            .wait_for_line(|line| line.starts_with("assigned [") && line.len() > 11, PATIENCE)
            .await
            .map(drop)
    }

    /// SIGTERM, and a soft end.
    pub(super) async fn stop(self) -> Result<()> {
        self.child.term()?;
        let status = self.child.wait(PATIENCE).await?;
        assert_eq!(status, 0, "it stops softly: {}", self.child);
        Ok(())
    }
}

/// Whether the caller must be skipped because nothing here can run it.
pub(super) fn lacks_python() -> bool {
    skipped_without("Python with confluent_kafka and psycopg2", interpreter().is_some())
}

/// A Python that has the packages: the one on the path may be another than the one that apt installs them for.
fn interpreter() -> Option<&'static str> {
    let has_packages = |python: &&str| runs(python, &["-c", "import confluent_kafka, psycopg2"]);
    ["python3", "/usr/bin/python3"].into_iter().find(has_packages)
}
