//! Stepping over records that Kafka no longer holds, when the settings say so (EO-6): the offset and the record of the
//! lost range move in one statement (EO-1), from where the claim stands (EO-2), under the claim (EO-3).

use super::{Claimed, Claims};
use crate::NextOffset;
use crate::config::OnOffsetLost;
use crate::consumer::catalog::Available;
use crate::db::DbError;
use crate::schema::SchemaName;

/// The leader epoch belonged to a record before the loss.
pub(super) fn sql(schema: &SchemaName) -> String {
    format!(
        "WITH moved AS ( \
           UPDATE {} SET next_offset = $7, leader_epoch = NULL, leader_epoch_offset = NULL \
           WHERE group_id = $1 AND topic = $2 AND partition = $3 AND epoch = $4 AND claim_token = $5 AND next_offset = $6 \
           RETURNING group_id, topic, partition) \
         INSERT INTO {} (group_id, topic, partition, kind, from_offset, to_offset, actor, reason) \
         SELECT group_id, topic, partition, 'lost', $6, $7, $8, $9 FROM moved",
        schema.qualified("consumer_offset"),
        schema.qualified("offset_event"),
    )
}

impl Claims {
    /// Moves a claimed row over a lost range; `false` if it is no longer under this claim, or no longer there.
    ///
    /// # Errors
    /// If Postgres did not answer: then only a new claim says whether it was moved.
    pub(super) async fn step_over_lost(
        &self,
        claimed: &Claimed,
        to: NextOffset,
        available: Available,
        policy: OnOffsetLost,
    ) -> Result<bool, DbError> {
        let identity = &self.db.identity;
        let reason = format!(
            "on_offset_lost = {}: Kafka holds offsets {} to {}",
            policy.as_str(),
            available.low,
            available.end
        );
        let client = self.db.control().await?;
        let statement = client.prepare_cached(&self.step_over_lost).await?;
        let moved = client
            .execute(
                &statement,
                &[
                    &&*identity.group,
                    &&*claimed.key.topic,
                    &claimed.key.partition,
                    &claimed.claim.epoch,
                    &claimed.claim.token,
                    &claimed.next_offset.get(),
                    &to.get(),
                    &format!("worker {}", identity.owner),
                    &reason,
                ],
            )
            .await?;
        Ok(moved == 1)
    }
}
