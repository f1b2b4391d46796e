//! What somebody found who met this for the first time: each text names who is to blame, and the command that works.

use std::time::Duration;

use highwater::testing::wait_until;
use highwater::{Batch, ErrorKind, HandlerError, Tx};
use tokio_postgres::Client;

use crate::support::watch::{halted, halted_now, status_until};
use crate::support::{Fault, PATIENCE, Process, Sink, TestResult, World};

impl World<'_> {
    /// The superuser's session, under a name of its own.
    async fn nightly(&self) -> TestResult<Client> {
        let client = self.database.client().await?;
        // By itself: what is said in a transaction is rolled back with it.
        client.batch_execute("SET application_name = 'nightly report'").await?;
        client.batch_execute("BEGIN").await?;
        Ok(client)
    }
}

async fn pid(client: &Client) -> TestResult<i32> {
    Ok(client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0))
}

/// The role is to blame, not a record; the halt says what to grant, and the worker that nothing is left which runs.
#[tokio::test]
async fn a_missing_right_is_the_configurations_and_a_retry_is_enough() -> TestResult {
    let world = World::new("grant", 2).await?;
    let role = &world.role.name;
    world.database.execute(&format!("REVOKE INSERT ON sink FROM {role}")).await?;
    world.produce(20).await?;
    let worker = world.worker(Sink::<()>::default());
    for partition in 0..2 {
        let why = halted(&worker, partition).await?;
        let place = format!("--group {} --topic {}:{partition}", world.group, world.topic);
        for text in [
            "the worker's role may not do what is asked of it at",
            "permission denied for table sink",
            "no record is to blame",
            &format!("ON public.sink TO {role}`, then `highwater partitions retry {place}`"),
        ] {
            assert!(why.contains(text), "{text}: {why}");
        }
        assert!(why.contains("`GRANT INSERT"), "{why}");
    }
    let is_told = |text: Option<&str>| {
        text.is_some_and(|text| {
            text.starts_with("all 2 partitions of this worker are halted, and it applies nothing")
        })
    };
    let status = status_until(&worker, "all are halted", |status| is_told(status.detail.as_deref())).await?;
    assert!(status.ready, "a halt holds up no rollout");
    let detail = "SELECT coalesce(max(detail), '') FROM highwater.worker_status WHERE ready";
    wait_until("the database has it", PATIENCE, async || {
        let detail: String = world.database.query(detail, &[]).await?[0].get(0);
        Ok(is_told(Some(&detail)).then_some(()))
    })
    .await?;

    world.database.execute(&format!("GRANT INSERT ON sink TO {role}")).await?;
    for partition in 0..2 {
        world.partitions_command("retry", partition, &[]).await?.ended(0);
    }
    world.verify_with_moves().await?;
    status_until(&worker, "nothing is said any more", |status| status.detail.is_none()).await?;
    assert_eq!(halted_now(&worker), [] as [i32; 0]);
    worker.stop().await?;
    Ok(())
}

/// Whose lock it is, is said; few lines for many attempts, and one when it is over.
#[tokio::test]
async fn who_holds_a_lock_is_said_and_that_it_is_over() -> TestResult {
    let world = World::new("whose-lock", 1).await?;
    let settings = [("HIGHWATER_LOG", "info"), ("HIGHWATER_LOCK_TIMEOUT", "500ms")];
    let worker = Process::start_with(&world, "worker", "plain", &settings)?;
    world.produce(20).await?;
    world.caught_up().await?;

    let locker = world.nightly().await?;
    let holder = format!("held by pid {} (nightly report, another role's)", pid(&locker).await?);
    locker.batch_execute("LOCK TABLE sink IN SHARE MODE").await?;
    world.produce(20).await?;
    let wanted = format!("it waited for a lock on sink {holder}");
    let line = worker.child.wait_for_line(|line| line.contains(&wanted), PATIENCE).await?;
    assert!(line.contains("55P03") && !line.contains("INSERT"), "{line}");
    let detail = "SELECT coalesce(max(detail), '') FROM highwater.partition_status";
    wait_until("it is in partition_status", PATIENCE, async || {
        let detail: String = world.database.query(detail, &[]).await?[0].get(0);
        Ok(detail.contains(&wanted).then_some(()))
    })
    .await?;
    let retries = "SELECT coalesce(max(retries_total), 0)::int8 FROM highwater.worker_status";
    wait_until("it was tried several times", PATIENCE, async || {
        Ok((world.number(retries).await? >= 4).then_some(()))
    })
    .await?;
    let lines = worker.child.lines();
    let said = lines.iter().filter(|line| line.text.contains("a batch was not applied")).count();
    assert!(said <= 3, "{said} lines for at least 4 attempts");
    locker.batch_execute("ROLLBACK; BEGIN").await?;
    let over = format!("partition {}:0 goes on at offset ", world.topic);
    worker.child.wait_for_line(|line| line.contains("INFO") && line.contains(&over), PATIENCE).await?;

    // The row of its offset, too.
    locker.batch_execute("SELECT FROM highwater.consumer_offset FOR UPDATE").await?;
    world.produce(20).await?;
    let wanted = format!("offset row: it waited for a lock on a row of highwater.consumer_offset {holder}");
    worker.child.wait_for_line(|line| line.contains(&wanted), PATIENCE).await?;
    locker.batch_execute("ROLLBACK").await?;
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

/// Takes a while before it writes, so that its limit strikes before that of the lock.
struct Dawdles;

impl Fault for Dawdles {
    async fn before(&self, _: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        tx.execute("SELECT pg_sleep(0.5)", &[]).await?;
        Ok(())
    }
}

/// A batch that was given up while it waited for a lock is no record's fault, however often that happens.
#[tokio::test]
async fn a_lock_outlasts_the_limit_of_a_batch_and_halts_nothing() -> TestResult {
    let world = World::new("lock-limit", 1).await?;
    let settings = world.settings().max_processing_time(Duration::from_millis(2_500));
    let settings = settings.lock_timeout(Duration::from_millis(2_400));
    let worker = world.worker_with(settings, Sink { fault: Dawdles, rows_only: false });
    world.produce(1).await?;
    world.caught_up().await?;
    let locker = world.nightly().await?;
    locker.batch_execute("LOCK TABLE sink IN SHARE MODE").await?;
    world.produce(1).await?;
    let goal = worker.status().counters.retries + 4;
    wait_until("it was tried often", PATIENCE, async || {
        Ok((worker.status().counters.retries >= goal).then_some(()))
    })
    .await
    .inspect_err(|_| eprintln!("{:#?}", worker.status()))?;
    assert_eq!(halted_now(&worker), [] as [i32; 0], "{:#?}", worker.status());
    let is_told = |why: Option<&str>| {
        why.is_some_and(|why| {
            why.contains("longer than max_processing_time") && why.contains("a lock on sink held by")
        })
    };
    status_until(&worker, "it says so", |status| {
        status.partitions.iter().any(|at| is_told(at.detail.as_deref()))
    })
    .await?;
    locker.batch_execute("ROLLBACK").await?;
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

/// Where it is, and never with which password.
#[tokio::test]
async fn a_database_that_refuses_is_named_without_its_password() -> TestResult {
    let mut world = World::new("refuses", 1).await?;
    let right = world.role.url.clone();
    let place = right.split('@').nth(1).expect("a host").to_owned();
    world.role.url = right.replace(&world.role.password, "geheim");
    let ended = tokio::time::timeout(PATIENCE, world.worker(Sink::<()>::default()).wait()).await;
    let error = ended.expect("it is not retried for ever").expect_err("it is refused");
    assert_eq!(error.kind(), ErrorKind::Authentication);
    assert!(error.report().contains(&place) && !format!("{error:?}").contains("geheim"), "{error:?}");

    world.role.url = "postgres://me:geheim@127.0.0.1:1/payments".to_owned();
    let worker = Process::start_with(&world, "worker", "plain", &[("HIGHWATER_LOG", "info")])?;
    let line = worker.child.wait_for_line(|line| line.contains("cannot use Postgres yet"), PATIENCE).await?;
    assert!(line.contains("postgres://me@127.0.0.1:1/payments"), "{line}");
    assert!(!worker.wrote("geheim") && !worker.wrote("\u{1b}["), "no password, and no colours in a pipe");
    worker.child.kill()?;
    Ok(())
}
