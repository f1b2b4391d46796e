//! What holds back vacuum, and so makes every commit slower by and by.

/// Sessions of this database, as a condition on `pg_stat_activity`: with a snapshot, or idle after a write, which has none.
/// Not what vacuum does itself.
pub(crate) const HOLDS_BACK: &str = "xact_start IS NOT NULL AND pid <> pg_catalog.pg_backend_pid() \
    AND (datname = current_database() OR datname IS NULL) AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL) \
    AND backend_type <> 'autovacuum worker'";

/// For how many seconds the oldest transaction has done so, prepared ones too; 0: there is none.
pub(crate) fn oldest_sql() -> String {
    format!(
        "SELECT greatest(0, (SELECT max(extract(epoch FROM clock_timestamp() - xact_start)) \
           FROM pg_catalog.pg_stat_activity WHERE {HOLDS_BACK}), \
         (SELECT max(extract(epoch FROM clock_timestamp() - prepared)) \
           FROM pg_catalog.pg_prepared_xacts WHERE database = current_database()))::float8"
    )
}
