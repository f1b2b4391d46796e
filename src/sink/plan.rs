//! What is known of the tables, from the catalogue: everything that encoding and writing need.

use super::care::Care;
use super::catalog::Now;
use super::catalog::mark::Kin;
use super::length::Length;
use super::parents::Parent;
use super::stage::Stage;
use super::statements::Statements;
use super::straight::Straight;
use super::table::{Mode, Source};
use super::tail::Tail;
use super::target::{Kind, Target};
use super::together::Together;

/// All tables of a sink, as they were when the catalogue was read.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) tables: Vec<TablePlan>,
    /// Foreign keys between them.
    pub(crate) parents: Vec<Parent>,
    /// Tables whose rows in one batch are written row by row.
    pub(crate) together: Vec<Together>,
}

/// Everything about a column's type that changes how values are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TypeId {
    /// Of a domain, its own and not that of the type beneath.
    pub(crate) oid: u32,
    /// The `10` of `varchar(10)`, encoded; -1 for none.
    pub(crate) modifier: i32,
    /// 0 for none.
    pub(crate) collation: u32,
}

/// A column that is written.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// As the server spells it, with its modifiers: `numeric(10,2)`.
    pub(crate) sql_type: String,
    /// The same without them; of a domain, the type beneath.
    pub(crate) bare_type: String,
    pub(crate) type_id: TypeId,
    /// If it is not its type's own; of an upsert's key, that of its index.
    pub(crate) collation: Option<String>,
    /// Of an upsert's key, that of its index: an operator that is named with its schema.
    pub(crate) equals: String,
    /// The same of its type's `<=`.
    pub(crate) at_most: String,
    /// Of a `varchar(n)`, `char(n)` or `numeric(p,s)`.
    pub(crate) length: Option<Length>,
    /// A NULL is refused.
    pub(crate) not_null: bool,
    pub(crate) target: Target,
}

impl Column {
    /// Whether text is sent, of which the server makes the value.
    pub(crate) fn is_read_by_the_server(&self) -> bool {
        self.target.kind == Kind::Input
    }
}

/// One table.
#[derive(Debug)]
pub(crate) struct TablePlan {
    /// As the user gave it.
    pub(crate) name: String,
    /// Its object id.
    pub(crate) relation: u32,
    /// Changes with everything about the table that [`Kin::question`] asks: indexes, constraints, triggers, rules, defaults,
    /// domains, replica identity, publications, ancestors.
    pub(crate) mark: Option<i64>,
    /// Changes with what that question asks of its partitions and children.
    pub(crate) mark_below: Option<i64>,
    pub(crate) kin: Kin,
    /// Quoted and qualified.
    pub(crate) sql_name: String,
    pub(crate) mode: Mode,
    /// The user's, then those that the sink fills.
    pub(crate) columns: Vec<Column>,
    /// How many are the user's.
    pub(crate) given: usize,
    pub(crate) sources: Vec<Source>,
    /// Positions of the columns by which rows are sorted and, for upserts, found. Empty: not sorted.
    pub(crate) key: Vec<usize>,
    /// Position of the column by which the newer row stays.
    pub(crate) version: Option<usize>,
    /// Of each column: equal values have equal encodings.
    pub(crate) exact: Vec<bool>,
    /// Equal keys can be told here: their encodings are the same, or (`numeric`) are known to say the same.
    pub(crate) key_is_comparable: bool,
    /// The last write per key is found here, and nothing else sent; else the server finds it.
    pub(crate) reduced_here: bool,
    pub(crate) care: Care,
    /// Where rows are staged, unless they are copied straight into the table.
    pub(crate) stage: Option<Stage>,
    /// The way past the stage.
    pub(crate) straight: Option<Straight>,
    /// For rows that are written one by one.
    pub(crate) statements: Statements,
    pub(crate) lock: String,
    /// `COPY … FROM STDIN`, into the table or the stage.
    pub(crate) copy: String,
    /// What a row has behind its columns.
    pub(crate) tail: Tail,
    /// Fields in a row, with those of its tail.
    pub(crate) fields: i16,
    /// Which columns no JSON object has had.
    pub(crate) absent: std::sync::Arc<super::absent::Absent>,
}

/// See [`TablePlan::is_set`].
pub(crate) fn is_set(key: &[usize], exact: &[bool], at: usize) -> bool {
    !key.contains(&at) || !exact[at]
}

impl TablePlan {
    /// Positions of the values that a deletion says: the key's, and the version.
    pub(crate) fn deletion(&self) -> impl Iterator<Item = usize> + '_ {
        self.key.iter().copied().chain(self.version)
    }

    /// Whether a write over the row of its key sets the column at a position. A key that is equal need not be the same: the
    /// last spelling stays, however batches are cut.
    pub(crate) fn is_set(&self, at: usize) -> bool {
        is_set(&self.key, &self.exact, at)
    }

    /// Whether the catalogue still says what it said.
    pub(crate) fn agrees(&self, now: &Now<'_>) -> bool {
        let same = |column: &Column| {
            now.types.iter().any(|(name, id)| *name == column.name && *id == column.type_id)
        };
        !now.hides_rows
            && now.relation == Some(self.relation)
            && now.mark == self.mark
            && (now.mark_below.is_none() || now.mark_below == self.mark_below)
            && self.columns.iter().all(same)
    }
}

/// An identifier, quoted.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Identifiers, quoted, with commas.
pub(crate) fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(quote).collect::<Vec<_>>().join(", ")
}
