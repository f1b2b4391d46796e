//! Figures of a worker, and how they are shown.
//!
//! [`MetricsSnapshot`] holds plain numbers and is always there: read it from
//! [`WorkerHandle::metrics`](crate::WorkerHandle::metrics), or from a [`Monitor`](crate::Monitor), and hand it to
//! whatever you report with. With the feature `admin`, `render` writes it in Prometheus' formats, and the
//! admin server (`highwater::admin`) serves it. `docs/metrics.md` lists all names.

#[cfg(feature = "admin")]
pub(crate) mod definition;
#[cfg(feature = "admin")]
pub(crate) mod definitions;
#[cfg(feature = "admin")]
pub(crate) mod exposition;
#[cfg(feature = "admin")]
mod families;
mod histogram;
mod kafka;
pub(crate) mod meter;
#[cfg(feature = "admin")]
mod page;
mod snapshot;

#[cfg(feature = "admin")]
pub use exposition::Format;
#[cfg(feature = "admin")]
pub use families::render;
pub use histogram::Histogram;
pub use kafka::ClientMetrics;
#[cfg(feature = "admin")]
pub use page::reference;
pub use snapshot::{BufferMetrics, MetricsSnapshot, PartitionMetrics, Phases, PoolMetrics, Rebalances};
