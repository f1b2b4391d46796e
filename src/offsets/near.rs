//! Names that a mistyped one might have meant.

use super::Offsets;
use crate::claim::start::{did_you_mean, near};
use crate::error::{Error, ErrorKind, Result};

impl Offsets {
    /// The group ids that have offsets here.
    pub(super) async fn group_ids(&self) -> Result<Vec<String>> {
        let sql = format!(
            "SELECT DISTINCT group_id FROM {} ORDER BY group_id",
            self.schema().qualified("consumer_offset")
        );
        let rows = self.client.query(&sql, &[]).await;
        let rows = rows.map_err(|source| Error::postgres("read the groups", source))?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    pub(super) async fn unknown_group(&self, group: &str) -> Error {
        let here = self.group_ids().await.unwrap_or_default();
        let in_kafka = match &self.catalog {
            Some(catalog) if here.iter().all(|known| known != group) => {
                catalog.group_ids().await.unwrap_or_default()
            }
            _ => Vec::new(),
        };
        let elsewhere = in_kafka.iter().any(|known| known == group);
        let hint = match (near(group, &here).as_slice(), here.as_slice(), elsewhere) {
            (_, _, true) => {
                "; Kafka knows it, and this database does not: it is another database's, or another program's"
                    .to_owned()
            }
            ([], [], _) => "; no group has any yet".to_owned(),
            ([], known, _) => {
                format!("; there are {}", known.iter().take(10).cloned().collect::<Vec<_>>().join(", "))
            }
            (found, _, _) => did_you_mean(found),
        };
        let schema = self.schema();
        Error::new(
            ErrorKind::Configuration,
            format!("group `{group}` has no offsets in schema `{schema}`{hint}"),
        )
    }
}

/// The error for a topic or a partition that the group does not have.
pub(super) fn unknown_topic(group: &str, topic: &str, known: &[String]) -> Error {
    let hint = match near(topic, known).as_slice() {
        [] => format!("; it reads {}", known.join(", ")),
        found => did_you_mean(found),
    };
    Error::new(ErrorKind::UnknownTopic, format!("group `{group}` has no offsets of topic `{topic}`{hint}"))
}
