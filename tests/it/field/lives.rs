//! Who lives, and who is whose (W4).

use std::net::Ipv4Addr;
use std::time::Duration;

use highwater::config::{PasswordCommand, StartPolicy};
use highwater::testing::{Kafka, Postgres, Result, wait_until};
use highwater::{Batch, ErrorKind, HandlerError, PartialConfig, SchemaName, Tx, WorkerHandle, migrate};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use uuid::Uuid;

use crate::faults::pooler::PgBouncer;
use crate::support::watch::status_until;
use crate::support::{Fault, PATIENCE, Process, Setup, Sink, TestResult, World};

/// The sessions of a worker.
fn sessions_of(worker: &WorkerHandle) -> String {
    let owner = worker.status().owner.expect("it has begun").simple().to_string();
    format!("FROM pg_stat_activity WHERE application_name LIKE 'highwater/%/{owner}%'")
}

impl World<'_> {
    async fn end_sessions_of(&self, worker: &WorkerHandle) -> Result<i64> {
        self.number(&format!("SELECT count(pg_terminate_backend(pid)) {}", sessions_of(worker))).await
    }

    async fn pids_of(&self, worker: &WorkerHandle) -> Result<Vec<i32>> {
        let rows = self.database.query(&format!("SELECT pid {}", sessions_of(worker)), &[]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// The address of the role without its password, and as `change` makes it.
    fn without_password(&self) -> String {
        self.role.url.replacen(&format!(":{}@", self.role.password), "@", 1)
    }

    async fn set_password(&self, password: &str) -> Result<()> {
        self.database.execute(&format!("ALTER ROLE {} PASSWORD '{password}'", self.role.name)).await
    }
}

fn quick(settings: PartialConfig) -> PartialConfig {
    settings.retry_backoff_max(Duration::from_millis(500))
}

/// A host that drops packets: the backlog of its listener is full. Keeps what fills it.
async fn dropping() -> TestResult<(u16, TcpListener, Vec<TcpStream>)> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let listener = socket.listen(1)?;
    let address = listener.local_addr()?;
    let mut filling = Vec::new();
    loop {
        match tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
            Ok(stream) => filling.push(stream?),
            Err(_) => return Ok((address.port(), listener, filling)),
        }
    }
}

#[tokio::test]
async fn w4_1_a_first_host_that_drops_packets_costs_the_heartbeat_seconds() -> TestResult {
    let mut world = World::new("dropping", 2).await?;
    let (port, _listener, _filling) = dropping().await?;
    world.role.url = world.role.url.replacen('@', &format!("@127.0.0.1:{port},"), 1);
    let worker = world.worker_with(quick(world.settings()), Sink::<()>::default());
    world.produce(20).await?;
    world.verify().await?;
    // Its sessions end, the primary's address stays.
    assert!(world.end_sessions_of(&worker).await? > 1);
    let since = world.database.query("SELECT clock_timestamp()::text", &[]).await?[0].get::<_, String>(0);
    let lag = wait_until("its heart beats again", PATIENCE, async || {
        let sql = "SELECT extract(epoch FROM min(heartbeat_at) - $1::text::timestamptz)::int8 \
                   FROM highwater.worker_status WHERE heartbeat_at > $1::text::timestamptz";
        Ok(world.database.query(sql, &[&since]).await?[0].get::<_, Option<i64>>(0))
    })
    .await?;
    assert!(lag < 10, "{lag} s");
    world.produce(20).await?;
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

/// Each batch holds one row's lock for longer than anybody waits without asking who holds it.
struct Queue;

impl Fault for Queue {
    async fn before(&self, _: &Batch, tx: &mut Tx) -> std::result::Result<(), HandlerError> {
        tx.execute("UPDATE queue SET turns = turns + 1", &[]).await?;
        tx.execute("SELECT pg_sleep(0.6)", &[]).await?;
        Ok(())
    }
}

const QUEUE: &str = "CREATE TABLE queue AS SELECT 0::bigint AS turns";

/// Has two workers queue for a row, and looks that neither ends the other's sessions.
async fn leave_each_other_alone(
    world: &World<'_>,
    workers: [&WorkerHandle; 2],
    produce: impl AsyncFn() -> Result<()>,
) -> TestResult {
    for worker in workers {
        status_until(worker, "it runs", |status| status.ready && !status.partitions.is_empty()).await?;
    }
    let turns = "SELECT turns FROM queue";
    let rounds = async |count: i64| {
        let goal = world.number(turns).await? + count;
        wait_until("both have had their turns", PATIENCE, async || {
            produce().await?;
            Ok((world.number(turns).await? >= goal).then_some(()))
        })
        .await
    };
    rounds(4).await?;
    let before = [world.pids_of(workers[0]).await?, world.pids_of(workers[1]).await?];
    rounds(8).await?;
    for (worker, before) in workers.iter().zip(before) {
        let now = world.pids_of(worker).await?;
        assert!(before.iter().all(|pid| now.contains(pid)), "{before:?} {now:?}");
        assert_eq!(worker.status().counters.retries, 0, "no batch was lost");
        assert_eq!(worker.status().counters.unknown_outcomes, 0);
    }
    Ok(())
}

#[tokio::test]
async fn w4_2_live_workers_behind_a_pooler_that_appends_the_host_are_left_alone() -> TestResult {
    let mut world = World::new("appended", 2).await?;
    let pooler = PgBouncer::start_with(&world, "session", &[("application_name_add_host", "1")]).await?;
    world.role.url = pooler.url.clone();
    world.database.execute(QUEUE).await?;
    world.database.execute(&format!("GRANT SELECT, UPDATE ON queue TO {}", world.role.name)).await?;
    let start = || world.worker_with(quick(world.settings()), Sink { fault: Queue, rows_only: false });
    let (a, b) = (start(), start());
    leave_each_other_alone(&world, [&a, &b], async || world.produce(2).await).await?;
    let appended = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                    AND application_name ~ '^highwater/[0-9a-f]{8}/[0-9a-f]{32} - '";
    assert!(world.number(appended).await? > 1, "the pooler does what this test is about");
    world.verify().await?;
    a.stop().await?;
    b.stop().await?;
    Ok(())
}

/// Behind the same pooler the dead are still known.
#[tokio::test]
async fn w4_2_a_frozen_worker_behind_such_a_pooler_is_found() -> TestResult {
    let mut world = World::new("appended-frozen", 1).await?;
    let pooler = PgBouncer::start_with(&world, "session", &[("application_name_add_host", "1")]).await?;
    world.role.url = pooler.url.clone();
    world.produce(50).await?;
    frozen_holder_is_ended(&world, &world.role.url).await
}

/// Freezes a worker that holds locks, and has one with another address take over.
async fn frozen_holder_is_ended(world: &World<'_>, heirs_url: &str) -> TestResult {
    let freeze = [("HIGHWATER_TEST_FAILPOINT", "before_commit=freeze")];
    let zombie = Process::start_with(world, "zombie", "plain", &freeze)?;
    zombie.reached("before_commit").await?;
    let heir = Process::start_with(world, "heir", "plain", &[("HIGHWATER_POSTGRES_URL", heirs_url)])?;
    heir.child.wait_for_line(|line| line.contains("ended a backend"), PATIENCE).await?;
    world.verify().await?;
    zombie.child.thaw()?;
    zombie.stop().await?;
    heir.stop().await?;
    world.verify().await?;
    Ok(())
}

#[tokio::test]
async fn w4_2_what_renames_sessions_is_refused_at_the_start() -> TestResult {
    let world = World::new("renamed", 1).await?;
    // What a pooler does that gives its own name: seen by the server, not asked for by the worker.
    world
        .database
        .execute(
            "CREATE FUNCTION rename() RETURNS event_trigger LANGUAGE plpgsql AS \
             $$ BEGIN PERFORM set_config('application_name', 'a pooler', false); END $$; \
             CREATE EVENT TRIGGER rename ON login EXECUTE FUNCTION rename(); \
             ALTER EVENT TRIGGER rename ENABLE ALWAYS",
        )
        .await?;
    let error = world.worker(Sink::<()>::default()).wait().await.expect_err("it is refused");
    assert_eq!((error.kind(), error.exit_code()), (ErrorKind::Configuration, 2), "{error:?}");
    assert!(
        error.to_string().contains("\"a pooler\"") && error.to_string().contains("postgres_url"),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn w4_3_heartbeats_from_the_future_are_no_proof_of_life() -> TestResult {
    let world = World::new("future", 1).await?;
    world.produce(10).await?;
    let first = world.worker(Sink::<()>::default());
    world.verify().await?;
    first.stop().await?;
    // A worker has died, and then the database's clock went back.
    let dead = Uuid::new_v4();
    world
        .database
        .execute(&format!(
            "INSERT INTO highwater.worker_status SELECT '{dead}', group_id, NULL, program, version, host, 1, started_at, \
               clock_timestamp() + interval '1 hour', NULL, 'running', true, NULL, 1, 0, 0, 0, 0, 0 \
             FROM highwater.worker_status; \
             UPDATE highwater.consumer_offset SET owner = '{dead}'"
        ))
        .await?;
    world.produce(10).await?;
    let by_hand = [("HIGHWATER_ASSIGN", format!("{}:0", world.topic))];
    let by_hand: Vec<(&str, &str)> = by_hand.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let heir = Process::start_with(&world, "heir", "plain", &by_hand)?;
    heir.child.wait_for_line(|line| line.contains("heartbeats lie in the future"), PATIENCE).await?;
    world.verify().await?;
    heir.stop().await?;
    Ok(())
}

#[tokio::test]
async fn w4_4_deployments_of_one_group_id_in_two_schemas_leave_each_other_alone() -> TestResult {
    let world = World::new("schemas", 1).await?;
    let mut other = World::new("schemas-other", 1).await?;
    (other.database, other.role, other.group) =
        (world.database.clone(), world.role.clone(), world.group.clone());
    let schema = SchemaName::new("other")?;
    migrate::migrate(&mut world.database.client().await?, &schema).await?;
    world.database.execute(&migrate::grants(&schema, &world.role.name)?).await?;
    world.database.execute(QUEUE).await?;
    world.database.execute(&format!("GRANT SELECT, UPDATE ON queue TO {}", world.role.name)).await?;
    let sink = || Sink { fault: Queue, rows_only: false };
    let a = world.worker_with(quick(world.settings()), sink());
    let b = world.worker_with(quick(other.settings()).schema(schema), sink());
    let produce = async || {
        world.produce(2).await?;
        other.produce(2).await
    };
    leave_each_other_alone(&world, [&a, &b], produce).await?;
    world.caught_up().await?;
    let (_, end) = other.kafka.watermarks(&other.topic, 0).await?;
    wait_until("the other has caught up", PATIENCE, async || {
        let next = world.number("SELECT next_offset FROM other.consumer_offset").await?;
        Ok((next >= end).then_some(()))
    })
    .await?;
    world.assert_ledger_gapless().await?;
    world.assert_exact(false).await?;
    other.assert_exact(false).await?;
    world.assert_balances_of(&[&world.topic, &other.topic]).await?;
    a.stop().await?;
    b.stop().await?;
    Ok(())
}

/// Far more than one statement may delete within its limit, and rows of which each takes its time.
#[tokio::test]
async fn w4_5_old_rows_are_pruned_in_portions_beside_the_heartbeat() -> TestResult {
    let world = World::new("prune", 1).await?;
    let old = "clock_timestamp() - interval '40 days'";
    world
        .database
        .execute(&format!(
            "INSERT INTO highwater.claim_history (group_id, topic, partition, epoch, claim_token, claimed_offset, end_offset, \
               applied_records, applied_batches, claimed_at, replaced_at) \
             SELECT '{group}', CASE WHEN n <= 4000 THEN 'slow' ELSE 'old' END, 0, n, gen_random_uuid(), 0, 0, 0, 0, {old}, {old} \
             FROM generate_series(1, 200000) AS n; \
             INSERT INTO highwater.worker_status SELECT gen_random_uuid(), '{group}', NULL, 'it', '', '', 1, {old}, {old}, NULL, \
               'running', false, NULL, 0, 0, 0, 0, 0, 0 FROM generate_series(1, 100000); \
             INSERT INTO highwater.worker_session VALUES (-1, {old}, gen_random_uuid()); \
             CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
               $$ BEGIN IF OLD.topic = 'slow' THEN PERFORM pg_sleep(0.002); END IF; RETURN OLD; END $$; \
             CREATE TRIGGER slow BEFORE DELETE ON highwater.claim_history FOR EACH ROW EXECUTE FUNCTION slow()",
            group = world.group
        ))
        .await?;
    world.produce(20).await?;
    // The server's limit of a statement is 5 s beyond.
    let worker = Process::start_with(&world, "worker", "plain", &[("HIGHWATER_LOCK_TIMEOUT", "10ms")])?;
    worker.claimed().await?;
    let left = async || {
        let sql = "SELECT (SELECT count(*) FROM highwater.claim_history WHERE replaced_at < now() - interval '30 days') \
                   + (SELECT count(*) FROM highwater.worker_status WHERE heartbeat_at < now() - interval '30 days') \
                   + (SELECT count(*) FROM highwater.worker_session WHERE pid < 0)";
        world.number(sql).await
    };
    let mut oldest_beat = 0;
    let done = wait_until("nothing old is left", PATIENCE, async || {
        let sql = "SELECT extract(epoch FROM clock_timestamp() - max(heartbeat_at))::int8 FROM highwater.worker_status";
        oldest_beat = oldest_beat.max(world.number(sql).await?);
        Ok((left().await? == 0).then_some(()))
    })
    .await;
    assert!(done.is_ok(), "{} are left; it wrote:\n{}", left().await?, worker.child);
    assert!(oldest_beat < 5, "the heart went on beating: {oldest_beat} s");
    world.verify().await?;
    worker.stop().await?;
    Ok(())
}

/// The password changes, and the sessions end: new ones are opened with what is said then.
async fn rotated(
    world: &World<'_>,
    settings: PartialConfig,
    write: impl Fn(&str) -> TestResult,
) -> TestResult {
    write(&world.role.password)?;
    let worker = world.worker_with(quick(settings), Sink::<()>::default());
    world.produce(20).await?;
    world.verify().await?;
    world.set_password("another").await?;
    write("another")?;
    assert!(world.end_sessions_of(&worker).await? > 1);
    world.produce(20).await?;
    world.verify().await?;
    status_until(&worker, "it is ready", |status| status.ready).await?;
    worker.stop().await?;
    Ok(())
}

#[tokio::test]
async fn w4_6_rotated_passwords_are_read_anew_from_a_file() -> TestResult {
    let world = World::new("password-file", 1).await?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("password");
    let named = Some(path.to_str().expect("a plain path").to_owned());
    let settings = world.settings().postgres_url(world.without_password()).postgres_password_file(named);
    rotated(&world, settings, |password| Ok(std::fs::write(&path, format!("{password}\n"))?)).await
}

#[tokio::test]
async fn w4_6_rotated_passwords_are_read_anew_from_a_command() -> TestResult {
    let world = World::new("password-command", 1).await?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("password");
    let command = PasswordCommand::from(format!("cat {}", path.display()));
    let settings =
        world.settings().postgres_url(world.without_password()).postgres_password_command(Some(command));
    rotated(&world, settings, |password| Ok(std::fs::write(&path, format!("{password}\n"))?)).await
}

#[tokio::test]
async fn w4_6_a_password_that_stays_wrong_ends_the_worker_after_a_while() -> TestResult {
    let world = World::new("password-wrong", 1).await?;
    let settings = quick(world.settings()).access_denied_after(Some(Duration::from_secs(3)));
    let worker = world.worker_with(settings, Sink::<()>::default());
    world.produce(20).await?;
    world.verify().await?;
    status_until(&worker, "it is ready", |status| status.ready).await?;
    world.set_password("another").await?;
    world.end_sessions_of(&worker).await?;
    status_until(&worker, "it is not ready", |status| !status.ready).await?;
    let error = tokio::time::timeout(PATIENCE, worker.wait()).await?.expect_err("it gives up");
    assert_eq!((error.kind(), error.exit_code()), (ErrorKind::Authentication, 5), "{error:?}");
    assert!(error.to_string().contains("postgres_password_file"), "{error}");

    // Put right within that time, it goes on.
    world.set_password(&world.role.password).await?;
    let settings = quick(world.settings()).start(StartPolicy::Fail).access_denied_after(None);
    let worker = world.worker_with(settings, Sink::<()>::default());
    status_until(&worker, "it is ready", |status| status.ready).await?;
    world.set_password("another").await?;
    world.end_sessions_of(&worker).await?;
    status_until(&worker, "it is not ready", |status| !status.ready).await?;
    world.set_password(&world.role.password).await?;
    world.produce(20).await?;
    world.verify().await?;
    status_until(&worker, "it is ready again", |status| status.ready).await?;
    worker.stop().await?;
    Ok(())
}

/// Workers that log in as different roles, with the rights that `highwater migrate --print-grants` advises.
#[tokio::test]
async fn w4_a_role_with_the_printed_grants_ends_a_frozen_holder_of_another_role() -> TestResult {
    let world = World::new("roles", 1).await?;
    let second = world.database.role("second").await?;
    let grants = migrate::grants(&SchemaName::default(), &second.name)?;
    let advice = grants.lines().find_map(|line| line.strip_prefix("--   GRANT pg_signal_backend"));
    let advised = format!("GRANT pg_signal_backend{}", advice.expect("it is printed"));
    world.database.execute(&grants).await?;
    world.database.execute(&advised).await?;
    world
        .database
        .execute(&format!("GRANT SELECT, INSERT, UPDATE ON sink, balances TO {}", second.name))
        .await?;
    world.produce(50).await?;
    frozen_holder_is_ended(&world, &second.url).await
}

/// Every session that the worker has is dead, and nothing says so; new ones are served. No statement of the worker's own
/// waits for ever.
#[tokio::test]
async fn w4_sessions_that_fall_silent_hold_no_claim_for_ever() -> TestResult {
    use rustix::process::{Pid, Signal, kill_process};
    let (kafka, postgres) = tokio::try_join!(Kafka::shared(), Postgres::start_local(&[]))?;
    let world =
        World::with("silent", Setup { kafka, postgres: &postgres, partitions: 2, topic_config: &[] }).await?;
    world.produce(20).await?;
    let settings = quick(world.settings())
        .lock_timeout(Duration::from_millis(100))
        .max_processing_time(Duration::from_secs(5));
    let worker = world.worker_with(settings, Sink::<()>::default());
    world.verify().await?;
    let pids: Vec<Pid> = world.pids_of(&worker).await?.into_iter().filter_map(Pid::from_raw).collect();
    assert!(pids.len() > 2, "{pids:?}");
    for pid in &pids {
        kill_process(*pid, Signal::STOP)?;
    }
    // The claims are gone, so that there is something to claim.
    for partition in 0..2 {
        world.database.execute(&crate::operator::reset(&world, partition, 20, "")).await?;
    }
    world.produce(20).await?;
    let done = async {
        world.caught_up().await?;
        // The move of the offsets is no claim, so the ledger has a gap for it.
        world.assert_exact(true).await
    };
    let done = done.await;
    for pid in pids {
        // It may have ended.
        let _ = kill_process(pid, Signal::CONT);
    }
    done?;
    worker.stop().await?;
    Ok(())
}
