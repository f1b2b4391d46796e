//! `highwater import-connect`: the configuration of a JDBC sink connector of Kafka Connect as a pipeline file.
//!
//! Nothing is guessed: each option of the three connectors has an entry in one table ([`options`]), and what the table
//! does not know, or what a pipeline file cannot say yet, is refused by name, all of it at once. Passwords never get
//! into the text, nor into an error.

mod address;
mod connector;
mod consumer;
mod converters;
mod findings;
mod formats;
mod options;
mod page;
mod registry;
mod rows;
mod target;
#[cfg(test)]
mod tests;
mod transforms;
mod write;

pub use self::findings::Note;
pub use self::page::reference;

use self::address::Address;
use self::connector::{Connector, Source};
use self::consumer::Overrides;
use self::findings::Findings;
use self::registry::Registry;
use self::rows::{Listed, Rows};
use self::target::Target;
use self::transforms::{FLATTEN_BY_HAND, Transforms};
use self::write::Draft;
pub(super) use self::write::text;
use crate::error::Result;

/// What became of a connector's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The text of a pipeline file.
    pub toml: String,
    /// What the user must know or do beside it.
    pub notes: Vec<Note>,
}

/// A pipeline file from the configuration of a Kafka Connect sink connector, as `GET /connectors/NAME` answers it, or
/// only what is in its `config`.
///
/// # Errors
///
/// Of kind [`Configuration`](crate::ErrorKind::Configuration): the text is no such JSON, the connector is none of the
/// three JDBC sinks that are known, or some of its options cannot be taken over; then there is a line for each.
pub fn import(json: &str) -> Result<Imported> {
    let mut findings = Findings::default();
    let source = Source::read(json, &mut findings)?;
    options::check(&source, &mut findings);
    let Transforms { unwrapped, flatten } = transforms::read(&source, &mut findings);
    let address = Address::of(&source, &mut findings);
    let target = Target::of(&source, address.schema.as_deref(), &mut findings);
    let rows = Rows::of(&source, &target, unwrapped, &mut findings);
    let registry = Registry::of(&source, rows.value, rows.key_format, &mut findings);
    let flatten = flatten.and_then(|(separator, option)| match rows.listed {
        Listed::BySchema => Some(separator),
        _ => {
            findings.refuse(
                &option,
                format!("Flatten is taken over where the columns are those of a registry's schema: {FLATTEN_BY_HAND}"),
            );
            None
        }
    });
    let overrides = Overrides::of(&source, &mut findings);
    if overrides.settings.iter().all(|(setting, _)| *setting != "brokers") {
        findings.note_on_file("the brokers are not in a connector's configuration: set `brokers`");
    }
    if source.connector == Connector::Debezium && !unwrapped {
        findings.note_on_file(
            "if the topics have Debezium's change events, and not flat records, see to `envelope` and the paths",
        );
    }
    let notes = findings.finish(&source.name)?;
    let draft = Draft {
        source: &source,
        address: &address,
        overrides: &overrides,
        registry: registry.as_ref(),
        target: &target,
        rows: &rows,
        flatten: flatten.as_deref(),
    };
    Ok(Imported { toml: draft.text(), notes })
}
