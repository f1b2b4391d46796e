//! One worker of the fleet: this executable again, configured by the environment alone.

#[path = "../account_balances/sink.rs"]
mod account_balances;
#[path = "../fraud_scores/sink.rs"]
mod fraud_scores;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use highwater::testing::freeze_this_process;
use highwater::{Batch, HandlerError, Worker, handler_fn};

/// Names the folder with orders for this process. The workers' configuration lets `HIGHWATER_TEST_…` through.
pub(crate) const ORDERS: &str = "HIGHWATER_TEST_QUICKSTART_ORDERS";
/// An order to stand still in the middle of a batch, so that SIGKILL hits one.
pub(crate) const HOLD: &str = "hold";
/// An order to freeze in the middle of a batch.
pub(crate) const FREEZE: &str = "freeze";
/// What a worker says when it has come to that point.
pub(crate) const IN_A_BATCH: &str = "in the middle of a batch";

/// Runs until SIGTERM.
pub(crate) async fn run() -> ExitCode {
    let filter = std::env::var("HIGHWATER_LOG").unwrap_or_else(|_| "info".to_owned());
    tracing_subscriber::fmt().with_ansi(false).with_env_filter(filter).init();
    let orders: Arc<Path> = PathBuf::from(std::env::var_os(ORDERS).unwrap_or_default()).into();
    let handler = handler_fn(move |batch, tx| {
        let orders = Arc::clone(&orders);
        Box::pin(async move {
            fraud_scores::write(batch, tx).await?;
            account_balances::write(batch, tx).await?;
            // The rows are written, the transaction is open: the worst moment to die.
            obey(&orders, batch).await
        })
    });
    let ended = match Worker::builder().build(handler) {
        Ok(worker) => worker.run().await,
        Err(error) => Err(error),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {}", error.report());
            ExitCode::from(error.exit_code())
        }
    }
}

/// Carries out an order, once: whoever removes the file has it.
async fn obey(orders: &Path, batch: &Batch) -> Result<(), HandlerError> {
    let order = [HOLD, FREEZE].into_iter().find(|order| std::fs::remove_file(orders.join(order)).is_ok());
    let Some(order) = order else { return Ok(()) };
    let partitions: Vec<String> = batch.partitions().map(|part| part.partition().to_string()).collect();
    println!("{IN_A_BATCH} of {} payments from partitions {}", batch.len(), partitions.join(", "));
    if order == FREEZE {
        freeze_this_process();
    } else {
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    Ok(())
}
