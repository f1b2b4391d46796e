//! Where a group stands, read in one snapshot.

use std::collections::BTreeSet;

use super::Offsets;
use super::near::unknown_topic;
use super::request::Selection;
use crate::batch::PartitionKey;
use crate::consumer::catalog::TopicIdentity;
use crate::error::{Error, ErrorKind, Result};

/// A partition as it stands.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub(super) key: PartitionKey,
    pub(super) next_offset: i64,
    pub(super) epoch: i64,
    /// Of the last move of it that was no commit, or 0.
    pub(super) last_event_id: i64,
    /// What the group knows of the topic.
    pub(super) identity: TopicIdentity,
}

impl Offsets {
    /// Those of the group's partitions that are selected.
    ///
    /// # Errors
    /// If the group has none, or one that was named is not among them: a mistyped name must not pass for "nothing to do".
    pub(super) async fn standing(&self, group: &str, selection: &Selection) -> Result<Vec<Standing>> {
        let sql = format!(
            "SELECT o.topic, o.partition, o.next_offset, o.epoch, \
               coalesce((SELECT max(e.event_id) FROM {events} e WHERE e.group_id = o.group_id AND e.topic = o.topic \
                 AND e.partition = o.partition), 0), t.cluster_id, t.topic_id \
             FROM {offsets} o LEFT JOIN {topics} t USING (group_id, topic) \
             WHERE o.group_id = $1 ORDER BY o.topic, o.partition",
            events = self.schema().qualified("offset_event"),
            offsets = self.schema().qualified("consumer_offset"),
            topics = self.schema().qualified("group_topic"),
        );
        let rows = self.client.query(&sql, &[&group]).await;
        let rows =
            rows.map_err(|source| Error::postgres(format!("read the offsets of group `{group}`"), source))?;
        if rows.is_empty() {
            return Err(self.unknown_group(group).await);
        }
        let all: Vec<Standing> = rows
            .iter()
            .map(|row| Standing {
                key: PartitionKey { topic: row.get::<_, &str>(0).into(), partition: row.get(1) },
                next_offset: row.get(2),
                epoch: row.get(3),
                last_event_id: row.get(4),
                identity: TopicIdentity { cluster_id: row.get(5), topic_id: row.get(6) },
            })
            .collect();
        check_names(group, selection, &all)?;
        Ok(all.into_iter().filter(|row| selection.covers(&row.key.topic, row.key.partition)).collect())
    }
}

fn check_names(group: &str, selection: &Selection, all: &[Standing]) -> Result<()> {
    let Selection::Topics(topics) = selection else { return Ok(()) };
    for selected in topics {
        let here: BTreeSet<i32> =
            all.iter().filter(|row| *row.key.topic == *selected.topic).map(|row| row.key.partition).collect();
        if here.is_empty() {
            let known: BTreeSet<String> = all.iter().map(|row| row.key.topic.to_string()).collect();
            return Err(unknown_topic(group, &selected.topic, &Vec::from_iter(known)));
        }
        if let Some(missing) =
            selected.partitions.iter().flatten().find(|partition| !here.contains(partition))
        {
            return Err(Error::new(
                ErrorKind::UnknownTopic,
                format!(
                    "group `{group}` has no offset of partition {missing} of topic `{}`, which it reads {} partitions of: one \
                     that was added begins at its beginning",
                    selected.topic,
                    here.len()
                ),
            ));
        }
    }
    Ok(())
}
