//! The whole promise in about a minute: a fleet of workers is killed and frozen, and every payment is applied once.
//!
//! ```text
//! cargo run --release --example quickstart
//! ```
//!
//! Brings up PostgreSQL and Kafka by itself, produces 3,000 payments a second, runs three worker processes of group
//! `fraud-rules-v2`, kills one and turns another into a zombie. Then it compares what Kafka acknowledged with what
//! PostgreSQL holds, row by row. Exit status 1 if anything differs.

mod check;
mod fleet;
mod options;
mod prepare;
mod produce;
mod servers;
mod story;
mod worker;

use std::process::ExitCode;

use options::Options;

/// Whatever goes wrong here is for a human to read.
type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const TOPIC: &str = "payments.tx_events";
const GROUP: &str = "fraud-rules-v2";
const PARTITIONS: i32 = 6;

fn main() -> ExitCode {
    let options = match Options::from_env() {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    if options.help {
        println!("{}", options::HELP);
        return ExitCode::SUCCESS;
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be built");
    if options.worker {
        return runtime.block_on(worker::run());
    }
    runtime.block_on(async {
        tokio::select! {
            ended = story::tell(&options) => match ended {
                Ok(true) => ExitCode::SUCCESS,
                Ok(false) => ExitCode::FAILURE,
                Err(error) => {
                    eprintln!("error: {error:?}");
                    ExitCode::FAILURE
                }
            },
            // The story is dropped, and its workers and servers with it.
            _ = tokio::signal::ctrl_c() => {
                eprintln!("interrupted: the workers and servers are being stopped");
                ExitCode::from(130)
            }
        }
    })
}
