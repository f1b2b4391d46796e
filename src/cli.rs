//! The command line: arguments in, exit code out. What the commands do is in the library.

mod completions;
mod confirm;
mod csv;
mod dashboard;
mod dead_letters;
mod doctor;
mod exporter;
mod import_connect;
mod infer;
mod instant;
mod man;
mod migrate;
mod offsets;
mod operator;
mod partitions;
mod pipeline;
mod probe;
mod progress;
mod reconcile;
mod report;
mod status;
mod table;
mod tail;
mod watch;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::env::CompleteEnv;
use highwater::config::DatabaseConfig;
use highwater::{Error, ErrorKind, PartialConfig, Result, log, migrate as schema};

/// By which the database's administrators know the command.
const APPLICATION_NAME: &str = "highwater command";

const AFTER_HELP: &str = "\
Settings come from flags, then from the environment (HIGHWATER_POSTGRES_URL, HIGHWATER_SCHEMA,
...), then from the TOML file that HIGHWATER_CONFIG names. HIGHWATER_LOG (or RUST_LOG) sets the
log filter, such as `debug`; HIGHWATER_LOG_FORMAT=json writes one object a line.

Exit codes:
  0   ok
  1   a check found a difference
  2   usage or configuration
  3   the database's schema is missing or does not fit this program
  4   start policy or guard
  5   authentication or privilege
  70  anything else, such as an unreachable database

Examples:
  # Is everything well? Exit code 1 if not
  highwater status

  # What is wrong around it, and what to do about that?
  highwater doctor --quiet

  # Create or update Highwater's tables, as the owner of the schema
  highwater migrate --postgres-url postgres://owner@db/payments

  # Give the workers' role what it needs, and no more
  highwater migrate --print-grants --role fraud_worker | psql postgres://owner@db/payments

  # Topics into tables, by a file of fifteen lines (docs/pipeline.md)
  highwater run pipeline.toml

  # Where does a group stand, and who holds its partitions?
  highwater offsets describe --group fraud-rules-v2

  # What would a replay of the last hour do? Nothing is moved
  highwater offsets reset --group fraud-rules-v2 --all-topics --by-duration PT1H --dry-run

  # Which records were rejected and stored, and why?
  highwater dead-letters list --group fraud-rules-v2

  # Is anything missing, or there twice? Reads the topics again
  highwater reconcile --group fraud-rules-v2 --deep

  # Which partition, is capacity short, is somebody wedged: in a browser
  highwater dashboard

  # Hold a partition, while the others run
  highwater partitions pause --group fraud-rules-v2 --topic payments:3 --reason 'INC-812'";

/// Exactly-once Kafka to Postgres: rows and offsets in one transaction.
///
/// Workers are programs of yours that use the library; this command prepares the database for them, shows what they
/// have recorded there, and moves it. The offsets in Postgres are the truth: what Kafka's own tools show is a copy that
/// is about a second old.
#[derive(Debug, Parser)]
#[command(name = "highwater", version, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Migrate(migrate::Arguments),
    Run(pipeline::RunArguments),
    Test(pipeline::TestArguments),
    Schema(pipeline::SchemaArguments),
    ImportConnect(import_connect::Arguments),
    Infer(infer::Arguments),
    Offsets(offsets::Arguments),
    Partitions(partitions::Arguments),
    DeadLetters(dead_letters::Arguments),
    Status(status::Arguments),
    Doctor(doctor::Arguments),
    Report(report::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
    Reconcile(reconcile::Arguments),
    Tail(tail::Arguments),
    Exporter(exporter::Arguments),
    Dashboard(dashboard::Arguments),
    Probe(probe::Arguments),
    /// Show the versions of this program, of the schema that it knows, and of the Kafka client in it
    Version {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Where the database is: the same for every command.
#[derive(Debug, Args)]
struct DatabaseArguments {
    /// The database: postgres://user@host:5432/database [env: HIGHWATER_POSTGRES_URL]
    ///
    /// A password on the command line can be seen by others on the machine: better use the environment.
    #[arg(long, value_name = "URL")]
    postgres_url: Option<String>,

    /// The schema of Highwater's tables [env: HIGHWATER_SCHEMA] [default: highwater]
    #[arg(long, value_name = "NAME")]
    schema: Option<String>,
}

impl DatabaseArguments {
    /// Flags over environment over file.
    fn layer(&self) -> Result<PartialConfig> {
        let flags = [("postgres_url", &self.postgres_url), ("schema", &self.schema)];
        let given = flags.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
        Ok(PartialConfig::from_flags(given)?.or(PartialConfig::from_env()?))
    }

    fn database(&self) -> Result<DatabaseConfig> {
        self.layer()?.finish_database()
    }
}

/// Runs the command that the arguments name.
pub(crate) fn main() -> ExitCode {
    // When a shell asks for completions, it answers and ends here.
    CompleteEnv::with_factory(command).var(completions::VARIABLE).complete();
    let arguments = Arguments::parse();
    // Logs to standard error, so that standard output stays fit for pipes. Kept to the end, for its last spans.
    let filter = if matches!(&arguments.command, Command::Run(run) if run.works()) { "info" } else { "warn" };
    let _logs = match log::Options::default().filter(filter).stderr().service("highwater-command").init() {
        Ok(logs) => logs,
        Err(error) => {
            eprintln!("error: {}", error.report());
            return ExitCode::from(error.exit_code());
        }
    };
    match run(&arguments) {
        Ok(text) => print(&text),
        Err(error) => {
            eprintln!("error: {}", error.report());
            ExitCode::from(error.exit_code())
        }
    }
}

/// All verbs and flags, with the names that Tab completes.
fn command() -> clap::Command {
    completions::with_names(Arguments::command())
}

fn run(arguments: &Arguments) -> Result<String> {
    let mut runtime = match arguments.command {
        Command::Run(_) => tokio::runtime::Builder::new_multi_thread(),
        // One connection and nothing to do beside it: threads of our own would be idle.
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = runtime.enable_all().build().map_err(|source| {
        Error::new(ErrorKind::Internal, "could not start the async runtime").with_source(source)
    })?;
    runtime.block_on(async {
        match &arguments.command {
            Command::Migrate(arguments) => migrate::run(arguments).await,
            Command::Run(arguments) => pipeline::run(arguments).await,
            Command::Test(arguments) => pipeline::test(arguments),
            Command::Schema(_) => pipeline::schema(),
            Command::ImportConnect(arguments) => import_connect::run(arguments),
            Command::Infer(arguments) => infer::run(arguments).await,
            Command::Offsets(arguments) => offsets::run(arguments).await,
            Command::Partitions(arguments) => partitions::run(arguments).await,
            Command::DeadLetters(arguments) => dead_letters::run(arguments).await,
            Command::Status(arguments) => status::run(arguments).await,
            Command::Doctor(arguments) => doctor::run(arguments).await,
            Command::Report(arguments) => report::run(arguments).await,
            Command::Completions(arguments) => completions::run(arguments, command()),
            Command::Man(arguments) => man::run(arguments, command()),
            Command::Reconcile(arguments) => reconcile::run(arguments).await,
            Command::Tail(arguments) => tail::run(arguments).await,
            Command::Exporter(arguments) => exporter::run(arguments).await,
            Command::Dashboard(arguments) => dashboard::run(arguments).await,
            Command::Probe(arguments) => probe::run(arguments).await,
            Command::Version { json: true } => operator::json(&versions()),
            Command::Version { json: false } => Ok(version()),
        }
    })
}

/// As JSON.
#[derive(Debug, serde::Serialize)]
struct Versions {
    highwater: &'static str,
    schema: i32,
    oldest_usable_schema: i32,
    librdkafka: String,
}

fn versions() -> Versions {
    Versions {
        highwater: env!("CARGO_PKG_VERSION"),
        schema: schema::SCHEMA_VERSION,
        oldest_usable_schema: schema::OLDEST_USABLE_VERSION,
        librdkafka: rdkafka::util::get_rdkafka_version().1,
    }
}

fn version() -> String {
    let Versions { highwater, schema, oldest_usable_schema, librdkafka } = versions();
    format!(
        "highwater {highwater}\nschema {schema} (works from {oldest_usable_schema} on)\nlibrdkafka {librdkafka}\n"
    )
}

/// Prints what a check has found; the error ends the command with exit code 1.
fn found(text: &str, what: impl Into<String>) -> Error {
    print(text);
    Error::new(ErrorKind::Difference, what)
}

/// Prints the answer. A reader that went away (`| head`) is no error.
fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("error: could not write the answer: {error}");
            ExitCode::from(ErrorKind::Internal.exit_code())
        }
        _ => ExitCode::SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn flags_reach_the_settings() {
        let flags = DatabaseArguments {
            postgres_url: Some("postgres://owner@db/payments".to_owned()),
            schema: Some("team a".to_owned()),
        };
        let database = flags.database().unwrap();
        assert_eq!(database.postgres_url.to_string(), "postgres://owner@db:5432/payments");
        assert_eq!(database.schema.as_str(), "team a");
    }
}
