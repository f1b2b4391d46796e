//! What a worker of a pipeline does with a batch.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::codec::{Codec, Kind, Undecoded};
use super::connect::Buffers;
use super::file::Deletes;
use super::learn::{self, Growth};
use super::map::{Headers as _, Input, Mapped, Outcome};
use super::named::Template;
use super::schemas::Schemas;
use super::sink::Sink;
use super::wire::{KEY_HEADER, SchemaId, VALUE_HEADER};
use crate::config::is_pattern;
use crate::sink::{Failure, Rows};
use crate::{Batch, Handler, HandlerError, Record, Table, TableSink, Tx};

/// How long a batch waits for a schema.
const PATIENCE: Duration = Duration::from_secs(2);

/// The rows that a pipeline's file makes of records, into its tables: a [`TableSink`] that first sees to it that the
/// schemas are here which the records name.
#[derive(Debug)]
pub struct PipelineHandler {
    router: Arc<Router>,
    sink: TableSink,
}

/// Which sinks a topic's records go into.
struct Router {
    sinks: Arc<[Sink]>,
    /// Whether any needs a registry.
    asks: bool,
    growth: Arc<Growth>,
    /// Sinks whose tables are named by topics.
    templates: Arc<[Template]>,
    /// Schemas of which it is known what they add to a sink that takes all their fields.
    noted: RwLock<HashSet<(usize, SchemaId)>>,
    /// Of topics that sinks name: for each record they are looked up without a lock.
    named: HashMap<String, Vec<usize>>,
    /// Of those that only patterns match, which are not matched anew for each record.
    known: RwLock<HashMap<Box<str>, Vec<usize>>>,
}

impl PipelineHandler {
    pub(super) fn new(sinks: &Arc<[Sink]>, templates: &Arc<[Template]>, growth: &Arc<Growth>) -> Self {
        let asks = |codec: &Codec| matches!(codec, Codec::Named(..) | Codec::Version(..));
        let asks = sinks.iter().any(|sink| asks(&sink.key_codec) || asks(&sink.value_codec));
        let names = sinks.iter().flat_map(|sink| &sink.topics).filter(|topic| !is_pattern(topic));
        let named = names.map(|topic| (topic.clone(), taking(sinks, topic))).collect();
        let router = Arc::new(Router {
            sinks: Arc::clone(sinks),
            asks,
            growth: Arc::clone(growth),
            templates: Arc::clone(templates),
            noted: RwLock::default(),
            named,
            known: RwLock::default(),
        });
        let tables: Vec<_> = sinks.iter().map(|sink| sink.table.clone()).collect();
        let mapping = Arc::clone(&router);
        let sink = TableSink::new(tables, move |record, rows| {
            for sink in &*mapping.of(record.topic()) {
                push(*sink, &mapping.sinks[*sink], record, rows)?;
            }
            Ok(())
        });
        Self { router, sink }
    }

    /// Asks for the schemas that a batch needs, and takes no notice of what they add.
    ///
    /// # Errors
    /// Why one is not here.
    pub(super) async fn obtain(&self, batch: &Batch) -> Result<(), HandlerError> {
        for named in self.router.missing(batch) {
            learn::obtain(&named.schemas, &named.id).await?;
        }
        Ok(())
    }
}

impl Handler for PipelineHandler {
    async fn handle(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        if let Some(sink) = self.router.sinks.iter().find(|sink| sink.is_unlearned) {
            return Err(HandlerError::fatal(format!(
                "table {}: its columns are those of a schema which nobody has asked for: Pipeline::learn",
                sink.table.name
            )));
        }
        self.router.see_to_tables(batch)?;
        for named in self.router.missing(batch) {
            // A registry that answers slowly goes on answering; meanwhile the batch gives its transaction back, lest it be
            // taken for one that is too large, or its record for poison.
            let asked = tokio::time::timeout(PATIENCE, learn::obtain(&named.schemas, &named.id)).await;
            asked.unwrap_or_else(|_| {
                Err(HandlerError::retry(format!(
                    "{} is not here yet: the schema registry has not answered in {PATIENCE:?}",
                    named.id
                )))
            })?;
            self.router.note(&named);
        }
        if self.router.waits_for_columns(batch) {
            return Err(HandlerError::retry("its table gets new columns first"));
        }
        self.sink.handle(batch, tx).await
    }

    fn prepare(&self, batch: &Batch) {
        // Whoever handles it asks for what is missing, and says what is wrong.
        if self.router.missing(batch).is_empty() && !self.router.waits_for_columns(batch) {
            self.sink.prepare(batch);
        }
    }

    fn writes(&self) -> Vec<Table> {
        self.sink.writes()
    }
}

impl Router {
    fn of(&self, topic: &str) -> Cow<'_, [usize]> {
        if let Some(sinks) = self.named.get(topic) {
            return Cow::Borrowed(sinks);
        }
        if let Some(sinks) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(topic) {
            return Cow::Owned(sinks.clone());
        }
        let taking = taking(&self.sinks, topic);
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(topic.into(), taking.clone());
        Cow::Owned(taking)
    }

    /// Whether a table of these records gets columns first.
    fn waits_for_columns(&self, batch: &Batch) -> bool {
        self.growth.is_due()
            && batch.parts.iter().any(|part| {
                let sinks = self.of(&part.key.topic);
                self.growth.concerns(sinks.iter().map(|&at| self.sinks[at].table.name.as_str()))
            })
    }

    /// That each topic's table is known, where it is named by the topic.
    ///
    /// # Errors
    /// [Retry](HandlerError::retry) while another table is seen to; [fatal](HandlerError::fatal) if there is none: that topic's
    /// partitions halt, and the others go on.
    fn see_to_tables(&self, batch: &Batch) -> Result<(), HandlerError> {
        let mut topics = batch.parts.iter().map(|part| &*part.key.topic);
        let new = topics.find_map(|topic| {
            let template = self.templates.iter().find(|template| template.is_new(topic))?;
            Some((topic, template))
        });
        let Some((topic, template)) = new else { return Ok(()) };
        let table = template.table(topic).map_err(HandlerError::fatal)?;
        let refused = |why: &str| {
            HandlerError::fatal(format!("topic {topic} goes into table {table}, and gets none: {why}"))
        };
        if let Some(left) = template.left(topic).filter(|left| left.is_final) {
            return Err(refused(&left.why));
        }
        if let Some(why) = self.growth.refusal(topic) {
            return Err(refused(&why));
        }
        if !self.growth.note_topic(topic, &table) {
            return Err(refused("nobody was asked for it: Pipeline::learn_topics, or Pipeline::run"));
        }
        Err(HandlerError::retry("its table is seen to first"))
    }

    /// A schema that is here may have more fields than its sink takes.
    fn note(&self, named: &Named) {
        if named.is_value && self.is_unnoted(named.sink, &named.id) {
            let sink = &self.sinks[named.sink];
            self.growth.note(sink, &named.schemas, named.kind, &named.id);
            let mut noted = self.noted.write().unwrap_or_else(PoisonError::into_inner);
            noted.insert((named.sink, named.id.clone()));
        }
    }

    /// However it came here: by another sink, by a question that somebody has given up.
    fn is_unnoted(&self, sink: usize, id: &SchemaId) -> bool {
        let noted = || self.noted.read().unwrap_or_else(PoisonError::into_inner);
        self.sinks[sink].takes_all && !noted().contains(&(sink, id.clone()))
    }

    /// The schemas that records of a batch name and that are not here, or are to be looked at.
    fn missing(&self, batch: &Batch) -> Vec<Named> {
        let (mut missing, mut seen) = (Vec::new(), HashSet::new());
        if !self.asks {
            return missing;
        }
        for record in batch {
            for &sink in &*self.of(record.topic()) {
                for ((codec, bytes, header), is_value) in
                    parts(&self.sinks[sink], &record).into_iter().zip([false, true])
                {
                    let Some(bytes) = bytes else { continue };
                    if let Some((schemas, id, kind)) = codec.needs(bytes, header)
                        && seen.insert((sink, is_value, id.clone()))
                        && (!schemas.has(&id) || (is_value && self.is_unnoted(sink, &id)))
                    {
                        missing.push(Named { schemas: Arc::clone(schemas), id, kind, sink, is_value });
                    }
                }
            }
        }
        missing
    }
}

/// The sinks that take a topic.
fn taking(sinks: &[Sink], topic: &str) -> Vec<usize> {
    (0..sinks.len()).filter(|&at| sinks[at].takes(topic)).collect()
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("sinks", &self.sinks.len()).finish_non_exhaustive()
    }
}

/// A schema that records of a batch name.
struct Named {
    schemas: Arc<Schemas>,
    id: SchemaId,
    kind: Kind,
    /// Whose record it is.
    sink: usize,
    /// Not of its key.
    is_value: bool,
}

/// Key and value: how they are read, their bytes, and the header that may name the schema.
type Part<'a> = (&'a Codec, Option<&'a [u8]>, Option<&'a [u8]>);

fn parts<'a>(sink: &'a Sink, record: &'a Record<'_>) -> [Part<'a>; 2] {
    let header = |codec: &Codec, name| if codec.is_plain() { None } else { record.last(name) };
    [
        (&sink.key_codec, record.key(), header(&sink.key_codec, KEY_HEADER)),
        (&sink.value_codec, record.value(), header(&sink.value_codec, VALUE_HEADER)),
    ]
}

/// A record's key and value as JSON, where a schema makes them that.
#[derive(Default)]
pub(super) struct Decoded {
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Decoded {
    /// What a sink's mapping sees of a record; `None`: it is not meant, whatever its value is.
    ///
    /// # Errors
    /// Why it is rejected; [retry](HandlerError::retry) if its schema is not here.
    pub(super) fn input<'a>(
        &'a mut self,
        sink: &Sink,
        record: &'a Record<'_>,
    ) -> Result<Option<Input<'a>>, HandlerError> {
        let mut input = Input::of(record);
        let [(key_codec, key, key_header), (value_codec, value, value_header)] = parts(sink, record);
        let failed = |part: &str, undecoded| match undecoded {
            Undecoded::Bad(what) => {
                HandlerError::reject(record, format!("table {}: {part}: {what}", sink.table.name))
            }
            Undecoded::Without(id) => HandlerError::retry(format!("{id} is not here yet")),
        };
        if let (false, Some(key)) = (key_codec.is_plain(), key) {
            key_codec.decode(key, key_header, &mut self.key).map_err(|undecoded| failed("key", undecoded))?;
            input.key = Some(&self.key);
        }
        if let (false, Some(value)) = (value_codec.is_plain(), value) {
            match value_codec.decode(value, value_header, &mut self.value) {
                Ok(()) => input.value = Some(&self.value),
                Err(Undecoded::Bad(_)) if Mapped::is_excluded(sink, input, &Buffers::default()) => {
                    return Ok(None);
                }
                Err(undecoded) => return Err(failed("value", undecoded)),
            }
        }
        Ok(Some(input))
    }
}

/// What follows from a record, for one sink.
pub(super) fn push(
    at: usize,
    sink: &Sink,
    record: &Record<'_>,
    rows: &mut Rows<'_>,
) -> Result<(), HandlerError> {
    let reject = |what: &str| HandlerError::reject(record, format!("table {}: {what}", sink.table.name));
    let (mut decoded, buffers) = (Decoded::default(), Buffers::default());
    let Some(input) = decoded.input(sink, record)? else { return Ok(()) };
    let mapped = Mapped::new(sink, input, &buffers).map_err(|what| reject(&what))?;
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
            let alone = key.len() == 1;
            // The key, and the version.
            let said = rows.deletion(at);
            let cell = |column: usize| {
                if key.contains(&column) {
                    mapped.key_cell(column, alone)
                } else if said.contains(&column) {
                    mapped.version(column)
                } else {
                    mapped.mark(column)
                }
            };
            if matches!(sink.deletes, Deletes::Soft(_)) {
                rows.update_to(at, |fields| {
                    (0..sink.columns.len())
                        .try_for_each(|column| fields.put(&cell(column).map_err(&mut note)?))
                })
            } else {
                rows.delete_from(at, |fields| {
                    said.iter().try_for_each(|&column| fields.put(&cell(column).map_err(&mut note)?))
                })
            }
        }
    };
    match unsaid {
        Some(what) => Err(reject(&what)),
        None => done,
    }
}
