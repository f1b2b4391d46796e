//! The oracle: what was produced against what is in the table.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use tokio_postgres::Client;

use super::{
    error::{Attempted, Result},
    ledger::{Ledger, Positions},
};

/// Compares the multiset of records that the broker acknowledged with the multiset of rows in Postgres.
#[derive(Debug)]
pub struct Oracle {
    produced: Positions,
}

impl Oracle {
    /// An oracle for one topic, with what `ledger` holds now.
    #[must_use]
    pub fn new(ledger: &Ledger, topic: &str) -> Self {
        Self { produced: ledger.positions(topic) }
    }

    /// Adds what another producer wrote to a topic.
    #[must_use]
    pub fn and(mut self, ledger: &Ledger, topic: &str) -> Self {
        for (position, count) in ledger.positions(topic) {
            *self.produced.entry(position).or_default() += count;
        }
        self
    }

    /// Compares with the rows of `query`, whose two columns are a partition and an offset (any integer type).
    ///
    /// # Errors
    /// When the query fails.
    pub async fn compare(&self, client: &Client, query: &str) -> Result<Report> {
        let query = query.trim_end().trim_end_matches(';');
        let counted = format!(
            "SELECT p::int4, o::int8, count(*) FROM ({query}) AS rows_to_compare(p, o) GROUP BY 1, 2"
        );
        let rows =
            client.query(&counted, &[]).await.attempted(|| format!("compare with the rows of {query:?}"))?;
        let rows = rows.iter().map(|row| {
            let count = usize::try_from(row.get::<_, i64>(2)).expect("count(*) is not negative");
            ((row.get(0), row.get(1)), count)
        });
        Ok(Report::new(&self.produced, &rows.collect()))
    }
}

/// What the oracle found.
///
/// `Display` gives a line per partition and, last, `missing N, duplicates M`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// How many records were acknowledged.
    pub produced: usize,
    /// How many rows there are.
    pub rows: usize,
    /// Records without a row, as (partition, offset); as often as they lack one.
    pub missing: Vec<(i32, i64)>,
    /// Rows beyond the first of a record; as often as there are such rows.
    pub duplicates: Vec<(i32, i64)>,
    /// Rows of no record; as often as there are.
    pub unexpected: Vec<(i32, i64)>,
    partitions: BTreeMap<i32, Counts>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Counts {
    produced: usize,
    rows: usize,
}

impl Report {
    fn new(produced: &Positions, rows: &Positions) -> Self {
        let mut report = Self::default();
        let every: BTreeSet<_> = produced.keys().chain(rows.keys()).copied().collect();
        for position in every {
            let expected = produced.get(&position).copied().unwrap_or_default();
            let found = rows.get(&position).copied().unwrap_or_default();
            let counts = report.partitions.entry(position.0).or_default();
            counts.produced += expected;
            counts.rows += found;
            report.produced += expected;
            report.rows += found;
            report.missing.extend(std::iter::repeat_n(position, expected.saturating_sub(found)));
            let excess = if expected == 0 { &mut report.unexpected } else { &mut report.duplicates };
            excess.extend(std::iter::repeat_n(position, found.saturating_sub(expected)));
        }
        report
    }

    /// Whether every record has exactly one row, and every row its record.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.missing.is_empty() && self.duplicates.is_empty() && self.unexpected.is_empty()
    }

    /// Fails the test with the whole report unless [`Report::is_exact`].
    ///
    /// # Panics
    /// When anything is missing, doubled or unexpected.
    #[track_caller]
    pub fn assert_exact(&self) {
        assert!(self.is_exact(), "the table is not what was produced:\n{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (&partition, counts) in &self.partitions {
            write!(f, "partition {partition}: produced {}, rows {}", counts.produced, counts.rows)?;
            let kinds = [
                ("missing", &self.missing),
                ("duplicates", &self.duplicates),
                ("unexpected", &self.unexpected),
            ];
            for (name, positions) in kinds {
                let offsets: Vec<i64> = positions
                    .iter()
                    .filter(|position| position.0 == partition)
                    .map(|position| position.1)
                    .collect();
                write!(f, ", {name} {}", offsets.len())?;
                if !offsets.is_empty() {
                    write!(f, " (offsets {})", Ranges(&offsets))?;
                }
            }
            writeln!(f)?;
        }
        if !self.unexpected.is_empty() {
            writeln!(f, "unexpected {}", self.unexpected.len())?;
        }
        write!(f, "missing {}, duplicates {}", self.missing.len(), self.duplicates.len())
    }
}

/// Sorted offsets as `3, 7-9`, at most ten entries of them.
struct Ranges<'a>(&'a [i64]);

impl fmt::Display for Ranges<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.0.chunk_by(|a, b| *b <= *a + 1);
        for (index, run) in runs.enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            match run {
                _ if index == 10 => return write!(f, "{separator}…"),
                [first, .., last] if first != last => write!(f, "{separator}{first}-{last}")?,
                [first, ..] => write!(f, "{separator}{first}")?,
                [] => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn multiset(positions: &[(i32, i64)]) -> Positions {
        let mut counted = Positions::new();
        for &position in positions {
            *counted.entry(position).or_default() += 1;
        }
        counted
    }

    fn report(produced: &[(i32, i64)], rows: &[(i32, i64)]) -> Report {
        Report::new(&multiset(produced), &multiset(rows))
    }

    #[test]
    fn the_same_multiset_is_exact() {
        let report = report(&[(0, 0), (0, 1), (1, 0)], &[(1, 0), (0, 1), (0, 0)]);
        assert!(report.is_exact());
        assert!(report.to_string().ends_with("\nmissing 0, duplicates 0"));
    }

    #[test]
    fn a_missing_and_a_doubled_row_are_found_although_the_counts_agree() {
        let report = report(&[(0, 0), (0, 1), (0, 2)], &[(0, 0), (0, 2), (0, 2)]);
        assert_eq!((report.produced, report.rows), (3, 3));
        assert_eq!(report.missing, [(0, 1)]);
        assert_eq!(report.duplicates, [(0, 2)]);
        assert_eq!(
            report.to_string(),
            "partition 0: produced 3, rows 3, missing 1 (offsets 1), duplicates 1 (offsets 2), unexpected 0\n\
             missing 1, duplicates 1"
        );
    }

    #[test]
    fn each_surplus_row_counts_once() {
        let report = report(&[(3, 7)], &[(3, 7), (3, 7), (3, 7)]);
        assert_eq!(report.duplicates, [(3, 7), (3, 7)]);
    }

    #[test]
    fn a_row_that_nobody_produced_is_unexpected() {
        let report = report(&[(0, 0)], &[(0, 0), (5, 1)]);
        assert_eq!(report.unexpected, [(5, 1)]);
        assert!(!report.is_exact());
    }

    #[test]
    #[should_panic(expected = "missing 1, duplicates 0")]
    fn assert_exact_fails_with_the_report() {
        report(&[(0, 0)], &[]).assert_exact();
    }

    #[test]
    fn offsets_are_shown_as_ranges() {
        assert_eq!(Ranges(&[1, 2, 3, 3, 7]).to_string(), "1-3, 7");
        let many: Vec<i64> = (0..30).map(|n| n * 2).collect();
        assert!(Ranges(&many).to_string().ends_with("18, …"));
    }
}
