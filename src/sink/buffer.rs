//! The bytes of a batch's rows, as they are sent: large pieces that are used again.

use std::sync::{Mutex, PoisonError};

use bytes::{Bytes, BytesMut};

use crate::tx::MAX_ROW_BYTES;
pub(crate) use crate::tx::order::fields;

/// One piece, and one message to the server: each costs the connection a wake-up.
pub(crate) const SEGMENT_BYTES: usize = 256 * 1024;
/// What is kept for the next batches: about two of 50,000 ordinary rows.
const KEPT_SEGMENTS: usize = 48;

/// In place of the length of a field whose column keeps what the table has: in memory only, it is never sent.
pub(crate) const KEPT: i32 = -2;

/// Pieces that wait to be used again.
#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<Vec<BytesMut>>);

impl Pool {
    pub(crate) fn take(&self) -> BytesMut {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        // A row begins below the limit and may end behind it.
        kept.unwrap_or_else(|| BytesMut::with_capacity(SEGMENT_BYTES + SEGMENT_BYTES / 16))
    }

    /// Takes a piece back, if nobody else holds it and it is not larger than usual.
    pub(crate) fn give(&self, segment: Bytes) {
        let Ok(mut segment) = segment.try_into_mut() else { return };
        segment.clear();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if segment.capacity() >= SEGMENT_BYTES
            && segment.capacity() <= 2 * SEGMENT_BYTES
            && kept.len() < KEPT_SEGMENTS
        {
            kept.push(segment);
        }
    }
}

/// Where a row lies, and which record of the batch it came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowRef {
    pub(crate) segment: u32,
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) record: u32,
}

/// One table's rows, growing.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    full: Vec<Bytes>,
    pub(crate) current: BytesMut,
    pub(crate) rows: Vec<RowRef>,
    /// Whether a row is there only to be deleted.
    pub(crate) deletes: bool,
    /// Whether a row keeps something of the table's.
    pub(crate) keeps: bool,
}

impl Buffer {
    /// Where the next row begins.
    pub(crate) fn begin(&mut self, pool: &Pool) -> usize {
        if self.current.len() >= SEGMENT_BYTES || self.current.capacity() == 0 {
            let full = std::mem::replace(&mut self.current, pool.take());
            if !full.is_empty() {
                self.full.push(full.freeze());
            }
        }
        self.current.len()
    }

    /// The row that began at `start` is whole. `None` if it is too large to be sent.
    pub(crate) fn end(&mut self, start: usize, record: usize) -> Option<()> {
        if self.current.len() - start > MAX_ROW_BYTES {
            return None;
        }
        if self.rows.len() >= 1 << 31 {
            return None;
        }
        self.rows.push(RowRef {
            segment: u32::try_from(self.full.len()).ok()?,
            start: u32::try_from(start).ok()?,
            end: u32::try_from(self.current.len()).ok()?,
            record: u32::try_from(record).ok()?,
        });
        Some(())
    }

    /// Takes the last record's rows out again, if it has any.
    pub(crate) fn take_back(&mut self, record: usize) {
        let is_its = |row: &RowRef| row.record as usize == record;
        let kept = self.rows.iter().rposition(|row| !is_its(row)).map_or(0, |last| last + 1);
        let Some(first) = self.rows.get(kept).copied() else { return };
        self.rows.truncate(kept);
        let (segment, start) = (first.segment as usize, first.start as usize);
        if segment < self.full.len() {
            // What is in the piece at hand, and in those between, is this record's as well.
            self.full.truncate(segment + 1);
            self.full[segment].truncate(start);
            self.current.clear();
        } else {
            self.current.truncate(start);
        }
    }

    pub(crate) fn finish(mut self) -> (Vec<Bytes>, Vec<RowRef>) {
        if !self.current.is_empty() {
            self.full.push(self.current.freeze());
        }
        (self.full, self.rows)
    }
}

/// The bytes of a row.
pub(crate) fn row_bytes<'a>(segments: &'a [Bytes], row: &RowRef) -> &'a [u8] {
    &segments[row.segment as usize][row.start as usize..row.end as usize]
}

/// Of each field of a row, whether it is [`KEPT`].
pub(crate) fn kept(row: &[u8]) -> impl Iterator<Item = bool> {
    let mut rest = row.get(2..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let length = i32::from_be_bytes(*length);
        rest = after.get(usize::try_from(length).unwrap_or_default()..)?;
        Some(length == KEPT)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(buffer: &mut Buffer, pool: &Pool, record: usize, bytes: usize) {
        let start = buffer.begin(pool);
        buffer.current.extend_from_slice(&vec![u8::try_from(record).expect("small"); bytes]);
        buffer.end(start, record).expect("it fits");
    }

    #[test]
    fn a_records_rows_are_taken_back_and_no_other() {
        for sizes in
            [vec![10], vec![10, 20], vec![10, SEGMENT_BYTES, 30], vec![SEGMENT_BYTES, SEGMENT_BYTES, 5, 6]]
        {
            let (pool, mut buffer) = (Pool::default(), Buffer::default());
            buffer.take_back(0);
            push(&mut buffer, &pool, 0, 100);
            sizes.iter().for_each(|size| push(&mut buffer, &pool, 1, *size));
            buffer.take_back(2);
            buffer.take_back(1);
            buffer.take_back(1);
            push(&mut buffer, &pool, 2, 7);
            let (segments, rows) = buffer.finish();
            let found: Vec<(u32, usize)> =
                rows.iter().map(|row| (row.record, row_bytes(&segments, row).len())).collect();
            assert_eq!(found, [(0, 100), (2, 7)], "{sizes:?}");
            for row in &rows {
                assert!(row_bytes(&segments, row).iter().all(|byte| u32::from(*byte) == row.record));
            }
            assert_eq!(segments.iter().map(Bytes::len).sum::<usize>(), 107, "nothing else is sent");
        }
    }
}
