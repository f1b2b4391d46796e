//! `COPY` into the table itself, where a stage would only bring rows whose keys are not there yet.
//!
//! Whether a key is there the server alone knows. So it is tried, behind a savepoint: a key that is there (or that
//! somebody else adds just then) makes the `COPY` fail as a whole, and the rows go by way of the stage. A table whose keys
//! come again is left alone for longer and longer.

use std::sync::atomic::{AtomicU32, Ordering};

use super::buffer::Pool;
use super::care::Order;
use super::encode::Encoded;
use super::plan::{Column, TablePlan};
use super::send::{self, Form};
use super::table::Mode;
use crate::{Batch, HandlerError, Tx};

/// Fewer rows than these are staged: two more round trips are not worth it.
pub(crate) const MIN_ROWS: usize = 1_000;
/// For so many batches it is not tried again, at first and at last.
const REST: std::ops::RangeInclusive<u32> = 4..=1_024;

/// The way past the stage.
#[derive(Debug)]
pub(crate) struct Straight {
    /// `COPY … FROM STDIN`, into the table.
    pub(crate) copy: String,
    /// Fields in a row.
    pub(crate) fields: i16,
    min_rows: usize,
    rest: Rest,
}

/// For how many batches it is not tried.
#[derive(Debug)]
struct Rest {
    left: AtomicU32,
    next: AtomicU32,
}

impl Straight {
    /// For a table whose rows may be written in the order of their keys, each key once: then a row that is new comes out
    /// of both ways the same. `copy`: into the table.
    pub(crate) fn new(plan: &TablePlan, copy: String, min_rows: usize) -> Option<Self> {
        let upsert = plan.mode == Mode::Upsert;
        let plain = plan.mode == Mode::InsertIgnore || (upsert && plan.reduced_here);
        let by_hand = plan.columns.iter().any(Column::is_read_by_the_server);
        if !plain || by_hand || plan.care.order != Order::Key || plan.care.always.is_some() {
            return None;
        }
        let fields = i16::try_from(plan.columns.len()).ok()?;
        Some(Self { copy, fields, min_rows, rest: Rest::new() })
    }

    /// Whether it is worth a try with these rows.
    pub(crate) fn may_do(&self, rows: &Encoded) -> bool {
        !rows.deletes && rows.rows.len() >= self.min_rows && self.rest.is_over()
    }
}

impl Rest {
    fn new() -> Self {
        Self { left: AtomicU32::new(0), next: AtomicU32::new(*REST.start()) }
    }

    fn is_over(&self) -> bool {
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err()
    }

    fn begin(&self) {
        let next = self.next.load(Ordering::Relaxed);
        self.left.store(next, Ordering::Relaxed);
        self.next.store((2 * next).min(*REST.end()), Ordering::Relaxed);
    }

    fn forget(&self) {
        self.next.store(*REST.start(), Ordering::Relaxed);
    }
}

/// Copies the rows into the table; `false`: nothing was written, and they are to go by way of the stage.
///
/// # Errors
/// What has nothing to do with the rows: of what is wrong with them, the stage tells.
pub(crate) async fn copy(
    plan: &TablePlan,
    straight: &Straight,
    rows: &Encoded,
    pool: &Pool,
    batch: &Batch,
    tx: &mut Tx,
) -> Result<bool, HandlerError> {
    let before = tx.set_savepoint().await?;
    match send::copy(plan, rows, Form::Straight(straight), pool, batch, tx).await {
        Ok(()) => {
            tx.end_savepoint(before).await?;
            straight.rest.forget();
            Ok(true)
        }
        Err(error) if is_of_the_rows(&error) => {
            tx.return_to(&before).await?;
            tx.end_savepoint(before).await?;
            straight.rest.begin();
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Data, constraints, limits of the program.
fn is_of_the_rows(error: &HandlerError) -> bool {
    error.sqlstate().is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rests_for_longer_and_longer_and_forgets_once_it_works() {
        let rest = Rest::new();
        assert!(rest.is_over() && rest.is_over(), "from the first batch on");
        let length = |rest: &Rest| {
            rest.begin();
            std::iter::from_fn(|| (!rest.is_over()).then_some(())).count()
        };
        let lengths: Vec<usize> = (0..10).map(|_| length(&rest)).collect();
        assert_eq!(lengths, [4, 8, 16, 32, 64, 128, 256, 512, 1_024, 1_024]);
        rest.forget();
        assert_eq!(length(&rest), 4);
    }
}
