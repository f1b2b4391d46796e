//! Which version the tables have, and whether this program can use them.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::list::{OLDEST_USABLE_VERSION, SCHEMA_VERSION};
use crate::error::{Error, ErrorKind, Result};
use crate::schema::SchemaName;

/// What the schema's `meta` row says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchemaVersion {
    /// The database's random id, made by the first migration. Mirrored Kafka commits carry it.
    pub database_id: Uuid,
    /// The version of the last migration applied.
    pub version: i32,
    /// The lowest schema version that a program must know to use these tables.
    pub min_compatible: i32,
}

/// Checks that this program can use the tables of `schema`; a worker calls it before anything else.
///
/// A program knows one schema version N ([`SCHEMA_VERSION`]) and the oldest that it can use
/// ([`OLDEST_USABLE_VERSION`]). Two releases run side by side as long as both find themselves in range:
///
/// | the database says | this program |
/// |---|---|
/// | `version` < oldest usable | stops: run `highwater migrate` |
/// | oldest usable ≤ `version`, and `min_compatible` ≤ N | runs, also on a `version` above N |
/// | N < `min_compatible` | stops: a newer release took something away; upgrade the program |
///
/// # Errors
///
/// [`Schema`](ErrorKind::Schema) when the tables are missing or out of range, [`Privilege`](ErrorKind::Privilege)
/// when the role may not read them, [`Postgres`](ErrorKind::Postgres) when the database can't be asked.
pub async fn check_version(client: &Client, schema: &SchemaName) -> Result<SchemaVersion> {
    let Some(found) = read_version(client, schema).await? else {
        return Err(Error::new(
            ErrorKind::Schema,
            format!(
                "schema `{schema}` of this database has no Highwater tables: run `highwater migrate` as its owner, \
                 or correct the settings `postgres_url` and `schema`"
            ),
        ));
    };
    match too_old(&found, schema).or_else(|| too_new(&found, schema)) {
        Some(error) => Err(error),
        None => Ok(found),
    }
}

/// The error for tables that lack what this program needs.
fn too_old(found: &SchemaVersion, schema: &SchemaName) -> Option<Error> {
    (found.version < OLDEST_USABLE_VERSION).then(|| {
        Error::new(
            ErrorKind::Schema,
            format!(
                "schema `{schema}` has version {}, and this program needs {OLDEST_USABLE_VERSION} at least: \
                 run `highwater migrate` of this release",
                found.version
            ),
        )
    })
}

/// The error for tables that shut this program out.
pub(super) fn too_new(found: &SchemaVersion, schema: &SchemaName) -> Option<Error> {
    (found.min_compatible > SCHEMA_VERSION).then(|| {
        Error::new(
            ErrorKind::Schema,
            format!(
                "schema `{schema}` has version {} and admits programs that know version {} or later; this one knows \
                 {SCHEMA_VERSION}: upgrade it",
                found.version, found.min_compatible
            ),
        )
    })
}

/// Reads the `meta` row; `None` when the table does not exist.
pub(super) async fn read_version(client: &Client, schema: &SchemaName) -> Result<Option<SchemaVersion>> {
    // Asked of the catalogue, which everybody may read: `to_regclass` fails where USAGE on the schema is missing,
    // and a failed SELECT would abort the migrator's transaction.
    if !exists(client, schema, Some("meta")).await? {
        return Ok(None);
    }
    let query = format!("SELECT database_id, version, min_compatible FROM {}", schema.qualified("meta"));
    let row = client.query_opt(&query, &[]).await.map_err(|source| unreadable(source, schema))?;
    let Some(row) = row else {
        return Err(Error::new(
            ErrorKind::Schema,
            format!(
                "table `meta` of schema `{schema}` has lost its row, so the version of the tables is unknown: \
                 restore it from a backup"
            ),
        ));
    };
    let read = || -> Result<SchemaVersion, tokio_postgres::Error> {
        Ok(SchemaVersion {
            database_id: row.try_get(0)?,
            version: row.try_get(1)?,
            min_compatible: row.try_get(2)?,
        })
    };
    read().map(Some).map_err(|source| unreadable(source, schema))
}

/// Whether the schema (or a table in it) exists, readable or not.
pub(super) async fn exists(client: &Client, schema: &SchemaName, table: Option<&str>) -> Result<bool> {
    let query = "SELECT EXISTS (
            SELECT FROM pg_catalog.pg_namespace n
            WHERE n.nspname = $1
              AND ($2::text IS NULL OR EXISTS (
                  SELECT FROM pg_catalog.pg_class c WHERE c.relnamespace = n.oid AND c.relname = $2)))";
    let row = client
        .query_one(query, &[&schema.as_str(), &table])
        .await
        .map_err(|source| Error::postgres(format!("look for schema `{schema}`"), source))?;
    row.try_get(0).map_err(|source| Error::postgres(format!("look for schema `{schema}`"), source))
}

fn unreadable(source: tokio_postgres::Error, schema: &SchemaName) -> Error {
    match source.code() {
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Error::new(
            ErrorKind::Privilege,
            format!(
                "may not read the tables of schema `{schema}`: give the worker's role its rights, \
                 as printed by `highwater migrate --print-grants`"
            ),
        )
        .with_source(source),
        Some(&(SqlState::UNDEFINED_COLUMN | SqlState::UNDEFINED_TABLE)) => Error::new(
            ErrorKind::Schema,
            format!("table `meta` of schema `{schema}` is not Highwater's: choose another schema"),
        )
        .with_source(source),
        _ => Error::postgres(format!("read the version of schema `{schema}`"), source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(version: i32, min_compatible: i32) -> SchemaVersion {
        SchemaVersion { database_id: Uuid::nil(), version, min_compatible }
    }

    #[test]
    fn a_program_runs_exactly_within_its_range() {
        let schema = SchemaName::default();
        let newer = SCHEMA_VERSION + 1;
        for (version, min_compatible, runs) in [
            (OLDEST_USABLE_VERSION, OLDEST_USABLE_VERSION, true),
            (SCHEMA_VERSION, SCHEMA_VERSION, true),
            (newer, SCHEMA_VERSION, true),
            (newer, newer, false),
            (OLDEST_USABLE_VERSION - 1, 0, false),
        ] {
            let found = found(version, min_compatible);
            let error = too_old(&found, &schema).or_else(|| too_new(&found, &schema));
            assert_eq!(error.is_none(), runs, "{found:?}");
            if let Some(error) = error {
                assert!(error.is_schema());
            }
        }
    }

    #[test]
    fn the_errors_say_which_side_to_upgrade() {
        let schema = SchemaName::default();
        let old = too_old(&found(0, 0), &schema).unwrap().to_string();
        assert!(old.contains("highwater migrate"), "{old}");
        let new = too_new(&found(99, 98), &schema).unwrap().to_string();
        assert!(new.contains("upgrade"), "{new}");
    }
}
