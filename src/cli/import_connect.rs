//! `highwater import-connect`.

use std::io::Read as _;
use std::path::PathBuf;

use clap::Args;
use highwater::pipeline::import::import;
use highwater::{Error, ErrorKind, Result};

const AFTER_HELP: &str = "\
Known are the JDBC sinks of Confluent, Aiven and Debezium. Nothing is connected to, and passwords are
not copied. What a pipeline file cannot say yet is refused by name, all of it at once; what you must
know or do beside the file is told on standard error. docs/from-connect.md has the way over, step by
step, and what becomes of each option.

Exit code 2: something cannot be taken over, and nothing was written.

Examples:
  highwater import-connect sink.json > pipeline.toml
  curl -s localhost:8083/connectors/payments-sink | highwater import-connect - > pipeline.toml
  highwater run --check pipeline.toml";

/// Make a pipeline's file from the configuration of a Kafka Connect JDBC sink
///
/// The file takes over where the connector has stopped: the group is connect-NAME, and starts with its offsets.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// The connector's configuration in JSON, as Connect's REST API answers it; `-` reads standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<String> {
    let imported = import(&read(arguments)?)?;
    for note in &imported.notes {
        eprintln!("note: {note}");
    }
    Ok(imported.toml)
}

fn read(arguments: &Arguments) -> Result<String> {
    let failed = |source: std::io::Error| {
        let from = if arguments.file.as_os_str() == "-" {
            "standard input".to_owned()
        } else {
            arguments.file.display().to_string()
        };
        Error::new(
            ErrorKind::Configuration,
            format!("could not read the connector's configuration from {from}"),
        )
        .with_source(source)
    };
    if arguments.file.as_os_str() != "-" {
        return std::fs::read_to_string(&arguments.file).map_err(failed);
    }
    let mut json = String::new();
    std::io::stdin().read_to_string(&mut json).map_err(failed)?;
    Ok(json)
}
