//! `highwater infer`: a first pipeline file, and its table, of what a topic's records look like.
//!
//! What records say is told; what they cannot say (a number's unit, the key of a table) stands in comments, to be confirmed.

mod kind;
mod names;
mod schemas;
mod survey;
#[cfg(test)]
mod tests;
mod write;

use std::path::Path;
use std::time::Duration;

pub use self::schemas::InferRegistry;
use self::schemas::Known;
use self::survey::{Around, Survey};
use self::write::Draft;
use super::connect::Buffers;
use super::expect::outcome;
use super::map::{Input, Outcome};
use super::preview::{batch, topics};
use super::{Pipeline, cell::Cell};
use crate::PartialConfig;
use crate::batch::PartitionKey;
use crate::error::{Error, ErrorKind, Result};
use crate::offsets::{Place, ReadRecord, sample};

/// How long reading may take.
const READING: Duration = Duration::from_secs(30);

/// Of what a file is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct InferOptions {
    topic: String,
    table: Option<String>,
    records: usize,
    with_test: bool,
    registry: Option<InferRegistry>,
}

impl InferOptions {
    /// A topic's last thousand records.
    pub fn new(topic: impl Into<String>) -> Self {
        Self { topic: topic.into(), table: None, records: 1_000, with_test: false, registry: None }
    }

    /// The table, as SQL names it. Default: made of the topic's name.
    pub fn table(mut self, table: Option<String>) -> Self {
        self.table = table;
        self
    }

    /// How many records are read at most, the last ones of each partition.
    pub fn records(mut self, records: usize) -> Self {
        self.records = records;
        self
    }

    /// Where the schemas are that the records name. Default: they are taken for bytes.
    pub fn registry(mut self, registry: Option<InferRegistry>) -> Self {
        self.registry = registry;
        self
    }

    /// Whether the first record becomes a `[[test]]`: it holds somebody's data.
    pub fn with_test(mut self, with_test: bool) -> Self {
        self.with_test = with_test;
        self
    }
}

/// Reads some records of a topic, and writes a file; `settings` say where Kafka is, and how it is asked.
///
/// # Errors
/// If there is no such topic, it has no records, or Kafka does not answer.
pub async fn infer(settings: PartialConfig, options: &InferOptions) -> Result<String> {
    let config = settings.finish_kafka()?;
    let catalog = config.catalog()?;
    let found = topics(&catalog, std::slice::from_ref(&options.topic), &[]).await?;
    let partitions: Vec<_> = found
        .iter()
        .flat_map(|(topic, count)| {
            (0..*count)
                .map(|partition| (PartitionKey { topic: topic.as_str().into(), partition }, Place::Recent))
        })
        .collect();
    let sets = [(0..partitions.len()).collect()];
    let mut sampled = sample(&catalog, &partitions, &sets, options.records, READING).await?;
    let known = match &options.registry {
        Some(registry) => schemas::decode(&mut sampled.records, registry).await?,
        None => Known::default(),
    };
    draft(&config.brokers, &sampled.records, &known, options)
}

/// `records`: as JSON, where that is known.
///
/// # Errors
/// If there are no records, or the table has no name.
fn draft(
    brokers: &[String],
    records: &[ReadRecord],
    known: &Known,
    options: &InferOptions,
) -> Result<String> {
    if records.is_empty() {
        return Err(Error::new(
            ErrorKind::Configuration,
            format!(
                "topic {} has no records to look at: write the file by hand (docs/pipeline.md)",
                options.topic
            ),
        ));
    }
    let table = options.table.clone().unwrap_or_else(|| names::table(&options.topic));
    if table.trim().is_empty() || table.contains(|c: char| c.is_control() || c == '{') {
        return Err(Error::configuration("the table's name is empty, or has signs in it that no name has"));
    }
    let mut survey = Survey::of(records);
    let fields = known.fields(survey.around == Around::Event).unwrap_or_default();
    survey.take_names(fields.iter().map(|field| &field.name));
    let draft = Draft::new(brokers, options, &table, &survey, known, &fields);
    let mut text = draft.text();
    if options.with_test && (known.value.is_some() || known.key.is_some()) {
        text += "\n# (No [[test]] is made of records that name their schemas.)\n";
    } else if options.with_test {
        text += &test(&text, &table, records)?;
    }
    Ok(text)
}

/// The first record that becomes a row, and that row.
fn test(file: &str, table: &str, records: &[ReadRecord]) -> Result<String> {
    let pipeline = Pipeline::parse(file, Path::new("inferred.toml"))?;
    let Some(sink) = pipeline.sinks.first() else { return Ok(String::new()) };
    for record in records {
        let utf8 = |bytes: &Option<Vec<u8>>| bytes.clone().map(String::from_utf8).transpose();
        let (Ok(key), Ok(Some(value))) = (utf8(&record.key), utf8(&record.value)) else { continue };
        let batch = batch(&[record]);
        let Some(read) = batch.records().next() else { continue };
        let buffers = Buffers::default();
        let Ok(Some((Outcome::Row, row))) = outcome(sink, Input::of(&read), &buffers) else { continue };
        let expected = row.iter().filter(|(_, cell)| !cell.is_null());
        let expected = expected.map(|(name, cell)| Some((*name, expected_of(cell)?)));
        let Some(expected) = expected.collect::<Option<Vec<_>>>() else { continue };
        return Ok(write::test(table, key.as_deref(), &value, &expected));
    }
    Ok("\n# (None of the records makes a [[test]].)\n".to_owned())
}

/// As a test expects it, digit by digit.
fn expected_of(cell: &Cell<'_>) -> Option<String> {
    match cell {
        Cell::Json(raw, None) | Cell::OfEvent(raw) => {
            Some(serde_json::from_str::<String>(raw.get()).unwrap_or_else(|_| raw.get().to_owned()))
        }
        Cell::Text(text) => Some((*text).to_owned()),
        Cell::Object(text) => Some(text.clone()),
        _ => None,
    }
}
