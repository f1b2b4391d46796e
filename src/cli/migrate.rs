//! `highwater migrate`.

use std::fmt::Write as _;

use clap::Args;
use highwater::migrate::{
    DEFAULT_OPERATOR, DEFAULT_ROLE, MONITOR_ROLE, Report, Step, fence, grants, migrate, monitor_grants,
    operator_grants, payload_grants, plan, sql,
};
use highwater::{Result, SchemaName};
use serde::Serialize;

use super::operator::json;
use super::{APPLICATION_NAME, DatabaseArguments};

const AFTER_HELP: &str = "\
Run it as the owner of the schema, once per release and before the workers; it may run while
they do. Several at a time are safe: they queue up, and the later ones find nothing to do.

Examples:
  highwater migrate --postgres-url postgres://owner@db/payments
  highwater migrate --dry-run                 # show the statements, change nothing
  highwater migrate --dry-run --json | jq '.steps[].name'
  highwater migrate --print-grants | psql postgres://owner@db/payments
  highwater migrate --print-grants --operator --role ana | psql postgres://owner@db/payments
  highwater migrate --print-grants --role fraud_worker --only-group fraud-rules-v2 | psql …
  highwater migrate --print-grants --operator --payload --role ana \\
    | psql postgres://owner@db/payments
  highwater migrate --print-grants --monitor  # for exporter, dashboard and status";

/// Create Highwater's tables, or bring them up to this release
///
/// Each migration is applied in a transaction of its own, under an advisory lock, together with the new version.
/// Workers have no right to change tables; they check the version when they start.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    #[command(flatten)]
    database: DatabaseArguments,

    /// Print the statements that would run, and change nothing
    #[arg(long, conflicts_with = "print_grants")]
    dry_run: bool,

    /// Print the least GRANTs that a worker's role needs, and change nothing. No database is needed
    #[arg(long)]
    print_grants: bool,

    /// With --print-grants: those of a person who moves and holds groups, instead of a worker's
    #[arg(long, requires = "print_grants", conflicts_with = "monitor")]
    operator: bool,

    /// With --operator: the right to read what is in rejected records, too
    #[arg(long, requires = "operator")]
    payload: bool,

    /// With --print-grants: those of a role that only looks, for the exporter, the dashboard and `highwater status`
    #[arg(long, requires = "print_grants")]
    monitor: bool,

    /// With --print-grants: also what fences the role off from the rows of all other groups; may be repeated
    #[arg(long, value_name = "GROUP", requires = "print_grants")]
    only_group: Vec<String>,

    /// Print JSON: the steps, with --dry-run their statements, too
    #[arg(long, conflicts_with = "print_grants")]
    json: bool,

    /// The role's name, for --print-grants [default: highwater_worker, highwater_operator, highwater_monitor]
    #[arg(long, value_name = "NAME")]
    role: Option<String>,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<String> {
    if arguments.print_grants {
        let (schema, role) = (arguments.schema()?, arguments.role.as_deref());
        let (default, granted): (_, fn(&SchemaName, &str) -> Result<String>) =
            match (arguments.operator, arguments.monitor) {
                (true, _) => (DEFAULT_OPERATOR, operator_grants),
                (_, true) => (MONITOR_ROLE, monitor_grants),
                _ => (DEFAULT_ROLE, grants),
            };
        let role = role.unwrap_or(default);
        let mut text = granted(&schema, role)?;
        if arguments.payload {
            text += &payload_grants(&schema, role)?;
        }
        if !arguments.only_group.is_empty() {
            text = text + "\n" + &fence(&schema, role, &arguments.only_group)?;
        }
        return Ok(text);
    }
    let database = arguments.database.database()?;
    let mut client = database.connect(APPLICATION_NAME).await?;
    let schema = &database.schema;
    let report =
        if arguments.dry_run { plan(&client, schema).await? } else { migrate(&mut client, schema).await? };
    match (arguments.json, arguments.dry_run) {
        (true, dry_run) => json(&Told::new(&report, schema, dry_run)),
        (false, true) => Ok(show_plan(&report, schema)),
        (false, false) => Ok(show_report(&report, schema)),
    }
}

/// As JSON.
#[derive(Debug, Serialize)]
struct Told<'a> {
    schema: &'a str,
    executed: bool,
    /// None: there were no tables.
    from: Option<i32>,
    to: i32,
    steps: Vec<ToldStep>,
}

#[derive(Debug, Serialize)]
struct ToldStep {
    version: i32,
    name: &'static str,
    /// None: they were executed.
    sql: Option<&'static str>,
}

impl<'a> Told<'a> {
    fn new(report: &Report, schema: &'a SchemaName, dry_run: bool) -> Self {
        let step = |step: &Step| ToldStep {
            version: step.version,
            name: step.name,
            sql: sql(*step).filter(|_| dry_run),
        };
        Self {
            schema: schema.as_str(),
            executed: !dry_run,
            from: report.from,
            to: report.to,
            steps: report.steps.iter().map(step).collect(),
        }
    }
}

impl Arguments {
    /// The schema alone: granting is printing, and asks for no address.
    fn schema(&self) -> Result<SchemaName> {
        Ok(self.database.layer()?.given_schema().cloned().unwrap_or_default())
    }
}

fn show_report(report: &Report, schema: &SchemaName) -> String {
    let mut text = String::new();
    for step in &report.steps {
        // Writing to a string can't fail, here and below.
        let _ = writeln!(text, "applied migration {} ({})", step.version, step.name);
    }
    let verb = if report.steps.is_empty() { "is already" } else { "is now" };
    let _ = writeln!(text, "schema {schema} {verb} at version {}", report.to);
    text
}

fn show_plan(report: &Report, schema: &SchemaName) -> String {
    let mut text = String::new();
    if report.steps.is_empty() {
        let _ = writeln!(text, "-- schema {schema} is at version {}: nothing to do", report.to);
        return text;
    }
    let from = report.from.map_or_else(|| "no tables".to_owned(), |version| format!("version {version}"));
    let _ = writeln!(
        text,
        "-- schema {schema} has {from}; to reach version {}, each step in a transaction:",
        report.to
    );
    let _ = writeln!(text, "CREATE SCHEMA IF NOT EXISTS {};", schema.quoted());
    let _ = writeln!(text, "SET search_path TO {};", schema.quoted());
    for step in &report.steps {
        let _ = writeln!(text, "\n-- migration {} ({})", step.version, step.name);
        text.push_str(sql(*step).unwrap_or_default());
    }
    text
}
