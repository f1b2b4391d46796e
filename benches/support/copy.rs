//! Rows in COPY's binary format, written by hand: what an expert does who counts nanoseconds.

use bytes::{BufMut, Bytes, BytesMut};

use super::payments::Payment;
use super::table::COLUMNS;

/// Chunks of this size are handed to the connection: large enough that its task is woken seldom.
const CHUNK_BYTES: usize = 128 * 1024;
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// The COPY statement for the sink's table, or one like it.
pub(crate) fn statement(table: &str) -> String {
    format!("COPY {table} ({COLUMNS}) FROM STDIN BINARY")
}

/// Encodes rows into chunks of one COPY.
#[derive(Debug)]
pub(crate) struct Encoder {
    buffer: BytesMut,
}

impl Encoder {
    /// Begins with the format's header.
    pub(crate) fn new() -> Self {
        let mut buffer = BytesMut::with_capacity(CHUNK_BYTES + 1024);
        buffer.put_slice(HEADER);
        Self { buffer }
    }

    /// Adds a row; gives a chunk when one is full.
    pub(crate) fn row(&mut self, payment: &Payment<'_>, partition: i32, offset: i64) -> Option<Bytes> {
        let buffer = &mut self.buffer;
        buffer.put_i16(5);
        for text in [payment.merchant_id, payment.tx_id] {
            buffer.put_i32(i32::try_from(text.len()).unwrap_or(i32::MAX));
            buffer.put_slice(text.as_bytes());
        }
        buffer.put_i32(8);
        buffer.put_f64(payment.score());
        buffer.put_i32(4);
        buffer.put_i32(partition);
        buffer.put_i32(8);
        buffer.put_i64(offset);
        (self.buffer.len() >= CHUNK_BYTES).then(|| {
            let chunk = self.buffer.split().freeze();
            self.buffer.reserve(CHUNK_BYTES + 1024);
            chunk
        })
    }

    /// What is left, with the format's trailer.
    pub(crate) fn finish(mut self) -> Bytes {
        self.buffer.put_i16(-1);
        self.buffer.freeze()
    }
}
