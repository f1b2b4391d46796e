//! The least that a worker's role needs.

mod fence;
mod operator;

use std::fmt::Write as _;

use crate::error::{Error, Result};
use crate::schema::{SchemaName, identifier_defect, quote_identifier};

pub use self::fence::fence;
pub use self::operator::{DEFAULT_OPERATOR, operator_grants, payload_grants};

/// The role that `highwater migrate --print-grants` names unless told otherwise.
pub const DEFAULT_ROLE: &str = "highwater_worker";

/// The role of those who look and change nothing: exporter, dashboard, `highwater status`.
pub const MONITOR_ROLE: &str = "highwater_monitor";

/// What a monitor may read, and why; all it may write is `partition_survey`.
const MONITORED: &[(&str, &str, &str)] = &[
    ("meta", "SELECT", "the tables' version"),
    ("consumer_offset", "SELECT", "where the groups stand, and who holds what"),
    ("group_topic", "SELECT", "which topics they read"),
    ("claim_history", "SELECT", "when claims began and ended"),
    ("worker_status", "SELECT", "who is live"),
    ("partition_status", "SELECT", "what workers say of their partitions"),
    ("partition_survey", "SELECT, INSERT, UPDATE", "what it sees itself of partitions that nobody holds"),
    ("partition_control", "SELECT", "what people have ordered"),
    ("offset_event", "SELECT", "moves of offsets"),
    ("offset_plan", "SELECT", "moves as they were decided"),
    ("offset_plan_step", "SELECT", "the partitions of these moves"),
    ("sink_table", "SELECT", "which tables the programs write"),
    ("mapping_change", "SELECT", "what pipelines made of records, and since when"),
    (
        "dead_letter",
        "SELECT (dead_letter_id, group_id, topic, topic_id, partition, record_offset, fingerprint, sqlstate, reason, handler, \
         worker, state, attempts, first_at, last_at, state_changed_at, request_id, omitted_bytes)",
        "rejected records: how many, and why; neither what is in them nor the hashes of their keys",
    ),
    ("dead_letter_payload", "SELECT (dead_letter_id)", "of which of them the content is kept; nothing of it"),
    ("dead_letter_attempt", "SELECT", "attempts at them"),
    ("redrive_request", "SELECT", "what people want applied once more"),
    ("redrive_letter", "SELECT", "the dead letters that these are about"),
    ("progress", "SELECT", "view"),
    ("lag", "SELECT", "view"),
    ("health", "SELECT", "view"),
    ("scaling", "SELECT", "view"),
];

/// Per table: what the worker does with it, and so what it may do. A table without an entry fails a test.
const TABLES: &[(&str, &str, &str)] = &[
    ("meta", "SELECT", "its version is checked at the start; only `highwater migrate` writes it"),
    (
        "group_topic",
        "SELECT, INSERT, UPDATE",
        "the resolved start policy, added partitions, the mirror's mark",
    ),
    ("group_pattern", "SELECT, INSERT", "which patterns were resolved, once each"),
    (
        "consumer_offset",
        "SELECT, INSERT, UPDATE",
        "claims and commits; a row that vanishes halts, so no DELETE",
    ),
    (
        "claim_history",
        "SELECT, INSERT, DELETE",
        "finished claims; pruned after `history_retention`, never edited",
    ),
    ("dead_letter", "SELECT, INSERT, UPDATE", "rejected records; what is over is pruned by prune_history"),
    (
        "dead_letter_payload",
        "SELECT, INSERT, UPDATE, DELETE",
        "the records themselves, which expire before the rest",
    ),
    ("dead_letter_attempt", "SELECT, INSERT", "what became of each attempt"),
    (
        "redrive_request",
        "SELECT, UPDATE",
        "what people want applied once more: done by workers, and never begun by one",
    ),
    (
        "redrive_letter",
        "SELECT, INSERT, UPDATE",
        "the dead letters that these are about, and what became of each; what is parked behind them follows",
    ),
    (
        "offset_event",
        "SELECT, INSERT",
        "what was skipped or lost: append-only for the worker, but for prune_history",
    ),
    ("sink_table", "SELECT, INSERT, UPDATE", "which tables it writes, so that operators can undo and prove"),
    (
        "mapping_change",
        "SELECT, INSERT",
        "what its pipeline's file makes of records: append-only for the worker, but for prune_history",
    ),
    (
        "worker_session",
        "SELECT, INSERT, UPDATE, DELETE",
        "whose session is which, so that a successor ends no backend but a dead worker's",
    ),
    ("worker_status", "SELECT, INSERT, UPDATE, DELETE", "heartbeats; rows of processes long gone are pruned"),
    ("partition_status", "SELECT, INSERT, UPDATE", "one row per partition, overwritten"),
    (
        "partition_survey",
        "SELECT, INSERT, UPDATE",
        "the same of partitions that nobody holds, by whichever worker looks after them",
    ),
    (
        "partition_control",
        "SELECT, UPDATE, DELETE",
        "what people have told it: obeyed, and pruned, but never written by a worker",
    ),
    ("offset_plan", "", "people's alone: `--print-grants --operator`"),
    ("offset_plan_step", "", "as offset_plan"),
];

/// What a worker's role needs, table by table.
pub(crate) fn needed() -> impl Iterator<Item = (&'static str, &'static str)> {
    let pairs =
        TABLES.iter().flat_map(|(table, rights, _)| rights.split(", ").map(move |right| (*table, right)));
    pairs.filter(|(_, right)| !right.is_empty())
}

/// The `GRANT` statements for a worker's role, with a reason for each, to be run by the schema's owner.
///
/// No DDL, no TRUNCATE, no right on a sequence (identity columns need none), and DELETE only where rows are pruned.
/// The statements can be run again, and must be after a migration that adds a table.
///
/// # Errors
///
/// [`Configuration`](crate::ErrorKind::Configuration) when `role` can't be a role's name.
pub fn grants(schema: &SchemaName, role: &str) -> Result<String> {
    if let Some(defect) = identifier_defect(role) {
        return Err(Error::configuration(format!("role name {role:?} {defect}, choose another name")));
    }
    let role = quote_identifier(role);
    let mut text = format!(
        "-- The least privileges of a Highwater worker. Run as the owner of the schema; safe to run again.\n\
         --\n\
         -- If the role does not exist yet:\n\
         --   CREATE ROLE {role} LOGIN PASSWORD '...';\n\
         -- The tables that your handler writes need grants of their own, for example:\n\
         --   GRANT INSERT ON public.my_sink TO {role};\n\
         -- All workers of a group should log in as the same role: then one may end the backend of another that\n\
         -- is frozen and holds locks. With several roles, each of them needs more (roles can't be granted to each\n\
         -- other in a circle), though with it they may end any session but a superuser's:\n\
         --   GRANT pg_signal_backend TO {role};\n\n\
         GRANT USAGE ON SCHEMA {} TO {role};\n",
        schema.quoted(),
    );
    write_grants(&mut text, schema, &role, TABLES);
    let [prune, expire] = ["prune_history", "expire_payloads"].map(|function| schema.qualified(function));
    let _ = write!(
        text,
        "-- deletes what is over and older than `history_retention` (events, plans, orders, dead letters)\n\
         GRANT EXECUTE ON FUNCTION {prune} TO {role};\n\
         -- deletes payloads that have expired\n\
         GRANT EXECUTE ON FUNCTION {expire} TO {role};\n"
    );
    Ok(text)
}

/// The `GRANT` statements for the role of an exporter, a dashboard or `highwater status`: it reads, but no payload
/// of a record, and writes nothing but what it sees of partitions that nobody holds.
///
/// # Errors
///
/// [`Configuration`](crate::ErrorKind::Configuration) when `role` can't be a role's name.
pub fn monitor_grants(schema: &SchemaName, role: &str) -> Result<String> {
    if let Some(defect) = identifier_defect(role) {
        return Err(Error::configuration(format!("role name {role:?} {defect}, choose another name")));
    }
    let role = quote_identifier(role);
    let mut text = format!(
        "-- The least privileges of an exporter, a dashboard or `highwater status`. Run as the owner of the schema; safe\n\
         -- to run again.\n\
         --\n\
         -- If the role does not exist yet:\n\
         --   CREATE ROLE {role} LOGIN PASSWORD '...';\n\n\
         GRANT USAGE ON SCHEMA {} TO {role};\n",
        schema.quoted(),
    );
    write_grants(&mut text, schema, &role, MONITORED);
    Ok(text)
}

/// The statements, each under its reason. `role` is quoted.
fn write_grants(text: &mut String, schema: &SchemaName, role: &str, tables: &[(&str, &str, &str)]) {
    for (table, privileges, reason) in tables {
        let table = schema.qualified(table);
        // Writing to a string can't fail.
        let _ = match *privileges {
            "" => writeln!(text, "-- {table}: nothing; {reason}"),
            _ => write!(text, "-- {reason}\nGRANT {privileges} ON TABLE {table} TO {role};\n"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrate::list::MIGRATIONS;

    #[test]
    fn every_table_has_its_grants() {
        let mut created: Vec<&str> = MIGRATIONS
            .iter()
            .flat_map(|migration| migration.sql.lines())
            .filter_map(|line| {
                line.strip_prefix("CREATE ")?.trim_start_matches("UNLOGGED ").strip_prefix("TABLE ")
            })
            .filter_map(|rest| rest.split_whitespace().next())
            .collect();
        created.sort_unstable();
        // A later migration may make one anew.
        created.dedup();
        let mut granted: Vec<&str> = TABLES.iter().map(|(table, ..)| *table).collect();
        granted.sort_unstable();
        assert_eq!(created, granted);
    }

    #[test]
    fn names_are_quoted() {
        let text = grants(&SchemaName::new("my \"schema").unwrap(), "o'neil\"; --").unwrap();
        assert!(text.contains(r#"GRANT USAGE ON SCHEMA "my ""schema" TO "o'neil""; --";"#), "{text}");
        assert!(grants(&SchemaName::default(), "").is_err());
        assert!(grants(&SchemaName::default(), "a\n; drop").is_err());
    }
}
