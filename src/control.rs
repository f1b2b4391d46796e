//! Rows that people write and workers obey: halt, pause, resume, skip, retry, reset.
//!
//! What holds a partition, and where it goes on, is in `consumer_offset`, under a claim that nobody owns: a worker cannot
//! but comply, whatever it knows. `partition_control` tells it within a second, and takes its answer.

use tokio_postgres::error::SqlState;

use crate::batch::PartitionKey;
use crate::db::{Db, DbError};

/// A row that waits to be obeyed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) id: i64,
    pub(crate) key: PartitionKey,
    pub(crate) verb: Box<str>,
    /// Claims up to this one are over.
    pub(crate) epoch: i64,
    /// Just given: somebody waits for it.
    pub(crate) is_fresh: bool,
}

impl Order {
    /// Whether a partition that has halted is to be tried again.
    pub(crate) fn wakes(&self) -> bool {
        matches!(&*self.verb, "retry" | "skip" | "reset")
    }
}

/// The statements.
#[derive(Debug)]
pub(crate) struct Orders {
    open: String,
    obeyed: String,
}

impl Orders {
    pub(crate) fn new(db: &Db) -> Self {
        let control = db.schema.qualified("partition_control");
        Self {
            open: format!(
                "SELECT control_id, topic, partition, verb, epoch, \
                   requested_at > clock_timestamp() - interval '10 seconds' FROM {control} \
                 WHERE group_id = $1 AND obeyed_at IS NULL ORDER BY control_id DESC LIMIT 10000"
            ),
            obeyed: format!(
                "UPDATE {control} SET obeyed_at = clock_timestamp(), obeyed_by = $2 \
                 WHERE control_id = ANY($1) AND obeyed_at IS NULL"
            ),
        }
    }

    /// The orders of this group that nobody has obeyed; `None` where there are no such tables yet, or no right to them.
    pub(crate) async fn open(&self, db: &Db) -> Result<Option<Vec<Order>>, DbError> {
        let client = db.status().await?;
        let asked = async {
            let statement = client.prepare_cached(&self.open).await?;
            client.query(&statement, &[&&*db.identity.group]).await
        };
        let rows = match asked.await {
            Ok(rows) => rows,
            Err(error) if is_older(&error) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let order = |row: &tokio_postgres::Row| Order {
            id: row.get(0),
            key: PartitionKey { topic: row.get::<_, &str>(1).into(), partition: row.get(2) },
            verb: row.get::<_, &str>(3).into(),
            epoch: row.get(4),
            is_fresh: row.get(5),
        };
        Ok(Some(rows.iter().map(order).collect()))
    }

    pub(crate) async fn obeyed(&self, db: &Db, ids: &[i64]) -> Result<(), DbError> {
        let client = db.status().await?;
        client.execute(&self.obeyed, &[&ids, &db.identity.owner]).await?;
        Ok(())
    }
}

/// Of a schema of version 1, or a role that was not granted what version 2 needs.
pub(crate) fn is_older(error: &tokio_postgres::Error) -> bool {
    matches!(
        error.code(),
        Some(&SqlState::UNDEFINED_TABLE | &SqlState::UNDEFINED_COLUMN | &SqlState::INSUFFICIENT_PRIVILEGE)
    )
}
