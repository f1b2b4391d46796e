//! `highwater man`.

use std::path::PathBuf;

use clap::{Args, Command};
use clap_mangen::Man;
use highwater::{Error, ErrorKind, Result};

use super::operator::usage;

const AFTER_HELP: &str = "\
Examples:
  highwater man | man -l -
  highwater man offsets reset | man -l -
  highwater man --dir /usr/local/share/man/man1";

/// Print a manual page, or write all of them into a folder
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// Of which verb, such as `offsets reset` [default: of the whole]
    #[arg(value_name = "VERB", conflicts_with = "dir")]
    verb: Vec<String>,

    /// Write the page of every verb into this folder, which is there
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments, command: Command) -> Result<String> {
    if let Some(folder) = &arguments.dir {
        let before = pages(&command);
        clap_mangen::generate_to(command, folder).map_err(|source| {
            usage(format!("could not write pages into {}", folder.display())).with_source(source)
        })?;
        return Ok(format!("wrote {before} pages into {}\n", folder.display()));
    }
    let mut page = command.disable_help_subcommand(true);
    page.build();
    for word in &arguments.verb {
        let found = page.find_subcommand(word).cloned();
        page = found
            .ok_or_else(|| usage(format!("there is no verb `{word}`; `highwater --help` lists them")))?;
    }
    let mut text = Vec::new();
    Man::new(page)
        .render(&mut text)
        .map_err(|source| Error::new(ErrorKind::Internal, "could not write the page").with_source(source))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// How many pages there are: one of each command that is no `help`.
fn pages(command: &Command) -> usize {
    let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set());
    1 + verbs.map(pages).sum::<usize>()
}
