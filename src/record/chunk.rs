//! Records of one partition in one arena: the payloads are copied out of the client's fetch response once, so
//! that a slow batch never pins a whole response (PITFALLS 15), and freed chunk by chunk.

use std::ops::Range;

use crate::NextOffset;

/// Payload bytes after which a chunk is closed. One record of any size fits into a chunk of its own.
pub(crate) const CHUNK_BYTES: usize = 128 * 1024;

/// A run of records of one partition, in offset order.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    data: Vec<u8>,
    metas: Vec<Meta>,
    headers: Vec<Header>,
}

#[derive(Debug, Clone)]
struct Meta {
    offset: i64,
    timestamp_ms: i64,
    leader_epoch: i32,
    data_end: usize,
    key_len: Option<u32>,
    value_len: Option<u32>,
    headers_end: usize,
}

#[derive(Debug, Clone)]
struct Header {
    name: Range<usize>,
    value: Option<Range<usize>>,
}

/// One record on its way into a chunk; the slices belong to the client's message.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RawRecord<'a> {
    pub(crate) offset: i64,
    /// Milliseconds since the epoch; -1 when the record has no timestamp.
    pub(crate) timestamp_ms: i64,
    /// -1 when unknown.
    pub(crate) leader_epoch: i32,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
}

impl RawRecord<'_> {
    /// What this record weighs in the byte budget: payload plus bookkeeping.
    pub(crate) fn weight(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + size_of::<Meta>()
    }
}

impl Chunk {
    /// An empty chunk with room for one record of `first_weight` and its likely followers.
    pub(crate) fn for_records(first_weight: usize) -> Self {
        // A quiet partition must not cost a full chunk per record: start small, let the vector double.
        Self {
            data: Vec::with_capacity(first_weight.min(CHUNK_BYTES)),
            metas: Vec::new(),
            headers: Vec::new(),
        }
    }

    pub(crate) fn push<'h>(
        &mut self,
        record: &RawRecord<'_>,
        headers: impl Iterator<Item = (&'h [u8], Option<&'h [u8]>)>,
    ) {
        if let Some(key) = record.key {
            self.data.extend_from_slice(key);
        }
        if let Some(value) = record.value {
            self.data.extend_from_slice(value);
        }
        for (name, value) in headers {
            let name = self.append(name);
            let value = value.map(|value| self.append(value));
            self.headers.push(Header { name, value });
        }
        self.metas.push(Meta {
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            leader_epoch: record.leader_epoch,
            data_end: self.data.len(),
            key_len: record.key.map(length),
            value_len: record.value.map(length),
            headers_end: self.headers.len(),
        });
    }

    fn append(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.data.len();
        self.data.extend_from_slice(bytes);
        start..self.data.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.metas.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.data.len() >= CHUNK_BYTES
    }

    pub(crate) fn offset(&self, index: usize) -> i64 {
        self.metas[index].offset
    }

    pub(crate) fn timestamp_ms(&self, index: usize) -> i64 {
        self.metas[index].timestamp_ms
    }

    pub(crate) fn leader_epoch(&self, index: usize) -> i32 {
        self.metas[index].leader_epoch
    }

    fn data_start(&self, index: usize) -> usize {
        if index == 0 { 0 } else { self.metas[index - 1].data_end }
    }

    pub(crate) fn key(&self, index: usize) -> Option<&[u8]> {
        let start = self.data_start(index);
        self.metas[index].key_len.map(|len| &self.data[start..start + len as usize])
    }

    pub(crate) fn value(&self, index: usize) -> Option<&[u8]> {
        let meta = &self.metas[index];
        let start = self.data_start(index) + meta.key_len.unwrap_or(0) as usize;
        meta.value_len.map(|len| &self.data[start..start + len as usize])
    }

    /// Name (Kafka's are UTF-8; others show as `None`) and value of each header, in the record's order.
    pub(crate) fn headers(&self, index: usize) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        let start = if index == 0 { 0 } else { self.metas[index - 1].headers_end };
        self.headers[start..self.metas[index].headers_end].iter().filter_map(|header| {
            let name = std::str::from_utf8(&self.data[header.name.clone()]).ok()?;
            Some((name, header.value.clone().map(|value| &self.data[value])))
        })
    }

    /// What the record weighs in the byte budget; the sum over a chunk is what was charged for it.
    pub(crate) fn weight(&self, index: usize) -> usize {
        self.metas[index].data_end - self.data_start(index) + size_of::<Meta>()
    }

    /// The position after the record at `index`.
    pub(crate) fn next_offset(&self, index: usize) -> NextOffset {
        NextOffset::after(self.offset(index)).expect("only real record offsets are pushed")
    }
}

/// Kafka's own length fields are `int32`, so a longer payload cannot exist.
fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("a Kafka payload is shorter than 2 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_empty_are_told_apart() {
        let mut chunk = Chunk::default();
        let none = std::iter::empty;
        let record = RawRecord { offset: 7, timestamp_ms: -1, leader_epoch: -1, key: None, value: None };
        chunk.push(&record, none());
        chunk.push(&RawRecord { offset: 9, key: Some(b""), value: Some(b"v"), ..record }, none());
        let headers: [(&[u8], Option<&[u8]>); 2] = [(b"a", Some(b"1")), (b"b", None)];
        chunk.push(&RawRecord { offset: 10, key: Some(b"kk"), value: None, ..record }, headers.into_iter());

        assert_eq!((chunk.key(0), chunk.value(0)), (None, None));
        assert_eq!((chunk.key(1), chunk.value(1)), (Some(&b""[..]), Some(&b"v"[..])));
        assert_eq!((chunk.key(2), chunk.value(2)), (Some(&b"kk"[..]), None));
        assert_eq!(chunk.headers(1).count(), 0);
        assert_eq!(chunk.headers(2).collect::<Vec<_>>(), [("a", Some(&b"1"[..])), ("b", None)]);
        assert_eq!(chunk.next_offset(2).get(), 11);
        assert_eq!(chunk.weight(2), 2 + 1 + 1 + 1 + size_of::<Meta>());
    }
}
