//! From records to rows: runs the user's mapping and takes what it pushes as `COPY`'s binary tuples.

use bytes::Bytes;

use super::buffer::{Buffer, Pool, RowRef};
use super::plan::{Plan, TablePlan};
use super::rows::Rows;
use super::sort::{self, Pick, Sorted};
use crate::{Batch, HandlerError, HandlerErrorKind, Record};

/// What a user gives: from a record to rows.
pub(crate) type Mapping = dyn Fn(&Record<'_>, &mut Rows<'_>) -> Result<(), HandlerError> + Send + Sync;

/// One table's rows of a batch, ready to be sent.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) segments: Vec<Bytes>,
    pub(crate) rows: Vec<RowRef>,
    /// Which rows are sent, and in which order. `None`: all, as they are.
    pub(crate) order: Option<Vec<Pick>>,
    /// Each row is to be written by a statement of its own.
    pub(crate) row_by_row: bool,
    /// Whether a row is there only to be deleted.
    pub(crate) deletes: bool,
    /// Whether a row keeps something of the table's.
    pub(crate) keeps: bool,
}

impl Encoded {
    /// The record of the row that was sent as the `line`th, from 1; by its place in the batch.
    pub(crate) fn record_of_line(&self, line: u64) -> Option<usize> {
        let place = usize::try_from(line.checked_sub(1)?).ok()?;
        let row = match &self.order {
            Some(order) => order.get(place)?.row(),
            None => place,
        };
        Some(self.rows.get(row)?.record as usize)
    }
}

/// Runs `mapping` over every record; gives one `Encoded` per table, and the rejections of records that may be set aside:
/// of these there is no row.
///
/// # Errors
/// The mapping's, or those of [`Rows::push`]: nothing was sent then. The first record's that must not be set aside.
pub(crate) fn encode(
    plan: &Plan,
    pool: &Pool,
    mapping: &Mapping,
    batch: &Batch,
) -> Result<(Vec<Encoded>, Vec<HandlerError>), HandlerError> {
    let mut buffers: Vec<Buffer> = plan.tables.iter().map(|_| Buffer::default()).collect();
    let mut rejected: Vec<HandlerError> = Vec::new();
    for (index, record) in batch.records().enumerate() {
        let Err(error) = mapping(&record, &mut Rows::new(plan, pool, &mut buffers, record, index)) else {
            continue;
        };
        if !batch.sets_aside(record.topic()) || error.record() != Some(&record.id()) || !is_rejection(&error)
        {
            // As if nobody had looked at what comes behind the first.
            return Err(rejected.into_iter().next().unwrap_or(error));
        }
        buffers.iter_mut().for_each(|buffer| buffer.take_back(index));
        rejected.push(error);
    }
    let finish = |(buffer, plan): (Buffer, &TablePlan)| {
        let (deletes, keeps) = (buffer.deletes, buffer.keeps);
        let (segments, rows) = buffer.finish();
        let Sorted { order, row_by_row } = if keeps {
            // What a row keeps, and whether there is something to keep, is known where the rows before it are written.
            Sorted { order: None, row_by_row: true }
        } else {
            sort::order(plan, &segments, &rows, deletes)
        };
        Encoded { segments, rows, order, row_by_row, deletes, keeps }
    };
    Ok((buffers.into_iter().zip(&plan.tables).map(finish).collect(), rejected))
}

/// By the mapping's own word: it has asked nobody else.
fn is_rejection(error: &HandlerError) -> bool {
    error.kind() == HandlerErrorKind::Reject && !error.is_suspicion()
}
