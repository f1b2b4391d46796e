//! `[[test]]`: a record that is written down, and what is to become of it. No server is asked: values are compared as
//! they go to their columns, before these take them.

use super::Pipeline;
use super::cell::{Cell, date, instant};
use super::connect::Buffers;
use super::extract::Raw;
use super::file::{Expected, TestEntry, Unit};
use super::map::{Headers, Input, Mapped, Outcome};
use super::sink::Sink;
use crate::config::is_pattern;
use crate::sink::unquoted;

/// What became of one `[[test]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TestResult {
    /// As the file has it.
    pub name: String,
    /// What is not as it should be; empty: all is.
    pub differences: Vec<String>,
}

impl Headers for std::collections::BTreeMap<String, String> {
    fn last(&self, name: &str) -> Option<&[u8]> {
        self.get(name).map(String::as_bytes)
    }
}

impl Pipeline {
    /// Whether every test says something that can be looked at.
    pub(super) fn check_tests(&self) -> Result<(), String> {
        for test in &self.tests {
            let refused = |what: String| Err(format!("[[test]] {:?}: {what}", test.name));
            if test.rows.is_empty() && test.deletes.is_empty() && test.rejects.is_none() && !test.nothing {
                return refused("it expects nothing: say rows, deletes, rejects = \"words of the reason\", or nothing = true".to_owned());
            }
            for (table, rows) in test.rows.iter().chain(&test.deletes) {
                let Some(sink) = self.sinks.iter().find(|sink| sink.table.name == *table) else {
                    return refused(format!("no sink has a table {table}"));
                };
                if sink.is_unlearned {
                    return refused(format!(
                        "the columns of table {table} are those of a schema in a registry, which is not asked here: list them"
                    ));
                }
                for column in rows.iter().flat_map(|row| row.keys()) {
                    if !sink.columns.iter().any(|known| known.name == *column) {
                        return refused(format!("the sink of table {table} has no column {column}"));
                    }
                }
            }
            let topic = match self.topic_of(test) {
                Ok(topic) => topic,
                Err(what) => return refused(what),
            };
            let rows = test.rows.keys().chain(test.deletes.keys());
            if let Some(table) = rows
                .clone()
                .find(|table| !self.sinks.iter().any(|sink| sink.table.name == **table && sink.takes(&topic)))
            {
                return refused(format!("the records of topic {topic} do not go into table {table}"));
            }
            let said = [rows.count() > 0, test.rejects.is_some(), test.nothing];
            if said.into_iter().filter(|said| *said).count() > 1 {
                return refused(
                    "rows or deletions, a rejection, or nothing: it can expect one of these".to_owned(),
                );
            }
            if test.rejects.as_deref().is_some_and(|words| words.trim().is_empty()) {
                return refused("`rejects` says some words of the reason".to_owned());
            }
        }
        Ok(())
    }

    /// Runs the tests of the file.
    #[must_use]
    pub fn test(&self) -> Vec<TestResult> {
        let run =
            |test: &TestEntry| TestResult { name: test.name.clone(), differences: self.differences(test) };
        self.tests.iter().map(run).collect()
    }

    fn topic_of(&self, test: &TestEntry) -> Result<String, String> {
        match (&test.topic, &*self.topics()) {
            (Some(topic), _) if self.sinks.iter().any(|sink| sink.takes(topic)) => Ok(topic.clone()),
            (Some(topic), _) => Err(format!("no sink takes topic {topic}")),
            (None, [only]) if !is_pattern(only) => Ok(only.clone()),
            (None, _) => Err("say of which topic the record is".to_owned()),
        }
    }

    fn differences(&self, test: &TestEntry) -> Vec<String> {
        let topic = self.topic_of(test).unwrap_or_default();
        let input = Input {
            topic: &topic,
            partition: 0,
            offset: 0,
            timestamp_ms: None,
            key: test.key.as_deref().map(str::as_bytes),
            value: test.value.as_deref().map(str::as_bytes),
            headers: &test.headers,
        };
        let mut differences = Vec::new();
        let mut rejected = None;
        for sink in self.sinks.iter().filter(|sink| sink.takes(&topic)) {
            let table = &sink.table.name;
            let buffers = Buffers::default();
            let (rows, deletes) = match outcome(sink, input, &buffers) {
                Ok(Some((Outcome::Delete, row))) => (None, Some(row)),
                Ok(Some((_, row))) => (Some(row), None),
                Ok(None) => (None, None),
                // Then nothing of the record is applied, whatever the others make of it.
                Err(why) => {
                    rejected = Some(format!("table {table}: {why}"));
                    break;
                }
            };
            let none = Vec::new();
            let (wanted, deleted) =
                (test.rows.get(table).unwrap_or(&none), test.deletes.get(table).unwrap_or(&none));
            compare(&format!("table {table}"), rows.as_ref(), wanted, true, &mut differences);
            compare(
                &format!("deleted from table {table}"),
                deletes.as_ref(),
                deleted,
                sink.table.key.is_some(),
                &mut differences,
            );
        }
        match (&test.rejects, rejected) {
            (Some(words), Some(why)) if why.contains(words.as_str()) => Vec::new(),
            (Some(words), Some(why)) => {
                vec![format!("rejected as it should be, but not for {words:?}: {why}")]
            }
            (Some(_), None) => vec!["it is taken, and should be rejected".to_owned()],
            (None, Some(why)) => vec![format!("it is rejected: {why}")],
            (None, None) => differences,
        }
    }
}

pub(super) type Values<'a> = Vec<(&'a str, Cell<'a>)>;

pub(super) fn outcome<'a>(
    sink: &'a Sink,
    input: Input<'a>,
    buffers: &'a Buffers,
) -> Result<Option<(Outcome, Values<'a>)>, String> {
    let mapped = Mapped::new(sink, input, buffers)?;
    let names = || sink.columns.iter().map(|column| column.name.as_str()).enumerate();
    Ok(match mapped.outcome {
        Outcome::Nothing => None,
        Outcome::Row => {
            let row =
                names().map(|(at, name)| Ok((name, mapped.cell(at)?))).collect::<Result<_, String>>()?;
            Some((Outcome::Row, row))
        }
        Outcome::Delete => {
            // Which columns are the key may be known to the server alone: those that can be said, then.
            let key = sink.table.key.as_ref();
            let of_key = |name: &str| key.is_none_or(|key| key.iter().any(|column| column == name));
            let alone = key.is_none_or(|key| key.len() == 1);
            let is_version = |name: &str| sink.table.version.as_deref() == Some(name);
            let mut row = Values::new();
            for (at, name) in names().filter(|(_, name)| of_key(name) || is_version(name)) {
                let is_said = key.is_some() || is_version(name);
                let cell = if is_version(name) { mapped.version(at) } else { mapped.key_cell(at, alone) };
                match cell {
                    Err(what) if is_said => return Err(what),
                    cell => row.extend(cell.ok().map(|cell| (name, cell))),
                }
            }
            Some((Outcome::Delete, row))
        }
    })
}

/// `whole`: what is not wanted is to be NULL.
fn compare(
    what: &str,
    row: Option<&Values<'_>>,
    wanted: &[Expected],
    whole: bool,
    differences: &mut Vec<String>,
) {
    match (row, wanted) {
        (None, []) => {}
        (Some(_), []) => differences.push(format!("{what}: a row that is not expected")),
        (None, _) => differences.push(format!("{what}: no row")),
        (Some(row), [wanted]) => {
            for name in wanted.keys().filter(|name| !row.iter().any(|(known, _)| known == name)) {
                differences.push(format!("{what}, column {name}: the key does not say it"));
            }
            for (name, cell) in row {
                match (wanted.get(*name), cell.is_null()) {
                    (None, true) => {}
                    (None, _) if !whole => {}
                    (None, false) => {
                        differences.push(format!("{what}, column {name}: {} instead of NULL", shown(cell)))
                    }
                    (Some(value), _) if is_same(cell, value) => {}
                    (Some(value), _) => {
                        differences
                            .push(format!("{what}, column {name}: {} instead of {value}", shown(cell)));
                    }
                }
            }
        }
        (Some(_), more) => differences.push(format!("{what}: one row instead of {}", more.len())),
    }
}

pub(super) fn shown(cell: &Cell<'_>) -> String {
    match cell {
        Cell::Null => "NULL".to_owned(),
        Cell::Json(raw, Some(Unit::Days)) => {
            date(raw.get()).ok().flatten().map_or_else(|| raw.get().to_owned(), |date| date.to_string())
        }
        Cell::Json(raw, Some(unit)) => {
            timestamp(*raw, *unit).map_or_else(|| raw.get().to_owned(), |at| at.to_string())
        }
        Cell::Json(raw, None) | Cell::OfEvent(raw) | Cell::OfSchema(raw, _) => raw.get().to_owned(),
        Cell::Text(text) => format!("{text:?}"),
        Cell::Bytes(bytes) => hex(bytes),
        Cell::Number(number) | Cell::Instant(number) => number.to_string(),
        Cell::Object(text) => text.clone(),
        Cell::Keep => "kept".to_owned(),
        Cell::There => "false".to_owned(),
        Cell::Gone(_) => "true".to_owned(),
    }
}

fn is_same(cell: &Cell<'_>, value: &toml::Value) -> bool {
    match (cell, value) {
        (Cell::Json(raw, Some(Unit::Days)), toml::Value::String(_) | toml::Value::Datetime(_)) => {
            let wanted = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            date(raw.get()).ok().flatten().is_some_and(|date| date.to_string() == wanted)
        }
        (Cell::Json(raw, Some(unit)), toml::Value::String(_) | toml::Value::Datetime(_)) => {
            let wanted = match value {
                toml::Value::Datetime(at) => at.to_string().parse(),
                other => other.as_str().unwrap_or_default().parse(),
            };
            matches!((timestamp(*raw, *unit), wanted), (Some(at), Ok(wanted)) if at == wanted)
        }
        (Cell::OfSchema(raw, _), toml::Value::Datetime(wanted)) => unquoted(raw.get())
            .is_ok_and(|text| text.parse::<toml::value::Datetime>().is_ok_and(|at| at == *wanted)),
        (Cell::Json(raw, _) | Cell::OfEvent(raw) | Cell::OfSchema(raw, _), toml::Value::String(text)) => {
            match serde_json::from_str::<String>(raw.get()) {
                Ok(string) => string == *text,
                // As it stands, with every digit.
                Err(_) => raw.get() == text,
            }
        }
        (Cell::Json(raw, _) | Cell::OfEvent(raw) | Cell::OfSchema(raw, _), value) => {
            is_json(raw.get(), value)
        }
        (Cell::Text(text), toml::Value::String(wanted)) => text == wanted,
        (Cell::Bytes(bytes), toml::Value::String(wanted)) => {
            *bytes == wanted.as_bytes() || hex(bytes) == *wanted
        }
        (Cell::Number(number) | Cell::Instant(number), toml::Value::Integer(wanted)) => number == wanted,
        (Cell::Object(text), value) => is_json(text, value),
        (Cell::There, toml::Value::Boolean(wanted)) => !wanted,
        (Cell::Gone(_), toml::Value::Boolean(wanted)) => *wanted,
        (Cell::Keep, toml::Value::Table(wanted)) => {
            wanted.len() == 1 && wanted.get("keep") == Some(&toml::Value::Boolean(true))
        }
        _ => false,
    }
}

fn is_json(text: &str, wanted: &toml::Value) -> bool {
    let Ok(value) = serde_json::from_str::<serde_json::Value>(text) else { return false };
    match (&value, wanted) {
        (serde_json::Value::Number(number), toml::Value::Integer(wanted)) => number.as_i64() == Some(*wanted),
        (serde_json::Value::Number(number), toml::Value::Float(wanted)) => number.as_f64() == Some(*wanted),
        // An object or an array may be written as JSON.
        (_, toml::Value::String(json)) => {
            serde_json::from_str::<serde_json::Value>(json).is_ok_and(|json| json == value)
        }
        _ => serde_json::to_value(wanted).is_ok_and(|wanted| wanted == value),
    }
}

fn timestamp(raw: Raw<'_>, unit: Unit) -> Option<jiff::Timestamp> {
    instant(raw.get(), unit).ok().flatten().and_then(|at| at.try_into().ok())
}

/// As Postgres prints it.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("\\x".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}
