//! Positions in a partition.

use std::fmt;

/// The offset of the *next* record to read: 4204 when 4203 is the last one applied.
///
/// This is Kafka's own convention for a committed offset, and the only one in this crate: there is no type for
/// "last processed". Conversions to the Kafka client's plain `i64` happen only at that edge.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextOffset(i64);

impl NextOffset {
    /// The position before the first record of a partition.
    pub const ZERO: Self = Self(0);

    /// Wraps a position; `None` if it is negative (Kafka's logical offsets are not positions).
    #[must_use]
    pub const fn new(offset: i64) -> Option<Self> {
        if offset >= 0 { Some(Self(offset)) } else { None }
    }

    /// The position after the record at `offset`; `None` if that is not a record's offset.
    #[must_use]
    pub const fn after(offset: i64) -> Option<Self> {
        if offset >= 0 && offset < i64::MAX { Some(Self(offset + 1)) } else { None }
    }

    /// The plain number, as Kafka and the table `consumer_offset` hold it.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Debug for NextOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for NextOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logical_offsets_are_not_positions() {
        // -1 END, -2 BEGINNING, -1000 STORED, -1001 INVALID (PITFALLS 2).
        for logical in [-1, -2, -1000, -1001, i64::MIN] {
            assert_eq!(NextOffset::new(logical), None);
            assert_eq!(NextOffset::after(logical), None);
        }
        assert_eq!(NextOffset::after(4203), NextOffset::new(4204));
        assert_eq!(NextOffset::after(i64::MAX), None);
    }
}
