//! Bringing together what Postgres and Kafka have of a partition, offset by offset.

use std::collections::BTreeMap;
use std::ops::Range;

use tokio_postgres::Client;

use super::compare::{At, ClaimCount, Comparison, Facts, Seen, TableRules};
use super::coverage::Coverage;
use super::findings::Where;
use super::ledger::{History, Step, chain};
use super::records::{Extent, RecordStream, is_of_one_partition};
use super::report::DifferenceKind as Kind;
use super::rows::Stream;
use super::{
    ComparedPartition, LedgerRange, OnProgress, RangeKind, ReconcileProgress, Run, UnreadPartition, history,
    snapshot, unread,
};
use crate::batch::PartitionKey;
use crate::error::{Error, Result};
use crate::offsets::read::Reader;

/// Between two words about progress.
const TELL_EVERY: u64 = 10_000;

/// Partitions of a topic that are compared out of one snapshot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unit<'a> {
    pub(super) topic: &'a str,
    pub(super) topic_id: &'a str,
    pub(super) partitions: &'a [i32],
}

/// What comes in the order of its offsets, from the database.
struct Streams<'t> {
    /// One per table; none: it has no rows of this topic.
    tables: Vec<Option<Stream<'t>>>,
    dead: Stream<'t>,
}

impl Run<'_> {
    pub(super) async fn unit(
        &mut self,
        client: &mut Client,
        unit: Unit<'_>,
        progress: &mut OnProgress<'_>,
    ) -> Result<Vec<ComparedPartition>> {
        let failed = |source| {
            Error::postgres(
                format!("read the history of group `{}` in topic {}", self.group, unit.topic),
                source,
            )
        };
        let transaction = snapshot(client).await.map_err(failed)?;
        let mut histories =
            history::read(&transaction, self.schema, (self.group, unit.topic, unit.partitions))
                .await
                .map_err(failed)?;
        let only = match unit.partitions {
            [only] => Some(*only),
            _ => None,
        };
        let mut tables = Vec::new();
        for table in &self.tables {
            tables.push(if table.topics.contains(unit.topic) {
                let rows = Stream::rows(&transaction, table, unit.topic, only).await;
                Some(rows.map_err(|source| unread(table, source))?)
            } else {
                None
            });
        }
        let which = (self.group, unit.topic, unit.topic_id);
        let dead = Stream::dead_letters(&transaction, self.schema, which, only).await.map_err(failed)?;
        let mut streams = Streams { tables, dead };
        let mut compared = Vec::new();
        for &partition in unit.partitions {
            // A row that has vanished since it was looked up.
            let Some(history) = histories.remove(&partition) else { continue };
            let key = PartitionKey { topic: unit.topic.into(), partition };
            compared.push(self.partition(&key, history, &mut streams, progress).await?);
        }
        drop(streams);
        transaction.commit().await.map_err(|source| Error::postgres("end a snapshot", source))?;
        Ok(compared)
    }

    async fn partition(
        &mut self,
        key: &PartitionKey,
        history: History,
        streams: &mut Streams<'_>,
        progress: &mut OnProgress<'_>,
    ) -> Result<ComparedPartition> {
        let (next_offset, first_offset) = (history.next_offset, self.first_offset(key));
        let steps = chain(history, self.kept);
        let coverage = Coverage::new(&steps);
        let place = Where { topic: &key.topic, partition: key.partition };
        self.ledger_differences(place, &steps);
        let (reader, silent) = (self.reader.as_ref(), self.silent(key));
        let mut records = match records(reader, silent, key, readable_from(&coverage)..next_offset).await? {
            Ok(records) => records,
            Err(why) => {
                self.unread.push(UnreadPartition::new(key, &why));
                None
            }
        };
        let rules = rules(&self.tables, &key.topic);
        let compacted = self.is_compacted(&key.topic);
        let facts = Facts { place, next_offset, compacted, several_rows: self.options.several_rows };
        let mut comparison = Comparison::new(facts, (&steps, &coverage), &rules, &mut self.findings);
        let (start, mut told) = (self.done, 0);
        let passed = |offset: i64| u64::try_from(offset.min(next_offset) - first_offset).unwrap_or_default();
        let (mut rows, mut heads) = (vec![0; rules.len()], vec![None; rules.len()]);
        loop {
            for ((head, stream), table) in heads.iter_mut().zip(&mut streams.tables).zip(&self.tables) {
                if let Some(stream) = stream {
                    *head = stream.peek(key.partition).await.map_err(|error| unread(table, error))?;
                }
            }
            let dead = streams.dead.peek(key.partition).await;
            let dead = dead.map_err(|source| Error::postgres("read the dead letters", source))?;
            let record = match &mut records {
                Some(records) => records.peek().await?,
                None => None,
            };
            let offsets = heads.iter().flatten().chain(&dead).map(|found| found.offset);
            let Some(offset) = offsets.chain(record.map(|(offset, _)| offset)).min() else { break };
            for ((rows, head), stream) in rows.iter_mut().zip(&heads).zip(&mut streams.tables) {
                *rows = 0;
                if let (Some(found), Some(stream)) = (head.filter(|found| found.offset == offset), stream) {
                    *rows = found.count;
                    stream.pop();
                }
            }
            let dead = dead.filter(|found| found.offset == offset);
            if dead.is_some() {
                streams.dead.pop();
            }
            let seen = match (&mut records, record) {
                (Some(records), Some((at, tombstone))) if at == offset => {
                    records.pop();
                    Seen::Record { tombstone }
                }
                (Some(records), _) if records.has_read(offset) => Seen::Nothing,
                _ => Seen::Unread,
            };
            comparison.visit(&At { offset, seen, rows: &rows, dead: dead.map(|found| found.dead()) });
            told += 1;
            if told % TELL_EVERY == 0 {
                let done = start + passed(offset);
                let (topic, partition) = (&*key.topic, key.partition);
                progress(ReconcileProgress {
                    topic,
                    partition,
                    done: done.min(self.total),
                    total: self.total,
                });
            }
        }
        let read = records.as_ref().map(RecordStream::extent);
        if let Some(why) = records.as_ref().and_then(RecordStream::failure) {
            self.unread.push(UnreadPartition::new(key, why));
        }
        let (dead_letters, read_records) = (comparison.dead_letters, comparison.records);
        let (counts, counted) = comparison.finish(read);
        self.done += passed(next_offset);
        let stepped_over = coverage.segments.iter().filter(|segment| {
            segment.stepped_over.is_some() && segment.max == 0 && segment.from < next_offset
        });
        Ok(ComparedPartition {
            topic: key.topic.to_string(),
            partition: key.partition,
            next_offset,
            mirrored_offset: None,
            log_start_offset: None,
            last_stable_offset: None,
            log_end_offset: None,
            records: read.filter(|read| read.to.is_none()).map(|_| read_records),
            dead_letters,
            stepped_over: stepped_over.map(|segment| segment.to.min(next_offset) - segment.from).sum(),
            rows: counted,
            ledger: ranges(&steps, &coverage, &counts, read),
        })
    }

    /// Why Kafka has told nothing of it.
    fn silent(&self, key: &PartitionKey) -> Option<&str> {
        let mut silent = self.before.iter().flat_map(|before| &before.silent);
        silent.find(|silent| silent.key == *key).map(|silent| silent.why.as_str())
    }

    fn ledger_differences(&mut self, place: Where<'_>, steps: &[Step]) {
        for step in steps {
            let (kind, from, to, text) = match step {
                Step::Hole { from, to } => {
                    (Kind::Hole, from, to, "no claim and no move is on record for these offsets".to_owned())
                }
                Step::Overlap { from, to } => (
                    Kind::Overlap,
                    from,
                    to,
                    "two claims are on record for these offsets, and no move back between them".to_owned(),
                ),
                Step::Claim(claim) if claim.to < claim.from => (
                    Kind::ClaimBackwards,
                    &claim.from,
                    &claim.to,
                    format!("claim {} began at {} and ended at {}", claim.epoch, claim.from, claim.to),
                ),
                _ => continue,
            };
            self.findings.add(place.differs(kind, None, (*from, Some(*to)), text));
        }
    }
}

/// A partition's records, if it is to be read; or why it cannot.
async fn records<'r>(
    reader: Option<&'r Reader>,
    silent: Option<&str>,
    key: &PartitionKey,
    range: Range<i64>,
) -> Result<Result<Option<RecordStream<'r>>, String>> {
    match (reader, silent) {
        (None, _) => Ok(Ok(None)),
        (Some(_), Some(why)) => Ok(Err(why.to_owned())),
        (Some(reader), None) => match RecordStream::open(reader, key, range.start, range.end).await {
            Err(error) if is_of_one_partition(&error) => Ok(Err(error.report())),
            opened => opened.map(|opened| Ok(Some(opened))),
        },
    }
}

/// From the first offset on that the group may have applied.
fn readable_from(coverage: &Coverage) -> i64 {
    let is_before = |segment: &&super::coverage::Segment| segment.before_start.is_some() && segment.max == 0;
    coverage.segments.iter().find(|segment| !is_before(segment)).map_or(0, |segment| segment.from)
}

fn rules(tables: &[super::tables::Table], topic: &str) -> Vec<TableRules> {
    tables
        .iter()
        .map(|table| TableRules {
            name: table.shown.name.clone(),
            append: table.is_append() && table.topics.contains(topic),
            undone: table.shown.registered,
            shared: table.topics_of_others.contains(topic),
        })
        .collect()
}

fn ranges(
    steps: &[Step],
    coverage: &Coverage,
    counts: &[ClaimCount],
    read: Option<Extent>,
) -> Vec<LedgerRange> {
    let claims: BTreeMap<usize, &ClaimCount> =
        coverage.claims.iter().zip(counts).map(|((_, place), count)| (*place, count)).collect();
    let mut ranges = Vec::new();
    for (place, step) in steps.iter().enumerate() {
        ranges.push(match step {
            Step::Start { to, event, .. } => moved(RangeKind::of_event(&event.kind), None, Some(*to), event),
            Step::Move { from, to, event } => {
                moved(RangeKind::of_event(&event.kind), Some(*from), Some(*to), event)
            }
            Step::Delete { from, event } => moved(RangeKind::Delete, Some(*from), None, event),
            Step::Forgotten { to } => plain(RangeKind::NotKnown, None, Some(*to)),
            Step::Hole { from, to } => plain(RangeKind::Hole, Some(*from), Some(*to)),
            Step::Overlap { from, to } => plain(RangeKind::Overlap, Some(*from), Some(*to)),
            Step::Claim(claim) => {
                let count = claims.get(&place);
                let is_read = read.is_some_and(|read| read.covers(&(claim.from..claim.to)));
                LedgerRange {
                    epoch: Some(claim.epoch),
                    owner: claim.owner.clone(),
                    instance_id: claim.instance_id.clone(),
                    applied_records: Some(claim.records),
                    applied_batches: Some(claim.batches),
                    records: count.filter(|_| is_read).map(|count| count.records),
                    rows: count.map(|count| count.with_rows.clone()).unwrap_or_default(),
                    since: Some(claim.claimed_at.clone()),
                    until: claim.replaced_at.clone(),
                    ..plain(RangeKind::Applied, Some(claim.from), Some(claim.to))
                }
            }
        });
        if let Step::Claim(claim) = step {
            let lost = claim.lost.iter();
            ranges.extend(lost.map(|lost| plain(RangeKind::Lost, Some(lost.start), Some(lost.end))));
        }
    }
    ranges
}

fn plain(kind: RangeKind, from: Option<i64>, to: Option<i64>) -> LedgerRange {
    LedgerRange {
        kind,
        from,
        to,
        epoch: None,
        owner: None,
        instance_id: None,
        applied_records: None,
        applied_batches: None,
        records: None,
        rows: Vec::new(),
        since: None,
        until: None,
        actor: None,
        reason: None,
    }
}

fn moved(kind: RangeKind, from: Option<i64>, to: Option<i64>, event: &super::ledger::Event) -> LedgerRange {
    LedgerRange {
        since: Some(event.at.clone()),
        actor: Some(event.actor.clone()),
        reason: Some(event.reason.clone()),
        ..plain(kind, from, to)
    }
}
