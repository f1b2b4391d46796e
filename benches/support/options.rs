//! The command line: what the help text names is what is taken.

use std::collections::BTreeMap;

use super::Result;

/// `--name` and `--name value`, as the help text lists them.
#[derive(Debug, Default)]
pub(crate) struct Options {
    given: BTreeMap<String, String>,
}

impl Options {
    /// Options are the lines of `help` that begin with `  --`; one that goes on with a capital word takes a value.
    ///
    /// # Errors
    /// A text for standard error.
    pub(crate) fn from_arguments(
        arguments: impl Iterator<Item = String>,
        help: &str,
    ) -> Result<Self, String> {
        let mut known: BTreeMap<&str, bool> = BTreeMap::from([("help", false), ("bench", false)]);
        for line in help.lines().filter_map(|line| line.strip_prefix("  --")) {
            let mut words = line.split(' ');
            let name = words.next().unwrap_or_default();
            let value = words.next().is_some_and(|word| word.starts_with(|c: char| c.is_ascii_uppercase()));
            known.insert(name, value);
        }
        let mut given = BTreeMap::new();
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let name = if argument == "-h" { "help" } else { argument.trim_start_matches("--") };
            let Some(takes_value) = known.get(name).filter(|_| argument.starts_with('-')) else {
                return Err(format!("unknown argument {argument:?}\n\n{help}"));
            };
            let value = if *takes_value {
                arguments.next().ok_or_else(|| format!("{argument} needs a value\n\n{help}"))?
            } else {
                String::new()
            };
            given.insert(name.to_owned(), value);
        }
        Ok(Self { given })
    }

    /// Whether `--name` was given.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// The value of `--name`, if it was given.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(String::as_str)
    }

    /// The number of `--name`, or `default`.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn number(&self, name: &str, default: u64) -> Result<u64> {
        match self.value(name) {
            None => Ok(default),
            Some(text) => text
                .replace('_', "")
                .parse()
                .map_err(|_| format!("--{name}: {text:?} is not a number").into()),
        }
    }
}
