//! The way of one statement per row, in the order of the records: for batches that somebody could tell from their records
//! one by one, that keep something of the rows that are there, or in which a bad record is looked for. The statements are
//! pipelined: up to [`IN_FLIGHT`] of them are sent before the answer to the first is waited for.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

use bytes::{BufMut, BytesMut};
use futures_util::future::poll_fn;
use tokio_postgres::types::{IsNull, ToSql, Type};

use super::buffer::{fields, kept, row_bytes};
use super::care::ALL;
use super::catalog;
use super::encode::Encoded;
use super::plan::{Plan, TablePlan};
use super::sort;
use super::tail::Deed;
use crate::{Batch, HandlerError, Tx};

/// Statements on their way.
const IN_FLIGHT: usize = 256;

/// A field as it is sent.
#[derive(Debug)]
pub(super) struct Raw<'a>(pub(super) Option<&'a [u8]>);

impl ToSql for Raw<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        let Some(bytes) = self.0 else { return Ok(IsNull::Yes) };
        out.put_slice(bytes);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    tokio_postgres::types::to_sql_checked!();
}

/// One row's statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Step {
    record: u32,
    /// Deletions from the last table to the first, then writes from the first to the last.
    rank: usize,
    row: usize,
    table: usize,
    deed: Deed,
}

/// A table's statements, as this session has prepared them; what no row of the batch needs is not.
struct PreparedStatements {
    write: tokio_postgres::Statement,
    merge: Option<tokio_postgres::Statement>,
    delete: Option<tokio_postgres::Statement>,
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<u64, tokio_postgres::Error>> + Send + 'a>>;

/// A statement on its way.
struct InFlight<'a> {
    record: u32,
    /// The table in which it must find its row.
    must_find: Option<&'a TablePlan>,
    answer: Answer<'a>,
}

impl InFlight<'_> {
    async fn settle(self, batch: &Batch) -> Result<(), HandlerError> {
        let answer = self.answer.await;
        check(self.record, self.must_find, answer, batch)
    }
}

fn check(
    record: u32,
    must_find: Option<&TablePlan>,
    answer: Result<u64, tokio_postgres::Error>,
    batch: &Batch,
) -> Result<(), HandlerError> {
    let error = match (answer, must_find) {
        (Ok(0), Some(plan)) => HandlerError::reject_unnamed(format!(
            "table {}: a value is not said (a large one that has not changed), and there is no row to keep it of",
            plan.name
        )),
        (Ok(_), _) => return Ok(()),
        (Err(error), _) => HandlerError::from(error),
    };
    Err(match batch.records().nth(record as usize) {
        Some(record) => error.suspecting(record.id()),
        None => error,
    })
}

/// Writes all rows, record by record.
///
/// # Errors
/// One that suspects the record of the row that failed.
pub(crate) async fn write(
    plan: &Plan,
    encoded: &[Encoded],
    batch: &Batch,
    tx: &Tx,
) -> Result<(), HandlerError> {
    let mut prepared = Vec::with_capacity(plan.tables.len());
    for (table, rows) in plan.tables.iter().zip(encoded) {
        prepared.push(if rows.rows.is_empty() { None } else { Some(prepare(table, rows, tx).await?) });
    }
    let waiting = Waiting::of(plan);
    let checks = match &waiting {
        Some(waiting) => Some(waiting.prepare(tx).await?),
        None => None,
    };
    let client = tx.raw();
    let mut sent: VecDeque<InFlight<'_>> = VecDeque::with_capacity(IN_FLIGHT);
    let steps = steps(plan, encoded);
    for (at, step) in steps.iter().enumerate() {
        let table = &plan.tables[step.table];
        let Some(statements) = &prepared[step.table] else { continue };
        let rows = &encoded[step.table];
        let row = row_bytes(&rows.segments, &rows.rows[step.row]);
        let mut values: Vec<Raw<'_>> = fields(row).take(table.columns.len()).map(Raw).collect();
        let statement = match step.deed {
            Deed::Delete => {
                values = table.deletion().map(|position| Raw(values[position].0)).collect();
                statements.delete.as_ref()
            }
            Deed::Merge | Deed::Touch => {
                let kept = kept(row).take(table.columns.len()).enumerate();
                let kept = kept.filter(|(at, _)| !table.key.contains(at));
                values.extend(kept.map(|(_, kept)| Raw(Some(if kept { &[1] } else { &[0] }))));
                statements.merge.as_ref()
            }
            Deed::Write | Deed::Replace => Some(&statements.write),
        };
        let statement = statement.ok_or_else(|| HandlerError::fatal("a row without a key"))?;
        let answer = Box::pin(async move { client.execute_raw(statement, &values).await });
        let must_find = (step.deed == Deed::Merge).then_some(table);
        send(InFlight { record: step.record, must_find, answer }, &mut sent, batch).await?;
        let ends = steps.get(at + 1).is_none_or(|next| next.record != step.record);
        for check in checks.iter().flatten().filter(|_| ends) {
            let answer = Box::pin(async move { client.execute_raw(check, Vec::<Raw<'_>>::new()).await });
            send(InFlight { record: step.record, must_find: None, answer }, &mut sent, batch).await?;
        }
    }
    for one in sent {
        one.settle(batch).await?;
    }
    Ok(())
}

/// Sends a statement, and waits for the oldest one if there are many under way. An earlier one's error comes first.
async fn send<'a>(
    mut one: InFlight<'a>,
    sent: &mut VecDeque<InFlight<'a>>,
    batch: &Batch,
) -> Result<(), HandlerError> {
    // The driver sends what is polled first, first.
    match poll_fn(|context| Poll::Ready(one.answer.as_mut().poll(context))).await {
        Poll::Ready(answer) => {
            for earlier in sent.drain(..) {
                earlier.settle(batch).await?;
            }
            return check(one.record, one.must_find, answer, batch);
        }
        Poll::Pending => sent.push_back(one),
    }
    if sent.len() >= IN_FLIGHT
        && let Some(oldest) = sent.pop_front()
    {
        oldest.settle(batch).await?;
    }
    Ok(())
}

/// Locks the table, sees whether it is what it was, and prepares its statements.
async fn prepare(table: &TablePlan, rows: &Encoded, tx: &Tx) -> Result<PreparedStatements, HandlerError> {
    let parameters = table.kin.parameters(&table.name);
    let parameters = parameters.as_sql();
    let client = tx.raw();
    let (lock, types) =
        tokio::try_join!(client.prepare_cached(&table.lock), client.prepare_cached(table.kin.question()))?;
    let (_, now) = tokio::try_join!(client.execute(&lock, &[]), client.query(&types, &parameters))?;
    if !table.agrees(&catalog::now(&now)) {
        return Err(HandlerError::table_changed(&table.name));
    }
    let write = client.prepare_cached(&table.statements.write).await?;
    let merge = if rows.keeps { Some(client.prepare_cached(&table.statements.merge).await?) } else { None };
    let delete =
        if rows.deletes { Some(client.prepare_cached(&table.statements.delete).await?) } else { None };
    Ok(PreparedStatements { write, merge, delete })
}

/// Constraints that wait for COMMIT: each record is to be looked at by itself.
struct Waiting(Vec<String>);

impl Waiting {
    fn of(plan: &Plan) -> Option<Self> {
        let names = |of: fn(&TablePlan) -> &Vec<String>| {
            let mut names: Vec<&str> = plan.tables.iter().flat_map(of).map(String::as_str).collect();
            names.sort_unstable();
            names.dedup();
            names
        };
        let mut waiting = names(|table| &table.care.deferred);
        if waiting.contains(&ALL) {
            waiting = vec![ALL];
        }
        if waiting.is_empty() {
            return None;
        }
        let waiting = waiting.join(", ");
        let set = |names: &str, when: &str| format!("SET CONSTRAINTS {names} {when}");
        let mut texts = vec![set(&waiting, "IMMEDIATE"), set(&waiting, "DEFERRED")];
        // Those did not wait before all of them were told to.
        let immediate = names(|table| &table.care.immediate).join(", ");
        if waiting == ALL && !immediate.is_empty() {
            texts.push(set(&immediate, "IMMEDIATE"));
        }
        Some(Self(texts))
    }

    async fn prepare(&self, tx: &Tx) -> Result<Vec<tokio_postgres::Statement>, HandlerError> {
        let mut prepared = Vec::with_capacity(self.0.len());
        for text in &self.0 {
            prepared.push(tx.raw().prepare_cached(text).await?);
        }
        Ok(prepared)
    }
}

/// The rows of all tables in the order of their records: of one record first the deletions, which go the other way round
/// through the tables, then the rest.
fn steps(plan: &Plan, encoded: &[Encoded]) -> Vec<Step> {
    let tables = plan.tables.len();
    let mut steps = Vec::new();
    for (table, rows) in encoded.iter().enumerate() {
        let tail = plan.tables[table].tail;
        let says_deeds = rows.deletes || rows.keeps;
        let deed = |at: usize| match says_deeds {
            true => tail.deed(row_bytes(&rows.segments, &rows.rows[at])),
            false => Deed::Write,
        };
        let deletes = |at: usize| deed(at) == Deed::Delete;
        let mut from = 0;
        while from < rows.rows.len() {
            let record = rows.rows[from].record;
            let to = from + rows.rows[from..].iter().take_while(|row| row.record == record).count();
            let key = |at: usize| -> Vec<Option<Vec<u8>>> {
                let row = row_bytes(&rows.segments, &rows.rows[at]);
                let of_table = &plan.tables[table];
                of_table.key.iter().map(|&position| sort::told_by(of_table, row, position)).collect()
            };
            // A key that this record has written before is deleted after that. Where equal keys cannot be told here, any
            // of its writes may have been of it.
            let is_late = |at: usize| {
                let mut writes = (from..at).filter(|&before| !deletes(before));
                if plan.tables[table].key_is_comparable {
                    let deleted = key(at);
                    writes.any(|before| key(before) == deleted)
                } else {
                    writes.next().is_some()
                }
            };
            steps.extend((from..to).map(|row| {
                let deed = deed(row);
                let late = deed != Deed::Delete || is_late(row);
                let rank = if late { tables + table } else { tables - 1 - table };
                Step { record, rank, row, table, deed }
            }));
            from = to;
        }
    }
    steps.sort_unstable();
    steps
}
