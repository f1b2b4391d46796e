//! A table and its columns, as the catalogue has them.

use tokio_postgres::Row;

use crate::sink::plan::TypeId;

/// A row for each column, what is known of the table itself in all of them: [`Relation::of`] and [`Found::of`] read it by
/// position.
pub(super) const COLUMNS: &str = "\
    SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname), c.relkind::pg_catalog.text, \
        a.attname::pg_catalog.text, pg_catalog.format_type(a.atttypid, a.atttypmod), a.atttypmod, \
        a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AND t.typdefault IS NULL, \
        a.attgenerated <> '', \
        coalesce(co.collisdeterministic, true), a.atttypid, \
        CASE WHEN a.attcollation <> t.typcollation \
            THEN pg_catalog.quote_ident(con.nspname) || '.' || pg_catalog.quote_ident(co.collname) END, \
        pg_catalog.row_security_active(c.oid), a.attcollation, c.oid, a.attnotnull, \
        (WITH RECURSIVE base AS (SELECT t.oid, t.typtype, t.typbasetype \
            UNION ALL SELECT b.oid, b.typtype, b.typbasetype FROM base \
                JOIN pg_catalog.pg_type AS b ON base.typtype = 'd' AND b.oid = base.typbasetype) \
            SELECT pg_catalog.format_type(base.oid, -1) FROM base WHERE base.typtype <> 'd'), \
        pg_catalog.has_column_privilege(c.oid, a.attnum, 'INSERT'), \
        pg_catalog.has_column_privilege(c.oid, a.attnum, 'UPDATE'), \
        pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT'), \
        pg_catalog.has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE'), \
        a.attidentity = 'a', pg_catalog.current_setting('server_encoding') = 'UTF8' \
    FROM pg_catalog.pg_class AS c \
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
    JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid \
    LEFT JOIN pg_catalog.pg_collation AS co ON co.oid = a.attcollation \
    LEFT JOIN pg_catalog.pg_namespace AS con ON con.oid = co.collnamespace \
    WHERE c.oid = pg_catalog.to_regclass($1) ORDER BY a.attnum";

/// What is known of the table itself.
pub(super) struct Relation {
    /// Quoted and qualified.
    pub(super) sql_name: String,
    pub(super) oid: u32,
    /// `pg_class.relkind`.
    pub(super) kind: String,
    /// A policy hides rows from this role.
    pub(super) hides_rows: bool,
    /// This role may lock it as whoever writes does.
    pub(super) may_lock: bool,
    /// The database has all characters.
    pub(super) is_utf8: bool,
}

impl Relation {
    pub(super) fn of(row: &Row) -> Self {
        Self {
            sql_name: row.get(0),
            kind: row.get(1),
            hides_rows: row.get(10),
            oid: row.get(12),
            may_lock: row.get(18),
            is_utf8: row.get(20),
        }
    }
}

/// A column as the catalogue has it.
pub(super) struct Found {
    pub(super) name: String,
    /// With its modifiers.
    pub(super) sql_type: String,
    pub(super) type_id: TypeId,
    /// `NOT NULL`, and nothing fills it but who writes the row.
    pub(super) required: bool,
    pub(super) generated: bool,
    /// By its collation texts are equal only if their bytes are.
    pub(super) deterministic: bool,
    /// If it is not its type's own.
    pub(super) collation: Option<String>,
    pub(super) not_null: bool,
    /// The type, or that beneath a domain, without its modifiers.
    pub(super) bare_type: String,
    /// Rights of this role: to insert, to update, to select.
    pub(super) rights: [bool; 3],
    /// `GENERATED ALWAYS AS IDENTITY`.
    pub(super) always_numbered: bool,
}

impl Found {
    pub(super) fn of(row: &Row) -> Self {
        Self {
            name: row.get(2),
            sql_type: row.get(3),
            required: row.get(5),
            generated: row.get(6),
            deterministic: row.get(7),
            type_id: TypeId { oid: row.get(8), modifier: row.get(4), collation: row.get(11) },
            collation: row.get(9),
            not_null: row.get(13),
            bare_type: row.get(14),
            rights: [row.get(15), row.get(16), row.get(17)],
            always_numbered: row.get(19),
        }
    }
}
