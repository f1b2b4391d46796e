//! Migrations, versions, grants and the `highwater` command against a real server.
//!
//! Each test has a database of its own, because roles' rights and advisory locks are per database.

#![allow(clippy::unwrap_used)] // clippy.toml allows it in test functions, not in their helpers

use std::process::{Command, Output};

use highwater::migrate::{
    DEFAULT_ROLE, SCHEMA_VERSION, check_version, grants, migrate, monitor_grants, plan,
};
use highwater::testing::Postgres;
use highwater::{ErrorKind, SchemaName};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};
use uuid::Uuid;

/// A server on which the tests may create databases and roles.
async fn admin_url() -> String {
    Postgres::shared().await.expect("a server").admin_url()
}

async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.expect("the server is up");
    tokio::spawn(connection);
    client
}

/// An empty database; its owner is the tests' superuser.
async fn fresh_database() -> Config {
    let mut config: Config = admin_url().await.parse().unwrap();
    let name = format!("migrate_{}", Uuid::new_v4().simple());
    connect(&config).await.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    config.dbname(&name);
    config
}

/// A role that may log in, and nothing else.
async fn fresh_role(database: &Config) -> (String, Config) {
    let name = format!("worker \"{}", Uuid::new_v4().simple());
    let quoted = name.replace('"', "\"\"");
    let create = format!("CREATE ROLE \"{quoted}\" LOGIN PASSWORD 'worker'");
    connect(database).await.batch_execute(&create).await.unwrap();
    let mut config = database.clone();
    config.user(&name).password("worker");
    (name, config)
}

async fn count(client: &Client, query: &str) -> i64 {
    client.query_one(query, &[]).await.unwrap().get(0)
}

/// Everything there is outside the system's own schemas.
const OBJECTS: &str = "
    SELECT (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema')
         + (SELECT count(*) FROM pg_namespace
            WHERE nspname NOT LIKE 'pg\\_%' AND nspname NOT IN ('information_schema', 'public'))";

#[tokio::test]
async fn the_second_run_changes_nothing() {
    let database = fresh_database().await;
    let mut client = connect(&database).await;
    let schema = SchemaName::new("Team \"A\"; --").unwrap();

    let first = migrate(&mut client, &schema).await.unwrap();
    assert_eq!((first.from, first.to), (None, SCHEMA_VERSION));
    assert_eq!(first.steps.len(), usize::try_from(SCHEMA_VERSION).unwrap());
    let version = check_version(&client, &schema).await.unwrap();
    assert_eq!(version.version, SCHEMA_VERSION);

    let second = migrate(&mut client, &schema).await.unwrap();
    assert_eq!((second.from, second.to), (Some(SCHEMA_VERSION), SCHEMA_VERSION));
    assert_eq!(second.steps, []);
    assert_eq!(check_version(&client, &schema).await.unwrap(), version, "the database keeps its id");

    // The search path was the transaction's, not the session's.
    let path: String = client.query_one("SHOW search_path", &[]).await.unwrap().get(0);
    assert!(!path.contains("Team"), "{path}");
    // Another schema of the database has tables and an id of its own.
    let other = SchemaName::default();
    assert!(check_version(&client, &other).await.unwrap_err().is_schema());
    migrate(&mut client, &other).await.unwrap();
    assert_ne!(check_version(&client, &other).await.unwrap().database_id, version.database_id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_migrators_queue_up() {
    let database = fresh_database().await;
    let schema = SchemaName::default();
    let mut runs = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (database, schema) = (database.clone(), schema.clone());
        runs.spawn(async move { migrate(&mut connect(&database).await, &schema).await.unwrap() });
    }
    let reports = runs.join_all().await;
    assert_eq!(reports.iter().filter(|report| !report.steps.is_empty()).count(), 1);
    assert!(reports.iter().all(|report| report.to == SCHEMA_VERSION));
    let client = connect(&database).await;
    assert_eq!(count(&client, "SELECT count(*) FROM highwater.meta").await, 1);
    // Of this database alone: other tests migrate theirs on the same server.
    let left = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' \
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert_eq!(count(&client, left).await, 0);
}

#[tokio::test]
async fn planning_changes_nothing() {
    let database = fresh_database().await;
    let mut client = connect(&database).await;
    let schema = SchemaName::default();
    let before = count(&client, OBJECTS).await;
    let planned = plan(&client, &schema).await.unwrap();
    assert_eq!(count(&client, OBJECTS).await, before);
    assert_eq!(planned, migrate(&mut client, &schema).await.unwrap());
    assert!(count(&client, OBJECTS).await > before);
    let planned = plan(&client, &schema).await.unwrap();
    assert_eq!((planned.from, planned.steps), (Some(SCHEMA_VERSION), Vec::new()));
}

#[tokio::test]
async fn versions_out_of_range_are_refused_and_newer_ones_in_range_are_not() {
    let database = fresh_database().await;
    let mut client = connect(&database).await;
    let schema = SchemaName::default();
    migrate(&mut client, &schema).await.unwrap();
    let newer = SCHEMA_VERSION + 1;

    client.execute("UPDATE highwater.meta SET version = $1", &[&newer]).await.unwrap();
    assert_eq!(check_version(&client, &schema).await.unwrap().version, newer);
    assert_eq!(migrate(&mut client, &schema).await.unwrap().to, newer);

    client.execute("UPDATE highwater.meta SET min_compatible = $1", &[&newer]).await.unwrap();
    assert!(check_version(&client, &schema).await.unwrap_err().is_schema());
    assert!(plan(&client, &schema).await.unwrap_err().is_schema());
    assert!(migrate(&mut client, &schema).await.unwrap_err().is_schema());

    client.execute("UPDATE highwater.meta SET version = 0, min_compatible = 0", &[]).await.unwrap();
    let error = check_version(&client, &schema).await.unwrap_err();
    assert!(error.is_schema() && error.to_string().contains("highwater migrate"), "{error}");

    client.execute("DELETE FROM highwater.meta", &[]).await.unwrap();
    assert!(check_version(&client, &schema).await.unwrap_err().is_schema());
    assert!(migrate(&mut client, &schema).await.unwrap_err().is_schema());
}

#[tokio::test]
async fn a_failed_migration_leaves_nothing_behind() {
    let database = fresh_database().await;
    let mut client = connect(&database).await;
    // In the way of the last table, so that the earlier ones have been made by then.
    client
        .batch_execute("CREATE SCHEMA highwater; CREATE TABLE highwater.partition_status ()")
        .await
        .unwrap();
    let before = count(&client, OBJECTS).await;
    let error = migrate(&mut client, &SchemaName::default()).await.unwrap_err();
    assert!(error.is_schema(), "{error:?}");
    assert_eq!(error.sqlstate(), Some(&SqlState::DUPLICATE_TABLE));
    assert_eq!(count(&client, OBJECTS).await, before);

    client.batch_execute("DROP TABLE highwater.partition_status").await.unwrap();
    migrate(&mut client, &SchemaName::default()).await.unwrap();
}

#[tokio::test]
async fn an_owner_without_the_right_to_create_schemas_can_migrate_a_prepared_one() {
    let database = fresh_database().await;
    let (role, login) = fresh_role(&database).await;
    let mut owner = connect(&login).await;
    let error = migrate(&mut owner, &SchemaName::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Privilege, "{error:?}");

    let role = role.replace('"', "\"\"");
    let admin = connect(&database).await;
    admin.batch_execute(&format!("CREATE SCHEMA highwater AUTHORIZATION \"{role}\"")).await.unwrap();
    migrate(&mut owner, &SchemaName::default()).await.unwrap();
}

/// What the worker does to each table, and what it must not be able to do.
#[tokio::test]
async fn the_grants_suffice_and_give_no_more() {
    let database = fresh_database().await;
    let schema = SchemaName::default();
    let mut admin = connect(&database).await;
    migrate(&mut admin, &schema).await.unwrap();
    let (role, login) = fresh_role(&database).await;
    let worker = connect(&login).await;

    let error = check_version(&worker, &schema).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Privilege);
    assert!(error.to_string().contains("--print-grants"), "{error}");

    let statements = grants(&schema, &role).unwrap();
    admin.batch_execute(&statements).await.unwrap();
    admin.batch_execute(&statements).await.unwrap(); // safe to run again
    check_version(&worker, &schema).await.unwrap();

    for needed in [
        "INSERT INTO highwater.group_topic VALUES ('g', 't', 'fail', 1, 'c', 'i', 'p', gen_random_uuid())
             ON CONFLICT DO NOTHING",
        "UPDATE highwater.group_topic SET mirror_marked_at = now()",
        "INSERT INTO highwater.group_pattern VALUES ('g', '^t.*', 'fail', 'p', gen_random_uuid()) ON CONFLICT DO NOTHING",
        "INSERT INTO highwater.consumer_offset (group_id, topic, partition, next_offset) VALUES ('g', 't', 0, 5)",
        "SELECT * FROM highwater.consumer_offset ORDER BY topic, partition FOR UPDATE SKIP LOCKED",
        "UPDATE highwater.consumer_offset SET next_offset = 6, epoch = epoch + 1, claim_token = gen_random_uuid()",
        "INSERT INTO highwater.claim_history
             VALUES ('g', 't', 0, 1, gen_random_uuid(), NULL, NULL, 0, 5, 5, 1, now(), now())",
        "DELETE FROM highwater.claim_history WHERE replaced_at < now() - interval '1 day'",
        "INSERT INTO highwater.dead_letter (group_id, topic, topic_id, partition, record_offset, fingerprint, reason)
             VALUES ('g', 't', 'i', 0, 1, 'f', 'r') ON CONFLICT (group_id, topic, topic_id, partition, record_offset)
             DO UPDATE SET state = 'open'",
        "INSERT INTO highwater.dead_letter_payload (dead_letter_id) SELECT dead_letter_id FROM highwater.dead_letter",
        "INSERT INTO highwater.dead_letter_attempt (dead_letter_id, kind) SELECT dead_letter_id, 'k' FROM highwater.dead_letter",
        "DELETE FROM highwater.dead_letter_payload",
        "UPDATE highwater.redrive_request SET state = 'done', ended_at = now() WHERE state = 'running'",
        "UPDATE highwater.redrive_letter SET outcome = 'redriven' WHERE outcome IS NULL",
        "INSERT INTO highwater.sink_table (group_id, table_schema, table_name, mode, program, registered_by)
             VALUES ('g', 's', 't', 'append', 'p', gen_random_uuid())
             ON CONFLICT (group_id, table_schema, table_name, mode) DO UPDATE SET program = excluded.program",
        "INSERT INTO highwater.mapping_change (group_id, follows, mapping, changes, positions, program, version, host, worker)
             VALUES ('g', 0, '{}', '{}', '{}', 'p', 'v', 'h', gen_random_uuid())",
        "SELECT highwater.prune_history('g', 0, 100), highwater.expire_payloads(100)",
        "INSERT INTO highwater.offset_event (group_id, topic, partition, kind, to_offset, actor, reason)
             VALUES ('g', 't', 0, 'start', 0, 'a', 'r') RETURNING event_id",
        "INSERT INTO highwater.worker_status
             VALUES (gen_random_uuid(), 'g', NULL, 'p', 'v', 'h', 1, now(), now(), NULL, 's', true, NULL, 0, 0, 0, 0, 0, 0)",
        "UPDATE highwater.worker_status SET heartbeat_at = now()",
        "DELETE FROM highwater.worker_status WHERE heartbeat_at < now() - interval '1 day'",
        "INSERT INTO highwater.worker_session VALUES (1, now(), gen_random_uuid())
             ON CONFLICT (pid) DO UPDATE SET owner = excluded.owner",
        "DELETE FROM highwater.worker_session",
        "INSERT INTO highwater.partition_status VALUES ('g', 't', 0, 1, gen_random_uuid(), 's', NULL, 1, 1, NULL, now())
             ON CONFLICT (group_id, topic, partition) DO UPDATE SET state = 's' WHERE partition_status.epoch <= 1",
        "INSERT INTO highwater.partition_survey (group_id, topic, partition, next_offset, class, surveyed_at, surveyed_by)
             VALUES ('g', 't', 0, 1, 'DEAD', now(), gen_random_uuid())
             ON CONFLICT (group_id, topic, partition) DO UPDATE SET class = excluded.class",
    ] {
        worker.batch_execute(needed).await.unwrap_or_else(|error| panic!("{needed}: {error:?}"));
    }
    for forbidden in [
        "UPDATE highwater.meta SET version = 2",
        "DELETE FROM highwater.consumer_offset",
        "TRUNCATE highwater.consumer_offset",
        "DELETE FROM highwater.group_topic",
        "DELETE FROM highwater.group_pattern",
        "UPDATE highwater.claim_history SET end_offset = 0",
        "DELETE FROM highwater.dead_letter",
        "UPDATE highwater.offset_event SET reason = ''",
        "DELETE FROM highwater.offset_event",
        "DELETE FROM highwater.partition_status",
        "DELETE FROM highwater.partition_survey",
        "DELETE FROM highwater.sink_table",
        "UPDATE highwater.mapping_change SET changes = '{}'",
        "DELETE FROM highwater.mapping_change",
        "UPDATE highwater.dead_letter_attempt SET error = ''",
        "INSERT INTO highwater.redrive_request (group_id, filter, actor, reason, records, canary, stop_after, ignore_order)
             VALUES ('g', '', 'a', 'r', 0, 0, 1, false)",
        "DELETE FROM highwater.redrive_request",
        "DELETE FROM highwater.redrive_letter",
        "CREATE TABLE highwater.mine ()",
        "ALTER TABLE highwater.consumer_offset ADD mine int",
        "DROP TABLE highwater.meta",
        "CREATE SCHEMA mine",
        "GRANT SELECT ON highwater.meta TO PUBLIC",
    ] {
        match worker.batch_execute(forbidden).await {
            Err(error) => {
                assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{forbidden}: {error:?}");
            }
            // Postgres only warns when there is nothing that the role could grant.
            Ok(()) => assert!(forbidden.starts_with("GRANT"), "{forbidden}"),
        }
    }
    let granted = "SELECT count(*) FROM information_schema.table_privileges
                   WHERE table_schema = 'highwater' AND grantee = 'PUBLIC'";
    assert_eq!(count(&admin, granted).await, 0);
}

/// Whoever only looks reads what there is, but no payload, and writes nothing but what it has seen itself.
#[tokio::test]
async fn a_monitor_may_look_and_no_more() {
    let database = fresh_database().await;
    let schema = SchemaName::default();
    let mut admin = connect(&database).await;
    migrate(&mut admin, &schema).await.unwrap();
    let (role, login) = fresh_role(&database).await;
    admin.batch_execute(&monitor_grants(&schema, &role).unwrap()).await.unwrap();
    let monitor = connect(&login).await;
    check_version(&monitor, &schema).await.unwrap();
    for needed in [
        "SELECT * FROM highwater.lag NATURAL JOIN highwater.health",
        "SELECT * FROM highwater.scaling, highwater.progress, highwater.worker_status, highwater.offset_event",
        "SELECT state, count(*) FROM highwater.dead_letter GROUP BY 1",
        "INSERT INTO highwater.partition_survey (group_id, topic, partition, next_offset, class, surveyed_at, surveyed_by)
             VALUES ('g', 't', 0, 1, 'DEAD', now(), gen_random_uuid())
             ON CONFLICT (group_id, topic, partition) DO UPDATE SET class = excluded.class",
    ] {
        monitor.batch_execute(needed).await.unwrap_or_else(|error| panic!("{needed}: {error:?}"));
    }
    for forbidden in [
        "SELECT * FROM highwater.dead_letter_payload",
        "SELECT key_hash FROM highwater.dead_letter",
        "UPDATE highwater.consumer_offset SET next_offset = 0",
        "INSERT INTO highwater.partition_control DEFAULT VALUES",
        "DELETE FROM highwater.partition_survey",
        "SELECT highwater.prune_history('g', 0, 1)",
        "SELECT highwater.expire_payloads(1)",
    ] {
        let error = monitor.batch_execute(forbidden).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{forbidden}: {error:?}");
    }
}

/// A `postgres://` address for the command; the tests' names need no percent-encoding in a `key='value'` list.
fn address(config: &Config) -> String {
    let quote = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let tokio_postgres::config::Host::Tcp(host) = &config.get_hosts()[0] else {
        panic!("the tests reach the server by TCP")
    };
    let password = String::from_utf8_lossy(config.get_password().unwrap_or_default()).into_owned();
    format!(
        "host={} port={} user={} password={} dbname={}",
        quote(host),
        config.get_ports().first().copied().unwrap_or(5432),
        quote(config.get_user().unwrap()),
        quote(&password),
        quote(config.get_dbname().unwrap()),
    )
}

/// Runs the command with nothing but the address in its environment.
fn highwater(address: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"HIGHWATER_") {
            command.env_remove(name);
        }
    }
    command.env("HIGHWATER_POSTGRES_URL", address).args(arguments).output().expect("the command runs")
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", stderr(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn the_command_migrates_and_shows_offsets() {
    let database = fresh_database().await;
    let client = connect(&database).await;
    let url = address(&database);

    let output = highwater(&url, &["offsets", "--group", "g"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let before = count(&client, OBJECTS).await;
    let plan = stdout(&highwater(&url, &["migrate", "--dry-run"]));
    assert!(plan.contains("CREATE TABLE consumer_offset"), "{plan}");
    assert_eq!(count(&client, OBJECTS).await, before);
    let text = stdout(&highwater(&url, &["migrate"]));
    assert!(text.ends_with("schema highwater is now at version 2\n"), "{text}");
    let text = stdout(&highwater(&url, &["migrate"]));
    assert_eq!(text, "schema highwater is already at version 2\n");

    client
        .batch_execute(
            "INSERT INTO highwater.consumer_offset
                 (group_id, topic, partition, next_offset, epoch, owner, instance_id, claimed_at, committed_at)
             VALUES ('fraud-rules', 'tx', 0, 4204, 7, '6f3ac1f2-0000-4000-8000-000000000001', 'pod-0',
                     '2024-01-02T03:04:05Z', '2024-01-02T03:04:06Z'),
                    ('fraud-rules', 'tx', 1, 0, 1, NULL, NULL, NULL, NULL);
             INSERT INTO highwater.partition_status (group_id, topic, partition, epoch, owner, state, updated_at)
             VALUES ('fraud-rules', 'tx', 0, 7, '6f3ac1f2-0000-4000-8000-000000000001', 'running', now()),
                    ('fraud-rules', 'tx', 1, 1, '6f3ac1f2-0000-4000-8000-000000000001', 'running', now())",
        )
        .await
        .unwrap();
    let text = stdout(&highwater(&url, &["offsets", "--group", "fraud-rules"]));
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        lines[1],
        [
            "tx",
            "0",
            "4204",
            "6f3ac1f2-0000-4000-8000-000000000001",
            "pod-0",
            "7",
            "2024-01-02T03:04:05Z",
            "2024-01-02T03:04:06Z",
            "running"
        ]
    );
    // A released partition has no owner whose state could be shown.
    assert_eq!(lines[2], ["tx", "1", "0", "-", "-", "1", "-", "-", "-"]);

    let output = highwater(&url, &["offsets", "--group", "fraud-rule"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("fraud-rules"), "{}", stderr(&output));
}

#[tokio::test]
async fn the_exit_code_tells_what_to_mend() {
    let database = fresh_database().await;
    let (_, login) = fresh_role(&database).await;
    let url = address(&login);
    let code = |output: &Output| output.status.code();

    // The role exists, but may not create a schema.
    assert_eq!(code(&highwater(&url, &["migrate"])), Some(5));
    // A wrong password, and none at all.
    let wrong = url.replace("password='worker'", "password='s3cret'");
    for url in [&*wrong, &*url.replace("password='worker'", "")] {
        let output = highwater(url, &["migrate"]);
        assert_eq!(code(&output), Some(5), "{}", stderr(&output));
        assert!(!stderr(&output).contains("s3cret"), "{}", stderr(&output));
    }
    assert_eq!(code(&highwater("s3cret", &["migrate"])), Some(2));
    assert_eq!(code(&highwater(&url, &["offsets"])), Some(2));
    assert_eq!(code(&highwater(&url, &["migrate", "--schema", "pg_x"])), Some(2));
    assert_eq!(code(&highwater(&url, &["mirgate"])), Some(2));
    assert_eq!(code(&highwater("postgres://127.0.0.1:1/x?user=u", &["migrate"])), Some(70));
    // Printing needs no database.
    let text = stdout(&highwater("postgres://127.0.0.1:1/x?user=u", &["migrate", "--print-grants"]));
    assert!(text.contains(&format!("TO \"{DEFAULT_ROLE}\"")), "{text}");
    let text =
        stdout(&highwater("postgres://127.0.0.1:1/x?user=u", &["migrate", "--print-grants", "--monitor"]));
    assert!(text.contains("GRANT SELECT ON TABLE \"highwater\".\"lag\" TO \"highwater_monitor\""), "{text}");
    assert!(stdout(&highwater("", &["version"])).starts_with("highwater "));
}
