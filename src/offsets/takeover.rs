//! Taking claims away: what every move, pause and retry does to the rows. In the caller's transaction, which has locked
//! them by a statement before this one: what commits while that waits is not in its own snapshot, but in the next.

use tokio_postgres::{Row, Transaction};

use super::partitions::Verb;
use crate::batch::PartitionKey;
use crate::schema::SchemaName;

/// What is done to a partition; `to`: where it goes, if it moves.
#[derive(Debug, Clone)]
pub(super) struct Taken {
    pub(super) key: PartitionKey,
    pub(super) to: Option<i64>,
}

/// By whom, why, and as a part of what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Why<'a> {
    pub(super) verb: Verb,
    pub(super) actor: &'a str,
    pub(super) reason: &'a str,
    pub(super) plan_id: Option<i64>,
}

/// By which step of a plan a row is held.
const HELD: &str =
    "s.topic = o.topic AND s.partition = o.partition AND s.claim_token = o.claim_token AND s.outcome IS NULL";

/// Locks the group's rows of these partitions, in key order as everybody does, and tells how they stand: topic,
/// partition, next_offset, epoch, paused_reason, halted, and whether a plan holds it that undoes its rows: then the two
/// before are as they were before that.
pub(super) async fn lock(
    transaction: &Transaction<'_>,
    schema: &SchemaName,
    group: &str,
    keys: &[PartitionKey],
) -> Result<Vec<Row>, tokio_postgres::Error> {
    let sql = format!(
        "SELECT o.topic, o.partition, o.next_offset, o.epoch, \
           CASE WHEN s.plan_id IS NULL THEN o.paused_reason ELSE s.paused_reason END, \
           CASE WHEN s.plan_id IS NULL THEN o.halted AND o.paused_reason IS NOT NULL \
             ELSE coalesce(s.halted, false) AND s.paused_reason IS NOT NULL END, s.plan_id IS NOT NULL \
         FROM {} o JOIN unnest($2::text[], $3::int4[]) AS w(topic, partition) USING (topic, partition) \
         LEFT JOIN {} s ON {HELD} \
         WHERE o.group_id = $1 ORDER BY o.topic, o.partition FOR UPDATE OF o",
        schema.qualified("consumer_offset"),
        schema.qualified("offset_plan_step")
    );
    let (topics, partitions) = crate::claim::columns(keys);
    transaction.query(&sql, &[&group, &topics, &partitions]).await
}

/// Ends the claims of these partitions and makes new ones that nobody owns: what is in flight under the old ones rolls
/// back (EO-3). What moves is recorded (EO-1); dead letters of what is read again are superseded: the records are applied
/// now, or rejected once more. The workers are told.
pub(super) async fn take(
    transaction: &Transaction<'_>,
    schema: &SchemaName,
    group: &str,
    taken: &[Taken],
    why: Why<'_>,
) -> Result<u64, tokio_postgres::Error> {
    let offsets = schema.qualified("consumer_offset");
    let sql = format!(
        "WITH old AS ( \
           SELECT o.*, m.to_offset, s.plan_id AS held_by, \
             CASE WHEN s.plan_id IS NULL THEN o.paused_reason ELSE s.paused_reason END AS paused_before, \
             CASE WHEN s.plan_id IS NULL THEN o.halted ELSE coalesce(s.halted, false) END AS halted_before \
           FROM {offsets} o \
           JOIN unnest($2::text[], $3::int4[], $4::int8[]) AS m(topic, partition, to_offset) USING (topic, partition) \
           LEFT JOIN {steps} s ON {HELD} \
           WHERE o.group_id = $1), \
         overruled AS ( \
           UPDATE {steps} s SET outcome = 'taken' FROM old o WHERE s.plan_id = o.held_by AND {HELD}), \
         history AS ( \
           INSERT INTO {history} (group_id, topic, partition, epoch, claim_token, owner, instance_id, claimed_offset, \
             end_offset, applied_records, applied_batches, claimed_at, committed_at) \
           SELECT group_id, topic, partition, epoch, claim_token, claimed_by, instance_id, claimed_offset, next_offset, \
             applied_records, applied_batches, claimed_at, committed_at FROM old WHERE claimed_at IS NOT NULL), \
         event AS ( \
           INSERT INTO {events} (group_id, topic, partition, kind, from_offset, to_offset, actor, reason, plan_id) \
           SELECT group_id, topic, partition, CASE $5 WHEN 'skip' THEN 'skip' ELSE 'reset' END, next_offset, to_offset, \
             $6, $7, $8 FROM old WHERE to_offset <> next_offset), \
         superseded AS ( \
           UPDATE {dead_letters} d SET state = 'superseded', state_changed_at = clock_timestamp() FROM old \
           WHERE d.group_id = old.group_id AND d.topic = old.topic AND d.partition = old.partition AND d.state IN ('open', 'parked', 'queued', 'redriven', 'discarded') \
             AND d.record_offset >= old.to_offset AND d.record_offset < old.next_offset), \
         told AS ( \
           INSERT INTO {control} (group_id, topic, partition, verb, epoch, actor, reason, plan_id) \
           SELECT group_id, topic, partition, $5, epoch, $6, $7, $8 FROM old) \
         UPDATE {offsets} o SET next_offset = coalesce(old.to_offset, old.next_offset), \
           leader_epoch = CASE WHEN old.to_offset <> old.next_offset THEN NULL ELSE old.leader_epoch END, \
           leader_epoch_offset = CASE WHEN old.to_offset <> old.next_offset THEN NULL ELSE old.leader_epoch_offset END, \
           epoch = old.epoch + 1, claim_token = gen_random_uuid(), owner = NULL, claimed_by = NULL, drain_until = NULL, \
           claimed_offset = NULL, claimed_at = NULL, applied_records = 0, applied_batches = 0, \
           paused_reason = CASE WHEN $5 IN ('pause', 'halt') THEN $7 WHEN $5 IN ('resume', 'retry') THEN NULL \
             ELSE old.paused_before END, \
           halted = CASE WHEN $5 = 'halt' THEN true WHEN $5 IN ('resume', 'retry') THEN false ELSE old.halted_before END \
         FROM old WHERE o.group_id = old.group_id AND o.topic = old.topic AND o.partition = old.partition",
        history = schema.qualified("claim_history"),
        events = schema.qualified("offset_event"),
        dead_letters = schema.qualified("dead_letter"),
        control = schema.qualified("partition_control"),
        steps = schema.qualified("offset_plan_step"),
    );
    let topics: Vec<&str> = taken.iter().map(|taken| &*taken.key.topic).collect();
    let partitions: Vec<i32> = taken.iter().map(|taken| taken.key.partition).collect();
    let to: Vec<Option<i64>> = taken.iter().map(|taken| taken.to).collect();
    let verb = why.verb.as_str();
    transaction
        .execute(&sql, &[&group, &topics, &partitions, &to, &verb, &why.actor, &why.reason, &why.plan_id])
        .await
}

/// The key of a row that [`lock`] has returned.
pub(super) fn key(row: &Row) -> PartitionKey {
    PartitionKey { topic: row.get::<_, &str>(0).into(), partition: row.get(1) }
}
