//! Types as the file has them: told by the server, so that `int8` is `bigint`, and never spliced into what is run.

use tokio_postgres::Client;

use super::failed;
use crate::error::Result;

/// What the catalogue knows a column's type by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TypeId {
    pub(super) oid: u32,
    /// `(12,2)`, as the type itself encodes it; -1: none.
    pub(super) modifier: i32,
}

/// How long a type's name may be.
const LONGEST: usize = 200;

/// Whether this may be the name of a type: words, numbers in brackets, and nothing else.
///
/// # Errors
/// What is wrong with it, without a network.
pub(crate) fn check(text: &str) -> Result<(), String> {
    let (mut depth, mut quoted) = (0_i32, false);
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' => depth += 1,
            ')' => depth -= 1,
            '[' | ']' | '.' | ',' | ' ' | '_' | '-' => {}
            c if c.is_alphanumeric() => {}
            _ => depth = -1,
        }
        if depth < 0 || c.is_control() {
            break;
        }
    }
    let named = text.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '"');
    if depth == 0 && !quoted && named && text.len() <= LONGEST && !text.contains("--") {
        return Ok(());
    }
    Err(format!(
        "`type` is the name of a type, such as \"numeric(12,2)\" or \"text[]\", and {text:?} is none"
    ))
}

/// The type that a name means to this session. `Err` inside: there is none, in words.
///
/// # Errors
/// If the server does not answer.
pub(super) async fn resolve(text: &str, client: &Client) -> Result<Result<TypeId, String>> {
    if let Err(what) = check(text) {
        return Ok(Err(what));
    }
    let kind = "SELECT t.oid, t.typtype::pg_catalog.text FROM pg_catalog.pg_type AS t \
                WHERE t.oid = pg_catalog.to_regtype($1)";
    // Only prepared: it is read, and never run. A cast takes a type and nothing else.
    let cast = format!("SELECT CAST(NULL AS {text})");
    let found = match client.query_opt(kind, &[&text]).await {
        Ok(None) => {
            let hint = if text.to_ascii_lowercase().contains("serial") {
                ": give the column its integer type"
            } else {
                ""
            };
            return Ok(Err(format!("there is no type {text:?}{hint}")));
        }
        Ok(Some(row)) if row.get::<_, &str>(1) == "p" => {
            return Ok(Err(format!("no column can be of type {text:?}")));
        }
        // The driver names what is beneath a domain, which has no modifier of its own.
        Ok(Some(row)) if row.get::<_, &str>(1) == "d" => Ok(TypeId { oid: row.get(0), modifier: -1 }),
        Ok(Some(row)) => client
            .prepare(&cast)
            .await
            .map(|cast| TypeId { oid: row.get(0), modifier: cast.columns()[0].type_modifier() }),
        Err(error) => Err(error),
    };
    match found {
        Ok(found) => Ok(Ok(found)),
        // It is about the file's own words.
        Err(error) if error.as_db_error().is_some_and(|error| is_about_words(error.code().code())) => {
            let why = error.as_db_error().map(|error| error.message().to_owned()).unwrap_or_default();
            Ok(Err(format!("{text:?} is no type: {why}")))
        }
        Err(error) => Err(failed("look up a type", error)),
    }
}

/// Syntax and names, values that a modifier cannot have, what is not supported.
fn is_about_words(code: &str) -> bool {
    ["42", "22", "0A", "3F"].iter().any(|class| code.starts_with(class))
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn a_type_is_a_name_and_nothing_else() {
        for text in [
            "bigint",
            "numeric(12,2)",
            "numeric(12, -2)",
            "timestamp(3) with time zone",
            "text[]",
            "app.\"Mood\"",
            "\"My Type\"[]",
            "geometry(Point,4326)",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
        for text in [
            "",
            " int",
            "int); DROP TABLE a",
            "int; SELECT 1",
            "int)",
            "(int",
            "int -- x",
            "int /* x",
            "int DEFAULT 'x'",
            "\"a",
            "int\nNOT NULL",
            "int = 1",
            "$1",
            "1",
            "a\"b\0\"",
        ] {
            let what = check(text).expect_err(text);
            assert!(what.contains("is the name of a type"), "{what}");
        }
        assert!(check(&"a".repeat(300)).is_err());
    }
}
