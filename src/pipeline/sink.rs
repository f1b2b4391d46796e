//! A `[[sink]]`, checked and compiled: which topics, which table, and where each column's value is.

use super::condition::{Comparison, Condition, Literal};
use super::extract::Tree;
use super::file::{
    Bytea, ColumnEntry, Deletes, Envelope, Extra, Format, KeyFormat, Missing, Mode, Nul, SinkEntry, Unit,
};
use super::path::{Path, Root, Step};
use super::unchanged::{DEBEZIUM, Unchanged};
use crate::Table;
use crate::config::{TopicPattern, check_topics, is_pattern};
use crate::sink::{Bytea as TableBytea, Nul as TableNul};

/// Topics into a table.
#[derive(Debug)]
pub(crate) struct Sink {
    pub(crate) topics: Vec<String>,
    patterns: Vec<TopicPattern>,
    pub(crate) table: Table,
    pub(crate) columns: Vec<Column>,
    pub(crate) key_format: KeyFormat,
    pub(crate) value: Format,
    pub(crate) envelope: Envelope,
    /// `None`: NULL, unless the value has none of its columns.
    pub(crate) missing: Option<Missing>,
    pub(crate) extra: Extra,
    /// What stands for a value that is not said.
    pub(crate) unchanged: Option<Unchanged>,
    /// Whether the column keeps what the table has, then; else the record is rejected.
    pub(crate) keeps: bool,
    pub(crate) deletes: Deletes,
    pub(crate) condition: Vec<(Source, Comparison)>,
    /// Of the key and the value, into one row of slots.
    pub(crate) key_tree: Tree,
    pub(crate) value_tree: Tree,
    pub(crate) event_tree: Tree,
    pub(crate) slots: usize,
    /// What a tombstone's key says of columns whose values are in the value otherwise.
    pub(crate) deletion_tree: Tree,
    /// Whether what no path names is of interest.
    pub(crate) has_rest: bool,
}

#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) source: Source,
    /// For messages; of the rest there is none.
    pub(crate) path: Option<Path>,
    /// Where a tombstone's key has it.
    pub(crate) in_key: Option<usize>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// From JSON, taken before.
    Slot(usize, Option<Unit>),
    /// As the record has it, text or bytes.
    Value,
    Key,
    Header(String),
    Topic,
    Partition,
    Offset,
    Timestamp,
    /// Fields that no path names, as a JSON object.
    Rest,
    /// Whether the row has gone.
    Mark,
}

impl Sink {
    /// # Errors
    /// What is wrong with the entry; the caller says which one it is.
    pub(crate) fn compile(entry: &SinkEntry) -> Result<Self, String> {
        let topics = &entry.topic.0;
        if topics.is_empty() {
            return Err("`topic` is empty: name one, or a ^pattern".to_owned());
        }
        check_topics(topics).map_err(|what| format!("topic: {what}; a pattern begins with ^"))?;
        let patterns: Vec<_> = topics.iter().filter(|topic| is_pattern(topic)).collect();
        let patterns =
            patterns.into_iter().map(|topic| TopicPattern::new(topic)).collect::<Result<_, _>>()?;
        let mut sink = Self {
            topics: topics.clone(),
            patterns,
            table: table(entry)?,
            columns: Vec::new(),
            key_format: entry.key_format,
            value: entry.value,
            envelope: entry.envelope,
            missing: entry.missing,
            extra: entry.extra,
            unchanged: unchanged(entry)?,
            keeps: entry.mode.is_keyed(),
            deletes: deletes(entry)?,
            condition: Vec::new(),
            key_tree: Tree::default(),
            value_tree: Tree::default(),
            event_tree: Tree::default(),
            slots: 0,
            deletion_tree: Tree::default(),
            has_rest: entry.rest.is_some() || entry.extra == Extra::Reject,
        };
        if entry.envelope != Envelope::None && entry.value != Format::Json {
            return Err("an envelope is JSON: value = \"json\"".to_owned());
        }
        for (name, column) in &entry.columns.0 {
            sink.add(name, column).map_err(|what| format!("column {name}: {what}"))?;
        }
        if let Some(name) = &entry.rest {
            sink.columns.push(Column { name: name.clone(), source: Source::Rest, path: None, in_key: None });
        }
        if let Deletes::Soft(name) = &sink.deletes {
            let mark = Column { name: name.clone(), source: Source::Mark, path: None, in_key: None };
            sink.columns.push(mark);
        }
        if sink.has_rest && entry.value != Format::Json {
            return Err(
                "`rest` and `extra` are about the fields of a JSON value: value = \"json\"".to_owned()
            );
        }
        let condition = entry.r#where.as_deref().map_or_else(|| Ok(Condition::default()), Condition::parse);
        for comparison in condition.map_err(|what| format!("where: {what}"))?.0 {
            let source =
                sink.source(&comparison.path, None, false).map_err(|what| format!("where: {what}"))?;
            let is_number = matches!(source, Source::Partition | Source::Offset | Source::Timestamp);
            if is_number && matches!(comparison.literal, Literal::Text(_)) {
                return Err(format!("where: {} is a number, and no text", comparison.path));
            }
            sink.condition.push((source, comparison));
        }
        Ok(sink)
    }

    pub(crate) fn takes(&self, topic: &str) -> bool {
        self.topics.iter().any(|name| name == topic)
            || self.patterns.iter().any(|pattern| pattern.matches(topic))
    }

    fn add(&mut self, name: &str, ColumnEntry { from, unit }: &ColumnEntry) -> Result<(), String> {
        let path: Path = from.parse()?;
        let source = self.source(&path, *unit, true)?;
        if unit.is_some() && !matches!(source, Source::Slot(..)) {
            return Err(format!("`unit` is about a number in JSON, and {path} is none"));
        }
        let in_key = match (&path.root, path.last_field(), self.key_format) {
            (Root::Value, Some(field), KeyFormat::Json) if self.deletes.are_applied() => {
                let namesake = |column: &&Column| {
                    column.in_key.is_some() && column.path.as_ref().and_then(Path::last_field) == Some(field)
                };
                if let Some(other) = self.columns.iter().find(namesake) {
                    return Err(format!(
                        "a deletion's key has one {field}, and column {} looks for it, too: deletes = \"ignore\" or \
                         \"reject\", or take one of them from the key",
                        other.name
                    ));
                }
                let slot = self.slots;
                self.slots += 1;
                self.deletion_tree.add(&[Step::Field(field.to_owned())], slot, true);
                Some(slot)
            }
            _ => None,
        };
        self.columns.push(Column { name: name.to_owned(), source, path: Some(path), in_key });
        Ok(())
    }

    /// `takes`: for a column, and not only for a condition.
    fn source(&mut self, path: &Path, unit: Option<Unit>, takes: bool) -> Result<Source, String> {
        let is_json = match path.root {
            Root::Event if self.envelope == Envelope::None => {
                return Err("there is no event without an envelope: envelope = \"debezium\"".to_owned());
            }
            Root::Event => true,
            Root::Value => self.value == Format::Json,
            Root::Key => self.key_format == KeyFormat::Json,
            _ => false,
        };
        if !is_json && !path.steps.is_empty() {
            let key = if path.root == Root::Key { "key_format" } else { "value" };
            return Err(format!("{path} goes into JSON, and {key} is not \"json\""));
        }
        Ok(match &path.root {
            Root::Value | Root::Event | Root::Key if is_json => {
                let tree = match path.root {
                    Root::Key => &mut self.key_tree,
                    Root::Event => &mut self.event_tree,
                    _ => &mut self.value_tree,
                };
                tree.add(&path.steps, self.slots, takes);
                self.slots += 1;
                Source::Slot(self.slots - 1, unit)
            }
            Root::Key if self.key_format == KeyFormat::None => {
                return Err(
                    "nothing is said of the record's key: key_format = \"string\", \"json\" or \"bytes\""
                        .to_owned(),
                );
            }
            Root::Value | Root::Event => Source::Value,
            Root::Key => Source::Key,
            Root::Header(name) => Source::Header(name.clone()),
            Root::Topic => Source::Topic,
            Root::Partition => Source::Partition,
            Root::Offset => Source::Offset,
            Root::Timestamp => Source::Timestamp,
        })
    }
}

fn table(entry: &SinkEntry) -> Result<Table, String> {
    let mut names: Vec<&str> = entry.columns.0.iter().map(|(name, _)| name.as_str()).collect();
    names.extend(entry.rest.as_deref());
    if let Some(Deletes::Soft(mark)) = &entry.deletes {
        names.push(mark);
    }
    let provenance = &entry.provenance;
    let sources = [&provenance.topic, &provenance.partition, &provenance.offset, &provenance.timestamp];
    let all: Vec<&str> =
        names.iter().copied().chain(sources.into_iter().flatten().map(String::as_str)).collect();
    if entry.table.trim().is_empty() || all.iter().any(|name| name.is_empty()) {
        return Err("a table and its columns have names".to_owned());
    }
    if names.is_empty() {
        return Err("`columns` is empty: list the table's columns".to_owned());
    }
    if let Some(at) = (1..all.len()).find(|&at| all[..at].contains(&all[at])) {
        return Err(format!("column {} is named twice", all[at]));
    }
    if entry.table.contains('{') {
        return Err("`table` is one name: names made of the topic's are not supported yet".to_owned());
    }
    let mut table = match entry.mode {
        Mode::Append => Table::append(&entry.table, names.iter().copied()),
        Mode::InsertIgnore => Table::insert_ignore(&entry.table, names.iter().copied()),
        Mode::Upsert => Table::upsert(&entry.table, names.iter().copied()),
        Mode::Update => Table::update(&entry.table, names.iter().copied()),
    };
    if let Some(key) = &entry.key {
        if let Some(other) = key.iter().find(|column| !names.contains(&column.as_str())) {
            return Err(format!("`key` names {other}, which is not among `columns`"));
        }
        if key.is_empty() || (1..key.len()).any(|at| key[..at].contains(&key[at])) {
            return Err("`key` names the columns of the table's key, each once".to_owned());
        }
        table = table.key(key.iter().cloned());
    }
    if entry.nul == Nul::Strip {
        table = table.nul(TableNul::Strip);
    }
    table = match entry.bytea {
        None => table,
        Some(Bytea::Hex) => table.bytea(TableBytea::Hex),
        Some(Bytea::Base64) => table.bytea(TableBytea::Base64),
        Some(Bytea::Utf8) => table.bytea(TableBytea::Utf8),
    };
    // Which topics a pattern comes to match is not known yet.
    if !entry.topic.0.iter().any(|topic| is_pattern(topic)) {
        table = table.from_topics(entry.topic.0.iter().cloned());
    }
    if let Some(column) = &provenance.topic {
        table = table.source_topic(column);
    }
    if let Some(column) = &provenance.partition {
        table = table.source_partition(column);
    }
    if let Some(column) = &provenance.offset {
        table = table.source_offset(column);
    }
    if let Some(column) = &provenance.timestamp {
        table = table.source_timestamp(column);
    }
    Ok(table)
}

/// What stands for a value that is not said.
fn unchanged(entry: &SinkEntry) -> Result<Option<Unchanged>, String> {
    match &entry.unchanged {
        Some(_) if !entry.mode.is_keyed() => Err(
            "`unchanged` needs mode = \"upsert\" or \"update\": in the others there is no row whose value could be kept"
                .to_owned(),
        ),
        Some(_) if entry.value != Format::Json => {
            Err("`unchanged` is about the fields of a JSON value: value = \"json\"".to_owned())
        }
        Some(text) => Unchanged::new(text).map(Some),
        None if entry.envelope == Envelope::Debezium => Unchanged::new(DEBEZIUM).map(Some),
        None => Ok(None),
    }
}

/// What becomes of a record without a value, or of an event that tells of a deletion.
fn deletes(entry: &SinkEntry) -> Result<Deletes, String> {
    let key = matches!(entry.key_format, KeyFormat::String | KeyFormat::Json);
    let can = entry.mode.is_keyed() && (key || entry.envelope == Envelope::Debezium);
    match &entry.deletes {
        Some(said) if said.are_applied() && !entry.mode.is_keyed() => Err(format!(
            "`deletes = {said}` needs mode = \"upsert\" or \"update\": in the others no row is known by its key"
        )),
        Some(said) if said.are_applied() && !can => {
            Err(format!("`deletes = {said}` needs the record's key: key_format = \"string\" or \"json\""))
        }
        Some(said) => Ok(said.clone()),
        None if can => Ok(Deletes::Apply),
        None => Ok(Deletes::Reject),
    }
}
