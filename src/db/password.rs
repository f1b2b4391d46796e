//! Passwords that are not in the address: read anew for every connection, so that a rotated one needs no restart.

use crate::config::PasswordCommand;
use crate::secret::Source;

/// Where the password comes from; `None`: from the address, or there is none.
#[derive(Debug, Clone)]
pub(crate) struct Password(Option<Source>);

impl Password {
    /// As the settings say; they hold one of the two at most.
    pub(crate) fn new(file: Option<&str>, command: Option<&PasswordCommand>) -> Self {
        Self(Source::new(file, command))
    }

    /// The password as it is now. If it cannot be read, that is said, and the server will say the rest: perhaps it asks
    /// for none.
    pub(super) async fn read(&self) -> Option<Vec<u8>> {
        let source = self.0.clone()?;
        let setting = source.setting("postgres_password");
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
