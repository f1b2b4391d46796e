//! The file's text.

use std::fmt::Write as _;

use super::InferOptions;
use super::names::{quoted, snake_case, unique};
use super::schemas::{Known, format};
use super::survey::{Around, Field, Shape, Survey};
use crate::pipeline::import::text;
use crate::pipeline::path::{Path, Root, Step};
use crate::pipeline::shape;

/// Where a record has come from: by these a move back takes rows with it.
const PROVENANCE: [(&str, &str, &str); 2] =
    [("partition", "source_partition", "integer"), ("offset", "source_offset", "bigint")];

/// A column, and where its values are.
struct Column<'a> {
    name: String,
    sql_type: String,
    /// By the schemas, and in all records.
    not_null: bool,
    path: String,
    field: Option<&'a Field>,
    remarks: Vec<String>,
}

/// All that goes into the file.
pub(super) struct Draft<'a> {
    brokers: &'a [String],
    topic: &'a str,
    table: &'a str,
    survey: &'a Survey,
    known: &'a Known,
    /// Of the schemas.
    fields: &'a [shape::Field],
    options: &'a InferOptions,
    value: &'static str,
    columns: Vec<Column<'a>>,
    /// Columns of the table's key: of events whose keys say it.
    key: Vec<String>,
    /// Names of `provenance`.
    sources: Vec<String>,
    left_out: usize,
}

impl<'a> Draft<'a> {
    pub(super) fn new(
        brokers: &'a [String],
        options: &'a InferOptions,
        table: &'a str,
        survey: &'a Survey,
        known: &'a Known,
        fields: &'a [shape::Field],
    ) -> Self {
        let mut taken = Vec::new();
        let sources = PROVENANCE.iter().map(|(_, column, _)| unique(column, &mut taken)).collect();
        let mut draft = Self {
            brokers,
            topic: &options.topic,
            table,
            survey,
            known,
            fields,
            options,
            value: known.value.map_or("json", format),
            columns: Vec::new(),
            key: Vec::new(),
            sources,
            left_out: 0,
        };
        draft.add_columns(&mut taken);
        if survey.around == Around::Event {
            let column = |name: &String| draft.columns.iter().find(|column| column.is_of(name));
            let key: Option<Vec<String>> =
                survey.key_fields.iter().map(|name| column(name).map(|column| column.name.clone())).collect();
            draft.key = key.unwrap_or_default();
        }
        draft
    }

    fn add_columns(&mut self, taken: &mut Vec<String>) {
        let survey = self.survey;
        let (shape, _) = survey.values.most();
        let whole = match shape {
            Shape::Objects if !survey.fields.is_empty() => None,
            Shape::Objects | Shape::Json => Some(("json", "jsonb")),
            Shape::Text => Some(("string", "text")),
            Shape::Bytes => Some(("bytes", "bytea")),
        };
        if let Some((value, sql_type)) = whole {
            self.value = self.known.value.map_or(value, format);
            let (name, path) = (unique("record_value", taken), "value".to_owned());
            let (sql_type, remarks) = (sql_type.to_owned(), Vec::new());
            self.columns.push(Column { name, sql_type, not_null: false, path, field: None, remarks });
            return;
        }
        let of_events = survey.around == Around::Event;
        for field in &survey.fields {
            let mut steps = vec![Step::Field(field.name.clone())];
            if survey.around == Around::Payload {
                steps.insert(0, Step::Field("payload".to_owned()));
            }
            let path = Path { root: Root::Value, steps };
            // A name that a path cannot say.
            if path.to_string().parse::<Path>().as_ref() != Ok(&path) {
                self.left_out += 1;
                continue;
            }
            let name = unique(&snake_case(&field.name), taken);
            let kinds = &field.kinds;
            let mut remarks = vec![format!("in {} of {}", kinds.values(), survey.rows)];
            let typed = self.fields.iter().find(|known| known.name == field.name);
            remarks.extend(kinds.remark().filter(|_| typed.is_none()).map(str::to_owned));
            if kinds.nuls > 0 {
                remarks.push("with U+0000, which is rejected: see `nul`".to_owned());
            }
            let sql_type =
                typed.map_or_else(|| kinds.sql_type(of_events).to_owned(), |typed| typed.sql_type.clone());
            let not_null = typed.is_some_and(|typed| typed.not_null) && kinds.values() == survey.rows;
            let path = path.to_string();
            self.columns.push(Column { name, sql_type, not_null, path, field: Some(field), remarks });
        }
    }

    pub(super) fn text(&self) -> String {
        let mut file = String::new();
        self.head(&mut file);
        self.table(&mut file);
        self.settings(&mut file);
        self.sink(&mut file);
        file
    }

    fn head(&self, file: &mut String) {
        // Writing to a string can't fail.
        let _ = writeln!(
            file,
            "# Made by `highwater infer` from {} records of topic {}. {}:\n\
             # look them over, make the table, try both with `highwater run --plan`.",
            self.survey.records,
            text(self.topic),
            if self.fields.is_empty() {
                "Types and names are guessed from these"
            } else {
                "Types and names are those of their schemas"
            }
        );
        let (_, others) = self.survey.values.most();
        if others > 0 {
            let _ = writeln!(
                file,
                "#\n# {others} of {} values are no JSON objects: they are rejected (docs/dead-letters.md, `on_bad_record`).",
                self.survey.values.there()
            );
        }
        if self.survey.values.framed > 0 {
            let _ = writeln!(
                file,
                "#\n# {} values begin as those that refer to a schema registry do: with --registry URL it is asked for their fields.",
                self.survey.values.framed
            );
        }
        if self.left_out > 0 {
            let _ =
                writeln!(file, "#\n# {} fields are left out: no path can say their names.", self.left_out);
        }
    }

    fn table(&self, file: &mut String) {
        let _ = writeln!(file, "#\n# CREATE TABLE {} (", self.table);
        let mut lines: Vec<(String, String)> = Vec::new();
        for column in &self.columns {
            let not_null = if column.not_null { " NOT NULL" } else { "" };
            let definition = format!("{} {}{not_null}", quoted(&column.name), column.sql_type);
            lines.push((definition, column.remarks.join("; ")));
        }
        for (column, (_, _, sql_type)) in self.sources.iter().zip(PROVENANCE) {
            lines.push((format!("{column} {sql_type} NOT NULL"), String::new()));
        }
        if !self.key.is_empty() {
            let key: Vec<String> = self.key.iter().map(|name| quoted(name)).collect();
            lines.push((format!("PRIMARY KEY ({})", key.join(", ")), String::new()));
        }
        let last = lines.len().saturating_sub(1);
        for (at, (definition, remark)) in lines.iter().enumerate() {
            let comma = if at == last { "" } else { "," };
            let remark = if remark.is_empty() { String::new() } else { format!(" -- {remark}") };
            let _ = writeln!(file, "#   {definition}{comma}{remark}");
        }
        file.push_str("# );\n\n");
    }

    fn settings(&self, file: &mut String) {
        let brokers: Vec<String> = self.brokers.iter().map(|broker| text(broker)).collect();
        let group = format!("{}-v1", snake_case(self.table).replace('_', "-"));
        let _ = writeln!(
            file,
            "# TLS and SASL as docs/security.md says, here or in the environment.\n\
             brokers = [{}]\n\
             # Or HIGHWATER_POSTGRES_URL, which goes before this.\n\
             postgres_url = \"postgres://user@host:5432/database\"\n\
             group = {}\n\
             # All that Kafka holds; \"latest\": only what comes from now on.\n\
             start = \"earliest\"\n",
            brokers.join(", "),
            text(&group)
        );
        if let Some(registry) = &self.options.registry {
            let _ = writeln!(file, "{}\n", registry.written(&|value| text(value)));
        }
    }

    fn sink(&self, file: &mut String) {
        let survey = self.survey;
        let _ = writeln!(file, "[[sink]]\ntopic = {}\ntable = {}", text(self.topic), text(self.table));
        if self.value != "json" {
            let _ = writeln!(file, "value = \"{}\"", self.value);
        }
        if survey.around == Around::Event {
            file.push_str("envelope = \"debezium\"\n");
        }
        let key_format = self.key_format();
        if let Some(format) = key_format {
            let _ = writeln!(file, "key_format = \"{format}\"");
        }
        if !self.key.is_empty() {
            let key: Vec<String> = self.key.iter().map(|name| text(name)).collect();
            let _ = writeln!(file, "mode = \"upsert\"\nkey = [{}]", key.join(", "));
        } else if survey.tombstones + survey.deletions > 0 {
            self.deletions(file, key_format);
        }
        for column in &self.columns {
            let (name, path) = (&column.name, text(&column.path));
            if let Some(unit) = column.field.and_then(|field| field.kinds.unit(&field.name)) {
                let _ = writeln!(
                    file,
                    "# Integers as large as instants in {unit} since 1970. If they are, make the column timestamptz, and take:\n\
                     # columns.{name} = {{ from = {path}, unit = \"{unit}\" }}"
                );
            }
            let _ = writeln!(file, "columns.{name} = {path}");
        }
        let sources: Vec<String> = self
            .sources
            .iter()
            .zip(PROVENANCE)
            .map(|(column, (source, _, _))| format!("{source} = {}", text(column)))
            .collect();
        let _ = writeln!(file, "provenance = {{ {} }}", sources.join(", "));
        if self.columns.iter().any(|column| column.field.is_some()) {
            file.push_str("# Fields that come later, in a jsonb column:\n# rest = \"rest\"\n");
        }
        if let (Some(_), Around::Nothing | Around::Payload) = (key_format, survey.around) {
            self.key_columns(file);
        }
    }

    fn key_format(&self) -> Option<&'static str> {
        let keys = &self.survey.keys;
        if let Some(kind) = self.known.key {
            return Some(format(kind));
        }
        (keys.there() > 0).then(|| match keys.most() {
            (Shape::Objects, 0) => "json",
            (Shape::Bytes, _) => "bytes",
            _ => "string",
        })
    }

    /// Records without a value would be rejected.
    fn deletions(&self, file: &mut String, key_format: Option<&str>) {
        let Survey { tombstones, deletions, .. } = self.survey;
        let _ = writeln!(
            file,
            "# {tombstones} records have no value (tombstones), {deletions} tell of a deletion. They are stepped over; if they\n\
             # delete the row of their key, give the table a primary key, and take instead of `deletes`:"
        );
        match key_format {
            Some(format) if format != "bytes" => file.push_str("# mode = \"upsert\"\n"),
            _ => file.push_str("# mode = \"upsert\" (it needs records with keys)\n"),
        }
        file.push_str("deletes = \"ignore\"\n");
    }

    /// A key may say what the value does not.
    fn key_columns(&self, file: &mut String) {
        let survey = self.survey;
        file.push_str("# What the keys are, if it is wanted in columns of its own:\n");
        if survey.key_fields.is_empty() || matches!(self.key_format(), None | Some("string" | "bytes")) {
            file.push_str("# columns.record_key = \"key\"\n");
            return;
        }
        for name in &survey.key_fields {
            let mut steps = vec![Step::Field(name.clone())];
            if survey.key_payload {
                steps.insert(0, Step::Field("payload".to_owned()));
            }
            let path = Path { root: Root::Key, steps };
            if path.to_string().parse::<Path>().as_ref() == Ok(&path) {
                let path = text(&path.to_string());
                let _ = writeln!(file, "# columns.key_{} = {path}", snake_case(name));
            }
        }
    }
}

impl Column<'_> {
    fn is_of(&self, field: &str) -> bool {
        self.field.is_some_and(|known| known.name == field)
    }
}

/// A `[[test]]` of a record and its row.
pub(super) fn test(table: &str, key: Option<&str>, value: &str, expected: &[(&str, String)]) -> String {
    let mut file = String::from("\n[[test]]\nname = \"a record of the topic\"\n");
    if let Some(key) = key {
        let _ = writeln!(file, "key = {}", text(key));
    }
    let _ = writeln!(file, "value = {}", text(value));
    let row: Vec<String> = expected.iter().map(|(name, value)| format!("{name} = {}", text(value))).collect();
    let table = if table.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        table.to_owned()
    } else {
        text(table)
    };
    let _ = writeln!(file, "rows.{table} = [{{ {} }}]", row.join(", "));
    file
}
