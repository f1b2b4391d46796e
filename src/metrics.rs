//! Figures of a worker, and how they are shown.

#[cfg(feature = "admin")]
pub(crate) mod definition;
#[cfg(feature = "admin")]
pub(crate) mod exposition;
mod histogram;

#[cfg(feature = "admin")]
pub use exposition::Format;
pub use histogram::Histogram;
