//! Whom a server's certificate must come from.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// The authorities; read for every connection, so that renewed ones need no restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trust {
    /// The machine's.
    System,
    /// Those of a file, or of the files of a folder.
    Path(PathBuf),
    /// These, in PEM.
    Pem(String),
}

impl Trust {
    /// As a setting has it: `system`, or a path.
    pub(crate) fn new(text: &str) -> Self {
        if text == "system" { Self::System } else { Self::Path(text.into()) }
    }

    /// What makes connections. The host's name is verified.
    ///
    /// # Errors
    /// If there is no authority to trust.
    pub(super) fn client(&self) -> Result<Arc<ClientConfig>, String> {
        let mut roots = RootCertStore::empty();
        let (mut found, mut whose) = (Vec::new(), String::new());
        match self {
            Self::System => {
                found = rustls_native_certs::load_native_certs().certs;
                whose += "this machine (are ca-certificates installed?)";
            }
            Self::Path(path) => {
                for file in files(path)? {
                    found.extend(CertificateDer::pem_file_iter(file).into_iter().flatten().flatten());
                }
                whose += &path.display().to_string();
            }
            Self::Pem(text) => {
                found.extend(CertificateDer::pem_slice_iter(text.as_bytes()).flatten());
                whose += "the certificates that were given";
            }
        }
        roots.add_parsable_certificates(found);
        if roots.is_empty() {
            return Err(format!("no authority to trust is in {whose}"));
        }
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| format!("TLS cannot be set up: {error}"))?;
        Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
    }
}

/// What librdkafka's `ssl.ca.location` may be, too.
fn files(path: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |error| format!("could not read {}: {error}", path.display());
    if !std::fs::metadata(path).map_err(failed)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).map_err(failed)?;
    Ok(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect())
}
