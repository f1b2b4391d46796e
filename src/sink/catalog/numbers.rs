//! Columns that get another value for each row, and whose order it is: their sequences may be another table's, too.

use tokio_postgres::Row;

use super::mark::Kin;
use crate::{HandlerError, Tx};

/// Of each column with a default, its own or its domain's: whether it is an identity, the sequences that it names, those
/// of them that this role may not use, whether it asks the clock, whether it does what is not known here. A UUID says of
/// nothing but itself when it was made, and nobody counts them.
const NUMBERS: &str = "\
    SELECT a.attname::pg_catalog.text, a.attidentity <> '', s.oids, s.barred, \
        coalesce(f.text ~ '(clock_timestamp|timeofday|statement_timestamp)\\(', false), \
        coalesce(f.text ~ 'nextval\\(', false) AND pg_catalog.cardinality(s.oids) = 0 OR EXISTS ( \
            SELECT FROM pg_catalog.pg_depend AS p JOIN pg_catalog.pg_proc AS g ON g.oid = p.refobjid \
            WHERE p.classid = f.class AND p.objid = f.oid \
                AND p.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND g.provolatile = 'v' \
                AND g.prorettype <> 'pg_catalog.uuid'::pg_catalog.regtype) \
    FROM pg_catalog.pg_attribute AS a \
    JOIN pg_catalog.pg_type AS y ON y.oid = a.atttypid \
    LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
    CROSS JOIN LATERAL (SELECT \
        CASE WHEN d.oid IS NULL THEN 'pg_catalog.pg_type'::pg_catalog.regclass::pg_catalog.oid \
            ELSE 'pg_catalog.pg_attrdef'::pg_catalog.regclass::pg_catalog.oid END AS class, \
        coalesce(d.oid, y.oid) AS oid, coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid), \
            pg_catalog.pg_get_expr(y.typdefaultbin, 0)) AS text) AS f \
    CROSS JOIN LATERAL (SELECT coalesce(pg_catalog.array_agg(c.oid), '{}') AS oids, \
        coalesce(pg_catalog.array_agg(c.oid::pg_catalog.regclass::pg_catalog.text) \
            FILTER (WHERE NOT pg_catalog.has_sequence_privilege(c.oid, 'USAGE, UPDATE')), '{}') AS barred \
        FROM pg_catalog.pg_depend AS p JOIN pg_catalog.pg_class AS c ON c.oid = p.refobjid AND c.relkind = 'S' \
        WHERE p.classid = f.class AND p.objid = f.oid \
            AND p.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass) AS s \
    WHERE a.attrelid = pg_catalog.to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' \
        AND (a.attidentity <> '' OR f.text IS NOT NULL) ORDER BY a.attnum";

/// Where a column's values come from, if none is given.
#[derive(Debug, Clone, Default)]
pub(crate) struct Number {
    pub(crate) column: String,
    /// Sequences, or in their place the tables whose identity it is, by object id.
    pub(crate) sources: Vec<u32>,
    /// Sequences that this role may not use.
    pub(crate) barred: Vec<String>,
    clock: bool,
    /// A function of the user's, or a sequence by its name alone.
    unknown: bool,
}

impl Number {
    /// Whether both count in one order.
    pub(crate) fn is_shared_with(&self, other: &Self) -> bool {
        let counts = |one: &Self| one.unknown || one.clock || !one.sources.is_empty();
        let either_unknown = (self.unknown && counts(other)) || (other.unknown && counts(self));
        either_unknown
            || (self.clock && other.clock)
            || self.sources.iter().any(|source| other.sources.contains(source))
    }
}

/// # Errors
/// As [`Tx::query`].
pub(super) async fn read(table: &str, kin: &Kin, tx: &Tx) -> Result<Vec<Number>, HandlerError> {
    let rows = tx.query(NUMBERS, &[&table]).await?;
    let number = |row: &Row| {
        let is_identity: bool = row.get(1);
        Number {
            column: row.get(0),
            // Partitions have the identity of the table above them.
            sources: if is_identity { kin.above().to_vec() } else { row.get(2) },
            barred: row.get(3),
            clock: row.get(4),
            unknown: row.get(5),
        }
    };
    Ok(rows.iter().map(number).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_in_one_order_is_shared() {
        let of = |sources: &[u32], clock, unknown| Number {
            sources: sources.to_vec(),
            clock,
            unknown,
            ..Number::default()
        };
        let (one, other, constant) = (of(&[1], false, false), of(&[2], false, false), of(&[], false, false));
        let (clock, unknown) = (of(&[], true, false), of(&[], false, true));
        assert!(one.is_shared_with(&one) && clock.is_shared_with(&clock) && unknown.is_shared_with(&unknown));
        assert!(unknown.is_shared_with(&one) && clock.is_shared_with(&unknown));
        assert!(!one.is_shared_with(&other) && !clock.is_shared_with(&one));
        for any in [&one, &clock, &unknown, &constant] {
            assert!(!any.is_shared_with(&constant) && !constant.is_shared_with(any));
        }
    }
}
