//! A Postgres that has no connection, no space, no writes or no time to give, and settings against us (EO-1).

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use highwater::testing::{Backend, Kafka, Postgres, Result, unique};
use highwater::{Batch, HandlerError, Tx};
use rustix::process::{Pid, Signal, kill_process};

use super::{assert_unharmed, small_batches, tries_again};
use crate::support::{Fault, PATIENCE, Process, Setup, Sink, TestResult, World};

/// Ends all backends of the workers of this database, so that they must connect again.
const END_ALL: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                       WHERE datname = current_database() AND application_name LIKE 'highwater/%'";

#[tokio::test]
async fn core_out_of_connections() -> TestResult {
    let world = World::new("connections", 2).await?;
    let admit = async |count: i32| {
        world.database.execute(&format!("ALTER ROLE {} CONNECTION LIMIT {count}", world.role.name)).await
    };
    admit(0).await?;
    world.produce(20).await?;
    let worker = Process::start(&world, "worker", "plain")?;
    let refused = |line: &str| line.contains("too many connections");
    worker.child.wait_for_line(refused, PATIENCE).await?;
    admit(-1).await?;
    worker.claimed().await?;
    world
        .under_load(async {
            for _ in 0..3 {
                world.progress(50).await?;
                // One for the heartbeat or a claim, none for the batches.
                admit(1).await?;
                let mark = worker.child.mark();
                world.database.execute(END_ALL).await?;
                let given_up = |line: &str| line.contains("a batch was not applied");
                worker.child.wait_for_line_from(mark, given_up, PATIENCE).await?;
                admit(-1).await?;
            }
            world.progress(50).await
        })
        .await?;
    world.verify().await?;
    worker.stop().await?;
    world.assert_ledger_gapless().await?;
    Ok(())
}

/// A file system of one MiB, and a tablespace in it.
struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// None where one may not mount.
    async fn mount(world: &World<'_>) -> Result<Option<Self>> {
        let data = world.database.query("SHOW data_directory", &[]).await?;
        let data = PathBuf::from(data[0].get::<_, String>(0));
        let folder = std::env::temp_dir().join(unique("highwater_small_disk"));
        std::fs::create_dir(&folder)?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs"])
            .arg(&folder)
            .output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            std::fs::remove_dir(&folder)?;
            return Ok(None);
        }
        let this = Self { folder };
        let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(data)?);
        let space = this.folder.join("space");
        std::fs::create_dir(&space)?;
        for folder in [&this.folder, &space] {
            std::os::unix::fs::chown(folder, Some(owner), None)?;
        }
        Ok(Some(this))
    }

    /// Takes what is left of it.
    fn fill(&self) -> std::io::Result<()> {
        let mut file = std::fs::File::create(self.folder.join("filler"))?;
        let page = [1; 4096];
        loop {
            match std::io::Write::write_all(&mut file, &page) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn free(&self) -> std::io::Result<()> {
        std::fs::remove_file(self.folder.join("filler"))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the server may still have files open there.
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
        let _ = std::fs::remove_dir(&self.folder);
    }
}

/// Needs the right to mount, and a server on this machine.
#[tokio::test]
async fn a_full_disk_is_waited_for_where_one_may_mount() -> TestResult {
    if Backend::current().await? != Backend::Local {
        eprintln!("skipped: the server's disk is not ours");
        return Ok(());
    }
    // Its own server: the tablespace outlives the test there, in a folder that does not.
    let (kafka, postgres) = tokio::try_join!(Kafka::shared(), Postgres::start())?;
    let setup = Setup { kafka, postgres: &postgres, partitions: 2, topic_config: &[] };
    let world = World::with("disk", setup).await?;
    let Some(disk) = SmallDisk::mount(&world).await? else {
        eprintln!("skipped: may not mount a tmpfs");
        return Ok(());
    };
    let space = disk.folder.join("space");
    world.database.execute(&format!("CREATE TABLESPACE small LOCATION '{}'", space.display())).await?;
    world.database.execute("ALTER TABLE sink SET TABLESPACE small").await?;
    let worker = world.worker_with(small_batches(world.settings()), Sink::<()>::default());
    world
        .under_load(async {
            for _ in 0..2 {
                world.progress(50).await?;
                disk.fill()?;
                tries_again(&worker, 2).await?;
                disk.free()?;
            }
            world.progress(50).await
        })
        .await?;
    world.verify().await?;
    assert_unharmed(&worker);
    worker.stop().await?;
    Ok(())
}

/// A primary that takes no writes for a while, as managed ones do when their disk is nearly full.
#[tokio::test]
async fn core_a_read_only_primary_is_waited_for() -> TestResult {
    let world = World::new("readonly", 2).await?;
    let worker = world.worker_with(small_batches(world.settings()), Sink::<()>::default());
    let admin = Postgres::shared().await?.client().await?;
    let read_only = async |value: &str| {
        let name = world.database.name();
        let sql = format!("ALTER DATABASE \"{name}\" SET default_transaction_read_only = {value}");
        admin.batch_execute(&sql).await
    };
    world
        .under_load(async {
            world.progress(50).await?;
            read_only("on").await?;
            world.database.execute(END_ALL).await?;
            tries_again(&worker, 3).await?;
            read_only("off").await?;
            world.progress(50).await
        })
        .await?;
    world.verify().await?;
    assert_unharmed(&worker);
    worker.stop().await?;
    Ok(())
}

/// An immediate stop, as an operator in a hurry does it: every backend says so (57P02) wherever it is, also in answer
/// to COMMIT, and the server recovers from its log when it is started again.
#[tokio::test]
async fn an_immediate_stop_under_load() -> TestResult {
    let (kafka, postgres) = tokio::try_join!(Kafka::shared(), Postgres::start())?;
    let Some(pid) = postgres.pid() else {
        eprintln!("skipped: the server is no process of this machine's");
        return Ok(());
    };
    let setup = Setup { kafka, postgres: &postgres, partitions: 2, topic_config: &[] };
    let world = World::with("immediate", setup).await?;
    let worker = world.worker_with(small_batches(world.settings()), Sink::<()>::default());
    let mut pid = Some(pid);
    world
        .under_load(async {
            for _ in 0..3 {
                world.progress(50).await?;
                let server = pid.and_then(|pid| Pid::from_raw(pid.try_into().ok()?)).expect("it runs");
                kill_process(server, Signal::QUIT).expect("a server of ours may be signalled");
                // Waits for its end first.
                postgres.restart().await?;
                pid = postgres.pid();
            }
            world.progress(50).await
        })
        .await?;
    world.verify().await?;
    assert_unharmed(&worker);
    worker.stop().await?;
    world.assert_ledger_gapless().await?;
    Ok(())
}

/// A server that stands still four fifths of the time.
#[tokio::test]
async fn a_very_slow_server() -> TestResult {
    let (kafka, postgres) = tokio::try_join!(Kafka::shared(), Postgres::start())?;
    let setup = Setup { kafka, postgres: &postgres, partitions: 2, topic_config: &[] };
    let world = World::with("slow-server", setup).await?;
    let worker = world.worker_with(small_batches(world.settings()), Sink::<()>::default());
    world
        .under_load(async {
            world.progress(50).await?;
            for _ in 0..12 {
                postgres.freeze().await?;
                tokio::time::sleep(Duration::from_millis(400)).await;
                postgres.thaw().await?;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            world.progress(50).await
        })
        .await?;
    world.verify().await?;
    let counters = worker.status().counters;
    assert_eq!(counters.unknown_outcomes, 0, "slow is not broken: {counters:?}");
    assert_unharmed(&worker);
    worker.stop().await?;
    Ok(())
}

/// Looks, inside of every batch's transaction, at what it will be committed with.
struct Durable;

impl Fault for Durable {
    async fn after(&self, _: &Batch, tx: &mut Tx) -> std::result::Result<(), HandlerError> {
        let rows = tx.query("SELECT current_setting('synchronous_commit')", &[]).await?;
        match rows[0].get(0) {
            "on" => Ok(()),
            other => Err(HandlerError::fatal(format!("synchronous_commit is {other}"))),
        }
    }
}

/// `synchronous_commit = off` would lose acknowledged commits in a crash, and the mirror would run ahead of them
/// (EO-8): whoever sets it, for a role or for the database, does not set it for us.
#[tokio::test]
async fn core_asynchronous_commits_are_not_taken_over() -> TestResult {
    let (kafka, postgres) = tokio::try_join!(Kafka::shared(), Postgres::start())?;
    let setup = Setup { kafka, postgres: &postgres, partitions: 2, topic_config: &[] };
    let world = World::with("async-commit", setup).await?;
    for whose in [format!("ROLE {}", world.role.name), format!("DATABASE \"{}\"", world.database.name())] {
        world.database.execute(&format!("ALTER {whose} SET synchronous_commit = off")).await?;
    }
    let worker =
        world.worker_with(small_batches(world.settings()), Sink { fault: Durable, rows_only: false });
    world
        .under_load(async {
            for _ in 0..2 {
                world.progress(50).await?;
                postgres.kill().await?;
                postgres.restart().await?;
            }
            world.progress(50).await
        })
        .await?;
    world.verify().await?;
    assert_unharmed(&worker);
    worker.stop().await?;
    world.assert_ledger_gapless().await?;
    Ok(())
}
