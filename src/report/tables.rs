//! Highwater's own tables: column by column, so that what is added to them later does not slip in.

use tokio_postgres::Client;

use super::{Collection, rows};
use crate::config::DoctorConfig;

/// A table, what is taken of it, by what its newest rows are told, and what is in it.
struct Table {
    name: &'static str,
    columns: &'static str,
    newest: &'static str,
    about: &'static str,
}

/// Never taken: `claim_token` (who has it can commit), `dead_letter.key_hash` (a key can be guessed by it),
/// `dead_letter_payload`.
const TABLES: &[Table] = &[
    Table {
        name: "consumer_offset",
        columns: "group_id, topic, partition, next_offset, leader_epoch, leader_epoch_offset, epoch, owner, claimed_by, \
                  instance_id, drain_until, claimed_offset, claimed_at, record_timestamp, applied_records, applied_batches, \
                  committed_at, paused_reason, halted",
        newest: "group_id, topic, partition",
        about: "where the groups stand",
    },
    Table {
        name: "group_topic",
        columns: "group_id, topic, start_policy, partition_count, cluster_id, topic_id, program, resolved_by, resolved_at, \
                  mirror_marked_at",
        newest: "group_id, topic",
        about: "what the groups know of their topics",
    },
    Table {
        name: "group_pattern",
        columns: "group_id, pattern, start_policy, program, resolved_by, resolved_at",
        newest: "group_id, pattern",
        about: "the patterns that groups subscribe to",
    },
    Table {
        name: "claim_history",
        columns: "group_id, topic, partition, epoch, owner, instance_id, claimed_offset, end_offset, applied_records, \
                  applied_batches, claimed_at, committed_at, replaced_at",
        newest: "replaced_at DESC",
        about: "the coverage ledger: who applied which offsets, and when",
    },
    Table {
        name: "offset_event",
        columns: "event_id, group_id, topic, partition, kind, from_offset, to_offset, actor, reason, occurred_at, plan_id",
        newest: "event_id DESC",
        about: "every move of an offset that was no commit",
    },
    Table {
        name: "offset_plan",
        columns: "plan_id, group_id, target, actor, reason, undo_rows, state, live, created_at, applied_at, applied_by",
        newest: "plan_id DESC",
        about: "moves as they were decided",
    },
    Table {
        name: "offset_plan_step",
        columns: "plan_id, topic, partition, from_offset, to_offset, wanted_offset, clamped_to, epoch, last_event_id, \
                  applied_from, paused_reason, halted, undone_rows, outcome",
        newest: "plan_id DESC, topic, partition",
        about: "the partitions of these moves",
    },
    Table {
        name: "partition_control",
        columns: "control_id, group_id, topic, partition, verb, epoch, actor, reason, plan_id, requested_at, obeyed_at, \
                  obeyed_by",
        newest: "control_id DESC",
        about: "what people have told the workers",
    },
    Table {
        name: "sink_table",
        columns: "group_id, table_schema, table_name, mode, topics, topic_column, partition_column, offset_column, \
                  timestamp_column, program, registered_by, registered_at",
        newest: "group_id, table_schema, table_name",
        about: "which tables the programs write",
    },
    Table {
        name: "mapping_change",
        columns: "change_id, group_id, follows, mapping, changes, positions, program, version, host, worker, occurred_at",
        newest: "change_id DESC",
        about: "what pipelines made of records, and since when",
    },
    Table {
        name: "worker_status",
        columns: "owner, group_id, instance_id, program, version, host, process_id, started_at, heartbeat_at, stopped_at, \
                  state, ready, detail, partitions, records_total, commits_total, fenced_total, retries_total, dropped_total, \
                  processing_deadline_seconds",
        newest: "heartbeat_at DESC",
        about: "the workers' heartbeats",
    },
    Table {
        name: "partition_status",
        columns: "group_id, topic, partition, epoch, owner, state, detail, log_end_offset, last_stable_offset, \
                  next_record_timestamp, updated_at, log_start_offset, class, reason, applied_per_second, \
                  produced_per_second, uncommitted_since, loss_at, stood_at, ends_as_of, on_rejected, writes",
        newest: "updated_at DESC",
        about: "what the workers say of their partitions: errors of now are here",
    },
    Table {
        name: "partition_survey",
        columns: "group_id, topic, partition, next_offset, log_start_offset, last_stable_offset, log_end_offset, \
                  next_record_timestamp, uncommitted_since, loss_at, class, reason, surveyed_at, surveyed_by",
        newest: "surveyed_at DESC",
        about: "what was seen of partitions that nobody holds",
    },
    Table {
        name: "dead_letter",
        columns: "dead_letter_id, group_id, topic, topic_id, partition, record_offset, fingerprint, sqlstate, reason, \
                  handler, worker, state, attempts, first_at, last_at, state_changed_at, request_id, omitted_bytes",
        newest: "last_at DESC",
        about: "rejected records, without anything of the records",
    },
    Table {
        name: "redrive_request",
        columns: "request_id, group_id, filter, actor, reason, records, canary, per_second, stop_after, ignore_order, free_at, \
                  state, detail, created_at, ended_at",
        newest: "request_id DESC",
        about: "rejected records that people want applied once more",
    },
    Table {
        name: "redrive_letter",
        columns: "request_id, place, dead_letter_id, topic, partition, record_offset, outcome, ended_at",
        newest: "request_id DESC, place",
        about: "what became of each of these",
    },
];

/// What belongs to no group.
const WHOLE: &[(&str, &str, &str)] = &[
    (
        "meta.json",
        "SELECT database_id, version, min_compatible, migrated_at FROM {meta}",
        "the tables' version",
    ),
    (
        "worker_session.json",
        "SELECT pid, backend_start, owner FROM {worker_session} ORDER BY backend_start DESC LIMIT 1000",
        "whose backend is which",
    ),
    (
        "dead_letter_attempt.json",
        "SELECT attempt_id, dead_letter_id, attempted_at, kind, error, owner FROM {dead_letter_attempt} \
         ORDER BY attempt_id DESC LIMIT 1000",
        "attempts at rejected records",
    ),
];

pub(super) async fn add(
    collection: &mut Collection,
    client: &mut Client,
    config: &DoctorConfig,
    groups: &[String],
) {
    let schema = &config.operator.database.schema;
    // One row more than is taken tells that there are more.
    let limit = collection.rows.saturating_add(1);
    for Table { name, columns, newest, about } in TABLES {
        let table = schema.qualified(name);
        let of_groups = match *name {
            "offset_plan_step" => {
                format!(
                    "plan_id IN (SELECT plan_id FROM {} WHERE group_id = ANY($1))",
                    schema.qualified("offset_plan")
                )
            }
            "redrive_letter" => {
                format!(
                    "request_id IN (SELECT request_id FROM {} WHERE group_id = ANY($1))",
                    schema.qualified("redrive_request")
                )
            }
            _ => "group_id = ANY($1)".to_owned(),
        };
        let sql = format!("SELECT {columns} FROM {table} WHERE {of_groups} ORDER BY {newest} LIMIT $2");
        let found = rows(client, &sql, &[&groups, &limit]).await;
        let mut about = (*about).to_owned();
        let found = found.map(|mut value| {
            if let Some(all) = value.as_array_mut()
                && i64::try_from(all.len()).is_ok_and(|count| count > collection.rows)
            {
                all.pop();
                about += &format!(" (the newest {} rows of more)", all.len());
            }
            value
        });
        collection.json(&format!("tables/{name}.json"), &about, found);
    }
    for (name, sql, about) in WHOLE {
        let table = name.trim_end_matches(".json");
        let sql = sql.replace(&format!("{{{table}}}"), &schema.qualified(table));
        collection.json(&format!("tables/{name}"), about, rows(client, &sql, &[]).await);
    }
}
