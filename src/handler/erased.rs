//! A handler behind a pointer, so that a worker may hold one per topic.

use super::{Handler, HandlerFuture};
use crate::{Batch, Table, Tx};

/// A table that a handler writes.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) table: Table,
    /// Of whose records; `None`: of any.
    pub(crate) topics: Option<Vec<String>>,
}

/// [`Handler`] without its own future type: one boxed future per batch is nothing beside the batch's commit.
pub(crate) trait ErasedHandler: Send + Sync + 'static {
    fn handle<'a>(&'a self, batch: &'a Batch, tx: &'a mut Tx) -> HandlerFuture<'a>;

    fn prepare(&self, batch: &Batch) {
        let _ = batch;
    }

    fn writes(&self) -> Vec<Written> {
        Vec::new()
    }
}

impl<H: Handler> ErasedHandler for H {
    fn handle<'a>(&'a self, batch: &'a Batch, tx: &'a mut Tx) -> HandlerFuture<'a> {
        Box::pin(Handler::handle(self, batch, tx))
    }

    fn prepare(&self, batch: &Batch) {
        Handler::prepare(self, batch);
    }

    fn writes(&self) -> Vec<Written> {
        Handler::writes(self)
            .into_iter()
            .map(|table| Written { topics: table.topics.clone(), table })
            .collect()
    }
}
