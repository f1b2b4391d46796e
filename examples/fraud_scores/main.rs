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

use std::process::ExitCode;

use highwater::{Worker, handler_fn};

mod sink;

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_env_filter(std::env::var("HIGHWATER_LOG").unwrap_or("info".into())).init();
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
