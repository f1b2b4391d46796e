//! The no-code sink: topics into tables by a file, with the promise of a worker that was written (docs/pipeline.md).
//!
//! One pipeline is one group and one transaction over all its tables, which are written in the order of its sinks, so
//! that foreign keys hold.

mod avro;
mod cell;
mod codec;
mod condition;
mod connect;
mod debezium;
mod evolve;
mod expect;
mod extract;
mod file;
mod handler;
pub mod import;
mod infer;
mod learn;
mod map;
mod mapping;
mod named;
mod path;
mod preview;
mod protobuf;
mod registry;
mod schema;
mod schemas;
mod semantic;
mod shape;
mod sink;
mod skim;
mod topics;
mod unchanged;
mod wire;
mod yaml;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::evolve::{Evolution, Job, Printed};
pub use self::expect::TestResult;
use self::file::{Evolve, File, OnBadRecord, RegistryEntry, SinkEntry, TestEntry};
pub use self::handler::PipelineHandler;
pub use self::infer::{InferOptions, InferRegistry, infer};
use self::learn::{Growth, Learned};
use self::named::Template;
pub use self::preview::{ColumnPreview, PartitionPreview, Preview, RejectedPreview, RowPreview, SinkPreview};
use self::registry::Registry;
pub use self::schema::json_schema;
use self::schemas::Schemas;
use self::sink::{Context, Sink};
use crate::backoff::Backoff;
use crate::config::{OnRejected, TopicPattern, is_pattern, line_at, place_in, suggest};
use crate::error::{Error, ErrorKind, Result};
use crate::worker::Signals;
use crate::{PartialConfig, RejectPolicy, Worker};

/// Before a worker begins anew: what comes meanwhile goes together. Longer where one follows the other.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// A worker that has run so long follows no other.
const CALM: Duration = Duration::from_secs(60);

/// A pipeline file that was read and checked. Nothing is connected to yet.
#[derive(Debug)]
pub struct Pipeline {
    name: String,
    settings: PartialConfig,
    sinks: Arc<[Sink]>,
    policies: Vec<(String, OnRejected)>,
    tests: Vec<TestEntry>,
    missing: Printed,
    /// As the file has them, each with its line.
    written: Vec<(usize, SinkEntry)>,
    /// Those of them whose tables are named by topics.
    templates: Arc<[Template]>,
    /// What the sinks are made of: what is learned of topics and schemas makes them anew.
    entries: Vec<Made>,
    growth: Arc<Growth>,
    registry: Option<Arc<Schemas>>,
    path: PathBuf,
}

/// What a sink is made of: as the file has it, or for one of a template's tables.
#[derive(Debug, Clone)]
struct Made {
    /// Which of the file's sinks it is.
    at: usize,
    line: usize,
    entry: SinkEntry,
    /// Of its schemas; `None`: nobody was asked.
    learned: Option<Learned>,
}

/// A line of [`Pipeline::summary`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SinkSummary {
    /// Names and patterns.
    pub topics: Vec<String>,
    /// As the file has it.
    pub table: String,
    /// How many of its columns are filled, provenance included; `None`: those of the values' schema, which nobody was asked
    /// for.
    pub columns: Option<usize>,
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
        let Read { mut settings, sinks: written, tests, registry } = read(text, path).map_err(wrong)?;
        for key in file::KEYS {
            settings.remove(key);
        }
        let registry = registry.map(|(line, entry)| {
            let registry = Registry::new(&entry).map_err(|what| at(line, &format!("registry: {what}")))?;
            Ok::<_, Error>(Arc::new(Schemas::new(registry)))
        });
        let registry = registry.transpose()?;
        if written.is_empty() {
            return Err(Error::configuration(format!(
                "the pipeline file {} has no [[sink]]: which topic goes into which table?",
                path.display()
            )));
        }
        let settings = PartialConfig::from_table(settings, path, &file::KEYS)?;
        let mut templates = Vec::new();
        for (number, (line, entry)) in written.iter().enumerate() {
            let template = Template::of(number, entry)
                .map_err(|what| at(*line, &format!("[[sink]] into table {}: {what}", entry.table)))?;
            templates.extend(template);
        }
        for template in &mut templates {
            let others = written.iter().filter(|(_, entry)| !entry.table.contains('{'));
            template.leave_to_others(others.flat_map(|(_, entry)| &entry.topic.0));
        }
        let name = path
            .file_stem()
            .map_or_else(|| "pipeline".to_owned(), |stem| stem.to_string_lossy().into_owned());
        let mut pipeline = Self {
            name,
            settings,
            sinks: Arc::new([]),
            policies: Vec::new(),
            tests,
            missing: Printed::default(),
            written,
            templates: templates.into(),
            entries: Vec::new(),
            growth: Arc::default(),
            registry,
            path: path.to_owned(),
        };
        // Which topics there are nobody was asked: those of the tests are enough to run them.
        let tested: Vec<String> = pipeline.tests.iter().filter_map(|test| test.topic.clone()).collect();
        pipeline.expand(&tested);
        pipeline.compile()?;
        pipeline.nothing_left_out()?;
        pipeline
            .check_tests()
            .map_err(|what| Error::configuration(format!("the pipeline file {}: {what}", path.display())))?;
        Ok(pipeline)
    }

    /// Makes one sink of each table that is named by these topics.
    fn expand(&mut self, topics: &[String]) {
        let mut templates = self.templates.to_vec();
        templates.iter_mut().for_each(|template| template.learn(topics.iter().map(String::as_str)));
        self.make_of(templates);
    }

    /// What was learned of a table's schemas stays.
    fn make_of(&mut self, templates: Vec<Template>) {
        let mut entries = Vec::new();
        for (at, (line, entry)) in self.written.iter().enumerate() {
            let made = match templates.iter().find(|template| template.is_of(at)) {
                Some(template) => template.sinks(entry),
                None => vec![entry.clone()],
            };
            for entry in made {
                let known =
                    self.entries.iter().find(|other| other.at == at && other.entry.table == entry.table);
                let learned = known.and_then(|other| other.learned.clone());
                entries.push(Made { at, line: *line, entry, learned });
            }
        }
        (self.entries, self.templates) = (entries, templates.into());
    }

    /// Makes the sinks, by what is known of the schemas.
    fn compile(&mut self) -> Result<()> {
        let path = self.path.display();
        let folder = self.path.parent().unwrap_or(Path::new(""));
        let refused = |line: usize, table: &str, what: &str| {
            Error::configuration(format!(
                "the pipeline file {path}, line {line}: [[sink]] into table {table}: {what}"
            ))
        };
        for template in &*self.templates {
            let written = self.written.iter().enumerate().find(|(at, _)| template.is_of(*at));
            let Some((_, (line, entry))) = written else { continue };
            // Before its tables are known, too.
            let context = Context { registry: self.registry.as_ref(), folder, learned: None };
            Sink::compile(&template.sample(entry), &context)
                .map_err(|what| refused(*line, &entry.table, &what))?;
        }
        // Those of one table go first, wherever they stand.
        let is_named = |made: &Made| self.templates.iter().any(|template| template.is_of(made.at));
        let of_one = self.entries.iter().filter(|made| !is_named(made));
        let mut taken: Vec<String> = of_one.map(|made| plain(&made.entry.table)).collect();
        let (mut sinks, mut left) = (Vec::<Sink>::new(), Vec::new());
        for made in &self.entries {
            let (table, is_named) = (plain(&made.entry.table), is_named(made));
            let context =
                Context { registry: self.registry.as_ref(), folder, learned: made.learned.as_ref() };
            let is_taken = if is_named {
                taken.contains(&table)
            } else {
                sinks.iter().any(|other| plain(&other.table.name) == table)
            };
            let compiled = if is_taken {
                Err("another sink writes it, too: name all topics of a table in one sink, topic = [\"a\", \"b\"], so \
                     that its rows are written in the records' order"
                    .to_owned())
            } else {
                Sink::compile(&made.entry, &context)
            };
            match compiled.map_err(|what| refused(made.line, &made.entry.table, &what)) {
                Ok(sink) => sinks.push(sink),
                Err(error) if is_named => {
                    left.push((made.at, made.entry.topic.0.clone(), error.to_string()));
                    continue;
                }
                Err(error) => return Err(error),
            }
            if is_named {
                taken.push(table);
            }
        }
        self.leave_out(left);
        let refused = |line: usize, table: &str, what: &str| {
            let path = self.path.display();
            Error::configuration(format!(
                "the pipeline file {path}, line {line}: [[sink]] into table {table}: {what}"
            ))
        };
        let mut policies: Vec<(String, OnRejected)> = Vec::new();
        for (line, entry) in &self.written {
            let Some(policy) = entry.on_bad_record.map(policy_of) else { continue };
            for topic in &entry.topic.0 {
                match policies.iter().find(|(other, _)| other == topic) {
                    Some((_, other)) if *other != policy => {
                        let what =
                            format!("another sink says otherwise of `on_bad_record` for topic {topic}");
                        return Err(refused(*line, &entry.table, &what));
                    }
                    Some(_) => {}
                    None => policies.push((topic.clone(), policy)),
                }
            }
        }
        if let Some((topic, other)) = contradicting(&policies) {
            let path = self.path.display();
            return Err(Error::configuration(format!(
                "the pipeline file {path}: {other} says otherwise of `on_bad_record` for topic {topic}"
            )));
        }
        (self.sinks, self.policies) = (sinks.into(), policies);
        Ok(())
    }

    /// Asks Kafka which topics there are, where tables are named by those that a pattern matches; before
    /// [`learn`](Self::learn). `settings` as of [`worker`](Self::worker). Waits for a Kafka that is away, or so long.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) if a setting is missing;
    /// [`Kafka`](crate::ErrorKind::Kafka) if it has not answered in time.
    pub async fn learn_topics(&mut self, settings: PartialConfig, limit: Option<Duration>) -> Result<()> {
        // By the sinks as they are: they may become others.
        self.grow();
        if !self.templates.iter().any(Template::has_patterns) {
            return Ok(());
        }
        let catalog = self.settings(settings)?.finish_operator()?.catalog()?;
        let topics = match limit {
            None => named::ask(&catalog).await,
            Some(limit) => tokio::time::timeout(limit, named::ask(&catalog)).await.map_err(|_| {
                let text = format!("Kafka has not told in {limit:?} which topics there are");
                Error::new(ErrorKind::Kafka, text)
            })?,
        };
        self.expand(&topics);
        self.compile()
    }

    /// Takes what records have told of their schemas.
    fn grow(&mut self) {
        for made in &mut self.entries {
            made.learned.get_or_insert_default();
        }
        for (table, fields) in self.growth.fields() {
            let made = self.entries.iter_mut().find(|made| made.entry.table == table);
            if let Some(learned) = made.and_then(|made| made.learned.as_mut()) {
                learned.add(fields);
            }
        }
        // Whoever has told of it may have told twice.
        self.growth = Arc::new(Growth::heeded());
    }

    /// Asks the registry for what the sinks take of their schemas, where the file leaves that open: the columns, or the
    /// types of columns that may be made. Waits for a registry that is away. A topic that names its table halts alone, if
    /// something is wrong with its schema.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) if the registry has no such schema, or it does not fit the file.
    pub async fn learn(&mut self) -> Result<()> {
        self.learn_of(true).await
    }

    /// `all`: not only of tables that are named by topics.
    async fn learn_of(&mut self, all: bool) -> Result<()> {
        self.grow();
        let sinks = Arc::clone(&self.sinks);
        let mut templates = self.templates.to_vec();
        for (made, sink) in self.entries.iter_mut().zip(&*sinks) {
            let (entry, learned) = (&made.entry, made.learned.get_or_insert_default());
            match templates.iter_mut().find(|template| template.is_of(made.at)) {
                Some(template) => topics::learn(template, entry, sink, learned).await,
                None if all => drop(learn::learn(entry, sink, &sink.topics, true, learned).await?),
                None => {}
            }
        }
        self.make_of(templates);
        self.compile()
    }

    /// As [`learn`](Self::learn), of a registry that answers within `limit`.
    ///
    /// # Errors
    /// As there, and if it does not.
    pub async fn learn_within(&mut self, limit: Duration) -> Result<()> {
        let late = |_| Error::configuration(format!("the schema registry has not answered in {limit:?}"));
        tokio::time::timeout(limit, self.learn()).await.map_err(late)?
    }

    /// Runs until SIGTERM or SIGINT, as [`Worker::run`] does; begins anew where schemas have come to have fields of which
    /// columns are made.
    ///
    /// # Errors
    /// As there, and if a setting is missing, out of range, or contradicts the file.
    pub async fn run(&mut self, settings: PartialConfig) -> Result<()> {
        // From beginning to end: none is lost between two workers.
        let mut signals = Signals::new()?;
        let mut pauses = Backoff::new(PAUSE.0, PAUSE.1);
        let learn = async {
            self.learn_topics(settings.clone(), None).await?;
            self.learn().await
        };
        tokio::select! {
            learned = learn => learned?,
            () = signals.next() => return Ok(()),
        }
        loop {
            // A table may have come to lack columns.
            tokio::select! {
                fitted = self.fit_each(&settings, |_| true) => fitted?,
                () = signals.next() => return Ok(()),
            }
            self.something_is_left()?;
            let growth = Arc::new(Growth::heeded());
            let handler = PipelineHandler::new(&self.sinks, &self.templates, &growth);
            let worker = self.worker_of(settings.clone(), handler, false)?;
            let (mut grown, begun) = (Ok(()), Instant::now());
            let pause = pauses.next();
            let again =
                signals.run(worker, async { grown = self.grown(&settings, &growth, pause).await }).await?;
            grown?;
            if !again {
                return Ok(());
            }
            if begun.elapsed() > CALM {
                pauses.reset();
            }
        }
    }

    /// What it does, sink by sink. A table that is named by topics stands there as the file has it, unless it is known which
    /// tables these are.
    #[must_use]
    pub fn summary(&self) -> Vec<SinkSummary> {
        let of = |sink: &Sink| SinkSummary {
            topics: sink.topics.clone(),
            table: sink.table.name.clone(),
            columns: (!sink.is_unlearned).then(|| sink.columns.len() + sink.table.sources.len()),
        };
        let open = self.templates.iter().filter(|template| template.has_patterns());
        let open = open.filter_map(|template| {
            let (_, (_, entry)) = self.written.iter().enumerate().find(|(at, _)| template.is_of(*at))?;
            let folder = self.path.parent().unwrap_or(Path::new(""));
            let context = Context { registry: self.registry.as_ref(), folder, learned: None };
            let sample = Sink::compile(&template.sample(entry), &context).ok()?;
            Some(SinkSummary { topics: entry.topic.0.clone(), table: entry.table.clone(), ..of(&sample) })
        });
        self.sinks.iter().map(of).chain(open).collect()
    }

    /// The names and patterns of all sinks.
    fn topics(&self) -> Vec<String> {
        let mut topics: Vec<String> = Vec::new();
        for topic in self.written.iter().flat_map(|(_, entry)| &entry.topic.0) {
            if !topics.contains(topic) {
                topics.push(topic.clone());
            }
        }
        topics
    }

    /// The worker, with `settings` going before the file's: those of flags and the environment. Where the file lists no
    /// columns, [`learn`](Self::learn) comes first; that columns are made of new fields while it runs takes [`run`](Self::run).
    ///
    /// # Errors
    /// If a setting is missing, out of range, or contradicts the file.
    pub fn worker(&self, settings: PartialConfig) -> Result<Worker> {
        self.worker_of(settings, self.handler(), true)
    }

    /// `looks`: at the tables that are named by topics, too.
    fn worker_of(&self, settings: PartialConfig, handler: PipelineHandler, looks: bool) -> Result<Worker> {
        let settings = self.settings(settings)?;
        let limits = RejectPolicy::of(&settings.clone().finish()?);
        let mut builder = Worker::builder().ignore_environment().settings(settings);
        for (topic, policy) in &self.policies {
            builder = builder.on_rejected(topic.clone(), limits.acting(*policy));
        }
        let mut worker = builder.build(handler)?;
        worker.mapping = Some(mapping::of(&self.written, self.path.parent().unwrap_or(Path::new(""))));
        let all = self.entries.iter().zip(&*self.sinks);
        let looked_at = all.filter(|(made, _)| looks || !self.is_named_by_topics(made));
        let looked_at = looked_at.map(|(_, sink)| &sink.job).filter(|job| job.evolve != Evolve::None);
        let jobs: Arc<[Job]> = looked_at.cloned().collect();
        if !jobs.is_empty() {
            let missing = Arc::clone(&self.missing);
            worker.before = Some(Box::new(move |config| {
                let (jobs, missing) = (Arc::clone(&jobs), Arc::clone(&missing));
                Box::pin(async move { Evolution::new(&config, missing)?.fit(&jobs).await })
            }));
        }
        Ok(worker)
    }

    /// What the tables lack, as SQL, once a worker has ended for it: of sinks with `evolve = "print"`.
    #[must_use]
    pub fn missing_ddl(&self) -> Option<&str> {
        self.missing.get().map(String::as_str)
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

    /// The handler alone, for a worker that is built by hand: it takes the topics of the sinks, and steps over all others. As
    /// with [`worker`](Self::worker), [`learn`](Self::learn) comes first where the file lists no columns.
    #[must_use]
    pub fn handler(&self) -> PipelineHandler {
        PipelineHandler::new(&self.sinks, &self.templates, &Arc::default())
    }
}

/// A file, as it is written.
struct Read {
    /// All its keys.
    settings: toml::Table,
    /// Each with its line.
    sinks: Vec<(usize, SinkEntry)>,
    tests: Vec<TestEntry>,
    registry: Option<(usize, RegistryEntry)>,
}

/// By the name's ending YAML, else TOML.
///
/// # Errors
/// The line, and what is wrong there.
fn read(text: &str, path: &Path) -> std::result::Result<Read, (usize, String)> {
    if path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml") {
        return yaml::read(text);
    }
    let wrong = |error: toml::de::Error| place_in(text, &error);
    let settings = toml::from_str(text).map_err(wrong)?;
    let File { sink, test, registry } = toml::from_str(text).map_err(wrong)?;
    let sinks = sink.into_iter().map(|entry| (line_at(text, entry.span().start), entry.into_inner()));
    let registry = registry.map(|entry| (line_at(text, entry.span().start), entry.into_inner()));
    Ok(Read { settings, sinks: sinks.collect(), tests: test, registry })
}

/// A topic and a pattern that matches it, of which different things are said: the name would go before the pattern.
fn contradicting(policies: &[(String, OnRejected)]) -> Option<(&str, &str)> {
    let (patterns, names): (Vec<_>, Vec<_>) = policies.iter().partition(|(topic, _)| is_pattern(topic));
    names.into_iter().find_map(|(topic, policy)| {
        let matches = |pattern: &String| TopicPattern::new(pattern).is_ok_and(|one| one.matches(topic));
        let other = patterns.iter().find(|(other, said)| said != policy && matches(other))?;
        Some((topic.as_str(), other.0.as_str()))
    })
}

/// A table's name as SQL reads it, without the schema that most have: two that are the same mean one table.
fn plain(name: &str) -> String {
    let mut parts = vec![String::new()];
    // What is quoted lies at the odd places; of a doubled quote inside there is an empty place between.
    for (at, piece) in name.split('"').enumerate() {
        if at % 2 == 1 {
            parts.last_mut().into_iter().for_each(|part| *part += piece);
            continue;
        }
        for (at, piece) in piece.split('.').enumerate() {
            if at > 0 {
                parts.push(String::new());
            }
            parts.last_mut().into_iter().for_each(|part| *part += &piece.trim().to_lowercase());
        }
    }
    // A sign that no name has parts them.
    let name = parts.join("\0");
    name.strip_prefix("public\0").unwrap_or(&name).to_owned()
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
