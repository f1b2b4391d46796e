//! The types of settings that are more than a number or a name.

use std::fmt;
use std::str::FromStr;

use crate::db::url::Address;

/// What a worker does when the records at its offset are gone from Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum OnOffsetLost {
    /// Stop the partition and say so (EO-6).
    #[default]
    Halt,
    /// Go on at the first record that is still there; the range between is recorded as lost.
    Earliest,
    /// Go on at the end; everything before it is recorded as lost.
    Latest,
}

impl OnOffsetLost {
    /// The policy as it is written in configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Halt => "halt",
            Self::Earliest => "earliest",
            Self::Latest => "latest",
        }
    }
}

impl FromStr for OnOffsetLost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "halt" => Ok(Self::Halt),
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            other => Err(format!("`{other}` is not known: choose halt, earliest or latest")),
        }
    }
}

/// What a worker does with a record that is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum OnRejected {
    /// Stop the partition at the record and say so.
    #[default]
    Halt,
    /// Store the record as a dead letter, in the transaction that steps over it, and go on (EO-9).
    DeadLetter,
    /// As `DeadLetter`; and later records of its key (in its partition) are parked behind it, in their order, until it is
    /// redriven or discarded, and they are redriven.
    ParkKey,
}

impl OnRejected {
    /// The policy as it is written in configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Halt => "halt",
            Self::DeadLetter => "dead_letter",
            Self::ParkKey => "park_key",
        }
    }
}

impl FromStr for OnRejected {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "halt" => Ok(Self::Halt),
            "dead_letter" => Ok(Self::DeadLetter),
            "park_key" => Ok(Self::ParkKey),
            other => Err(format!("`{other}` is not known: choose halt, dead_letter or park_key")),
        }
    }
}

/// Which records of transactional producers are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Isolation {
    /// Only those of committed transactions, up to the last stable offset.
    #[default]
    ReadCommitted,
    /// All, those of aborted transactions included.
    ReadUncommitted,
}

impl Isolation {
    /// The value of Kafka's `isolation.level`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadCommitted => "read_committed",
            Self::ReadUncommitted => "read_uncommitted",
        }
    }
}

impl FromStr for Isolation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "read_committed" => Ok(Self::ReadCommitted),
            "read_uncommitted" => Ok(Self::ReadUncommitted),
            other => {
                Err(format!("`{other}` is not an isolation level: choose read_committed or read_uncommitted"))
            }
        }
    }
}

/// Where Postgres is, with the password inside: shown only as user, hosts and database.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PostgresUrl(String);

impl PostgresUrl {
    /// The whole text, password included: for the connection only, never for a log or an error.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The address, read. The error holds nothing of the text, which may hold a password; it completes "setting …".
    pub(crate) fn address(&self) -> Result<Address, String> {
        Address::parse(&self.0)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        self.address().map(drop)
    }
}

impl From<String> for PostgresUrl {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for PostgresUrl {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for PostgresUrl {
    /// `postgres://user@host:port/database`, rebuilt from the parsed parts, so that no spelling of a password gets
    /// through.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("(not set)");
        }
        let Ok(address) = self.address() else { return f.write_str("(not a Postgres address)") };
        f.write_str("postgres://")?;
        if let Some(user) = address.user() {
            write!(f, "{user}@")?;
        }
        write!(f, "{}/{}", address.servers().join(","), address.database().unwrap_or_default())
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// A command that prints a password: its text may hold secrets, and is shown nowhere.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PasswordCommand(String);

impl PasswordCommand {
    /// The text, for the shell only, never for a log or an error.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for PasswordCommand {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for PasswordCommand {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for PasswordCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// A secret that is a setting itself: shown nowhere.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    /// The text, for whom it is meant only, never for a log or an error.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for SecretText {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spelling_shows_the_password() {
        for url in [
            "postgres://app:s3cret@db:5433/sales",
            "postgresql://app@db:5433/sales?password=s3cret",
            "host=db port=5433 user=app dbname=sales password=s3cret",
        ] {
            let url = PostgresUrl::from(url);
            assert_eq!(url.to_string(), "postgres://app@db:5433/sales");
            assert_eq!(format!("{url:?}"), "\"postgres://app@db:5433/sales\"");
            assert!(url.check().is_ok());
        }
        for url in
            ["postgres://app:s3cret@db:x/sales", "s3cret", "postgres://app:p@s3cret@db/x", "password=s3cret"]
        {
            let url = PostgresUrl::from(url);
            let error = url.check().unwrap_err();
            assert!(!format!("{url} {url:?} {error}").contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn several_hosts_are_shown() {
        let url = PostgresUrl::from("postgres://app@a:1,b:2/d?target_session_attrs=read-write");
        assert_eq!(url.to_string(), "postgres://app@a:1,b:2/d");
    }
}
