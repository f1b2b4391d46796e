//! One team's role among the rows of all: it sees and touches those of its own groups alone.
//!
//! By row-level security, with one restrictive policy a role, so that further fences narrow nobody but their own. The
//! policies ask for `session_user`, who logged in, and bind the tables' owner, too: thus they hold in `prune_history`, which
//! runs with the owner's rights, and in the views.

use std::fmt::Write as _;

use crate::error::{Error, Result};
use crate::schema::{SchemaName, identifier_defect, quote_identifier};

/// A table, and the column by which its rows belong to a group: its own, or that of another table that it names.
enum Fenced {
    Own(&'static str),
    Through { table: &'static str, column: &'static str, parent: &'static str },
}

const TABLES: &[Fenced] = &[
    Fenced::Own("group_topic"),
    Fenced::Own("group_pattern"),
    Fenced::Own("consumer_offset"),
    Fenced::Own("claim_history"),
    Fenced::Own("dead_letter"),
    Fenced::Own("offset_event"),
    Fenced::Own("sink_table"),
    Fenced::Own("mapping_change"),
    Fenced::Own("worker_status"),
    Fenced::Own("partition_status"),
    Fenced::Own("partition_survey"),
    Fenced::Own("partition_control"),
    Fenced::Own("offset_plan"),
    Fenced::Own("redrive_request"),
    Fenced::Through { table: "redrive_letter", column: "request_id", parent: "redrive_request" },
    Fenced::Through { table: "offset_plan_step", column: "plan_id", parent: "offset_plan" },
    Fenced::Through { table: "dead_letter_payload", column: "dead_letter_id", parent: "dead_letter" },
    Fenced::Through { table: "dead_letter_attempt", column: "dead_letter_id", parent: "dead_letter" },
];

/// Shared by all: the tables' version, and whose a backend is. A backend's number passes from one role to another, and a
/// session may be ended by its own role alone, whatever is written there.
#[cfg(test)]
const SHARED: &[&str] = &["meta", "worker_session"];

/// The statements that fence `role` off from the rows of all groups but `groups`, to be run by the schema's owner, who must
/// be neither a superuser nor have `BYPASSRLS`. They can be run again, and must be after a migration that adds a table, and
/// to change the groups.
///
/// They grant nothing: see [`grants`](super::grants). Other roles see and do what they did.
///
/// # Errors
///
/// [`Configuration`](crate::ErrorKind::Configuration) when `role` can't be a role's name, or there is no group.
pub fn fence(schema: &SchemaName, role: &str, groups: &[String]) -> Result<String> {
    if let Some(defect) = identifier_defect(role) {
        return Err(Error::configuration(format!("role name {role:?} {defect}, choose another name")));
    }
    if groups.is_empty() || groups.iter().any(|group| group.is_empty() || group.contains('\0')) {
        return Err(Error::configuration("a fence needs the names of the groups inside of it"));
    }
    let inside: Vec<String> = groups.iter().map(|group| literal(group)).collect();
    let (inside, who) = (inside.join(", "), literal(role));
    let policy = quote_identifier(&format!("fence of {}", &role[..role.floor_char_boundary(54)]));
    let mut text = format!(
        "-- Fences {who} off from all groups but {inside}. Run as the owner of the schema, who must be no superuser; safe\n\
         -- to run again. Other roles see and do what they did.\n",
    );
    for (parent, column) in
        [("dead_letter", "dead_letter_id"), ("offset_plan", "plan_id"), ("redrive_request", "request_id")]
    {
        // Volatile, so that it sees a row that the same statement has just written.
        // Writing to a string can't fail, here and below.
        let _ = write!(
            text,
            "\nCREATE OR REPLACE FUNCTION {function}(id bigint) RETURNS boolean LANGUAGE plpgsql VOLATILE AS\n\
             $$ BEGIN RETURN EXISTS (SELECT FROM {parent} p WHERE p.{column} = id); END $$;\n",
            function = schema.qualified(&sees(parent)),
            parent = schema.qualified(parent),
        );
    }
    for table in TABLES {
        let (name, condition) = match table {
            Fenced::Own(table) => (schema.qualified(table), format!("group_id IN ({inside})")),
            Fenced::Through { table, column, parent } => {
                (schema.qualified(table), format!("{}({column})", schema.qualified(&sees(parent))))
            }
        };
        let _ = write!(
            text,
            "\nALTER TABLE {name} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;\n\
             DROP POLICY IF EXISTS \"open\" ON {name};\n\
             CREATE POLICY \"open\" ON {name} USING (true);\n\
             DROP POLICY IF EXISTS {policy} ON {name};\n\
             CREATE POLICY {policy} ON {name} AS RESTRICTIVE USING (session_user <> {who} OR {condition});\n"
        );
    }
    Ok(text)
}

/// The function that says whether one sees a row of `parent`: its own fence decides.
fn sees(parent: &str) -> String {
    format!("sees_{parent}")
}

/// As a string of SQL, however the session reads backslashes.
fn literal(text: &str) -> String {
    let escaped = text.replace('\'', "''");
    if text.contains('\\') { format!("E'{}'", escaped.replace('\\', "\\\\")) } else { format!("'{escaped}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_is_inside_or_shared() {
        let mut all: Vec<&str> = super::super::TABLES.iter().map(|(table, ..)| *table).collect();
        let fenced = TABLES.iter().map(|table| match table {
            Fenced::Own(table) | Fenced::Through { table, .. } => *table,
        });
        let mut known: Vec<&str> = fenced.chain(SHARED.iter().copied()).collect();
        all.sort_unstable();
        known.sort_unstable();
        assert_eq!(all, known);
    }

    #[test]
    fn names_are_quoted() {
        let groups = ["o'neil".to_owned(), r"a\b".to_owned()];
        let text = fence(&SchemaName::default(), "a\"b", &groups).unwrap();
        assert!(text.contains(r"group_id IN ('o''neil', E'a\\b')"), "{text}");
        assert!(text.contains(r#"CREATE POLICY "fence of a""b" ON"#), "{text}");
        assert!(text.contains(r#"session_user <> 'a"b' OR"#), "{text}");
        assert!(fence(&SchemaName::default(), "a", &[]).is_err());
        assert!(fence(&SchemaName::default(), "", &groups).is_err());
        assert!(fence(&SchemaName::default(), &"ü".repeat(31), &groups).is_ok());
    }
}
