//! What the benchmarks stand on: servers, payments, the sink's table and its oracle, the bare loop, figures.
//!
//! Each benchmark is a program of its own and takes a part of this.
#![allow(dead_code, reason = "each benchmark uses a part")]

pub(crate) mod bare;
pub(crate) mod copy;
pub(crate) mod handler;
pub(crate) mod load;
pub(crate) mod member;
pub(crate) mod options;
pub(crate) mod payments;
pub(crate) mod plot;
pub(crate) mod process;
pub(crate) mod servers;
pub(crate) mod sink;
pub(crate) mod stats;
pub(crate) mod table;
pub(crate) mod worker;

/// Whatever goes wrong here is for a human to read.
pub(crate) type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// How long a run took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    /// From the start of the program's part to the first record.
    pub(crate) startup: std::time::Duration,
    /// From the first record to the last commit.
    pub(crate) elapsed: std::time::Duration,
    /// How many records it wrote.
    pub(crate) records: u64,
    /// In how many transactions, where that is known.
    pub(crate) commits: Option<u64>,
}

/// Runs a benchmark with its options, on a runtime like that of any worker.
pub(crate) fn run(
    help: &str,
    benchmark: impl AsyncFnOnce(options::Options) -> Result,
) -> std::process::ExitCode {
    use std::process::ExitCode;
    if let Some(ended) = member::played() {
        return ended;
    }
    let options = match options::Options::from_arguments(std::env::args().skip(1), help) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    if options.flag("help") {
        println!("{help}");
        return ExitCode::SUCCESS;
    }
    if !options.flag("bench") {
        println!("a benchmark, which measures only under `cargo bench`");
        return ExitCode::SUCCESS;
    }
    let filter = std::env::var("HIGHWATER_LOG").unwrap_or_else(|_| "warn,librdkafka=error".to_owned());
    tracing_subscriber::fmt().with_ansi(false).with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be built");
    match runtime.block_on(benchmark(options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:?}");
            ExitCode::FAILURE
        }
    }
}
