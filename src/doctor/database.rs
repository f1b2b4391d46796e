//! The database: whether it answers, has the tables, keeps what it commits, and has room for workers.

use tokio_postgres::{Client, Transaction};

use super::{APPLICATION_NAME, Checked, Finding, Patient, Severity, pooler};
use crate::migrate::{SCHEMA_VERSION, check_version};

/// Of one worker beside one per lane: for claims, heartbeats and reports. See src/db.rs.
const BESIDE_LANES: usize = 13;
/// From this part of `max_processing_time` on an open transaction of a worker is told.
const SLOW: f64 = 0.5;
/// `client_connection_check_interval`, by which a backend notices that its worker is gone.
const OLDEST_VERSION: i32 = 140_000;

/// Connects, and looks at what lies between, and at the tables' version. `None`: nothing more can be asked.
pub(super) async fn open(patient: &Patient<'_>, findings: &mut Vec<Finding>) -> Option<Client> {
    const CHECK: &str = "postgres";
    let database = &patient.config.operator.database;
    let mut client = match database.connect(APPLICATION_NAME).await {
        Ok(client) => client,
        Err(error) => {
            let cure = "correct `postgres_url`, start the server, or let this machine in (pg_hba.conf)";
            findings.push(Finding::fail(CHECK, error.report()).cure(cure));
            return None;
        }
    };
    // First: behind one that deals out backends nothing else that is asked makes sense.
    let (poolers, usable) = pooler::check(patient).await;
    findings.extend(poolers);
    if !usable {
        return None;
    }
    findings.extend(super::ask(&mut client, CHECK, async |asked| version(asked).await).await);
    match check_version(&client, patient.schema()).await {
        Ok(found) if found.version < SCHEMA_VERSION => {
            let text = format!("version {}, and this program knows {SCHEMA_VERSION}", found.version);
            let cure = "run `highwater migrate` as its owner; workers may run meanwhile";
            findings.push(Finding::warn("schema", text).cure(cure));
        }
        Ok(found) => {
            let (schema, id) = (patient.schema(), found.database_id);
            let text = format!("version {} in schema {schema}, database {id}", found.version);
            findings.push(Finding::ok("schema", text));
        }
        Err(error) => {
            findings
                .push(Finding::fail("schema", error.report()).cure("run `highwater migrate` as its owner"));
            return None;
        }
    }
    Some(client)
}

async fn version(client: &Transaction<'_>) -> Checked {
    const CHECK: &str = "postgres";
    let sql = "SELECT current_setting('server_version'), current_setting('server_version_num')::int4";
    let row = client.query_one(sql, &[]).await?;
    let (shown, number): (String, i32) = (row.get(0), row.get(1));
    Ok(vec![match number < OLDEST_VERSION {
        true => Finding::fail(CHECK, format!("PostgreSQL {shown} is too old"))
            .cure("14 is the oldest that workers run on"),
        false => Finding::ok(CHECK, format!("PostgreSQL {shown}, a primary")),
    }])
}

/// Settings of the server on which the promise rests.
pub(super) async fn server(client: &Transaction<'_>) -> Checked {
    const CHECK: &str = "server";
    let sql = "SELECT name, setting FROM pg_catalog.pg_settings \
               WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit') ORDER BY name";
    let mut findings = Vec::new();
    for row in client.query(sql, &[]).await? {
        let (name, value): (&str, &str) = (row.get(0), row.get(1));
        if value == "off" && name != "synchronous_commit" {
            findings.push(
                Finding::fail(
                    CHECK,
                    format!(
                        "{name} = off: after a crash of its machine, what was committed may be gone, or torn"
                    ),
                )
                .cure(format!("ALTER SYSTEM SET {name} = on, and reload")),
            );
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            CHECK,
            "fsync and full_page_writes are on; workers commit with synchronous_commit = on",
        ));
    }
    let age: i32 = client
        .query_one("SELECT pg_catalog.age(datfrozenxid) FROM pg_catalog.pg_database WHERE datname = current_database()", &[])
        .await?
        .get(0);
    if age > 1_000_000_000 {
        findings.push(
            Finding::warn(
                CHECK,
                format!("the oldest transaction id is {age} ids old: at 2 milliard the server stops writing"),
            )
            .cure("VACUUM (FREEZE) what holds it back; see `snapshots`"),
        );
    }
    Ok(findings)
}

/// Whether one more worker would find room.
pub(super) async fn connections(patient: &Patient<'_>, client: &Transaction<'_>) -> Checked {
    const CHECK: &str = "connections";
    let needs = patient.config.worker.lanes + BESIDE_LANES;
    let sql = "SELECT current_setting('max_connections')::int8 - current_setting('superuser_reserved_connections')::int8, \
                 (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend' \
                    OR backend_type IS NULL AND datid IS NOT NULL)";
    let row = client.query_one(sql, &[]).await?;
    let (most, used): (i64, i64) = (row.get(0), row.get(1));
    let free = most - used;
    let text =
        format!("{used} of {most} sessions are used; a worker of this environment takes up to {needs}");
    let fits = usize::try_from(free).is_ok_and(|free| free >= needs);
    Ok(vec![match fits {
        true => Finding::ok(CHECK, text),
        false => {
            Finding::warn(CHECK, text).cure("raise max_connections, lower `lanes`, or run fewer workers")
        }
    }])
}

/// Whether a batch is near its limit just now: how long each took is not recorded.
pub(super) async fn batches(patient: &Patient<'_>, client: &Transaction<'_>) -> Checked {
    const CHECK: &str = "batches";
    let limit = patient.config.worker.max_processing_time;
    let schema = patient.schema();
    let sql = format!(
        "SELECT extract(epoch FROM max(clock_timestamp() - a.xact_start))::float8, \
           count(*) FILTER (WHERE a.xact_start IS NULL AND a.state IS NULL) \
         FROM pg_catalog.pg_stat_activity a JOIN {} s ON s.pid = a.pid WHERE {}",
        schema.qualified("worker_session"),
        crate::db::live(schema, "s.owner"),
    );
    let row = client.query_one(&sql, &[]).await?;
    let hidden: i64 = row.get(1);
    if hidden > 0 {
        let finding = Finding::unknown(CHECK, "this role may not see the workers' transactions");
        return Ok(vec![finding.cure("ask as the workers' role, or as a member of pg_monitor")]);
    }
    let sql = format!(
        "SELECT sum(applied_records)::float8 / nullif(sum(applied_batches), 0)::float8 FROM {} WHERE group_id = ANY($1)",
        schema.qualified("consumer_offset")
    );
    let groups: Vec<&String> = patient.subjects.groups.iter().collect();
    let mean: Option<f64> = client.query_one(&sql, &[&groups]).await?.get(0);
    let mean =
        mean.map_or_else(String::new, |mean| format!("; {mean:.0} records a batch and partition on average"));
    Ok(vec![match row.get::<_, Option<f64>>(0) {
        Some(seconds) if seconds > limit.as_secs_f64() * SLOW => {
            let severity = if seconds > limit.as_secs_f64() { Severity::Fail } else { Severity::Warn };
            let text =
                format!("a batch is open for {seconds:.1} s, and `max_processing_time` is {limit:?}{mean}");
            Finding::new(CHECK, severity, text).cure(
                "look for what it waits for (pg_stat_activity, pg_locks); else lower `batch_max_records`, speed the handler up, \
                 or raise the limit",
            )
        }
        Some(seconds) => Finding::ok(
            CHECK,
            format!("the oldest open one is {seconds:.1} s old, and the limit is {limit:?}{mean}"),
        ),
        None => Finding::ok(CHECK, format!("none is open just now; the limit is {limit:?}{mean}")),
    }])
}
