//! Reading the mirror's mark back: what Kafka holds for the group must have come from this database (DESIGN 3.3).
//!
//! Only the mark counts, to refuse; the offset beside it is named in the error and nothing more (EO-8).

use rdkafka::error::KafkaError;

use super::pattern::Wanted;
use super::{Start, StartError};
use crate::claim::mark::{marked_by, mirror_mark};
use crate::consumer::groups::{Committed, is_refusal};
use crate::db::DbError;
use crate::error::{Error, ErrorKind};

impl Start {
    /// What the group has committed in Kafka, by topic and partition.
    pub(super) async fn committed(&self, wanted: Wanted<'_>) -> Result<Vec<Committed>, StartError> {
        let group = &self.db.identity.group;
        let committed = self.catalog.group_offsets(group, |topic| wanted.covers(topic)).await;
        committed.map_err(|error| self.unanswered(error))
    }

    /// For what the group knows: the mirror must not be another database's.
    pub(super) async fn check_mirror(&self, wanted: Wanted<'_>) -> Result<(), StartError> {
        let committed = match self.committed(wanted).await {
            Ok(committed) => committed,
            // Whoever may read may describe; should that be otherwise, the group goes on where it stood.
            Err(StartError::Refused(error)) => {
                tracing::warn!(%wanted, "a wrong database would not be noticed: {error}");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let ours = mirror_mark(self.database_id);
        let mut strangers = 0;
        for committed in &committed {
            match marked_by(&committed.metadata) {
                Some(_) if *committed.metadata == *ours => {}
                Some(by) => return Err(self.wrong_database(committed, by)),
                None if self.went_on_after_adoption(committed).await? => {
                    return Err(self.adopted_too_early(committed));
                }
                None => strangers += 1,
            }
        }
        if strangers > 0 {
            tracing::warn!(
                %wanted, partitions = strangers,
                "somebody else has committed offsets in Kafka under this group id; they are ignored and overwritten, \
                 for positions come from Postgres"
            );
        }
        Ok(())
    }

    /// Whether the old consumer has committed more since its offsets were adopted, and nothing was mirrored yet: an
    /// adoption that did not get as far as its first claim, after which the old fleet was started once more.
    async fn went_on_after_adoption(&self, committed: &Committed) -> Result<bool, StartError> {
        let client = self.db.control().await.map_err(DbError::from)?;
        let sql = format!(
            "SELECT EXISTS (SELECT FROM {} t JOIN {} o USING (group_id, topic) WHERE t.group_id = $1 AND t.topic = $2 \
             AND o.partition = $3 AND t.start_policy = 'adopt-kafka' AND t.mirror_marked_at IS NULL AND o.next_offset < $4)",
            self.db.schema.qualified("group_topic"),
            self.db.schema.qualified("consumer_offset")
        );
        let group = &*self.db.identity.group;
        let row = client
            .query_one(&sql, &[&group, &committed.topic, &committed.partition, &committed.offset])
            .await;
        Ok(row.map_err(DbError::from)?.get(0))
    }

    fn adopted_too_early(&self, committed: &Committed) -> StartError {
        let group = &self.db.identity.group;
        let Committed { topic, partition, offset, .. } = committed;
        refused(format!(
            "group {group} adopted its offsets of topic {topic} before the old consumer had ended: that has committed \
             offset {offset} of partition {partition} since; what it applied would be applied again; delete the group's \
             rows of this topic from group_topic and consumer_offset, and adopt once more"
        ))
    }

    /// For what the group does not know yet: there must be no mark at all, for whoever has marked has had rows.
    pub(super) async fn refuse_forgotten(&self, committed: &[Committed]) -> Result<(), StartError> {
        for committed in committed {
            let Some(by) = marked_by(&committed.metadata) else { continue };
            if *committed.metadata != *mirror_mark(self.database_id) {
                return Err(self.wrong_database(committed, by));
            }
            // Looked up after the mark was seen: another worker that was first has written its rows before.
            if self.known(&committed.topic).await?.is_none() {
                return Err(self.forgotten(committed));
            }
        }
        Ok(())
    }

    fn forgotten(&self, committed: &Committed) -> StartError {
        let (group, id, delete) = (&self.db.identity.group, self.database_id, self.delete(committed));
        let Committed { topic, partition, offset, .. } = committed;
        refused(format!(
            "group {group} has read topic {topic} before: Kafka holds offset {offset} of partition {partition}, \
             mirrored by this very database ({id}), which has no row of it: it was restored without the group's \
             rows, or they were deleted; restore them together with what the handler wrote, or, to begin anew on \
             purpose, empty the sink and delete Kafka's copy: {delete}"
        ))
    }

    fn wrong_database(&self, committed: &Committed, by: &str) -> StartError {
        let (group, id, delete) = (&self.db.identity.group, self.database_id, self.delete(committed));
        let Committed { topic, partition, offset, .. } = committed;
        refused(format!(
            "group {group} on topic {topic} belongs to another database: Kafka holds offset {offset} of partition \
             {partition}, mirrored by database {by}, but this is database {id}: it is the wrong one, or it was \
             made anew instead of being restored, or two databases use one group id; correct postgres_url, \
             restore the backup (it brings the id with it), or give this one a group id of its own; if this \
             database is to go on from its own rows, stop the other and delete Kafka's copy: {delete}"
        ))
    }

    fn delete(&self, committed: &Committed) -> String {
        let (group, topic) = (&self.db.identity.group, &committed.topic);
        format!("{} --delete-offsets --group {group} --topic {topic}", self.tool())
    }

    /// A question about the group that Kafka did not answer: for good, or for now.
    pub(super) fn unanswered(&self, error: KafkaError) -> StartError {
        if !is_refusal(&error) {
            return StartError::Kafka(error);
        }
        let message = format!(
            "Kafka does not show this client what group {} has committed and who is in it: grant it READ and DESCRIBE \
             on the group",
            self.db.identity.group
        );
        StartError::Refused(Error::new(ErrorKind::Privilege, message).with_source(error))
    }

    /// Kafka's own tool, as an operator calls it.
    pub(super) fn tool(&self) -> String {
        format!("kafka-consumer-groups.sh --bootstrap-server {}", self.bootstrap)
    }
}

fn refused(message: String) -> StartError {
    StartError::Refused(Error::new(ErrorKind::Guard, message))
}
