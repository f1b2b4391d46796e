//! How a user names a table and what is to become of its rows.

use std::sync::Arc;

use super::absent::Absent;
use super::straight;
use super::target::{Bytea, Conversion, Nul};

/// How rows get into a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Mode {
    Append,
    InsertIgnore,
    Upsert,
    Update,
}

impl Mode {
    /// Rows are found by their key.
    pub(crate) fn is_keyed(self) -> bool {
        matches!(self, Self::Upsert | Self::Update)
    }
}

/// A column that the sink fills by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Topic,
    Partition,
    Offset,
    Timestamp,
}

/// A table that a [`TableSink`](super::TableSink) writes, its columns in the order of a row's values, and how rows get
/// into it.
///
/// The table's name is read as SQL reads it (`payments`, `sales.payments`, `"Payments"`); columns are taken as they are.
///
/// ```
/// use highwater::Table;
///
/// let payments = Table::append("payments", ["merchant_id", "tx_id", "amount"])
///     .source_partition("source_partition")
///     .source_offset("source_offset");
/// let balances = Table::upsert("balances", ["account", "cents"]).key(["account"]);
/// ```
#[derive(Debug, Clone)]
#[must_use = "a table is written once it is given to a TableSink"]
pub struct Table {
    pub(crate) name: String,
    pub(crate) columns: Vec<String>,
    pub(crate) mode: Mode,
    /// `None`: see [`Table::key`]; of an `append` without a primary key the first index that has columns here.
    pub(crate) key: Option<Vec<String>>,
    pub(crate) version: Option<String>,
    pub(crate) sorted: bool,
    pub(crate) straight_from: usize,
    pub(crate) nul: Nul,
    /// `None`: hexadecimal, or UTF-8 where U+0000 is to go into bytes.
    bytea: Option<Bytea>,
    pub(crate) binary: Vec<String>,
    pub(crate) sources: Vec<(Source, String)>,
    /// `None`: of any topic.
    pub(crate) topics: Option<Vec<String>>,
    /// Which columns no JSON object has had.
    pub(crate) absent: Arc<Absent>,
}

impl Table {
    fn new<C: Into<String>>(
        name: impl Into<String>,
        columns: impl IntoIterator<Item = C>,
        mode: Mode,
    ) -> Self {
        let columns: Vec<String> = columns.into_iter().map(C::into).collect();
        Self {
            name: name.into(),
            absent: Arc::new(Absent::new(columns.len())),
            columns,
            mode,
            key: None,
            version: None,
            sorted: true,
            straight_from: straight::MIN_ROWS,
            nul: Nul::default(),
            bytea: None,
            binary: Vec::new(),
            sources: Vec::new(),
            topics: None,
        }
    }

    /// Every row is inserted, by `COPY` straight into the table: the fastest way, and the right one, because every
    /// record is applied exactly once. A row that violates a constraint rejects its record.
    pub fn append<C: Into<String>>(name: impl Into<String>, columns: impl IntoIterator<Item = C>) -> Self {
        Self::new(name, columns, Mode::Append)
    }

    /// A row whose key is there already, or comes twice, is left out (`ON CONFLICT DO NOTHING`); the first one stays.
    ///
    /// Not needed against repeats, which do not happen: for topics in which one and the same thing is told twice.
    pub fn insert_ignore<C: Into<String>>(
        name: impl Into<String>,
        columns: impl IntoIterator<Item = C>,
    ) -> Self {
        Self::new(name, columns, Mode::InsertIgnore)
    }

    /// A row replaces the one of the same [key](Self::key); [`Rows::delete`](super::Rows::delete) removes it. The last
    /// write per key wins, in the order of the records.
    pub fn upsert<C: Into<String>>(name: impl Into<String>, columns: impl IntoIterator<Item = C>) -> Self {
        Self::new(name, columns, Mode::Upsert)
    }

    /// A row changes the one of the same [key](Self::key); where there is none, it changes nothing. Deletions, and which write
    /// of a key wins, are those of [`upsert`](Self::upsert).
    pub fn update<C: Into<String>>(name: impl Into<String>, columns: impl IntoIterator<Item = C>) -> Self {
        Self::new(name, columns, Mode::Update)
    }

    /// The columns by which an upsert or update finds a row: those of a unique index. Default: the primary key, or the only
    /// unique index there is.
    ///
    /// For [`append`](Self::append): the columns by which a batch's rows are sorted. [`insert_ignore`](Self::insert_ignore) does not
    /// look at it: a row stays out if it violates any unique index.
    pub fn key<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.key = Some(columns.into_iter().map(C::into).collect());
        self
    }

    /// The newer row of a key stays: one whose value in this column is lower than that of the table's row is not applied, and
    /// one that is equal is. So are deletions, which say the version behind the key's values: `rows.delete((id, lsn))`. What a
    /// row's version was is forgotten once it is deleted; a mark ([`Rows::update`](super::Rows::update)) keeps it.
    ///
    /// For [`upsert`](Self::upsert) and [`update`](Self::update), where records do not come in the order in which their rows
    /// have changed. A record that says no version is rejected; a row of the table that has none is older than any. Integers,
    /// dates and times cost little, but for batches that delete; of other types (numbers, text, `uuid`, `pg_lsn`), and with
    /// deletions, rows are written one by one.
    pub fn version(mut self, column: impl Into<String>) -> Self {
        self.version = Some(column.into());
        self
    }

    /// Appends the rows in the order in which they come.
    ///
    /// Else the rows of a batch are sorted by the table's primary key or first unique index, where its columns are
    /// written: neighbours in the index are then inserted one after the other, which is faster.
    pub fn unsorted(mut self) -> Self {
        self.sorted = false;
        self
    }

    /// From how many rows on a batch of new keys goes past the stage: for tests, whose batches are small.
    #[doc(hidden)]
    pub fn straight_from(mut self, rows: usize) -> Self {
        self.straight_from = rows;
        self
    }

    /// What becomes of U+0000. Default: [`Nul::Reject`].
    pub fn nul(mut self, nul: Nul) -> Self {
        self.nul = nul;
        self
    }

    /// What text means in the table's `bytea` columns: hexadecimal digits behind `\x`, base64, or the text's own bytes.
    /// Default: [`Bytea::Hex`], or [`Bytea::Utf8`] with [`Nul::Bytes`].
    pub fn bytea(mut self, bytea: Bytea) -> Self {
        self.bytea = Some(bytea);
        self
    }

    /// A column of a type that is otherwise written as text, which takes [`Sql`](super::Sql) values instead: the driver
    /// encodes them in the type's binary format, and the server's input function is not asked.
    ///
    /// For types without an encoding here (ranges, `oid`, `bit`, …; docs/table-sink.md, "Types"). The others take both.
    pub fn binary(mut self, column: impl Into<String>) -> Self {
        self.binary.push(column.into());
        self
    }

    /// The columns that are written: those that are given, then those that the sink fills.
    pub(crate) fn written(&self) -> Vec<&str> {
        let sources = self.sources.iter().map(|(_, column)| column);
        self.columns.iter().chain(sources).map(String::as_str).collect()
    }

    /// How the values of this column are to be taken.
    pub(crate) fn conversion(&self, column: &str) -> Conversion {
        let default = if self.nul == Nul::Bytes { Bytea::Utf8 } else { Bytea::default() };
        Conversion {
            nul: self.nul,
            bytea: self.bytea.unwrap_or(default),
            binary: self.binary.iter().any(|name| name == column),
        }
    }

    /// The topics whose records make its rows, where a worker reads others, too: then a move back, a redrive or a proof that
    /// is about those leaves this table alone. Nothing is checked. Default: any.
    pub fn from_topics<T: Into<String>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.topics = Some(topics.into_iter().map(T::into).collect());
        self
    }

    fn source(mut self, source: Source, column: String) -> Self {
        self.sources.retain(|(other, _)| *other != source);
        self.sources.push((source, column));
        self
    }

    /// A `text` column for the name of the topic, filled by the sink itself.
    pub fn source_topic(self, column: impl Into<String>) -> Self {
        self.source(Source::Topic, column.into())
    }

    /// An `integer` column for the number of the partition, filled by the sink itself.
    pub fn source_partition(self, column: impl Into<String>) -> Self {
        self.source(Source::Partition, column.into())
    }

    /// A `bigint` column for the record's offset, filled by the sink itself.
    pub fn source_offset(self, column: impl Into<String>) -> Self {
        self.source(Source::Offset, column.into())
    }

    /// A `timestamptz`, `timestamp` or `bigint` (milliseconds) column for the record's timestamp, filled by the sink
    /// itself; NULL if the record has none.
    pub fn source_timestamp(self, column: impl Into<String>) -> Self {
        self.source(Source::Timestamp, column.into())
    }
}

/// One table or several, in the order in which they are written: where there are foreign keys, the table that is
/// referred to comes first.
pub trait Tables: sealed::Sealed {}

impl<T: sealed::Sealed> Tables for T {}

pub(crate) mod sealed {
    use super::Table;

    pub trait Sealed {
        fn into_tables(self) -> Vec<Table>;
    }

    impl Sealed for Table {
        fn into_tables(self) -> Vec<Table> {
            vec![self]
        }
    }

    impl<const N: usize> Sealed for [Table; N] {
        fn into_tables(self) -> Vec<Table> {
            self.into()
        }
    }

    impl Sealed for Vec<Table> {
        fn into_tables(self) -> Vec<Table> {
            self
        }
    }
}
