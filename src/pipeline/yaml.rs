//! The file in YAML: the same model as in TOML, with the same words of what is wrong.

use serde::de::DeserializeOwned;
use serde_saphyr::{Error, Spanned};

use super::file::{SinkEntry, TestEntry};

/// `[[sink]]` with its line, and `[[test]]`.
#[derive(Debug, serde::Deserialize)]
struct File {
    #[serde(default)]
    sink: Vec<Spanned<SinkEntry>>,
    #[serde(default)]
    test: Vec<TestEntry>,
}

/// A line, and what is wrong there.
pub(super) type Wrong = (usize, String);

/// All keys of the file. Anchors and aliases are within the reader's budget: 250,000 nodes.
pub(super) fn table(text: &str) -> Result<toml::Table, Wrong> {
    read(text)
}

pub(super) fn file(text: &str) -> Result<(Vec<(usize, SinkEntry)>, Vec<TestEntry>), Wrong> {
    let File { sink, test } = read(text)?;
    let sinks = sink.into_iter().map(|sink| (line(sink.defined.line()), sink.value));
    Ok((sinks.collect(), test))
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, Wrong> {
    // `on` and `no` are words: a topic may be called that.
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let at = error.location().map_or(1, |location| line(location.line()));
        (at, words(&error))
    })
}

fn line(line: u64) -> usize {
    usize::try_from(line).unwrap_or(usize::MAX)
}

/// As the reader of TOML says it, without the place, which is told before.
fn words(error: &Error) -> String {
    let error = error.without_snippet();
    if let Error::SerdeUnknownField { field, expected, .. } = error {
        let known: Vec<String> = expected.iter().map(|name| format!("`{name}`")).collect();
        return format!("unknown field `{field}`, expected {}", known.join(", "));
    }
    let text = error.to_string();
    let mut first = text.lines().next().unwrap_or_default();
    // Its place, and what a program could do about it.
    for behind in [" at line ", "; use from_str", ", set Duplicate"] {
        first = first.find(behind).map_or(first, |at| &first[..at]);
    }
    first.to_owned()
}
