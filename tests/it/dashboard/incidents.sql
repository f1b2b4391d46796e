-- Groups that keep up, with a little to do.
UPDATE highwater.partition_status SET last_stable_offset = last_stable_offset + partition * 7 % 60 + 3,
  log_end_offset = log_end_offset + partition * 7 % 60 + 3, next_record_timestamp = clock_timestamp() - interval '0.3 seconds',
  applied_per_second = 47, produced_per_second = 46
WHERE group_id IN ('fraud-rules-v2', 'notifications', 'payouts', 'merchant-limits');

-- A hot partition, and one that somebody has paused.
UPDATE highwater.partition_status SET last_stable_offset = last_stable_offset + 184203,
  log_end_offset = log_end_offset + 184203, next_record_timestamp = clock_timestamp() - interval '612 seconds',
  class = 'WARN', applied_per_second = 103, produced_per_second = 412,
  reason = 'lag has grown from 900 to 184203 in 10 min: 412/s are produced, 103/s are applied'
WHERE group_id = 'fraud-rules-v2' AND partition = 3;
UPDATE highwater.consumer_offset SET paused_reason = 'INC-812: wait for the index'
WHERE group_id = 'fraud-rules-v2' AND partition = 17;

-- Too few workers.
UPDATE highwater.partition_status SET last_stable_offset = last_stable_offset + 6000 + partition * 97 % 7000,
  log_end_offset = log_end_offset + 6000 + partition * 97 % 7000, class = 'WARN', applied_per_second = 31,
  produced_per_second = 47, next_record_timestamp = clock_timestamp() - (6000 + partition * 97 % 7000) / 16 * interval '1 second',
  reason = 'lag grows: 47/s are produced, 31/s are applied'
WHERE group_id = 'ledger-writer';

-- A worker whose call to the sink does not return.
UPDATE highwater.partition_status SET last_stable_offset = last_stable_offset + 900 + partition,
  log_end_offset = log_end_offset + 900 + partition, next_record_timestamp = clock_timestamp() - interval '23 seconds'
WHERE group_id = 'notifications' AND partition % 4 = 2;

-- What happened before.
INSERT INTO highwater.partition_control (group_id, topic, partition, verb, epoch, actor, reason, requested_at, obeyed_at)
VALUES ('fraud-rules-v2', 'payments.tx_events', 17, 'pause', 12, 'ana', 'INC-812: wait for the index',
  clock_timestamp() - interval '4 minutes', clock_timestamp());
INSERT INTO highwater.offset_event (group_id, topic, partition, kind, from_offset, to_offset, actor, reason, occurred_at)
SELECT 'fraud-rules-v2', 'payments.tx_events', p, 'reset', 40001000, 39900000, 'ana', 'DEPLOY-811: scores again since 03:00',
  clock_timestamp() - interval '21 minutes' FROM generate_series(4, 7) p;
INSERT INTO highwater.claim_history (group_id, topic, partition, epoch, claim_token, owner, instance_id, claimed_offset,
  end_offset, applied_records, applied_batches, claimed_at, committed_at, replaced_at)
SELECT 'fraud-rules-v2', 'payments.tx_events', 3, e, gen_random_uuid(), md5('fraud-rules-v2' || e % 4)::uuid,
  'fraud-rules-v2-' || e % 4, 39000000 + e * 50000, 39050000 + e * 50000, 50000, 2100,
  clock_timestamp() - (20 - e) * interval '2 hours', clock_timestamp(), clock_timestamp() - (19 - e) * interval '2 hours'
FROM generate_series(5, 11) e;
INSERT INTO highwater.dead_letter (group_id, topic, topic_id, partition, record_offset, fingerprint, sqlstate, reason, handler)
SELECT 'fraud-rules-v2', 'payments.tx_events', '', 3, 39990000 + n * 31, 'f', '22003', 'numeric field overflow', 'fraud_scores'
FROM generate_series(1, 4) n;
