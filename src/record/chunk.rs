//! Records of one partition in one arena: the payloads are copied out of the client's fetch response once, so
//! that a slow batch never pins a whole response (PITFALLS 15), and freed chunk by chunk.

use std::ops::Range;

use crate::NextOffset;
use crate::consumer::ffi::TimestampType;

/// Bytes of a full chunk: hundreds of partitions may each have one that fills. One record of any size fits into a chunk
/// of its own.
pub(crate) const CHUNK_BYTES: usize = 32 * 1024;

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
    timestamp_type: Option<TimestampType>,
    leader_epoch: i32,
    /// Where its bytes end; a chunk is full at 32 KiB, but for one record of less than 2 GiB.
    data_end: u32,
    key_len: u32,
    value_len: u32,
    headers_end: u32,
}

/// The length of what is null.
const NULL: u32 = u32::MAX;

#[derive(Debug, Clone)]
struct Header {
    name: Range<u32>,
    value: Option<Range<u32>>,
}

/// How large a chunk was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    records: usize,
    data: usize,
}

/// One record on its way into a chunk; the slices belong to the client's message.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RawRecord<'a> {
    pub(crate) offset: i64,
    /// Milliseconds since the epoch; -1 when the record has no timestamp.
    pub(crate) timestamp_ms: i64,
    /// `None` when the record has no timestamp.
    pub(crate) timestamp_type: Option<TimestampType>,
    /// -1 when unknown.
    pub(crate) leader_epoch: i32,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
}

impl RawRecord<'_> {
    fn bytes(&self) -> usize {
        self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len)
    }
}

impl Chunk {
    /// An empty chunk for `first` and its likely followers: behind one that was full, as large as that, so that nothing
    /// is copied and no room is left over.
    pub(crate) fn starting_with(first: &RawRecord<'_>, before: Option<Shape>) -> Self {
        // A quiet partition must not cost a full chunk per record: start small, let the vectors double.
        let Shape { records, data } =
            before.unwrap_or_else(|| Shape { records: 0, data: first.bytes().min(CHUNK_BYTES) });
        let more = |size: usize| size + size / 16;
        Self {
            data: Vec::with_capacity(more(data)),
            metas: Vec::with_capacity(more(records)),
            headers: Vec::new(),
        }
    }

    /// Whether the chunk is to be closed before this record, because its memory would have to double for it.
    pub(crate) fn is_full_for(&self, record: &RawRecord<'_>) -> bool {
        if !self.is_large() {
            return false;
        }
        // Its headers are not counted yet; they will be what those before it had.
        let usual = self.data.len() / self.metas.len().max(1);
        self.bytes() >= CHUNK_BYTES || self.data.len() + record.bytes().max(usual) > self.data.capacity()
    }

    /// Its shape, if it holds so much that another one like it may be expected to fill.
    pub(crate) fn shape(&self) -> Option<Shape> {
        self.is_large().then_some(Shape { records: self.metas.len(), data: self.data.len() })
    }

    fn is_large(&self) -> bool {
        self.bytes() >= CHUNK_BYTES / 2
    }

    fn bytes(&self) -> usize {
        self.data.len() + self.metas.len() * size_of::<Meta>() + self.headers.len() * size_of::<Header>()
    }

    /// Gives back the memory that will not be used any more.
    pub(crate) fn close(&mut self) {
        self.data.shrink_to_fit();
        self.metas.shrink_to_fit();
        self.headers.shrink_to_fit();
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
            timestamp_type: record.timestamp_type,
            leader_epoch: record.leader_epoch,
            data_end: length(self.data.len()),
            key_len: record.key.map_or(NULL, |key| length(key.len())),
            value_len: record.value.map_or(NULL, |value| length(value.len())),
            headers_end: length(self.headers.len()),
        });
    }

    fn append(&mut self, bytes: &[u8]) -> Range<u32> {
        let start = length(self.data.len());
        self.data.extend_from_slice(bytes);
        start..length(self.data.len())
    }

    pub(crate) fn len(&self) -> usize {
        self.metas.len()
    }

    pub(crate) fn offset(&self, index: usize) -> i64 {
        self.metas[index].offset
    }

    pub(crate) fn timestamp_ms(&self, index: usize) -> i64 {
        self.metas[index].timestamp_ms
    }

    pub(crate) fn timestamp_type(&self, index: usize) -> Option<TimestampType> {
        self.metas[index].timestamp_type
    }

    pub(crate) fn leader_epoch(&self, index: usize) -> i32 {
        self.metas[index].leader_epoch
    }

    fn data_start(&self, index: usize) -> usize {
        if index == 0 { 0 } else { self.metas[index - 1].data_end as usize }
    }

    pub(crate) fn key(&self, index: usize) -> Option<&[u8]> {
        let (start, len) = (self.data_start(index), self.metas[index].key_len);
        (len != NULL).then(|| &self.data[start..start + len as usize])
    }

    pub(crate) fn value(&self, index: usize) -> Option<&[u8]> {
        let meta = &self.metas[index];
        let key_len = if meta.key_len == NULL { 0 } else { meta.key_len as usize };
        let start = self.data_start(index) + key_len;
        (meta.value_len != NULL).then(|| &self.data[start..start + meta.value_len as usize])
    }

    /// Name (Kafka's are UTF-8; others show as `None`) and value of each header, in the record's order.
    pub(crate) fn headers(&self, index: usize) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.raw_headers(index).filter_map(|(name, value)| Some((std::str::from_utf8(name).ok()?, value)))
    }

    /// All of them, byte for byte.
    pub(crate) fn raw_headers(&self, index: usize) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let data = |range: &Range<u32>| &self.data[range.start as usize..range.end as usize];
        let headers = &self.headers[self.headers_of(index)];
        headers.iter().map(move |header| (data(&header.name), header.value.as_ref().map(data)))
    }

    /// What the record weighs in the byte budget; the sum over a chunk is what was charged for it.
    pub(crate) fn weight(&self, index: usize) -> usize {
        self.metas[index].data_end as usize - self.data_start(index)
            + size_of::<Meta>()
            + self.headers_of(index).len() * size_of::<Header>()
    }

    /// Bytes of keys, values and headers.
    pub(crate) fn data_bytes(&self, range: &Range<usize>) -> usize {
        if range.is_empty() {
            return 0;
        }
        self.metas[range.end - 1].data_end as usize - self.data_start(range.start)
    }

    fn headers_of(&self, index: usize) -> Range<usize> {
        let start = if index == 0 { 0 } else { self.metas[index - 1].headers_end as usize };
        start..self.metas[index].headers_end as usize
    }

    /// The position after the record at `index`.
    pub(crate) fn next_offset(&self, index: usize) -> NextOffset {
        NextOffset::after(self.offset(index)).expect("only real record offsets are pushed")
    }
}

/// Kafka's own length fields are `int32`, so a longer payload cannot exist.
fn length(length: usize) -> u32 {
    u32::try_from(length).expect("a Kafka payload is shorter than 2 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_empty_are_told_apart() {
        let mut chunk = Chunk::default();
        let none = std::iter::empty;
        let record = RawRecord { offset: 7, timestamp_ms: -1, leader_epoch: -1, ..RawRecord::default() };
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
        assert_eq!(chunk.weight(2), 2 + 1 + 1 + 1 + size_of::<Meta>() + 2 * size_of::<Header>());
    }

    /// Whatever its records are like, a chunk takes little more memory than it is charged for.
    #[test]
    fn memory_is_what_was_charged() {
        let sizes = [0, 10, 219, 3_000, 50_000, 300_000];
        for (size, headers) in sizes.into_iter().flat_map(|size| [(size, 0), (size, 5)]) {
            for behind in [false, true] {
                let value = vec![0; size];
                let record = RawRecord { value: Some(&value), ..RawRecord::default() };
                let headers = || std::iter::repeat_n((&b"trace"[..], Some(&b"0123456"[..])), headers);
                let fill = |before| {
                    let mut chunk = Chunk::starting_with(&record, before);
                    while chunk.len() == 0 || !chunk.is_full_for(&record) {
                        chunk.push(&record, headers());
                    }
                    chunk.close();
                    chunk
                };
                let chunk = fill(if behind { fill(None).shape() } else { None });
                let charged: usize = (0..chunk.len()).map(|index| chunk.weight(index)).sum();
                let taken = chunk.data.capacity()
                    + chunk.metas.capacity() * size_of::<Meta>()
                    + chunk.headers.capacity() * size_of::<Header>();
                assert!(
                    taken <= charged + charged / 8 + 64,
                    "{size} bytes: {taken} taken, {charged} charged"
                );
                assert!(chunk.len() == 1 || charged <= 2 * CHUNK_BYTES, "{size} bytes: {charged} charged");
            }
        }
    }

    crate::fuzz::fuzz!(
        /// What was put in comes out: keys, values and headers of any bytes, and those that are null.
        any_records_come_out_as_they_went_in,
        &["\0", "traceparent", "é", "\u{feff}"],
        |bytes| {
            // Each record from its own part of the bytes.
            let parts: Vec<&[u8]> = bytes.split(|byte| *byte == b'|').collect();
            let or_null = |part: &&'_ [u8]| (!part.ends_with(b"~")).then_some(part.to_vec());
            let made = parts.chunks(4).map(|part| (part.first().and_then(or_null), part.get(1).and_then(or_null), &part[1..]));
            let made: Vec<_> = made.collect();
            let mut chunk = Chunk::starting_with(&RawRecord::default(), None);
            for ((key, value, headers), offset) in made.iter().zip(0..) {
                let record =
                    RawRecord { offset, key: key.as_deref(), value: value.as_deref(), ..RawRecord::default() };
                chunk.push(&record, headers.iter().map(|header| (*header, Some(*header))));
            }
            chunk.close();
            assert_eq!(chunk.len(), made.len());
            for (index, (key, value, headers)) in made.iter().enumerate() {
                assert_eq!((chunk.key(index), chunk.value(index)), (key.as_deref(), value.as_deref()));
                // A name that is no text is left out.
                let texts = headers.iter().filter_map(|header| Some((std::str::from_utf8(header).ok()?, Some(*header))));
                assert!(chunk.headers(index).eq(texts));
                let _ = chunk.weight(index);
            }
        }
    );
}
