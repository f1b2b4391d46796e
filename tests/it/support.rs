//! What every test stands on: a topic, a group, a database and a least-privilege role of its own; a sink that is
//! not idempotent; the oracle.

pub(crate) mod browser;
pub(crate) mod certificates;
pub(crate) mod coverage;
pub(crate) mod fleet;
pub(crate) mod foreign;
pub(crate) mod http;
pub(crate) mod needs;
pub(crate) mod process;
pub(crate) mod seeded;
pub(crate) mod served;
pub(crate) mod sink;
pub(crate) mod topics;
pub(crate) mod watch;
pub(crate) mod web;
pub(crate) mod world;

use std::time::Duration;

pub(crate) use process::Process;
pub(crate) use sink::{Copied, Fault, Gate, Sink, read};
pub(crate) use world::{Setup, World};

/// How long anything may take on a busy machine. A wait that ends with it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) type TestResult<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The executable of an example, which `cargo test` builds beside this one.
pub(crate) fn example(name: &str) -> std::path::PathBuf {
    let test = std::env::current_exe().expect("the test binary has a path");
    let profile = test.parent().and_then(|deps| deps.parent()).expect("target/<profile>/deps/it-<hash>");
    let example = profile.join("examples").join(name);
    assert!(
        example.is_file(),
        "{} is not there: plain `cargo test` builds it; with --test, run `cargo build --example {name}` first",
        example.display()
    );
    example
}
