//! A `[[sink]]`, checked and compiled: which topics, which table, and where each column's value is.

use std::borrow::Cow;
use std::sync::Arc;

use super::codec::Codec;
use super::condition::{Comparison, Condition, Literal};
use super::connect::KnownSchemas;
use super::debezium::Parts;
use super::evolve::{self, Job, Wanted, WantedColumn};
use super::extract::Tree;
use super::file::{
    Bytea, ColumnEntry, Deletes, Envelope, Evolve, Extra, Format, KeyFormat, Missing, Mode, Nul, SchemaEntry,
    SinkEntry, Unit,
};
use super::learn::Learned;
use super::path::{Path, Root, Step};
use super::schemas::Schemas;
use super::shape::{Field, LONGEST_NAME, MOST};
use super::unchanged::{DEBEZIUM, Unchanged};
use crate::Table;
use crate::config::{TopicPattern, check_topics, is_pattern};
use crate::sink::{Bytea as TableBytea, Mode as TableMode, Nul as TableNul};

/// Topics into a table.
#[derive(Debug)]
pub(crate) struct Sink {
    pub(crate) topics: Vec<String>,
    patterns: Vec<TopicPattern>,
    pub(crate) table: Table,
    /// What the table is to be, and what may be done about it.
    pub(crate) job: Job,
    pub(crate) columns: Vec<Column>,
    /// Whether the file lists no columns: they are the fields of the values' schemas.
    pub(crate) takes_all: bool,
    /// And nobody has asked for these yet.
    pub(crate) is_unlearned: bool,
    /// What is between the names, where objects in a value become columns of their own.
    pub(crate) flatten: Option<String>,
    /// Columns that the sink fills by itself: a field of such a name is not taken.
    pub(crate) own: Vec<String>,
    pub(crate) key_format: KeyFormat,
    pub(crate) value: Format,
    /// How key and value become what `key_format` and `value` say.
    pub(crate) key_codec: Codec,
    pub(crate) value_codec: Codec,
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
    /// Of a change event: these trees in one.
    pub(crate) parts: Parts,
    /// Whether the row that is written is among them.
    pub(crate) takes_rows_with_events: bool,
    pub(crate) slots: usize,
    /// What a tombstone's key says of columns whose values are in the value otherwise.
    pub(crate) deletion_tree: Tree,
    /// Whether what no path names is of interest: to `rest`, or to `extra = "reject"`.
    pub(crate) collects_rest: bool,
    /// Of Connect's envelope.
    pub(crate) envelopes: KnownSchemas,
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

/// What a sink's schemas are looked for in.
pub(crate) struct Context<'a> {
    pub(crate) registry: Option<&'a Arc<Schemas>>,
    /// Of the pipeline's file.
    pub(crate) folder: &'a std::path::Path,
    /// What is known of the values' schemas; `None`: nobody was asked.
    pub(crate) learned: Option<&'a Learned>,
}

impl Context<'_> {
    fn codec(&self, format: Format, schema: Option<&SchemaEntry>) -> Result<Codec, String> {
        Codec::new(format, schema, self.registry, self.folder)
    }
}

impl Sink {
    /// # Errors
    /// What is wrong with the entry; the caller says which one it is.
    pub(crate) fn compile(entry: &SinkEntry, context: &Context<'_>) -> Result<Self, String> {
        let topics = &entry.topic.0;
        if topics.is_empty() {
            return Err("`topic` is empty: name one, or a ^pattern".to_owned());
        }
        check_topics(topics).map_err(|what| format!("topic: {what}; a pattern begins with ^"))?;
        let patterns: Vec<_> = topics.iter().filter(|topic| is_pattern(topic)).collect();
        let patterns =
            patterns.into_iter().map(|topic| TopicPattern::new(topic)).collect::<Result<_, _>>()?;
        let value_codec =
            context.codec(entry.value, entry.schema.as_ref()).map_err(|what| format!("value: {what}"))?;
        let (columns, learned) = columns(entry, &value_codec, context)?;
        let (table, deletes) = (table(entry, &columns)?, deletes(entry)?);
        let wanted = wanted(entry, &columns, learned.fields(), table.mode, &deletes)?;
        let mut sink = Self {
            topics: topics.clone(),
            patterns,
            table,
            job: Job { evolve: entry.evolve, wanted },
            columns: Vec::new(),
            takes_all: entry.columns.0.is_empty(),
            is_unlearned: columns.is_empty(),
            flatten: entry.flatten.clone(),
            own: own(entry),
            key_format: entry.key_format.read(),
            value: entry.value.read(),
            key_codec: context
                .codec(entry.key_format.as_value(), entry.key_schema.as_ref())
                .map_err(|what| format!("key_format: {what}"))?,
            value_codec,
            envelope: entry.envelope,
            missing: entry.missing,
            extra: entry.extra,
            unchanged: unchanged(entry)?,
            keeps: entry.mode.is_keyed(),
            deletes,
            condition: Vec::new(),
            key_tree: Tree::default(),
            value_tree: Tree::default(),
            event_tree: Tree::default(),
            parts: Parts::default(),
            takes_rows_with_events: false,
            slots: 0,
            deletion_tree: Tree::default(),
            collects_rest: entry.rest.is_some() || entry.extra == Extra::Reject,
            envelopes: KnownSchemas::default(),
        };
        if entry.envelope == Envelope::ConnectJson && entry.value != Format::Json {
            return Err("envelope = \"connect_json\" is around JSON: value = \"json\"".to_owned());
        }
        if entry.envelope != Envelope::None && sink.value != Format::Json {
            return Err("an envelope is JSON, or has a schema: value = \"json\" or \"avro\"".to_owned());
        }
        if entry.bytea.is_some() && !sink.value_codec.is_plain() {
            return Err(
                "`bytea` is about text in JSON; what has a schema says which values are bytes".to_owned()
            );
        }
        for (name, column) in &*columns {
            sink.add(name, column).map_err(|what| format!("column {name}: {what}"))?;
        }
        if let Some(separator) = &entry.flatten {
            sink.value_tree.spread(separator, sink.missing != Some(Missing::Reject));
        }
        if let Some(name) = &entry.rest {
            sink.columns.push(Column { name: name.clone(), source: Source::Rest, path: None, in_key: None });
        }
        if let Deletes::Soft(name) = &sink.deletes {
            let mark = Column { name: name.clone(), source: Source::Mark, path: None, in_key: None };
            sink.columns.push(mark);
        }
        if sink.collects_rest && sink.value != Format::Json {
            return Err(
                "`rest` and `extra` are about the fields of a value: value = \"json\", or a format with a schema".to_owned()
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
        if sink.envelope == Envelope::Debezium {
            // What is left of a row is known only where it is walked through alone.
            sink.takes_rows_with_events = !sink.collects_rest && !sink.value_tree.is_empty();
            let row = sink.takes_rows_with_events.then_some(&sink.value_tree);
            sink.parts = Parts::new(row, &sink.event_tree, sink.slots);
            sink.slots = sink.parts.slots();
        }
        Ok(sink)
    }

    pub(crate) fn takes(&self, topic: &str) -> bool {
        self.topics.iter().any(|name| name == topic)
            || self.patterns.iter().any(|pattern| pattern.matches(topic))
    }

    fn add(&mut self, name: &str, ColumnEntry { from, unit, .. }: &ColumnEntry) -> Result<(), String> {
        let path: Path = from.parse()?;
        let source = self.source(&path, *unit, true)?;
        if unit.is_some() && !matches!(source, Source::Slot(..)) {
            return Err(format!("`unit` is about a number in JSON, and {path} is none"));
        }
        // Where nobody names the key, the table says which columns it is.
        let may_be_key = match &self.table.key {
            Some(key) => key.iter().any(|column| column == name),
            None => self.flatten.is_none() || path.steps.len() == 1,
        };
        let in_key = match (&path.root, path.last_field(), self.key_format) {
            (Root::Value, Some(field), KeyFormat::Json) if self.deletes.are_applied() && may_be_key => {
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
            Root::Event if self.envelope != Envelope::Debezium => {
                return Err("there is no event without its envelope: envelope = \"debezium\"".to_owned());
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

/// The columns that are filled beside those of the values' fields.
fn own(entry: &SinkEntry) -> Vec<String> {
    let provenance = &entry.provenance;
    let mark = match &entry.deletes {
        Some(Deletes::Soft(mark)) => Some(mark),
        _ => None,
    };
    let others = [&provenance.topic, &provenance.partition, &provenance.offset, &provenance.timestamp];
    others.into_iter().flatten().chain(&entry.rest).chain(mark).cloned().collect()
}

type Listed<'a> = Cow<'a, [(String, ColumnEntry)]>;

/// The columns of a sink, and what is known of its values' fields, which are its columns if the file lists none.
fn columns<'a>(
    entry: &'a SinkEntry,
    codec: &Codec,
    context: &Context<'_>,
) -> Result<(Listed<'a>, Learned), String> {
    let learned = match codec {
        Codec::File(decoder) => {
            let is_event = entry.envelope == Envelope::Debezium;
            decoder.shape(is_event, entry.flatten.as_deref()).map(Learned::new)
        }
        _ => context.learned.cloned(),
    };
    let listed = &entry.columns.0;
    if let Some(separator) = &entry.flatten {
        check_flatten(separator, !listed.is_empty())?;
    }
    match (listed.is_empty(), codec) {
        (false, _) => return Ok((Cow::Borrowed(listed), learned.unwrap_or_default())),
        (true, Codec::Plain) => return Err("`columns` is empty: list the table's columns".to_owned()),
        (true, Codec::Named(..)) if entry.topic.0.iter().any(|topic| is_pattern(topic)) => {
            return Err(
                "`columns` is empty, and they are the fields of a topic's schema: name the topics, or list the columns"
                    .to_owned(),
            );
        }
        (true, _) => {}
    }
    let Some(learned) = learned else {
        if matches!(codec, Codec::File(_)) || entry.value == Format::JsonSchema {
            return Err(
                "there are no `columns`, and its schema says none (it is no record, or of JSON Schema): list the table's columns".to_owned()
            );
        }
        // Nobody was asked yet.
        return Ok((Cow::Borrowed(listed), Learned::default()));
    };
    let column = |field: &Field| {
        let from = field.path.to_string();
        (field.name.clone(), ColumnEntry { from, unit: None, r#type: None })
    };
    let own = own(entry);
    let taken = |field: &&Field| !own.contains(&field.name);
    Ok((learned.fields().iter().filter(taken).map(column).collect(), learned))
}

fn check_flatten(separator: &str, lists: bool) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_.-$:/".contains(c);
    if separator.is_empty() || separator.len() > 8 || !separator.chars().all(fits) {
        return Err(
            "`flatten` is what stands between the names, \"_\" for instance: up to 8 letters, digits or signs of _.-$:/"
                .to_owned(),
        );
    }
    if lists {
        return Err(
            "`flatten` is about columns that are the fields of the values' schema, and `columns` lists them: a path goes \
             inside, columns.a_b = \"value.a.b\""
                .to_owned(),
        );
    }
    Ok(())
}

fn table(entry: &SinkEntry, columns: &[(String, ColumnEntry)]) -> Result<Table, String> {
    let is_known = !(columns.is_empty() && entry.columns.0.is_empty());
    let mut names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
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
    if let Some(at) = (1..all.len()).find(|&at| all[..at].contains(&all[at])) {
        return Err(format!("column {} is named twice", all[at]));
    }
    if let Some(name) = all.iter().find(|name| name.len() > LONGEST_NAME) {
        return Err(format!(
            "column {name}: its name has more than {LONGEST_NAME} bytes, and Postgres would cut it"
        ));
    }
    if all.len() > MOST {
        return Err(format!("{} columns, and a table of Postgres has no more than {MOST}", all.len()));
    }
    let mut table = match entry.mode {
        Mode::Append => Table::append(&entry.table, names.iter().copied()),
        Mode::InsertIgnore => Table::insert_ignore(&entry.table, names.iter().copied()),
        Mode::Upsert => Table::upsert(&entry.table, names.iter().copied()),
        Mode::Update => Table::update(&entry.table, names.iter().copied()),
    };
    if let Some(key) = &entry.key {
        if let Some(other) = key.iter().find(|column| is_known && !names.contains(&column.as_str())) {
            return Err(format!("`key` names {other}, which is not among `columns`"));
        }
        if key.is_empty() || (1..key.len()).any(|at| key[..at].contains(&key[at])) {
            return Err("`key` names the columns of the table's key, each once".to_owned());
        }
        table = table.key(key.iter().cloned());
    }
    if let Some(version) = &entry.version {
        check_version(entry, version, columns)?;
        table = table.version(version);
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

/// `columns`: none, if nobody was asked for them yet.
fn check_version(entry: &SinkEntry, version: &str, columns: &[(String, ColumnEntry)]) -> Result<(), String> {
    if !entry.mode.is_keyed() {
        return Err("`version` needs mode = \"upsert\" or \"update\": it decides between two rows of a key"
            .to_owned());
    }
    if entry.key.as_ref().is_some_and(|key| key.iter().any(|one| one == version)) {
        return Err(format!("`version` names {version}, which is a column of the key"));
    }
    if columns.is_empty() {
        return Ok(());
    }
    let Some((_, ColumnEntry { from, .. })) = columns.iter().find(|(name, _)| name == version) else {
        return Err(format!("`version` names {version}, which is not among `columns`"));
    };
    let is_in_value = from.parse::<Path>().is_ok_and(|path| path.root == Root::Value);
    if is_in_value && deletes(entry)?.are_applied() {
        if entry.envelope == Envelope::Debezium {
            return Err(format!(
                "{from} is no `version` of a deletion: its event has the row that was only with REPLICA IDENTITY FULL, and \
                 else the key with nulls or zeros around it; take it from the event (event.source.lsn, event.ts_ms), or say \
                 deletes = \"ignore\" or \"reject\""
            ));
        }
        return Err(format!(
            "a deletion has no value, and so no {from}, its `version`: take it from a header, the record's offset or \
             timestamp, or say deletes = \"ignore\" or \"reject\""
        ));
    }
    Ok(())
}

/// What stands for a value that is not said.
fn unchanged(entry: &SinkEntry) -> Result<Option<Unchanged>, String> {
    match &entry.unchanged {
        Some(_) if !entry.mode.is_keyed() => Err(
            "`unchanged` needs mode = \"upsert\" or \"update\": in the others there is no row whose value could be kept"
                .to_owned(),
        ),
        Some(_) if entry.value.read() != Format::Json => {
            Err("`unchanged` is about the fields of a value: value = \"json\", or a format with a schema".to_owned())
        }
        Some(text)
            if text != DEBEZIUM
                && (entry.value != Format::Json || entry.envelope == Envelope::ConnectJson) =>
        {
            Err(format!("where values have a schema, `unchanged` is Debezium's own {DEBEZIUM:?}"))
        }
        Some(text) => Unchanged::new(text).map(Some),
        None if entry.envelope == Envelope::Debezium => Unchanged::new(DEBEZIUM).map(Some),
        None => Ok(None),
    }
}

/// What becomes of a record without a value, or of an event that tells of a deletion.
fn deletes(entry: &SinkEntry) -> Result<Deletes, String> {
    let key = matches!(entry.key_format.read(), KeyFormat::String | KeyFormat::Json);
    let can = entry.mode.is_keyed() && (key || entry.envelope == Envelope::Debezium);
    match &entry.deletes {
        Some(said) if said.are_applied() && !entry.mode.is_keyed() => Err(format!(
            "`deletes = {said}` needs mode = \"upsert\" or \"update\": in the others no row is known by its key"
        )),
        Some(said) if said.are_applied() && !can => Err(format!(
            "`deletes = {said}` needs the record's key: key_format = \"string\", \"json\" or one with a schema"
        )),
        Some(said) => Ok(said.clone()),
        None if can => Ok(Deletes::Apply),
        None => Ok(Deletes::Reject),
    }
}

/// What the table must have, with the types that are known before any record is.
fn wanted(
    entry: &SinkEntry,
    listed: &[(String, ColumnEntry)],
    fields: &[Field],
    mode: TableMode,
    deletes: &Deletes,
) -> Result<Wanted, String> {
    let mut columns = Vec::new();
    for (name, column) in listed {
        if let Some(text) = &column.r#type {
            if entry.evolve == Evolve::None {
                return Err(format!(
                    "column {name}: `type` is for a column that is made or compared: evolve = \"validate\", \"print\", \
                     \"create\" or \"add_columns\""
                ));
            }
            evolve::check_type(text).map_err(|what| format!("column {name}: {what}"))?;
        }
        let declared = column.r#type.is_some();
        // Of a number that counts time, the schema knows less than the file.
        let field = fields.iter().find(|field| field.path.to_string() == column.from);
        let by_schema = field.filter(|_| column.unit.is_none()).map(|field| field.sql_type.clone());
        columns.push(WantedColumn {
            name: name.clone(),
            sql_type: column.r#type.clone().or(by_schema),
            declared,
            not_null: false,
        });
    }
    let provenance = &entry.provenance;
    let others = [
        (&entry.rest, "jsonb"),
        (&provenance.topic, "text"),
        (&provenance.partition, "integer"),
        (&provenance.offset, "bigint"),
        (&provenance.timestamp, "timestamptz"),
    ];
    columns.extend(others.into_iter().filter_map(|(name, usual)| {
        let (name, sql_type) = (name.clone()?, Some(usual.to_owned()));
        Some(WantedColumn { name, sql_type, declared: false, not_null: false })
    }));
    if let Deletes::Soft(name) = deletes {
        let (name, sql_type) = (name.clone(), Some("timestamptz".to_owned()));
        columns.push(WantedColumn { name, sql_type, declared: false, not_null: false });
    }
    let deletes = *deletes == Deletes::Apply;
    Ok(Wanted { table: entry.table.clone(), columns, key: entry.key.clone(), mode, deletes })
}
