//! A handler behind a pointer, so that a worker may hold one per topic.

use super::{Handler, HandlerFuture};
use crate::{Batch, Tx};

/// [`Handler`] without its own future type: one boxed future per batch is nothing beside the batch's commit.
pub(crate) trait ErasedHandler: Send + Sync + 'static {
    fn handle<'a>(&'a self, batch: &'a Batch, tx: &'a mut Tx) -> HandlerFuture<'a>;

    fn prepare(&self, batch: &Batch) {
        let _ = batch;
    }
}

impl<H: Handler> ErasedHandler for H {
    fn handle<'a>(&'a self, batch: &'a Batch, tx: &'a mut Tx) -> HandlerFuture<'a> {
        Box::pin(Handler::handle(self, batch, tx))
    }

    fn prepare(&self, batch: &Batch) {
        Handler::prepare(self, batch);
    }
}
