//! The statements that would make a table what it is wanted to be: never a change of type, never a drop.
//!
//! Names are quoted, and types in the words of the server, so that nothing in them is read as more than a name.

use super::found::{Found, Rights, Wants};
use crate::sink::{Mode, quote, quoted};

/// A table, with its primary key. Needs the type of every column.
pub(super) fn create(wants: &Wants<'_>, found: &Found) -> String {
    let columns = wants.wanted.columns.iter().zip(&found.type_names).filter_map(|(column, type_name)| {
        let not_null = if column.not_null { " NOT NULL" } else { "" };
        Some(format!("{} {}{not_null}", quote(&column.name), type_name.as_ref()?))
    });
    let key = wants.wanted.key.as_ref().filter(|_| wants.wanted.mode != Mode::Append);
    let key = key.map(|key| format!("PRIMARY KEY ({})", quoted(key.iter().map(String::as_str))));
    let parts: Vec<String> = columns.chain(key).collect();
    format!("CREATE TABLE {} ({})", wants.place.sql(), parts.join(", "))
}

/// A column, nullable: the rows that are there have nothing for it, and no row is rewritten.
pub(super) fn add_column(wants: &Wants<'_>, name: &str, type_name: &str) -> String {
    format!("ALTER TABLE {} ADD COLUMN {} {type_name}", wants.place.sql(), quote(name))
}

/// What writing takes, for the role that writes.
pub(super) fn grant(wants: &Wants<'_>) -> String {
    let mut rights =
        if wants.wanted.mode == Mode::Update { vec!["SELECT"] } else { vec!["SELECT", "INSERT"] };
    if wants.wanted.mode.is_keyed() {
        rights.push("UPDATE");
    }
    if wants.wanted.deletes {
        rights.push("DELETE");
    }
    format!("GRANT {} ON {} TO {}", rights.join(", "), wants.place.sql(), quote(&wants.writer))
}

/// The same for columns that are added, as far as the role's rights to the whole table do not hold for them.
pub(super) fn grant_columns(wants: &Wants<'_>, names: &[&str], rights: Rights) -> Option<String> {
    let columns = quoted(names.iter().copied());
    let of_key = |name: &&str| wants.wanted.key.iter().flatten().any(|key| key == name);
    let upsert = wants.wanted.mode.is_keyed();
    let lacking = [
        ("SELECT", !rights.select && upsert && names.iter().any(of_key)),
        ("INSERT", !rights.insert && wants.wanted.mode != Mode::Update),
        ("UPDATE", !rights.update && upsert),
    ];
    let lacking = lacking.iter().filter(|(_, lacking)| *lacking);
    let lacking: Vec<String> = lacking.map(|(right, _)| format!("{right} ({columns})")).collect();
    (!lacking.is_empty())
        .then(|| format!("GRANT {} ON {} TO {}", lacking.join(", "), wants.place.sql(), quote(&wants.writer)))
}
