//! The survey of partitions that no live process holds, by one worker of the group; see [`Surveyor`].

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::unassigned::{Lookout, Unassigned};
use crate::config::{Config, ONE_OFF_GROUP};
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
    lookout: Lookout,
    unassigned: Arc<Unassigned>,
    catalog: Catalog,
    retention: Arc<Retention>,
    surveyor: Surveyor,
}

impl Surveying {
    pub(super) fn new(
        db: Arc<Db>,
        catalog: Catalog,
        retention: Arc<Retention>,
        config: &Config,
        unassigned: Arc<Unassigned>,
    ) -> Self {
        let whose = Whose::WorkersOf(Arc::clone(&db.identity.group));
        let surveyor =
            Surveyor::new(&db.schema, catalog.clone(), db.identity.owner, whose, Arc::clone(&retention));
        let lookout = Lookout::new(config, &db.schema);
        Self { db, lookout, unassigned, catalog, retention, surveyor }
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
        let identity = &self.db.identity;
        let claimed = self.lookout.claimed(client.raw(), &identity.group, identity.owner);
        let claimed = client.within(claimed).await??;
        let places = client.within(self.surveyor.look(client.raw())).await??;
        drop(client);
        self.look_out(claimed).await;
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

    /// Kafka's silence is no news: then what was found last stands.
    async fn look_out(&self, claimed: Option<HashSet<(String, i32)>>) {
        let Some(claimed) = claimed else { return self.unassigned.set(BTreeMap::new()) };
        match self.lookout.missing(&self.catalog, &claimed).await {
            Ok(missing) => self.unassigned.set(missing),
            Err(error) => tracing::debug!(%error, "Kafka did not say which topics there are"),
        }
    }
}
