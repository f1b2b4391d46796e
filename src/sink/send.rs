//! `COPY`: sends rows, checks that the columns are still those they were encoded for, and finds the record of a row
//! that the server refuses.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::pin::pin;
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::SinkExt;
use tokio_postgres::error::SqlState;

use super::buffer::{Pool, SEGMENT_BYTES, row_bytes};
use super::catalog;
use super::encode::Encoded;
use super::plan::TablePlan;
use super::sort::Pick;
use super::straight::Straight;
use crate::tx::{Ahead, HEADER, TRAILER};
use crate::verdict::postgres::copy_line;
use crate::{Batch, HandlerError, Tx};

/// Messages that may be on their way while the next one is filled.
const IN_FLIGHT: usize = 4;

/// As what rows are sent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Form<'a> {
    /// As they were encoded: into the stage, if there is one.
    Planned,
    /// Past the stage.
    Straight(&'a Straight),
}

/// Copies the rows into the table, or into its stage.
///
/// The table is locked and its columns' types are compared first: an `ALTER TABLE` between reading the catalogue and
/// writing could make the server take eight bytes of one type for another, or refuse a good record. Both questions
/// travel with the `COPY` and cost no round trip.
///
/// # Errors
/// A rejection that names its record, where the server says in which row an error arose.
pub(crate) async fn copy(
    plan: &TablePlan,
    encoded: &Encoded,
    form: Form<'_>,
    pool: &Pool,
    batch: &Batch,
    tx: &mut Tx,
) -> Result<(), HandlerError> {
    let began = Instant::now();
    let copied = send(plan, encoded, form, pool, batch, tx).await;
    tx.wrote(began.elapsed());
    copied
}

async fn send(
    plan: &TablePlan,
    encoded: &Encoded,
    form: Form<'_>,
    pool: &Pool,
    batch: &Batch,
    tx: &mut Tx,
) -> Result<(), HandlerError> {
    let parameters = plan.kin.parameters(&plan.name);
    let parameters = &parameters.as_sql();
    let ahead = Ahead { lock: &plan.lock, query: plan.kin.question(), parameters };
    let statement = match form {
        Form::Planned => &plan.copy,
        Form::Straight(straight) => &straight.copy,
    };
    let (types, sink) = tx.copy_in_behind(ahead, statement).await?;
    if !plan.agrees(&catalog::now(&types)) {
        return Err(HandlerError::table_changed(&plan.name));
    }
    let mut sink = pin!(sink);
    let send = async {
        sink.send(Bytes::from_static(HEADER)).await?;
        match (&encoded.order, form) {
            (None, Form::Planned) => {
                for segment in &encoded.segments {
                    sink.send(segment.clone()).await?;
                }
            }
            (order, _) => {
                let all = || (0..encoded.rows.len()).map(Pick::whole).collect();
                let order = order.as_deref().map_or_else(|| Cow::Owned(all()), Cow::Borrowed);
                let mut sent = VecDeque::with_capacity(IN_FLIGHT + 1);
                let mut next = pool.take();
                for &row in &*order {
                    put(row_bytes(&encoded.segments, &encoded.rows[row.row()]), row, plan, form, &mut next);
                    if next.len() >= SEGMENT_BYTES {
                        let full = std::mem::replace(&mut next, pool.take()).freeze();
                        sink.send(full.clone()).await?;
                        recycle(full, &mut sent, IN_FLIGHT, pool);
                    }
                }
                let last = next.freeze();
                sink.send(last.clone()).await?;
                recycle(last, &mut sent, 0, pool);
            }
        }
        sink.send(Bytes::from_static(TRAILER)).await?;
        sink.finish().await
    };
    send.await.map(drop).map_err(|error| blame(error, encoded, batch))
}

/// Adds a row to a message.
fn put(bytes: &[u8], row: Pick, plan: &TablePlan, form: Form<'_>, message: &mut BytesMut) {
    if let Form::Straight(straight) = form {
        message.put_i16(straight.fields);
        message.put_slice(plan.tail.cut(bytes));
        return;
    }
    message.put_slice(bytes);
    if row.replaces() {
        plan.tail.replace(message);
    }
}

/// Gives back what was sent, but for the last `keep` messages, which the connection may still hold.
fn recycle(message: Bytes, sent: &mut VecDeque<Bytes>, keep: usize, pool: &Pool) {
    sent.push_back(message);
    while sent.len() > keep {
        if let Some(message) = sent.pop_front() {
            pool.give(message);
        }
    }
}

/// The rejection of the record whose row the server refused, if it says which.
fn blame(error: tokio_postgres::Error, encoded: &Encoded, batch: &Batch) -> HandlerError {
    // What is too large for a page is found when rows are written, which are read before by the hundred: the line is
    // that of the last one read.
    let found_late = error.code() == Some(&SqlState::PROGRAM_LIMIT_EXCEEDED);
    let line = error.as_db_error().filter(|_| !found_late).and_then(copy_line);
    let error = HandlerError::from(error);
    let record = line.and_then(|line| encoded.record_of_line(line)).and_then(|at| batch.records().nth(at));
    match record {
        Some(record) => error.suspecting(record.id()),
        None => error,
    }
}

/// Gives all pieces of a batch that was sent back to the pool.
pub(crate) fn give_back(encoded: Vec<Encoded>, pool: &Pool) {
    for encoded in encoded {
        encoded.segments.into_iter().for_each(|segment| pool.give(segment));
    }
}
