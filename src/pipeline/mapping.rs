//! What of a file decides rows, sink by sink: it is kept on record, and compared with what the group ran before.
//!
//! Neither addresses nor tuning, and not `evolve`, which is about who makes the table. What is left at its default and may
//! get another one with a later key stays out, so that a release changes no mapping.

use std::fmt::Debug;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::file::{ColumnEntry, Extra, Nul, Provenance, SchemaEntry, SinkEntry};
use crate::worker::Mapping;

/// Of all sinks; `folder`: of the pipeline's file.
pub(super) fn of(sinks: &[(usize, SinkEntry)], folder: &Path) -> Mapping {
    sinks
        .iter()
        .map(|(_, entry)| {
            let said = said(entry, folder).into_iter().filter_map(|(key, value)| Some((key, value?)));
            (entry.table.clone(), said.collect())
        })
        .collect()
}

fn said(entry: &SinkEntry, folder: &Path) -> Vec<(String, Option<String>)> {
    // Whoever adds a key decides here whether rows follow from it.
    let SinkEntry {
        topic,
        table: _,
        columns,
        flatten,
        key_format,
        value,
        schema,
        key_schema,
        envelope,
        mode,
        key,
        version,
        rest,
        missing,
        extra,
        unchanged,
        deletes,
        r#where,
        nul,
        bytea,
        provenance: Provenance { topic: by_topic, partition, offset, timestamp },
        on_bad_record,
        evolve: _,
    } = entry;
    let said = [
        ("topic", Some(topic.0.join(", "))),
        ("value", Some(word(value))),
        ("key_format", Some(word(key_format))),
        ("envelope", Some(word(envelope))),
        ("mode", Some(word(mode))),
        ("key", key.as_ref().map(|columns| columns.join(", "))),
        ("schema", schema.as_ref().map(|schema| named(schema, folder))),
        ("key_schema", key_schema.as_ref().map(|schema| named(schema, folder))),
        ("flatten", flatten.clone()),
        ("version", version.clone()),
        ("rest", rest.clone()),
        ("missing", missing.as_ref().map(word)),
        ("extra", (*extra != Extra::default()).then(|| word(extra))),
        ("unchanged", unchanged.clone()),
        ("deletes", deletes.as_ref().map(ToString::to_string)),
        ("where", r#where.clone()),
        ("nul", (*nul != Nul::default()).then(|| word(nul))),
        ("bytea", bytea.as_ref().map(word)),
        ("provenance.topic", by_topic.clone()),
        ("provenance.partition", partition.clone()),
        ("provenance.offset", offset.clone()),
        ("provenance.timestamp", timestamp.clone()),
        ("on_bad_record", on_bad_record.as_ref().map(word)),
    ];
    let said = said.into_iter().map(|(key, value)| (key.to_owned(), value));
    said.chain(columns.0.iter().map(|(name, column)| (format!("column {name}"), Some(source(column)))))
        .collect()
}

fn source(ColumnEntry { from, unit, r#type }: &ColumnEntry) -> String {
    let mut text = from.clone();
    if let Some(unit) = unit {
        text = format!("{text} in {}", word(unit));
    }
    if let Some(name) = r#type {
        text = format!("{text} as {name}");
    }
    text
}

/// A file's content decides, and not only its name.
fn named(SchemaEntry { file, message, subject, version }: &SchemaEntry, folder: &Path) -> String {
    let file = file.as_ref().map(|file| {
        let content = std::fs::read(folder.join(file)).unwrap_or_default();
        let digest = Sha256::digest(content);
        format!("file {file} (SHA-256 {:02x}{:02x}{:02x}{:02x}…)", digest[0], digest[1], digest[2], digest[3])
    });
    let parts = [
        file,
        message.as_ref().map(|message| format!("message {message}")),
        subject.as_ref().map(|subject| format!("subject {subject}")),
        version.map(|version| format!("version {version}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// As the file has it: `ConnectJson` is connect_json.
fn word(value: &impl Debug) -> String {
    let mut word = String::new();
    for letter in format!("{value:?}").chars() {
        if letter.is_uppercase() && !word.is_empty() {
            word.push('_');
        }
        word.extend(letter.to_lowercase());
    }
    word
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Pipeline;
    use super::*;

    fn mapping(text: &str) -> Mapping {
        let folder = Path::new("somewhere");
        of(&Pipeline::parse(text, &folder.join("shop.toml")).unwrap().written, folder)
    }

    const FILE: &str = "group = 'g'\nbrokers = ['a:1']\n[[sink]]\ntopic = ['a', 'b']\ntable = 't'\nmode = 'upsert'\nevolve = 'validate'\nkey = ['id']\n\
                        columns.id = 'value.id'\ncolumns.at = { from = 'value.ts', unit = 'ms', type = 'timestamptz' }\n";

    #[test]
    fn what_decides_rows_is_in_it() {
        let said = &mapping(FILE)["t"];
        for (key, value) in [
            ("topic", "a, b"),
            ("mode", "upsert"),
            ("key", "id"),
            ("value", "json"),
            ("envelope", "none"),
            ("column id", "value.id"),
            ("column at", "value.ts in milliseconds as timestamptz"),
        ] {
            assert_eq!(said.get(key).map(String::as_str), Some(value), "{key} of {said:?}");
        }
        for change in [
            ("'ms'", "'us'"),
            ("'upsert'", "'update'"),
            ("'value.id'", "'value.no'"),
            ("table = 't'", "table = 'u'"),
            ("key = ['id']", "key = ['id']\nwhere = \"value.a != 'b'\""),
        ] {
            assert_ne!(mapping(&FILE.replace(change.0, change.1)), mapping(FILE), "{change:?}");
        }
    }

    #[test]
    fn addresses_tuning_and_spelling_are_not() {
        for change in [
            ("'a:1'", "'b:1'"),
            ("group = 'g'", "group = 'g'\nlanes = 3"),
            ("'validate'", "'create'"),
            ("key = ['id']", "extra = 'ignore'\nkey = ['id']"),
            ("columns.id = 'value.id'", "columns.id = { from = 'value.id' }"),
        ] {
            assert_eq!(mapping(&FILE.replace(change.0, change.1)), mapping(FILE), "{change:?}");
        }
    }
}
