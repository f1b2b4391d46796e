//! Reading a partition's history: claims, moves, and where it stands.

use std::collections::BTreeMap;

use tokio_postgres::GenericClient;

use super::ledger::{Claim, Event, History, Kept};
use crate::offsets::utc;
use crate::schema::SchemaName;

/// Microseconds since 1970.
fn us(column: &str) -> String {
    format!("(extract(epoch FROM {column}) * 1000000)::int8")
}

/// How far back the group's history goes.
pub(in crate::offsets) async fn kept(
    client: &impl GenericClient,
    schema: &SchemaName,
    group: &str,
) -> Result<(Kept, String), tokio_postgres::Error> {
    let sql = format!(
        // Some moves back are kept for longer than the events around them: see prune_history.
        "SELECT {}, {}, {} FROM {} WHERE group_id = $1",
        us("clock_timestamp()"),
        us("min(occurred_at) FILTER (WHERE kind NOT IN ('reset', 'delete') OR to_offset >= from_offset)"),
        utc("clock_timestamp()"),
        schema.qualified("offset_event"),
    );
    let row = client.query_one(&sql, &[&group]).await?;
    Ok((Kept { now_us: row.get(0), events_since_us: row.get(1) }, row.get(2)))
}

/// The histories of some partitions of a topic, those that the group has.
pub(in crate::offsets) async fn read(
    client: &impl GenericClient,
    schema: &SchemaName,
    (group, topic, partitions): (&str, &str, &[i32]),
) -> Result<BTreeMap<i32, History>, tokio_postgres::Error> {
    let mut histories: BTreeMap<i32, History> = BTreeMap::new();
    let offsets = schema.qualified("consumer_offset");
    let which = "group_id = $1 AND topic = $2 AND partition = ANY($3)";
    let sql = format!("SELECT partition, next_offset FROM {offsets} WHERE {which}");
    for row in client.query(&sql, &[&group, &topic, &partitions]).await? {
        histories.entry(row.get(0)).or_default().next_offset = row.get(1);
    }
    let sql = format!(
        "SELECT partition, epoch, owner::text, instance_id, claimed_offset, end_offset, applied_records, applied_batches, \
           {claimed_us}, {claimed}, {replaced_us}, {replaced} FROM {history} WHERE {which} \
         UNION ALL \
         SELECT partition, epoch, claimed_by::text, instance_id, claimed_offset, next_offset, applied_records, \
           applied_batches, {claimed_us}, {claimed}, NULL, NULL \
         FROM {offsets} WHERE {which} AND claimed_at IS NOT NULL AND claimed_offset IS NOT NULL",
        claimed_us = us("claimed_at"),
        claimed = utc("claimed_at"),
        replaced_us = us("replaced_at"),
        replaced = utc("replaced_at"),
        history = schema.qualified("claim_history"),
    );
    for row in client.query(&sql, &[&group, &topic, &partitions]).await? {
        // A claim of a partition whose row has vanished is nobody's business here.
        let Some(history) = histories.get_mut(&row.get::<_, i32>(0)) else { continue };
        history.claims.push(Claim {
            epoch: row.get(1),
            owner: row.get(2),
            instance_id: row.get(3),
            from: row.get(4),
            to: row.get(5),
            records: row.get(6),
            batches: row.get(7),
            claimed_us: row.get(8),
            claimed_at: row.get(9),
            replaced_us: row.get(10),
            replaced_at: row.get(11),
            lost: Vec::new(),
        });
    }
    // A copied group begins where another one stands, whose rows may lie in the same tables: as one that was adopted.
    let sql = format!(
        "SELECT partition, event_id, CASE WHEN kind = 'start' AND reason LIKE '%(copied from %)' THEN 'adopt' ELSE kind END, \
           from_offset, to_offset, {}, {}, actor, reason FROM {} WHERE {which}",
        us("occurred_at"),
        utc("occurred_at"),
        schema.qualified("offset_event"),
    );
    for row in client.query(&sql, &[&group, &topic, &partitions]).await? {
        let Some(history) = histories.get_mut(&row.get::<_, i32>(0)) else { continue };
        history.events.push(Event {
            id: row.get(1),
            kind: row.get(2),
            from: row.get(3),
            to: row.get(4),
            at_us: row.get(5),
            at: row.get(6),
            actor: row.get(7),
            reason: row.get(8),
        });
    }
    Ok(histories)
}
