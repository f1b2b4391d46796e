//! What a handler sees of a Kafka record.

pub(crate) mod chunk;
pub(crate) mod json;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use crate::HandlerError;
use crate::batch::Part;
use crate::consumer::ffi::TimestampType;
use chunk::Chunk;

/// One Kafka record, borrowed from its [`Batch`](crate::Batch).
///
/// Cheap to copy: a pair of references. Payloads lie in the batch's arena and are not copied again.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    part: &'a Part,
    chunk: &'a Chunk,
    index: usize,
}

impl<'a> Record<'a> {
    pub(crate) fn new(part: &'a Part, chunk: &'a Chunk, index: usize) -> Self {
        Self { part, chunk, index }
    }

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

    /// The record's own offset. Within a partition offsets rise, with gaps where compaction or transaction
    /// markers took their place.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.chunk.offset(self.index)
    }

    /// The key; `None` is a null key, which is not an empty one.
    #[must_use]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.chunk.key(self.index)
    }

    /// The value; `None` is a tombstone.
    #[must_use]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.chunk.value(self.index)
    }

    /// Name and value of each header, in the record's order; a name may occur more than once.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> {
        self.chunk.headers(self.index)
    }

    /// All headers, also those whose names are no UTF-8.
    pub(crate) fn raw_headers(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        self.chunk.raw_headers(self.index)
    }

    /// The timestamp as Kafka has it; -1 when the record has none.
    pub(crate) fn raw_timestamp_ms(&self) -> i64 {
        self.chunk.timestamp_ms(self.index)
    }

    /// Whose clock the timestamp is from.
    pub(crate) fn timestamp_type(&self) -> Option<TimestampType> {
        self.chunk.timestamp_type(self.index)
    }

    /// The record's timestamp in milliseconds since 1970-01-01T00:00:00Z, as set by the producer or, with
    /// `message.timestamp.type=LogAppendTime`, by the broker; `None` if it has none.
    #[must_use]
    pub fn timestamp_ms(&self) -> Option<i64> {
        Some(self.chunk.timestamp_ms(self.index)).filter(|&ms| ms >= 0)
    }

    /// The record's timestamp; see [`timestamp_ms`](Self::timestamp_ms).
    #[must_use]
    pub fn timestamp(&self) -> Option<SystemTime> {
        let ms = u64::try_from(self.timestamp_ms()?).ok()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms))
    }

    /// Decodes the value as JSON; `T` may borrow from the record.
    ///
    /// # Errors
    /// A rejection of this very record: if the value is null, or is not JSON of `T`'s shape. Passed on with `?`
    /// it lets the worker apply what came before the record and then follow its reject policy. Its text has the place in
    /// the value and the kind of misfit, never what stands there.
    pub fn json<T: Deserialize<'a>>(&self) -> Result<T, HandlerError> {
        let value = self.value().ok_or_else(|| HandlerError::reject(self, "the value is null"))?;
        serde_json::from_slice(value).map_err(|error| HandlerError::reject(self, json::describe(&error)))
    }

    /// The record's place, for messages and for [`HandlerError::reject_at`](crate::HandlerError::reject_at).
    #[must_use]
    pub fn id(&self) -> RecordId {
        RecordId {
            topic: Arc::clone(&self.part.key.topic),
            partition: self.partition(),
            offset: self.offset(),
        }
    }
}

/// Never a payload: records may hold what must not reach a log.
impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("topic", &self.topic())
            .field("partition", &self.partition())
            .field("offset", &self.offset())
            .finish_non_exhaustive()
    }
}

/// Where a record is: topic, partition, offset.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number, from 0.
    pub partition: i32,
    /// The record's own offset.
    pub offset: i64,
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]@{}", self.topic, self.partition, self.offset)
    }
}
