//! What sinks take of the schemas of their records: the types of columns that may be made, and the columns themselves where
//! the file lists none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::codec::{Codec, Kind};
use super::file::{Envelope, Evolve, Extra, SinkEntry};
use super::schemas::Schemas;
use super::shape::{self, Field, LONGEST_NAME, MOST};
use super::sink::Sink;
use super::wire::SchemaId;
use crate::config::is_pattern;
use crate::due::Trouble;
use crate::error::{Error, Result};
use crate::{HandlerError, HandlerErrorKind};

/// Between two questions to a registry that is away.
const AGAIN: Duration = Duration::from_secs(1);

/// The fields of the schemas that are known, by sink.
#[derive(Debug, Clone, Default)]
pub(crate) struct Learned(Vec<Field>);

/// Tells that records have fields which a sink that lists no columns does not take yet.
#[derive(Debug, Default)]
pub(crate) struct Growth {
    /// Whether somebody makes columns of them, and begins anew.
    heeded: bool,
    /// By table.
    fields: Mutex<Vec<(String, Vec<Field>)>>,
    /// Topics that have come since, and whose tables are named by them.
    topics: Mutex<HashMap<String, Newcomer>>,
    pub(crate) notify: Notify,
}

/// A topic that has come since the process began.
#[derive(Debug, Clone)]
pub(crate) struct Newcomer {
    pub(crate) since: Instant,
    /// Why it gets no table.
    refusal: Option<String>,
}

impl Learned {
    pub(crate) fn new(fields: Vec<Field>) -> Self {
        Self(fields)
    }

    pub(crate) fn fields(&self) -> &[Field] {
        &self.0
    }

    /// Those of another schema, too. Of a name, what was first stays.
    pub(crate) fn add(&mut self, fields: Vec<Field>) {
        for field in fields {
            if !self.0.iter().any(|known| known.name == field.name) {
                self.0.push(field);
            }
        }
    }
}

impl Growth {
    pub(crate) fn heeded() -> Self {
        Self { heeded: true, ..Self::default() }
    }

    /// What a schema adds to a sink.
    pub(crate) fn note(&self, sink: &Sink, schemas: &Schemas, kind: Kind, id: &SchemaId) {
        let Ok(decoder) = schemas.of(kind, id) else { return };
        let is_event = sink.envelope == Envelope::Debezium;
        self.add(sink, id, decoder.shape(is_event, sink.flatten.as_deref()).unwrap_or_default());
    }

    /// `fields`: all of the schema's.
    pub(super) fn add(&self, sink: &Sink, id: &SchemaId, mut fields: Vec<Field>) {
        if let Some(twice) = shape::twice(&fields) {
            tracing::warn!(schema = %id, table = sink.table.name, twice, "two fields of a schema have one column: the first one is taken");
        }
        let is_taken = |field: &Field| {
            let taken = sink.columns.iter().find(|column| column.name == field.name);
            if let Some(other) =
                taken.and_then(|column| column.path.as_ref()).filter(|path| **path != field.path)
            {
                let (column, field) = (&field.name, &field.path);
                tracing::warn!(schema = %id, table = sink.table.name, column, %field, taken_by = %other, "a schema has a field whose column takes another one");
            }
            taken.is_some()
        };
        fields.retain(|field| !is_taken(field) && !sink.own.contains(&field.name));
        if let Some(long) = shape::too_long(&fields) {
            tracing::warn!(schema = %id, table = sink.table.name, field = %long.path, "a field's column would have a longer name than Postgres takes: it gets none");
            fields.retain(|field| field.name.len() <= LONGEST_NAME);
        }
        if fields.is_empty() {
            return;
        }
        let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
        let (table, names) = (&sink.table.name, names.join(", "));
        let grows = sink.job.evolve == Evolve::AddColumns;
        if sink.extra == Extra::Reject && !(grows && self.heeded) {
            tracing::warn!(schema = %id, table, fields = names, "a schema has new fields, and records that say them are rejected: `extra`");
            return;
        }
        if sink.collects_rest && !grows {
            tracing::debug!(schema = %id, table, fields = names, "a schema has new fields, which the rest takes");
            return;
        }
        if !self.heeded || !grows {
            tracing::warn!(schema = %id, table, fields = names, "a schema has fields that its table does not get: evolve = \"add_columns\" makes columns of them");
            return;
        }
        // Who began anew with them would end.
        if sink.job.wanted.columns.len() + fields.len() > MOST {
            tracing::warn!(schema = %id, table, fields = names, "a schema has more fields than a table of Postgres has columns: it gets none of the new ones");
            return;
        }
        tracing::info!(schema = %id, table, fields = names, "a schema has new fields: the worker begins anew, and makes columns of them");
        self.fields.lock().unwrap_or_else(PoisonError::into_inner).push((table.clone(), fields));
        self.notify.notify_one();
    }

    /// A topic that has come since the process began; whether somebody begins anew with its table.
    pub(crate) fn note_topic(&self, topic: &str, table: &str) -> bool {
        if !self.heeded {
            return false;
        }
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        if !topics.contains_key(topic) {
            tracing::info!(topic, table, "a topic is new: its table is seen to");
            topics.insert(topic.to_owned(), Newcomer { since: Instant::now(), refusal: None });
            self.notify.notify_one();
        }
        true
    }

    /// Those of which nothing is decided yet.
    pub(crate) fn newcomers(&self) -> Vec<(String, Instant)> {
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let open = topics.iter().filter(|(_, newcomer)| newcomer.refusal.is_none());
        open.map(|(topic, newcomer)| (topic.clone(), newcomer.since)).collect()
    }

    /// It gets no table, while this process runs.
    pub(crate) fn refuse(&self, topic: &str, why: String) {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(newcomer) = topics.get_mut(topic) {
            newcomer.refusal = Some(why);
        }
    }

    pub(crate) fn refusal(&self, topic: &str) -> Option<String> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner).get(topic)?.refusal.clone()
    }

    /// Whether something waits to be made.
    pub(crate) fn is_due(&self) -> bool {
        !self.fields.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Whether these tables are to get columns: whoever writes another one goes on.
    pub(crate) fn concerns<'a>(&self, mut tables: impl Iterator<Item = &'a str>) -> bool {
        let fields = self.fields.lock().unwrap_or_else(PoisonError::into_inner);
        !fields.is_empty() && tables.any(|table| fields.iter().any(|(other, _)| other == table))
    }

    /// They stay: whoever has noted them waits until he is ended.
    pub(crate) fn fields(&self) -> Vec<(String, Vec<Field>)> {
        self.fields.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whether a sink is to be asked about, and by which subjects of which registry.
fn subjects(entry: &SinkEntry, sink: &Sink, topics: &[String]) -> Vec<(Arc<Schemas>, Kind, SchemaId)> {
    let makes = !matches!(entry.evolve, Evolve::None | Evolve::Validate);
    let untyped = makes && entry.columns.0.iter().any(|(_, column)| column.r#type.is_none());
    if !sink.takes_all && !untyped {
        return Vec::new();
    }
    match &sink.value_codec {
        Codec::Named(kind, schemas) => {
            // As Confluent's serializers call them, unless they are told otherwise.
            let of = |topic: &String| {
                (Arc::clone(schemas), *kind, SchemaId::Version(format!("{topic}-value"), None))
            };
            topics.iter().filter(|topic| !is_pattern(topic)).map(of).collect()
        }
        Codec::Version(kind, schemas, id) => vec![(Arc::clone(schemas), *kind, id.clone())],
        Codec::Plain | Codec::File(_) => Vec::new(),
    }
}

/// What the registry has of a sink's values, of some of its topics; waits for one that is away, and, if it `waits`, for a schema
/// that it does not know yet. The answer is whether it knows them.
///
/// # Errors
/// If it is not what the file says.
pub(crate) async fn learn(
    entry: &SinkEntry,
    sink: &Sink,
    topics: &[String],
    waits: bool,
    learned: &mut Learned,
) -> Result<bool> {
    let mut trouble = None::<Trouble>;
    for (schemas, kind, id) in subjects(entry, sink, topics) {
        let refused = |why: &str| Error::configuration(format!("[[sink]] into table {}: {why}", entry.table));
        while let Err(error) = obtain(&schemas, &id).await {
            if error.kind() != HandlerErrorKind::Retry {
                if !sink.takes_all {
                    // Whether a type is wanting, the table says.
                    return Ok(true);
                }
                return Err(refused(error.reason()));
            }
            if !waits && is_unknown(&schemas, &id).await {
                return Ok(!sink.takes_all);
            }
            let now = Instant::now();
            if trouble.get_or_insert_with(|| Trouble::new(now)).is_due(now) {
                tracing::warn!(why = error.reason(), retry_in = ?AGAIN, "the columns of table {} are not known yet; trying again", entry.table);
            }
            tokio::time::sleep(AGAIN).await;
        }
        let is_event = sink.envelope == Envelope::Debezium;
        let decoder = schemas.of(kind, &id);
        let flatten = entry.flatten.as_deref();
        let fields = decoder.ok().and_then(|decoder| decoder.shape(is_event, flatten));
        match fields {
            Some(fields) => {
                if let Some(twice) = shape::twice(&fields) {
                    return Err(refused(&format!("{id}: {twice}: take another separator for `flatten`")));
                }
                if let Some(long) = shape::too_long(&fields).filter(|_| sink.takes_all) {
                    return Err(refused(&format!(
                        "{id}: {} would be column {}, a name of more than {LONGEST_NAME} bytes, which Postgres would cut: take \
                         a shorter separator for `flatten`, or list the `columns`",
                        long.path, long.name
                    )));
                }
                learned.add(fields);
            }
            None if !sink.takes_all => {}
            None => {
                return Err(refused(&format!(
                    "{id} is not of kind {}, or no record with fields, or has several messages: list its `columns`",
                    kind.name()
                )));
            }
        }
    }
    Ok(true)
}

/// On a thread that may block.
async fn is_unknown(schemas: &Arc<Schemas>, id: &SchemaId) -> bool {
    let (schemas, id) = (Arc::clone(schemas), id.clone());
    tokio::task::spawn_blocking(move || schemas.is_unknown(&id)).await.unwrap_or_default()
}

/// On a thread that may block.
pub(crate) async fn obtain(schemas: &Arc<Schemas>, id: &SchemaId) -> Result<(), HandlerError> {
    let (schemas, id) = (Arc::clone(schemas), id.clone());
    let asked = tokio::task::spawn_blocking(move || schemas.obtain(&id)).await;
    asked.map_err(|_| HandlerError::retry("a schema was not asked for: its thread has ended"))?
}

#[cfg(test)]
mod tests {
    use std::path::Path as FilePath;

    use super::*;
    use crate::pipeline::Pipeline;
    use crate::pipeline::path::{Path, Step};

    fn field(steps: &[&str]) -> Field {
        let path = steps.iter().map(|name| Step::Field((*name).to_owned())).collect();
        let path = Path { steps: path, ..Path::field("") };
        Field { name: steps.join("_"), path, sql_type: "text".to_owned(), not_null: false }
    }

    /// What a worker begins anew for must be what it can begin with.
    #[test]
    fn fields_without_a_possible_column_do_not_grow_a_table() {
        let folder = tempfile::tempdir().unwrap();
        let schema = r#"{"type":"record","name":"R","fields":[{"name":"id","type":"long"}]}"#;
        std::fs::write(folder.path().join("r.avsc"), schema).unwrap();
        let file = "group = \"g\"\n[[sink]]\ntopic = \"t\"\ntable = \"t\"\nvalue = \"avro\"\nevolve = \"add_columns\"\n\
                    schema = { file = \"r.avsc\" }\nflatten = \"_\"\n";
        let long = "n".repeat(40);
        let many = |count: usize| (0..count).map(|at| field(&[&format!("c{at}")])).collect();
        for (more, fields, grows) in [
            ("", vec![field(&["id"])], None),
            ("", vec![field(&["a", "b"])], Some(1)),
            ("", vec![field(&[&long, &long]), field(&["b"])], Some(1)),
            ("", vec![field(&[&long, &long])], None),
            ("rest = \"body\"", many(MOST - 2), Some(MOST - 2)),
            ("rest = \"body\"", many(MOST - 1), None),
            ("extra = \"reject\"", vec![field(&["b"])], Some(1)),
        ] {
            let pipeline: Pipeline =
                Pipeline::parse(&format!("{file}{more}\n"), &FilePath::new(folder.path()).join("s.toml"))
                    .unwrap();
            let growth = Growth::heeded();
            growth.add(&pipeline.sinks[0], &SchemaId::Version("t-value".to_owned(), None), fields);
            let noted = growth.fields.lock().unwrap();
            assert_eq!(noted.first().map(|(_, fields)| fields.len()), grows, "{more}");
        }
    }
}
