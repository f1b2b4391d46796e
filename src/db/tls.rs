//! TLS to Postgres with libpq's meanings, by rustls (PITFALLS 30): the driver itself knows neither `verify-ca` nor
//! `verify-full` nor a certificate parameter.
//!
//! Files are read for every new connection, as libpq does, so that renewed certificates are taken without a restart.

mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use tokio_postgres::Socket;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::error::{Error, Result};
use verify::Verifier;

/// What the server must ask for when it is spoken to in TLS at once (`sslnegotiation=direct`); harmless otherwise.
const ALPN: &[u8] = b"postgresql";

/// libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) enum Mode {
    Disable,
    /// Without; with TLS only if the server refuses that.
    Allow,
    /// With TLS if the server has it.
    #[default]
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// Which authorities are trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Roots {
    /// The machine's, as `SSL_CERT_FILE` or the distribution has them.
    System,
    File(PathBuf),
}

/// libpq's TLS parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsSettings {
    mode: Option<Mode>,
    roots: Option<Roots>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    without_certificate: bool,
    server_name: bool,
    versions: (u8, u8),
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self {
            mode: None,
            roots: None,
            certificate: None,
            key: None,
            without_certificate: false,
            server_name: true,
            versions: (2, 3),
        }
    }
}

impl TlsSettings {
    /// Takes a parameter; `false` if it is none of TLS. An empty value is the default, as in libpq.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<bool, String> {
        if value.is_empty() {
            return Ok(name.starts_with("ssl") && name != "sslnegotiation");
        }
        let one_of = |allowed: &str| format!("has the parameter {name}, which must be one of {allowed}");
        match name {
            "sslmode" => {
                self.mode = Some(match value {
                    "disable" => Mode::Disable,
                    "allow" => Mode::Allow,
                    "prefer" => Mode::Prefer,
                    "require" => Mode::Require,
                    "verify-ca" => Mode::VerifyCa,
                    "verify-full" => Mode::VerifyFull,
                    _ => {
                        return Err(one_of("disable, allow, prefer, require, verify-ca and verify-full"));
                    }
                });
            }
            "sslrootcert" => {
                let system = value == "system";
                self.roots = Some(if system { Roots::System } else { Roots::File(value.into()) });
            }
            "sslcert" => self.certificate = Some(value.into()),
            "sslkey" => self.key = Some(value.into()),
            "sslcertmode" => match value {
                "allow" => self.without_certificate = false,
                "disable" => self.without_certificate = true,
                _ => return Err(one_of("allow and disable: whether the server asks is up to the server")),
            },
            "sslsni" => match value {
                "0" | "1" => self.server_name = value == "1",
                _ => return Err(one_of("0 and 1")),
            },
            // Older ones are not there any more, so that they are no limit from below.
            "ssl_min_protocol_version" => match value {
                "TLSv1" | "TLSv1.1" | "TLSv1.2" => self.versions.0 = 2,
                "TLSv1.3" => self.versions.0 = 3,
                _ => return Err(one_of("TLSv1.2 and TLSv1.3")),
            },
            "ssl_max_protocol_version" => match value {
                "TLSv1.2" => self.versions.1 = 2,
                "TLSv1.3" => self.versions.1 = 3,
                _ => return Err(one_of("TLSv1.2 and TLSv1.3")),
            },
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What depends on several parameters.
    pub(super) fn complete(mut self) -> Result<Self, String> {
        if self.roots == Some(Roots::System) {
            // Anybody can get a certificate from a public authority: it says nothing without the name.
            match self.mode {
                None => self.mode = Some(Mode::VerifyFull),
                Some(Mode::VerifyFull) => {}
                Some(_) => return Err("has sslrootcert=system, which needs sslmode=verify-full".to_owned()),
            }
        }
        if self.versions.0 > self.versions.1 {
            return Err("has ssl_min_protocol_version above ssl_max_protocol_version".to_owned());
        }
        if self.key.is_some() && self.certificate.is_none() {
            return Err("has sslkey without sslcert: name the certificate that the key belongs to".to_owned());
        }
        Ok(self)
    }

    pub(crate) fn mode(&self) -> Mode {
        self.mode.unwrap_or_default()
    }

    /// Reads the files and makes a client of them.
    fn client(&self) -> Result<ClientConfig> {
        let provider = Arc::new(ring::default_provider());
        let failed = |error: rustls::Error| Error::configuration("could not set up TLS").with_source(error);
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&self.protocol_versions())
            .map_err(failed)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(self.verifier(&provider)?));
        let mut client = match self.own_certificate()? {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(|error| {
                Error::configuration("sslcert and sslkey do not do as a client's certificate")
                    .with_source(error)
            })?,
        };
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.enable_sni = self.server_name;
        Ok(client)
    }

    fn protocol_versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        let known = [(2, &version::TLS12), (3, &version::TLS13)];
        let within = |number: u8| (self.versions.0..=self.versions.1).contains(&number);
        known.into_iter().filter(|(number, _)| within(*number)).map(|(_, version)| version).collect()
    }

    /// A known authority is asked for in every mode that has TLS at all: with one, `require` is `verify-ca`.
    fn verifier(&self, provider: &CryptoProvider) -> Result<Verifier> {
        let roots = match &self.roots {
            Some(roots) => Some(roots.load()?),
            None => match home_file("root.crt") {
                Some(path) => {
                    if let Some(list) = home_file("root.crl") {
                        return Err(Error::configuration(format!(
                            "revocation lists are not supported: remove {}, or name sslrootcert",
                            list.display()
                        )));
                    }
                    Some(Roots::File(path).load()?)
                }
                None => None,
            },
        };
        if roots.is_none() && self.mode() >= Mode::VerifyCa {
            return Err(Error::configuration(
                "postgres_url asks for a verified server but names no authority: add sslrootcert=FILE, or \
                 sslrootcert=system for those that this machine trusts",
            ));
        }
        let algorithms = provider.signature_verification_algorithms;
        Ok(Verifier::new(roots, self.mode() == Mode::VerifyFull, algorithms))
    }

    fn own_certificate(&self) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>> {
        if self.without_certificate {
            return Ok(None);
        }
        let Some(certificate) = self.certificate.clone().or_else(|| home_file("postgresql.crt")) else {
            return Ok(None);
        };
        let Some(key) = self.key.clone().or_else(|| home_file("postgresql.key")) else {
            return Err(Error::configuration(format!(
                "there is no key for the client's certificate {}: add sslkey=FILE",
                certificate.display()
            )));
        };
        let chain = certificates(&certificate, "sslcert")?;
        let key = PrivateKeyDer::from_pem_file(&key).map_err(|error| {
            Error::configuration(format!(
                "could not read sslkey {}: it must hold a private key in PEM, without a passphrase",
                key.display()
            ))
            .with_source(error)
        })?;
        Ok(Some((chain, key)))
    }
}

impl Roots {
    fn load(&self) -> Result<RootCertStore> {
        let mut store = RootCertStore::empty();
        match self {
            Self::System => {
                let found = rustls_native_certs::load_native_certs();
                store.add_parsable_certificates(found.certs);
                if store.is_empty() {
                    let why = found.errors.first().map(ToString::to_string).unwrap_or_default();
                    return Err(Error::configuration(format!(
                        "sslrootcert=system, but this machine trusts no authority; install ca-certificates {why}"
                    )));
                }
            }
            Self::File(path) => {
                for certificate in certificates(path, "sslrootcert")? {
                    store.add(certificate).map_err(|error| {
                        let text =
                            format!("sslrootcert {} holds no certificate of an authority", path.display());
                        Error::configuration(text).with_source(error)
                    })?;
                }
            }
        }
        Ok(store)
    }
}

fn certificates(path: &Path, parameter: &str) -> Result<Vec<CertificateDer<'static>>> {
    let failed = |error| {
        Error::configuration(format!("could not read {parameter} {}", path.display())).with_source(error)
    };
    let read = CertificateDer::pem_file_iter(path).map_err(failed)?;
    let read = read.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    if read.is_empty() {
        return Err(Error::configuration(format!(
            "{parameter} {} holds no certificate in PEM",
            path.display()
        )));
    }
    Ok(read)
}

/// A file that libpq takes unasked, if it is there.
fn home_file(name: &str) -> Option<PathBuf> {
    let path = std::env::home_dir()?.join(".postgresql").join(name);
    path.exists().then_some(path)
}

/// Makes the TLS side of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Tls(Arc<TlsSettings>);

impl Tls {
    /// `None` if the address wants none. Fails now rather than at the first connection if a file is missing.
    pub(super) fn new(settings: TlsSettings) -> Result<Option<Self>> {
        if settings.mode() == Mode::Disable {
            return Ok(None);
        }
        settings.client()?;
        Ok(Some(Self(Arc::new(settings))))
    }
}

impl MakeTlsConnect<Socket> for Tls {
    type Stream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;
    type TlsConnect = <MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect;
    type Error = Error;

    fn make_tls_connect(&mut self, host: &str) -> Result<Self::TlsConnect> {
        let Ok(connect) =
            MakeTlsConnect::<Socket>::make_tls_connect(&mut MakeRustlsConnect::new(self.0.client()?), host);
        Ok(connect)
    }
}

/// Why the two sides did not agree on TLS, if that is what the error says and waiting does not cure it.
pub(crate) fn refusal(error: &tokio_postgres::Error) -> Option<String> {
    let mut next = std::error::Error::source(error);
    let handshake = error.to_string().starts_with("error performing TLS handshake");
    while let Some(cause) = next {
        // An I/O error hides what it wraps from `source`.
        let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(found) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Some(found.to_string());
        }
        if let Some(found) = cause.downcast_ref::<Error>() {
            return Some(found.report());
        }
        if handshake && !cause.is::<std::io::Error>() {
            return Some(cause.to_string()); // "server does not support TLS"
        }
        next = cause.source();
    }
    None
}

#[cfg(test)]
mod tests;
