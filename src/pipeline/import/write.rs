//! The file's text.

use std::fmt::Write as _;

use super::address::Address;
use super::connector::{Connector, Source};
use super::consumer::Overrides;
use super::registry::{Registry, Shown};
use super::rows::{Column, Listed, Rows};
use super::target::Target;
use crate::pipeline::named::identifier;

/// All that goes into the file.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) source: &'a Source,
    pub(super) address: &'a Address,
    pub(super) overrides: &'a Overrides,
    pub(super) registry: Option<&'a Registry>,
    pub(super) target: &'a Target,
    pub(super) rows: &'a Rows,
    /// What is between the names of objects and their fields.
    pub(super) flatten: Option<&'a str>,
}

/// Pages are read on terminals, too.
const WIDTH: usize = 100;

impl Draft<'_> {
    pub(super) fn text(&self) -> String {
        let mut file = String::new();
        self.head(&mut file);
        self.settings(&mut file);
        self.sink(&mut file);
        file
    }

    fn head(&self, file: &mut String) {
        let (name, owner) = (&self.source.name, self.source.connector.name());
        comment(
            file,
            &format!(
                "Made by `highwater import-connect` from {owner}'s JDBC sink connector {name:?}. Read \
                      docs/from-connect.md, and check this file with `highwater run --check` before you start it."
            ),
        );
        file.push_str("#\n");
        let again = "The connector wrote each record at least once: what it had written and not yet committed when a \
                     task failed or moved, it wrote again.";
        let doubled = match self.rows.mode {
            "append" => {
                "These rows may be there twice, and the table does not show it by itself. Highwater writes each \
                         record once from here on, and leaves older rows as they are."
            }
            _ => {
                "The table's key has kept such rows single, if there is a unique index on it. This shows whether there \
                  are others."
            }
        };
        comment(file, &format!("{again} {doubled} With the connector stopped:"));
        file.push_str("#\n");
        let key = self.grouped().replace(char::is_control, " ");
        let _ = writeln!(
            file,
            "#   SELECT {key}, count(*) FROM {}",
            self.target.table.replace(char::is_control, " ")
        );
        let _ = writeln!(file, "#   GROUP BY {key} HAVING count(*) > 1 ORDER BY count(*) DESC LIMIT 100;\n");
    }

    /// What a row is told by, as far as it is known.
    fn grouped(&self) -> String {
        let names: Vec<String> = if self.rows.key.is_empty() {
            let known = self.rows.columns.iter().filter(|_| self.rows.listed == Listed::All);
            known.map(|column| identifier(&column.name)).collect()
        } else {
            self.rows.key.iter().map(|name| identifier(name)).collect()
        };
        if names.is_empty() { "KEY_COLUMNS".to_owned() } else { names.join(", ") }
    }

    fn settings(&self, file: &mut String) {
        let given = |name: &str| self.overrides.settings.iter().any(|(setting, _)| *setting == name);
        if !given("brokers") {
            comment(
                file,
                "The brokers are the Connect worker's (bootstrap.servers). Here, or in HIGHWATER_BROKERS:",
            );
            file.push_str("# brokers = [\"kafka-1:9092\", \"kafka-2:9092\"]\n");
        }
        for (setting, value) in &self.overrides.settings {
            let _ = writeln!(file, "{setting} = {value}");
        }
        comment(file, "The connector's consumer group, and where it has stopped.");
        let group = self.overrides.group.clone().unwrap_or_else(|| format!("connect-{}", self.source.name));
        let _ = writeln!(file, "group = {}", text(&group));
        file.push_str("start = \"adopt-kafka\"\n\n");
        match &self.address.url {
            Some(url) => {
                comment(
                    file,
                    "Without the password, which is never copied: name a file that holds it, or leave postgres_url out \
                     and give the whole address in HIGHWATER_POSTGRES_URL.",
                );
                let _ = writeln!(file, "postgres_url = {}", text(url));
                file.push_str("# postgres_password_file = \"/etc/highwater/postgres-password\"\n");
            }
            None => {
                comment(
                    file,
                    "The address is not in the connector's configuration: give it in HIGHWATER_POSTGRES_URL.",
                );
                file.push_str("# postgres_url = \"postgres://user@host:5432/database\"\n");
            }
        }
        if let Some(registry) = self.registry {
            schemas(file, registry);
        }
        if !self.overrides.kafka.is_empty() {
            file.push_str("\n[kafka]\n");
            for (property, value) in &self.overrides.kafka {
                let _ = writeln!(file, "{} = {value}", text(property));
            }
        }
    }

    fn sink(&self, file: &mut String) {
        file.push_str("\n[[sink]]\n");
        match self.target.topics.as_slice() {
            [one] => {
                let _ = writeln!(file, "topic = {}", text(one));
            }
            several => {
                let _ = writeln!(file, "topic = {}", list(several));
            }
        }
        let rows = self.rows;
        if let Some(format) = rows.key_format {
            let _ = writeln!(file, "key_format = \"{}\"", format.name);
        }
        let _ = writeln!(file, "value = \"{}\"", rows.value.name);
        if rows.unwrapped {
            file.push_str("envelope = \"debezium\"\n");
        } else if rows.in_envelope {
            file.push_str("envelope = \"connect_json\"\n");
        }
        if self.target.schema_assumed {
            comment(
                file,
                "The connector names no schema: it is public, unless the role's search_path says otherwise.",
            );
        }
        let _ = writeln!(file, "table = {}", text(&self.target.table));
        self.mode(file);
        self.columns(file);
        if let Some(separator) = self.flatten {
            let _ = writeln!(file, "flatten = {}", text(separator));
        }
        if let Some([topic, partition, offset]) = &rows.provenance {
            let _ = writeln!(
                file,
                "provenance = {{ topic = {}, partition = {}, offset = {} }}",
                text(topic),
                text(partition),
                text(offset)
            );
        }
        if let Some(deletes) = rows.deletes {
            let _ = writeln!(file, "deletes = \"{deletes}\"");
        }
        if let Some(evolve) = rows.evolve {
            if evolve == "validate" && rows.listed == Listed::BySchema && self.target.folds {
                comment(
                    file,
                    "The connector wrote names in lower case, and here they are the fields' own. If the columns are named so, \
                     \"add_columns\" makes those of new fields; where they are not, it would make them beside the old ones.",
                );
            }
            if evolve != "validate" {
                let made = match rows.listed {
                    Listed::BySchema => {
                        "What is missing is made at the start, with the types that the values' schema has."
                    }
                    _ if rows.typed => {
                        "What is missing is made at the start, with the types that the values' schema has, or with this: \
                         columns.a = { from = \"value.a\", type = \"text\" }."
                    }
                    _ => {
                        "What is missing is made at the start, by these types: columns.a = { from = \"value.a\", type = \
                         \"text\" }. Of a column that is there none is needed."
                    }
                };
                comment(file, made);
            }
            let _ = writeln!(file, "evolve = \"{evolve}\"");
        }
        if rows.on_bad_record == "dead_letter" {
            comment(
                file,
                "errors.tolerance = all: nothing is dropped, each bad record is kept in dead_letter.",
            );
        }
        let _ = writeln!(file, "on_bad_record = \"{}\"", rows.on_bad_record);
    }

    fn mode(&self, file: &mut String) {
        let rows = self.rows;
        match rows.mode {
            "insert_ignore" => comment(
                file,
                "A row with the same coordinates is the same record: what the connector had written and not yet \
                 committed is stepped over.",
            ),
            "append" if !rows.key.is_empty() => comment(
                file,
                "If the connector was killed, it may have written more than it has committed: begin with mode = \
                 \"insert_ignore\" then.",
            ),
            _ => {}
        }
        let _ = writeln!(file, "mode = \"{}\"", rows.mode);
        if matches!(rows.mode, "upsert" | "update") {
            if rows.key.is_empty() {
                comment(file, "The table's primary key; or name its columns:");
                file.push_str("# key = [\"id\"]\n");
            } else {
                let _ = writeln!(file, "key = {}", list(&rows.key));
            }
        }
    }

    fn columns(&self, file: &mut String) {
        let rows = self.rows;
        if rows.key_format.is_some_and(|format| format.payload) {
            comment(
                file,
                "Keys are in Connect's envelope, {\"schema\": …, \"payload\": …}, and values are not: the keys' schemas are \
                 not read then.",
            );
        }
        if self.source.connector == Connector::Debezium && !rows.unwrapped {
            comment(
                file,
                "This is for flat records; another one is rejected. If the topic has Debezium's change events (before, \
                 after, op), take this instead of another envelope; paths are those of the row then, too:",
            );
            file.push_str("# envelope = \"debezium\"\n");
        }
        if rows.listed == Listed::BySchema {
            comment(
                file,
                "All fields are columns, as the connector writes them: those of the latest schema of TOPIC-value when a \
                 process starts. Or list some: columns = [\"a\", \"b\"]",
            );
            if rows.from_key {
                comment(
                    file,
                    "The key's columns are fields of the value, too; if not, list all: columns.id = \"key.id\"",
                );
            }
            return;
        }
        let complete = rows.listed == Listed::All;
        if !complete {
            comment(
                file,
                "The connector writes all fields, by the records' schemas. Here the columns are listed, and this file \
                 is refused until they are: take the # away, and add what is missing.",
            );
        }
        let mark = if complete { "" } else { "# " };
        let plain =
            |column: &Column| column.unit.is_none() && column.path == format!("value.{}", column.name);
        if complete && rows.columns.iter().all(plain) {
            let names: Vec<String> = rows.columns.iter().map(|column| column.name.clone()).collect();
            let _ = writeln!(file, "columns = {}", list(&names));
        } else {
            for column in &rows.columns {
                let (name, path) = (key(&column.name), text(&column.path));
                let _ = match column.unit {
                    Some(unit) => {
                        writeln!(file, "{mark}columns.{name} = {{ from = {path}, unit = \"{unit}\" }}")
                    }
                    None => writeln!(file, "{mark}columns.{name} = {path}"),
                };
            }
        }
        if !complete {
            file.push_str("# columns.COLUMN = \"value.FIELD\"\n");
        }
        if rows.value.name == "json" {
            comment(
                file,
                "A record without one of these fields is rejected, so that a wrong path shows at once; \"null\" writes NULL.",
            );
            file.push_str("missing = \"reject\"\n");
        }
    }
}

fn schemas(file: &mut String, registry: &Registry) {
    file.push('\n');
    comment(
        file,
        "Where the records' schemas are. `registry.ca` names an authority that the machine does not trust by itself.",
    );
    let _ = match registry.urls.as_slice() {
        [one] => writeln!(file, "registry.url = {}", text(one)),
        several => writeln!(file, "registry.url = {}", list(several)),
    };
    match &registry.shown {
        Shown::Nothing => {}
        Shown::Password(user) => {
            let _ = writeln!(file, "registry.user = {}", text(user));
            comment(
                file,
                "The password is never copied: put it there, or take { env = \"…\" } or { command = \"…\" }.",
            );
            file.push_str("registry.password = { file = \"/etc/highwater/registry-password\" }\n");
        }
        Shown::Token => {
            comment(
                file,
                "The token is never copied: put it there, or take { env = \"…\" } or { command = \"…\" }.",
            );
            file.push_str("registry.token = { file = \"/etc/highwater/registry-token\" }\n");
        }
    }
}

/// A comment, broken into lines.
fn comment(file: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split(' ') {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            let _ = writeln!(file, "{line}");
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(file, "{line}");
}

/// A text in TOML, on one line, so that it may stand in a comment.
pub(in crate::pipeline) fn text(text: &str) -> String {
    if text.contains(char::is_control) {
        return serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f");
    }
    toml::Value::from(text).to_string()
}

/// A list of texts in TOML.
pub(super) fn list(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|one| text(one)).collect();
    format!("[{}]", texts.join(", "))
}

/// A key in TOML.
fn key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(bare) { name.to_owned() } else { text(name) }
}
