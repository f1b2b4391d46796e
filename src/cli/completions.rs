//! `highwater completions`: what Tab completes, groups and topics of the database included.

use std::ffi::OsStr;
use std::sync::mpsc;
use std::time::Duration;

use clap::{Arg, Args, Command};
use clap_complete::aot::Shell;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::Shells;
use highwater::offsets::names;
use highwater::{Error, ErrorKind, Result};

use super::DatabaseArguments;
use super::operator::usage;

/// Under which variable the shell asks for candidates. Not under `HIGHWATER_`, whose unknown names are mistakes.
pub(super) const VARIABLE: &str = "_HIGHWATER_COMPLETE";
/// How long Tab may wait for the database.
const PATIENCE: Duration = Duration::from_millis(300);

const AFTER_HELP: &str = "\
Groups and topics are asked of the database, for 300 ms at most and without ever asking you anything:
where it does not answer, or a command would have to be run for its password, nothing is proposed.

Examples:
  source <(highwater completions bash)            # in ~/.bashrc
  source <(highwater completions zsh)             # in ~/.zshrc
  highwater completions fish | source             # in config.fish
  highwater completions --static bash > /usr/share/bash-completion/completions/highwater";

/// Print what makes Tab complete commands, flags, and the names of groups and topics
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// Which shell: bash, zsh, fish, elvish or powershell
    #[arg(value_name = "SHELL")]
    shell: Shell,

    /// For a package: complete script that asks nobody, and knows no groups and topics
    #[arg(long = "static")]
    fixed: bool,
}

pub(super) fn run(arguments: &Arguments, mut command: Command) -> Result<String> {
    let mut script = Vec::new();
    if arguments.fixed {
        clap_complete::aot::generate(arguments.shell, &mut command, "highwater", &mut script);
    } else {
        let name = arguments.shell.to_string();
        let shells = Shells::builtins();
        let shell =
            shells.completer(&name).ok_or_else(|| usage(format!("there are no completions for {name}")))?;
        let failed =
            |source| Error::new(ErrorKind::Internal, "could not write completions").with_source(source);
        shell
            .write_registration(VARIABLE, "highwater", "highwater", "highwater", &mut script)
            .map_err(failed)?;
    }
    Ok(String::from_utf8_lossy(&script).into_owned())
}

/// Gives every `--group` and `--topic`, wherever it is, the names that the database knows.
pub(super) fn with_names(command: Command) -> Command {
    let command = command.mut_args(|argument: Arg| match argument.get_long() {
        Some("group") => argument.add(ArgValueCompleter::new(groups)),
        Some("topic") => argument.add(ArgValueCompleter::new(topics)),
        _ => argument,
    });
    command.mut_subcommands(with_names)
}

fn groups(current: &OsStr) -> Vec<CompletionCandidate> {
    beginning_with(current, asked(None))
}

fn topics(current: &OsStr) -> Vec<CompletionCandidate> {
    // Those of the group that is on the line already; of all where there is none.
    beginning_with(current, asked(Some(typed("group").unwrap_or_default())))
}

fn beginning_with(current: &OsStr, names: Vec<String>) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    names.into_iter().filter(|name| name.starts_with(&*current)).map(CompletionCandidate::new).collect()
}

/// What was typed for a flag on the line that is being completed.
fn typed(flag: &str) -> Option<String> {
    let (long, given) = (format!("--{flag}"), format!("--{flag}="));
    let words: Vec<String> = std::env::args().collect();
    let after = words.windows(2).rev().find(|pair| pair[0] == long).map(|pair| pair[1].clone());
    after.or_else(|| words.iter().rev().find_map(|word| Some(word.strip_prefix(&given)?.to_owned())))
}

/// The names, if they come in time. Whatever hangs is left behind: the process ends in a moment.
fn asked(of_group: Option<String>) -> Vec<String> {
    let (answer, answered) = mpsc::channel();
    let ask = move || {
        let database = DatabaseArguments { postgres_url: typed("postgres-url"), schema: typed("schema") };
        let Ok(database) = database.database() else { return };
        // It may ask for something on this very terminal.
        if database.postgres_password_command.is_some() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        if let Ok(found) = runtime.block_on(names(&database, of_group.as_deref())) {
            answer.send(found).ok();
        }
    };
    if std::thread::Builder::new().spawn(ask).is_err() {
        return Vec::new();
    }
    answered.recv_timeout(PATIENCE).unwrap_or_default()
}
