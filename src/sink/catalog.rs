//! Reads from the catalogue what the tables look like, and checks that the sink fits them.

mod check;
pub(crate) mod facts;
mod key;
pub(crate) mod lookers;
pub(crate) mod mark;
pub(crate) mod numbers;
mod published;
pub(crate) mod relatives;

use std::sync::Arc;

use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::care::{Care, Written};
use super::length::Length;
use super::parents;
use super::plan::{Column, Plan, TablePlan, TypeId, quote, quoted};
use super::stage;
use super::statements::Statements;
use super::straight::Straight;
use super::table::{Mode, Table};
use super::target::{Kind, Target};
use super::together;
use crate::{HandlerError, Tx};
use key::Key;
use mark::Kin;

/// Types are spelled with their modifiers, and without: a domain's then is the type beneath.
const COLUMNS: &str = "\
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

/// A column as the catalogue has it.
struct Found {
    name: String,
    sql_type: String,
    type_id: TypeId,
    required: bool,
    generated: bool,
    deterministic: bool,
    collation: Option<String>,
    not_null: bool,
    /// The type, or that beneath a domain, without its modifiers.
    bare_type: String,
    /// Rights of this role: to insert, to update, to select.
    rights: [bool; 3],
    /// `GENERATED ALWAYS AS IDENTITY`.
    always_numbered: bool,
}

/// Reads all tables of a sink: a few round trips, at first use and after a change.
///
/// # Errors
/// [Fatal](HandlerError::fatal) if a table cannot take what the sink writes.
pub(crate) async fn read(tables: &[Table], sink: u64, tx: &Tx) -> Result<Plan, HandlerError> {
    let mut plans = Vec::with_capacity(tables.len());
    let mut facts = Vec::with_capacity(tables.len());
    for (place, table) in tables.iter().enumerate() {
        let (plan, known) = read_table(table, &format!("{sink}-{place}"), tx).await?;
        plans.push(plan);
        facts.push(known);
    }
    let parents = parents::find(&mut plans, &facts);
    let together = together::find(&plans, &facts);
    for pair in &together {
        tracing::info!(why = pair.why, "rows of these tables in one batch are written row by row");
    }
    for plan in &plans {
        let names: Vec<&str> = plan.columns.iter().map(|column| column.name.as_str()).collect();
        if let Some(way) = plan.care.describe(&names) {
            tracing::info!(table = plan.sql_name, way, "the rows of this table are written with care");
        }
    }
    Ok(Plan { tables: plans, parents, together })
}

/// What the answer to [`Kin::question`] says.
pub(crate) struct Now<'a> {
    pub(crate) types: Vec<(&'a str, TypeId)>,
    pub(crate) hides_rows: bool,
    pub(crate) relation: Option<u32>,
    pub(crate) mark: Option<i64>,
    /// Of what is below it, if that was asked.
    pub(crate) mark_below: Option<i64>,
}

/// Reads the answer to [`Kin::question`].
pub(crate) fn now(rows: &[Row]) -> Now<'_> {
    let type_id = |row: &Row| TypeId { oid: row.get(1), modifier: row.get(2), collation: row.get(3) };
    Now {
        types: rows.iter().map(|row| (row.get(0), type_id(row))).collect(),
        hides_rows: rows.iter().any(|row| row.get(4)),
        relation: rows.first().map(|row| row.get(5)),
        mark: rows.first().and_then(|row| row.get(6)),
        mark_below: rows.first().and_then(|row| row.get(7)),
    }
}

/// `writer`: what of all that writes to the table, in this process.
async fn read_table(table: &Table, writer: &str, tx: &Tx) -> Result<(TablePlan, facts::Facts), HandlerError> {
    let misfit = |what: String| HandlerError::fatal(format!("table {}: {what}", table.name));
    let name: [&(dyn ToSql + Sync); 1] = [&table.name];
    let kin = Kin::read(&table.name, tx).await?;
    let question = kin.all_parameters(&table.name);
    let question = question.as_sql();
    // The marks first: what changes after them is noticed.
    let (marked, rows, mut facts, nameless, numbers, kin_now) = tokio::try_join!(
        tx.query(kin.question(), &question),
        tx.query(COLUMNS, &name),
        facts::read(&table.name, tx),
        published::nameless(&kin, tx),
        numbers::read(&table.name, &kin, tx),
        Kin::read(&table.name, tx),
    )?;
    if kin != kin_now {
        return Err(HandlerError::table_changed(&table.name));
    }
    (facts.nameless, facts.numbers) = (nameless, numbers);
    facts.kin = kin.all().collect();
    let marked = now(&marked);
    let Some(first) = rows.first() else {
        return Err(misfit("there is no such table, or this role may not use its schema".to_owned()));
    };
    let sql_name: String = first.get(0);
    let relation: u32 = first.get(12);
    check::kind(first.get(1), first.get(10), &facts).map_err(misfit)?;
    let found: Vec<Found> = rows.iter().map(Found::of).collect();
    let names: Vec<&str> = table
        .columns
        .iter()
        .map(String::as_str)
        .chain(table.sources.iter().map(|(_, column)| column.as_str()))
        .collect();
    check::columns(table, &names, &found).map_err(misfit)?;
    check::facts(table, &facts).map_err(misfit)?;
    // The driver finds out about types of the user's own (enums, domains, arrays of them). Not from the cache of
    // statements, which may be older than the columns.
    let statement = format!("SELECT {} FROM {sql_name}", quoted(names.iter().copied()));
    let statement = tx.raw().prepare(&statement).await?;
    let types = statement.columns().iter().map(|column| column.type_().clone());
    // Before it sees a NULL, a trigger may have put something in its place.
    let may_fill = facts.triggers.iter().any(|trigger| trigger.is_before_row());
    let mut columns: Vec<Column> = names
        .iter()
        .zip(types)
        .filter_map(|(name, ty)| {
            let found = found.iter().find(|found| found.name == *name)?;
            Some(Column {
                name: found.name.clone(),
                sql_type: found.sql_type.clone(),
                bare_type: found.bare_type.clone(),
                type_id: found.type_id,
                collation: found.collation.clone(),
                equals: "=".to_owned(),
                length: Length::of(&ty, found.type_id),
                not_null: found.not_null && !may_fill,
                target: Target::new(ty, table.conversion(name)),
            })
        })
        .collect();

    let Key { positions: key, index } = key::find(table, &names, &facts.indexes).map_err(misfit)?;
    check::identity(table, &names, &key, &found).map_err(misfit)?;
    let index = index.map(|at| &facts.indexes[at]);
    if table.mode.is_keyed() {
        // Rows are found by the index: it says which keys are equal.
        for ((name, collation), equals) in index
            .iter()
            .flat_map(|index| index.columns.iter().zip(&index.collations).zip(&index.equals))
        {
            if let Some(column) = columns.iter_mut().find(|column| column.name == *name) {
                column.collation = collation.clone().or(column.collation.take());
                column.equals = equals.clone().unwrap_or_else(|| column.equals.clone());
            }
        }
    }
    let of_index = index.filter(|_| table.mode.is_keyed());
    let deterministic = |position: usize| {
        let found = found.iter().find(|found| found.name == names[position]);
        found.is_some_and(|found| found.deterministic)
            && of_index.is_none_or(|index| index.deterministic.iter().all(|one| *one))
    };
    let exact: Vec<bool> =
        columns.iter().enumerate().map(|(at, column)| is_exact(column, deterministic(at))).collect();
    let is_set = |at: usize| !key.contains(&at) || !exact[at];
    let rights = check::Rights { names: &names, key: &key, is_set: &is_set, may_lock: first.get(18) };
    rights.check(table, &found, &facts).map_err(misfit)?;
    let key_is_exact = key.iter().all(|&at| is_comparable(&columns[at], deterministic(at)));
    let is_long = |at: usize| {
        !matches!(
            columns[at].target.kind,
            Kind::Bool | Kind::Int2 | Kind::Int4 | Kind::Int8 | Kind::Float4 | Kind::Float8 | Kind::Uuid
        ) && !columns[at].target.kind.is_signed()
    };
    let version = match &table.version {
        Some(column) => Some(check::version(table, column, &columns, &key).map_err(misfit)?),
        None => None,
    };
    let mut care = Care::new(
        &Written {
            relation,
            mode: table.mode,
            names: &names,
            key_index: index.map(|index| index.name.as_str()),
            key: &key,
            exact: &exact,
            is_domain: &|at| columns[at].target.ty.oid() != columns[at].type_id.oid,
            key_is_exact,
            is_input: &|at| columns[at].is_read_by_the_server(),
            is_long: &is_long,
        },
        &facts,
    );
    if let Some(at) = version {
        let name = names[at];
        if !(exact[at] && columns[at].target.kind.is_signed()) {
            care.always.get_or_insert_with(|| format!("only the server can tell which {name} is newer"));
        }
        // What a row was is forgotten with it, and what comes after the deletion may be older.
        care.deletions.get_or_insert_with(|| format!("whether {name} is newer depends on what was deleted"));
    }
    let is_utf8: bool = first.get(20);
    let checked_here = columns.iter().all(|column| is_checked_here(column, is_utf8));
    let mut plan = TablePlan {
        name: table.name.clone(),
        relation,
        mark: marked.mark,
        mark_below: marked.mark_below,
        kin,
        copy: format!("COPY {sql_name} ({}) FROM STDIN (FORMAT binary)", quoted(names.iter().copied())),
        // The lock that writing takes anyway, a moment earlier.
        lock: format!("LOCK TABLE ONLY {sql_name} IN ROW EXCLUSIVE MODE"),
        sql_name,
        mode: table.mode,
        exact,
        columns,
        given: table.columns.len(),
        sources: table.sources.iter().map(|(source, _)| *source).collect(),
        key,
        version,
        key_is_exact,
        reduced_here: key_is_exact && checked_here,
        care,
        stage: None,
        straight: None,
        statements: Statements::default(),
        fields: 0,
        absent: Arc::clone(&table.absent),
    };
    let extra = usize::from(plan.mode.is_keyed()) + usize::from(plan.tells_places());
    plan.fields =
        i16::try_from(plan.columns.len() + extra).map_err(|_| misfit("too many columns".to_owned()))?;
    if plan.mode == Mode::Update && (0..plan.columns.len()).all(|at| plan.key.contains(&at)) {
        return Err(misfit("an update needs a column beside its key".to_owned()));
    }
    plan.statements = Statements::new(&plan);
    if table.mode != Mode::Append || plan.columns.iter().any(Column::is_read_by_the_server) {
        let stage = stage::Stage::new(&plan, writer);
        let copy = std::mem::replace(&mut plan.copy, stage.copy.clone());
        plan.stage = Some(stage);
        plan.straight = Straight::new(&plan, copy, table.straight_from);
    }
    Ok((plan, facts))
}

impl Found {
    fn of(row: &Row) -> Self {
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

/// Whether two values are equal to the server if, and only if, their encodings are the same. A modifier may round what
/// is sent, a collation may call different texts equal.
fn is_exact(column: &Column, deterministic: bool) -> bool {
    let (target, id) = (&column.target, column.type_id);
    // The driver names the type beneath a domain.
    let plain = target.ty.oid() == id.oid && target.ty.name() != "citext";
    let sent_as_it_is = if target.ty == Type::BPCHAR {
        column.length.is_some()
    } else {
        id.modifier == -1 || column.length.is_some()
    };
    target.kind.equal_as_bytes() && plain && sent_as_it_is && (target.kind != Kind::Text || deterministic)
}

/// Whether equal values can be told here, by what [`super::sort`] makes of them.
fn is_comparable(column: &Column, deterministic: bool) -> bool {
    let is_numeric = column.target.ty == Type::NUMERIC
        && column.type_id.oid == Type::NUMERIC.oid()
        && column.type_id.modifier == -1;
    is_numeric || is_exact(column, deterministic)
}

/// Whether the server takes every value that was taken here: then one that is overwritten need not be sent. A database
/// that `is_utf8` has all characters.
fn is_checked_here(column: &Column, is_utf8: bool) -> bool {
    let ty = &column.target.ty;
    let plain = ty.oid() == column.type_id.oid && (column.type_id.modifier == -1 || column.length.is_some());
    let text = is_utf8 && ([Type::TEXT, Type::VARCHAR].contains(ty) || column.length.is_some());
    let kind = matches!(
        column.target.kind,
        Kind::Bool
            | Kind::Int2
            | Kind::Int4
            | Kind::Int8
            | Kind::Float4
            | Kind::Float8
            | Kind::Numeric
            | Kind::Bytea
            | Kind::Uuid
            | Kind::Date
            | Kind::Time
            | Kind::Timestamp
            | Kind::Timestamptz
    );
    plain && (text || kind)
}

/// A column's definition, for a stage.
pub(crate) fn definition(column: &Column) -> String {
    let collation = column.collation.as_ref().map(|name| format!(" COLLATE {name}")).unwrap_or_default();
    let sql_type = if column.is_read_by_the_server() { "text" } else { &column.sql_type };
    format!("{} {sql_type}{collation}", quote(&column.name))
}
