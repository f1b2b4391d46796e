//! What the database says of a sink's table.

use serde::Serialize;

use crate::pipeline::file::Unit;
use crate::pipeline::sink::{Sink, Source};
use crate::sink::Source as Provenance;
use crate::{HandlerError, TableSink, Tx};

/// A column that the file fills.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ColumnPreview {
    /// As the file has it.
    pub column: String,
    /// Where its value comes from.
    pub from: String,
    /// As the database has it; none: there is no such column.
    pub sql_type: Option<String>,
    /// It takes no NULL.
    pub not_null: bool,
}

/// The table as it is.
pub(super) struct Found {
    pub(super) is_there: bool,
    pub(super) columns: Vec<ColumnPreview>,
    /// Why the sink cannot write it.
    pub(super) problem: Option<String>,
}

impl Found {
    /// All columns that are missing, and the first of everything else.
    pub(super) fn problems(&self, table: &str, problems: &mut Vec<String>) {
        let missing = self.columns.iter().filter(|column| column.sql_type.is_none());
        let missing: Vec<&str> = missing.map(|column| column.column.as_str()).collect();
        if self.is_there && missing.len() > 1 {
            problems.push(format!("table {table}: there are no columns {}", missing.join(", ")));
        } else if let Some(problem) = &self.problem {
            problems.push(problem.clone());
        }
    }
}

const COLUMNS: &str = "\
    SELECT a.attname::pg_catalog.text, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull \
    FROM pg_catalog.pg_attribute AS a \
    WHERE a.attrelid = pg_catalog.to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

/// `writer`: of this sink's table alone; it has read the catalogue when there is no problem.
///
/// # Errors
/// If Postgres does not answer.
pub(super) async fn look(sink: &Sink, writer: &TableSink, tx: &mut Tx) -> Result<Found, HandlerError> {
    let before = tx.savepoint().await?;
    let answer = tx.query(COLUMNS, &[&sink.table.name]).await;
    let looked = match &answer {
        Ok(_) => writer.look(tx).await,
        Err(_) => Ok(()),
    };
    tx.rollback_to(&before).await?;
    tx.release(before).await?;
    let (rows, refused) = match (answer, looked) {
        (Ok(rows), looked) => (rows, looked.err()),
        // Its schema is one that this role may not look into, or the name is none.
        (Err(error), _) if error.sqlstate().is_some() => (Vec::new(), Some(error)),
        (Err(error), _) => return Err(error),
    };
    let columns = filled(sink).map(|(column, from)| {
        let found = rows.iter().find(|row| row.get::<_, &str>(0) == column);
        ColumnPreview {
            column: column.to_owned(),
            from,
            sql_type: found.map(|row| row.get(1)),
            not_null: found.is_some_and(|row| row.get(2)),
        }
    });
    Ok(Found {
        is_there: !rows.is_empty(),
        columns: columns.collect(),
        problem: refused.map(|error| error.to_string()),
    })
}

/// As the file has it.
fn word(unit: Unit) -> &'static str {
    match unit {
        Unit::Days => "d",
        Unit::Seconds => "s",
        Unit::Milliseconds => "ms",
        Unit::Microseconds => "us",
        Unit::Nanoseconds => "ns",
    }
}

/// The columns, and where each has its value from.
fn filled(sink: &Sink) -> impl Iterator<Item = (&str, String)> {
    let columns = sink.columns.iter().map(|column| {
        let from = match (&column.path, &column.source) {
            (Some(path), Source::Slot(_, Some(unit))) => format!("{path}, {}", word(*unit)),
            (Some(path), _) => path.to_string(),
            (None, Source::Mark) => "whether the row is deleted".to_owned(),
            (None, _) => "the rest".to_owned(),
        };
        (column.name.as_str(), from)
    });
    let sources = sink.table.sources.iter().map(|(source, column)| {
        let from = match source {
            Provenance::Topic => "topic",
            Provenance::Partition => "partition",
            Provenance::Offset => "offset",
            Provenance::Timestamp => "timestamp",
        };
        (column.as_str(), from.to_owned())
    });
    columns.chain(sources)
}
