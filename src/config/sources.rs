//! Reading a layer from a TOML file, from environment variables, or from flags.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::parse::Raw;
use super::properties::{self, Secret};
use super::settings::PartialConfig;
use super::settings::SETTINGS;
use super::suggest;
use super::table::{Given, Origin, Setting};
use crate::error::{Error, ErrorKind, Result};

const PREFIX: &str = "HIGHWATER_";
const KAFKA_PREFIX: &str = "HIGHWATER_KAFKA_";
/// Names the file.
const CONFIG: &str = "HIGHWATER_CONFIG";
/// Variables that are ours, but no settings of a worker: the file, the log's filter and format, the cache of the test kit.
const OTHERS: &[&str] = &[CONFIG, "HIGHWATER_LOG", "HIGHWATER_LOG_FORMAT", "HIGHWATER_CACHE"];
const TEST_PREFIX: &str = "HIGHWATER_TEST_";

impl PartialConfig {
    /// Reads this process's environment and, below it, the file that `HIGHWATER_CONFIG` names, if it is set.
    ///
    /// # Errors
    ///
    /// [`Configuration`](ErrorKind::Configuration) for unknown names, unreadable values and an unreadable file.
    pub fn from_env() -> Result<Self> {
        Self::from_sources(None, process_environment()?.into_iter())
    }

    /// As [`from_env`](Self::from_env), from a given file (which wins over `HIGHWATER_CONFIG`) and given variables.
    ///
    /// # Errors
    ///
    /// As [`from_env`](Self::from_env).
    pub fn from_sources(file: Option<&Path>, env: impl Iterator<Item = (String, String)>) -> Result<Self> {
        let mut env: Vec<(String, String)> = env.collect();
        env.sort(); // the environment has no order; errors should have one
        let named = || env.iter().find(|(name, _)| name == CONFIG).map(|(_, path)| PathBuf::from(path));
        let file = file.map(Path::to_owned).or_else(named);
        let upper = Self::from_variables(&env)?;
        match file {
            Some(path) => Ok(upper.or(Self::from_file(&path)?)),
            None => Ok(upper),
        }
    }

    /// Reads a TOML file: a key per setting, and a table `[kafka]` of librdkafka properties.
    ///
    /// # Errors
    ///
    /// [`Configuration`](ErrorKind::Configuration) when it can't be read, is not TOML, or holds unknown keys.
    pub fn from_file(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|source| {
            Error::configuration(format!("could not read the configuration file {}", path.display()))
                .with_source(source)
        })?;
        let table = parse_toml(&text).map_err(|(line, what)| {
            Error::configuration(format!(
                "the configuration file {} is not TOML, line {line}: {what}",
                path.display()
            ))
        })?;
        Self::from_table(table, path, &[])
    }

    /// Reads the table of a TOML file. `others`: keys that are no settings, and were taken out of it.
    pub(crate) fn from_table(table: toml::Table, path: &Path, others: &[&str]) -> Result<Self> {
        let origin = Origin::File(Arc::from(path));
        let mut layer = Self::default();
        for (key, value) in table {
            if key == "kafka" {
                layer.read_kafka_table(value, &origin)?;
            } else {
                let setting = SETTINGS.iter().find(|setting| setting.name == key).ok_or_else(|| {
                    let known = SETTINGS.iter().map(|setting| setting.name).chain(["kafka"]);
                    let known = known.chain(others.iter().copied());
                    unknown(&format!("key `{key}` in the configuration file {}", path.display()), &key, known)
                })?;
                let raw = raw(value)
                    .ok_or_else(|| setting.place(&origin).error("has the wrong type for a setting"))?;
                layer.read(setting, &raw, &origin)?;
            }
        }
        Ok(layer)
    }

    /// Reads flags of a command line, by the settings' names: `("postgres_url", "postgres://…")`.
    ///
    /// # Errors
    ///
    /// [`Configuration`](ErrorKind::Configuration) for unknown names and unreadable values.
    pub fn from_flags<'a>(flags: impl IntoIterator<Item = (&'a str, String)>) -> Result<Self> {
        let mut layer = Self::default();
        for (name, value) in flags {
            let setting = SETTINGS.iter().find(|setting| setting.name == name).ok_or_else(|| {
                unknown(&format!("flag `{name}`"), name, SETTINGS.iter().map(|setting| setting.name))
            })?;
            layer.read(setting, &Raw::Text(value), &Origin::Flag)?;
        }
        Ok(layer)
    }

    fn from_variables(env: &[(String, String)]) -> Result<Self> {
        let mut layer = Self::default();
        for (name, value) in env.iter().filter(|(name, _)| name.starts_with(PREFIX)) {
            if let Some(setting) = SETTINGS.iter().find(|setting| setting.env == name) {
                layer.read(setting, &Raw::Text(value.clone()), &Origin::Environment)?;
            } else if OTHERS.contains(&name.as_str()) || name.starts_with(TEST_PREFIX) || is_kubernetes(name)
            {
                // not ours to judge
            } else if let Some(property) = name.strip_prefix(KAFKA_PREFIX).filter(|rest| !rest.is_empty()) {
                let value = Secret(value.clone());
                let given = Given { value, origin: Origin::Environment };
                layer.kafka.insert(properties::from_env_name(property), given);
            } else {
                let known = SETTINGS.iter().map(|setting| setting.env).chain(OTHERS.iter().copied());
                return Err(unknown(&format!("environment variable `{name}`"), name, known));
            }
        }
        Ok(layer)
    }

    fn read(&mut self, setting: &Setting<PartialConfig>, raw: &Raw, origin: &Origin) -> Result<()> {
        (setting.set)(self, raw, origin.clone()).map_err(|defect| setting.place(origin).error(&defect))
    }

    fn read_kafka_table(&mut self, value: toml::Value, origin: &Origin) -> Result<()> {
        let defect =
            |what: &str| Error::configuration(format!("{what}: write property = value under [kafka]"));
        let toml::Value::Table(table) = value else {
            return Err(defect("`kafka` in the configuration file is not a table"));
        };
        // An unquoted `fetch.min.bytes = 1` is three nested tables to TOML.
        let mut open: Vec<(String, toml::Value)> = table.into_iter().collect();
        while let Some((property, value)) = open.pop() {
            match value {
                toml::Value::Table(inner) => {
                    open.extend(inner.into_iter().map(|(key, value)| (format!("{property}.{key}"), value)));
                }
                value => {
                    let Some(Raw::Text(text)) = raw(value) else {
                        return Err(defect(&format!(
                            "`kafka.{property}` in the configuration file has the wrong type"
                        )));
                    };
                    let given = Given { value: Secret(text), origin: origin.clone() };
                    self.kafka.insert(properties::canonical(&property).to_owned(), given);
                }
            }
        }
        Ok(())
    }

    /// Sets a librdkafka property that is passed through; see `docs/configuration.md` for those that are refused.
    pub fn kafka(mut self, property: impl Into<String>, value: impl Into<String>) -> Self {
        let given = Given { value: Secret(value.into()), origin: Origin::Builder };
        self.kafka.insert(properties::canonical(&property.into()).to_owned(), given);
        self
    }
}

/// This process's environment, as far as it is ours.
fn process_environment() -> Result<Vec<(String, String)>> {
    std::env::vars_os()
        .filter(|(name, _)| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()))
        .map(|(name, value)| match (name.into_string(), value.into_string()) {
            (Ok(name), Ok(value)) => Ok((name, value)),
            (name, _) => Err(Error::new(
                ErrorKind::Configuration,
                format!("environment variable {name:?} is not UTF-8: write it anew"),
            )),
        })
        .collect()
}

/// Whether Kubernetes injects a variable of this name into every pod of a namespace that has a Service called
/// `highwater` or `highwater-something`.
fn is_kubernetes(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("HIGHWATER") else { return false };
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    rest.starts_with("_SERVICE_")
        || rest.starts_with("_PORT_")
        || rest.ends_with("_PORT")
        || rest.ends_with("_SERVICE_HOST")
        || rest.contains("_SERVICE_PORT_")
        || rest
            .split_once("_PORT_")
            .is_some_and(|(_, port)| is_number(port.split('_').next().unwrap_or_default()))
}

fn raw(value: toml::Value) -> Option<Raw> {
    match value {
        toml::Value::String(text) => Some(Raw::Text(text)),
        toml::Value::Integer(number) => Some(Raw::Text(number.to_string())),
        toml::Value::Boolean(flag) => Some(Raw::Text(flag.to_string())),
        toml::Value::Array(items) => items
            .into_iter()
            .map(|item| match item {
                toml::Value::String(text) => Some(text),
                _ => None,
            })
            .collect::<Option<Vec<String>>>()
            .map(Raw::List),
        toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

/// A TOML document; or the line that is none, and why. The parser's own `Display` quotes the line, which may hold a
/// password.
fn parse_toml(text: &str) -> std::result::Result<toml::Table, (usize, String)> {
    toml::from_str(text).map_err(|error: toml::de::Error| place_in(text, &error))
}

/// The line of a TOML document that an error is about, and its words without the line's.
pub(crate) fn place_in(text: &str, error: &toml::de::Error) -> (usize, String) {
    let offset = error.span().map_or(0, |span| span.start);
    (line_at(text, offset), error.message().to_owned())
}

/// The number of the line in which a byte stands.
pub(crate) fn line_at(text: &str, offset: usize) -> usize {
    text.get(..offset).unwrap_or_default().matches('\n').count() + 1
}

/// The error for a name that is in no table.
fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Error {
    let hint = match suggest(name, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!(
            "docs/configuration.md lists all settings; librdkafka properties go under `[kafka]`, or as \
             `{KAFKA_PREFIX}…`"
        ),
    };
    Error::configuration(format!("unknown {what}: {hint}"))
}
