//! Which topics go into which table.

use super::connector::{Connector, Source, is_reference, split};
use super::findings::Findings;
use crate::config::TopicPattern;
use crate::pipeline::named::identifier;

/// Topics and their table.
#[derive(Debug, Default)]
pub(super) struct Target {
    /// As `topic` has them.
    pub(super) topics: Vec<String>,
    /// As SQL reads it.
    pub(super) table: String,
    /// Its schema was not named.
    pub(super) schema_assumed: bool,
    /// Names are folded to lower case, as the server did it with names that were not quoted.
    pub(super) folds: bool,
}

impl Target {
    pub(super) fn of(source: &Source, schema: Option<&str>, findings: &mut Findings) -> Self {
        let folds = folds(source);
        let topics = topics(source, findings);
        let Some(name) = table(source, &topics, findings) else {
            return Self { topics, folds, ..Self::default() };
        };
        let mut parts = parts(&name, folds);
        if parts.is_empty() || parts.len() > 3 || parts.iter().any(String::is_empty) {
            findings.refuse(format_option(source).0, "makes no name of a table: write schema.table");
        }
        let schema_assumed = parts.len() == 1;
        if schema_assumed {
            parts.insert(0, schema.unwrap_or("public").to_owned());
        }
        // The database is that of the address.
        let from = parts.len().saturating_sub(2);
        let table = parts[from..].iter().map(|part| identifier(part)).collect::<Vec<_>>().join(".");
        Self { topics, table, schema_assumed: schema_assumed && schema.is_none(), folds }
    }
}

/// Whether the connector leaves names to the server, which reads them in lower case.
fn folds(source: &Source) -> bool {
    match source.connector {
        Connector::Confluent => {
            source.get("quote.sql.identifiers").is_some_and(|when| when.eq_ignore_ascii_case("never"))
        }
        Connector::Aiven => !source.is("sql.quote.identifiers", true),
        Connector::Debezium => !source.is("quote.identifiers", false),
    }
}

fn topics(source: &Source, findings: &mut Findings) -> Vec<String> {
    let names = source.list("topics");
    let Some(regex) = source.get("topics.regex") else {
        if names.is_empty() {
            findings.refuse("topics", "is missing, and so is `topics.regex`: nothing would be read");
        }
        return names;
    };
    if !names.is_empty() {
        findings.refuse("topics.regex", "is given beside `topics`, which Connect does not allow: remove one");
    }
    // Java's must fit the whole name.
    let body = regex.strip_prefix('^').unwrap_or(regex);
    let body = body.strip_suffix('$').unwrap_or(body);
    let pattern = if body.contains('|') { format!("^({body})$") } else { format!("^{body}$") };
    if let Err(why) = TopicPattern::new(&pattern) {
        findings.refuse("topics.regex", why);
    }
    vec![pattern]
}

/// The option that names the table, and what holds without it.
fn format_option(source: &Source) -> (&'static str, String) {
    let option = match source.connector {
        Connector::Debezium if source.get("table.name.format").is_none() => "collection.name.format",
        _ => "table.name.format",
    };
    (option, source.get(option).unwrap_or("${topic}").to_owned())
}

fn table(source: &Source, topics: &[String], findings: &mut Findings) -> Option<String> {
    if let Some(mapping) = source.get("topics.to.tables.mapping") {
        return mapped(mapping, topics, findings);
    }
    let (option, format) = format_option(source);
    if is_reference(&format) {
        findings.refuse(
            option,
            "names the table by more than `${topic}`: not supported yet; write the table's name",
        );
        return None;
    }
    let mut name = format.clone();
    if format.contains("${topic}") {
        let [topic] = topics else {
            findings.refuse(
                option,
                "names a table for each topic (`${topic}`, which is also the default), and several are read: not \
                 supported yet; import once for each topic, with `topics` and the table's name, and put the [[sink]] \
                 parts into one file",
            );
            return None;
        };
        if topic.starts_with('^') {
            findings.refuse(
                option,
                "names a table for each topic (`${topic}`, which is also the default) that `topics.regex` matches: not \
                 supported yet; import once for each topic, with `topics` and the table's name",
            );
            return None;
        }
        // Debezium's own naming strategy.
        let topic =
            if source.connector == Connector::Debezium { topic.replace('.', "_") } else { topic.clone() };
        name = format.replace("${topic}", &topic);
    }
    if source.is("table.name.normalize", false) {
        name = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    }
    Some(name)
}

/// Aiven's list of `topic:table`.
fn mapped(mapping: &str, topics: &[String], findings: &mut Findings) -> Option<String> {
    const OPTION: &str = "topics.to.tables.mapping";
    let pairs: Vec<(String, String)> = split(mapping)
        .iter()
        .filter_map(|pair| pair.split_once(':'))
        .map(|(topic, table)| (topic.trim().to_owned(), table.trim().to_owned()))
        .collect();
    let mut tables: Vec<&str> = Vec::new();
    for topic in topics {
        match pairs.iter().find(|(mapped, _)| mapped == topic) {
            Some((_, table)) => tables.push(table),
            None => {
                findings.refuse(
                    OPTION,
                    format!("has no table for the topic {topic}: add it, or leave the topic out"),
                );
                return None;
            }
        }
    }
    tables.dedup();
    match tables.as_slice() {
        [table] => Some((*table).to_owned()),
        _ => {
            findings.refuse(
                OPTION,
                "sends topics into several tables: not supported yet; import once for each table, with its topics, and \
                 put the [[sink]] parts into one file",
            );
            None
        }
    }
}

/// `schema."Table"` as its parts, as the connectors read it.
fn parts(name: &str, folds: bool) -> Vec<String> {
    let (mut parts, mut part, mut quoted, mut was_quoted) = (Vec::new(), String::new(), false, false);
    let finish = |part: &mut String, was_quoted: &mut bool| {
        let text = std::mem::take(part);
        let folded = folds && !std::mem::take(was_quoted);
        if folded { text.to_lowercase() } else { text }
    };
    for c in name.chars() {
        match c {
            '"' => (quoted, was_quoted) = (!quoted, true),
            '.' if !quoted => parts.push(finish(&mut part, &mut was_quoted)),
            other => part.push(other),
        }
    }
    parts.push(finish(&mut part, &mut was_quoted));
    parts
}
