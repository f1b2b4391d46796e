//! Passwords that are not in the address: read anew for every connection, so that a rotated one needs no restart.

use crate::config::PasswordCommand;
use crate::secret::Source;

/// Where the password comes from.
#[derive(Debug, Clone)]
pub(crate) struct Password {
    /// `None`: from the address, or there is none.
    source: Option<Source>,
    /// What its settings' names begin with.
    settings: &'static str,
}

impl Password {
    /// As the settings say; they hold one of the two at most.
    pub(crate) fn new(file: Option<&str>, command: Option<&PasswordCommand>) -> Self {
        Self::of("postgres_password", file, command)
    }

    /// As other settings say, whose names begin with `settings`.
    pub(crate) fn of(settings: &'static str, file: Option<&str>, command: Option<&PasswordCommand>) -> Self {
        Self { source: Source::new(file, command), settings }
    }

    /// The password as it is now. If it cannot be read, that is said, and the server will say the rest: perhaps it asks
    /// for none.
    pub(super) async fn read(&self) -> Option<Vec<u8>> {
        let source = self.source.clone()?;
        let setting = source.setting(self.settings);
        let read = tokio::task::spawn_blocking(move || source.read()).await;
        match read.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(password) => Some(password),
            Err(why) => {
                tracing::warn!(setting, why, "could not read the password");
                None
            }
        }
    }
}
