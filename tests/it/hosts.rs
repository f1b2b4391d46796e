//! Several servers in one address: the worker lives on the primary, whichever that is.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use highwater::testing::{Kafka, Postgres, wait_until};
use highwater::{Batch, ErrorKind, HandlerError, PartialConfig, Tx, WorkerHandle};

use crate::support::sink::Fault;
use crate::support::watch::halted_now;
use crate::support::{PATIENCE, Setup, Sink, TestResult, World};

/// Both servers in the address of the world's role.
fn both(world: &mut World<'_>, first: &Postgres, second: &Postgres) {
    let url = &world.role.url;
    let (before, after) = url.split_once('@').expect("it has a user");
    let (_, database) = after.split_once('/').expect("it has a database");
    let hosts = [first, second].map(|server| format!("{}:{}", server.host(), server.port())).join(",");
    world.role.url = format!("{before}@{hosts}/{database}");
}

async fn stands_still(worker: &WorkerHandle) -> TestResult {
    let retries = || worker.status().counters.retries;
    let before = retries();
    wait_until("batches are refused", PATIENCE, async || Ok((retries() >= before + 2).then_some(()))).await?;
    Ok(())
}

/// A switch-over under load: writing is stopped on the primary, the standby is promoted, the worker follows, and the
/// sessions of the server that was demoted are gone from its pools.
#[tokio::test]
async fn a_worker_follows_the_primary() -> TestResult {
    let (kafka, first) = tokio::try_join!(Kafka::shared(), Postgres::start_local(&[]))?;
    let mut world =
        World::with("hosts", Setup { kafka, postgres: &first, partitions: 3, topic_config: &[] }).await?;
    let second = first.replica().await?;
    let admin = first.client().await?;
    // Not before the copy: the standby must not wait for a standby of its own.
    admin.batch_execute("ALTER SYSTEM SET synchronous_standby_names = '*'").await?;
    admin.batch_execute("SELECT pg_reload_conf()").await?;
    let streams = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
    wait_until("the standby follows", PATIENCE, async || {
        Ok((world.number(streams).await? == 1).then_some(()))
    })
    .await?;

    // The standby alone will not do, and comes first here.
    let only = world.role.url.replace(&format!(":{}/", first.port()), &format!(":{}/", second.port()));
    let refused = PartialConfig::default().postgres_url(only).finish_database()?.connect("test").await;
    let refused = refused.expect_err("a standby");
    assert_eq!(refused.kind(), ErrorKind::Postgres, "it may be promoted: {refused:?}");
    assert!(refused.report().contains("does not allow writes"), "{}", refused.report());
    both(&mut world, &second, &first);
    world.produce(50).await?;
    let settings = world.settings().retry_backoff_max(Duration::from_millis(500));
    let worker = world.worker_with(settings, Sink::<()>::default());
    world.verify().await?;

    let switched = async {
        world.progress(100).await?;
        admin.batch_execute("ALTER SYSTEM SET default_transaction_read_only = on").await?;
        admin.batch_execute("SELECT pg_reload_conf()").await?;
        stands_still(&worker).await.expect("it stands still");
        // Sessions that are kept, not those that come to see whether it takes writes again.
        let left = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'highwater/%' \
                    AND backend_start < clock_timestamp() - interval '2 seconds'";
        wait_until("the pools have let go of the demoted server", PATIENCE, async || {
            Ok((world.number(left).await? == 0).then_some(()))
        })
        .await?;
        second.client().await?.batch_execute("SELECT pg_promote()").await?;
        Ok(())
    };
    world.under_load(switched).await?;
    world.database = second.database(world.database.name());
    world.produce(50).await?;
    world.verify().await?;
    assert_eq!(halted_now(&worker), [] as [i32; 0], "{:#?}", worker.status());
    // What the old primary has is a beginning of what the new one has.
    first.stop().await?;
    world.produce(50).await?;
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

/// Read-only for a while, as some providers make a server whose disk is nearly full: nothing is written past it,
/// nothing halts, and all goes on afterwards.
#[tokio::test]
async fn a_server_may_take_no_writes_for_a_while() -> TestResult {
    let (kafka, postgres) = tokio::try_join!(Kafka::shared(), Postgres::start_local(&[]))?;
    let world =
        World::with("read-only", Setup { kafka, postgres: &postgres, partitions: 3, topic_config: &[] })
            .await?;
    let settings = world.settings().retry_backoff_max(Duration::from_millis(500));
    let worker = world.worker_with(settings, Sink::<()>::default());
    world.produce(50).await?;
    world.verify().await?;
    let admin = postgres.client().await?;
    let set = async |to: &str| {
        admin.batch_execute(&format!("ALTER SYSTEM SET default_transaction_read_only = {to}")).await?;
        admin.batch_execute("SELECT pg_reload_conf()").await
    };
    set("on").await?;
    // A batch that began before is still written; then nothing is.
    world.produce(50).await?;
    stands_still(&worker).await?;
    let before = world.database.count("sink").await?;
    stands_still(&worker).await?;
    assert_eq!(world.database.count("sink").await?, before, "it writes past the server's will");
    assert_eq!(halted_now(&worker), [] as [i32; 0], "{:#?}", worker.status());
    set("off").await?;
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

/// Has the server read its configuration anew in the middle of the first batch, and waits until its session has it.
struct Reload {
    admin: tokio_postgres::Client,
    is_done: AtomicBool,
}

impl Fault for Reload {
    async fn after(&self, _: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        if self.is_done.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        set_read_only(&self.admin, "on").await?;
        // A backend reads it between two statements.
        while tx.query("SHOW default_transaction_read_only", &[]).await?[0].get::<_, &str>(0) != "on" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

async fn set_read_only(admin: &tokio_postgres::Client, to: &str) -> Result<(), tokio_postgres::Error> {
    admin.batch_execute(&format!("ALTER SYSTEM SET default_transaction_read_only = {to}")).await?;
    admin.batch_execute("SELECT pg_reload_conf()").await
}

/// The handler has changed nothing: the batch that is under way when the server's configuration changes is tried again, and
/// halts nothing.
#[tokio::test]
async fn a_configuration_that_changes_under_a_batch_is_nobodys_fault() -> TestResult {
    let (kafka, postgres) = tokio::try_join!(Kafka::shared(), Postgres::start_local(&[]))?;
    let world =
        World::with("reloaded", Setup { kafka, postgres: &postgres, partitions: 1, topic_config: &[] })
            .await?;
    let settings = world.settings().retry_backoff_max(Duration::from_millis(500));
    let fault = Reload { admin: postgres.client().await?, is_done: AtomicBool::new(false) };
    world.produce(50).await?;
    let worker = world.worker_with(settings, Sink { fault, rows_only: false });
    stands_still(&worker).await?;
    assert_eq!(halted_now(&worker), [] as [i32; 0], "{:#?}", worker.status());
    set_read_only(&postgres.client().await?, "off").await?;
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

/// Over the server's Unix socket, where TLS is not spoken, whatever the address asks for.
#[tokio::test]
async fn a_worker_lives_on_a_unix_socket() -> TestResult {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir()?;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777))?;
    let path = folder.path().to_str().expect("a plain path");
    let own = [("unix_socket_directories", path)];
    let (kafka, postgres) = tokio::try_join!(Kafka::shared(), Postgres::start_local(&own))?;
    let mut world =
        World::with("socket", Setup { kafka, postgres: &postgres, partitions: 2, topic_config: &[] }).await?;
    let (before, after) = world.role.url.split_once('@').expect("it has a user");
    let (_, database) = after.split_once('/').expect("it has a database");
    let port = postgres.port();
    world.role.url =
        format!("{before}@/{database}?host={path}&port={port}&sslmode=verify-full&sslrootcert=system");
    world.produce(20).await?;
    let worker = world.worker(Sink::<()>::default());
    world.verify().await?;
    let sockets = "SELECT count(*) FROM pg_stat_activity \
                   WHERE application_name LIKE 'highwater/%' AND client_addr IS NULL";
    assert!(world.number(sockets).await? > 1);
    worker.stop().await?;
    Ok(())
}
