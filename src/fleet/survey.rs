//! Kafka is asked here for what no live worker reports: partitions of groups that nobody works on.

use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::Client;
use uuid::Uuid;

use super::APPLICATION_NAME;
use crate::config::OperatorConfig;
use crate::consumer::Catalog;
use crate::error::{Error, Result};
use crate::lag::{Retention, Surveyor, Whose};

/// Between two turns.
const INTERVAL: Duration = Duration::from_secs(10);
/// How long a turn may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Surveys until aborted. Without brokers there is nothing to ask.
///
/// # Errors
///
/// If the Kafka client refuses its properties, or there is no secret or token for it.
pub(super) fn start(config: &OperatorConfig) -> Result<Option<tokio::task::JoinHandle<()>>> {
    if config.brokers.is_empty() {
        return Ok(None);
    }
    let catalog = config.catalog()?;
    let me = Uuid::new_v4();
    let schema = &config.database.schema;
    let surveyor =
        Surveyor::new(schema, catalog.clone(), me, Whose::Watched(None), Arc::new(Retention::default()));
    Ok(Some(tokio::spawn(run(config.clone(), catalog, surveyor))))
}

async fn run(config: OperatorConfig, catalog: Catalog, mut surveyor: Surveyor) {
    let mut kept: Option<Client> = None;
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(why) = catalog.refresh().await {
            tracing::warn!(why, "Kafka is asked with the credentials before");
        }
        let client = kept.take().filter(|client| !client.is_closed());
        let turn = async {
            let client = match client {
                Some(client) => client,
                None => config.database.connect(APPLICATION_NAME).await?,
            };
            let failed = |source| Error::postgres("survey the partitions that nobody holds", source);
            surveyor.turn(&client).await.map_err(failed)?;
            Ok::<_, Error>(client)
        };
        match tokio::time::timeout(LIMIT, turn).await {
            Ok(Ok(client)) => kept = Some(client),
            Ok(Err(error)) => tracing::warn!(error = %error.report(), "nobody surveys what no worker holds"),
            Err(_) => tracing::warn!("the survey of what no worker holds did not end in time"),
        }
    }
}
