//! What a person's role needs, to do to a group what can be done while it runs.

use super::write_grants;
use crate::error::{Error, Result};
use crate::schema::{SchemaName, identifier_defect, quote_identifier};

/// The role that `highwater migrate --print-grants --operator` names unless told otherwise.
pub const DEFAULT_OPERATOR: &str = "highwater_operator";

/// As the workers' list. What is not in it, an operator has no right to.
const TABLES: &[(&str, &str, &str)] = &[
    ("meta", "SELECT", "the tables' version"),
    ("group_topic", "SELECT", "which topic a group reads under a name"),
    ("consumer_offset", "SELECT, UPDATE", "where groups stand: moved and held, never made or deleted"),
    ("claim_history", "SELECT, INSERT", "who applied what; a claim that is taken away is written here"),
    ("offset_event", "SELECT, INSERT", "every move, with who and why; never edited"),
    ("offset_plan", "SELECT, INSERT, UPDATE", "moves as they were decided"),
    ("offset_plan_step", "SELECT, INSERT, UPDATE", "their partitions"),
    ("partition_control", "SELECT, INSERT", "what workers are told"),
    ("worker_status", "SELECT", "who is at work"),
    ("partition_status", "SELECT", "what workers say of their partitions"),
    ("sink_table", "SELECT", "which tables `--undo-rows` and `reconcile` are about"),
    ("mapping_change", "SELECT", "what the groups' pipelines made of records, and since when"),
    ("dead_letter", "SELECT, INSERT, UPDATE", "what `skip` keeps, and what a move back supersedes"),
    (
        "dead_letter_payload",
        "SELECT (dead_letter_id), INSERT, UPDATE",
        "the records that `skip` keeps: written, not read (see --payload)",
    ),
    ("dead_letter_attempt", "SELECT, INSERT", "that it was skipped, or discarded; `show` reads them"),
    ("redrive_request", "SELECT, INSERT, UPDATE", "what is to be applied once more; UPDATE, to cancel it"),
    ("redrive_letter", "SELECT, INSERT", "the dead letters that these are about"),
    ("progress", "SELECT", "a view"),
    ("lag", "SELECT", "a view"),
    ("health", "SELECT", "a view"),
    ("scaling", "SELECT", "a view"),
];

/// The `GRANT` statements for the role of people who move and hold groups (`offsets reset`, `plan`, `apply`, `import`,
/// `--undo-rows`; `partitions pause`, `resume`, `halt`, `retry`, `skip`) and look (`list`, `describe`, `events`, `status`,
/// `reconcile`, `tail`), to be run by the schema's owner.
///
/// Not for `offsets adopt`, `copy`, `delete` and `forget-topic`, which begin and end groups, nor for `migrate`: those are
/// the owner's.
///
/// # Errors
///
/// [`Configuration`](crate::ErrorKind::Configuration) when `role` can't be a role's name.
pub fn operator_grants(schema: &SchemaName, role: &str) -> Result<String> {
    if let Some(defect) = identifier_defect(role) {
        return Err(Error::configuration(format!("role name {role:?} {defect}, choose another name")));
    }
    let role = quote_identifier(role);
    let mut text = format!(
        "-- The least privileges of a person who moves and holds groups: offsets reset, plan, apply, import,\n\
         -- partitions pause, resume, halt, retry, skip; and looks at them. Run as the owner of the schema; safe to\n\
         -- run again. Not for offsets adopt, copy, delete and forget-topic: they are the owner's.\n\
         --\n\
         -- If the role does not exist yet:\n\
         --   CREATE ROLE {role} LOGIN PASSWORD '...';\n\
         -- For --undo-rows on a table that a group writes, and for reconcile (SELECT alone):\n\
         --   GRANT SELECT, DELETE ON public.my_sink TO {role};\n\n\
         GRANT USAGE ON SCHEMA {} TO {role};\n",
        schema.quoted(),
    );
    write_grants(&mut text, schema, &role, TABLES);
    Ok(text)
}

/// The `GRANT` statement for a person who may read what is in rejected records (`dead-letters show --payload`, `export
/// --payload`, `export --to-topic`), on top of [`operator_grants`].
///
/// # Errors
///
/// [`Configuration`](crate::ErrorKind::Configuration) when `role` can't be a role's name.
pub fn payload_grants(schema: &SchemaName, role: &str) -> Result<String> {
    if let Some(defect) = identifier_defect(role) {
        return Err(Error::configuration(format!("role name {role:?} {defect}, choose another name")));
    }
    let mut text = String::new();
    let table =
        [("dead_letter_payload", "SELECT", "what is in rejected records: somebody's data (--payload)")];
    write_grants(&mut text, schema, &quote_identifier(role), &table);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrate::list::MIGRATIONS;

    #[test]
    fn what_is_granted_is_there() {
        let all: String = MIGRATIONS.iter().map(|migration| migration.sql).collect();
        for (name, ..) in TABLES {
            let made = |what: &str| all.contains(&format!("{what} {name} "));
            assert!(made("TABLE") || made("VIEW"), "{name}");
        }
        let payload = payload_grants(&SchemaName::default(), "o'neil").unwrap();
        assert!(
            payload.contains(r#"GRANT SELECT ON TABLE "highwater"."dead_letter_payload" TO "o'neil";"#),
            "{payload}"
        );
        let text = operator_grants(&SchemaName::default(), "o'neil").unwrap();
        assert!(
            !text.contains(r#"GRANT SELECT, INSERT, UPDATE ON TABLE "highwater"."dead_letter_payload""#),
            "{text}"
        );
        assert!(
            text.contains(r#"GRANT SELECT, UPDATE ON TABLE "highwater"."consumer_offset" TO "o'neil";"#),
            "{text}"
        );
    }
}
