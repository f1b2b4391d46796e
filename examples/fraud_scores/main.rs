//! One pod of a fraud-scoring fleet: payments in, scores out, exactly once.
//!
//! Configured by the environment alone:
//!
//! ```text
//! psql "$OWNER_URL" -f examples/fraud_scores/schema.sql
//! HIGHWATER_BROKERS=localhost:9092 HIGHWATER_POSTGRES_URL=postgres://worker:secret@localhost/payments \
//! HIGHWATER_GROUP=fraud-rules-v2 HIGHWATER_TOPICS=payments.tx_events HIGHWATER_START=latest \
//! cargo run --release --example fraud_scores
//! ```

use std::io::IsTerminal as _;
use std::process::ExitCode;

use highwater::{Worker, handler_fn};

mod sink;

#[tokio::main]
async fn main() -> ExitCode {
    // Colours are for people: not in a file, a pipe or a pod's log.
    let colours =
        std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let filter = std::env::var("HIGHWATER_LOG").unwrap_or("info".into());
    tracing_subscriber::fmt().with_ansi(colours).with_env_filter(filter).init();
    let worker = Worker::builder().build(handler_fn(|batch, tx| Box::pin(sink::write(batch, tx))));
    let ended = match worker {
        Ok(worker) => worker.run().await,
        Err(error) => Err(error),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", error.report());
            ExitCode::from(error.exit_code())
        }
    }
}
