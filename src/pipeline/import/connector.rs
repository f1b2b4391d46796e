//! A connector's configuration as it is read: whose it is, its name, and its options.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::findings::Findings;
use super::options;
use crate::error::{Error, Result};

/// Whose sink it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connector {
    Confluent,
    Aiven,
    Debezium,
}

impl Connector {
    pub(super) const ALL: [Self; 3] = [Self::Confluent, Self::Aiven, Self::Debezium];

    pub(super) fn class(self) -> &'static str {
        match self {
            Self::Confluent => "io.confluent.connect.jdbc.JdbcSinkConnector",
            Self::Aiven => "io.aiven.connect.jdbc.JdbcSinkConnector",
            Self::Debezium => "io.debezium.connector.jdbc.JdbcSinkConnector",
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Confluent => "Confluent",
            Self::Aiven => "Aiven",
            Self::Debezium => "Debezium",
        }
    }

    fn of(class: &str, options: &BTreeMap<String, String>, findings: &mut Findings) -> Result<Self> {
        if SHORT.contains(&class) {
            return Self::by_options(options, findings);
        }
        Self::ALL.into_iter().find(|one| one.class() == class).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|one| one.class()).collect();
            Error::configuration(format!(
                "a connector of class `{class}` cannot be imported: only {} are known",
                known.join(", ")
            ))
        })
    }

    /// Whose it is by the options that only one reads. What Confluent and Aiven share means the same.
    fn by_options(options: &BTreeMap<String, String>, findings: &mut Findings) -> Result<Self> {
        const OPTION: &str = "connector.class";
        let knows = |one: &Self| options.keys().all(|name| options::find(name, *one).is_some());
        let mine: Vec<Self> = Self::ALL.into_iter().filter(knows).collect();
        match mine.as_slice() {
            [one] | [one @ Self::Confluent, Self::Aiven] => {
                findings.note(OPTION, format!("is a short name, and read as {}'s connector", one.name()));
                Ok(*one)
            }
            _ => Err(Error::configuration(
                "`connector.class` is a short name, and the options do not tell whose connector it is: write the whole \
                 class, as `GET /connector-plugins` says it",
            )),
        }
    }
}

/// Connect finds a class by these, too.
const SHORT: &[&str] = &["JdbcSinkConnector", "JdbcSink"];

/// What a connector was created with.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) connector: Connector,
    pub(super) name: String,
    options: BTreeMap<String, String>,
}

/// What Connect's REST API has beside `config`.
const AROUND: &[&str] = &["name", "config", "tasks", "type", "initial_state"];

impl Source {
    /// Reads `{"name": …, "config": {…}}`, or the flat object that is inside `config`.
    pub(super) fn read(json: &str, findings: &mut Findings) -> Result<Self> {
        let root: Map<String, Value> = serde_json::from_str(json).map_err(|error| {
            Error::configuration(
                "a connector's configuration is one JSON object: {\"name\": …, \"config\": {…}}, or what is in \
                 its config",
            )
            .with_source(error)
        })?;
        let config = match root.get("config") {
            Some(Value::Object(config)) => {
                for key in root.keys().filter(|key| !AROUND.contains(&key.as_str())) {
                    findings
                        .refuse(key, "stands beside `config`, where Connect knows no such thing: remove it");
                }
                config
            }
            _ => &root,
        };
        let mut options = BTreeMap::new();
        for (name, value) in config {
            match value {
                Value::Null => {}
                Value::String(text) => drop(options.insert(name.clone(), text.trim().to_owned())),
                Value::Bool(_) | Value::Number(_) => drop(options.insert(name.clone(), value.to_string())),
                Value::Array(_) | Value::Object(_) => {
                    findings.refuse(name, "is a list or an object: Connect's options are texts");
                }
            }
        }
        let class = options.get("connector.class").filter(|class| !class.is_empty()).ok_or_else(|| {
            Error::configuration("this is no connector's configuration: it has no `connector.class`")
        })?;
        let connector = Connector::of(class, &options, findings)?;
        let outside = root.get("name").and_then(Value::as_str).map(str::to_owned);
        let name = outside.or_else(|| options.get("name").cloned()).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| {
            Error::configuration(
                "the connector has no `name`: its offsets are those of the group connect-NAME, so add \
                 \"name\": \"…\" as `GET /connectors` says it",
            )
        })?;
        Ok(Self { connector, name, options })
    }

    /// An option that was given, and is not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A switch, and what holds if it was not given.
    pub(super) fn is(&self, name: &str, default: bool) -> bool {
        self.get(name).map_or(default, |value| value.eq_ignore_ascii_case("true"))
    }

    /// A list, separated by commas.
    pub(super) fn list(&self, name: &str) -> Vec<String> {
        split(self.get(name).unwrap_or_default())
    }

    /// All that was given.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.options.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// A list's items, without the blanks around them.
pub(super) fn split(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// Whether a value points to somewhere else, as Connect's config providers read it: `${file:/etc/db:user}`.
pub(super) fn is_reference(value: &str) -> bool {
    value.replace("${topic}", "").contains("${")
}
