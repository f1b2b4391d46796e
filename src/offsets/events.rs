//! Who moved what: every move of an offset that was no commit.

use serde::Serialize;

use super::{Offsets, utc};
use crate::error::{Error, Result};

/// A move of an offset that was no commit of records (EO-1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Event {
    /// Its number.
    pub id: i64,
    /// When, in UTC.
    pub occurred_at: String,
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// `start`, `adopt`, `reset`, `skip`, `lost`, `delete`.
    pub kind: String,
    /// Where the group stood; none at its start.
    pub from: Option<i64>,
    /// Where it went; none where its row was deleted.
    pub to: Option<i64>,
    /// By whom.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// As a part of which plan.
    pub plan_id: Option<i64>,
}

impl Offsets {
    /// The newest events of a group, newest first.
    ///
    /// # Errors
    ///
    /// If they cannot be read, or nobody has heard of the group.
    pub async fn events(&mut self, group: &str, limit: i64) -> Result<Vec<Event>> {
        self.reconnect().await?;
        let sql = format!(
            "SELECT event_id, {}, group_id, topic, partition, kind, from_offset, to_offset, actor, reason, plan_id \
             FROM {} WHERE group_id = $1 ORDER BY event_id DESC LIMIT $2",
            utc("occurred_at"),
            self.schema().qualified("offset_event"),
        );
        let rows = self.client.query(&sql, &[&group, &limit]).await;
        let rows =
            rows.map_err(|source| Error::postgres(format!("read the events of group `{group}`"), source))?;
        // Deleted groups have events, mistyped ones have none.
        if rows.is_empty() && !self.group_ids().await?.iter().any(|known| known == group) {
            return Err(self.unknown_group(group).await);
        }
        Ok(rows
            .iter()
            .map(|row| Event {
                id: row.get(0),
                occurred_at: row.get(1),
                group: row.get(2),
                topic: row.get(3),
                partition: row.get(4),
                kind: row.get(5),
                from: row.get(6),
                to: row.get(7),
                actor: row.get(8),
                reason: row.get(9),
                plan_id: row.get(10),
            })
            .collect())
    }
}
