//! One worker of the fleet: this executable again, configured by the environment alone.

#[path = "../account_balances/sink.rs"]
mod account_balances;
#[path = "../fraud_scores/sink.rs"]
mod fraud_scores;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use highwater::pipeline::{Pipeline, PipelineHandler};
use highwater::testing::freeze_this_process;
use highwater::{Batch, Handler, HandlerError, Table, Tx, Worker};

/// Names the folder with orders for this process. The workers' configuration lets `HIGHWATER_TEST_…` through.
pub(crate) const ORDERS: &str = "HIGHWATER_TEST_QUICKSTART_ORDERS";
/// An order to stand still in the middle of a batch, so that SIGKILL hits one.
pub(crate) const HOLD: &str = "hold";
/// An order to freeze in the middle of a batch.
pub(crate) const FREEZE: &str = "freeze";
/// What a worker says when it has come to that point.
pub(crate) const IN_A_BATCH: &str = "in the middle of a batch";

/// Whether each payment's amount is kept beside its score: from that, balances can be corrected when rows are undone.
pub(crate) const KEEP: &str = "HIGHWATER_TEST_QUICKSTART_KEEP";

/// Whether a pipeline's file makes the rows, and nobody's code; balances are a trigger's then.
pub(crate) const BY_FILE: &str = "HIGHWATER_TEST_QUICKSTART_BY_FILE";
const FILE: &str = "\
    [[sink]]
    topic = 'payments.tx_events'
    table = 'fraud_scores'
    columns = { merchant_id = 'value.merchant_id', tx_id = 'value.tx_id', score = 'value.amount_cents' }
    provenance = { partition = 'source_partition', offset = 'source_offset' }

    [[sink]]
    topic = 'payments.tx_events'
    table = 'kept_payments'
    columns = { account = 'value.account', cents = 'value.amount_cents' }
    provenance = { partition = 'source_partition', offset = 'source_offset' }
";

/// A pipeline, and what a fault orders in between.
struct ByFile {
    orders: Arc<Path>,
    pipeline: PipelineHandler,
}

impl Handler for ByFile {
    async fn handle(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        self.pipeline.handle(batch, tx).await?;
        obey(&self.orders, batch).await
    }

    fn prepare(&self, batch: &Batch) {
        self.pipeline.prepare(batch);
    }

    fn writes(&self) -> Vec<Table> {
        self.pipeline.writes()
    }
}

/// Scores and balances, and what a fault orders in between.
struct Payments {
    orders: Arc<Path>,
    keep: bool,
}

impl Handler for Payments {
    async fn handle(&self, batch: &Batch, tx: &mut Tx) -> Result<(), HandlerError> {
        fraud_scores::write(batch, tx).await?;
        account_balances::write(batch, tx).await?;
        if self.keep {
            account_balances::keep(batch, tx).await?;
        }
        // The rows are written, the transaction is open: the worst moment to die.
        obey(&self.orders, batch).await
    }

    fn writes(&self) -> Vec<Table> {
        let of = |table: Table| table.source_partition("source_partition").source_offset("source_offset");
        let mut tables = vec![of(Table::append("fraud_scores", ["merchant_id", "tx_id", "score"]))];
        if self.keep {
            // A trigger there corrects the balances, which could not be undone by themselves.
            tables.push(of(Table::append("kept_payments", ["account", "cents"])));
        } else {
            tables.push(Table::upsert("account_balances", ["account", "balance_cents", "payments"]));
        }
        tables
    }
}

/// Runs until SIGTERM.
pub(crate) async fn run() -> ExitCode {
    let _logs = match highwater::log::Options::default().service("quickstart").init() {
        Ok(logs) => logs,
        Err(error) => {
            println!("error: {}", error.report());
            return ExitCode::from(error.exit_code());
        }
    };
    let orders: Arc<Path> = PathBuf::from(std::env::var_os(ORDERS).unwrap_or_default()).into();
    let worker = if std::env::var_os(BY_FILE).is_some() {
        Pipeline::parse(FILE, Path::new("payments.toml"))
            .and_then(|pipeline| Worker::builder().build(ByFile { orders, pipeline: pipeline.handler() }))
    } else {
        Worker::builder().build(Payments { orders, keep: std::env::var_os(KEEP).is_some() })
    };
    let ended = match worker {
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
