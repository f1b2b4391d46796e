//! Keeps on record what a group made of its records, and since when: the mapping of a pipeline's file (`mapping_change`).

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Error;

use crate::config::Config;
use crate::db::{Db, DbError};

/// What decides rows: by table, what is said of it under which key.
pub(crate) type Mapping = BTreeMap<String, BTreeMap<String, String>>;

/// Keys that decide which row is written: with another, the rows before and after do not meet.
const ROWS: [&str; 2] = ["key", "mode"];

/// What a mapping changes, in words; empty if it is the same.
fn changes(before: &Mapping, now: &Mapping) -> Vec<String> {
    let tables: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let mut changes = Vec::new();
    for table in tables {
        match (before.get(table), now.get(table)) {
            (Some(_), None) => changes.push(format!("table {table} is not written any more")),
            (None, _) => changes.push(format!("table {table} is new")),
            (Some(before), Some(now)) => {
                let keys: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
                let all = keys.into_iter().filter_map(|key| change(key, before.get(key), now.get(key)));
                changes.extend(all.map(|what| format!("table {table}: {what}")));
            }
        }
    }
    changes
}

fn change(key: &str, before: Option<&String>, now: Option<&String>) -> Option<String> {
    match (before, now) {
        (Some(before), Some(now)) if before == now => None,
        (Some(before), Some(now)) => Some(format!("{key}: {before} -> {now}")),
        (Some(before), None) => Some(format!("{key} left out (it was {before})")),
        (None, Some(now)) => Some(format!("{key} added ({now})")),
        (None, None) => None,
    }
}

/// Whether rows of before and after are not of one kind: another table, another key.
fn parts_rows(before: &Mapping, now: &Mapping) -> bool {
    before.keys().ne(now.keys())
        || before
            .iter()
            .any(|(table, before)| ROWS.iter().any(|key| before.get(*key) != now[table].get(*key)))
}

/// Writes it down unless it is what the group's last one was. Of two workers that start at once, one does: each writes
/// what follows the change that it has seen, and only one row does.
///
/// # Errors
/// Also where there is no such table yet, or no right to it.
pub(super) async fn record(db: &Db, config: &Config, mapping: &Mapping) -> Result<(), DbError> {
    let table = db.schema.qualified("mapping_change");
    let last = format!(
        "SELECT change_id, mapping::text FROM {table} WHERE group_id = $1 ORDER BY follows DESC LIMIT 1"
    );
    let add = format!(
        "INSERT INTO {table} (group_id, follows, mapping, changes, positions, program, version, host, worker) \
         SELECT $1, $2::int8, $3::text::jsonb, $4::text[], (SELECT coalesce(jsonb_object_agg(p.topic, p.positions), '{{}}') FROM ( \
           SELECT o.topic, jsonb_object_agg(o.partition, o.next_offset) AS positions FROM {offsets} o \
           WHERE o.group_id = $1 GROUP BY 1) p), $5, $6, $7, $8::uuid \
         ON CONFLICT (group_id, follows) DO NOTHING",
        offsets = db.schema.qualified("consumer_offset"),
    );
    let group = &*db.identity.group;
    let text = serde_json::to_string(mapping)
        .map_err(|error| DbError::Other(format!("could not write the mapping down: {error}")))?;
    loop {
        let client = db.control().await?;
        let before = client.query_opt(&last, &[&group]).await?;
        let follows = before.as_ref().map_or(0, |row| row.get::<_, i64>(0));
        // One that a later release has written, in another form, is as good as none.
        let before: Option<Mapping> = before.and_then(|row| serde_json::from_str(row.get(1)).ok());
        if before.as_ref() == Some(mapping) {
            return Ok(());
        }
        let what = before.as_ref().map(|before| changes(before, mapping)).unwrap_or_default();
        let version = env!("CARGO_PKG_VERSION");
        let host = super::heartbeat::hostname();
        let owner = db.identity.owner;
        let written: Result<u64, Error> = client
            .execute(&add, &[&group, &follows, &text, &what, &config.program, &version, &host, &owner])
            .await;
        if written? == 0 {
            // Somebody was faster, most likely with the same.
            continue;
        }
        match before {
            Some(before) if parts_rows(&before, mapping) => tracing::warn!(
                group,
                changes = ?what,
                "the file maps records into other tables, or by another key, than before: rows that are there stay as they are"
            ),
            Some(_) => {
                tracing::info!(group, changes = ?what, "the file's mapping has changed, and is on record")
            }
            None => tracing::info!(group, "the file's mapping is on record"),
        }
        return Ok(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(tables: &[(&str, &[(&str, &str)])]) -> Mapping {
        let of =
            |keys: &[(&str, &str)]| keys.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        tables.iter().map(|(table, keys)| ((*table).to_owned(), of(keys))).collect()
    }

    #[test]
    fn changes_are_said_in_words() {
        let before = mapping(&[("a", &[("mode", "append"), ("column x", "value.x")]), ("b", &[])]);
        let now = mapping(&[("a", &[("mode", "upsert"), ("column y", "value.y")]), ("c", &[])]);
        let said = [
            "table a: column x left out (it was value.x)",
            "table a: column y added (value.y)",
            "table a: mode: append -> upsert",
            "table b is not written any more",
            "table c is new",
        ];
        assert_eq!(changes(&before, &now), said);
        assert!(changes(&before, &before).is_empty());
    }

    #[test]
    fn another_key_or_table_parts_rows_and_a_column_does_not() {
        let before = mapping(&[("a", &[("mode", "upsert"), ("key", "id"), ("column x", "value.x")])]);
        let column = mapping(&[("a", &[("mode", "upsert"), ("key", "id"), ("column y", "value.x")])]);
        let key = mapping(&[("a", &[("mode", "upsert"), ("key", "id, at"), ("column x", "value.x")])]);
        assert!(!parts_rows(&before, &column));
        assert!(parts_rows(&before, &key));
        assert!(parts_rows(&before, &mapping(&[])));
    }
}
