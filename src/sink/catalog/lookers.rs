//! Checks and defaults that may look at other rows, or other tables: those that call a function which is not declared
//! `IMMUTABLE`.

use tokio_postgres::Row;

/// Of the table, of its partitions, and of the domains of its columns. Only functions and operators that somebody made: the
/// server's own depend on no table.
pub(super) const LOOKERS: &str = "\
    WITH RECURSIVE itself AS (SELECT pg_catalog.to_regclass($1) AS oid), \
    types AS ( \
        SELECT a.atttypid AS oid FROM itself JOIN pg_catalog.pg_attribute AS a ON a.attrelid = itself.oid AND a.attnum > 0 \
        UNION SELECT b.oid FROM types JOIN pg_catalog.pg_type AS t ON t.oid = types.oid \
            JOIN pg_catalog.pg_type AS b ON b.oid IN (t.typbasetype, t.typelem)) \
    SELECT o.conname::pg_catalog.text, f.proname::pg_catalog.text \
    FROM itself CROSS JOIN pg_catalog.pg_constraint AS o \
    JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND d.objid = o.oid \
    LEFT JOIN pg_catalog.pg_operator AS p \
        ON d.refclassid = 'pg_catalog.pg_operator'::pg_catalog.regclass AND p.oid = d.refobjid \
    JOIN pg_catalog.pg_proc AS f \
        ON f.oid = CASE WHEN d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass THEN d.refobjid ELSE p.oprcode END \
    WHERE o.contype = 'c' AND f.provolatile <> 'i' AND (o.conrelid = itself.oid \
        OR o.conrelid IN (SELECT t.relid FROM pg_catalog.pg_partition_tree(itself.oid) AS t) \
        OR o.contypid IN (SELECT types.oid FROM types)) \
    ORDER BY 1, 2";

/// Defaults of the table's columns, and of the domains of those that have none. Not functions in C, which hardly look at
/// tables, nor those that make a UUID: it says nothing but itself.
pub(super) const LOOKING_DEFAULTS: &str = "\
    SELECT a.attname::pg_catalog.text, f.proname::pg_catalog.text \
    FROM pg_catalog.pg_attribute AS a \
    LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
    JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid \
    JOIN pg_catalog.pg_depend AS p \
        ON p.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND p.objid = d.oid \
        OR p.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND p.objid = t.oid \
            AND d.oid IS NULL AND t.typdefault IS NOT NULL \
    LEFT JOIN pg_catalog.pg_operator AS o \
        ON p.refclassid = 'pg_catalog.pg_operator'::pg_catalog.regclass AND o.oid = p.refobjid \
    JOIN pg_catalog.pg_proc AS f \
        ON f.oid = CASE WHEN p.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass THEN p.refobjid ELSE o.oprcode END \
    JOIN pg_catalog.pg_language AS l ON l.oid = f.prolang \
    WHERE a.attrelid = pg_catalog.to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' \
        AND f.provolatile <> 'i' AND l.lanname NOT IN ('internal', 'c') \
        AND f.prorettype <> 'pg_catalog.uuid'::pg_catalog.regtype \
    ORDER BY 1, 2";

/// A column whose default calls a function.
#[derive(Debug, Clone)]
pub(crate) struct LookingDefault {
    pub(crate) column: String,
    pub(crate) function: String,
}

impl LookingDefault {
    pub(super) fn of(row: &Row) -> Self {
        Self { column: row.get(0), function: row.get(1) }
    }
}

/// A check, and the function that it calls.
#[derive(Debug, Clone)]
pub(crate) struct Looker {
    pub(crate) check: String,
    pub(crate) function: String,
}

impl Looker {
    pub(super) fn of(row: &Row) -> Self {
        Self { check: row.get(0), function: row.get(1) }
    }
}
