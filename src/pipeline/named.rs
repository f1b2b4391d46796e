//! Tables that are named by the records' topic: `table = "shop.{topic[2]}"`. Each table is a sink of its own; which ones
//! there are, the topics say that are listed, or that Kafka has when the process starts, or whose records come later.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::file::{Names, SinkEntry};
use crate::config::{TopicPattern, check_topics, is_pattern};
use crate::consumer::Catalog;
use crate::due::Trouble;

/// Postgres cuts what is longer, and two names would mean one table.
const LONGEST_NAME: usize = 63;
/// Between two questions to a Kafka that is away.
const AGAIN: Duration = Duration::from_secs(1);

/// A name in SQL: quoted unless that changes nothing.
pub(super) fn identifier(name: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !name.is_empty() && name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit()) {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

/// How a table's name is made of a topic's. Its schema is written out: data chooses among the tables of one, and no others.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Naming {
    /// As SQL reads it.
    schema: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Topic,
    /// Between its dots, from 0.
    Part(usize),
}

impl Naming {
    fn parse(table: &str) -> Result<Self, String> {
        let wrong = || {
            "a `table` that is named by the topic is schema.{topic[n]}: a schema that is written out, then letters, digits, `_` \
             and `-` as they are, and {topic} or {topic[n]}, which is the topic's n-th part between its dots, from 0"
                .to_owned()
        };
        let (schema, mut rest) = match table.strip_prefix('"') {
            Some(quoted) => quoted.split_once("\".").map(|(schema, rest)| (format!("\"{schema}\""), rest)),
            None => table.split_once('.').map(|(schema, rest)| (schema.to_owned(), rest)),
        }
        .ok_or_else(wrong)?;
        let is_plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        let inner = schema.trim_matches('"');
        let starts_well =
            schema.starts_with('"') || !inner.starts_with(|c: char| c.is_ascii_digit() || c == '-');
        if inner.is_empty() || !is_plain(inner) || !starts_well || (inner == schema && inner.contains('-')) {
            return Err(wrong());
        }
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let (text, behind) = rest.split_at(rest.find('{').unwrap_or(rest.len()));
            if !is_plain(text) {
                return Err(wrong());
            }
            if !text.is_empty() {
                pieces.push(Piece::Text(text.to_owned()));
            }
            rest = behind;
            if let Some(placeholder) = rest.strip_prefix('{') {
                let (inside, behind) = placeholder.split_once('}').ok_or_else(wrong)?;
                let number = inside.strip_prefix("topic[").and_then(|inside| inside.strip_suffix(']'));
                pieces.push(match number.map(str::parse) {
                    Some(Ok(number)) => Piece::Part(number),
                    None if inside == "topic" => Piece::Topic,
                    _ => return Err(wrong()),
                });
                rest = behind;
            }
        }
        if pieces.iter().all(|piece| matches!(piece, Piece::Text(_))) {
            return Err(wrong());
        }
        Ok(Self { schema, pieces })
    }

    /// # Errors
    /// Why there can be none.
    fn table(&self, topic: &str) -> Result<String, String> {
        let mut name = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => name += text,
                Piece::Topic => name += topic,
                Piece::Part(number) => {
                    let part = topic.split('.').nth(*number).filter(|part| !part.is_empty());
                    name += part.ok_or_else(|| {
                        format!(
                            "topic {topic} has no part {number} between its dots (from 0), by which its table would be named: \
                             keep it out of the pattern, or name it in a sink of its own"
                        )
                    })?;
                }
            }
        }
        if name.len() > LONGEST_NAME {
            return Err(format!(
                "the table of topic {topic} would have a name of {} bytes, and Postgres cuts them after {LONGEST_NAME}: name it \
                 in a sink of its own",
                name.len()
            ));
        }
        Ok(format!("{}.{}", self.schema, identifier(&name)))
    }
}

/// A `[[sink]]` whose table is named by the topic.
#[derive(Debug, Clone)]
pub(super) struct Template {
    /// Which of the file's sinks it is.
    at: usize,
    naming: Naming,
    names: Vec<String>,
    patterns: Vec<TopicPattern>,
    /// Topics that other sinks name: the patterns do not take them.
    elsewhere: Vec<String>,
    /// Topics whose tables are known.
    known: BTreeSet<String>,
    /// Those that it takes, and that have no table.
    left: BTreeMap<String, Left>,
}

/// Why a topic has no table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) why: String,
    /// Not before the process begins anew; else it may get one when its records come.
    pub(super) is_final: bool,
}

impl Template {
    /// `None`: its table has one name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn of(at: usize, entry: &SinkEntry) -> Result<Option<Self>, String> {
        if !entry.table.contains('{') {
            return Ok(None);
        }
        let naming = Naming::parse(&entry.table)?;
        check_topics(&entry.topic.0).map_err(|what| format!("topic: {what}; a pattern begins with ^"))?;
        let patterns = TopicPattern::among(&entry.topic.0);
        let names: Vec<String> = entry.topic.0.iter().filter(|topic| !is_pattern(topic)).cloned().collect();
        names.iter().try_for_each(|topic| naming.table(topic).map(drop))?;
        let known = names.iter().cloned().collect();
        let (elsewhere, left) = (Vec::new(), BTreeMap::new());
        Ok(Some(Self { at, naming, names, patterns, elsewhere, known, left }))
    }

    /// Topics that sinks of one table name are theirs alone, whatever the patterns are.
    pub(super) fn leave_to_others<'a>(&mut self, named: impl Iterator<Item = &'a String>) {
        self.elsewhere = named.filter(|topic| !is_pattern(topic)).cloned().collect();
    }

    pub(super) fn is_of(&self, at: usize) -> bool {
        self.at == at
    }

    pub(super) fn has_patterns(&self) -> bool {
        !self.patterns.is_empty()
    }

    pub(super) fn takes(&self, topic: &str) -> bool {
        self.names.iter().any(|name| name == topic)
            || (self.patterns.iter().any(|pattern| pattern.matches(topic))
                && !self.elsewhere.iter().any(|name| name == topic))
    }

    /// Whether it takes a topic of which nobody has told yet.
    pub(super) fn is_new(&self, topic: &str) -> bool {
        !self.known.contains(topic) && self.takes(topic)
    }

    /// # Errors
    /// Why a topic has no table.
    pub(super) fn table(&self, topic: &str) -> Result<String, String> {
        self.naming.table(topic)
    }

    /// Of all topics that there are, those that it takes. One that makes no name of a table halts when its records come.
    pub(super) fn learn<'a>(&mut self, topics: impl Iterator<Item = &'a str>) {
        self.known = self.names.iter().cloned().collect();
        self.left.clear();
        topics.for_each(|topic| self.admit(topic));
    }

    /// One more topic, if it takes it.
    pub(super) fn admit(&mut self, topic: &str) {
        if !self.takes(topic) {
            return;
        }
        match self.naming.table(topic) {
            Ok(_) => drop(self.known.insert(topic.to_owned())),
            Err(why) => self.leave_out(topic, why),
        }
    }

    /// A topic's partitions halt, and no others.
    pub(super) fn leave_out(&mut self, topic: &str, why: String) {
        tracing::warn!(topic, why, "a topic without a table: its partitions halt at their first record");
        self.known.remove(topic);
        self.left.insert(topic.to_owned(), Left { why, is_final: true });
    }

    /// It begins with its first record.
    pub(super) fn put_off(&mut self, topic: &str, why: String) {
        self.known.remove(topic);
        if !self.left.contains_key(topic) {
            tracing::info!(topic, why, "a topic has no table yet: it begins with its first record");
            self.left.insert(topic.to_owned(), Left { why, is_final: false });
        }
    }

    pub(super) fn left(&self, topic: &str) -> Option<&Left> {
        self.left.get(topic).filter(|_| !self.known.contains(topic))
    }

    pub(super) fn all_left(&self) -> impl Iterator<Item = &Left> {
        self.left.keys().filter_map(|topic| self.left(topic))
    }

    /// The sink of the file, once for each of its tables, with the topics of it.
    pub(super) fn sinks(&self, entry: &SinkEntry) -> Vec<SinkEntry> {
        let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for topic in &self.known {
            if let Ok(table) = self.naming.table(topic) {
                tables.entry(table).or_default().push(topic.clone());
            }
        }
        let one = |(table, topics)| SinkEntry { table, topic: Names(topics), ..entry.clone() };
        tables.into_iter().map(one).collect()
    }

    /// As one of its sinks would be, to see whether it can be one.
    pub(super) fn sample(&self, entry: &SinkEntry) -> SinkEntry {
        let table = format!("{}.sample", self.naming.schema);
        SinkEntry { table, topic: Names(vec!["sample".to_owned()]), ..entry.clone() }
    }
}

/// The names of all topics; waits for a Kafka that is away.
pub(super) async fn ask(catalog: &Catalog) -> Vec<String> {
    let mut trouble = None::<Trouble>;
    loop {
        match catalog.topics().await {
            Ok(topics) => return topics.into_iter().map(|(topic, _)| topic).collect(),
            Err(error) => {
                let now = Instant::now();
                if trouble.get_or_insert_with(|| Trouble::new(now)).is_due(now) {
                    let why = catalog.refusal().map_or_else(|| error.to_string(), |refusal| refusal.text);
                    tracing::warn!(why, retry_in = ?AGAIN, "Kafka does not tell which topics there are yet; trying again");
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(format: &str, topic: &str) -> Result<String, String> {
        Naming::parse(format).and_then(|naming| naming.table(topic))
    }

    #[test]
    fn a_table_is_named_by_parts_of_the_topic() {
        for (format, topic, named) in [
            ("shop.{topic[2]}", "dbz.public.orders", "shop.orders"),
            ("shop.{topic[2]}", "dbz.public.Orders-2", "shop.\"Orders-2\""),
            ("shop.{topic[0]}_{topic[2]}", "dbz.public.orders", "shop.dbz_orders"),
            ("shop.{topic}", "dbz.orders", "shop.\"dbz.orders\""),
            ("\"Shop\".raw_{topic[0]}", "7", "\"Shop\".raw_7"),
            ("shop.{topic[0]}", "7", "shop.\"7\""),
        ] {
            assert_eq!(table(format, topic).as_deref(), Ok(named), "{format}");
        }
        assert!(
            table("shop.{topic[3]}", "dbz.public.orders")
                .unwrap_err()
                .contains("topic dbz.public.orders has no part 3")
        );
        assert!(table("shop.{topic[1]}", "dbz..orders").unwrap_err().contains("has no part 1"));
        assert_eq!(table("shop.{topic}", &"t".repeat(63)), Ok(format!("shop.{}", "t".repeat(63))));
        assert!(table("shop.t{topic}", &"t".repeat(63)).unwrap_err().contains("64 bytes"));
    }

    #[test]
    fn data_chooses_among_the_tables_of_one_schema() {
        for format in [
            "{topic[2]}",
            "{topic[1]}.{topic[2]}",
            ".{topic}",
            "a.b.{topic}",
            "shop.{topic[x]}",
            "shop.{topic[-1]}",
            "shop.{topic[2]",
            "shop.topic}",
            "shop.{value.id}",
            "shop.{topic[2]}; DROP",
            "shop.\"{topic[2]}\"",
            "\"a\"\"b\".{topic}",
            "a b.{topic}",
            "1a.{topic}",
        ] {
            let said = Naming::parse(format).unwrap_err();
            assert!(said.contains("a schema that is written out"), "{format}: {said}");
        }
    }
}
