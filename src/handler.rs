//! What the user writes: the function from records to rows.

mod erased;
mod error;
mod function;
mod router;
mod thread;

pub(crate) use erased::{ErasedHandler, Written};
pub use error::{HandlerError, HandlerErrorKind};
pub use function::{HandlerFn, HandlerFuture, handler_fn};
pub(crate) use router::Router;
pub(crate) use thread::{HandlerThread, MAX_ABANDONED, Running};

use crate::{Batch, Table, Tx};

/// Writes the rows that follow from records; the one thing that you must write.
///
#[doc = include_str!("../docs/handlers.md")]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `Handler`",
    label = "not a `Handler`",
    note = "implement `highwater::Handler`, or wrap a closure: `handler_fn(|batch, tx| Box::pin(async move {{ … }}))`"
)]
pub trait Handler: Send + Sync + 'static {
    /// Writes the rows that follow from the batch's records.
    ///
    /// The worker commits them together with the offsets after `Ok(())`, and rolls them back after an error.
    ///
    /// # Errors
    /// What the worker is to do: [retry](HandlerError::retry), [reject](HandlerError::reject) a record, or
    /// [halt](HandlerError::fatal).
    ///
    /// # Cancel safety
    /// The worker drops the future when the batch exceeds its processing time or its partitions are gone for good;
    /// the transaction is then rolled back. Effects outside of the transaction stay. A future that blocks its thread
    /// cannot be dropped: it is left to itself, and whatever it still writes finds its connection closed.
    fn handle(&self, batch: &Batch, tx: &mut Tx) -> impl Future<Output = Result<(), HandlerError>> + Send;

    /// Does in advance what needs no transaction (decoding, encoding) and [keeps](Batch::keep) what comes of it, while
    /// the batch before is being written and committed. Does nothing unless overridden.
    ///
    /// Called under lag only, once per batch at most, on a thread of the worker's own; [`handle`](Self::handle) follows
    /// with the same batch, or never. What goes wrong here is best left to `handle`, which meets it again: a panic
    /// counts as "not prepared". The time it takes counts towards `max_processing_time`.
    fn prepare(&self, batch: &Batch) {
        let _ = batch;
    }

    /// Which tables this writes, how, and in which columns a row says which record it is of. Workers register them in
    /// `sink_table`: by that `offsets reset --undo-rows` knows what to delete, and `reconcile` what to count. A
    /// [`TableSink`](crate::TableSink) says so by itself; nothing unless overridden.
    ///
    /// ```
    /// # use highwater::{Batch, Handler, HandlerError, Table, Tx};
    /// # struct Scores;
    /// # impl Handler for Scores {
    /// #     async fn handle(&self, _: &Batch, _: &mut Tx) -> Result<(), HandlerError> { Ok(()) }
    /// fn writes(&self) -> Vec<Table> {
    ///     let scores = Table::append("fraud_scores", ["tx_id", "score"]);
    ///     vec![scores.source_partition("source_partition").source_offset("source_offset")]
    /// }
    /// # }
    /// ```
    fn writes(&self) -> Vec<Table> {
        Vec::new()
    }
}
