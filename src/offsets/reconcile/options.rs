//! What is to be compared, and how strictly.

use super::super::Selection;

/// Whether a record that has no row lacks one: only who wrote the program knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Expect {
    /// Nobody has said: few records without a row (ten, or one in a hundred) are differences, many are a filter's work.
    #[default]
    Unsaid,
    /// Every record makes a row, tombstones too.
    EveryRecord,
    /// Some make none.
    SomeRecords,
}

/// A table, as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableChoice {
    pub(super) name: String,
    pub(super) topic_column: Option<String>,
    pub(super) partition_column: Option<String>,
    pub(super) offset_column: Option<String>,
}

impl TableChoice {
    /// By its name, read as SQL reads it. Its columns are those that a program has registered, or `source_topic`,
    /// `source_partition` and `source_offset`, if there are such.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// In which column a row says its topic.
    #[must_use]
    pub fn topic_column(mut self, column: Option<String>) -> Self {
        self.topic_column = column;
        self
    }

    /// In which column a row says its partition.
    #[must_use]
    pub fn partition_column(mut self, column: Option<String>) -> Self {
        self.partition_column = column;
        self
    }

    /// In which column a row says its offset.
    #[must_use]
    pub fn offset_column(mut self, column: Option<String>) -> Self {
        self.offset_column = column;
        self
    }
}

/// What is to be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReconcileOptions {
    pub(super) tables: Vec<TableChoice>,
    pub(super) selection: Selection,
    pub(super) deep: bool,
    pub(super) expect: Expect,
    pub(super) several_rows: bool,
    pub(super) named: usize,
}

impl Default for ReconcileOptions {
    fn default() -> Self {
        Self {
            tables: Vec::new(),
            selection: Selection::AllTopics,
            deep: false,
            expect: Expect::default(),
            several_rows: false,
            named: 10,
        }
    }
}

impl ReconcileOptions {
    /// These tables; unless said, all that the group's programs have registered.
    #[must_use]
    pub fn tables(mut self, tables: impl IntoIterator<Item = TableChoice>) -> Self {
        self.tables = tables.into_iter().collect();
        self
    }

    /// These partitions; unless said, all that the group has.
    #[must_use]
    pub fn selection(mut self, selection: Selection) -> Self {
        self.selection = selection;
        self
    }

    /// Reads the topics again, and compares record by record.
    #[must_use]
    pub fn deep(mut self, deep: bool) -> Self {
        self.deep = deep;
        self
    }

    /// Whether a record without a row lacks one.
    #[must_use]
    pub fn expect(mut self, expect: Expect) -> Self {
        self.expect = expect;
        self
    }

    /// A record may make several rows: then none is too many.
    #[must_use]
    pub fn several_rows(mut self, several: bool) -> Self {
        self.several_rows = several;
        self
    }

    /// How many differences of each kind are named; 10 unless said.
    #[must_use]
    pub fn named(mut self, limit: usize) -> Self {
        self.named = limit;
        self
    }
}
