//! `highwater run`, `highwater test` and `highwater schema`: the no-code sink.

mod plan;

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use highwater::pipeline::{Pipeline, json_schema};
use highwater::{PartialConfig, Result};

use super::found;

const RUN_HELP: &str = "\
The file says which topics go into which tables; docs/pipeline.md has it whole, and `highwater schema`
prints its JSON Schema for editors. Its settings are those of docs/configuration.md; environment
variables (HIGHWATER_POSTGRES_URL, ...) go before them. The process is a worker like any other: start as
many as you like, stop them with SIGTERM, watch them with `highwater status`.

  brokers = [\"kafka-1:9092\"]
  group = \"payments-v1\"
  start = \"earliest\"

  [[sink]]
  topic = \"payments\"
  table = \"payments\"
  columns = { id = \"value.id\", amount = \"value.amount\", paid_at = { from = \"value.ts\", unit = \"ms\" } }

Examples:
  highwater run --check pipeline.toml
  # What would become of the next 100 records? Rows are tried in the tables, and rolled back
  highwater run --plan --records 100 pipeline.toml
  HIGHWATER_POSTGRES_URL=postgres://worker@db/payments highwater run pipeline.toml";

/// Run a pipeline: topics into tables, by a file, exactly once
///
/// Rows and offsets are committed in one Postgres transaction, over all tables of the file. The tables are there already
/// (or the file says `evolve`), and Highwater's own (`highwater migrate`).
#[derive(Debug, Args)]
#[command(after_help = RUN_HELP)]
pub(super) struct RunArguments {
    /// The pipeline's file, in TOML, or in YAML if its name ends with .yaml or .yml
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Only check the file and the settings, and run its tests; nothing is connected to
    #[arg(long)]
    check: bool,

    /// Read some records, try their rows in the tables, and roll that back: what would become of them?
    ///
    /// Shows, table by table, how many become rows, and the first of them; every record that is rejected, and why; and what
    /// the database lacks. Exit code 1 if there is any of that. Nothing is written, and no group is joined; but values of
    /// records are shown, sequences move, and what triggers do outside of the database stays done.
    #[arg(long, conflicts_with = "check")]
    plan: bool,

    /// With --plan: how many records of each table's topics
    #[arg(long, value_name = "N", default_value_t = 100, requires = "plan", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    records: u16,

    /// With --plan: print JSON; its shape is in docs/command.md
    #[arg(long, requires = "plan")]
    json: bool,
}

impl RunArguments {
    /// Whether it goes on to work.
    pub(super) fn works(&self) -> bool {
        !self.check && !self.plan
    }
}

const TEST_HELP: &str = "\
A test is a record, and what is to become of it:

  [[test]]
  name = \"a payment\"
  value = '{\"id\": \"t-1\", \"amount\": 9.90, \"ts\": 1790000000000}'
  rows.payments = [{ id = \"t-1\", amount = \"9.90\", paid_at = 2026-09-21T14:13:20Z }]

Columns that are left out are expected to be NULL. A string is compared with a number's digits as they
stand. `deletes.TABLE`, `rejects = \"words of the reason\"` and `nothing = true` say what else may come of it.
No server is asked: whether a value fits its column is the table's to say.

Examples:
  highwater test pipeline.toml";

/// Run the tests that are in a pipeline's file
///
/// Exit code 1 if one fails. Nothing is connected to.
#[derive(Debug, Args)]
#[command(after_help = TEST_HELP)]
pub(super) struct TestArguments {
    /// The pipeline's file, in TOML, or in YAML if its name ends with .yaml or .yml
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

const SCHEMA_HELP: &str = "\
Editors that know it complete and check a pipeline's file while it is written: name it in the first line,
#:schema ./pipeline.schema.json, or in the editor's settings.

Examples:
  highwater schema > pipeline.schema.json";

/// Print the JSON Schema of a pipeline's file, for editors
#[derive(Debug, Args)]
#[command(after_help = SCHEMA_HELP)]
pub(super) struct SchemaArguments {}

/// How long a plan waits for Kafka to say which topics there are, and for a schema registry to tell of columns.
const ASKING: std::time::Duration = std::time::Duration::from_secs(20);

pub(super) async fn run(arguments: &RunArguments) -> Result<String> {
    let mut pipeline = Pipeline::from_file(&arguments.file)?;
    let settings = PartialConfig::from_env()?;
    if arguments.plan {
        pipeline.worker(settings.clone())?;
        pipeline.learn_topics(settings, Some(ASKING)).await?;
        pipeline.learn_within(ASKING).await?;
        return plan::run(&pipeline, arguments.records.into(), arguments.json).await;
    }
    if !arguments.check {
        // What is wrong with the settings is found before anything is connected to.
        pipeline.worker(settings.clone())?;
        let ended = pipeline.run(settings).await;
        if let Some(ddl) = pipeline.missing_ddl() {
            super::print(ddl);
        }
        return ended.map(|()| String::new());
    }
    pipeline.worker(settings)?;
    let mut text = String::new();
    for sink in pipeline.summary() {
        let columns =
            sink.columns.map_or("the columns of its schema".to_owned(), |count| format!("{count} columns"));
        // Writing to a string can't fail.
        let _ = writeln!(text, "{} into {} ({columns})", sink.topics.join(", "), sink.table);
    }
    let tested = tests(&pipeline)?;
    Ok(format!("{text}{tested}"))
}

pub(super) fn test(arguments: &TestArguments) -> Result<String> {
    let pipeline = Pipeline::from_file(&arguments.file)?;
    let tested = tests(&pipeline)?;
    Ok(if tested.is_empty() { "the file has no [[test]]\n".to_owned() } else { tested })
}

pub(super) fn schema() -> Result<String> {
    super::operator::json(&json_schema())
}

/// A line for each; exit code 1 if one fails.
fn tests(pipeline: &Pipeline) -> Result<String> {
    let (mut text, mut failed) = (String::new(), 0);
    let results = pipeline.test();
    for result in &results {
        let verdict = if result.differences.is_empty() { "ok    " } else { "FAILED" };
        let _ = writeln!(text, "{verdict} {}", result.name);
        for difference in &result.differences {
            let _ = writeln!(text, "       {difference}");
        }
        failed += usize::from(!result.differences.is_empty());
    }
    if failed > 0 {
        return Err(found(&text, format!("{failed} of {} tests failed", results.len())));
    }
    Ok(text)
}
