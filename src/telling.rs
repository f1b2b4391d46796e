//! What may be told of an error, in a log, a status or an answer: never a value of a record.
//!
//! PostgreSQL quotes values in the message of many errors, in the detail of more, and in the context of what happens inside
//! a COPY or a function; a library's error may quote anything. So these texts stay where only code reads them, in the
//! source of an error, and people read the SQLSTATE and the names that the server gives beside it.

use std::error::Error as StdError;
use std::fmt;

use tokio_postgres::error::{DbError, ErrorPosition, Severity, SqlState};

use crate::HandlerError;

/// Classes whose messages are about the server, the session or locks.
const WITHOUT_DATA: [&str; 6] = ["08", "25", "40", "53", "55", "57"];

/// The names of conditions by which records fail. The manual's appendix has them all.
const CONDITIONS: [(&str, &str); 22] = [
    ("22001", "string_data_right_truncation"),
    ("22003", "numeric_value_out_of_range"),
    ("22007", "invalid_datetime_format"),
    ("22008", "datetime_field_overflow"),
    ("22012", "division_by_zero"),
    ("22021", "character_not_in_repertoire"),
    ("22023", "invalid_parameter_value"),
    ("22P02", "invalid_text_representation"),
    ("22P03", "invalid_binary_representation"),
    ("22P05", "untranslatable_character"),
    ("23502", "not_null_violation"),
    ("23503", "foreign_key_violation"),
    ("23505", "unique_violation"),
    ("23514", "check_violation"),
    ("23P01", "exclusion_violation"),
    ("42501", "insufficient_privilege"),
    ("42622", "name_too_long"),
    ("42703", "undefined_column"),
    ("42804", "datatype_mismatch"),
    ("42P01", "undefined_table"),
    ("54000", "program_limit_exceeded"),
    ("P0001", "raise_exception"),
];

/// SQLSTATE and names.
pub(crate) fn names(error: &DbError) -> String {
    let code = error.code().code();
    let mut text = format!("SQLSTATE {code}");
    if let Some((_, condition)) = CONDITIONS.iter().find(|(known, _)| *known == code) {
        text.push_str(&format!(" ({condition})"));
    }
    for (noun, name) in [
        ("constraint", error.constraint()),
        ("table", error.table()),
        ("column", error.column().or_else(|| column_of_copy(error))),
        ("type", error.datatype()),
    ] {
        if let Some(name) = name {
            text.push_str(&format!(", {noun} {name}"));
        }
    }
    if let Some(function) = function(error) {
        text.push_str(&format!(", in {function}"));
    }
    text
}

/// Names, and the message where it can be told.
pub(crate) fn describe(error: &DbError) -> String {
    match message(error) {
        Some(message) => format!("{}: {message}", names(error)),
        None => names(error),
    }
}

/// `COPY t, line 5, column id: "…"`: the name before the value, in any language.
fn column_of_copy(error: &DbError) -> Option<&str> {
    copied_column(error.where_()?)
}

fn copied_column(context: &str) -> Option<&str> {
    let mut parts = context.lines().next()?.strip_prefix("COPY ")?.split(", ").skip(1);
    // Of a text format the whole line may follow instead.
    let number = parts.next()?.split_once(' ')?.1;
    let column = parts.next()?.split(':').next()?;
    let name = column.split_once(' ')?.1;
    let is_plain = number.parse::<u64>().is_ok();
    (is_plain && name.chars().all(|c| c.is_alphanumeric() || c == '_')).then_some(name)
}

/// `PL/pgSQL function f(text) line 3 at EXECUTE`: the function, and the line in it, in any language.
fn function(error: &DbError) -> Option<String> {
    let place = error.where_()?.lines().find(|line| line.starts_with("PL/"))?;
    let (name, rest) = place.split_once('(')?;
    let name = name.rsplit(' ').next()?;
    let line = rest.split_once(')')?.1.split_whitespace().find(|word| word.parse::<u32>().is_ok());
    Some(line.map_or_else(|| format!("function {name}"), |line| format!("function {name}, line {line}")))
}

/// The server's message, if it cannot quote a value.
///
/// Class 42 is about the text of a statement and the names in it, without which nobody could mend anything; but what reads
/// names from *data* answers with the same codes (`to_tsquery`, a value for a `regclass` column, SQL that a function puts
/// together). An error in the text itself has its position there, and nothing is run then. What ends the session
/// (`FATAL`) is not about a statement.
pub(crate) fn message(error: &DbError) -> Option<&str> {
    let ends_the_session = matches!(error.parsed_severity(), Some(Severity::Fatal | Severity::Panic));
    let in_the_text = matches!(error.position(), Some(ErrorPosition::Original(_)));
    let without_data = match error.code().code().get(..2)? {
        "42" => in_the_text || *error.code() == SqlState::INSUFFICIENT_PRIVILEGE,
        class => WITHOUT_DATA.contains(&class),
    };
    // A context is a COPY's line, or a function, which may raise any code with any text; or the row that is waited for.
    let own_words = error.where_().is_none_or(|context| context.starts_with("while "));
    (ends_the_session || without_data && own_words).then(|| error.message())
}

/// All that may be told of an error of the server.
pub(crate) fn database(error: &DbError) -> String {
    match message(error) {
        Some(message) => format!("{message} ({})", error.code().code()),
        None => format!("postgres answered {}", names(error)),
    }
}

/// What stands for an error and all its sources where those may not be printed.
pub(crate) fn source<'a>(error: &'a (dyn StdError + 'static)) -> Told<'a> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<DbError>() {
            return Told::Database(error);
        }
        if let Some(error) = error.downcast_ref::<HandlerError>() {
            return Told::Handler(error);
        }
        next = error.source();
    }
    Told::Other(error)
}

/// See [`source`].
pub(crate) enum Told<'a> {
    Database(&'a DbError),
    /// Its own words are its author's.
    Handler(&'a HandlerError),
    Other(&'a (dyn StdError + 'static)),
}

impl fmt::Debug for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(error) => f.write_str(&database(error)),
            Self::Handler(error) => fmt::Debug::fmt(error, f),
            Self::Other(error) => fmt::Debug::fmt(error, f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_told_and_never_what_stands_in_it() {
        assert_eq!(copied_column("COPY n, line 51, column net"), Some("net"));
        assert_eq!(copied_column("COPY n, Zeile 51, Spalte net: \"10.0.0.1/8\""), Some("net"));
        for other in [
            "COPY n, line 51",
            "COPY n, line 5: \"a, b, the secret\"",
            "COPY n, line 5: \"a, b secret, c secret\"",
            "COPY n, line 5, column \"a secret\"",
            "PL/pgSQL function f() line 3 at RAISE",
        ] {
            assert_eq!(copied_column(other), None, "{other}");
        }
    }
}
