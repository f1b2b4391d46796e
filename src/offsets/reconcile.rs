//! Proof that nothing is missing and nothing is there twice: the rows of a group's tables, its offsets and its ledger
//! against each other, and against the topics themselves.
//!
//! Each partition is one picture: its offsets, its history and its rows come out of one snapshot. Kafka is asked before
//! it for what only grows afterwards (where logs begin, what is mirrored), and after it for where logs end: so a fleet at
//! work differs in nothing.

mod compare;
pub(super) mod coverage;
mod findings;
pub(super) mod history;
mod kafka;
pub(super) mod ledger;
mod options;
mod partition;
mod records;
mod report;
mod rows;
mod tables;

use std::collections::BTreeSet;

use tokio_postgres::{Client, IsolationLevel, Transaction};

use self::findings::{Findings, Where};
use self::kafka::{Before, before};
use self::ledger::Kept;
use self::report::DifferenceKind as Kind;
use self::tables::{Group, Table};
use super::read::Reader;
use super::rows::Standing;
use super::{Offsets, Selection};
use crate::batch::PartitionKey;
use crate::consumer::Catalog;
use crate::error::{Error, ErrorKind, Result};
use crate::schema::SchemaName;

pub use self::options::{Expect, ReconcileOptions, TableChoice};
pub use self::report::{
    ComparedPartition, ComparedTable, Difference, DifferenceKind, LedgerRange, RangeKind, Reconciliation,
    RowCount, UnreadPartition,
};

/// A sort of a large table takes its time; a client that is gone is noticed all the same.
const SESSION: &str = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = '10min'";

/// How far a reconciliation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReconcileProgress<'a> {
    /// Of which topic.
    pub topic: &'a str,
    /// Of which partition.
    pub partition: i32,
    /// How many offsets were compared, over all partitions.
    pub done: u64,
    /// Of how many.
    pub total: u64,
}

/// Who wants to know.
pub(super) type OnProgress<'p> = dyn FnMut(ReconcileProgress<'_>) + Send + 'p;

/// What all partitions of a run share.
struct Run<'a> {
    schema: &'a SchemaName,
    group: &'a str,
    options: &'a ReconcileOptions,
    tables: Vec<Table>,
    kept: Kept,
    catalog: Option<&'a Catalog>,
    reader: Option<Reader>,
    before: Option<Before>,
    findings: Findings,
    unread: Vec<UnreadPartition>,
    done: u64,
    total: u64,
}

impl Offsets {
    /// Compares a group's offsets, ledger and rows with each other, and with Kafka; with
    /// [`deep`](ReconcileOptions::deep), record by record. Nothing is changed. `progress` is told every few thousand offsets.
    ///
    /// What is found is in the answer; that something was found is no error. Nor is it one that a partition cannot be read
    /// (it has no leader, a record is corrupt): the others are, and it is in [`unread`](Reconciliation::unread).
    ///
    /// # Errors
    ///
    /// If a name is unknown, a named table's rows do not say which record they are of, Postgres does not answer, the topic
    /// is not the one that was read so far ([`Guard`](ErrorKind::Guard)), or no broker answers where Kafka must be read.
    pub async fn reconcile(
        &mut self,
        group: &str,
        options: &ReconcileOptions,
        progress: &mut OnProgress<'_>,
    ) -> Result<Reconciliation> {
        self.reconnect().await?;
        let all = self.standing(group, &Selection::AllTopics).await?;
        let standing = self.standing(group, &options.selection).await?;
        let topics: BTreeSet<String> = all.iter().map(|row| row.key.topic.to_string()).collect();
        let selected: BTreeSet<String> = standing.iter().map(|row| row.key.topic.to_string()).collect();
        let looking = Group {
            client: &self.client,
            schema: self.schema(),
            name: group,
            topics: &topics,
            selected: &selected,
        };
        let (tables, notes) = looking.tables(&options.tables).await?;
        let mut findings = Findings::new(options.named, tables.len());
        findings.notes = notes;
        if options.deep {
            self.kafka()?;
        }
        let (before, reader) = match &self.catalog {
            Some(catalog) => match before(catalog, group, &standing, &selected).await {
                Ok(before) if !options.deep && before.is_without_answer() => {
                    findings
                        .notes
                        .extend(before.silent.first().map(|silent| format!("Kafka was left out: {silent}")));
                    (None, None)
                }
                Ok(before) => {
                    if !options.deep {
                        findings.notes.extend(before.silent.iter().map(ToString::to_string));
                    }
                    (Some(before), options.deep.then(|| Reader::new(catalog)).transpose()?)
                }
                Err(error) if options.deep || error.kind() == ErrorKind::Guard => return Err(error),
                Err(error) => {
                    findings.note(format!("Kafka was left out: {}", error.report()));
                    (None, None)
                }
            },
            None => (None, None),
        };
        let mut client = super::open(&self.database).await?;
        let failed = |source| Error::postgres("prepare a session to compare in", source);
        client.batch_execute(SESSION).await.map_err(failed)?;
        let (kept, at) = self.strays(&mut client, group, options, &tables, &mut findings).await?;
        let mut run = Run {
            schema: &self.database.schema,
            group,
            options,
            tables,
            kept,
            catalog: self.catalog.as_ref(),
            reader,
            before,
            findings,
            unread: Vec::new(),
            done: 0,
            total: 0,
        };
        let size =
            |row: &Standing| u64::try_from(row.next_offset - run.first_offset(&row.key)).unwrap_or_default();
        run.total = standing.iter().map(size).sum();
        let mut partitions = Vec::new();
        for topic in &selected {
            let of_topic: Vec<&Standing> = standing.iter().filter(|row| *row.key.topic == **topic).collect();
            partitions.extend(run.topic(&mut client, topic, &of_topic, progress).await?);
        }
        let asked_kafka = run.before.is_some() && run.add_ends(&standing, &mut partitions).await?;
        run.hints();
        let Run { tables, mut findings, unread, .. } = run;
        let names: Vec<String> = tables.iter().map(|table| table.shown.name.clone()).collect();
        findings.judge(&names, options.expect);
        Ok(Reconciliation {
            group: group.to_owned(),
            at,
            deep: options.deep,
            asked_kafka,
            tables: tables.into_iter().map(|table| table.shown).collect(),
            partitions,
            differences: findings.differences,
            difference_counts: findings.counts,
            unread,
            notes: findings.notes,
        })
    }

    /// Rows of no partition that the group has; and how far back its history goes.
    async fn strays(
        &self,
        client: &mut Client,
        group: &str,
        options: &ReconcileOptions,
        tables: &[Table],
        findings: &mut Findings,
    ) -> Result<(Kept, String)> {
        let failed = |source| Error::postgres(format!("read the history of group `{group}`"), source);
        let transaction = snapshot(client).await.map_err(failed)?;
        let kept = history::kept(&transaction, self.schema(), group).await.map_err(failed)?;
        for (index, table) in tables.iter().enumerate() {
            // What an unregistered table has beside the group's topics is anybody's.
            let is_whole = table.shown.registered && options.selection == Selection::AllTopics;
            let topics = (!is_whole).then_some(&table.topics);
            let strays = rows::strays(&transaction, self.schema(), group, table, topics).await;
            for stray in strays.map_err(|source| unread(table, source))? {
                stray.tell(table, index, findings);
            }
        }
        transaction.commit().await.map_err(failed)?;
        Ok(kept)
    }
}

impl rows::Stray {
    fn tell(self, table: &Table, index: usize, findings: &mut Findings) {
        let rows = u64::try_from(self.rows).unwrap_or_default();
        if self.is_of_nothing {
            findings.tables[index].of_nothing += rows;
            return;
        }
        let topic = self.topic.unwrap_or_default();
        let partition = self.partition.unwrap_or_default();
        let text =
            format!("{rows} rows of topic {topic}, partition {partition}, which the group does not have");
        let place = Where { topic: &topic, partition: i32::try_from(partition).unwrap_or(-1) };
        let name = Some(table.shown.name.as_str());
        let first = self.offset.unwrap_or_default();
        findings.add(place.differs(Kind::UnknownPartition, name, (first, None), text));
    }
}

impl Run<'_> {
    /// One snapshot per partition where an index gives a partition's rows in order; one for all of a topic's where some
    /// table has to be sorted for it.
    async fn topic(
        &mut self,
        client: &mut Client,
        topic: &str,
        standing: &[&Standing],
        progress: &mut OnProgress<'_>,
    ) -> Result<Vec<ComparedPartition>> {
        let is_sorted = |table: &Table| table.shown.index.is_none() && table.topics.contains(topic);
        let at_once = if self.tables.iter().any(is_sorted) { standing.len() } else { 1 };
        let topic_id = standing.first().and_then(|row| row.identity.topic_id.clone()).unwrap_or_default();
        let mut compared = Vec::new();
        for unit in standing.chunks(at_once.max(1)) {
            let partitions: Vec<i32> = unit.iter().map(|row| row.key.partition).collect();
            let of = partition::Unit { topic, topic_id: &topic_id, partitions: &partitions };
            compared.extend(self.unit(client, of, progress).await?);
        }
        Ok(compared)
    }

    /// The first offset of a partition that is compared, as far as progress goes.
    fn first_offset(&self, key: &PartitionKey) -> i64 {
        match (&self.before, self.options.deep) {
            (Some(before), true) => before.survey.available.get(key).map_or(0, |found| found.low.get()),
            _ => 0,
        }
    }
}

/// One picture of everything that is read in it.
async fn snapshot(client: &mut Client) -> Result<Transaction<'_>, tokio_postgres::Error> {
    client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await
}

fn unread(table: &Table, source: tokio_postgres::Error) -> Error {
    Error::postgres(format!("read the rows of {}", table.shown.name), source)
}
