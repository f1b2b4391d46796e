//! Whether a table, with its ancestors and its partitions, is still what the catalogue said of it: asked with every
//! batch, in the round trip of its first statement.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_postgres::types::ToSql;

use crate::{HandlerError, Tx};

/// Up to so many relations are looked at with every batch; more of them, each some 20 µs, at most once per [`REST`].
const FEW: usize = 16;
const REST: Duration = Duration::from_secs(5);

/// `$1`: the table's name; `$2`: its object id and those above it; `$3`: its object id and those below it, or nothing.
///
/// The columns' names and types, whether a policy hides rows from this role, which table the name means; a number that
/// changes with its indexes, constraints, triggers, rules, defaults, domains, publications and ancestors; and one that
/// changes with what is below it.
///
/// That a definition has changed is told by the transaction that wrote its row (`xmin`): a trigger or a default that is
/// replaced keeps its object id. Arrays go through `unnest`, so that the planner does not see how long they are: with one
/// element it would plan anew each time, because that looks cheaper.
macro_rules! question {
    ($schemas:literal) => {
        concat!(
            "SELECT a.attname::pg_catalog.text, a.atttypid, a.atttypmod, a.attcollation, \
                pg_catalog.row_security_active(a.attrelid), a.attrelid, ( \
                SELECT pg_catalog.hashtextextended(pg_catalog.string_agg(o.one, ' ' ORDER BY o.one), 0) FROM ( \
                    SELECT 'a' || b.attname || b.attnotnull || b.attidentity::pg_catalog.text \
                        || b.attgenerated::pg_catalog.text || coalesce(( \
                            SELECT v.oid || ' ' || v.xmin::pg_catalog.text FROM pg_catalog.pg_attrdef AS v \
                            WHERE v.adrelid = b.attrelid AND v.adnum = b.attnum), '') || coalesce(( \
                            SELECT y.xmin::pg_catalog.text || coalesce(( \
                                SELECT pg_catalog.string_agg(z.oid || ' ' || z.xmin::pg_catalog.text, ' ' ORDER BY z.oid) \
                                FROM pg_catalog.pg_constraint AS z WHERE z.contypid = y.oid), '') \
                            FROM pg_catalog.pg_type AS y WHERE y.oid = b.atttypid AND y.typtype = 'd'), '') AS one \
                        FROM pg_catalog.pg_attribute AS b \
                        WHERE b.attrelid = pg_catalog.to_regclass($1) AND b.attnum > 0 \
                    UNION ALL SELECT 'k' || c.relreplident::pg_catalog.text FROM pg_catalog.pg_class AS c \
                        WHERE c.oid = pg_catalog.to_regclass($1) \
                    UNION ALL SELECT 'i' || i.indexrelid || ' ' || i.xmin::pg_catalog.text FROM pg_catalog.pg_index AS i \
                        WHERE i.indrelid = pg_catalog.to_regclass($1) \
                    UNION ALL SELECT 't' || t.oid || ' ' || t.xmin::pg_catalog.text FROM pg_catalog.pg_trigger AS t \
                        WHERE t.tgrelid = pg_catalog.to_regclass($1) \
                    UNION ALL SELECT 'c' || c.oid || ' ' || c.xmin::pg_catalog.text FROM pg_catalog.pg_constraint AS c \
                        WHERE c.conrelid = pg_catalog.to_regclass($1) \
                    UNION ALL SELECT 'r' || r.oid || ' ' || r.xmin::pg_catalog.text FROM pg_catalog.pg_rewrite AS r \
                        WHERE r.ev_class = pg_catalog.to_regclass($1) \
                    UNION ALL SELECT 'h' || h.inhrelid || ' ' || h.inhparent || ' ' || h.xmin::pg_catalog.text FROM pg_catalog.pg_inherits AS h \
                        WHERE h.inhrelid = ANY (ARRAY(SELECT pg_catalog.unnest($2::pg_catalog.oid[]))) \
                    UNION ALL SELECT 'q' || q.oid FROM pg_catalog.pg_publication_rel AS q \
                        WHERE q.prrelid = ANY (ARRAY(SELECT pg_catalog.unnest($2::pg_catalog.oid[]))) \
                    UNION ALL SELECT 'p' || p.oid || ' ' || p.xmin::pg_catalog.text FROM pg_catalog.pg_publication AS p",
            $schemas,
            ") AS o), \
                CASE WHEN pg_catalog.cardinality($3::pg_catalog.oid[]) > 0 THEN ( \
                SELECT pg_catalog.hashtextextended(coalesce(pg_catalog.string_agg( \
                    e.one, ' ' ORDER BY e.one COLLATE pg_catalog.\"C\"), ''), 0) FROM ( \
                    SELECT d.oid || ' ' || x.one AS one \
                    FROM pg_catalog.unnest(ARRAY(SELECT pg_catalog.unnest($3::pg_catalog.oid[]))) \
                        WITH ORDINALITY AS d (oid, place), LATERAL ( \
                        SELECT 'h' || h.inhrelid || ' ' || h.xmin::pg_catalog.text AS one FROM pg_catalog.pg_inherits AS h WHERE h.inhparent = d.oid \
                        UNION ALL SELECT 'k' || c.relreplident::pg_catalog.text FROM pg_catalog.pg_class AS c \
                            WHERE d.place > 1 AND c.oid = d.oid \
                        UNION ALL SELECT 'i' || i.indexrelid || ' ' || i.xmin::pg_catalog.text \
                            FROM pg_catalog.pg_index AS i WHERE d.place > 1 AND i.indrelid = d.oid \
                        UNION ALL SELECT 't' || t.oid || ' ' || t.xmin::pg_catalog.text \
                            FROM pg_catalog.pg_trigger AS t WHERE d.place > 1 AND t.tgrelid = d.oid \
                        UNION ALL SELECT 'c' || c.oid || ' ' || c.xmin::pg_catalog.text \
                            FROM pg_catalog.pg_constraint AS c WHERE d.place > 1 AND c.conrelid = d.oid \
                        UNION ALL SELECT 'n' || b.attnum FROM pg_catalog.pg_attribute AS b \
                            WHERE d.place > 1 AND b.attrelid = d.oid AND b.attnum > 0 AND b.attnotnull \
                        UNION ALL SELECT 'q' || q.oid FROM pg_catalog.pg_publication_rel AS q \
                            WHERE d.place > 1 AND q.prrelid = d.oid OFFSET 0) AS x) AS e) END \
            FROM pg_catalog.pg_attribute AS a \
            WHERE a.attrelid = pg_catalog.to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped"
        )
    };
}

/// Of a server that publishes whole schemas: PostgreSQL 15 and later.
const QUESTION: &str = question!(
    " UNION ALL SELECT 's' || s.oid || ' ' || s.pnnspid FROM pg_catalog.pg_publication_namespace AS s "
);
const QUESTION_14: &str = question!(" ");

/// The relations below and above a table, it itself first; whether schemas are published.
const KIN: &str = "\
    WITH RECURSIVE root AS (SELECT pg_catalog.to_regclass($1)::pg_catalog.oid AS oid), \
        below AS (SELECT oid FROM root UNION \
            SELECT h.inhrelid FROM below JOIN pg_catalog.pg_inherits AS h ON h.inhparent = below.oid), \
        above AS (SELECT oid FROM root UNION \
            SELECT h.inhparent FROM above JOIN pg_catalog.pg_inherits AS h ON h.inhrelid = above.oid) \
    SELECT ARRAY(SELECT b.oid FROM below AS b, root WHERE b.oid IS NOT NULL ORDER BY b.oid <> root.oid, b.oid), \
        ARRAY(SELECT b.oid FROM above AS b, root WHERE b.oid IS NOT NULL ORDER BY b.oid <> root.oid, b.oid), \
        pg_catalog.current_setting('server_version_num')::pg_catalog.int4 >= 150000";

/// A table's relatives, by object id: a row that is written to it may be one of theirs.
#[derive(Debug)]
pub(crate) struct Kin {
    /// The table, and what is partition or child of it, however deep.
    below: Vec<u32>,
    /// The table, and those that it is a partition or child of.
    above: Vec<u32>,
    publishes_schemas: bool,
    /// When those below were last looked at.
    looked: Mutex<Instant>,
}

/// Of [`Kin::question`].
#[derive(Debug)]
pub(crate) struct Parameters<'a> {
    table: &'a str,
    above: &'a [u32],
    below: &'a [u32],
}

impl Parameters<'_> {
    /// As the driver takes them.
    pub(crate) fn as_sql(&self) -> [&(dyn ToSql + Sync); 3] {
        [&self.table, &self.above, &self.below]
    }
}

impl PartialEq for Kin {
    fn eq(&self, other: &Self) -> bool {
        (&self.below, &self.above) == (&other.below, &other.above)
    }
}

impl Kin {
    /// # Errors
    /// As [`Tx::query`].
    pub(super) async fn read(table: &str, tx: &Tx) -> Result<Self, HandlerError> {
        let rows = tx.query(KIN, &[&table]).await?;
        let row = rows.first().ok_or_else(|| HandlerError::table_changed(table))?;
        Ok(Self {
            below: row.get(0),
            above: row.get(1),
            publishes_schemas: row.get(2),
            looked: Mutex::new(Instant::now()),
        })
    }

    pub(crate) fn question(&self) -> &'static str {
        if self.publishes_schemas { QUESTION } else { QUESTION_14 }
    }

    /// The question's parameters. Those below are left out where there are many, and they were looked at not long ago.
    pub(crate) fn parameters<'a>(&'a self, table: &'a str) -> Parameters<'a> {
        let below = if self.is_due() { &*self.below } else { &[] };
        Parameters { table, above: &self.above, below }
    }

    /// The same, with all of them.
    pub(super) fn all_parameters<'a>(&'a self, table: &'a str) -> Parameters<'a> {
        Parameters { table, above: &self.above, below: &self.below }
    }

    fn is_due(&self) -> bool {
        if self.below.len() <= FEW {
            return true;
        }
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let due = looked.elapsed() >= REST;
        if due {
            *looked = Instant::now();
        }
        due
    }

    /// All of them, for whom a row of the table may be a row of theirs, or one of theirs a row of the table.
    pub(crate) fn all(&self) -> impl Iterator<Item = u32> {
        self.below.iter().chain(self.above.iter().skip(1)).copied()
    }

    pub(super) fn publishes_schemas(&self) -> bool {
        self.publishes_schemas
    }

    /// The table, and what is partition or child of it.
    pub(super) fn below(&self) -> &[u32] {
        &self.below
    }

    /// The table, and those that it is a partition or child of.
    pub(crate) fn above(&self) -> &[u32] {
        &self.above
    }

    /// Whether a row can be written to either.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.below.iter().any(|one| other.below.contains(one))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_relations_are_looked_at_once_in_a_while() {
        let kin = |below: usize, ago: Duration| Kin {
            below: vec![1; below],
            above: vec![1],
            publishes_schemas: true,
            looked: Mutex::new(Instant::now().checked_sub(ago).expect("the machine is not that new")),
        };
        let asked = |kin: &Kin| kin.parameters("t").below.len();
        let few = kin(FEW, Duration::ZERO);
        assert_eq!([asked(&few), asked(&few)], [FEW, FEW], "with every batch");
        let many = kin(FEW + 1, Duration::ZERO);
        assert_eq!(asked(&many), 0);
        assert_eq!(many.all_parameters("t").below.len(), FEW + 1, "when the catalogue is read");
        let many = kin(FEW + 1, REST);
        assert_eq!([asked(&many), asked(&many)], [FEW + 1, 0]);
    }
}
