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

/// SQLSTATE and names.
pub(crate) fn names(error: &DbError) -> String {
    let mut text = format!("SQLSTATE {}", error.code().code());
    for (noun, name) in
        [("constraint", error.constraint()), ("table", error.table()), ("column", error.column())]
    {
        if let Some(name) = name {
            text.push_str(&format!(", {noun} {name}"));
        }
    }
    text
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
