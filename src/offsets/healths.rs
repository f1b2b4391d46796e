//! How the partitions of a group are doing, as the view `health` says.

use std::collections::HashMap;

use tokio_postgres::error::SqlState;

use super::Offsets;
use crate::health::Class;

/// Class, reason, and the age of the next record where that is known.
#[derive(Debug, Clone)]
pub(super) struct Health {
    pub(super) class: Class,
    pub(super) reason: Option<String>,
    pub(super) lag_seconds: Option<f64>,
}

pub(super) type Healths = HashMap<(String, i32), Health>;

impl Offsets {
    /// By topic and partition; `None` where this role may not read it.
    pub(super) async fn healths(&self, group: &str) -> Result<Option<Healths>, tokio_postgres::Error> {
        let sql = format!(
            "SELECT h.topic, h.partition, h.class, h.reason, l.lag_seconds FROM {} h \
             JOIN {} l USING (group_id, topic, partition) WHERE h.group_id = $1",
            self.schema().qualified("health"),
            self.schema().qualified("lag"),
        );
        let found = readable(self.client.query(&sql, &[&group]).await)?;
        let health = |row: &tokio_postgres::Row| {
            // A later release may have more classes: what is unknown here is not well.
            let class = row.get::<_, &str>(2).parse().unwrap_or(Class::Err);
            let health = Health { class, reason: row.get(3), lag_seconds: row.get(4) };
            ((row.get(0), row.get(1)), health)
        };
        Ok(found.map(|rows| rows.iter().map(health).collect()))
    }
}

/// `None` where this role may not read it.
pub(super) fn readable<T>(
    answer: Result<T, tokio_postgres::Error>,
) -> Result<Option<T>, tokio_postgres::Error> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(None),
        Err(error) => Err(error),
    }
}
