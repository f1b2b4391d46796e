//! A database as a large fleet would leave it, made by SQL: no worker runs, and none is needed to look at it.

use highwater::testing::{Database, Postgres, Result};
use highwater::{SchemaName, migrate};

/// Four live workers a group, everything applied a moment ago.
const SEED: &str = "
INSERT INTO highwater.group_topic (group_id, topic, start_policy, partition_count, program, resolved_by)
SELECT name, 'payments.tx_events', 'earliest', :partitions, 'fraud_scores', gen_random_uuid() FROM unnest(:names) name;

INSERT INTO highwater.worker_status (owner, group_id, instance_id, program, version, host, process_id, started_at,
  heartbeat_at, state, ready, partitions, records_total, commits_total, fenced_total, retries_total, dropped_total)
SELECT md5(name || w)::uuid, name, name || '-' || w, 'fraud_scores', CASE WHEN w = 3 THEN '1.4.3' ELSE '1.4.2' END, 'node-' || w,
  4000 + w, clock_timestamp() - CASE WHEN w = 3 THEN interval '9 minutes' ELSE interval '5 hours' END, clock_timestamp(),
  'running', true, :partitions / 4, 1000000, 40000, 0, 0, 0
FROM unnest(:names) name, generate_series(0, 3) w;

INSERT INTO highwater.consumer_offset (group_id, topic, partition, next_offset, epoch, owner, claimed_by, instance_id,
  claimed_offset, claimed_at, record_timestamp, applied_records, applied_batches, committed_at)
SELECT name, 'payments.tx_events', p, 40000000 + p * 1000, 12, md5(name || p % 4)::uuid, md5(name || p % 4)::uuid,
  name || '-' || p % 4, 39000000, clock_timestamp() - CASE WHEN p % 4 = 3 THEN interval '9 minutes' ELSE interval '5 hours' END,
  clock_timestamp(), 1000000, 40000, clock_timestamp()
FROM unnest(:names) name, generate_series(0, :partitions - 1) p;

INSERT INTO highwater.partition_status (group_id, topic, partition, epoch, owner, state, log_start_offset,
  last_stable_offset, log_end_offset, class, updated_at)
SELECT group_id, topic, partition, epoch, owner, 'running', 30000000, next_offset, next_offset, 'OK', clock_timestamp()
FROM highwater.consumer_offset;

ANALYZE";

/// A fresh database of these groups, of as many partitions each.
pub(crate) async fn seeded(hint: &str, groups: &[String], partitions: usize) -> Result<Database> {
    let database = Postgres::shared().await?.fresh_database(hint).await?;
    migrate::migrate(&mut database.client().await?, &SchemaName::default())
        .await
        .expect("the migrations apply");
    let names = groups.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(",");
    let sql =
        SEED.replace(":names", &format!("ARRAY[{names}]")).replace(":partitions", &partitions.to_string());
    database.execute(&sql).await?;
    Ok(database)
}
