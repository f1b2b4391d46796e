//! Postgres' side: settings that matter, our sessions, their locks, how the tables are doing.

use tokio_postgres::Client;

use super::{Collection, rows};
use crate::config::DoctorConfig;

/// Settings that hold no secret and that something here depends on.
const SETTINGS: &[&str] = &[
    "server_version",
    "server_encoding",
    "TimeZone",
    "max_connections",
    "superuser_reserved_connections",
    "shared_buffers",
    "work_mem",
    "maintenance_work_mem",
    "fsync",
    "full_page_writes",
    "synchronous_commit",
    "synchronous_standby_names",
    "wal_level",
    "max_wal_size",
    "checkpoint_timeout",
    "commit_delay",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "default_transaction_deferrable",
    "statement_timeout",
    "lock_timeout",
    "transaction_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "deadlock_timeout",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "client_connection_check_interval",
    "tcp_keepalives_idle",
    "tcp_user_timeout",
    "autovacuum",
    "autovacuum_naptime",
    "autovacuum_vacuum_scale_factor",
    "autovacuum_vacuum_threshold",
    "autovacuum_vacuum_cost_delay",
    "track_counts",
    "jit",
    "session_replication_role",
    "row_security",
    "wal_compression",
    "hot_standby_feedback",
];

/// A statement may have values in it: its first word alone is taken.
const SESSIONS: &str = "\
    SELECT a.pid, a.usename, a.application_name, a.client_addr, a.backend_start, a.xact_start, a.query_start, \
      a.state_change, a.wait_event_type, a.wait_event, a.state, a.backend_xid, a.backend_xmin, \
      upper(substring(a.query FROM '^\\s*([A-Za-z]+)')) AS statement, pg_catalog.pg_blocking_pids(a.pid) AS blocked_by \
    FROM pg_catalog.pg_stat_activity a \
    WHERE a.application_name LIKE 'highwater%' OR a.pid IN (SELECT pid FROM {worker_session}) \
      OR a.pid IN (SELECT unnest(pg_catalog.pg_blocking_pids(b.pid)) FROM pg_catalog.pg_stat_activity b \
                   WHERE b.application_name LIKE 'highwater/%') \
    ORDER BY a.backend_start";

const LOCKS: &str = "\
    SELECT l.pid, l.locktype, CASE WHEN l.database = d.oid THEN l.relation::regclass::text END AS relation, l.page, \
      l.tuple, l.virtualxid, l.transactionid, l.objid, l.mode, l.granted, l.fastpath \
    FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_database d ON d.datname = current_database() \
    WHERE l.pid IN (SELECT pid FROM pg_catalog.pg_stat_activity WHERE application_name LIKE 'highwater%') \
      OR l.pid IN (SELECT unnest(pg_catalog.pg_blocking_pids(b.pid)) FROM pg_catalog.pg_stat_activity b \
                   WHERE b.application_name LIKE 'highwater/%') \
    ORDER BY l.granted, l.pid LIMIT 5000";

const STATISTICS: &str = "\
    SELECT s.relname, s.seq_scan, s.idx_scan, s.n_tup_ins, s.n_tup_upd, s.n_tup_del, s.n_tup_hot_upd, s.n_live_tup, \
      s.n_dead_tup, s.last_vacuum, s.last_autovacuum, s.last_analyze, s.last_autoanalyze, \
      pg_catalog.pg_table_size(s.relid) AS table_bytes, pg_catalog.pg_indexes_size(s.relid) AS index_bytes, c.reloptions \
    FROM pg_catalog.pg_stat_user_tables s JOIN pg_catalog.pg_class c ON c.oid = s.relid WHERE s.schemaname = $1 ORDER BY 1";

/// Somebody may have changed the tables.
const DEFINITIONS: &str = "\
    SELECT c.relname, c.relkind, c.relrowsecurity, \
      (SELECT jsonb_agg(jsonb_build_array(a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull) \
         ORDER BY a.attnum) FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) \
         AS columns, \
      (SELECT jsonb_agg(pg_catalog.pg_get_indexdef(i.indexrelid) ORDER BY i.indexrelid) FROM pg_catalog.pg_index i \
         WHERE i.indrelid = c.oid) AS indexes, \
      (SELECT jsonb_agg(t.tgname ORDER BY t.tgname) FROM pg_catalog.pg_trigger t \
         WHERE t.tgrelid = c.oid AND NOT t.tgisinternal) AS triggers \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE n.nspname = $1 AND c.relkind IN ('r', 'v', 'p', 'f') ORDER BY 1";

pub(super) async fn add(collection: &mut Collection, client: &mut Client, config: &DoctorConfig) {
    let schema = &config.operator.database.schema;
    let settings =
        "SELECT name, setting, unit, source FROM pg_catalog.pg_settings WHERE name = ANY($1) ORDER BY name";
    let found = rows(client, settings, &[&SETTINGS]).await;
    collection.json("postgres/settings.json", "settings of the server that something here depends on", found);
    let sessions = SESSIONS.replace("{worker_session}", &schema.qualified("worker_session"));
    let found = rows(client, &sessions, &[]).await;
    collection.json(
        "postgres/sessions.json",
        "our sessions and those that block them; of statements the first word",
        found,
    );
    let found = rows(client, LOCKS, &[]).await;
    collection.json("postgres/locks.json", "the locks of these sessions", found);
    let found = rows(client, STATISTICS, &[&schema.as_str()]).await;
    collection.json("postgres/statistics.json", "how Highwater's tables are doing", found);
    let found = rows(client, DEFINITIONS, &[&schema.as_str()]).await;
    collection.json("postgres/definitions.json", "Highwater's tables as they are", found);
}
