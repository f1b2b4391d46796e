//! What is gathered on the way: refusals, all of which the user sees at once, and notes.

use std::fmt;

use crate::error::{Error, Result};

/// Something that the user must know, and that is not an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The connector's option that it is about; none if it is about the file.
    pub option: Option<String>,
    /// What to know, or to do.
    pub text: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.option {
            Some(option) => write!(f, "{option}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// Refusals and notes, in the order in which they were found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    refusals: Vec<String>,
    pub(super) notes: Vec<Note>,
}

impl Findings {
    /// `why` goes on after the option's name, and says what to do. It never holds the value of an option that may be a
    /// secret.
    pub(super) fn refuse(&mut self, option: &str, why: impl fmt::Display) {
        let line = format!("`{option}`: {why}");
        if !self.refusals.contains(&line) {
            self.refusals.push(line);
        }
    }

    pub(super) fn note(&mut self, option: &str, text: impl Into<String>) {
        self.notes.push(Note { option: Some(option.to_owned()), text: text.into() });
    }

    pub(super) fn note_on_file(&mut self, text: impl Into<String>) {
        self.notes.push(Note { option: None, text: text.into() });
    }

    /// The notes, unless something was refused: then one error with a line for each.
    pub(super) fn finish(self, connector: &str) -> Result<Vec<Note>> {
        if self.refusals.is_empty() {
            return Ok(self.notes);
        }
        let lines: Vec<String> = self.refusals.iter().map(|line| format!("\n  {line}")).collect();
        Err(Error::configuration(format!(
            "the connector `{connector}` cannot be imported as it is; nothing was written:{}",
            lines.concat()
        )))
    }
}
