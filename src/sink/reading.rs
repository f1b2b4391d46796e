//! Text that the server reads when a row is written, and may refuse by a code that is a statement's or a table's otherwise:
//! `tsquery` says 42601, `regclass` 42P01, the types of some extensions XX000.
//!
//! After such an error the batch goes once more, row by row and behind a savepoint. The texts of the record that fails are
//! then asked about alone: only if one of them is refused, the record is to blame. What else answers so (a trigger, a
//! table that has changed) is what it was.

use tokio_postgres::error::{DbError, ErrorPosition};

use super::buffer::{fields, row_bytes};
use super::each::{self, Raw};
use super::encode::Encoded;
use super::plan::{Column, Plan};
use crate::{Batch, HandlerError, Tx, telling};

/// Whether an error may be about a text, by its code, and not about the statement's own.
fn may_be_of_text(error: &DbError) -> bool {
    let code = error.code().code();
    let is_of_the_statement = matches!(error.position(), Some(ErrorPosition::Original(_)));
    let is_of_a_name = code.starts_with("42") && code != "42501";
    !is_of_the_statement && (is_of_a_name || matches!(code, "3F000" | "XX000"))
}

/// Whether it is worth asking: some of these rows have text that the server reads.
pub(crate) fn is_worth_asking(error: &HandlerError, plan: &Plan, encoded: &[Encoded]) -> bool {
    let has_text = || {
        let mut tables = plan.tables.iter().zip(encoded);
        tables.any(|(table, rows)| {
            !rows.rows.is_empty() && table.columns.iter().any(Column::is_read_by_the_server)
        })
    };
    error.db_error().is_some_and(may_be_of_text) && has_text()
}

/// Writes all rows one by one, and asks about the texts of the record that fails.
///
/// # Errors
/// As [`each::write`]; a rejection, if it is a text.
pub(crate) async fn write(
    plan: &Plan,
    encoded: &[Encoded],
    batch: &Batch,
    tx: &Tx,
) -> Result<(), HandlerError> {
    tx.raw().batch_execute("SAVEPOINT highwater_reading").await?;
    match each::write(plan, encoded, batch, tx).await {
        Ok(()) => Ok(tx.raw().batch_execute("RELEASE SAVEPOINT highwater_reading").await?),
        Err(error) if is_worth_asking(&error, plan, encoded) => {
            Err(refused(&error, plan, encoded, batch, tx).await.unwrap_or(error))
        }
        Err(error) => Err(error),
    }
}

/// The rejection of the record that failed, if one of its texts is refused alone.
async fn refused(
    error: &HandlerError,
    plan: &Plan,
    encoded: &[Encoded],
    batch: &Batch,
    tx: &Tx,
) -> Option<HandlerError> {
    let id = error.record()?;
    let at = u32::try_from(batch.records().position(|record| record.id() == *id)?).ok()?;
    let client = tx.raw();
    client.batch_execute("ROLLBACK TO SAVEPOINT highwater_reading").await.ok()?;
    for (table, rows) in plan.tables.iter().zip(encoded) {
        for row in rows.rows.iter().filter(|row| row.record == at) {
            let values = table.columns.iter().zip(fields(row_bytes(&rows.segments, row)));
            for (column, text) in values.filter(|(column, _)| column.is_read_by_the_server()) {
                let Some(text) = text else { continue };
                let sql = format!("SELECT $1::pg_catalog.text::{}", column.bare_type);
                // A type that is not there is no text's fault.
                let statement = client.prepare(&sql).await.ok()?;
                let Err(answer) = client.execute_raw(&statement, [Raw(Some(text))]).await else { continue };
                let why = telling::describe(answer.as_db_error().filter(|error| may_be_of_text(error))?);
                let (table, name, sql_type) = (&table.name, &column.name, &column.sql_type);
                let why = format!(
                    "table {table}, column {name} ({sql_type}): its type does not read this text: postgres answered {why}"
                );
                return Some(HandlerError::refused_text(id.clone(), why, answer));
            }
        }
    }
    None
}
