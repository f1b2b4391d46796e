//! The file in YAML: the same model as in TOML, with the same words of what is wrong.

use serde::de::DeserializeOwned;
use serde_saphyr::{Error, Spanned};

use super::Read;
use super::file::{RegistryEntry, SinkEntry, TestEntry};

/// `[[sink]]` and the registry with their lines, and `[[test]]`.
#[derive(Debug, serde::Deserialize)]
struct File {
    #[serde(default)]
    sink: Vec<Spanned<SinkEntry>>,
    #[serde(default)]
    test: Vec<TestEntry>,
    registry: Option<Spanned<RegistryEntry>>,
}

/// A line, and what is wrong there.
type Wrong = (usize, String);

/// The file. Anchors and aliases are within the reader's budget: 250,000 nodes.
pub(super) fn read(text: &str) -> Result<Read, Wrong> {
    let settings = of(text)?;
    let File { sink, test: tests, registry } = of(text)?;
    let sinks = sink.into_iter().map(|sink| (line(sink.defined.line()), sink.value)).collect();
    let registry = registry.map(|registry| (line(registry.defined.line()), registry.value));
    Ok(Read { settings, sinks, tests, registry })
}

fn of<T: DeserializeOwned>(text: &str) -> Result<T, Wrong> {
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
