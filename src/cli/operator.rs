//! What the operator's commands share: where Kafka and the database are, who asks, which groups and partitions.

use std::io::{self, Write as _};

use clap::Args;
use highwater::config::OperatorConfig;
use highwater::fleet::quoted;
use highwater::offsets::{Offsets, Selection, TopicSelection};
use highwater::{Error, ErrorKind, PartialConfig, Result};
use serde::Serialize;

use super::DatabaseArguments;

/// Where the database and Kafka are.
#[derive(Debug, Args)]
pub(crate) struct OperatorArguments {
    #[command(flatten)]
    database: DatabaseArguments,

    /// Kafka's brokers, host:port,host:port [env: HIGHWATER_BROKERS]
    ///
    /// Properties of the client (TLS, SASL) come from the file that HIGHWATER_CONFIG names, as for workers.
    #[arg(long, value_name = "BROKERS", visible_alias = "brokers")]
    bootstrap_server: Option<String>,

    /// Print JSON instead of a table; its shape is in docs/command.md
    #[arg(long)]
    pub(crate) json: bool,
}

impl OperatorArguments {
    pub(crate) fn layer(&self) -> Result<PartialConfig> {
        let brokers = self.bootstrap_server.iter().map(|brokers| ("brokers", brokers.clone()));
        Ok(PartialConfig::from_flags(brokers)?.or(self.database.layer()?))
    }

    fn config(&self) -> Result<OperatorConfig> {
        self.layer()?.finish_operator()
    }

    /// The group that the environment names.
    pub(crate) fn given_group(&self) -> Result<Option<String>> {
        Ok(self.layer()?.given_group().map(str::to_owned))
    }

    pub(crate) async fn connect(&self) -> Result<Offsets> {
        Offsets::connect(&self.config()?).await
    }
}

/// Who asks.
#[derive(Debug, Args)]
pub(crate) struct ActorArguments {
    /// Who asks [default: your login, else the database role]
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
}

impl ActorArguments {
    pub(crate) async fn actor(&self, offsets: &mut Offsets) -> Result<String> {
        let login = || std::env::var("USER").ok().filter(|login| !login.is_empty());
        match self.actor.clone().or_else(login) {
            Some(actor) => Ok(actor),
            None => Ok(format!("role {}", offsets.role().await?)),
        }
    }
}

/// Who asks, and why: recorded with everything that is done.
#[derive(Debug, Args)]
pub(crate) struct WhyArguments {
    #[command(flatten)]
    who: ActorArguments,

    /// Why: recorded with what is done [default: none given]
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl WhyArguments {
    pub(crate) async fn actor(&self, offsets: &mut Offsets) -> Result<String> {
        self.who.actor(offsets).await
    }

    pub(crate) fn reason(&self) -> &str {
        self.reason.as_deref().unwrap_or("none given")
    }
}

/// Which groups.
#[derive(Debug, Args)]
pub(crate) struct GroupArguments {
    /// The consumer group; may be repeated [env: HIGHWATER_GROUP]
    #[arg(long = "group", value_name = "NAME", conflicts_with = "all_groups")]
    groups: Vec<String>,

    /// All groups of this database
    #[arg(long)]
    all_groups: bool,
}

impl GroupArguments {
    pub(crate) async fn groups(
        &self,
        operator: &OperatorArguments,
        offsets: &mut Offsets,
    ) -> Result<Vec<String>> {
        if self.all_groups {
            let groups = offsets.list().await?;
            return Ok(groups.into_iter().map(|summary| summary.group).collect());
        }
        self.named(operator)?
            .ok_or_else(|| usage("no group: give --group NAME or --all-groups, or set HIGHWATER_GROUP"))
    }

    /// Those that are given by name; none: none is, or all are meant.
    pub(crate) fn named(&self, operator: &OperatorArguments) -> Result<Option<Vec<String>>> {
        if self.all_groups {
            return Ok(None);
        }
        if !self.groups.is_empty() {
            return Ok(Some(self.groups.clone()));
        }
        Ok(operator.layer()?.given_group().map(|group| vec![group.to_owned()]))
    }
}

/// Which partitions.
#[derive(Debug, Args)]
pub(crate) struct SelectionArguments {
    /// A topic, or some of its partitions as in payments:0,1; may be repeated
    #[arg(long = "topic", value_name = "TOPIC[:N,N]", conflicts_with = "all_topics")]
    topics: Vec<TopicSelection>,

    /// All topics that the group reads
    #[arg(long)]
    all_topics: bool,
}

impl SelectionArguments {
    /// What is named; everything where nothing is.
    pub(crate) fn or_all(&self) -> Selection {
        if self.topics.is_empty() { Selection::AllTopics } else { Selection::Topics(self.topics.clone()) }
    }

    pub(crate) fn is_given(&self) -> bool {
        self.all_topics || !self.topics.is_empty()
    }

    /// What is named: to move everything must be said.
    pub(crate) fn named(&self) -> Result<Selection> {
        if !self.is_given() {
            return Err(usage(
                "which partitions? Give --topic TOPIC or --topic TOPIC:0,1 (repeated), or --all-topics",
            ));
        }
        Ok(self.or_all())
    }
}

pub(crate) fn usage(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::Configuration, text)
}

pub(crate) fn json(value: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|source| Error::new(ErrorKind::Internal, "could not write JSON").with_source(source))?;
    Ok(text + "\n")
}

/// Writes to standard output what comes before the end, or before an exit code that is not 0. A reader that went away
/// (`| head`) is no error, but there is nothing left to do: `false`.
pub(crate) fn show(text: &str) -> Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(source) => Err(Error::new(ErrorKind::Internal, "could not write the answer").with_source(source)),
        Ok(()) => Ok(true),
    }
}

pub(crate) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// The command that was typed, with `--live`: what would work where a group is at work. The address of the database may
/// hold a password, and is left out.
pub(crate) fn live_command() -> String {
    let mut words = vec!["highwater".to_owned()];
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--postgres-url" {
            arguments.next();
        } else if !argument.starts_with("--postgres-url=") && argument != "--dry-run" {
            words.push(quoted(&argument));
        }
    }
    words.push("--live".to_owned());
    words.join(" ")
}
