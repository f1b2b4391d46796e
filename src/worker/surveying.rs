//! The survey of partitions that no live process holds, by one worker of the group; see [`Surveyor`].

use std::sync::Arc;
use std::time::Duration;

use crate::config::ONE_OFF_GROUP;
use crate::consumer::Catalog;
use crate::control::is_older;
use crate::db::{Db, DbError};
use crate::lag::{Retention, Surveyor, Whose};

/// How often it is looked whether there is anything to survey.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long it is left alone where the tables are of version 1, or this role may not write them.
const LATER: Duration = Duration::from_secs(60);
/// How long one turn may take.
const LIMIT: Duration = Duration::from_secs(30);

pub(super) struct Surveying {
    db: Arc<Db>,
    catalog: Catalog,
    retention: Arc<Retention>,
    surveyor: Surveyor,
}

impl Surveying {
    pub(super) fn new(db: Arc<Db>, catalog: Catalog, retention: Arc<Retention>) -> Self {
        let whose = Whose::WorkersOf(Arc::clone(&db.identity.group));
        let surveyor =
            Surveyor::new(&db.schema, catalog.clone(), db.identity.owner, whose, Arc::clone(&retention));
        Self { db, catalog, retention, surveyor }
    }

    /// Until aborted.
    pub(super) async fn run(mut self) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            self.retention.refresh(&self.catalog).await;
            // Of a run of its own, nobody holds what was not assigned to it, and nobody asks.
            if self.db.identity.group.starts_with(ONE_OFF_GROUP) {
                continue;
            }
            match tokio::time::timeout(LIMIT, self.turn()).await {
                Ok(Ok(())) => {}
                Ok(Err(DbError::Postgres(error))) if is_older(&error) => {
                    tracing::debug!(%error, "partitions that nobody holds cannot be surveyed");
                    tokio::time::sleep(LATER).await;
                }
                Ok(Err(error)) => {
                    self.db.heed(&error);
                    tracing::debug!(%error, "partitions that nobody holds were not surveyed");
                }
                Err(_) => tracing::debug!("partitions that nobody holds were not surveyed in time"),
            }
        }
    }

    /// No connection is kept while Kafka is asked.
    async fn turn(&mut self) -> Result<(), DbError> {
        let client = self.db.status().await?;
        let places = client.within(self.surveyor.look(client.raw())).await??;
        drop(client);
        if places.is_empty() {
            return Ok(());
        }
        let lines = self.surveyor.ask(places).await;
        if !lines.is_empty() {
            let client = self.db.status().await?;
            client.within(self.surveyor.write(client.raw(), &lines)).await??;
        }
        Ok(())
    }
}
