//! Rows of a binary `COPY` that are held until all are there, and sent in the order of some columns.

use bytes::{BufMut, Bytes, BytesMut};
use tokio_postgres::types::Type;

use super::order::{Keys, fields};

/// One piece of what is held.
const SEGMENT_BYTES: usize = 256 * 1024;

/// What is held.
#[derive(Debug)]
pub(super) struct Sorted {
    /// Positions of the columns, and whether the first byte is a sign.
    by: Vec<(usize, bool)>,
    full: Vec<Bytes>,
    /// Where each row lies: piece, begin, end.
    rows: Vec<(u32, u32, u32)>,
    keys: Keys,
}

impl Sorted {
    /// `None` if there is no such column.
    pub(super) fn new(columns: &[usize], types: &[Type]) -> Option<Self> {
        let by = columns.iter().map(|&column| Some((column, is_signed(types.get(column)?))));
        let by = by.collect::<Option<Vec<_>>>()?;
        Some(Self { by, full: Vec::new(), rows: Vec::new(), keys: Keys::default() })
    }

    /// Takes the row that begins at `start` in `current`; gives room for more when that is full. `None` if it cannot be
    /// held.
    pub(super) fn take(&mut self, start: usize, current: &mut BytesMut) -> Option<()> {
        let place = |at: usize| u32::try_from(at).ok();
        self.rows.push((place(self.full.len())?, place(start)?, place(current.len())?));
        for &(column, signed) in &self.by {
            let Some(field) = fields(&current[start..]).nth(column).flatten() else { continue };
            match field.split_first() {
                // Two's complement: negative numbers go before the others.
                Some((first, rest)) if signed => {
                    self.keys.bytes.push(first ^ 0x80);
                    self.keys.bytes.extend_from_slice(rest);
                }
                _ => {
                    self.keys.bytes.extend_from_slice(field);
                    self.keys.bytes.push(0);
                }
            }
        }
        self.keys.end();
        if current.len() >= SEGMENT_BYTES {
            self.full.push(std::mem::take(current).freeze());
            current.reserve(SEGMENT_BYTES + SEGMENT_BYTES / 16);
        }
        Some(())
    }

    /// The rows in their order, in messages of about `message_bytes`.
    pub(super) fn messages(mut self, last: BytesMut, message_bytes: usize) -> impl Iterator<Item = Bytes> {
        self.full.push(last.freeze());
        let order = self.keys.by_prefix().unwrap_or_default();
        drop(std::mem::take(&mut self.keys));
        let mut order = order.into_iter().map(|(_, row)| row as usize).peekable();
        std::iter::from_fn(move || {
            order.peek()?;
            let mut message = BytesMut::with_capacity(message_bytes + message_bytes / 16);
            while message.len() < message_bytes
                && let Some(row) = order.next()
            {
                let (piece, start, end) = self.rows[row];
                message.put_slice(&self.full[piece as usize][start as usize..end as usize]);
            }
            Some(message.freeze())
        })
    }
}

fn is_signed(ty: &Type) -> bool {
    [Type::INT2, Type::INT4, Type::INT8, Type::DATE, Type::TIME, Type::TIMESTAMP, Type::TIMESTAMPTZ]
        .contains(ty)
}
