//! What a pipeline would do with the records that come next. Nothing is written: no group is joined, no offset recorded,
//! and the transaction in which the rows are tried is rolled back.

mod place;
mod table;
mod tell;
mod trial;

use std::time::Duration;

use serde::{Serialize, Serializer};
use uuid::Uuid;

pub(super) use self::place::topics;
pub use self::table::ColumnPreview;
pub(super) use self::trial::batch;
use super::Pipeline;
use super::evolve::{Evolution, Printed};
use super::file::Evolve;
use crate::config::Config;
use crate::db::{Db, DbError, Identity, into_fatal};
use crate::error::{Error, ErrorKind, Result};
use crate::migrate::check_version;
use crate::offsets::{ReadRecord, sample};
use crate::{HandlerError, HandlerErrorKind, PartialConfig, Tx};

/// How long reading may take.
const READING: Duration = Duration::from_secs(30);
/// And looking at the tables.
const LOOKING: Duration = Duration::from_secs(10);

/// What a pipeline would do with some records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Preview {
    /// The consumer group that would read them.
    pub group: String,
    /// How many records were read.
    pub records: usize,
    /// Reading was ended before all that was asked for was read: it took too long, or there was too much of it.
    pub is_cut: bool,
    /// From where, by partition.
    pub partitions: Vec<PartitionPreview>,
    /// In the order of the file.
    pub sinks: Vec<SinkPreview>,
    /// Records of which nothing would be applied.
    pub rejected: Vec<RejectedPreview>,
    /// What would keep a worker from its work.
    pub problems: Vec<String>,
    /// What the tables lack of what the file wants of them, as SQL, where its `evolve` says so: for the owner to run, or what a
    /// worker would do at its start.
    pub ddl: Option<String>,
}

/// Where reading begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PartitionPreview {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The first offset that was looked for.
    pub from: i64,
    /// How many records were read.
    pub records: usize,
}

/// What comes into a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SinkPreview {
    /// As the file has it.
    pub table: String,
    /// Names and patterns.
    pub topics: Vec<String>,
    /// How many of the records are of these topics.
    pub records: usize,
    /// How many of them become rows.
    pub rows: usize,
    /// How many delete one.
    pub deletions: usize,
    /// How many are not meant: nothing comes of them here.
    pub stepped_over: usize,
    /// How many are rejected, for this table's sake or another's.
    pub rejected: usize,
    /// Whether the database has the table.
    pub is_there: bool,
    /// Whether the rows were tried in it.
    pub is_tried: bool,
    /// What the file fills.
    pub columns: Vec<ColumnPreview>,
    /// The first rows.
    pub shown: Vec<RowPreview>,
}

/// A row as it would be in the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RowPreview {
    /// The record's topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// It is the key of a row that is deleted.
    pub deletes: bool,
    /// Column and value, as Postgres writes it; none: NULL.
    #[serde(serialize_with = "as_object")]
    pub columns: Vec<(String, Option<String>)>,
}

/// A record that is rejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct RejectedPreview {
    /// The record's topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Without a value of it.
    pub reason: String,
}

fn as_object<S: Serializer>(
    columns: &[(String, Option<String>)],
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_map(columns.iter().map(|(column, value)| (column, value)))
}

impl Preview {
    /// Whether a worker would apply all of it.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.rejected.is_empty() && self.problems.is_empty()
    }
}

impl Pipeline {
    /// Reads up to `records` records for each sink from where a worker would go on, and tells what would become of them;
    /// `settings` as of [`worker`](Self::worker).
    ///
    /// The rows are written by the sinks themselves in a transaction that is rolled back, so that every conversion,
    /// constraint and trigger has its say. Sequences move all the same, and what a trigger does outside of the database stays
    /// done.
    ///
    /// # Errors
    /// As a worker's at its start; a server that is away is not waited for.
    pub async fn preview(&self, settings: PartialConfig, records: usize) -> Result<Preview> {
        let settings = self.settings(settings)?;
        let (config, operator) = (settings.clone().finish()?, settings.finish_operator()?);
        let identity =
            Identity { owner: Uuid::new_v4(), group: config.group.as_str().into(), instance_id: None };
        let db = Db::of_visitor(&config, identity)?;
        let client = db.control().await.map_err(|error| unusable(error.into(), &db))?;
        check_version(client.raw(), &db.schema).await?;
        drop(client);
        let catalog = operator.catalog()?;
        let places = place::places(&config, &db, &catalog).await?;
        let sets = self.sinks.iter().map(|sink| {
            let taken = places.partitions.iter().enumerate().filter(|(_, (key, _))| sink.takes(&key.topic));
            taken.map(|(at, _)| at).collect()
        });
        let sets: Vec<Vec<usize>> = sets.collect();
        let sampled = sample(&catalog, &places.partitions, &sets, records, READING).await?;
        let partitions = places.partitions.iter().zip(&sampled.from).map(|((key, _), from)| {
            let of = |record: &&ReadRecord| record.topic == key.topic && record.partition == key.partition;
            let records = sampled.records.iter().filter(of).count();
            PartitionPreview { topic: key.topic.to_string(), partition: key.partition, from: *from, records }
        });
        let mut preview = Preview {
            group: config.group.clone(),
            records: sampled.records.len(),
            is_cut: sampled.is_cut,
            partitions: partitions.collect(),
            sinks: Vec::new(),
            rejected: Vec::new(),
            problems: places.problems,
            ddl: None,
        };
        for (topic, template) in preview
            .partitions
            .iter()
            .flat_map(|partition| self.templates.iter().map(move |template| (&partition.topic, template)))
        {
            let left =
                || template.left(topic).map(|left| format!("topic {topic} has no table: {}", left.why));
            if let Some(why) =
                template.takes(topic).then(|| template.table(topic).err().or_else(left)).flatten()
                && !preview.problems.contains(&why)
            {
                preview.problems.push(why);
            }
        }
        self.missing_from_tables(&config, &mut preview).await?;
        self.obtain(&sampled, &mut preview).await;
        let connection = db.lane().await.map_err(|error| unusable(error.into(), &db))?;
        let failed = |error: HandlerError| {
            let kind = match error.kind() {
                HandlerErrorKind::Retry => ErrorKind::Postgres,
                _ => ErrorKind::Handler,
            };
            Error::new(kind, "could not try the rows in the database").with_source(error)
        };
        let mut tx = Tx::begin(connection, db.renewal()).await.map_err(failed)?;
        let told = self.tell(&sampled, &mut preview, &mut tx).await;
        // Whatever came of it: an open transaction is never committed.
        drop(tx.rollback().await);
        db.close();
        told.map_err(failed)?;
        Ok(preview)
    }

    /// Of sinks that look at their tables.
    async fn missing_from_tables(&self, config: &Config, preview: &mut Preview) -> Result<()> {
        let evolution = Evolution::new(config, Printed::default())?;
        for sink in self.sinks.iter().filter(|sink| sink.job.evolve != Evolve::None) {
            let looked = tokio::time::timeout(LOOKING, evolution.missing(&sink.job)).await;
            let Ok(looked) = looked else {
                preview.problems.push(format!("the tables could not be looked at in {LOOKING:?}"));
                return Ok(());
            };
            let (missing, wrong) = looked?;
            preview.problems.extend(wrong);
            let is_made = matches!(sink.job.evolve, Evolve::Create | Evolve::AddColumns);
            if !missing.is_empty() {
                preview.ddl.get_or_insert_default().push_str(&missing.concat());
                if !is_made {
                    preview
                        .problems
                        .push(format!("table {}: something is missing, see the SQL", sink.table.name));
                }
            }
        }
        Ok(())
    }
}

/// What a worker would end with, or wait for.
fn unusable(error: DbError, db: &Db) -> Error {
    match into_fatal(error, db) {
        Err(fatal) => fatal,
        Ok(error) => {
            let text = format!("could not use Postgres at {}: {error}", db.server);
            Error::new(ErrorKind::Postgres, text)
        }
    }
}
