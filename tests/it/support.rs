//! What every test stands on: a topic, a group, a database and a least-privilege role of its own; a sink that is
//! not idempotent; the oracle.

pub(crate) mod coverage;
pub(crate) mod fleet;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod sink;
pub(crate) mod topics;
pub(crate) mod watch;
pub(crate) mod world;

use std::time::Duration;

pub(crate) use process::Process;
pub(crate) use proxy::{Cut, Proxy};
pub(crate) use sink::{Fault, Sink};
pub(crate) use world::{Setup, World};

/// How long anything may take on a busy machine. A wait that ends with it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) type TestResult<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;
