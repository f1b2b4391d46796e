//! What keeps dead rows in place: `consumer_offset` is updated by every commit, and is slow when it is swollen.

use tokio_postgres::Transaction;

use super::{Checked, Finding, Patient, Severity};
use crate::db::HOLDS_BACK;

/// From so many seconds on a transaction is told, and fails.
const LONG: f64 = 600.0;
const VERY_LONG: f64 = 6.0 * 3_600.0;
/// Dead rows that are told, if they are also this many times the live ones. Autovacuum begins at 1,000.
const DEAD: i64 = 20_000;
const DEAD_TIMES: i64 = 20;
/// Below this part of updates that stay on their page, something moves the rows.
const HOT: f64 = 0.5;
/// So many updates are needed to judge that.
const ENOUGH: i64 = 10_000;

/// Transactions, prepared ones and slots that hold back vacuum.
pub(super) async fn snapshots(patient: &Patient<'_>, client: &Transaction<'_>) -> Checked {
    const CHECK: &str = "snapshots";
    let mut findings = Vec::new();
    let long = patient.options.max_transaction_age.map_or(LONG, |age| age.as_secs_f64());
    let severity = |seconds: f64| if seconds > VERY_LONG { Severity::Fail } else { Severity::Warn };
    let sql = format!(
        "SELECT pid, coalesce(usename::text, '?'), coalesce(application_name, ''), coalesce(state, '?'), \
           extract(epoch FROM clock_timestamp() - xact_start)::float8 \
         FROM pg_catalog.pg_stat_activity WHERE {HOLDS_BACK} \
           AND clock_timestamp() - xact_start > make_interval(secs => $1) ORDER BY xact_start LIMIT 5"
    );
    for row in client.query(&sql, &[&long]).await? {
        let (pid, role, name, state, seconds): (i32, String, String, String, f64) =
            (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4));
        findings.push(
            Finding::new(
                CHECK,
                severity(seconds),
                format!(
                    "a transaction is open for {:.0} min ({state}): no dead row of after it is removed",
                    seconds / 60.0
                ),
            )
            .of(format!("pid {pid}, role {role}, {name:?}"))
            .cure(format!("end it there, or: SELECT pg_terminate_backend({pid})")),
        );
    }
    let sql = "SELECT gid, extract(epoch FROM clock_timestamp() - prepared)::float8 FROM pg_catalog.pg_prepared_xacts \
               WHERE database = current_database() AND clock_timestamp() - prepared > make_interval(secs => $1) ORDER BY prepared LIMIT 5";
    for row in client.query(sql, &[&long]).await? {
        let (gid, seconds): (String, f64) = (row.get(0), row.get(1));
        let quoted = gid.replace('\'', "''");
        findings.push(
            Finding::new(
                CHECK,
                severity(seconds),
                format!("a transaction is prepared for {:.0} min, and holds its locks", seconds / 60.0),
            )
            .of(&gid)
            .cure(format!(
                "COMMIT PREPARED '{quoted}' or ROLLBACK PREPARED '{quoted}', as its coordinator would"
            )),
        );
    }
    let sql = "SELECT slot_name::text, active, greatest(pg_catalog.age(xmin), pg_catalog.age(catalog_xmin))::int8 \
               FROM pg_catalog.pg_replication_slots WHERE greatest(pg_catalog.age(xmin), pg_catalog.age(catalog_xmin)) > 1000000 \
               ORDER BY 3 DESC LIMIT 5";
    for row in client.query(sql, &[]).await? {
        let (slot, active, age): (String, bool, i64) = (row.get(0), row.get(1), row.get(2));
        let is = if active { "active" } else { "not active" };
        findings.push(
            Finding::warn(CHECK, format!("a replication slot ({is}) holds back {age} transactions"))
                .of(&slot)
                .cure(format!("have its consumer go on, or: SELECT pg_drop_replication_slot('{slot}')")),
        );
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            CHECK,
            format!("nothing holds back vacuum for longer than {:.0} min", long / 60.0),
        ));
    }
    Ok(findings)
}

/// Whether the hot tables are vacuumed, and their updates stay on their pages.
pub(super) async fn autovacuum(patient: &Patient<'_>, client: &Transaction<'_>) -> Checked {
    const CHECK: &str = "autovacuum";
    let mut findings = Vec::new();
    let sql = "SELECT name FROM pg_catalog.pg_settings WHERE name IN ('autovacuum', 'track_counts') AND setting = 'off'";
    for row in client.query(sql, &[]).await? {
        let name: &str = row.get(0);
        findings.push(
            Finding::fail(CHECK, format!("{name} = off: consumer_offset only ever grows"))
                .cure(format!("ALTER SYSTEM SET {name} = on, and reload")),
        );
    }
    let sql = "SELECT s.relname::text, s.n_live_tup, s.n_dead_tup, s.n_tup_upd, s.n_tup_hot_upd, \
                 pg_catalog.pg_table_size(s.relid), 'autovacuum_enabled=false' = ANY(coalesce(c.reloptions, '{}')), \
                 coalesce(greatest(s.last_autovacuum, s.last_vacuum)::text, 'never') \
               FROM pg_catalog.pg_stat_user_tables s JOIN pg_catalog.pg_class c ON c.oid = s.relid \
               WHERE s.schemaname = $1 AND s.relname IN ('consumer_offset', 'partition_status', 'worker_status') ORDER BY 1";
    for row in client.query(sql, &[&patient.schema().as_str()]).await? {
        let (table, live, dead): (String, i64, i64) = (row.get(0), row.get(1), row.get(2));
        let (updates, hot, bytes, off, last): (i64, i64, i64, bool, String) =
            (row.get(3), row.get(4), row.get(5), row.get(6), row.get(7));
        let name = patient.schema().qualified(&table);
        if off {
            findings.push(
                Finding::fail(CHECK, "autovacuum is switched off for it")
                    .of(&table)
                    .cure(format!("ALTER TABLE {name} RESET (autovacuum_enabled)")),
            );
        }
        if dead > DEAD && dead > DEAD_TIMES * live {
            findings.push(
                Finding::warn(
                    CHECK,
                    format!("{dead} dead rows beside {live}, {} KiB; last vacuumed {last}", bytes / 1024),
                )
                .of(&table)
                .cure(format!("see `snapshots`; then VACUUM {name}")),
            );
        }
        #[allow(clippy::cast_precision_loss)] // a part, told to two digits
        let part = hot as f64 / updates.max(1) as f64;
        if updates > ENOUGH && part < HOT {
            findings.push(
                Finding::warn(CHECK, format!("only {:.0} % of its updates stay on their page", part * 100.0))
                    .of(&table)
                    .cure("see `tables` for an index of somebody else's, and `snapshots` for what keeps its pages full"),
            );
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "it is on, and the tables that every commit updates are in shape"));
    }
    Ok(findings)
}
