//! The one table of the connectors' options, and what becomes of each. `docs/from-connect.md` is made from it.
//!
//! Read from `JdbcSinkConfig.java` of Confluent (2026-08) and Aiven (2025-03), and from Debezium's
//! `JdbcSinkConnectorConfig.java` and `SinkConnectorConfig.java` (3.x).

mod connect;
mod jdbc;

use super::connector::{Connector, Source, is_reference};
use super::consumer::PREFIX;
use super::findings::Findings;
use crate::config::suggest;

pub(super) use self::connect::CONNECT;
pub(super) use self::jdbc::JDBC;

/// An option, whose it is, and what becomes of it.
#[derive(Debug)]
pub(super) struct Entry {
    /// One that ends with `.*` stands for all that begin like that.
    pub(super) name: &'static str,
    pub(super) of: &'static [Connector],
    pub(super) fate: Fate,
}

/// What becomes of an option. The texts are sentences' ends: "`name`: …".
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    /// It goes into the file, as this.
    Taken(&'static str),
    /// It has no counterpart and needs none: why.
    NotNeeded(&'static str),
    /// Of these values one needs nothing; any other is refused: why, and what to do.
    Only(&'static [&'static str], &'static str),
    /// It is never copied; what to do instead.
    ByHand(&'static str),
    /// It cannot be expressed: why, and what to do.
    Refused(&'static str),
    /// What is said of this option holds for it, too.
    With(&'static str),
}

use Connector::{Aiven, Confluent, Debezium};

pub(super) const EVERY: &[Connector] = &[Confluent, Aiven, Debezium];
const CONFLUENT: &[Connector] = &[Confluent];
const AIVEN: &[Connector] = &[Aiven];
const DEBEZIUM: &[Connector] = &[Debezium];
const NOT_DEBEZIUM: &[Connector] = &[Confluent, Aiven];

/// Why options about repeated attempts are not needed.
const RETRIED: &str =
    "what is the surroundings' fault is retried without end (`retry_backoff_min`, `retry_backoff_max`)";

const fn entry(name: &'static str, of: &'static [Connector], fate: Fate) -> Entry {
    Entry { name, of, fate }
}

/// All of them.
pub(super) fn all() -> impl Iterator<Item = &'static Entry> {
    CONNECT.iter().chain(JDBC)
}

/// The entry of an option: the one of its name, or the longest beginning.
pub(super) fn find(name: &str, connector: Connector) -> Option<&'static Entry> {
    let mine = || all().filter(|entry| entry.of.contains(&connector));
    mine()
        .find(|entry| entry.name == name)
        .or_else(|| mine().filter(|entry| begins(name, entry.name)).max_by_key(|entry| entry.name.len()))
}

pub(super) fn begins(name: &str, pattern: &str) -> bool {
    pattern
        .strip_suffix('*')
        .is_some_and(|beginning| name.len() > beginning.len() && name.starts_with(beginning))
}

/// Why a value that stands elsewhere is no help.
pub(super) const REFERENCE: &str =
    "its value is in one of Connect's config providers: write the value itself, and import again";

/// What may stand for something else, and is looked at where it is used.
const REFERENCES_SEEN_TO: &[&str] = &[
    "connection.url",
    "connection.user",
    "connection.username",
    "table.name.format",
    "collection.name.format",
];

fn seen_to(name: &str) -> bool {
    REFERENCES_SEEN_TO.contains(&name) || name.starts_with(PREFIX)
}

/// Gives each option that was given its due, except those that are taken: these are read elsewhere.
pub(super) fn check(source: &Source, findings: &mut Findings) {
    for (name, value) in source.iter().filter(|(_, value)| !value.is_empty()) {
        let Some(entry) = find(name, source.connector) else {
            unknown(name, source.connector, findings);
            continue;
        };
        give(name, value, entry.fate, seen_to(name), findings);
    }
}

/// `seen_to`: whether a reference is looked at where the value is used.
pub(super) fn give(name: &str, value: &str, fate: Fate, seen_to: bool, findings: &mut Findings) {
    match fate {
        Fate::Refused(why) => findings.refuse(name, why),
        Fate::Only(values, why) => {
            if !values.iter().any(|one| one.eq_ignore_ascii_case(value)) {
                findings.refuse(name, why);
            }
        }
        Fate::ByHand(what) => findings.note(name, what),
        Fate::Taken(_) if is_reference(value) && !seen_to => findings.refuse(name, REFERENCE),
        Fate::Taken(_) | Fate::NotNeeded(_) | Fate::With(_) => {}
    }
}

fn unknown(name: &str, connector: Connector, findings: &mut Findings) {
    let mine = connector.name();
    if let Some(theirs) = Connector::ALL.into_iter().find(|other| find(name, *other).is_some()) {
        let theirs = theirs.name();
        findings.refuse(
            name,
            format!("is an option of {theirs}'s connector; {mine}'s does not read it: remove it"),
        );
        return;
    }
    let known = all().filter(|entry| entry.of.contains(&connector)).map(|entry| entry.name);
    let hint = match suggest(name, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "if the connector does not read it, remove it".to_owned(),
    };
    findings.refuse(name, format!("is not known as an option of {mine}'s connector: {hint}"));
}
