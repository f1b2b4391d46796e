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
        let (params, key) = (Self::params(name), KeyPair::generate().expect("a key"));
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self::of(Issuer::new(params, key), pem)
    }

    /// An authority that this one vouches for.
    pub(crate) fn subordinate(&self, name: &str) -> Self {
        let (params, key) = (Self::params(name), KeyPair::generate().expect("a key"));
        let pem = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Self::of(Issuer::new(params, key), pem)
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params
    }

    fn of(issuer: Issuer<'static, KeyPair>, pem: String) -> Self {
        let this = Self { issuer, pem, folder: tempfile::tempdir().expect("a folder for certificates") };
        this.write("ca.crt", &this.pem);
        this
    }

    /// A certificate and its key, in PEM.
    pub(crate) fn issue(&self, names: &[&str], purpose: ExtendedKeyUsagePurpose) -> (String, String) {
        self.issue_with(names, purpose, |_| {})
    }

    /// As [`issue`](Self::issue), of last year.
    pub(crate) fn expired(&self, names: &[&str], purpose: ExtendedKeyUsagePurpose) -> (String, String) {
        self.issue_with(names, purpose, |params| {
            params.not_before = rcgen::date_time_ymd(2024, 1, 1);
            params.not_after = rcgen::date_time_ymd(2025, 1, 1);
        })
    }

    fn issue_with(
        &self,
        names: &[&str],
        purpose: ExtendedKeyUsagePurpose,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (String, String) {
        let named: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(named).expect("names");
        params.distinguished_name.push(DnType::CommonName, names[0]);
        params.extended_key_usages = vec![purpose];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    /// The authority's own certificate.
    pub(crate) fn root_file(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// `sslrootcert=…` for this authority.
    pub(crate) fn root(&self) -> String {
        format!("sslrootcert={}", self.root_file().display())
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
