//! Where partitions stand and how they are: the views `lag` and `health`.

use std::collections::{BTreeMap, HashMap};

use tokio_postgres::{Row, Transaction};
use uuid::Uuid;

use super::group::{Group, Partition};
use super::{ms, work};
use crate::db::REPORT_COUNTS;
use crate::health::Class;
use crate::schema::SchemaName;

/// Partitions of all groups: four times what we are made for.
const PARTITIONS: usize = 50_000;

/// All partitions, into their groups; whether there are more.
///
/// In two queries: the view `health` has `lag` in it, and a third of all is saved by not joining them once more. The
/// planner takes many rows for few, and would look each of them up by index.
pub(super) async fn partitions(
    snapshot: &Transaction<'_>,
    schema: &SchemaName,
    now_ms: i64,
    groups: &mut BTreeMap<String, Group>,
) -> Result<bool, tokio_postgres::Error> {
    let all_at_once = |how: &str| {
        ["memoize", "indexscan", "bitmapscan"]
            .map(|kind| format!("SET LOCAL enable_{kind} TO {how}"))
            .join("; ")
    };
    snapshot.batch_execute(&all_at_once("off")).await?;
    let rows = snapshot.query(&standing_sql(schema, ""), &[]).await?;
    let judged = snapshot.query(&health_sql(schema, ""), &[]).await?;
    snapshot.batch_execute(&all_at_once("DEFAULT")).await?;
    let key = |row: &Row| -> (String, String, i32) { (row.get(0), row.get(1), row.get(2)) };
    let health: HashMap<_, &Row> = judged.iter().map(|row| (key(row), row)).collect();
    for row in rows.iter().take(PARTITIONS) {
        let key = key(row);
        let partition = partition(row, health.get(&key).copied(), now_ms);
        let group = groups.entry(key.0);
        group
            .or_insert_with_key(|name| Group { group: name.clone(), ..Group::default() })
            .partitions
            .push(partition);
    }
    Ok(rows.len() > PARTITIONS)
}

/// Where partitions stand; `which` is a condition on `o`, or nothing.
pub(super) fn standing_sql(schema: &SchemaName, which: &str) -> String {
    format!(
        "SELECT o.group_id, o.topic, o.partition, o.next_offset, l.log_start_offset, l.last_stable_offset, \
           l.log_end_offset, l.lag_records::int8, l.lag_seconds::float8, l.uncommitted_records::int8, \
           l.uncommitted_seconds::float8, l.drain_seconds::float8, l.loss_seconds::float8, {as_of}, \
           o.owner, o.epoch, {claimed_at}, o.claimed_by, {committed_at}, s.state, s.detail, {since} \
         FROM {offsets} o JOIN {lag} l USING (group_id, topic, partition) \
         LEFT JOIN {status} s ON s.group_id = o.group_id AND s.topic = o.topic AND s.partition = o.partition \
           AND {REPORT_COUNTS} {which} LIMIT {limit}",
        as_of = ms("l.as_of"),
        claimed_at = ms("o.claimed_at"),
        committed_at = ms("o.committed_at"),
        since = ms("s.updated_at"),
        offsets = schema.qualified("consumer_offset"),
        lag = schema.qualified("lag"),
        status = schema.qualified("partition_status"),
        limit = PARTITIONS + 1,
    )
}

/// How they are; `which` is a condition on `o`, or nothing.
pub(super) fn health_sql(schema: &SchemaName, which: &str) -> String {
    format!(
        "SELECT o.group_id, o.topic, o.partition, o.class, o.reason, o.severity::int4 FROM {} o {which} LIMIT {}",
        schema.qualified("health"),
        PARTITIONS + 1,
    )
}

/// `health`: none if nobody has judged it, which there is not.
pub(super) fn partition(row: &Row, health: Option<&Row>, now_ms: i64) -> Partition {
    let id = |index: usize| row.get::<_, Option<Uuid>>(index).map(|id| id.to_string());
    let mut partition = Partition {
        topic: row.get(1),
        partition: row.get(2),
        next_offset: row.get(3),
        log_start_offset: row.get(4),
        last_stable_offset: row.get(5),
        log_end_offset: row.get(6),
        lag_records: row.get(7),
        lag_seconds: row.get(8),
        uncommitted_records: row.get(9),
        uncommitted_seconds: row.get(10),
        drain_seconds: row.get(11),
        loss_seconds: row.get(12),
        as_of_ms: row.get(13),
        class: health.map_or_else(|| Class::NotFound.to_string(), |health| health.get(3)),
        reason: health.and_then(|health| health.get(4)),
        severity: health.map_or(0, |health| health.get(5)),
        owner: id(14),
        epoch: row.get(15),
        claimed_at_ms: row.get(16),
        claimed_by: id(17),
        committed_at_ms: row.get(18),
        state: row.get(19),
        detail: row.get(20),
        state_since_ms: row.get(21),
        since_commit_seconds: None,
    };
    partition.since_commit_seconds = work::since_commit(&partition, now_ms);
    partition
}
