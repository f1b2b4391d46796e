//! Highwater's tables: creating them, bringing them up to date, and checking that they fit this program.
//!
//! `highwater migrate` runs [`migrate`] as the schema's owner, once per release. Workers run under a role without
//! DDL rights (see [`grants`]) and call [`check_version`] at their start.
//!
//! Every migration runs in a transaction of its own, which also moves the version in `meta`: it is either applied
//! and recorded, or neither. An advisory lock keyed by the schema's name makes concurrent migrators queue up, and
//! each looks again at the version once it holds the lock, so the later ones find nothing to do.

mod grants;
mod list;
mod version;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Transaction};

pub(crate) use self::grants::needed;
pub use self::grants::{
    DEFAULT_OPERATOR, DEFAULT_ROLE, MONITOR_ROLE, fence, grants, monitor_grants, operator_grants,
    payload_grants,
};
pub use self::list::{OLDEST_USABLE_VERSION, SCHEMA_VERSION};
pub use self::version::{SchemaVersion, check_version};

use self::list::{MIGRATIONS, Migration};
use self::version::{exists, read_version, too_new};
use crate::error::{Error, ErrorKind, Result};
use crate::schema::SchemaName;

/// How long a migrator waits for another one, or for a table that workers hold. Bounded, because what waits for an
/// exclusive lock holds up everybody behind it.
const LOCK_TIMEOUT: &str = "60s";

/// One migration, as reports and plans name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// The version that the schema has after it.
    pub version: i32,
    /// The migration's short name.
    pub name: &'static str,
}

/// What [`migrate`] did, or what [`plan`] says it would do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The version found; `None` when there were no tables yet.
    pub from: Option<i32>,
    /// The version that the schema has after the steps.
    pub to: i32,
    /// The steps applied (or to be applied), in order; empty when everything is up to date.
    pub steps: Vec<Step>,
}

/// Creates the schema and its tables, or brings them up to this program's version. Running it again changes nothing.
///
/// Needs a role that owns the schema's tables, or, the first time, may create the schema. A schema made beforehand
/// by somebody else is used as it is, so the right to create schemas in the database is not needed then.
///
/// # Errors
///
/// [`Privilege`](ErrorKind::Privilege) when the role may not; [`Schema`](ErrorKind::Schema) when the tables belong to
/// a newer program that excludes this one, or when foreign tables stand in the way;
/// [`Postgres`](ErrorKind::Postgres) for the rest. What earlier steps committed stays.
///
/// # Cancel safety
///
/// Safe: a step that did not commit is rolled back, and the next run continues.
pub async fn migrate(client: &mut Client, schema: &SchemaName) -> Result<Report> {
    let mut report = Report { from: None, to: 0, steps: Vec::new() };
    for (index, migration) in MIGRATIONS.iter().enumerate() {
        let before = apply(client, schema, migration).await?;
        if index == 0 {
            report.from = before;
        }
        if before.is_none_or(|version| version < migration.version) {
            report.steps.push(migration.step());
            tracing::info!(schema = %schema, version = migration.version, name = migration.name, "migration applied");
        }
        report.to = before.unwrap_or(0).max(migration.version);
    }
    Ok(report)
}

/// What [`migrate`] would do, without doing it. Reads only.
///
/// # Errors
///
/// As [`migrate`], as far as reading can tell.
pub async fn plan(client: &Client, schema: &SchemaName) -> Result<Report> {
    let found = read_version(client, schema).await?;
    if let Some(found) = &found
        && let Some(error) = too_new(found, schema)
    {
        return Err(error);
    }
    let from = found.map(|found| found.version);
    let steps: Vec<Step> = MIGRATIONS
        .iter()
        .filter(|migration| from.is_none_or(|version| version < migration.version))
        .map(Migration::step)
        .collect();
    Ok(Report { from, to: from.unwrap_or(0).max(SCHEMA_VERSION), steps })
}

/// The statements of one step of a [`Report`], for people who want to read them first.
#[must_use]
pub fn sql(step: Step) -> Option<&'static str> {
    MIGRATIONS.iter().find(|migration| migration.version == step.version).map(|migration| migration.sql)
}

/// Applies one migration, unless the schema is already there; returns the version found.
async fn apply(client: &mut Client, schema: &SchemaName, migration: &Migration) -> Result<Option<i32>> {
    let failed = |source| failure(source, schema, migration);
    let transaction = client.transaction().await.map_err(failed)?;
    lock(&transaction, schema).await.map_err(failed)?;
    let found = read_version(transaction.client(), schema).await?;
    if let Some(found) = &found
        && let Some(error) = too_new(found, schema)
    {
        return Err(error);
    }
    let found = found.map(|found| found.version);
    if found.is_some_and(|version| version >= migration.version) {
        return Ok(found);
    }
    if !exists(transaction.client(), schema, None).await? {
        // `IF NOT EXISTS` alone would ask for the right to create schemas even where ours is already there.
        let create = format!("CREATE SCHEMA IF NOT EXISTS {}", schema.quoted());
        transaction.batch_execute(&create).await.map_err(failed)?;
    }
    let search_path = format!("SET LOCAL search_path TO {}", schema.quoted());
    transaction.batch_execute(&search_path).await.map_err(failed)?;
    transaction.batch_execute(migration.sql).await.map_err(failed)?;
    let record = format!(
        "INSERT INTO {} (version, min_compatible) VALUES ($1, $2) \
         ON CONFLICT (singleton) DO UPDATE SET version = $1, min_compatible = $2, migrated_at = now()",
        schema.qualified("meta"),
    );
    transaction.execute(&record, &[&migration.version, &migration.min_compatible]).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)?;
    Ok(found)
}

/// Takes the migrators' lock until the transaction ends. Advisory locks are per database, so the key is the schema.
async fn lock(transaction: &Transaction<'_>, schema: &SchemaName) -> Result<(), tokio_postgres::Error> {
    transaction.batch_execute(&format!("SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")).await?;
    let key = format!("highwater migrate {schema}");
    transaction.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", &[&key]).await?;
    Ok(())
}

/// Says which migration failed, and tells an obstacle in the schema from an outage.
fn failure(source: tokio_postgres::Error, schema: &SchemaName, migration: &Migration) -> Error {
    let attempt = format!("apply migration {} ({}) to schema `{schema}`", migration.version, migration.name);
    let in_the_way = [&SqlState::DUPLICATE_TABLE, &SqlState::DUPLICATE_OBJECT, &SqlState::DUPLICATE_DATABASE];
    match source.code() {
        Some(code) if in_the_way.contains(&code) => Error::new(
            ErrorKind::Schema,
            format!(
                "could not {attempt}: an object of the same name is there and is not Highwater's; \
                 choose another schema"
            ),
        )
        .with_source(source),
        Some(&SqlState::LOCK_NOT_AVAILABLE) => Error::new(
            ErrorKind::Postgres,
            format!(
                "could not {attempt}: another migrator or a long transaction held a lock for {LOCK_TIMEOUT}; \
                 look for it in pg_stat_activity and run the command again"
            ),
        )
        .with_source(source),
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Error::new(
            ErrorKind::Privilege,
            format!("could not {attempt}: run it as the schema's owner, not as the workers' role"),
        )
        .with_source(source),
        _ => Error::postgres(attempt, source),
    }
}
