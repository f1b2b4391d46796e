//! How a record is shown: by kcat's tokens, in a line, or as JSON.

use std::fmt::Write as _;

use highwater::offsets::{TailedRecord, TimestampKind};
use serde::Serialize;

/// A format that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Format(Vec<Token>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Text(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    KeyLength,
    Value,
    ValueLength,
    ValueLengthBinary,
    Headers,
    State,
    /// All of it, in a line for people; with its content, or without.
    Line(bool),
    Json(bool),
}

impl Format {
    pub(crate) fn lines(with_content: bool) -> Self {
        Self(vec![Token::Line(with_content)])
    }

    pub(crate) fn json(with_content: bool) -> Self {
        Self(vec![Token::Json(with_content)])
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut tokens = Vec::new();
        let mut plain = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(char) = chars.next() {
            match char {
                '\\' => plain.push(escaped(&mut chars)?),
                '%' => {
                    let Some(letter) = chars.next() else {
                        return Err("it ends with a single %; write %% for a per cent sign".to_owned());
                    };
                    if letter == '%' {
                        plain.push(b'%');
                        continue;
                    }
                    let token = token(letter)?;
                    if !plain.is_empty() {
                        tokens.push(Token::Text(std::mem::take(&mut plain)));
                    }
                    tokens.push(token);
                }
                char => plain.extend(char.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !plain.is_empty() {
            tokens.push(Token::Text(plain));
        }
        Ok(Self(tokens))
    }

    /// Whether it shows what a record holds.
    pub(crate) fn has_content(&self) -> bool {
        self.0.iter().any(|token| matches!(token, Token::Key | Token::Value | Token::Headers))
    }

    /// `for_terminal`: what a record holds is written so that it cannot speak to one.
    pub(crate) fn write(&self, record: &TailedRecord, for_terminal: bool, out: &mut Vec<u8>) {
        let raw = |bytes: &[u8], out: &mut Vec<u8>| {
            if for_terminal { tame(bytes, out) } else { out.extend_from_slice(bytes) }
        };
        for token in &self.0 {
            match token {
                Token::Text(text) => out.extend_from_slice(text),
                Token::Topic => out.extend_from_slice(record.topic.as_bytes()),
                Token::Partition => number(record.partition, out),
                Token::Offset => number(record.offset, out),
                Token::Timestamp => number(record.timestamp_ms.unwrap_or(-1), out),
                Token::Key => raw(record.key.as_deref().unwrap_or_default(), out),
                Token::KeyLength => number(length(record.key_bytes), out),
                Token::Value => raw(record.value.as_deref().unwrap_or_default(), out),
                Token::ValueLength => number(length(record.value_bytes), out),
                Token::ValueLengthBinary => {
                    let length = i32::try_from(length(record.value_bytes)).unwrap_or(i32::MAX);
                    out.extend_from_slice(&length.to_be_bytes());
                }
                Token::Headers => {
                    for (index, (name, value)) in record.headers.iter().enumerate() {
                        if index > 0 {
                            out.push(b',');
                        }
                        raw(name, out);
                        out.push(b'=');
                        raw(value.as_deref().unwrap_or(b"NULL"), out);
                    }
                }
                Token::State => out.extend_from_slice(record.state.as_str().as_bytes()),
                Token::Line(with_content) => out.extend_from_slice(line(record, *with_content).as_bytes()),
                Token::Json(with_content) => {
                    let shown = Shown::of(record, *with_content);
                    // Nothing in it can't be written.
                    out.extend_from_slice(&serde_json::to_vec(&shown).unwrap_or_default());
                    out.push(b'\n');
                }
            }
        }
    }
}

fn token(letter: char) -> Result<Token, String> {
    Ok(match letter {
        't' => Token::Topic,
        'p' => Token::Partition,
        'o' => Token::Offset,
        'T' => Token::Timestamp,
        'k' => Token::Key,
        'K' => Token::KeyLength,
        's' => Token::Value,
        'S' => Token::ValueLength,
        'R' => Token::ValueLengthBinary,
        'h' => Token::Headers,
        'a' => Token::State,
        other => {
            return Err(format!("there is no %{other}: there are %t %p %o %T %k %K %s %S %R %h %a and %%"));
        }
    })
}

/// What stands behind a backslash.
fn escaped(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<u8, String> {
    let wrong = |what: &str| format!("\\{what} is none of \\n, \\t, \\r, \\\\, \\x41");
    match chars.next() {
        Some('n') => Ok(b'\n'),
        Some('t') => Ok(b'\t'),
        Some('r') => Ok(b'\r'),
        Some('\\') => Ok(b'\\'),
        Some('x') => {
            let mut digits = String::new();
            while let Some(digit) = chars.next_if(|char| digits.len() < 2 && char.is_ascii_hexdigit()) {
                digits.push(digit);
            }
            u8::from_str_radix(&digits, 16).map_err(|_| wrong("x"))
        }
        Some(other) => Err(wrong(&other.to_string())),
        None => Err(wrong("")),
    }
}

fn number(number: impl std::fmt::Display, out: &mut Vec<u8>) {
    out.extend_from_slice(number.to_string().as_bytes());
}

/// As kcat has it: -1 is null.
fn length(bytes: Option<usize>) -> i64 {
    bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX))
}

/// With control characters, but for line ends and tabs, as `\x1b`; what is no UTF-8, too.
fn tame(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        for char in chunk.valid().chars() {
            match char {
                '\n' | '\t' => out.extend(char.encode_utf8(&mut [0; 4]).as_bytes()),
                char if char.is_control() => out.extend(char.escape_default().to_string().as_bytes()),
                char => out.extend(char.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        out.extend(chunk.invalid().escape_ascii().to_string().as_bytes());
    }
}

fn line(record: &TailedRecord, with_content: bool) -> String {
    let TailedRecord { topic, partition, offset, .. } = record;
    let bytes = |bytes: Option<usize>| bytes.map_or_else(|| "null".to_owned(), |bytes| format!("{bytes} B"));
    let mut text = format!(
        "{topic}[{partition}]@{offset}  {}  {:7}  key {}, value {}\n",
        time(record.timestamp_ms),
        record.state.as_str(),
        bytes(record.key_bytes),
        bytes(record.value_bytes),
    );
    if with_content {
        let headers = record.headers.iter();
        let headers =
            headers.map(|(name, value)| (format!("header {}", quoted(Some(name))), value.as_deref()));
        let parts = [("key".to_owned(), record.key.as_deref())].into_iter().chain(headers);
        for (name, bytes) in parts.chain([("value".to_owned(), record.value.as_deref())]) {
            // Writing to a string can't fail.
            let _ = writeln!(text, "  {name}: {}", quoted(bytes));
        }
    }
    text
}

/// In UTC, to the millisecond.
fn time(timestamp_ms: Option<i64>) -> String {
    let at = timestamp_ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| "-".to_owned(), |at| format!("{at:.3}"))
}

/// As text that is written on one line, and cannot be taken for null.
fn quoted(bytes: Option<&[u8]>) -> String {
    match bytes {
        None => "null".to_owned(),
        Some(bytes) => {
            let mut tamed = Vec::new();
            tame(bytes, &mut tamed);
            format!("\"{}\"", String::from_utf8_lossy(&tamed).replace('\n', "\\n").replace('\t', "\\t"))
        }
    }
}

/// As JSON. Numbers are numbers; bytes are text where they are UTF-8, else base64 under another name.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp_ms: Option<i64>,
    timestamp_kind: Option<TimestampKind>,
    state: &'a str,
    key_bytes: Option<usize>,
    value_bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<Bytes<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Bytes<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<Vec<(Bytes<'a>, Bytes<'a>)>>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Bytes<'a> {
    Null(()),
    Text(&'a str),
    Base64 { base64: String },
}

impl<'a> Bytes<'a> {
    fn of(bytes: Option<&'a [u8]>) -> Self {
        use base64::Engine as _;
        match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
            None => Self::Null(()),
            Some((_, Ok(text))) => Self::Text(text),
            Some((bytes, Err(_))) => {
                Self::Base64 { base64: base64::engine::general_purpose::STANDARD.encode(bytes) }
            }
        }
    }
}

impl<'a> Shown<'a> {
    fn of(record: &'a TailedRecord, with_content: bool) -> Self {
        let headers = || {
            let headers = record.headers.iter();
            headers.map(|(name, value)| (Bytes::of(Some(name)), Bytes::of(value.as_deref()))).collect()
        };
        Self {
            topic: &record.topic,
            partition: record.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            timestamp_kind: record.timestamp_kind,
            state: record.state.as_str(),
            key_bytes: record.key_bytes,
            value_bytes: record.value_bytes,
            key: with_content.then(|| Bytes::of(record.key.as_deref())),
            value: with_content.then(|| Bytes::of(record.value.as_deref())),
            headers: with_content.then(headers),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kcats_tokens_are_understood() {
        let format = Format::parse(r"%t[%p]%%\x41\t%a\n").unwrap();
        let text = |text: &str| Token::Text(text.as_bytes().to_vec());
        assert_eq!(
            format.0,
            [Token::Topic, text("["), Token::Partition, text("]%A\t"), Token::State, text("\n")]
        );
        assert!(!format.has_content());
        for content in ["%k", "%s", "%h"] {
            assert!(Format::parse(content).unwrap().has_content());
        }
        for wrong in ["%", "%z", r"\q", r"\", r"\x"] {
            assert!(Format::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_a_record_holds_cannot_speak_to_a_terminal() {
        let mut out = Vec::new();
        tame(b"a\x1b[2J\xff\n\t\xc3\xa4", &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "a\\u{1b}[2J\\xff\n\tä");
        assert_eq!(quoted(Some(b"a\nb")), r#""a\nb""#);
        assert_eq!(quoted(None), "null");
        assert_eq!(time(Some(1_777_086_000_250)), "2026-04-25T03:00:00.250Z");
    }
}
