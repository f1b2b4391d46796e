//! PgBouncer between the workers and Postgres.

use std::fmt::Write;
use std::net::TcpListener;
use std::process::Command;

use highwater::ErrorKind;
use highwater::testing::{Child, Result};

use crate::support::needs::{runs, skipped_without};
use crate::support::{PATIENCE, Process, Sink, TestResult, World};

/// A PgBouncer of the test's own, before the world's database.
pub(crate) struct PgBouncer {
    _child: Child,
    _folder: tempfile::TempDir,
    pub(crate) url: String,
}

impl PgBouncer {
    async fn start(world: &World<'_>, mode: &str) -> Result<Self> {
        Self::start_with(world, mode, &[]).await
    }

    pub(crate) async fn start_with(world: &World<'_>, mode: &str, more: &[(&str, &str)]) -> Result<Self> {
        let config: tokio_postgres::Config = world.role.url.parse().expect("the kit's URL");
        let upstream = config.get_ports()[0];
        // Free a moment ago; nobody else asks for one in that range while this one starts.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let folder = tempfile::Builder::new().prefix("highwater-pgbouncer-").tempdir()?;
        let users = folder.path().join("users");
        std::fs::write(&users, format!("\"{}\" \"{}\"\n", world.role.name, world.role.password))?;
        let mut text = format!("[databases]\n* = host=127.0.0.1 port={upstream}\n[pgbouncer]\n");
        for (name, value) in [
            ("listen_addr", "127.0.0.1"),
            ("listen_port", &port.to_string()),
            ("unix_socket_dir", ""),
            ("auth_type", "scram-sha-256"),
            ("auth_file", &users.display().to_string()),
            ("pool_mode", mode),
        ]
        .iter()
        .chain(more)
        {
            writeln!(text, "{name} = {value}").expect("writing to a String does not fail");
        }
        let file = folder.path().join("pgbouncer.ini");
        std::fs::write(&file, text)?;
        let mut command = Command::new("pgbouncer");
        if rustix::process::geteuid().is_root() {
            // It refuses to run as root; `postgres` is there, for its package depends on the one that makes it.
            for path in [folder.path(), &users, &file] {
                let status = Command::new("chown").arg("postgres").arg(path).status()?;
                assert!(status.success(), "there is a user postgres");
            }
            command.args(["--user", "postgres"]);
        }
        command.arg(&file);
        let child = Child::spawn("pgbouncer", &command)?;
        let up = child.wait_for_line(|line| line.contains("process up"), PATIENCE).await;
        up.map_err(|error| {
            highwater::testing::Error::caused("start PgBouncer (apt-get install pgbouncer)", error)
        })?;
        let url = world.role.url.replace(&format!(":{upstream}/"), &format!(":{port}/"));
        Ok(Self { _child: child, _folder: folder, url })
    }
}

pub(crate) fn lacks_pgbouncer() -> bool {
    skipped_without("pgbouncer", runs("pgbouncer", &["--version"]))
}

/// One server connection for each statement: neither the session's settings, nor prepared statements, nor the backend
/// that a lock's holder is looked up by are the worker's own.
#[tokio::test]
async fn transaction_mode_is_refused_at_the_start() -> TestResult {
    if lacks_pgbouncer() {
        return Ok(());
    }
    let world = World::new("pooler", 2).await?;
    let pooler = PgBouncer::start(&world, "transaction").await?;
    let settings = world.settings().postgres_url(pooler.url.as_str());
    let error = world.worker_with(settings, Sink::<()>::default()).wait().await.expect_err("it is refused");
    assert_eq!((error.kind(), error.exit_code()), (ErrorKind::Configuration, 2), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("postgres_url") && text.contains("session mode"), "{text}");
    let nothing = "SELECT count(*) FROM highwater.worker_status";
    assert_eq!(world.number(nothing).await?, 0, "nothing was written");
    Ok(())
}

#[tokio::test]
async fn session_mode_works() -> TestResult {
    if lacks_pgbouncer() {
        return Ok(());
    }
    let mut world = World::new("session", 2).await?;
    let pooler = PgBouncer::start(&world, "session").await?;
    world.role.url = pooler.url.clone();
    let settings = [("HIGHWATER_BATCH_TARGET_RECORDS", "10"), ("HIGHWATER_BATCH_MAX_RECORDS", "20")];
    let killed = Process::start_with(&world, "killed", "slow", &settings)?;
    world
        .under_load(async {
            killed.claimed().await?;
            world.progress(50).await?;
            killed.child.kill()?;
            killed.child.wait(PATIENCE).await.map(drop)
        })
        .await?;
    let heir = Process::start_with(&world, "heir", "plain", &settings)?;
    world.verify().await?;
    heir.stop().await?;
    world.assert_ledger_gapless().await?;
    Ok(())
}
