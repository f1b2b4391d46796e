//! What becomes of a record: mode, key, columns, deletes.

use super::connector::{Connector, Source};
use super::findings::Findings;
use super::formats::{self, Format};
use super::target::Target;
use crate::pipeline::path::Root;

/// A column and where its value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) path: String,
    pub(super) unit: Option<&'static str>,
}

/// What the connector's configuration says of the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listed {
    All,
    /// Not all: the user must list the others.
    Some,
    /// None: the values' schema does.
    BySchema,
}

/// The keys of a sink that say what becomes of its records.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) value: Format,
    /// None: the record's key is not read.
    pub(super) key_format: Option<Format>,
    pub(super) mode: &'static str,
    /// The table's key columns, as far as the connector names them.
    pub(super) key: Vec<String>,
    pub(super) columns: Vec<Column>,
    pub(super) listed: Listed,
    /// Whether the key's columns are those of the record's key.
    pub(super) from_key: bool,
    /// Whether the types of columns are known by the values' schema.
    pub(super) typed: bool,
    /// Of Debezium's change events.
    pub(super) unwrapped: bool,
    /// Of Connect's, with a schema in each record.
    pub(super) in_envelope: bool,
    pub(super) deletes: Option<&'static str>,
    /// Columns of topic, partition and offset.
    pub(super) provenance: Option<[String; 3]>,
    pub(super) on_bad_record: &'static str,
    /// None: as it is without.
    pub(super) evolve: Option<&'static str>,
}

/// Which fields are the table's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyMode {
    None,
    Kafka,
    RecordKey,
    RecordValue,
}

/// Where the options have other names.
struct Names {
    key_mode: &'static str,
    key_fields: &'static str,
    fields: &'static str,
}

fn names(connector: Connector) -> Names {
    match connector {
        Connector::Debezium => Names {
            key_mode: "primary.key.mode",
            key_fields: "primary.key.fields",
            fields: "field.include.list",
        },
        _ => Names { key_mode: "pk.mode", key_fields: "pk.fields", fields: "fields.whitelist" },
    }
}

const COORDINATES: [&str; 3] = ["__connect_topic", "__connect_partition", "__connect_offset"];

impl Rows {
    pub(super) fn of(source: &Source, target: &Target, unwrapped: bool, findings: &mut Findings) -> Self {
        let (topics, folds) = (&target.topics, target.folds);
        let names = names(source.connector);
        let key_mode = key_mode(source, names.key_mode, findings);
        let mut value = formats::read(source, "value.converter", findings);
        if unwrapped && !value.has_fields() {
            findings.refuse("transforms", "change events are read in JSON, or by a schema");
        }
        let mut key_format =
            (key_mode == KeyMode::RecordKey).then(|| formats::read(source, "key.converter", findings));
        let in_envelope = value.payload && !unwrapped;
        if in_envelope || unwrapped {
            // Paths are those of the row, and of the key inside.
            value.payload = false;
            if let Some(format) = &mut key_format {
                format.payload = false;
            }
        }
        let fold = |name: &str| if folds { name.to_lowercase() } else { name.to_owned() };
        let key_fields = source.list(names.key_fields);
        let mode = mode(source, key_mode, names.key_mode, findings);
        let mut this = Self {
            value,
            key_format,
            mode,
            key: Vec::new(),
            columns: Vec::new(),
            listed: Listed::All,
            from_key: key_mode == KeyMode::RecordKey,
            typed: false,
            unwrapped,
            in_envelope,
            deletes: deletes(source, key_mode, mode, names.key_mode, findings),
            provenance: None,
            on_bad_record: if source
                .get("errors.tolerance")
                .is_some_and(|all| all.eq_ignore_ascii_case("all"))
            {
                "dead_letter"
            } else {
                "halt"
            },
            evolve: None,
        };
        if unwrapped && this.deletes != Some("apply") {
            this.deletes = Some("ignore"); // the transform drops them
        }
        let times = source.get("timestamp.fields.list").is_some();
        let left_out = source.get("field.exclude.list").is_some();
        let named = source.get(names.fields).is_some() || times || left_out;
        let is_one = !topics.iter().any(|topic| topic.starts_with('^'));
        // Change events in Protobuf have a row of their own inside, of which no columns are known.
        this.typed = value.has_types() && is_one && !(unwrapped && value.name == "protobuf");
        if !named && this.typed && this.by_schema_with(&key_fields, fold) {
            this.listed = Listed::BySchema;
        }
        this.evolve = this.evolve(source, folds, findings);
        match key_mode {
            KeyMode::None => {}
            KeyMode::Kafka => {
                let given = if source.connector == Connector::Debezium { &[] } else { key_fields.as_slice() };
                let columns = match given {
                    [] => COORDINATES.map(fold),
                    [topic, partition, offset] => [fold(topic), fold(partition), fold(offset)],
                    _ => {
                        findings.refuse(names.key_fields, "names three columns with this mode, or none");
                        COORDINATES.map(fold)
                    }
                };
                this.key = columns.to_vec();
                this.provenance = Some(columns);
            }
            KeyMode::RecordKey if this.listed == Listed::BySchema => {
                this.key = key_fields;
                if this.deletes != Some("apply") {
                    this.key_format = None;
                }
            }
            KeyMode::RecordKey => {
                if let Some(format) = key_format {
                    this.key_from_record_key(format, &key_fields, names.key_fields, fold, findings);
                }
            }
            KeyMode::RecordValue => {
                this.key = key_fields.iter().map(|field| fold(field)).collect();
                if this.listed != Listed::BySchema {
                    this.fields(&key_fields, source, fold);
                }
                if key_fields.is_empty() {
                    findings.note(
                        names.key_fields,
                        "is empty: all fields are the key; name the columns in `key`",
                    );
                }
            }
        }
        if this.listed == Listed::BySchema {
            if folds {
                findings.note_on_file(
                    "columns have the names of the fields as they are, and the connector wrote them in lower case: list \
                     `columns` if they differ",
                );
            }
        } else {
            this.value_columns(source, topics, names.fields, fold, findings);
        }
        this
    }

    /// Whether the key's columns may be left to the values' schema, too: an upsert does not begin without them.
    fn by_schema_with(&self, key: &[String], fold: impl Fn(&str) -> String) -> bool {
        let is_legible = |format: Format| match format.name {
            "bytes" => false,
            // One text is one column.
            "string" => key.len() == 1,
            _ => !format.payload,
        };
        let finds_key = self.mode == "upsert" && self.key_format.is_some_and(is_legible);
        (!self.from_key || finds_key) && key.iter().all(|field| fold(field) == *field)
    }

    /// What the connector does about a table that lacks something.
    fn evolve(&self, source: &Source, folds: bool, findings: &mut Findings) -> Option<&'static str> {
        let evolve = evolve(source, findings)?;
        if !self.typed && evolve != "validate" {
            findings.note_on_file(
                "tables and columns are made by types that the file names, where no values' schema says them: see to \
                 `evolve` and `type`",
            );
        }
        // A field would become a column beside the one that the connector has made of it.
        if self.listed == Listed::BySchema && folds && evolve == "add_columns" {
            return Some("validate");
        }
        Some(evolve)
    }

    fn key_from_record_key(
        &mut self,
        format: Format,
        fields: &[String],
        option: &str,
        fold: impl Fn(&str) -> String,
        findings: &mut Findings,
    ) {
        if fields.is_empty() {
            self.listed = Listed::Some;
            findings
                .note(option, "is empty: all fields of the record's key are columns; list them in `columns`");
            return;
        }
        if !format.has_fields() && fields.len() > 1 {
            findings
                .refuse(option, "names several fields, but this converter's key has none: name one column");
        }
        if format.has_fields() && fields.len() == 1 {
            let whole = if format.payload { "key.payload" } else { "key" };
            findings.note(
                option,
                format!(
                    "the key is read as an object with the field {}; if it is a bare value, write columns.{} = \
                     \"{whole}\"",
                    fields[0],
                    fold(&fields[0])
                ),
            );
        }
        if format.name == "bytes" && self.deletes == Some("apply") {
            findings
                .refuse("delete.enabled", "a key of bytes names no row yet: only one of text or JSON does");
        }
        for field in fields {
            let column = Column { name: fold(field), path: format.path(Root::Key, field), unit: None };
            self.key.push(column.name.clone());
            self.columns.push(column);
        }
    }

    /// Fields of the value, unless their columns are there.
    fn fields(&mut self, fields: &[String], source: &Source, fold: impl Fn(&str) -> String) {
        let times = source.list("timestamp.fields.list");
        let nanoseconds = source
            .get("timestamp.precision.mode")
            .is_some_and(|mode| mode.eq_ignore_ascii_case("nanoseconds"));
        for field in fields {
            let name = fold(field);
            if !self.columns.iter().any(|column| column.name == name) {
                let unit = times.contains(field).then_some(if nanoseconds { "ns" } else { "us" });
                self.columns.push(Column { name, path: self.value.path(Root::Value, field), unit });
            }
        }
    }

    fn value_columns(
        &mut self,
        source: &Source,
        topics: &[String],
        option: &str,
        fold: impl Fn(&str) -> String + Copy,
        findings: &mut Findings,
    ) {
        if self.value.name == "string" {
            if source.connector != Connector::Confluent {
                findings.refuse("value.converter", "this connector writes no texts: is it Confluent's?");
            }
            let name = fold(source.get("string.output.value.column.name").unwrap_or("record_value"));
            self.columns.push(Column { name, path: "value".to_owned(), unit: None });
            return;
        }
        // Debezium's may name the topic.
        let fields: Vec<String> = source
            .list(option)
            .into_iter()
            .filter_map(|entry| match entry.split_once(':') {
                Some((topic, field)) if source.connector == Connector::Debezium => {
                    topics.iter().any(|one| one == topic.trim()).then(|| field.trim().to_owned())
                }
                _ => Some(entry),
            })
            .collect();
        if fields.is_empty() {
            self.listed = Listed::Some;
            findings.note(option, "is empty: all fields are written; list the table's columns in `columns`");
            self.fields(&source.list("timestamp.fields.list"), source, fold);
        } else {
            self.fields(&fields, source, fold);
        }
    }
}

fn key_mode(source: &Source, option: &str, findings: &mut Findings) -> KeyMode {
    match source.get(option).unwrap_or("none").to_lowercase().as_str() {
        "none" => KeyMode::None,
        "kafka" => KeyMode::Kafka,
        "record_key" => KeyMode::RecordKey,
        "record_value" => KeyMode::RecordValue,
        "record_header" => {
            findings.refuse(option, "`record_header`: keys from headers are not taken over yet");
            KeyMode::None
        }
        _ => {
            findings.refuse(
                option,
                "has a value that the connector does not know: none, kafka, record_key, record_value",
            );
            KeyMode::None
        }
    }
}

fn mode(source: &Source, key: KeyMode, key_option: &str, findings: &mut Findings) -> &'static str {
    const OPTION: &str = "insert.mode";
    match source.get(OPTION).unwrap_or("insert").to_lowercase().as_str() {
        // A row with the same coordinates is the same record.
        "insert" | "upsert" | "multi" if key == KeyMode::Kafka => "insert_ignore",
        "insert" => "append",
        "multi" if source.connector == Connector::Aiven => "append",
        "upsert" => {
            if key == KeyMode::None {
                findings.refuse(OPTION, format!("`upsert` needs a key: say in `{key_option}` which"));
            }
            "upsert"
        }
        "update" => {
            match key {
                KeyMode::None => {
                    findings.refuse(OPTION, format!("`update` needs a key: say in `{key_option}` which"));
                }
                KeyMode::Kafka => {
                    findings.refuse(OPTION, "`update` finds nothing by the record's place, which comes once");
                }
                KeyMode::RecordKey | KeyMode::RecordValue => {}
            }
            "update"
        }
        _ => {
            findings.refuse(OPTION, "has a value that the connector does not know: insert, upsert, update");
            "append"
        }
    }
}

fn evolve(source: &Source, findings: &mut Findings) -> Option<&'static str> {
    const OPTION: &str = "schema.evolution";
    let evolve = match source.connector {
        Connector::Debezium => match source.get(OPTION).unwrap_or("none").to_lowercase().as_str() {
            "none" => return None,
            "validate-only" => return Some("validate"),
            "basic" => "add_columns",
            _ => {
                findings.refuse(
                    OPTION,
                    "has a value that the connector does not know: none, validate-only, basic",
                );
                return None;
            }
        },
        _ if source.is("auto.evolve", false) => "add_columns",
        _ if source.is("auto.create", false) => "create",
        _ => return None,
    };
    Some(evolve)
}

fn deletes(
    source: &Source,
    key: KeyMode,
    mode: &str,
    key_option: &str,
    findings: &mut Findings,
) -> Option<&'static str> {
    const OPTION: &str = "delete.enabled";
    if source.is(OPTION, false) {
        if key != KeyMode::RecordKey {
            findings.refuse(
                OPTION,
                format!("needs the key from the record's key: `{key_option}` = `record_key`"),
            );
        } else if mode != "upsert" && mode != "update" {
            findings.refuse(
                OPTION,
                "deletes beside `insert.mode` = `insert` are not supported yet: only with `upsert` and `update`",
            );
        }
        return Some("apply");
    }
    match (source.connector, mode) {
        // It steps over them.
        (Connector::Debezium, _) => Some("ignore"),
        // They fail on them.
        (_, "upsert" | "update") => Some("reject"),
        _ => None,
    }
}
