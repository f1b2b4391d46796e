//! What a group's pipeline made of records, and since when.

use std::collections::BTreeMap;

use serde::Serialize;
use tokio_postgres::types::Json;

use super::{Offsets, utc};
use crate::error::{Error, Result};

/// A pipeline's file began to map records otherwise than what the group ran before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MappingChange {
    /// Its number.
    pub id: i64,
    /// When its first worker started, in UTC.
    pub occurred_at: String,
    /// The group.
    pub group: String,
    /// What is other than before, in words; nothing where there is no other on record.
    pub changes: Vec<String>,
    /// By topic and partition, where the group stood: no earlier record was mapped by it.
    pub positions: BTreeMap<String, BTreeMap<i32, i64>>,
    /// All that decides rows, by table.
    pub mapping: BTreeMap<String, BTreeMap<String, String>>,
    /// The pipeline's name.
    pub program: String,
    /// Of Highwater.
    pub version: String,
    /// Where the worker ran.
    pub host: String,
    /// Its id.
    pub worker: String,
}

impl Offsets {
    /// The newest changes of a group's mapping, newest first; none of a group that no pipeline's file runs.
    ///
    /// # Errors
    ///
    /// If they cannot be read, or nobody has heard of the group.
    pub async fn mappings(&mut self, group: &str, limit: i64) -> Result<Vec<MappingChange>> {
        self.reconnect().await?;
        let sql = format!(
            "SELECT change_id, {}, group_id, changes, positions, mapping, program, version, host, worker::text \
             FROM {} WHERE group_id = $1 ORDER BY change_id DESC LIMIT $2",
            utc("occurred_at"),
            self.schema().qualified("mapping_change"),
        );
        let failed = |source| Error::postgres(format!("read the mappings of group `{group}`"), source);
        let rows = self.client.query(&sql, &[&group, &limit]).await.map_err(failed)?;
        if rows.is_empty() && !self.group_ids().await?.iter().any(|known| known == group) {
            return Err(self.unknown_group(group).await);
        }
        let change = |row: &tokio_postgres::Row| {
            let (Json(positions), Json(mapping)) = (row.try_get(4)?, row.try_get(5)?);
            Ok(MappingChange {
                id: row.get(0),
                occurred_at: row.get(1),
                group: row.get(2),
                changes: row.get(3),
                positions,
                mapping,
                program: row.get(6),
                version: row.get(7),
                host: row.get(8),
                worker: row.get(9),
            })
        };
        rows.iter().map(change).collect::<Result<_, _>>().map_err(failed)
    }
}
