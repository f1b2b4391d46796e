//! Taking a group over from Kafka by hand: what a worker with `start = adopt-kafka` does before it joins, and nothing else.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::{Offsets, Position, Selection};
use crate::PartialConfig;
use crate::backoff::Backoff;
use crate::claim::start::Start;
use crate::config::{KafkaSecrets, StartPolicy, client_properties};
use crate::consumer::{Access, Catalog};
use crate::db::{Db, Identity};
use crate::error::{Error, ErrorKind, Result};
use crate::migrate::check_version;

/// A server that is away is waited for, but somebody sits before it.
const PATIENCE: Duration = Duration::from_secs(60);

impl Offsets {
    /// Takes over the committed offsets of Kafka's group of the same name, on the topics of `settings`, for its `program`;
    /// says where the group stands then. A topic that the group knows already stays as it is.
    ///
    /// # Errors
    ///
    /// As a worker's start with [`AdoptKafka`](StartPolicy::AdoptKafka) (docs/adoption.md): foreign members, partitions
    /// without an offset, an offset that is a mirror of another database. Nothing was written then.
    pub async fn adopt(
        &mut self,
        settings: PartialConfig,
        actor: &str,
        reason: &str,
    ) -> Result<Vec<Position>> {
        let config = settings.start(StartPolicy::AdoptKafka).finish()?;
        let owner = Uuid::new_v4();
        let identity = Identity { owner, group: config.group.as_str().into(), instance_id: None };
        let db = Arc::new(Db::new(&config, identity)?);
        self.reconnect().await?;
        let database_id = check_version(&self.client, self.schema()).await?.database_id;
        let properties = client_properties(&config, owner);
        let access = Access::open(properties, KafkaSecrets::of(&config))?;
        let catalog = Catalog::new(access).map_err(|source| crate::config::refused(&source))?;
        let backoff = Backoff::new(config.retry_backoff_min, config.retry_backoff_max);
        let start = Start::new(db, database_id, catalog, &config, backoff);
        tokio::time::timeout(PATIENCE, start.ensure_all()).await.map_err(|_| {
            Error::new(
                ErrorKind::Kafka,
                format!(
                    "could not adopt the offsets of group `{}` in {PATIENCE:?}: Kafka or Postgres does not answer (its \
                     warnings say more); what was adopted by then stands, and to try again does no harm",
                    config.group
                ),
            )
        })??;
        // A worker signs with its id; here somebody has said so.
        let sign = format!(
            "UPDATE {} SET actor = $3, reason = $4 || ' (' || reason || ')' WHERE group_id = $1 AND actor = $2",
            self.schema().qualified("offset_event")
        );
        self.client
            .execute(&sign, &[&config.group, &format!("worker {owner}"), &actor, &reason])
            .await
            .map_err(|source| Error::postgres("record who has adopted the offsets, which are", source))?;
        self.positions(&config.group, &Selection::AllTopics).await
    }
}
