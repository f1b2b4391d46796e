//! What is known of the tables, from the catalogue: everything that encoding and writing need.

use super::table::{Mode, Source};
use super::target::Target;

/// All tables of a sink, as they were when the catalogue was read.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) tables: Vec<TablePlan>,
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
    pub(crate) type_id: TypeId,
    /// If it is not its type's own.
    pub(crate) collation: Option<String>,
    pub(crate) target: Target,
}

/// One table.
#[derive(Debug)]
pub(crate) struct TablePlan {
    /// As the user gave it.
    pub(crate) name: String,
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
    /// Equal keys have equal encodings, so that the last write per key can be found here; else the server finds it.
    pub(crate) key_is_exact: bool,
    /// Where rows are staged, unless they are copied straight into the table.
    pub(crate) stage: Option<super::stage::Stage>,
    pub(crate) lock: String,
    /// `COPY … FROM STDIN`, into the table or the stage.
    pub(crate) copy: String,
    /// Fields in a row that is sent.
    pub(crate) fields: i16,
    /// Which columns no JSON object has had.
    pub(crate) absent: std::sync::Arc<super::absent::Absent>,
}

impl TablePlan {
    /// Whether a staged row says where it stands in its batch: because only the server can tell which keys are equal, or
    /// because the first one is to win.
    pub(crate) fn tells_places(&self) -> bool {
        match self.mode {
            Mode::Append => false,
            Mode::InsertIgnore => true,
            Mode::Upsert => !self.key_is_exact,
        }
    }

    /// Whether the catalogue still says what it said.
    pub(crate) fn agrees(&self, found: &[(&str, TypeId)]) -> bool {
        self.columns
            .iter()
            .all(|column| found.iter().any(|(name, id)| *name == column.name && *id == column.type_id))
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
