//! What a reconciliation has found.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::batch::PartitionKey;

/// A group against its tables and its topics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Reconciliation {
    /// The group.
    pub group: String,
    /// When it began, in UTC, by the database's clock.
    pub at: String,
    /// Whether the topics were read again.
    pub deep: bool,
    /// Whether Kafka has said where its logs begin and end.
    pub asked_kafka: bool,
    /// The tables whose rows were compared.
    pub tables: Vec<ComparedTable>,
    /// One per partition, by topic and number.
    pub partitions: Vec<ComparedPartition>,
    /// What cannot be: the first few of each kind.
    pub differences: Vec<Difference>,
    /// How many there are of each kind; none is 0.
    pub difference_counts: BTreeMap<DifferenceKind, u64>,
    /// Partitions whose records were to be read, and could not be, or not all of them: of what was not read, no record was
    /// looked for.
    pub unread: Vec<UnreadPartition>,
    /// What is worth knowing, and proves nothing.
    pub notes: Vec<String>,
}

impl Reconciliation {
    /// How many differences there are.
    #[must_use]
    pub fn difference_count(&self) -> u64 {
        self.difference_counts.values().sum()
    }
}

/// A partition that could not be read to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct UnreadPartition {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Why.
    pub why: String,
}

impl UnreadPartition {
    pub(super) fn new(key: &PartitionKey, why: &str) -> Self {
        Self { topic: key.topic.to_string(), partition: key.partition, why: why.to_owned() }
    }
}

/// For people.
impl fmt::Display for UnreadPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]: {}", self.topic, self.partition, self.why)
    }
}

/// A table whose rows were compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ComparedTable {
    /// Schema and name, quoted where SQL needs it.
    pub name: String,
    /// `append`, `insert_ignore` or `upsert`, as a program has registered it; `append` where none has.
    pub mode: String,
    /// Whether a program of the group has registered it.
    pub registered: bool,
    /// In which column a row says its topic; none: all are of one.
    pub topic_column: Option<String>,
    /// In which it says its partition.
    pub partition_column: String,
    /// In which it says its offset.
    pub offset_column: String,
    /// The index by which it was read; none: it was sorted.
    pub index: Option<String>,
}

/// A partition, and what the tables have of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ComparedPartition {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The next record to apply, by Postgres.
    pub next_offset: i64,
    /// The copy in Kafka.
    pub mirrored_offset: Option<i64>,
    /// The first offset that Kafka holds.
    pub log_start_offset: Option<i64>,
    /// Where a reader of committed records comes to the end.
    pub last_stable_offset: Option<i64>,
    /// The end of the log.
    pub log_end_offset: Option<i64>,
    /// How many records Kafka holds before `next_offset`; none: it was not read.
    pub records: Option<u64>,
    /// How many dead letters there are of it, superseded ones left out.
    pub dead_letters: u64,
    /// How many offsets before `next_offset` were stepped over on record, and not applied since.
    pub stepped_over: i64,
    /// One per table, in the order of [`Reconciliation::tables`].
    pub rows: Vec<RowCount>,
    /// Who has applied what: claims, moves and gaps, in the order in which they came to be.
    pub ledger: Vec<LedgerRange>,
}

/// What a table has of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct RowCount {
    /// How many rows.
    pub rows: u64,
    /// Of how many records.
    pub records: u64,
    /// Behind the last of these records: `max(source_offset) + 1`.
    pub end: Option<i64>,
}

/// What a range of the ledger is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RangeKind {
    /// Where the group begins.
    Start,
    /// Applied under a claim.
    Applied,
    /// A move by an operator.
    Reset,
    /// A move by an operator, and the rows deleted with it.
    Undo,
    /// Stepped over by an operator.
    Skip,
    /// Stepped over because Kafka did not hold it any more.
    Lost,
    /// A position taken over from another consumer.
    Adopt,
    /// The offsets were deleted.
    Delete,
    /// Older than what is kept.
    NotKnown,
    /// Nobody is on record for it.
    Hole,
    /// Two are.
    Overlap,
}

impl RangeKind {
    pub(super) fn of_event(kind: &str) -> Self {
        match kind {
            "start" => Self::Start,
            "adopt" => Self::Adopt,
            "undo" => Self::Undo,
            "skip" => Self::Skip,
            "lost" => Self::Lost,
            "delete" => Self::Delete,
            _ => Self::Reset,
        }
    }

    /// As in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Applied => "applied",
            Self::Reset => "reset",
            Self::Undo => "undo",
            Self::Skip => "skip",
            Self::Lost => "lost",
            Self::Adopt => "adopt",
            Self::Delete => "delete",
            Self::NotKnown => "not_known",
            Self::Hole => "hole",
            Self::Overlap => "overlap",
        }
    }
}

/// A range of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LedgerRange {
    /// What it is.
    pub kind: RangeKind,
    /// The first offset; of a move, where it was; none: where nothing is known.
    pub from: Option<i64>,
    /// Behind the last offset; of a move, where it went; none: it was deleted.
    pub to: Option<i64>,
    /// Of a claim, as are the next five.
    pub epoch: Option<i64>,
    /// The process.
    pub owner: Option<String>,
    /// Its instance id.
    pub instance_id: Option<String>,
    /// How many records it has counted when it applied them.
    pub applied_records: Option<i64>,
    /// In how many batches.
    pub applied_batches: Option<i64>,
    /// How many of its records Kafka still holds; none: they were not all read.
    pub records: Option<u64>,
    /// Of how many of its records there are rows, in the order of [`Reconciliation::tables`].
    pub rows: Vec<u64>,
    /// When it began, or was moved, in UTC.
    pub since: Option<String>,
    /// When the claim was replaced; none: it is the present one.
    pub until: Option<String>,
    /// Who has moved it.
    pub actor: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

/// What cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Difference {
    /// What it is.
    pub kind: DifferenceKind,
    /// Whose rows.
    pub table: Option<String>,
    /// The topic.
    pub topic: Option<String>,
    /// The partition.
    pub partition: Option<i32>,
    /// The offset, or the first of the range.
    pub offset: Option<i64>,
    /// Behind the range.
    pub to: Option<i64>,
    /// For people.
    pub text: String,
}

/// In a line: what, where, why.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.as_str())?;
        if let (Some(topic), Some(partition)) = (&self.topic, self.partition) {
            write!(f, " {topic}[{partition}]")?;
        }
        match (self.offset, self.to) {
            (Some(from), Some(to)) => write!(f, "@{from}..{to}")?,
            (Some(offset), None) => write!(f, "@{offset}")?,
            _ => {}
        }
        if let Some(table) = &self.table {
            write!(f, " in {table}")?;
        }
        write!(f, ": {}", self.text)
    }
}

/// What kind of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DifferenceKind {
    /// A record was applied, and has no row.
    MissingRow,
    /// Fewer records have rows than a claim has applied.
    MissingRows,
    /// A record has more rows than it was applied times.
    DoubledRow,
    /// A row is of no record.
    RowWithoutRecord,
    /// More records have rows than a claim has applied.
    SurplusRows,
    /// A row is of a record that is still to be applied.
    RowAhead,
    /// A row is of a record that lies before the group's start.
    RowBeforeStart,
    /// A row is of a record that was stepped over.
    RowSteppedOver,
    /// A row is of a record that waits as a dead letter.
    RowOfDeadLetter,
    /// A row is of a partition, or a topic, that the group does not have.
    UnknownPartition,
    /// Nobody is on record for offsets that the group has passed.
    Hole,
    /// Two claims are on record for the same offsets, without a move back between them.
    Overlap,
    /// A claim ends before it begins.
    ClaimBackwards,
    /// A claim has applied fewer records than Kafka holds of its range.
    NotApplied,
    /// The group stands behind the end of the log.
    BehindLog,
    /// Kafka does not hold any more what comes next.
    Gone,
}

impl DifferenceKind {
    /// As in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MissingRow => "missing_row",
            Self::MissingRows => "missing_rows",
            Self::DoubledRow => "doubled_row",
            Self::RowWithoutRecord => "row_without_record",
            Self::SurplusRows => "surplus_rows",
            Self::RowAhead => "row_ahead",
            Self::RowBeforeStart => "row_before_start",
            Self::RowSteppedOver => "row_stepped_over",
            Self::RowOfDeadLetter => "row_of_dead_letter",
            Self::UnknownPartition => "unknown_partition",
            Self::Hole => "hole",
            Self::Overlap => "overlap",
            Self::ClaimBackwards => "claim_backwards",
            Self::NotApplied => "not_applied",
            Self::BehindLog => "behind_log",
            Self::Gone => "gone",
        }
    }
}

impl fmt::Display for DifferenceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
