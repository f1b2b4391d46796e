//! The Kafka edge: one thread polls, answers rebalances, fills the buffers and keeps to the byte budget.

pub(crate) mod access;
pub(crate) mod budget;
pub(crate) mod buffer;
pub(crate) mod catalog;
mod context;
pub(crate) mod ffi;
pub(crate) mod groups;
pub(crate) mod inspect;
pub(crate) mod outbox;
mod peek;
mod policies;
pub(crate) mod poll;
mod signals;

pub(crate) use access::Access;
pub(crate) use budget::Budget;
pub(crate) use buffer::{PartitionBuffer, Watch};
pub(crate) use catalog::Catalog;
pub(crate) use poll::Waker;
pub(crate) use signals::Signals;
