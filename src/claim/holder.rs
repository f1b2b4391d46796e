//! Who holds a partition that is waited for, because nobody arbitrates.

use uuid::Uuid;

use super::{Arbiter, Claims, OffsetRow};
use crate::db::DbError;
use crate::schema::SchemaName;

pub(super) fn sql(schema: &SchemaName) -> String {
    format!(
        "SELECT program, host, process_id, instance_id FROM {} WHERE owner = $1",
        schema.qualified("worker_status")
    )
}

impl Claims {
    /// What to say of a row that is not to be claimed now: another live process holds it. `None` if it may be.
    pub(super) async fn held_by_another(&self, row: &OffsetRow) -> Result<Option<String>, DbError> {
        let me = self.db.identity.owner;
        let Some(owner) = row.owner.filter(|owner| *owner != me && row.owner_live) else { return Ok(None) };
        if self.arbiter == Arbiter::Kafka {
            return Ok(None);
        }
        let who = self.describe(owner).await?;
        Ok(Some(format!(
            "{} of group {} is held by {who}, which is live; waiting until it lets go or its heartbeat stops",
            row.key, self.db.identity.group
        )))
    }

    async fn describe(&self, owner: Uuid) -> Result<String, DbError> {
        let client = self.db.control().await?;
        let statement = client.prepare_cached(&self.holder).await?;
        Ok(match client.query_opt(&statement, &[&owner]).await? {
            Some(row) => {
                let (program, host): (&str, &str) = (row.get(0), row.get(1));
                let instance = row.get::<_, Option<&str>>(3).map(|id| format!(", instance {id}"));
                format!(
                    "{program} (host {host}, process id {}{}, owner {owner})",
                    row.get::<_, i32>(2),
                    instance.unwrap_or_default()
                )
            }
            None => format!("owner {owner}"),
        })
    }
}
