//! Files of a server: certificates, keys, who may come in.

use super::Postgres;
use crate::testing::error::{Attempted, Result};

impl Postgres {
    /// Writes a file into the server's data folder, for the server's eyes only (it takes no key that others may
    /// read), as its superuser: works wherever the server is. Takes text without backslashes.
    ///
    /// # Errors
    /// When the server cannot write it.
    pub async fn write_file(&self, name: &str, text: &str) -> Result<()> {
        let quoted = text.trim_end().replace('\'', "''");
        let copy = format!(
            "COPY (SELECT unnest(string_to_array('{quoted}', E'\\n'))) TO PROGRAM 'umask 077; cat > \"{name}\"'"
        );
        self.client()
            .await?
            .batch_execute(&copy)
            .await
            .attempted(|| format!("write the server's file {name}"))
    }
}
