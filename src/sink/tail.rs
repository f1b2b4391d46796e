//! What stands behind the columns in the bytes of a row: what becomes of it, and where it stands in its batch. Here alone
//! is it known how that is laid out.
//!
//! ```text
//! fields: i16 │ each column: length i32, bytes │ deed: length i32 = 1, u8 │ place: length i32 = 8, u64
//! ```
//!
//! Either may be absent, in all rows of a table alike ([`Tail::new`]). It is sent to a stage, whose last columns it fills;
//! past the stage a row goes without it.

use bytes::{BufMut, BytesMut};

use super::table::Mode;

/// What becomes of a staged row: a [`Deed`].
pub(crate) const DEED: &str = "highwater_deed";
/// Where a row stands in its batch.
pub(crate) const PLACE: &str = "highwater_place";

/// A length, and the byte of a deed.
const DEED_BYTES: usize = 4 + 1;
/// A length, and the eight bytes of a place.
const PLACE_BYTES: usize = 4 + 8;
/// The number of fields, with which a row begins.
const HEAD_BYTES: usize = 2;

/// What becomes of the row of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Deed {
    Write = b'0',
    Delete = b'1',
    /// It was deleted in the same batch before it was written: columns that are not written begin anew.
    Replace = b'2',
    /// Some columns keep what the row of the key has, which must be there. Only row by row, never staged.
    Merge = b'3',
    /// The same, and if there is no such row, nothing is changed.
    Touch = b'4',
}

impl Deed {
    /// As the stage has it, in SQL.
    pub(crate) fn literal(self) -> String {
        format!("'{}'", char::from(self as u8))
    }

    fn of(byte: u8) -> Self {
        match byte {
            b'1' => Self::Delete,
            b'2' => Self::Replace,
            b'3' => Self::Merge,
            b'4' => Self::Touch,
            _ => Self::Write,
        }
    }
}

/// What the rows of a table have behind their columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tail {
    says_deed: bool,
    says_place: bool,
}

impl Tail {
    /// `reduced`: the last write per key is found before rows are sent; `ordered`: they are written in the order of the
    /// records; `input`: the server makes values of text.
    pub(crate) fn new(mode: Mode, reduced: bool, ordered: bool, input: bool) -> Self {
        Self {
            says_deed: mode.is_keyed(),
            // A stage's rows are read in no order: who needs one must say it.
            says_place: match mode {
                Mode::Append => input,
                Mode::InsertIgnore => true,
                Mode::Upsert | Mode::Update => !reduced || ordered,
            },
        }
    }

    /// The columns of a stage that it fills, each with its type.
    pub(crate) fn columns(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let deed = self.says_deed.then_some((DEED, "\"char\""));
        deed.into_iter().chain(self.says_place.then_some((PLACE, "bigint")))
    }

    /// Ends a row.
    #[inline]
    pub(crate) fn put(self, deed: Deed, place: usize, out: &mut BytesMut) {
        if self.says_deed {
            out.put_slice(&[0, 0, 0, 1, deed as u8]);
        }
        if self.says_place {
            out.put_i32(8);
            out.put_u64(place as u64);
        }
    }

    /// What becomes of a whole row.
    #[inline]
    pub(crate) fn deed(self, row: &[u8]) -> Deed {
        if !self.says_deed {
            return Deed::Write;
        }
        row.len().checked_sub(self.behind_deed() + 1).map_or(Deed::Write, |at| Deed::of(row[at]))
    }

    /// The key of the row with which a message ends is deleted first.
    #[inline]
    pub(crate) fn replace(self, message: &mut [u8]) {
        if let Some(at) = message.len().checked_sub(self.behind_deed() + 1).filter(|_| self.says_deed) {
            message[at] = Deed::Replace as u8;
        }
    }

    /// Of a whole row the columns alone, without the number of fields before them.
    #[inline]
    pub(crate) fn cut(self, row: &[u8]) -> &[u8] {
        let deed = if self.says_deed { DEED_BYTES } else { 0 };
        &row[HEAD_BYTES..row.len() - self.behind_deed() - deed]
    }

    #[inline]
    fn behind_deed(self) -> usize {
        if self.says_place { PLACE_BYTES } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::buffer::fields;

    /// A row of two columns, of which one is NULL.
    const COLUMNS: [u8; 11] = [0, 0, 0, 3, b'a', b'b', b'c', 0xFF, 0xFF, 0xFF, 0xFF];

    fn row(tail: Tail, deed: Deed, place: usize) -> BytesMut {
        let mut row = BytesMut::new();
        row.put_i16(i16::try_from(2 + tail.columns().count()).unwrap());
        row.put_slice(&COLUMNS);
        tail.put(deed, place, &mut row);
        row
    }

    #[test]
    fn what_is_put_is_read_again_and_cut_off() {
        let tails = [(false, false), (false, true), (true, false), (true, true)];
        for tail in tails.map(|(says_deed, says_place)| Tail { says_deed, says_place }) {
            for deed in [Deed::Write, Deed::Delete, Deed::Replace, Deed::Merge, Deed::Touch] {
                let mut row = row(tail, deed, 7);
                assert_eq!(tail.deed(&row), if tail.says_deed { deed } else { Deed::Write }, "{tail:?}");
                assert_eq!(tail.cut(&row), COLUMNS, "{tail:?}");
                let before = row.clone();
                tail.replace(&mut row);
                assert_eq!(tail.cut(&row), COLUMNS, "{tail:?}");
                if tail.says_deed {
                    assert_eq!(tail.deed(&row), Deed::Replace);
                } else {
                    assert_eq!(row, before);
                }
            }
        }
    }

    /// As the server reads it: as fields, in the order of the stage's columns.
    #[test]
    fn it_is_made_of_fields_as_the_stages_columns_are() {
        let tail = Tail::new(Mode::Upsert, false, false, false);
        let names: Vec<_> = tail.columns().map(|(name, _)| name).collect();
        assert_eq!(names, [DEED, PLACE]);
        let row = row(tail, Deed::Delete, 258);
        let behind: Vec<_> = fields(&row).skip(2).collect();
        assert_eq!(behind, [Some(&b"1"[..]), Some(&[0, 0, 0, 0, 0, 0, 1, 2][..])]);
        assert_eq!(Deed::Delete.literal(), "'1'");
    }
}
