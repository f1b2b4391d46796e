//! What an error from PostgreSQL means for a batch: who is to blame, whether the transaction is known to have
//! failed, and whether its connection may be used again.
//!
//! The classes are one [table](sqlstate::RULES), which `docs/errors.md` repeats (a test compares them).

use std::error::Error as _;
use std::io;

use tokio_postgres::error::{DbError, Severity};
use tokio_postgres::types::WrongType;

use super::sqlstate;

/// What came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// Passes by itself: retry with backoff, as long as it takes, with fewer records if it recurs.
    Environment,
    /// The session is gone, and the server did not say that this batch was to blame. It may be, all the same.
    Lost,
    /// The batch's own time-out: halve the batch; halt only for a single record, after several.
    OwnTimeout,
    /// A record's data: find the record, then follow the reject policy.
    Reject,
    /// Usually cured by trying again (the catalogue changed, a partition of the table is being made): retry a few
    /// times, on a fresh connection where told so, then find the record.
    RetryThenHalt,
    /// The handler or the database's set-up, as far as the code tells; some of these depend on the data all the same,
    /// so it is narrowed before the partition halts.
    Bug,
    /// The worker's role may not do what the statement does: nobody's data is wrong. Narrowed all the same, for it may be
    /// so for some records only, and what comes before them is applied.
    Privilege,
    /// The handler's own word that no record is to blame.
    Halt,
    /// Wrong password or role: exit at start; while running it is waited for, within a limit.
    Authentication,
}

/// What becomes of the connection after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Connection {
    /// Usable after `ROLLBACK`.
    Keep,
    /// Drop this one.
    Discard,
    /// Drop this one and clear the pool: the others lead to the same dead or demoted server.
    DiscardAll,
}

/// What one error says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cause {
    pub(crate) class: Class,
    pub(crate) connection: Connection,
    /// Whether the server said, with severity ERROR, that the statement failed. If not, and the statement was
    /// `COMMIT` (or may have been sent with it), the outcome is unknown: resolve it by claiming again (EO-7).
    pub(crate) definite: bool,
}

impl Cause {
    const fn kept(class: Class) -> Self {
        Self { class, connection: Connection::Keep, definite: true }
    }

    /// An error that a handler made by itself: the transaction is as it was.
    pub(crate) const fn by_handler(class: Class) -> Self {
        Self::kept(class)
    }

    /// The connection can no longer be relied on.
    pub(crate) const fn lost(class: Class) -> Self {
        Self { class, connection: Connection::Discard, definite: false }
    }
}

/// Judges an error of the driver.
pub(crate) fn classify(error: &tokio_postgres::Error) -> Cause {
    match error.as_db_error() {
        Some(db) => classify_db(db),
        None => classify_client(error),
    }
}

fn classify_db(error: &DbError) -> Cause {
    let code = error.code().code();
    let rule = sqlstate::rule(code, error.constraint().is_some(), error.routine());
    let mut cause = Cause { class: rule.class, connection: rule.connection, definite: true };
    // A pooler may say these with severity ERROR, even in answer to COMMIT: they tell that nothing is known (EO-7).
    if code.starts_with("08") || code == "40003" {
        cause.definite = false;
    }
    if !is_plain_error(error) {
        // FATAL and PANIC end the session; what it last did is not said.
        cause.definite = false;
        cause.connection = cause.connection.max(Connection::Discard);
    } else if code.starts_with("08") {
        // Of a connection that a statement made elsewhere: this session said so itself.
        cause = Cause { class: Class::Environment, connection: Connection::Keep, ..cause };
    }
    cause
}

/// Severity ERROR. The non-localised field exists since 9.6; without it an unknown word counts as worse.
fn is_plain_error(error: &DbError) -> bool {
    match error.parsed_severity() {
        Some(severity) => !matches!(severity, Severity::Fatal | Severity::Panic),
        None => error.severity() == "ERROR",
    }
}

/// Errors that the driver makes itself. It has no public kind for most of them, but fixed English texts, which the
/// tests pin.
fn classify_client(error: &tokio_postgres::Error) -> Cause {
    if error.is_closed() {
        // The others notice by themselves if theirs is closed, too.
        return Cause::lost(Class::Lost);
    }
    let text = error.to_string();
    let starts = |prefix: &str| text.starts_with(prefix);
    if starts("error serializing parameter") {
        // A wrong Rust type is a bug; a value that its type cannot encode is that record's fault.
        let bug = error.source().is_none_or(|source| source.is::<WrongType>());
        return Cause::kept(if bug { Class::Bug } else { Class::Reject });
    }
    let by_handler = [
        "error deserializing column",
        "invalid column",
        "query returned an unexpected number of",
        "error encoding message",
        "expected ",
    ];
    if by_handler.iter().any(|prefix| starts(prefix)) {
        return Cause::kept(Class::Bug);
    }
    if starts("authentication error") || starts("invalid con") || starts("error performing TLS handshake") {
        return Cause::lost(Class::Authentication);
    }
    let io = error.source().is_some_and(|source| source.is::<io::Error>());
    let timed_out = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    let timed_out = timed_out.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut);
    if starts("error communicating") && !timed_out {
        return Cause::lost(Class::Lost);
    }
    // Nobody answers: whatever else leads there is as dead, and would be noticed one by one.
    if starts("error communicating") || starts("error connecting") || starts("timeout") {
        return Cause { class: Class::Environment, connection: Connection::DiscardAll, definite: false };
    }
    // Parse errors and unexpected messages: the stream is out of step, or something between is not PostgreSQL.
    Cause::lost(if io { Class::Lost } else { Class::RetryThenHalt })
}

/// The line of a `COPY … FROM STDIN` (with the binary format: the row, from 1) at which this error arose.
///
/// Read from the error's context, where the word for "line" is translated but the form `COPY t, line 5` is not;
/// anything less plain gives `None`, and the caller bisects.
pub(crate) fn copy_line(error: &DbError) -> Option<u64> {
    line_in(error.where_()?)
}

fn line_in(context: &str) -> Option<u64> {
    let context = context.lines().next()?;
    let place = context.strip_prefix("COPY ")?;
    let (relation, rest) = place.split_once(", ")?;
    if relation.contains(['"', ' ']) {
        return None;
    }
    let word_and_number = rest.split([',', ':']).next()?;
    let (word, number) = word_and_number.split_once(' ')?;
    if word.is_empty() || word.contains(|c: char| c.is_ascii_digit()) {
        return None;
    }
    number.parse().ok().filter(|&line| line > 0)
}

/// Compares a marked part of `docs/errors.md` with what the code says; `HIGHWATER_UPDATE_DOCS=1` rewrites it.
#[cfg(test)]
pub(crate) fn assert_documented(mark: &str, expected: &str) {
    assert_documented_in("docs/errors.md", mark, expected);
}

/// The same of another page.
#[cfg(test)]
pub(crate) fn assert_documented_in(name: &str, mark: &str, expected: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    let page = std::fs::read_to_string(&path).expect("the page is readable");
    let begin = format!(
        "<!-- {mark}: begin (from the source; HIGHWATER_UPDATE_DOCS=1 cargo test --lib rewrites it) -->\n"
    );
    let end = format!("<!-- {mark}: end -->");
    let (before, rest) = page.split_once(&begin).expect("the begin mark is there");
    let (found, after) = rest.split_once(&end).expect("the end mark is there");
    if std::env::var_os("HIGHWATER_UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{begin}{expected}{end}{after}"))
            .expect("the page is writable");
    } else {
        assert_eq!(found, expected, "{name}, part {mark}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_outs_of_the_client_are_unknown_outcomes() {
        let error = tokio_postgres::Error::__private_api_timeout();
        let cause = classify(&error);
        assert_eq!(cause.class, Class::Environment);
        assert!(!cause.definite);
        assert_eq!(cause.connection, Connection::DiscardAll);
    }

    #[test]
    fn a_line_is_taken_only_from_a_plain_context() {
        assert_eq!(line_in("COPY t, line 5, column id: \"x\""), Some(5));
        assert_eq!(line_in("COPY t, line 12: \"a\tb\""), Some(12));
        assert_eq!(line_in("COPY t, Zeile 3"), Some(3));
        for unsure in [
            "",
            "COPY t",
            "COPY t, line 0",
            "COPY my \"t, line 7",
            "SQL statement \"COPY t, line 5\"",
            "PL/pgSQL function f() line 3 at RAISE\nCOPY t, line 5",
        ] {
            let line = line_in(unsure);
            assert_eq!(line, None, "{unsure}");
        }
    }
}
