//! Reading a partition's records again, whatever retention takes meanwhile.

use std::collections::VecDeque;
use std::ops::Range;

use crate::batch::PartitionKey;
use crate::error::Result;
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
        })
    }

    /// The offset of the next record, and whether it is a tombstone.
    pub(super) async fn peek(&mut self) -> Result<Option<(i64, bool)>> {
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

    /// From where on everything was seen.
    pub(super) fn complete_from(&self) -> i64 {
        self.gone.iter().map(|gone| gone.end).fold(self.range.start, i64::max)
    }
}
