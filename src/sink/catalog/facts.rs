//! What the catalogue knows of a table beyond its columns: indexes, constraints, triggers, rules, defaults; of the table
//! itself and of its partitions.

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::lookers::{LOOKERS, LOOKING_DEFAULTS, Looker, LookingDefault};
use super::numbers::Number;
use super::relatives::{RELATIVES, Relatives};
use crate::{HandlerError, Tx};

/// The table and its partitions, however deep.
macro_rules! tree {
    () => {
        "WITH tree AS (SELECT pg_catalog.to_regclass($1)::pg_catalog.oid AS oid \
            UNION SELECT p.relid::pg_catalog.oid FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass($1)) AS p) "
    };
}

/// Attribute numbers of a relation, as names.
macro_rules! names {
    ($numbers:literal, $relation:literal) => {
        concat!(
            "ARRAY(SELECT a.attname::pg_catalog.text \
                FROM pg_catalog.unnest(",
            $numbers,
            ") WITH ORDINALITY AS k (number, place) \
                JOIN pg_catalog.pg_attribute AS a ON a.attrelid = ",
            $relation,
            " AND a.attnum = k.number ORDER BY k.place)"
        )
    };
}

/// Unique and exclusion indexes, and those that compute something; not those that another of the tree stands for.
/// The primary key comes first.
const INDEXES: &str = concat!(
    tree!(),
    "SELECT ic.relname::pg_catalog.text, i.indrelid = pg_catalog.to_regclass($1) AND m.amname = 'btree' AND i.indisvalid, \
        i.indisprimary, i.indisunique OR i.indisexclusion, i.indimmediate, \
        i.indexprs IS NOT NULL OR i.indpred IS NOT NULL, i.indisunique, ",
    names!("(i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1]", "i.indrelid"),
    ", ARRAY(SELECT CASE WHEN k.compared_by <> a.attcollation THEN \
            pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(co.collname) END \
        FROM ROWS FROM (pg_catalog.unnest((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1]), \
            pg_catalog.unnest(i.indcollation::pg_catalog.oid[])) WITH ORDINALITY AS k (number, compared_by, place) \
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number \
        LEFT JOIN pg_catalog.pg_collation AS co ON co.oid = k.compared_by \
        LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = co.collnamespace ORDER BY k.place), \
        ARRAY(SELECT coalesce(co.collisdeterministic, true) \
        FROM pg_catalog.unnest(i.indcollation::pg_catalog.oid[]) WITH ORDINALITY AS k (compared_by, place) \
        LEFT JOIN pg_catalog.pg_collation AS co ON co.oid = k.compared_by ORDER BY k.place), \
        ARRAY(SELECT oc.opcname::pg_catalog.text \
        FROM pg_catalog.unnest(i.indclass::pg_catalog.oid[]) WITH ORDINALITY AS k (class, place) \
        JOIN pg_catalog.pg_opclass AS oc ON oc.oid = k.class \
        WHERE NOT oc.opcdefault AND oc.opcname NOT LIKE '%\\_pattern\\_ops' ORDER BY k.place), \
        ARRAY(SELECT 'OPERATOR(' || pg_catalog.quote_ident(pn.nspname) || '.' || p.oprname || ')' \
        FROM pg_catalog.unnest(i.indclass::pg_catalog.oid[]) WITH ORDINALITY AS k (class, place) \
        JOIN pg_catalog.pg_opclass AS oc ON oc.oid = k.class \
        LEFT JOIN pg_catalog.pg_amop AS ao ON ao.amopfamily = oc.opcfamily AND ao.amopstrategy = 3 \
            AND ao.amoplefttype = oc.opcintype AND ao.amoprighttype = oc.opcintype AND m.amname = 'btree' \
        LEFT JOIN pg_catalog.pg_operator AS p ON p.oid = ao.amopopr \
        LEFT JOIN pg_catalog.pg_namespace AS pn ON pn.oid = p.oprnamespace ORDER BY k.place), ",
    names!("(i.indkey::pg_catalog.int2[])[i.indnkeyatts:]", "i.indrelid"),
    " FROM tree JOIN pg_catalog.pg_index AS i ON i.indrelid = tree.oid \
    JOIN pg_catalog.pg_class AS ic ON ic.oid = i.indexrelid \
    JOIN pg_catalog.pg_am AS m ON m.oid = ic.relam \
    WHERE i.indisready AND NOT EXISTS ( \
        SELECT FROM pg_catalog.pg_inherits AS h JOIN pg_catalog.pg_index AS above ON above.indexrelid = h.inhparent \
        JOIN tree AS t ON t.oid = above.indrelid WHERE h.inhrelid = i.indexrelid) \
    ORDER BY i.indisprimary DESC, i.indexrelid"
);

/// Checks, foreign keys from and to the tree, and whatever waits for COMMIT.
const CONSTRAINTS: &str = concat!(
    tree!(),
    "SELECT o.conname::pg_catalog.text, o.contype::pg_catalog.text, o.condeferrable, o.condeferred, \
        o.conrelid IN (SELECT oid FROM tree), o.confrelid IN (SELECT oid FROM tree), o.confrelid, \
        ARRAY(SELECT coalesce(a.attname::pg_catalog.text, '') \
            FROM pg_catalog.unnest(o.conkey) WITH ORDINALITY AS k (number, place) \
            LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = o.conrelid AND a.attnum = k.number ORDER BY k.place), ",
    names!("o.confkey", "o.confrelid"),
    ", pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(o.conname), \
        o.condeferred AND EXISTS (SELECT FROM pg_catalog.pg_constraint AS other \
            WHERE other.conname = o.conname AND other.connamespace = o.connamespace AND NOT other.condeferrable), \
        NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
    FROM pg_catalog.pg_constraint AS o JOIN pg_catalog.pg_namespace AS n ON n.oid = o.connamespace \
    WHERE (o.conrelid IN (SELECT oid FROM tree) OR o.confrelid IN (SELECT oid FROM tree)) \
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint AS above WHERE above.oid = o.conparentid \
            AND (above.conrelid IN (SELECT oid FROM tree) OR above.confrelid IN (SELECT oid FROM tree))) \
        AND o.contype IN ('c', 'f', 'p', 'u', 'x', 't') ORDER BY 1, o.oid"
);

/// Those that users made and that fire.
const TRIGGERS: &str = concat!(
    tree!(),
    "SELECT t.tgname::pg_catalog.text, t.tgtype::pg_catalog.int4 \
    FROM tree JOIN pg_catalog.pg_trigger AS t ON t.tgrelid = tree.oid \
    WHERE NOT t.tgisinternal AND t.tgenabled IN ('O', 'A') AND NOT EXISTS ( \
        SELECT FROM pg_catalog.pg_trigger AS above JOIN tree AS u ON u.oid = above.tgrelid \
        WHERE above.oid = t.tgparentid) ORDER BY t.tgname"
);

/// Of the table itself: rules, defaults that are asked for in some order, what computes columns, foreign partitions.
const OTHERS: &str = concat!(
    tree!(),
    "SELECT ARRAY(SELECT r.rulename::pg_catalog.text FROM pg_catalog.pg_rewrite AS r \
        WHERE r.ev_class = pg_catalog.to_regclass($1) AND r.ev_enabled IN ('O', 'A') AND r.ev_type IN ('2', '3', '4') ORDER BY 1), \
    ARRAY(SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_attribute AS a \
        JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid \
        LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
        WHERE a.attrelid = pg_catalog.to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' \
            AND (a.attidentity <> '' OR coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid), t.typdefault) ~ \
                    '(nextval|clock_timestamp|timeofday|uuidv7|uuid_generate_v1|statement_timestamp)\\(' \
                OR EXISTS (SELECT FROM pg_catalog.pg_depend AS p JOIN pg_catalog.pg_proc AS f ON f.oid = p.refobjid \
                    WHERE (p.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND p.objid = d.oid \
                            OR p.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND p.objid = t.oid \
                                AND d.oid IS NULL AND t.typdefault IS NOT NULL) \
                        AND p.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND f.provolatile = 'v' \
                        AND f.proname NOT LIKE 'uuid\\_generate\\_v4'))), \
    EXISTS (SELECT FROM pg_catalog.pg_attribute AS a \
        WHERE a.attrelid = pg_catalog.to_regclass($1) AND NOT a.attisdropped AND a.attgenerated <> ''), \
    ARRAY(SELECT c.oid::pg_catalog.regclass::pg_catalog.text FROM tree JOIN pg_catalog.pg_class AS c ON c.oid = tree.oid \
        WHERE c.relkind = 'f')"
);

/// One index that may refuse a row, or that computes something of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    pub(crate) name: String,
    /// A valid B-tree of the table itself.
    pub(crate) usable: bool,
    pub(crate) primary: bool,
    /// It refuses rows that equal, or exclude, another.
    pub(crate) refuses: bool,
    pub(crate) immediate: bool,
    /// It has expressions or a predicate.
    pub(crate) computes: bool,
    /// By equality; else it is an exclusion, or refuses nothing.
    pub(crate) unique: bool,
    /// Its plain columns.
    pub(crate) columns: Vec<String>,
    /// Per column: the collation by which it compares, if that is not the column's.
    pub(crate) collations: Vec<Option<String>>,
    /// Per column: whether texts are equal only if their bytes are.
    pub(crate) deterministic: Vec<bool>,
    /// Operator classes that may have an equality of their own.
    pub(crate) classes: Vec<String>,
    /// Per column, of a B-tree: its equality, by name. What `=` means is the search path's, which need not know the type.
    pub(crate) equals: Vec<Option<String>>,
    /// Columns that it has beside: `INCLUDE`.
    pub(crate) covered: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConstraintKind {
    Check,
    ForeignKey,
    /// A primary key, unique or exclusion constraint.
    Index,
    Trigger,
}

#[derive(Debug, Clone)]
pub(crate) struct Constraint {
    pub(crate) name: String,
    pub(crate) kind: ConstraintKind,
    pub(crate) deferrable: bool,
    /// Looked at only at COMMIT, unless somebody asks for it before.
    pub(crate) deferred: bool,
    /// The tree's own.
    pub(crate) ours: bool,
    /// A foreign key that refers to the tree.
    pub(crate) incoming: bool,
    /// What a foreign key refers to.
    pub(crate) target: u32,
    /// Of a check that looks at the whole row, the empty name is one of them.
    pub(crate) columns: Vec<String>,
    /// The columns that a foreign key refers to.
    pub(crate) target_columns: Vec<String>,
    /// Quoted and qualified, for `SET CONSTRAINTS`.
    pub(crate) sql_name: String,
    /// It waits for COMMIT, and one of the same name cannot: `SET CONSTRAINTS` would fail.
    pub(crate) has_namesake: bool,
    /// It is in a schema that this role may not use, and so cannot name.
    pub(crate) hidden: bool,
}

/// A trigger; `tgtype` says when it fires.
#[derive(Debug, Clone)]
pub(crate) struct Trigger {
    pub(crate) name: String,
    pub(crate) bits: i32,
}

impl Trigger {
    const ROW: i32 = 1;
    const BEFORE: i32 = 2;
    const INSERT: i32 = 4;
    const TRUNCATE: i32 = 32;

    /// Before each row: it sees the rows that came before in the same statement.
    pub(crate) fn is_before_row(&self) -> bool {
        self.bits & (Self::ROW | Self::BEFORE) == Self::ROW | Self::BEFORE
    }

    pub(crate) fn fires_on_insert(&self) -> bool {
        self.bits & Self::INSERT != 0
    }

    fn is_of_truncate(&self) -> bool {
        self.bits & !(Self::ROW | Self::BEFORE) == Self::TRUNCATE
    }
}

/// Everything that somebody may tell a batch from its records by.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) indexes: Vec<Index>,
    pub(crate) constraints: Vec<Constraint>,
    pub(crate) triggers: Vec<Trigger>,
    pub(crate) rules: Vec<String>,
    /// Columns whose default, or that of their domain, is another for each row: of an identity, a sequence, the clock.
    pub(crate) numbered: Vec<String>,
    pub(crate) generated: bool,
    pub(crate) foreign: Vec<String>,
    /// A publication sends its updates, or those of this partition, by a replica identity that it has not.
    pub(crate) nameless: Option<String>,
    /// A publication whose condition or columns do not go with a replica identity, and the table that has it.
    pub(crate) filtered: Option<(String, String)>,
    /// Where columns get their values from that are not given.
    pub(crate) numbers: Vec<Number>,
    /// The table and its relatives, by object id.
    pub(crate) kin: Vec<u32>,
    pub(crate) relatives: Relatives,
    pub(crate) lookers: Vec<Looker>,
    pub(crate) looking_defaults: Vec<LookingDefault>,
}

/// Asks for all of it in one round trip.
///
/// # Errors
/// As [`Tx::query`].
pub(super) async fn read(table: &str, tx: &Tx) -> Result<Facts, HandlerError> {
    let name: [&(dyn ToSql + Sync); 1] = [&table];
    let (indexes, constraints, triggers, others, relatives, lookers, defaults) = tokio::try_join!(
        tx.query(INDEXES, &name),
        tx.query(CONSTRAINTS, &name),
        tx.query(TRIGGERS, &name),
        tx.query(OTHERS, &name),
        tx.query(RELATIVES, &name),
        tx.query(LOOKERS, &name),
        tx.query(LOOKING_DEFAULTS, &name),
    )?;
    let mut facts = Facts {
        indexes: indexes.iter().map(index).collect(),
        constraints: constraints.iter().map(constraint).collect(),
        triggers: triggers.iter().map(|row| Trigger { name: row.get(0), bits: row.get(1) }).collect(),
        relatives: relatives.first().map(Relatives::of).unwrap_or_default(),
        lookers: lookers.iter().map(Looker::of).collect(),
        looking_defaults: defaults.iter().map(LookingDefault::of).collect(),
        ..Facts::default()
    };
    facts.triggers.retain(|trigger| !trigger.is_of_truncate());
    if let Some(row) = others.first() {
        (facts.rules, facts.numbered) = (row.get(0), row.get(1));
        (facts.generated, facts.foreign) = (row.get(2), row.get(3));
    }
    Ok(facts)
}

fn index(row: &Row) -> Index {
    Index {
        name: row.get(0),
        usable: row.get(1),
        primary: row.get(2),
        refuses: row.get(3),
        immediate: row.get(4),
        computes: row.get(5),
        unique: row.get(6),
        columns: row.get(7),
        collations: row.get(8),
        deterministic: row.get(9),
        classes: row.get(10),
        equals: row.get(11),
        covered: row.get(12),
    }
}

fn constraint(row: &Row) -> Constraint {
    Constraint {
        name: row.get(0),
        kind: match row.get(1) {
            "c" => ConstraintKind::Check,
            "f" => ConstraintKind::ForeignKey,
            "t" => ConstraintKind::Trigger,
            _ => ConstraintKind::Index,
        },
        deferrable: row.get(2),
        deferred: row.get(3),
        ours: row.get(4),
        incoming: row.get(5),
        target: row.get(6),
        columns: row.get(7),
        target_columns: row.get(8),
        sql_name: row.get(9),
        has_namesake: row.get(10),
        hidden: row.get(11),
    }
}
