//! What a handler is given, and what one transaction covers.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use uuid::Uuid;

use crate::config::TopicPartition;
use crate::dead_letter::{Behind, Policies, Rejection};
use crate::record::RecordId;
use crate::record::chunk::Chunk;
use crate::{NextOffset, Record};

/// A topic and a partition of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PartitionKey {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
}

impl From<&TopicPartition> for PartitionKey {
    fn from(named: &TopicPartition) -> Self {
        Self { topic: named.topic.as_str().into(), partition: named.partition }
    }
}

impl fmt::Debug for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.topic, self.partition)
    }
}

impl fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.topic, self.partition)
    }
}

/// Numbers the times that partitions were assigned to this process.
pub(crate) type AssignmentId = u64;

/// A partition that Kafka assigned.
#[derive(Debug, Clone)]
pub(crate) struct Assigned {
    pub(crate) key: PartitionKey,
    pub(crate) id: AssignmentId,
}

/// Under which claim something was read or is to be committed (EO-3). The token is needed beside the epoch
/// because a fail-over to an asynchronous replica can issue an epoch twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ClaimId {
    pub(crate) epoch: i64,
    pub(crate) token: Uuid,
}

/// The last record below a position: where it ends, and the leader epoch in which it was written. If that epoch ended
/// before `at`, the log was truncated (KIP-320).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EpochMark {
    pub(crate) at: NextOffset,
    pub(crate) leader_epoch: i32,
}

/// Some records of a chunk.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) chunk: Arc<Chunk>,
    pub(crate) range: Range<usize>,
}

impl Segment {
    pub(crate) fn weight(&self) -> usize {
        self.range.clone().map(|index| self.chunk.weight(index)).sum()
    }
}

/// Timestamps up to the end of the year 9999. A producer may write anything (nanoseconds, say); what Postgres could
/// not hold must not fail the compare-and-set.
pub(crate) const REPRESENTABLE_MS: RangeInclusive<i64> = 0..=253_402_300_799_999;

/// A record that was rejected before, and why: no handler is given it again, and it is stored with the batch (EO-9).
#[derive(Debug, Clone)]
pub(crate) struct Letter {
    /// Of this one record.
    pub(crate) segment: Segment,
    pub(crate) why: Arc<Rejection>,
}

/// What a batch holds of one partition: the records of `[from, to)`, which may be none (EO-1, EO-2).
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) key: PartitionKey,
    pub(crate) claim: ClaimId,
    pub(crate) from: NextOffset,
    pub(crate) to: NextOffset,
    /// What the handler is given, and what is parked.
    pub(crate) segments: Vec<Segment>,
    /// The last record, if that is one to be stored.
    pub(crate) letter: Option<Letter>,
    /// Which of the records are parked behind a dead letter of their key, and are no handler's: their offsets, rising, and
    /// behind what.
    pub(crate) parked: Vec<(i64, Behind)>,
}

impl Part {
    /// How many records the handler is given.
    pub(crate) fn len(&self) -> usize {
        self.all() - usize::from(self.letter.is_some()) - self.parked.len()
    }

    /// How many records there are.
    pub(crate) fn all(&self) -> usize {
        self.all_segments().map(|segment| segment.range.len()).sum()
    }

    pub(crate) fn weight(&self) -> usize {
        self.all_segments().map(Segment::weight).sum()
    }

    /// In offset order.
    pub(crate) fn all_segments(&self) -> impl DoubleEndedIterator<Item = &Segment> {
        self.segments.iter().chain(self.letter.as_ref().map(|letter| &letter.segment))
    }

    /// The record that is to be stored, and why.
    pub(crate) fn rejected(&self) -> Option<(Record<'_>, &Rejection)> {
        let Letter { segment, why } = self.letter.as_ref()?;
        Some((Record::new(self, &segment.chunk, segment.range.start), why))
    }

    /// The records that are parked, and behind what.
    pub(crate) fn parked(&self) -> impl Iterator<Item = (Record<'_>, &Behind)> {
        let records = if self.parked.is_empty() { &[] } else { &*self.segments };
        self.of(records.iter()).filter_map(|record| {
            let (_, behind) = &self.parked[self.parked_at(record.offset())?];
            Some((record, behind))
        })
    }

    fn parked_at(&self, offset: i64) -> Option<usize> {
        if self.parked.is_empty() {
            return None;
        }
        self.parked.binary_search_by_key(&offset, |(offset, _)| *offset).ok()
    }

    /// What the handler is given.
    pub(crate) fn records(&self) -> impl DoubleEndedIterator<Item = Record<'_>> {
        self.of(self.segments.iter()).filter(|record| self.parked_at(record.offset()).is_none())
    }

    /// Whether a record is of this partition.
    pub(crate) fn is_of(&self, record: &RecordId) -> bool {
        self.key.partition == record.partition && self.key.topic == record.topic
    }

    /// All records, in offset order.
    pub(crate) fn every(&self) -> impl Iterator<Item = Record<'_>> {
        self.of(self.all_segments())
    }

    fn of<'a>(
        &'a self,
        segments: impl DoubleEndedIterator<Item = &'a Segment>,
    ) -> impl DoubleEndedIterator<Item = Record<'a>> {
        segments.flat_map(move |segment| {
            segment.range.clone().map(move |index| Record::new(self, &segment.chunk, index))
        })
    }

    /// The last record's end and leader epoch, and its timestamp (ms), where known.
    pub(crate) fn last_marks(&self) -> (Option<EpochMark>, Option<i64>) {
        let Some(segment) = self.all_segments().next_back().filter(|segment| !segment.range.is_empty())
        else {
            return (None, None);
        };
        let last = segment.range.end - 1;
        let (at, leader_epoch) = (segment.chunk.next_offset(last), segment.chunk.leader_epoch(last));
        let timestamp = Some(segment.chunk.timestamp_ms(last)).filter(|ms| REPRESENTABLE_MS.contains(ms));
        ((leader_epoch >= 0).then_some(EpochMark { at, leader_epoch }), timestamp)
    }
}

/// Of a batch that was put together from dead letters: offsets do not move with it, the letters' states do.
#[derive(Debug)]
pub(crate) struct Redriven {
    /// The redrive that asks for it.
    pub(crate) request: i64,
    /// The number of each dead letter, by its record's offset. All are of the batch's one part.
    pub(crate) letters: BTreeMap<i64, i64>,
}

/// Records to apply in one transaction.
///
/// Within a partition they are in offset order and contiguous (compaction and transaction markers aside) with
/// what was applied before. A batch may hold several partitions; between them there is no order.
pub struct Batch {
    pub(crate) parts: Vec<Part>,
    len: usize,
    prepared: Mutex<Option<Box<dyn Any + Send>>>,
    /// What becomes of records that are rejected; `None`: they halt their partitions.
    policies: Option<Arc<Policies>>,
    /// How many records its handler has rejected, once it is durable.
    rejected: AtomicUsize,
    /// `None`: it was fetched.
    redriven: Option<Redriven>,
}

impl Batch {
    pub(crate) fn new(parts: Vec<Part>) -> Self {
        let len = parts.iter().map(Part::len).sum();
        let rejected = AtomicUsize::new(0);
        Self { parts, len, prepared: Mutex::default(), policies: None, rejected, redriven: None }
    }

    /// Dead letters, to be applied once more.
    pub(crate) fn of_letters(part: Part, redriven: Redriven) -> Self {
        Self { redriven: Some(redriven), ..Self::new(vec![part]) }
    }

    /// Which dead letters it was put together from; `None`: it was fetched.
    pub(crate) fn redriven(&self) -> Option<&Redriven> {
        self.redriven.as_ref()
    }

    /// The same under these policies.
    pub(crate) fn under(self, policies: Option<Arc<Policies>>) -> Self {
        Self { policies, ..self }
    }

    pub(crate) fn set_policies(&mut self, policies: &Arc<Policies>) {
        self.policies = Some(Arc::clone(policies));
    }

    pub(crate) fn policies(&self) -> Option<&Arc<Policies>> {
        self.policies.as_ref()
    }

    /// Whether records of `topic` may be rejected one by one, without failing the batch.
    pub(crate) fn sets_aside(&self, topic: &str) -> bool {
        self.policies.as_ref().is_some_and(|policies| policies.sets_aside(topic))
    }

    /// The batch is durable, and its handler has rejected so many of its records.
    pub(crate) fn has_rejected(&self, records: usize) {
        self.rejected.store(records, Ordering::Relaxed);
    }

    /// How many of its records the handler has rejected, once it is durable.
    pub(crate) fn rejected(&self) -> usize {
        self.rejected.load(Ordering::Relaxed)
    }

    /// How many records were applied, once it is durable.
    pub(crate) fn applied(&self) -> usize {
        self.len.saturating_sub(self.rejected())
    }

    /// How many records the batch holds; a handler is never given an empty batch.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes of keys, values and headers.
    pub(crate) fn bytes(&self) -> usize {
        let segments = self.parts.iter().flat_map(|part| &part.segments);
        segments.map(|segment| segment.chunk.data_bytes(&segment.range)).sum()
    }

    /// Whether there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Every record: partition by partition, in offset order within each.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        self.parts.iter().flat_map(Part::records)
    }

    /// Keeps what [`Handler::prepare`](crate::Handler::prepare) made of this batch; what was kept before is dropped.
    pub fn keep<T: Send + 'static>(&self, prepared: T) {
        *self.prepared.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(prepared));
    }

    /// Takes out what was [kept](Self::keep), if it is a `T`. `None` whenever the batch was not prepared, so a handler
    /// must be able to do without.
    #[must_use]
    pub fn take_kept<T: Send + 'static>(&self) -> Option<T> {
        let mut slot = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        slot.take()?.downcast().ok().map(|prepared| *prepared)
    }

    /// The records of each partition, for handlers that treat partitions apart.
    pub fn partitions(&self) -> impl Iterator<Item = PartitionRecords<'_>> {
        self.parts.iter().filter(|part| part.len() > 0).map(|part| PartitionRecords { part })
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = Record<'a>;
    type IntoIter = Box<dyn Iterator<Item = Record<'a>> + Send + 'a>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.records())
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for part in &self.parts {
            map.entry(&part.key, &format_args!("[{}, {}) {} records", part.from, part.to, part.len()));
        }
        map.finish()
    }
}

/// The records of one partition in a batch.
#[derive(Debug, Clone, Copy)]
pub struct PartitionRecords<'a> {
    part: &'a Part,
}

impl<'a> PartitionRecords<'a> {
    /// The topic's name.
    #[must_use]
    pub fn topic(&self) -> &'a str {
        &self.part.key.topic
    }

    /// The partition's number, from 0.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.part.key.partition
    }

    /// How many records there are: at least one.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "never empty")]
    pub fn len(&self) -> usize {
        self.part.len()
    }

    /// The records in offset order.
    pub fn records(&self) -> impl DoubleEndedIterator<Item = Record<'a>> + use<'a> {
        self.part.records()
    }
}
