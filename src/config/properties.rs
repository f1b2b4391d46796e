//! librdkafka properties that a user passes through, and those that are refused.

mod refused;

use std::collections::BTreeMap;
use std::fmt;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;

use crate::error::Error;

pub(super) use self::refused::REFUSED;

/// Aliases of properties that one may pass through. The client applies properties in no particular order, so that two
/// names of one property would be a game of chance.
const ALIASES: &[(&str, &str)] = &[
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("max.partition.fetch.bytes", "fetch.message.max.bytes"),
    ("sasl.mechanism", "sasl.mechanisms"),
];

/// librdkafka properties by name, as passed through. `Debug` hides the values of those that may be secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KafkaProperties(BTreeMap<String, String>);

impl KafkaProperties {
    /// The value of a property, if it was set.
    #[must_use]
    pub fn get(&self, property: &str) -> Option<&str> {
        self.0.get(canonical(property)).map(String::as_str)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl FromIterator<(String, String)> for KafkaProperties {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(properties: I) -> Self {
        Self(properties.into_iter().map(|(name, value)| (canonical(&name).to_owned(), value)).collect())
    }
}

impl fmt::Debug for KafkaProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                self.iter().map(|(name, value)| (name, if is_secret(name) { "(hidden)" } else { value })),
            )
            .finish()
    }
}

/// A property's value inside a layer, where its name is not at hand to tell whether it is a secret.
#[derive(Clone)]
pub(super) struct Secret(pub(super) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Why the client takes its properties not, without the value of one that may be a secret: the error's own text has it.
pub(crate) fn refusal(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, description, property, _) if !is_secret(property) => {
            format!("property {property}: {description}")
        }
        KafkaError::ClientConfig(_, _, property, _) => {
            format!("property {property}: look it up in librdkafka's CONFIGURATION.md")
        }
        KafkaError::ClientCreation(why) => why.clone(),
        other => other.to_string(),
    }
}

/// The error for that.
pub(crate) fn refused(error: &KafkaError) -> Error {
    let why = refusal(error);
    Error::configuration(format!("the Kafka client refused its properties, see the `kafka` settings: {why}"))
}

/// Whether a property's value might be a credential. Guessed broadly: hiding too much costs nothing.
fn is_secret(property: &str) -> bool {
    [
        "password",
        "passphrase",
        "secret",
        "key",
        "pem",
        "jaas",
        "token",
        "credential",
        "assertion",
        "oauthbearer",
    ]
    .iter()
    .any(|part| property.contains(part))
}

/// The one name of a property that has several.
pub(super) fn canonical(property: &str) -> &str {
    ALIASES.iter().find(|(alias, _)| *alias == property).map_or(property, |(_, name)| name)
}

/// `fetch.min.bytes` as `HIGHWATER_KAFKA_FETCH_MIN_BYTES`.
pub(super) fn env_name(property: &str) -> String {
    format!("HIGHWATER_KAFKA_{}", property.to_uppercase().replace('.', "_"))
}

/// `FETCH_MIN_BYTES` as `fetch.min.bytes`. Two plain properties have underscores of their own.
pub(super) fn from_env_name(rest: &str) -> String {
    match rest.to_lowercase() {
        name if name == "enabled_events" || name == "log_level" => name,
        name => canonical(&name.replace('_', ".")).to_owned(),
    }
}

/// Refuses properties that would break a guarantee, and those that librdkafka does not take. Each is checked alone:
/// what contradicts another property shows when the client is made.
pub(super) fn check_property(property: &str, value: &str) -> Result<(), String> {
    if let Some((_, reason)) = REFUSED.iter().find(|(name, _)| *name == property) {
        return Err(format!("this librdkafka property is refused: {reason}"));
    }
    match ClientConfig::new().set(property, value).create_native_config() {
        Ok(_) => Ok(()),
        // The error's own Display has the value in it, and so may librdkafka's description.
        Err(KafkaError::ClientConfig(_, description, ..)) if !is_secret(property) => {
            Err(format!("librdkafka does not take it: {description}"))
        }
        Err(_) => Err("librdkafka does not take it: look it up in librdkafka's CONFIGURATION.md".to_owned()),
    }
}
