//! The name of the schema that holds Highwater's tables, and how to write it into a statement.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// Postgres truncates longer names with no more than a notice, so that two long names could become one.
const MAX_BYTES: usize = 63;

/// A validated schema name; `highwater` by default.
///
/// Any name that Postgres can hold is allowed, because it is always quoted: upper case, dashes, spaces and quotes.
/// Refused are the empty name, names over 63 bytes (Postgres would truncate them), control characters, and the
/// `pg_` prefix, which Postgres keeps for itself.
///
/// ```
/// use highwater::SchemaName;
///
/// let schema: SchemaName = "team \"a\"".parse()?;
/// assert_eq!(schema.qualified("meta"), r#""team ""a"""."meta""#);
/// assert_eq!(SchemaName::default().as_str(), "highwater");
/// # Ok::<(), highwater::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SchemaName(String);

impl SchemaName {
    /// Validates a name.
    ///
    /// # Errors
    ///
    /// [`Configuration`](crate::ErrorKind::Configuration) when Postgres could not hold the name as it is.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        match defect(&name) {
            None => Ok(Self(name)),
            Some(defect) => {
                Err(Error::configuration(format!("schema name {name:?} {defect}, choose another name")))
            }
        }
    }

    /// The bare name, for a query's parameter or for people; not for a statement's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as an identifier in a statement's text.
    #[must_use]
    pub fn quoted(&self) -> String {
        quote_identifier(&self.0)
    }

    /// `"schema"."object"`, both quoted.
    #[must_use]
    pub fn qualified(&self, object: &str) -> String {
        format!("{}.{}", self.quoted(), quote_identifier(object))
    }
}

impl Default for SchemaName {
    fn default() -> Self {
        Self("highwater".to_owned())
    }
}

impl fmt::Display for SchemaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SchemaName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::new(name)
    }
}

impl AsRef<str> for SchemaName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// Writes any name as an identifier: in double quotes, inner double quotes doubled. The name must hold no NUL.
pub(crate) fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// What is wrong with the name as a Postgres identifier, if anything.
pub(crate) fn identifier_defect(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("is empty")
    } else if name.len() > MAX_BYTES {
        Some("is longer than 63 bytes and would be truncated")
    } else if name.chars().any(char::is_control) {
        Some("contains a control character")
    } else {
        None
    }
}

fn defect(name: &str) -> Option<&'static str> {
    identifier_defect(name)
        .or_else(|| name.starts_with("pg_").then_some("starts with `pg_`, which Postgres reserves"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_so_that_nothing_escapes() {
        let schema = SchemaName::new(r#"a"; drop schema public; --"#).unwrap();
        assert_eq!(schema.quoted(), r#""a""; drop schema public; --""#);
        assert_eq!(schema.qualified("t"), r#""a""; drop schema public; --"."t""#);
        assert_eq!(schema.to_string(), r#"a"; drop schema public; --"#);
    }

    #[test]
    fn names_that_postgres_would_change_are_refused() {
        let long = "x".repeat(64);
        for (name, part) in [
            ("", "empty"),
            (&*long, "63 bytes"),
            ("a\0b", "control"),
            ("a\nb", "control"),
            ("pg_x", "reserves"),
        ] {
            let error = SchemaName::new(name).unwrap_err();
            assert!(error.is_configuration());
            assert!(error.to_string().contains(part), "{name:?}: {error}");
        }
        assert!(SchemaName::new("x".repeat(63)).is_ok());
    }
}
