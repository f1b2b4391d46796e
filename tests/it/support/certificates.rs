//! A certificate authority, and a server that has TLS.

use std::path::PathBuf;

use highwater::testing::{Postgres, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// Issues certificates; its own is a file that `sslrootcert` can name.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
    folder: tempfile::TempDir,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        let this = Self {
            issuer: Issuer::new(params, key),
            pem,
            folder: tempfile::tempdir().expect("a folder for certificates"),
        };
        this.write("ca.crt", &this.pem);
        this
    }

    /// A certificate and its key, in PEM.
    pub(crate) fn issue(&self, names: &[&str], purpose: ExtendedKeyUsagePurpose) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    /// `sslrootcert=…` for this authority.
    pub(crate) fn root(&self) -> String {
        format!("sslrootcert={}", self.folder.path().join("ca.crt").display())
    }

    /// `sslcert=…&sslkey=…` for a client's certificate by this authority.
    pub(crate) fn client(&self) -> String {
        let (certificate, key) = self.issue(&["worker"], ExtendedKeyUsagePurpose::ClientAuth);
        let (certificate, key) = (self.write("client.crt", &certificate), self.write("client.key", &key));
        format!("sslcert={}&sslkey={}", certificate.display(), key.display())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("a file of the test's own");
        path
    }

    /// A server with a certificate by this authority for `localhost` and 127.0.0.1. `rules` go before the usual ones
    /// of its `pg_hba.conf`.
    pub(crate) async fn server(&self, rules: &str) -> Result<Postgres> {
        let postgres = Postgres::start_local(&[]).await?;
        let (certificate, key) = self.issue(&["localhost", "127.0.0.1"], ExtendedKeyUsagePurpose::ServerAuth);
        postgres.write_file("server.crt", &certificate).await?;
        postgres.write_file("server.key", &key).await?;
        postgres.write_file("ca.crt", &self.pem).await?;
        postgres.write_file("pg_hba.conf", &format!("{rules}\nhost all all all scram-sha-256")).await?;
        let client = postgres.client().await?;
        client.batch_execute("ALTER SYSTEM SET ssl = on").await?;
        client.batch_execute("ALTER SYSTEM SET ssl_ca_file = 'ca.crt'").await?;
        postgres.restart().await?;
        Ok(postgres)
    }
}
