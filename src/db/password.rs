//! Passwords that are not in the address: read anew for every connection, so that a rotated one needs no restart.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use crate::config::PasswordCommand;

/// How long a command may take to print the password.
const COMMAND_LIMIT: Duration = Duration::from_secs(10);

/// Where the password comes from. Neither it nor the command is ever logged.
#[derive(Debug, Clone)]
pub(crate) enum Password {
    /// From the address, or there is none.
    Address,
    File(PathBuf),
    Command(PasswordCommand),
}

impl Password {
    /// As the settings say; they hold one of the two at most.
    pub(crate) fn new(file: Option<&str>, command: Option<&PasswordCommand>) -> Self {
        match (file, command) {
            (Some(file), _) => Self::File(file.into()),
            (None, Some(command)) => Self::Command(command.clone()),
            (None, None) => Self::Address,
        }
    }

    /// The password as it is now. If it cannot be read, that is said, and the server will say the rest: perhaps it asks
    /// for none.
    pub(super) async fn read(&self) -> Option<Vec<u8>> {
        let (read, setting) = match self {
            Self::Address => return None,
            Self::File(path) => {
                let read = tokio::fs::read(path).await;
                (read.map_err(|error| error.to_string()), "postgres_password_file")
            }
            Self::Command(command) => {
                let read = tokio::time::timeout(COMMAND_LIMIT, run(command.expose())).await;
                let late = || Err(format!("it has not ended in {COMMAND_LIMIT:?}"));
                (read.unwrap_or_else(|_| late()), "postgres_password_command")
            }
        };
        match read.map(without_newline) {
            Ok(password) if !password.is_empty() => return Some(password),
            Ok(_) => tracing::warn!(setting, "the password is empty"),
            Err(why) => tracing::warn!(setting, why, "could not read the password"),
        }
        None
    }
}

async fn run(command: &str) -> Result<Vec<u8>, String> {
    let output = tokio::process::Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // It may repeat what is secret.
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await;
    match output {
        Ok(output) if output.status.success() => Ok(output.stdout),
        Ok(output) => Err(format!("it ended with {}", output.status)),
        Err(error) => Err(error.to_string()),
    }
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

    #[tokio::test]
    async fn a_password_is_read_anew_without_its_newline() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let file = Password::new(path.to_str(), None);
        assert_eq!(file.read().await, None, "it is not there");
        for (text, password) in [("a b\n", Some("a b")), ("c\r\n", Some("c")), ("d", Some("d")), ("\n", None)]
        {
            std::fs::write(&path, text).unwrap();
            assert_eq!(file.read().await.as_deref(), password.map(str::as_bytes));
        }
        let command = |text: &str| Password::new(None, Some(&PasswordCommand::from(text)));
        assert_eq!(command("echo 'se cret'").read().await.as_deref(), Some(&b"se cret"[..]));
        assert_eq!(command("echo secret; exit 1").read().await, None);
        assert!(!format!("{:?}", command("echo secret")).contains("secret"));
    }
}
