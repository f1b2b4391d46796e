//! The worker's process. Everything about it comes from the environment: HIGHWATER_BROKERS, HIGHWATER_POSTGRES_URL,
//! HIGHWATER_GROUP, HIGHWATER_TOPICS and the others of docs/configuration.md. SIGTERM drains and ends it.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use highwater::admin::{Probe, configured_address, probe};
use highwater::{Result, Worker};
use my_sink::Payments;

#[tokio::main]
async fn main() -> ExitCode {
    // Colours are for people: not in a file, a pipe or a pod's log.
    let colours =
        std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let filter = std::env::var("HIGHWATER_LOG").unwrap_or("info".into());
    tracing_subscriber::fmt().with_ansi(colours).with_env_filter(filter).init();
    let ended = match std::env::args().nth(1).as_deref() {
        Some("probe") => is_live().await,
        _ => work().await,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        // The code says what to mend: 2 configuration, 3 the database's schema, 5 credentials or rights, …
        Err(error) => {
            eprintln!("error: {}", error.report());
            ExitCode::from(error.exit_code())
        }
    }
}

async fn work() -> Result<()> {
    Worker::builder().build(Payments)?.run().await
}

/// The image's health check: asks the worker that runs beside it, at HIGHWATER_ADMIN_ADDRESS.
async fn is_live() -> Result<()> {
    println!("{}", probe(configured_address()?, Probe::Live, Duration::from_secs(2)).await?);
    Ok(())
}
