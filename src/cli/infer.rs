//! `highwater infer`.

use std::path::PathBuf;

use clap::Args;
use highwater::pipeline::{InferOptions, InferRegistry, infer};
use highwater::{PartialConfig, Result};

use super::progress::Spinner;

const AFTER_HELP: &str = "\
Reads the last records of a topic, in no group, and prints a pipeline's file with the table that it needs in a
comment: JSON objects' fields with names in snake_case, and types that all these records fit; Debezium's events
and Connect's envelope; tombstones. What records cannot say is a comment to be confirmed: whether an integer is
an instant, and in which unit; whether a tombstone deletes a row. With --registry, values and keys that name a
schema (Avro, Protobuf, JSON Schema) are read by it, and types and NOT NULL are those of the schemas. Names of
fields are shown, values are not, unless --with-test asks for one.

Kafka's settings come from the environment (HIGHWATER_BROKERS, HIGHWATER_KAFKA_SECURITY_PROTOCOL, ...), or from a
configuration file.

Examples:
  highwater infer --brokers kafka-1:9092 --topic payments > payments.toml
  highwater run --check payments.toml
  # Make the table, then: do records and table fit?
  highwater run --plan payments.toml
  highwater infer --topic orders --registry https://registry:8081 > orders.toml
  highwater infer --config worker.toml --topic shop.orders --table sales.orders --records 5000";

/// Make a first pipeline file, and its table, of what a topic's records look like
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// The topic
    #[arg(long, value_name = "NAME")]
    topic: String,

    /// Kafka's brokers, host:port,host:port [env: HIGHWATER_BROKERS]
    #[arg(long, value_name = "BROKERS", visible_alias = "bootstrap-server")]
    brokers: Option<String>,

    /// A worker's configuration file, for TLS and SASL [env: HIGHWATER_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// How many records are read at most: the last ones of each partition
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    records: u32,

    /// The table, as SQL names it [default: of the topic's name]
    #[arg(long, value_name = "NAME")]
    table: Option<String>,

    /// The schema registry that records name their schemas of
    #[arg(long, value_name = "URL")]
    registry: Option<String>,

    /// Who asks the registry, with --registry-password-file
    #[arg(long, value_name = "NAME", requires = "registry")]
    registry_user: Option<String>,

    /// The file with that user's password
    #[arg(long, value_name = "FILE", requires = "registry_user")]
    registry_password_file: Option<PathBuf>,

    /// The file with a bearer token for the registry, in place of user and password
    #[arg(long, value_name = "FILE", requires = "registry")]
    registry_token_file: Option<PathBuf>,

    /// The file with the certificates by which the registry's own is checked
    #[arg(long, value_name = "FILE", requires = "registry")]
    registry_ca: Option<PathBuf>,

    /// Also make a [[test]] of a record: its data is in the file then
    #[arg(long)]
    with_test: bool,
}

impl Arguments {
    fn registry(&self) -> Option<InferRegistry> {
        Some(InferRegistry {
            url: self.registry.clone()?,
            user: self.registry_user.clone(),
            password_file: self.registry_password_file.clone(),
            token_file: self.registry_token_file.clone(),
            ca: self.registry_ca.clone(),
        })
    }
}

pub(super) async fn run(arguments: &Arguments) -> Result<String> {
    let flags =
        PartialConfig::from_flags(arguments.brokers.iter().map(|brokers| ("brokers", brokers.clone())))?;
    let environment = match &arguments.config {
        None => PartialConfig::from_env()?,
        Some(file) => {
            let variables = std::env::vars_os();
            let variables = variables
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
            PartialConfig::from_sources(Some(file), variables)?
        }
    };
    let options = InferOptions::new(&arguments.topic)
        .table(arguments.table.clone())
        .records(usize::try_from(arguments.records).unwrap_or(usize::MAX))
        .registry(arguments.registry())
        .with_test(arguments.with_test);
    let _spinner = Spinner::new("reading");
    infer(flags.or(environment), &options).await
}
