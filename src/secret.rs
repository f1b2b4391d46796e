//! Secrets that are not in the settings themselves: read anew whenever they are needed, so that rotated ones need no
//! restart.

use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::config::{PasswordCommand, SecretText};

/// How long a command may take to print a secret.
const COMMAND_LIMIT: Duration = Duration::from_secs(10);

/// Where a secret comes from. Neither it nor the command is ever logged.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    File(PathBuf),
    Command(PasswordCommand),
    /// The setting itself.
    Value(SecretText),
}

impl Source {
    /// As two settings say that exclude each other.
    pub(crate) fn new(file: Option<&str>, command: Option<&PasswordCommand>) -> Option<Self> {
        let command = || command.cloned().map(Self::Command);
        file.map(|file| Self::File(file.into())).or_else(command)
    }

    /// The setting that this is, of those that begin so.
    pub(crate) fn setting(&self, base: &str) -> String {
        let kind = match self {
            Self::File(_) => "_file",
            Self::Command(_) => "_command",
            Self::Value(_) => "",
        };
        format!("{base}{kind}")
    }

    /// The secret as it is now, without a newline at its end; never empty. Blocks, up to [`COMMAND_LIMIT`].
    ///
    /// # Errors
    /// Why there is none, without what is secret.
    pub(crate) fn read(&self) -> Result<Vec<u8>, String> {
        let read = match self {
            Self::File(path) => read_file(path),
            Self::Command(command) => run(command.expose(), COMMAND_LIMIT),
            Self::Value(text) => Ok(text.expose().as_bytes().to_vec()),
        };
        match read.map(without_newline) {
            Ok(secret) if secret.is_empty() => Err("it is empty".to_owned()),
            read => read,
        }
    }
}

/// A pipe would be waited for.
fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    match std::fs::metadata(path) {
        Ok(found) if !found.is_file() => Err("it is no file".to_owned()),
        Ok(_) => std::fs::read(path).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

fn run(command: &str, limit: Duration) -> Result<Vec<u8>, String> {
    let until = Instant::now() + limit;
    let mut command_line = Command::new("sh");
    // What it writes to its standard error may repeat what is secret. In a group of its own, so that what it has started ends
    // with it.
    command_line.args(["-c", command]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command_line.process_group(0).spawn().map_err(|error| error.to_string())?;
    let mut output = child.stdout.take().ok_or("it has no standard output")?;
    let (done, printed) = channel();
    let reader = std::thread::Builder::new().name("highwater-secret".to_owned()).spawn(move || {
        let mut text = Vec::new();
        let read = output.read_to_end(&mut text);
        let _ = done.send(read.map(|_| text));
    });
    let printed = match reader {
        Ok(_) => printed.recv_timeout(limit),
        Err(error) => {
            end(&mut child);
            return Err(error.to_string());
        }
    };
    // It may have closed its output, and go on.
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) if printed.is_ok() => break status,
            Ok(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
            _ => {
                end(&mut child);
                return Err(format!("it has not ended in {limit:?}"));
            }
        }
    };
    match printed {
        Ok(Ok(text)) if status.success() => Ok(text),
        Ok(Err(error)) => Err(error.to_string()),
        _ => Err(format!("it ended with {status}")),
    }
}

fn end(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
}

fn without_newline(mut text: Vec<u8>) -> Vec<u8> {
    if text.last() == Some(&b'\n') {
        text.pop();
        if text.last() == Some(&b'\r') {
            text.pop();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_anew_without_its_newline() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let file = Source::new(path.to_str(), None).unwrap();
        assert!(file.read().is_err(), "it is not there");
        for (text, secret) in [("a b\n", Some("a b")), ("c\r\n", Some("c")), ("d", Some("d")), ("\n", None)] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(file.read().ok().as_deref(), secret.map(str::as_bytes));
        }
        let command = |text: &str| Source::new(None, Some(&PasswordCommand::from(text))).unwrap();
        assert_eq!(command("echo 'se cret'").read().unwrap(), b"se cret");
        assert!(command("echo secret; exit 1").read().is_err());
        assert!(!format!("{:?}", command("echo secret")).contains("secret"));
    }

    #[test]
    fn a_command_that_hangs_is_ended() {
        // Also what it has started, and one that has closed its output.
        for command in
            ["echo secret; sleep 1000", "echo secret; sleep 1000 | cat", "echo secret; exec >&-; sleep 1000"]
        {
            let late = run(command, Duration::from_millis(100)).unwrap_err();
            assert!(late.contains("has not ended") && !late.contains("secret"), "{late}");
        }
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read_file(folder.path()), Err("it is no file".to_owned()));
    }
}
