//! The Kafka edge: one thread polls, answers rebalances, fills the buffers and keeps to the byte budget.

pub(crate) mod budget;
pub(crate) mod buffer;
pub(crate) mod catalog;
mod context;
pub(crate) mod ffi;
pub(crate) mod groups;
pub(crate) mod inspect;
mod peek;
mod policies;
pub(crate) mod poll;
mod signals;

pub(crate) use budget::Budget;
pub(crate) use buffer::{PartitionBuffer, Watch};
pub(crate) use catalog::Catalog;
pub(crate) use poll::Waker;
pub(crate) use signals::Signals;

/// The context that every client of the worker logs through.
pub(crate) fn new_context() -> context::Context {
    context::Context
}
