//! Hours of trouble in little: a fleet of workers under a schedule of faults, and every payment is applied once.
//!
//! ```text
//! cargo run --release --example soak -- --minutes 30
//! ```
//!
//! Brings up PostgreSQL and Kafka by itself, produces payments (some in Kafka transactions, some of those rolled back),
//! runs four worker processes, and draws faults from a seed: processes killed and frozen, servers killed, cut off,
//! slowed down, shut, locked and put back to an older state, records that kill their backends. Each fault has an
//! observation; one that was not seen to happen fails the run, and so does a partition that stands still long after
//! one, or halts without being to blame. In the end it compares what Kafka acknowledged with what PostgreSQL holds, row by row. Exit status 1 if
//! anything differs.

#[path = "../quickstart/check.rs"]
mod check;
mod faults;
mod fleet;
mod moving;
mod options;
mod own;
mod poison;
#[path = "../quickstart/prepare.rs"]
mod prepare;
#[path = "../quickstart/produce.rs"]
mod produce;
mod schedule;
mod servers;
mod story;
mod tally;
mod transactions;
#[path = "../quickstart/worker.rs"]
mod worker;

use std::process::ExitCode;

use options::Options;

/// Whatever goes wrong here is for a human to read.
type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

const TOPIC: &str = "payments.tx_events";
const GROUP: &str = "fraud-rules-v2";
const PARTITIONS: i32 = 12;
const WORKERS: usize = 4;

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
            _ = tokio::signal::ctrl_c() => {
                eprintln!("interrupted: the workers and servers are being stopped");
                ExitCode::from(130)
            }
        }
    })
}
