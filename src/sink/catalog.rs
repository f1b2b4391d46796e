//! Reads from the catalogue what the tables look like, and checks that the sink fits them.

use std::sync::Arc;

use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::plan::{Column, Plan, TablePlan, TypeId, quote, quoted};
use super::stage;
use super::table::{Mode, Table};
use super::target::{Kind, Target};
use crate::{HandlerError, Tx};

const COLUMNS: &str = "\
    SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname), c.relkind::pg_catalog.text, \
        a.attname::pg_catalog.text, pg_catalog.format_type(a.atttypid, a.atttypmod), a.atttypmod, \
        a.attnotnull AND NOT a.atthasdef AND a.attidentity = '', a.attgenerated <> '', \
        coalesce(co.collisdeterministic, true), a.atttypid, \
        CASE WHEN a.attcollation <> t.typcollation \
            THEN pg_catalog.quote_ident(con.nspname) || '.' || pg_catalog.quote_ident(co.collname) END, \
        pg_catalog.row_security_active(c.oid), a.attcollation \
    FROM pg_catalog.pg_class AS c \
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
    JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid \
    LEFT JOIN pg_catalog.pg_collation AS co ON co.oid = a.attcollation \
    LEFT JOIN pg_catalog.pg_namespace AS con ON con.oid = co.collnamespace \
    WHERE c.oid = pg_catalog.to_regclass($1) ORDER BY a.attnum";

/// Unique B-trees over plain columns, the primary key first.
const INDEXES: &str = "\
    SELECT i.indisprimary, ARRAY( \
        SELECT a.attname::pg_catalog.text \
        FROM pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY AS k (number, place) \
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number \
        WHERE k.place <= i.indnkeyatts ORDER BY k.place) \
    FROM pg_catalog.pg_index AS i \
    JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid \
    JOIN pg_catalog.pg_am AS m ON m.oid = c.relam \
    WHERE i.indrelid = pg_catalog.to_regclass($1) AND i.indisunique AND i.indisvalid AND m.amname = 'btree' \
        AND i.indexprs IS NULL AND i.indpred IS NULL AND i.indimmediate \
    ORDER BY i.indisprimary DESC, i.indexrelid";

/// Constraints that are checked, or may be, only at COMMIT: `ON CONFLICT` works with none of them.
const DEFERRABLE: &str = "\
    SELECT o.conname::pg_catalog.text, ARRAY( \
        SELECT a.attname::pg_catalog.text FROM pg_catalog.unnest(o.conkey) AS k (number) \
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid = o.conrelid AND a.attnum = k.number) \
    FROM pg_catalog.pg_constraint AS o \
    WHERE o.conrelid = pg_catalog.to_regclass($1) AND o.condeferrable AND o.contype IN ('p', 'u', 'x') ORDER BY 1";

/// What the columns are called, their types, and whether a policy hides rows from this role; asked before every `COPY`,
/// under its lock.
pub(crate) const TYPES: &str = "\
    SELECT attname::pg_catalog.text, atttypid, atttypmod, attcollation, pg_catalog.row_security_active(attrelid) \
    FROM pg_catalog.pg_attribute \
    WHERE attrelid = pg_catalog.to_regclass($1) AND attnum > 0 AND NOT attisdropped";

/// A column as the catalogue has it.
struct Found {
    name: String,
    sql_type: String,
    type_id: TypeId,
    required: bool,
    generated: bool,
    deterministic: bool,
    collation: Option<String>,
}

struct Index {
    primary: bool,
    columns: Vec<String>,
}

/// Reads all tables of a sink: a few round trips, at first use and after a change.
///
/// # Errors
/// [Fatal](HandlerError::fatal) if a table cannot take what the sink writes.
pub(crate) async fn read(tables: &[Table], sink: u64, tx: &Tx) -> Result<Plan, HandlerError> {
    let mut plans = Vec::with_capacity(tables.len());
    for (place, table) in tables.iter().enumerate() {
        plans.push(read_table(table, &format!("{sink}-{place}"), tx).await?);
    }
    Ok(Plan { tables: plans })
}

/// From the answer to [`TYPES`]: whether a policy hides rows.
pub(crate) fn hides_rows(rows: &[Row]) -> bool {
    rows.iter().any(|row| row.get(4))
}

/// From the answer to [`TYPES`].
pub(crate) fn types(rows: &[Row]) -> Vec<(&str, TypeId)> {
    let id = |row: &Row| TypeId { oid: row.get(1), modifier: row.get(2), collation: row.get(3) };
    rows.iter().map(|row| (row.get(0), id(row))).collect()
}

/// `writer`: who writes to the table, in this process.
async fn read_table(table: &Table, writer: &str, tx: &Tx) -> Result<TablePlan, HandlerError> {
    let misfit = |what: String| HandlerError::fatal(format!("table {}: {what}", table.name));
    let name: [&(dyn ToSql + Sync); 1] = [&table.name];
    let (rows, indexes, deferrable) =
        tokio::try_join!(tx.query(COLUMNS, &name), tx.query(INDEXES, &name), tx.query(DEFERRABLE, &name))?;
    let Some(first) = rows.first() else {
        return Err(misfit("there is no such table, or this role may not use its schema".to_owned()));
    };
    let (sql_name, relkind): (String, String) = (first.get(0), first.get(1));
    if !matches!(relkind.as_str(), "r" | "p") {
        // What a foreign table's server commits, it commits by itself.
        return Err(misfit("it is no table of this database".to_owned()));
    }
    if first.get::<_, bool>(10) {
        // COPY does not go through it; and a row that a policy hides is neither deleted nor replaced, and nothing says so.
        let what = "row-level security applies to this role: write by INSERT in a handler of your own, or give the role \
                    BYPASSRLS";
        return Err(misfit(what.to_owned()));
    }
    let found: Vec<Found> = rows
        .iter()
        .map(|row| Found {
            name: row.get(2),
            sql_type: row.get(3),
            required: row.get(5),
            generated: row.get(6),
            deterministic: row.get(7),
            type_id: TypeId { oid: row.get(8), modifier: row.get(4), collation: row.get(11) },
            collation: row.get(9),
        })
        .collect();
    let indexes: Vec<Index> =
        indexes.iter().map(|row| Index { primary: row.get(0), columns: row.get(1) }).collect();

    let names: Vec<&str> = table
        .columns
        .iter()
        .map(String::as_str)
        .chain(table.sources.iter().map(|(_, column)| column.as_str()))
        .collect();
    check(table, &names, &found).map_err(misfit)?;
    check_deferrable(table, &deferrable).map_err(misfit)?;
    // The driver finds out about types of the user's own (enums, domains, arrays of them). Not from the cache of
    // statements, which may be older than the columns.
    let statement = format!("SELECT {} FROM {sql_name}", quoted(names.iter().copied()));
    let statement = tx.raw().prepare(&statement).await?;
    let types = statement.columns().iter().map(|column| column.type_().clone());
    let columns: Vec<Column> = names
        .iter()
        .zip(types)
        .filter_map(|(name, ty)| {
            let found = found.iter().find(|found| found.name == *name)?;
            Some(Column {
                name: found.name.clone(),
                sql_type: found.sql_type.clone(),
                type_id: found.type_id,
                collation: found.collation.clone(),
                target: Target::new(ty, table.conversion(name)),
            })
        })
        .collect();

    let key = key(table, &names, &indexes).map_err(misfit)?;
    let key_is_exact = key.iter().all(|&position| {
        let found = found.iter().find(|found| found.name == names[position]);
        found.is_some_and(|found| is_exact(&columns[position].target, found))
    });
    let mut plan = TablePlan {
        name: table.name.clone(),
        copy: format!("COPY {sql_name} ({}) FROM STDIN (FORMAT binary)", quoted(names.iter().copied())),
        // The lock that writing takes anyway, a moment earlier.
        lock: format!("LOCK TABLE ONLY {sql_name} IN ROW EXCLUSIVE MODE"),
        sql_name,
        mode: table.mode,
        columns,
        given: table.columns.len(),
        sources: table.sources.iter().map(|(source, _)| *source).collect(),
        key,
        key_is_exact,
        stage: None,
        fields: 0,
        absent: Arc::clone(&table.absent),
    };
    let extra = usize::from(plan.mode == Mode::Upsert) + usize::from(plan.tells_places());
    plan.fields =
        i16::try_from(plan.columns.len() + extra).map_err(|_| misfit("too many columns".to_owned()))?;
    if table.mode != Mode::Append {
        let stage = stage::Stage::new(&plan, writer);
        plan.copy.clone_from(&stage.copy);
        plan.stage = Some(stage);
    }
    Ok(plan)
}

fn check(table: &Table, names: &[&str], found: &[Found]) -> Result<(), String> {
    if table.columns.is_empty() {
        return Err("no columns are given".to_owned());
    }
    for (place, name) in names.iter().enumerate() {
        let Some(column) = found.iter().find(|found| found.name == *name) else {
            let near = found.iter().map(|found| found.name.as_str());
            let near =
                near.max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)));
            let hint = near.map(|near| format!("; is {near} meant?")).unwrap_or_default();
            return Err(format!("there is no column {name}{hint}"));
        };
        if column.generated {
            return Err(format!("column {name} is generated by the table itself: leave it out"));
        }
        if names[..place].contains(name) {
            return Err(format!("column {name} is given twice"));
        }
    }
    match found.iter().find(|found| found.required && !names.contains(&found.name.as_str())) {
        Some(column) => Err(format!(
            "column {} ({}) is NOT NULL without a default, and no value is given for it",
            column.name, column.sql_type
        )),
        None => Ok(()),
    }
}

/// `ON CONFLICT` cannot look at a constraint that may be violated until COMMIT.
fn check_deferrable(table: &Table, rows: &[Row]) -> Result<(), String> {
    let mut constraints = rows.iter().map(|row| (row.get::<_, &str>(0), row.get::<_, Vec<&str>>(1)));
    let is_key = |columns: &[&str]| {
        table.key.as_ref().is_some_and(|key| {
            key.len() == columns.len() && columns.iter().all(|column| key.iter().any(|one| one == column))
        })
    };
    let found = match table.mode {
        Mode::Append => None,
        Mode::InsertIgnore => constraints.next(),
        Mode::Upsert => constraints.find(|(_, columns)| is_key(columns)),
    };
    match found {
        None => Ok(()),
        Some((name, _)) => Err(format!(
            "constraint {name} is deferrable, and ON CONFLICT works with none that is: make it NOT DEFERRABLE, or append"
        )),
    }
}

/// The positions of the columns by which rows are found or sorted.
fn key(table: &Table, names: &[&str], indexes: &[Index]) -> Result<Vec<usize>, String> {
    let position = |column: &String| names.iter().position(|name| name == column);
    if let Some(columns) = table.key.as_ref().filter(|_| table.mode != Mode::InsertIgnore) {
        let key: Option<Vec<usize>> = columns.iter().map(position).collect();
        let key = key.filter(|key| !key.is_empty());
        let key = key.ok_or("the key has a column that is not among those written")?;
        let same = |index: &Index| {
            index.columns.len() == columns.len()
                && columns.iter().all(|column| index.columns.contains(column))
        };
        if table.mode == Mode::Upsert && !indexes.iter().any(same) {
            return Err(format!("there is no unique index on exactly the key ({})", columns.join(", ")));
        }
        return Ok(key);
    }
    if table.mode == Mode::Upsert {
        let index = match indexes {
            [] => return Err("an upsert needs a primary key or a unique index".to_owned()),
            [index] => index,
            [index, ..] if index.primary => index,
            _ => return Err("several unique indexes could be the key: choose with Table::key".to_owned()),
        };
        let key: Option<Vec<usize>> = index.columns.iter().map(position).collect();
        return key.ok_or_else(|| {
            format!(
                "the key ({}) has a column that is not among those written; choose with Table::key",
                index.columns.join(", ")
            )
        });
    }
    // Rows that are told twice stay in their order: the first one is to win, by whatever index they collide.
    if !table.sorted || table.mode == Mode::InsertIgnore {
        return Ok(Vec::new());
    }
    // The columns with which an index begins are enough to be near in it.
    let leading = |index: &Index| -> Vec<usize> { index.columns.iter().map_while(position).collect() };
    Ok(indexes.iter().map(leading).find(|key| !key.is_empty()).unwrap_or_default())
}

/// Whether two keys are equal to the server if, and only if, their encodings are the same. A modifier may round or
/// cut what is sent, a collation or `char(n)` may call different texts equal.
fn is_exact(target: &Target, found: &Found) -> bool {
    // The driver names the type beneath a domain.
    let plain =
        target.ty.oid() == found.type_id.oid && target.ty != Type::BPCHAR && target.ty.name() != "citext";
    let kind = target.kind;
    kind.equal_as_bytes()
        && plain
        && found.type_id.modifier == -1
        && (kind != Kind::Text || found.deterministic)
}

/// A column's definition, for a stage.
pub(crate) fn definition(column: &Column) -> String {
    let collation = column.collation.as_ref().map(|name| format!(" COLLATE {name}")).unwrap_or_default();
    format!("{} {}{collation}", quote(&column.name), column.sql_type)
}
