//! What the catalogue has.

use std::fmt;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::sql_type::{self, TypeId};
use super::{Job, Wanted, failed};
use crate::error::Result;
use crate::pipeline::file::Evolve;
use crate::sink::quote;

/// A table's name as this session reads it, and who writes it. The last look for a name without a schema is for where a
/// new table would be put.
const PLACE: &str = "\
    WITH named AS (SELECT pg_catalog.parse_ident($1)::pg_catalog.name[]::pg_catalog.text[] AS parts) \
    SELECT CASE WHEN pg_catalog.cardinality(parts) > 1 THEN parts[pg_catalog.cardinality(parts) - 1] \
        ELSE coalesce((SELECT n.nspname::pg_catalog.text FROM pg_catalog.pg_class AS c \
                JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
                WHERE c.oid = pg_catalog.to_regclass($1)), \
            pg_catalog.current_schema()::pg_catalog.text) END, \
        parts[pg_catalog.cardinality(parts)], current_user::pg_catalog.text FROM named";

const TABLE: &str = "\
    SELECT has_schema_privilege($3::name, n.oid, 'USAGE'), c.oid, c.relkind::text, \
        coalesce(has_table_privilege($3::name, c.oid, 'INSERT'), false), \
        coalesce(has_table_privilege($3::name, c.oid, 'UPDATE'), false), \
        coalesce(has_table_privilege($3::name, c.oid, 'SELECT'), false), \
        coalesce(has_table_privilege($3::name, c.oid, 'DELETE'), false) \
    FROM pg_namespace AS n LEFT JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = $2::text::name \
    WHERE n.nspname = $1::text::name";

const COLUMNS: &str = "\
    SELECT a.attname::text, a.atttypid, a.atttypmod, format_type(a.atttypid, a.atttypmod), \
        a.attnotnull AND NOT a.atthasdef AND a.attidentity = '', a.attgenerated <> '', \
        has_column_privilege($2::name, a.attrelid, a.attnum, 'INSERT'), \
        has_column_privilege($2::name, a.attrelid, a.attnum, 'UPDATE'), \
        has_column_privilege($2::name, a.attrelid, a.attnum, 'SELECT') \
    FROM pg_attribute AS a WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

/// Those by which an upsert can find rows; the primary key first.
const KEYS: &str = "\
    SELECT ARRAY(SELECT a.attname::text \
        FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) WITH ORDINALITY AS k (number, place) \
        JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number ORDER BY k.place) \
    FROM pg_index AS i WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indisready AND i.indimmediate \
        AND i.indexprs IS NULL AND i.indpred IS NULL ORDER BY i.indisprimary DESC, i.indexrelid";

const TYPE_NAMES: &str = "\
    SELECT format_type(t.oid, t.modifier) \
    FROM unnest($1::oid[], $2::int4[]) WITH ORDINALITY AS t (oid, modifier, place) ORDER BY t.place";

/// Where a table is, or would be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) schema: String,
    pub(super) table: String,
}

impl Place {
    /// Quoted and qualified.
    pub(super) fn sql(&self) -> String {
        format!("{}.{}", quote(&self.schema), quote(&self.table))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// What is wanted, with the names that the worker's session reads.
#[derive(Debug)]
pub(super) struct Wants<'a> {
    pub(super) evolve: Evolve,
    pub(super) wanted: &'a Wanted,
    pub(super) place: Place,
    /// Of each column.
    pub(super) types: Vec<Option<TypeId>>,
    /// The role that writes rows.
    pub(super) writer: String,
}

/// What is there.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// None: no such schema. Else whether the writer may use it.
    pub(super) schema: Option<bool>,
    pub(super) table: Option<FoundTable>,
    /// Of each wanted column: its type in the server's words, qualified.
    pub(super) type_names: Vec<Option<String>>,
}

#[derive(Debug)]
pub(super) struct FoundTable {
    pub(super) kind: String,
    pub(super) rights: Rights,
    pub(super) columns: Vec<FoundColumn>,
    pub(super) keys: Vec<Vec<String>>,
}

/// The writer's, to a table, or a column.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rights {
    pub(super) insert: bool,
    pub(super) update: bool,
    pub(super) select: bool,
    pub(super) delete: bool,
}

#[derive(Debug)]
pub(super) struct FoundColumn {
    pub(super) name: String,
    pub(super) id: TypeId,
    pub(super) type_name: String,
    /// NOT NULL without a default.
    pub(super) required: bool,
    pub(super) generated: bool,
    pub(super) rights: Rights,
}

impl FoundTable {
    pub(super) fn column(&self, name: &str) -> Option<&FoundColumn> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// Reads the names that a job has. `Err` inside: what none of them means, in words.
///
/// # Errors
/// If the server does not answer.
pub(super) async fn resolve<'a>(job: &'a Job, look: &Client) -> Result<Result<Wants<'a>, Vec<String>>> {
    let wanted = &job.wanted;
    let row = match look.query_one(PLACE, &[&wanted.table]).await {
        Ok(row) => row,
        Err(error) => match error.code() {
            Some(&SqlState::INVALID_PARAMETER_VALUE | &SqlState::INVALID_NAME | &SqlState::SYNTAX_ERROR) => {
                let what = "is no table's name as SQL reads it: quote what is not in lower case, \"Orders\"";
                return Ok(Err(vec![format!("table {}: {what}", wanted.table)]));
            }
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
                let what = "this role may not use its schema: GRANT USAGE ON SCHEMA … TO it";
                return Ok(Err(vec![format!("table {}: {what}", wanted.table)]));
            }
            _ => return Err(failed("look up a table", error)),
        },
    };
    let (Some(schema), table, writer): (Option<String>, String, String) =
        (row.get(0), row.get(1), row.get(2))
    else {
        let what = "no schema of the role's search_path exists: name the table's schema";
        return Ok(Err(vec![format!("table {}: {what}", wanted.table)]));
    };
    let (mut types, mut unknown) = (Vec::new(), Vec::new());
    for column in &wanted.columns {
        types.push(match &column.sql_type {
            None => None,
            Some(text) => match sql_type::resolve(text, look).await? {
                Ok(id) => Some(id),
                Err(what) => {
                    unknown.push(format!("table {}, column {}: {what}", wanted.table, column.name));
                    None
                }
            },
        });
    }
    if !unknown.is_empty() {
        return Ok(Err(unknown));
    }
    Ok(Ok(Wants { evolve: job.evolve, wanted, place: Place { schema, table }, types, writer }))
}

/// Reads the catalogue in a transaction of its own.
///
/// # Errors
/// If the server does not answer.
pub(super) async fn read(wants: &Wants<'_>, client: &Client) -> Result<Found> {
    let asked = async {
        client.batch_execute("BEGIN READ ONLY").await?;
        let found = read_within(wants, client).await;
        client.batch_execute("ROLLBACK").await?;
        found
    };
    asked.await.map_err(|error| failed(&format!("read the catalogue for table {}", wants.place), error))
}

/// Reads the catalogue in the transaction that is open. The search path is empty afterwards, until it ends: so names of
/// types are qualified, and no name in these statements means something of a user's.
pub(super) async fn read_within(wants: &Wants<'_>, client: &Client) -> Result<Found, tokio_postgres::Error> {
    client.batch_execute("SET LOCAL search_path = pg_catalog").await?;
    let known: Vec<TypeId> = wants.types.iter().flatten().copied().collect();
    let oids: Vec<u32> = known.iter().map(|id| id.oid).collect();
    let modifiers: Vec<i32> = known.iter().map(|id| id.modifier).collect();
    let names = client.query(TYPE_NAMES, &[&oids, &modifiers]).await?;
    let mut names = names.iter().map(|row| row.get::<_, String>(0));
    let type_names = wants.types.iter().map(|id| id.and_then(|_| names.next())).collect();
    let Place { schema, table } = &wants.place;
    let Some(row) = client.query_opt(TABLE, &[schema, table, &wants.writer]).await? else {
        return Ok(Found { type_names, ..Found::default() });
    };
    let schema = Some(row.get(0));
    let Some(oid) = row.get::<_, Option<u32>>(1) else {
        return Ok(Found { schema, table: None, type_names });
    };
    let rights = Rights { insert: row.get(3), update: row.get(4), select: row.get(5), delete: row.get(6) };
    let columns = client.query(COLUMNS, &[&oid, &wants.writer]).await?;
    let columns = columns.iter().map(|row| FoundColumn {
        name: row.get(0),
        id: TypeId { oid: row.get(1), modifier: row.get(2) },
        type_name: row.get(3),
        required: row.get(4),
        generated: row.get(5),
        rights: Rights { insert: row.get(6), update: row.get(7), select: row.get(8), delete: false },
    });
    let keys = client.query(KEYS, &[&oid]).await?;
    let table = FoundTable {
        kind: row.get(2),
        rights,
        columns: columns.collect(),
        keys: keys.iter().map(|row| row.get(0)).collect(),
    };
    Ok(Found { schema, table: Some(table), type_names })
}
