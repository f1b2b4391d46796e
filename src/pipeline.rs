//! The no-code sink: topics into tables by a file, with the promise of a worker that was written (docs/pipeline.md).
//!
//! One pipeline is one group and one transaction over all its tables, which are written in the order of its sinks, so
//! that foreign keys hold.

mod cell;
mod condition;
mod debezium;
mod expect;
mod extract;
mod file;
pub mod import;
mod infer;
mod map;
mod path;
mod preview;
mod schema;
mod sink;
mod yaml;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

pub use self::expect::TestResult;
use self::file::{File, OnBadRecord, SinkEntry, TestEntry};
pub use self::infer::{InferOptions, infer};
use self::map::{Input, Mapped, Outcome};
pub use self::preview::{ColumnPreview, PartitionPreview, Preview, RejectedPreview, RowPreview, SinkPreview};
pub use self::schema::json_schema;
use self::sink::Sink;
use crate::config::{OnRejected, is_pattern, line_at, place_in, suggest};
use crate::error::{Error, Result};
use crate::sink::{Failure, Rows};
use crate::{HandlerError, PartialConfig, Record, RejectPolicy, TableSink, Worker};

/// A pipeline file that was read and checked. Nothing is connected to yet.
#[derive(Debug)]
pub struct Pipeline {
    name: String,
    settings: PartialConfig,
    sinks: Arc<[Sink]>,
    policies: Vec<(String, OnRejected)>,
    tests: Vec<TestEntry>,
}

/// A line of [`Pipeline::summary`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SinkSummary {
    /// Names and patterns.
    pub topics: Vec<String>,
    /// As the file has it.
    pub table: String,
    /// How many of its columns are filled, provenance included.
    pub columns: usize,
}

impl Pipeline {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration), with the line, if it cannot be read, is no TOML, or says what
    /// cannot be.
    pub fn from_file(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|source| {
            Error::configuration(format!("could not read the pipeline file {}", path.display()))
                .with_source(source)
        })?;
        Self::parse(&text, path)
    }

    /// As [`from_file`](Self::from_file), of its text; `path` is for messages, and its stem is the pipeline's name.
    ///
    /// # Errors
    /// As [`from_file`](Self::from_file).
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let at = |line: usize, what: &str| {
            Error::configuration(format!("the pipeline file {}, line {line}: {what}", path.display()))
        };
        let wrong = |(line, what): (usize, String)| at(line, &with_suggestion(what));
        let Read { mut settings, sinks: entries, tests } = read(text, path).map_err(wrong)?;
        for key in file::KEYS {
            settings.remove(key);
        }
        if entries.is_empty() {
            return Err(Error::configuration(format!(
                "the pipeline file {} has no [[sink]]: which topic goes into which table?",
                path.display()
            )));
        }
        let settings = PartialConfig::from_table(settings, path, &file::KEYS)?;
        let (mut sinks, mut policies) = (Vec::<Sink>::new(), Vec::new());
        for (line, entry) in entries {
            let refused = |what: &str| at(line, &format!("[[sink]] into table {}: {what}", entry.table));
            let sink = Sink::compile(&entry).map_err(|what| refused(&what))?;
            if sinks.iter().any(|other| plain(&other.table.name) == plain(&sink.table.name)) {
                return Err(refused(
                    "another sink writes it, too: name all topics of a table in one sink, topic = [\"a\", \"b\"], so \
                     that its rows are written in the records' order",
                ));
            }
            if let Some(policy) = entry.on_bad_record {
                for topic in &sink.topics {
                    let policy = policy_of(policy);
                    match policies.iter().find(|(other, _)| other == topic) {
                        Some((_, other)) if *other != policy => {
                            return Err(refused(&format!(
                                "another sink says otherwise of `on_bad_record` for topic {topic}"
                            )));
                        }
                        Some(_) => {}
                        None => policies.push((topic.clone(), policy)),
                    }
                }
            }
            sinks.push(sink);
        }
        if let Some((topic, other)) = contradicting(&policies, &sinks) {
            return Err(Error::configuration(format!(
                "the pipeline file {}: {other} says otherwise of `on_bad_record` for topic {topic}",
                path.display()
            )));
        }
        let name = path
            .file_stem()
            .map_or_else(|| "pipeline".to_owned(), |stem| stem.to_string_lossy().into_owned());
        let pipeline = Self { name, settings, sinks: sinks.into(), policies, tests };
        pipeline
            .check_tests()
            .map_err(|what| Error::configuration(format!("the pipeline file {}: {what}", path.display())))?;
        Ok(pipeline)
    }

    /// What it does, sink by sink.
    #[must_use]
    pub fn summary(&self) -> Vec<SinkSummary> {
        let of = |sink: &Sink| SinkSummary {
            topics: sink.topics.clone(),
            table: sink.table.name.clone(),
            columns: sink.columns.len() + sink.table.sources.len(),
        };
        self.sinks.iter().map(of).collect()
    }

    /// The names and patterns of all sinks.
    fn topics(&self) -> Vec<String> {
        let mut topics: Vec<String> = Vec::new();
        for topic in self.sinks.iter().flat_map(|sink| &sink.topics) {
            if !topics.contains(topic) {
                topics.push(topic.clone());
            }
        }
        topics
    }

    /// The worker, with `settings` going before the file's: those of flags and the environment.
    ///
    /// # Errors
    /// If a setting is missing, out of range, or contradicts the file.
    pub fn worker(&self, settings: PartialConfig) -> Result<Worker> {
        let settings = self.settings(settings)?;
        let limits = RejectPolicy::of(&settings.clone().finish()?);
        let mut builder = Worker::builder().ignore_environment().settings(settings);
        for (topic, policy) in &self.policies {
            builder = builder.on_rejected(topic.clone(), limits.acting(*policy));
        }
        builder.build(self.handler())
    }

    /// All settings: `settings`, the file's, and what follows from it.
    fn settings(&self, settings: PartialConfig) -> Result<PartialConfig> {
        let mut settings = settings.or(self.settings.clone());
        if settings.names_topics() {
            return Err(Error::configuration(
                "the topics of a pipeline are those of its sinks: leave `topics` (HIGHWATER_TOPICS) out",
            ));
        }
        if !settings.names_program() {
            settings = settings.program(&self.name);
        }
        Ok(settings.topics(self.topics()))
    }

    /// The handler alone, for a worker that is built by hand: it takes the topics of the sinks, and steps over all others.
    #[must_use]
    pub fn handler(&self) -> TableSink {
        let router = Router { sinks: Arc::clone(&self.sinks), known: RwLock::default() };
        let tables: Vec<_> = self.sinks.iter().map(|sink| sink.table.clone()).collect();
        TableSink::new(tables, move |record, rows| {
            for sink in &*router.of(record.topic()) {
                push(*sink, &router.sinks[*sink], record, rows)?;
            }
            Ok(())
        })
    }
}

/// A file, as it is written.
struct Read {
    /// All its keys.
    settings: toml::Table,
    /// Each with its line.
    sinks: Vec<(usize, SinkEntry)>,
    tests: Vec<TestEntry>,
}

/// By the name's ending YAML, else TOML.
///
/// # Errors
/// The line, and what is wrong there.
fn read(text: &str, path: &Path) -> std::result::Result<Read, (usize, String)> {
    if path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml") {
        let (settings, (sinks, tests)) = (yaml::table(text)?, yaml::file(text)?);
        return Ok(Read { settings, sinks, tests });
    }
    let wrong = |error: toml::de::Error| place_in(text, &error);
    let settings = toml::from_str(text).map_err(wrong)?;
    let File { sink, test } = toml::from_str(text).map_err(wrong)?;
    let sinks = sink.into_iter().map(|entry| (line_at(text, entry.span().start), entry.into_inner()));
    Ok(Read { settings, sinks: sinks.collect(), tests: test })
}

/// Which sinks a topic's records go into.
struct Router {
    sinks: Arc<[Sink]>,
    /// Patterns are not matched anew for each record.
    known: RwLock<HashMap<Box<str>, Arc<[usize]>>>,
}

impl Router {
    fn of(&self, topic: &str) -> Arc<[usize]> {
        if let Some(sinks) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(topic) {
            return Arc::clone(sinks);
        }
        let taking = self.sinks.iter().enumerate().filter(|(_, sink)| sink.takes(topic)).map(|(at, _)| at);
        let taking: Arc<[usize]> = taking.collect();
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(topic.into()).or_insert(taking))
    }
}

/// What follows from a record, for one sink.
fn push(
    at: usize,
    sink: &Sink,
    record: &Record<'_>,
    rows: &mut Rows<'_>,
) -> std::result::Result<(), HandlerError> {
    let reject = |what: &str| HandlerError::reject(record, format!("table {}: {what}", sink.table.name));
    let mapped = Mapped::new(sink, Input::of(record)).map_err(|what| reject(&what))?;
    // Which column cannot be said goes past the row's own errors, which are about values.
    let mut unsaid = None;
    let mut note = |what: String| {
        unsaid = Some(what);
        Failure::Arity
    };
    let done = match mapped.outcome {
        Outcome::Nothing => return Ok(()),
        Outcome::Row => rows.push_to(at, |fields| {
            (0..sink.columns.len())
                .try_for_each(|column| fields.put(&mapped.cell(column).map_err(&mut note)?))
        }),
        Outcome::Delete => {
            let key: Vec<usize> = rows.key(at).to_vec();
            if key.iter().any(|column| *column >= sink.columns.len()) {
                return Err(HandlerError::fatal(format!(
                    "table {}: its key has a column of `provenance`, which no deletion can name: deletes = \"ignore\" or \
                     \"reject\"",
                    sink.table.name
                )));
            }
            rows.delete_from(at, |fields| {
                let alone = key.len() == 1;
                key.iter()
                    .try_for_each(|&column| fields.put(&mapped.key_cell(column, alone).map_err(&mut note)?))
            })
        }
    };
    match unsaid {
        Some(what) => Err(reject(&what)),
        None => done,
    }
}

/// A topic and a pattern that matches it, of which different things are said: the name would go before the pattern.
fn contradicting<'a>(policies: &'a [(String, OnRejected)], sinks: &[Sink]) -> Option<(&'a str, &'a str)> {
    let (patterns, names): (Vec<_>, Vec<_>) = policies.iter().partition(|(topic, _)| is_pattern(topic));
    names.into_iter().find_map(|(topic, policy)| {
        let others = |sink: &Sink, other: &String| sink.topics.contains(other) && sink.takes(topic);
        let other = patterns
            .iter()
            .find(|(other, said)| said != policy && sinks.iter().any(|sink| others(sink, other)))?;
        Some((topic.as_str(), other.0.as_str()))
    })
}

/// A table's name as SQL reads it, without the schema that most have.
fn plain(name: &str) -> String {
    let name = if name.contains('"') { name.to_owned() } else { name.to_lowercase() };
    name.strip_prefix("public.").unwrap_or(&name).to_owned()
}

fn policy_of(policy: OnBadRecord) -> OnRejected {
    match policy {
        OnBadRecord::Halt => OnRejected::Halt,
        OnBadRecord::DeadLetter => OnRejected::DeadLetter,
        OnBadRecord::ParkKey => OnRejected::ParkKey,
    }
}

/// serde's words for an unknown key list all that are known: the likely one is enough.
fn with_suggestion(what: String) -> String {
    let Some((unknown, known)) =
        what.strip_prefix("unknown field `").and_then(|rest| rest.split_once("`, expected "))
    else {
        return what;
    };
    let names: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
    match suggest(unknown, names.iter().copied()) {
        Some(near) => format!("unknown key `{unknown}`: did you mean `{near}`?"),
        None => format!("unknown key `{unknown}`: there are {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests;
