//! Closures as handlers.

use std::fmt;
use std::pin::Pin;

use super::{Handler, HandlerError};
use crate::{Batch, Tx};

/// What a closure given to [`handler_fn`] returns.
pub type HandlerFuture<'a> = Pin<Box<dyn Future<Output = Result<(), HandlerError>> + Send + 'a>>;

/// Makes a [`Handler`] of a closure.
///
/// The future is boxed because stable Rust cannot yet say "an async closure whose future is `Send`".
///
/// ```
/// use highwater::{Handler, handler_fn};
///
/// fn sink() -> impl Handler {
///     handler_fn(|batch, tx| {
///         Box::pin(async move {
///             for record in batch {
///                 tx.execute("INSERT INTO seen (source_offset) VALUES ($1)", &[&record.offset()]).await?;
///             }
///             Ok(())
///         })
///     })
/// }
/// # let _ = sink();
/// ```
pub fn handler_fn<F>(function: F) -> HandlerFn<F>
where
    F: for<'a> Fn(&'a Batch, &'a mut Tx) -> HandlerFuture<'a> + Send + Sync + 'static,
{
    HandlerFn { function }
}

/// A closure as a [`Handler`]; made by [`handler_fn`].
#[derive(Clone, Copy)]
pub struct HandlerFn<F> {
    function: F,
}

impl<F> Handler for HandlerFn<F>
where
    F: for<'a> Fn(&'a Batch, &'a mut Tx) -> HandlerFuture<'a> + Send + Sync + 'static,
{
    async fn handle(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        (self.function)(batch, tx).await
    }
}

impl<F> fmt::Debug for HandlerFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerFn").finish_non_exhaustive()
    }
}
