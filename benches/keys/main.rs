//! Upserts of a hot key: what the type of the key costs, beside `text`.
//!
//! ```text
//! cargo bench --bench keys
//! ```

#[path = "../support/support.rs"]
mod support;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use highwater::testing::{Database, Postgres, Rehearsal};
use highwater::{Table, TableSink};

use support::servers::POSTGRES_SETTINGS;
use support::{Result, options::Options, stats};

const HELP: &str = "\
Measures how long the table sink takes to upsert records that all have one key, in one batch, by the type of the key:
where equal keys need not be equal bytes (numeric, citext, a collation that ignores case), only the server knows which
records are of one key.

Usage: cargo bench --bench keys -- [options]

Starts a real Postgres. Each record is JSON with the key and a number; afterwards the table must hold one row, with the
number of the last. Every round takes all types in turn; a ratio is to `text` in the same round.

  --records N     how many records of one key (50,000)
  --rounds N      how many rounds (5)
  --quick         two rounds
  --only LIST     these types only, separated by commas; `text` is always measured";

/// A type, and texts that are one key in it.
struct Key {
    name: &'static str,
    column: &'static str,
    spellings: &'static [&'static str],
}

const fn key(name: &'static str, column: &'static str, spellings: &'static [&'static str]) -> Key {
    Key { name, column, spellings }
}

const KEYS: &[Key] = &[
    key("text", "text", &[r#""acc-00042""#]),
    key("varchar", "varchar(40)", &[r#""acc-00042""#]),
    key("char", "char(12)", &[r#""acc-00042""#, r#""acc-00042 ""#]),
    key("int8", "int8", &["42"]),
    key("numeric", "numeric", &["42.1", "42.10", "42.100"]),
    key("float8", "float8", &["42.5"]),
    key(
        "uuid",
        "uuid",
        &[r#""6ba7b810-9dad-11d1-80b4-00c04fd430c8""#, r#""6BA7B810-9DAD-11D1-80B4-00C04FD430C8""#],
    ),
    key("timestamptz", "timestamptz", &[r#""2026-04-25T03:00:00Z""#, r#""2026-04-25T05:00:00+02:00""#]),
    key("date", "date", &[r#""2026-04-25""#]),
    key("bytea", "bytea", &[r#""\\x00ff""#]),
    key("citext", "citext", &[r#""acc-00042""#, r#""ACC-00042""#]),
    key("text, case ignored", "text COLLATE ignoring_case", &[r#""acc-00042""#, r#""ACC-00042""#]),
    key("int4range", "int4range", &[r#""[1,5)""#, r#""[1,4]""#]),
];

/// What the types need.
const SCHEMA: &str = "\
    CREATE EXTENSION IF NOT EXISTS citext; \
    CREATE COLLATION ignoring_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);";

fn main() -> ExitCode {
    support::run(HELP, benchmark)
}

async fn benchmark(options: Options) -> Result {
    let records = options.number("records", 50_000)?;
    let rounds = options.number("rounds", if options.flag("quick") { 2 } else { 5 })?;
    let only: Option<Vec<&str>> = options.value("only").map(|list| list.split(',').collect());
    if let Some(name) = only.iter().flatten().find(|name| !KEYS.iter().any(|key| key.name == **name)) {
        let known: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
        return Err(format!("--only: {name:?} is none of {}", known.join(", ")).into());
    }
    let is_meant =
        |key: &&Key| key.name == "text" || only.as_ref().is_none_or(|only| only.contains(&key.name));
    let postgres = Postgres::start_with(POSTGRES_SETTINGS).await?;
    let database = postgres.fresh_database("keys").await?;
    database.execute(SCHEMA).await?;
    let rehearsal = Rehearsal::new(&database).await?;
    let mut took: Vec<(&Key, Vec<f64>)> = KEYS.iter().filter(is_meant).map(|key| (key, Vec::new())).collect();
    for round in 1..=rounds {
        println!("round {round} of {rounds} …");
        for (key, seconds) in &mut took {
            seconds.push(upsert(&database, &rehearsal, key, records).await?.as_secs_f64());
        }
    }
    println!("\n| key | ms for {records} records of one key | ÷ text | rounds |\n|---|---|---|---|");
    let text = took[0].1.clone();
    for (key, seconds) in &took {
        let ratios: Vec<f64> = seconds.iter().zip(&text).map(|(seconds, text)| seconds / text).collect();
        let shown: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
        println!(
            "| `{}` | {:.0} | {:.2} | {} |",
            key.name,
            1_000.0 * stats::median(seconds),
            stats::median(&ratios),
            shown.join(", ")
        );
    }
    Ok(())
}

/// One batch of it, into an empty table.
async fn upsert(database: &Database, rehearsal: &Rehearsal, key: &Key, records: u64) -> Result<Duration> {
    let Key { name, column, spellings } = key;
    database
        .execute(&format!(
            "DROP TABLE IF EXISTS hot; CREATE TABLE hot (id {column} PRIMARY KEY, n int8 NOT NULL)"
        ))
        .await?;
    let values: Vec<String> = (1..=records)
        .zip(spellings.iter().cycle())
        .map(|(n, id)| format!(r#"{{"id":{id},"n":{n}}}"#))
        .collect();
    let records: Vec<(Option<&str>, Option<&str>)> =
        values.iter().map(|value| (None, Some(&**value))).collect();
    let sink = TableSink::json(Table::upsert("hot", ["id", "n"]));
    // The sink looks at its table with the first batch of all.
    rehearsal.apply(&sink, &records[..1], &[]).await?;
    let began = Instant::now();
    let outcome = rehearsal.apply(&sink, &records, &[]).await?;
    let took = began.elapsed();
    let rows = database.query("SELECT count(*), max(n) FROM hot", &[]).await?;
    let (count, last): (i64, i64) = (rows[0].get(0), rows[0].get(1));
    if outcome.applied != records.len() || count != 1 || usize::try_from(last) != Ok(records.len()) {
        return Err(format!("{name}: {count} rows, the last is {last}: {outcome:?}").into());
    }
    Ok(took)
}
