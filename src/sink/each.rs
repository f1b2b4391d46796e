//! The way of one statement per row, in the order of the records: for tables where somebody could tell a batch from its
//! records one by one. The statements are pipelined; nothing waits for an answer but the last ones.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::Poll;

use bytes::{BufMut, BytesMut};
use futures_util::future::poll_fn;
use tokio_postgres::types::{IsNull, ToSql, Type};

use super::buffer::{fields, row_bytes};
use super::catalog;
use super::encode::Encoded;
use super::plan::{Plan, TablePlan};
use super::stage::Deed;
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
    deletes: bool,
}

/// What a statement is sent with.
struct Prepared {
    insert: tokio_postgres::Statement,
    delete: Option<tokio_postgres::Statement>,
}

type Sent<'a> = Pin<Box<dyn Future<Output = Result<u64, tokio_postgres::Error>> + Send + 'a>>;

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
    let mut sent: VecDeque<(u32, Sent<'_>)> = VecDeque::with_capacity(IN_FLIGHT);
    let steps = steps(plan, encoded);
    for (at, step) in steps.iter().enumerate() {
        let table = &plan.tables[step.table];
        let Some(statements) = &prepared[step.table] else { continue };
        let rows = &encoded[step.table];
        let row = row_bytes(&rows.segments, &rows.rows[step.row]);
        let values = fields(row).take(table.columns.len()).map(Raw);
        let (statement, values) = match (&statements.delete, step.deletes) {
            (Some(delete), true) => {
                let values: Vec<Raw<'_>> = values.collect();
                (delete, table.key.iter().map(|&position| Raw(values[position].0)).collect())
            }
            (None, true) => return Err(HandlerError::fatal("a deletion without a key")),
            (_, false) => (&statements.insert, values.collect::<Vec<_>>()),
        };
        let request = async move { client.execute_raw(statement, &values).await };
        send(step.record, Box::pin(request), &mut sent).await.map_err(|failed| blame(failed, batch))?;
        let ends = steps.get(at + 1).is_none_or(|next| next.record != step.record);
        for check in checks.iter().flatten().filter(|_| ends) {
            let request = async move { client.execute_raw(check, Vec::<Raw<'_>>::new()).await };
            send(step.record, Box::pin(request), &mut sent).await.map_err(|failed| blame(failed, batch))?;
        }
    }
    for (record, answer) in sent {
        answer.await.map_err(|error| blame((record, error), batch))?;
    }
    Ok(())
}

/// Sends a statement, and waits for the oldest one if there are many under way. An earlier one's error comes first.
async fn send<'a>(
    record: u32,
    mut request: Sent<'a>,
    sent: &mut VecDeque<(u32, Sent<'a>)>,
) -> Result<(), (u32, tokio_postgres::Error)> {
    // The driver sends what is polled first, first.
    match poll_fn(|context| Poll::Ready(request.as_mut().poll(context))).await {
        Poll::Ready(answer) => {
            for (record, answer) in sent.drain(..) {
                answer.await.map_err(|error| (record, error))?;
            }
            return answer.map(drop).map_err(|error| (record, error));
        }
        Poll::Pending => sent.push_back((record, request)),
    }
    if sent.len() >= IN_FLIGHT
        && let Some((record, answer)) = sent.pop_front()
    {
        answer.await.map_err(|error| (record, error))?;
    }
    Ok(())
}

fn blame((record, error): (u32, tokio_postgres::Error), batch: &Batch) -> HandlerError {
    let error = HandlerError::from(error);
    match batch.records().nth(record as usize) {
        Some(record) => error.suspecting(record.id()),
        None => error,
    }
}

/// Locks the table, sees whether it is what it was, and prepares its statements.
async fn prepare(table: &TablePlan, rows: &Encoded, tx: &Tx) -> Result<Prepared, HandlerError> {
    let name: [&(dyn ToSql + Sync); 1] = [&table.name];
    let client = tx.raw();
    let (lock, types) =
        tokio::try_join!(client.prepare_cached(&table.lock), client.prepare_cached(catalog::TYPES))?;
    let (_, now) = tokio::try_join!(client.execute(&lock, &[]), client.query(&types, &name))?;
    if !table.agrees(&catalog::now(&now)) {
        return Err(HandlerError::table_changed(&table.name));
    }
    let insert = client.prepare_cached(&table.statements.insert).await?;
    let delete =
        if rows.deletes { Some(client.prepare_cached(&table.statements.delete).await?) } else { None };
    Ok(Prepared { insert, delete })
}

/// Constraints that wait for COMMIT: each record is to be looked at by itself.
struct Waiting([String; 2]);

impl Waiting {
    fn of(plan: &Plan) -> Option<Self> {
        let mut names: Vec<&str> =
            plan.tables.iter().flat_map(|table| &table.care.deferred).map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        let names = names.join(", ");
        let set = |when: &str| format!("SET CONSTRAINTS {names} {when}");
        (!names.is_empty()).then(|| Self([set("IMMEDIATE"), set("DEFERRED")]))
    }

    async fn prepare(&self, tx: &Tx) -> Result<[tokio_postgres::Statement; 2], HandlerError> {
        let client = tx.raw();
        Ok([client.prepare_cached(&self.0[0]).await?, client.prepare_cached(&self.0[1]).await?])
    }
}

/// The rows of all tables in the order of their records: of one record first the deletions, which go the other way round
/// through the tables, then the rest.
fn steps(plan: &Plan, encoded: &[Encoded]) -> Vec<Step> {
    let tables = plan.tables.len();
    let mut steps = Vec::new();
    for (table, rows) in encoded.iter().enumerate() {
        let columns = plan.tables[table].columns.len();
        let deletes = |at: usize| {
            rows.deletes && {
                let deed = fields(row_bytes(&rows.segments, &rows.rows[at])).nth(columns).flatten();
                deed == Some(&[Deed::Delete as u8])
            }
        };
        let mut from = 0;
        while from < rows.rows.len() {
            let record = rows.rows[from].record;
            let to = from + rows.rows[from..].iter().take_while(|row| row.record == record).count();
            let key = |at: usize| -> Vec<Option<&[u8]>> {
                let row = row_bytes(&rows.segments, &rows.rows[at]);
                plan.tables[table].key.iter().map(|&position| fields(row).nth(position).flatten()).collect()
            };
            // A key that this record has written before is deleted after that. Where keys are not told by their bytes,
            // any of its writes may have been of it.
            let is_late = |at: usize| {
                let mut writes = (from..at).filter(|&before| !deletes(before));
                if plan.tables[table].key_is_exact {
                    writes.any(|before| key(before) == key(at))
                } else {
                    writes.next().is_some()
                }
            };
            steps.extend((from..to).map(|row| {
                let deletes = deletes(row);
                let rank = if deletes && !is_late(row) { tables - 1 - table } else { tables + table };
                Step { record, rank, row, table, deletes }
            }));
            from = to;
        }
    }
    steps.sort_unstable();
    steps
}
