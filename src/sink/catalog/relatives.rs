//! What a table's relatives ask of its rows, or do with them: the tables that it is a partition of, its own partitions,
//! and tables that inherit from it.

use tokio_postgres::Row;

/// By which columns it, the tables above it and its partitions are divided ('' for an expression); what only partitions
/// declare NOT NULL; who inherits from it, and which of these are foreign tables; whether a constraint of theirs waits; which
/// could, and do not.
pub(super) const RELATIVES: &str = "\
    WITH RECURSIVE itself AS (SELECT pg_catalog.to_regclass($1) AS oid), \
    heirs AS ( \
        SELECT i.inhrelid AS oid FROM itself JOIN pg_catalog.pg_inherits AS i ON i.inhparent = itself.oid \
            JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid AND NOT c.relispartition \
        UNION SELECT i.inhrelid FROM heirs JOIN pg_catalog.pg_inherits AS i ON i.inhparent = heirs.oid) \
    SELECT ARRAY(SELECT DISTINCT coalesce(a.attname::pg_catalog.text, '') \
        FROM (SELECT p.relid FROM itself, pg_catalog.pg_partition_ancestors(itself.oid) AS p \
            UNION SELECT p.relid FROM itself, pg_catalog.pg_partition_tree(itself.oid) AS p) AS r \
        JOIN pg_catalog.pg_partitioned_table AS p ON p.partrelid = r.relid \
        CROSS JOIN pg_catalog.unnest(p.partattrs::pg_catalog.int2[]) AS k (number) \
        LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = p.partrelid AND a.attnum = k.number ORDER BY 1), \
    ARRAY(SELECT DISTINCT a.attname::pg_catalog.text \
        FROM itself CROSS JOIN pg_catalog.pg_partition_tree(itself.oid) AS p \
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = p.relid AND a.attnum > 0 AND a.attnotnull AND NOT a.attisdropped \
        JOIN pg_catalog.pg_attribute AS b ON b.attrelid = itself.oid AND b.attname = a.attname AND NOT b.attnotnull \
        ORDER BY 1), \
    ARRAY(SELECT heirs.oid::pg_catalog.regclass::pg_catalog.text FROM heirs ORDER BY 1), \
    ARRAY(SELECT c.oid::pg_catalog.regclass::pg_catalog.text FROM heirs \
        JOIN pg_catalog.pg_class AS c ON c.oid = heirs.oid AND c.relkind = 'f' ORDER BY 1), \
    EXISTS (SELECT FROM heirs JOIN pg_catalog.pg_constraint AS o ON heirs.oid IN (o.conrelid, o.confrelid) \
        WHERE o.condeferred), \
    ARRAY(SELECT DISTINCT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(o.conname) \
        FROM heirs JOIN pg_catalog.pg_constraint AS o ON heirs.oid IN (o.conrelid, o.confrelid) \
        JOIN pg_catalog.pg_namespace AS n ON n.oid = o.connamespace \
        WHERE o.condeferrable AND NOT o.condeferred AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') ORDER BY 1)";

#[derive(Debug, Clone, Default)]
pub(crate) struct Relatives {
    /// Columns that say which partition a row belongs to; an expression is the empty name.
    pub(crate) divided_by: Vec<String>,
    /// Columns that are NOT NULL in a partition, and not in the table.
    pub(crate) not_null: Vec<String>,
    /// Tables that inherit from it: their rows are updated and deleted, too, by whoever does so to the table's.
    pub(crate) heirs: Vec<String>,
    pub(crate) foreign_heirs: Vec<String>,
    /// A constraint of theirs waits for COMMIT.
    pub(crate) heirs_wait: bool,
    /// Constraints of theirs that could wait, and do not; quoted and qualified.
    pub(crate) heirs_immediate: Vec<String>,
}

impl Relatives {
    pub(super) fn of(row: &Row) -> Self {
        Self {
            divided_by: row.get(0),
            not_null: row.get(1),
            heirs: row.get(2),
            foreign_heirs: row.get(3),
            heirs_wait: row.get(4),
            heirs_immediate: row.get(5),
        }
    }
}
