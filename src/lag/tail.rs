//! Since when a partition has a tail of records that are not committed.

/// Watches a partition's last stable offset.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tail {
    /// Where it stands before uncommitted records, and since when that was seen.
    stands: Option<(i64, i64)>,
}

impl Tail {
    /// Something was seen before, at `since_ms`.
    pub(crate) fn seen(last_stable_offset: i64, since_ms: i64) -> Self {
        Self { stands: Some((last_stable_offset, since_ms)) }
    }

    /// Since when there is one, in ms since 1970: the transaction is open for so long at least. `None` where there is none,
    /// or nothing is known.
    pub(crate) fn since(&mut self, now_ms: i64, stable: Option<i64>, end: Option<i64>) -> Option<i64> {
        // What is not known for a while has not moved meanwhile, if it is where it was.
        let (stable, end) = (stable?, end?);
        let stable = (end > stable).then_some(stable);
        self.stands = stable.map(|stable| match self.stands {
            Some((at, since_ms)) if at == stable && since_ms <= now_ms => (at, since_ms),
            _ => (stable, now_ms),
        });
        self.stands.map(|(_, since_ms)| since_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_as_old_as_its_beginning_stands() {
        let mut tail = Tail::default();
        assert_eq!(tail.since(1, None, Some(9)), None);
        assert_eq!(tail.since(2, Some(5), Some(5)), None);
        assert_eq!(tail.since(3, Some(5), Some(6)), Some(3));
        assert_eq!(tail.since(4, Some(5), Some(9)), Some(3));
        assert_eq!(tail.since(4, None, None), None, "not known");
        assert_eq!(tail.since(4, Some(5), Some(9)), Some(3), "it stood there all the time");
        assert_eq!(tail.since(5, Some(7), Some(9)), Some(5), "another transaction");
        assert_eq!(tail.since(6, Some(9), Some(9)), None);
        assert_eq!(Tail::seen(5, 3).since(9, Some(5), Some(6)), Some(3));
    }
}
