//! Reading a partition's records again, whatever retention takes meanwhile.

use std::collections::VecDeque;
use std::ops::Range;

use crate::batch::PartitionKey;
use crate::error::{Error, ErrorKind, Result};
use crate::offsets::read::{Content, ReadRecord, Reader, Records};

/// The records of a range that are there, in offset order.
pub(super) struct RecordStream<'r> {
    reader: &'r Reader,
    key: PartitionKey,
    records: Records,
    portion: VecDeque<ReadRecord>,
    to: i64,
    /// What is behind the last record.
    at: i64,
    /// What was read, or will be; and what has gone meanwhile.
    range: Range<i64>,
    gone: Vec<Range<i64>>,
    is_over: bool,
    /// Why no more could be read.
    failure: Option<String>,
}

/// What was read of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// From where on everything was seen.
    pub(super) from: i64,
    /// Up to where; none: to the end.
    pub(super) to: Option<i64>,
}

impl Extent {
    /// Whether all of a range was read.
    pub(super) fn covers(&self, range: &Range<i64>) -> bool {
        self.from <= range.start && self.to.is_none_or(|to| range.end <= to)
    }

    /// Whether some of it was.
    pub(super) fn touches(&self, range: &Range<i64>) -> bool {
        self.from < range.end && self.to.is_none_or(|to| range.start < to)
    }
}

/// Whether an error is one partition's affair: the others may be read all the same.
pub(super) fn is_of_one_partition(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Kafka | ErrorKind::Guard | ErrorKind::Privilege)
}

impl<'r> RecordStream<'r> {
    pub(super) async fn open(reader: &'r Reader, key: &PartitionKey, from: i64, to: i64) -> Result<Self> {
        let records = reader.range(key, from, to, Content::Without).await?;
        let range = records.range();
        Ok(Self {
            reader,
            key: key.clone(),
            records,
            portion: VecDeque::new(),
            to,
            at: range.start,
            range,
            gone: Vec::new(),
            is_over: false,
            failure: None,
        })
    }

    /// The offset of the next record, and whether it is a tombstone; none, when the range is over, or
    /// [no more](Self::failure) of it can be read.
    pub(super) async fn peek(&mut self) -> Result<Option<(i64, bool)>> {
        match self.read().await {
            Err(error) if is_of_one_partition(&error) => {
                self.failure = Some(error.report());
                self.is_over = true;
                self.range.end = self.at;
                Ok(None)
            }
            read => read,
        }
    }

    async fn read(&mut self) -> Result<Option<(i64, bool)>> {
        loop {
            if let Some(record) = self.portion.front() {
                return Ok(Some((record.offset, record.value_len.is_none())));
            }
            if self.is_over {
                return Ok(None);
            }
            match self.records.next().await {
                Ok(Some(records)) => {
                    if let Some(last) = records.last() {
                        self.at = last.offset + 1;
                    }
                    self.portion.extend(records);
                }
                Ok(None) => self.is_over = true,
                Err(_) if self.records.is_gone() => {
                    self.records = self.reader.range(&self.key, self.at, self.to, Content::Without).await?;
                    let anew = self.records.range();
                    self.gone.push(self.at..anew.start);
                    self.at = anew.start;
                    self.range.end = self.range.end.max(anew.end);
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn pop(&mut self) {
        self.portion.pop_front();
    }

    /// Whether a record there would have been seen.
    pub(super) fn has_read(&self, offset: i64) -> bool {
        self.range.contains(&offset) && !self.gone.iter().any(|gone| gone.contains(&offset))
    }

    /// What was seen, when all was read that can be.
    pub(super) fn extent(&self) -> Extent {
        let from = self.gone.iter().map(|gone| gone.end).fold(self.range.start, i64::max);
        Extent { from, to: self.failure.as_ref().map(|_| self.at) }
    }

    /// Why what comes next could not be read.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }
}
