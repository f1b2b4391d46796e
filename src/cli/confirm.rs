//! To do it, or to show what would be done: a script says so, a person is asked.

use std::io::{self, IsTerminal as _, Write as _};

use clap::Args;
use highwater::{Error, ErrorKind, Result};

use super::operator::usage;

/// As Kafka's tool has them.
#[derive(Debug, Args)]
pub(crate) struct ConfirmArguments {
    /// Show what would be done, and do nothing
    #[arg(long, conflicts_with = "execute")]
    pub(crate) dry_run: bool,

    /// Do it
    #[arg(long)]
    pub(crate) execute: bool,
}

impl ConfirmArguments {
    /// Refuses a script that says neither, before anything is asked of anybody: where Kafka's tool would do it at once, or
    /// has no such verb.
    pub(crate) fn check(&self) -> Result<()> {
        if self.dry_run || self.execute || io::stdin().is_terminal() {
            return Ok(());
        }
        Err(usage(
            "give --dry-run to see what would be done, or --execute to do it: there is no terminal here to ask on",
        ))
    }

    /// Whether to do it. On a terminal, where neither was said, `shown` is shown and the answer awaited; in a script it is
    /// not done, and that is said, as Kafka's tool does.
    pub(crate) fn is_meant(&self, shown: &str, question: &str) -> Result<bool> {
        if self.dry_run || self.execute {
            return Ok(self.execute);
        }
        if !io::stdin().is_terminal() {
            eprintln!(
                "warning: no action is performed, as the --execute option is missing and there is no terminal here to ask on; \
                 give --dry-run if that is meant"
            );
            return Ok(false);
        }
        let failed = |source| Error::new(ErrorKind::Internal, "could not ask").with_source(source);
        let mut out = io::stderr().lock();
        write!(out, "{shown}\n{question} [y/N] ").and_then(|()| out.flush()).map_err(failed)?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).map_err(failed)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }
}
