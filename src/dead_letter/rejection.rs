//! Why a record was rejected, and of which kind that is.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::HandlerError;

/// A reason that is longer is cut: it is a sentence for people, and may come from a handler that puts together what it
/// likes.
const MAX_REASON_BYTES: usize = 4_096;
/// Hexadecimal digits of a fingerprint.
const FINGERPRINT_DIGITS: usize = 16;

/// What is known of a record's fault. Texts hold no data, but what a handler has put into its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub(crate) reason: String,
    pub(crate) sqlstate: Option<String>,
    /// Of the kind: what is equal here is one trouble.
    pub(crate) fingerprint: String,
}

impl Rejection {
    /// What an error says of a record.
    pub(crate) fn of(handler: &str, error: &HandlerError) -> Self {
        let db = error.db_error();
        let names =
            [db.and_then(|db| db.table()), db.and_then(|db| db.column()), db.and_then(|db| db.constraint())];
        Self::new(handler, error.reason(), error.sqlstate(), names)
    }

    fn new(handler: &str, reason: &str, sqlstate: Option<&str>, names: [Option<&str>; 3]) -> Self {
        let parts = [Some(handler), sqlstate].into_iter().chain(names);
        let mut digest = Sha256::new();
        for part in parts {
            digest.update(part.unwrap_or_default());
            digest.update([0]);
        }
        digest.update(normalised(reason));
        let mut fingerprint = String::with_capacity(2 * FINGERPRINT_DIGITS);
        for byte in digest.finalize().iter().take(FINGERPRINT_DIGITS / 2) {
            let _ = write!(fingerprint, "{byte:02x}");
        }
        Self { reason: storable(reason), sqlstate: sqlstate.map(str::to_owned), fingerprint }
    }
}

/// As Postgres takes it: no U+0000, and not without end.
pub(super) fn storable(reason: &str) -> String {
    let mut end = reason.len().min(MAX_REASON_BYTES);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason[..end].replace('\0', "\u{fffd}")
}

/// The text without what differs from record to record: words with a digit in them, and what stands in quotation marks.
/// What stands in backticks is a name, and stays.
fn normalised(reason: &str) -> String {
    let mut text = String::with_capacity(reason.len());
    let mut rest = reason;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' | '\u{201c}' => quoted(rest, if first == '"' { '"' } else { '\u{201d}' }),
            _ => None,
        };
        if let Some(length) = length {
            text.push_str("\"\"");
            rest = &rest[length..];
            continue;
        }
        let is_of_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        let end = rest.find(|c: char| !is_of_word(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end.max(first.len_utf8()));
        text.push_str(if word.chars().any(|c| c.is_ascii_digit()) { "#" } else { word });
        rest = after;
    }
    text
}

/// How many bytes the quotation at the beginning has.
fn quoted(text: &str, end: char) -> Option<usize> {
    let mut chars = text.char_indices();
    chars.next()?;
    chars.find(|(_, c)| *c == end).map(|(at, c)| at + c.len_utf8())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejection(handler: &str, reason: &str) -> Rejection {
        Rejection::of(handler, &HandlerError::reject_unnamed(reason))
    }

    fn kind(reason: &str) -> String {
        rejection("payments", reason).fingerprint
    }

    #[test]
    fn what_differs_from_record_to_record_is_one_kind() {
        assert_eq!(kind("an amount of -5 cents"), kind("an amount of -12.50 cents"));
        assert_eq!(kind("account \"x\" is closed"), kind("account \"y 7\" is closed"));
        assert_eq!(kind("no merchant m-17"), kind("no merchant b6e0c9d2-1"));
        assert_eq!(kind("not JSON at line 1 column 17"), kind("not JSON at line 2 column 3"));
        assert_ne!(kind("missing field `cents`"), kind("missing field `id`"));
        assert_ne!(kind("account is closed"), rejection("refunds", "account is closed").fingerprint);
        assert_eq!(kind("x").len(), FINGERPRINT_DIGITS);
        // An open quotation hides nothing, and loops nowhere.
        assert_ne!(kind("an \"open one"), kind("an \"open two"));
    }

    #[test]
    fn a_reason_can_be_stored_whatever_is_in_it() {
        let reason = format!("a\0b{}", "ü".repeat(5_000));
        let stored = rejection("h", &reason).reason;
        assert!(
            stored.starts_with("a\u{fffd}bü") && stored.len() <= MAX_REASON_BYTES + 2,
            "{}",
            stored.len()
        );
    }
}
